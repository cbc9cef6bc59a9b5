// Package schemathesis has Schemathesis (https://schemathesis.readthedocs.io), a fuzzer that other
// people wrote, try the running service by docs/openapi.yaml: what the contract allows has to be
// taken, what it does not has to be refused, and each answer has to be one that it has. It is
// Python, and runs with `make test-api`.
package schemathesis

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/proof/contract"
)

var program = flag.String("schemathesis", "", "path of schemathesis; empty to skip the test")

func TestAFuzzerOfOthersFindsNothing(t *testing.T) {
	if *program == "" {
		t.Skip("make test-api runs it")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s, err := stack.Start(t.Context(), stack.Config{
		Log: io.Discard, Around: contract.Around(t), Env: map[string]string{"MAX_CREDENTIALS": "1000000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, pass := range []struct{ user, operations string }{
		{"5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11", "--exclude-operation-id=deleteAccount"},
		{"5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b12", "--include-operation-id=deleteAccount"}, // by itself: nothing else works afterwards
	} {
		command := exec.CommandContext(t.Context(), *program, "--config-file="+filepath.Join(here, "schemathesis.toml"), "run", filepath.Join(here, "../../../docs/openapi.yaml"),
			"--url="+s.URL, pass.operations,
			"--header=Authorization: Bearer "+token(t, s.URL, pass.user), "--checks=all",
			"--exclude-checks=unsupported_method", // API Gateway answers a method that a path does not have with 404, not with 405
			"--generation-deterministic", "--max-examples=100", "--no-color")
		command.Dir = t.TempDir() // it keeps what it found where it runs
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		err := command.Run()
		if err != nil {
			t.Errorf("%s: %v", pass.operations, err)
		}
	}
}

// token is an access token of a user.
func token(t *testing.T, url, user string) string {
	t.Helper()
	res, err := http.Post(url+"/local/token", "application/json", strings.NewReader(`{"sub":"`+user+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err = json.NewDecoder(res.Body).Decode(&answer)
	if err != nil || answer.AccessToken == "" {
		t.Fatalf("%s: %v", res.Status, err)
	}
	return answer.AccessToken
}
