package functions_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
)

// bare is a function that does nothing but hold the same SDK clients, each with one call.
var bare = template.Must(template.New("bare").Parse(`package main

import (
	"context"

	runtime "github.com/aws/aws-lambda-go/lambda"
{{- if .}}
	"github.com/aws/aws-sdk-go-v2/config"
{{- end}}
{{- range $client, $call := .}}
	"github.com/aws/aws-sdk-go-v2/service/{{$client}}"
{{- end}}
)

func main() {
	runtime.Start(func(ctx context.Context) error {
{{- if .}}
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
{{- end}}
{{- range $client, $call := .}}
		_, _ = {{$client}}.NewFromConfig(cfg).{{$call}}(ctx, &{{$client}}.{{$call}}Input{})
{{- end}}
		return nil
	})
}
`))

// calls are the SDK clients that functions use, each with one of its calls.
var calls = map[string]string{
	"cognitoidentityprovider": "AdminGetUser", "dynamodb": "Query", "kms": "Encrypt", "lambda": "Invoke", "secretsmanager": "GetSecretValue",
	"sqs": "ReceiveMessage",
}

// A function starts in the time that its size takes to load.
func TestNoFunctionIsMuchLargerThanABareOneWithTheSameClients(t *testing.T) {
	t.Parallel()
	mains, err := filepath.Glob("*/main.go")
	if err != nil || len(mains) != 10 {
		t.Fatalf("%v, functions: %v", err, mains)
	}
	for _, main := range mains {
		name := filepath.Dir(main)
		deps, err := exec.Command("go", "list", "-deps", "./"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		clients := map[string]string{}
		for client, call := range calls {
			if strings.Contains(string(deps), "github.com/aws/aws-sdk-go-v2/service/"+client+"\n") {
				clients[client] = call
			}
		}
		ours, least := size(t, "./"+name), size(t, source(t, clients))
		t.Logf("%-20s %8d bytes, %.2f times a bare one", name, ours, float64(ours)/float64(least))
		most := least // which finds out by itself where it runs
		if len(clients) == 0 {
			most = least * 6 / 5
		}
		if ours > most {
			t.Errorf("%s has %d bytes, a bare function with its clients %d", name, ours, least)
		}
	}
}

// source writes a bare function with the clients.
func source(t *testing.T, clients map[string]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	var code strings.Builder
	err := bare.Execute(&code, clients)
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(file, []byte(code.String()), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// size builds a function as `make build` does.
func size(t *testing.T, pkg string) int64 {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	log, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
