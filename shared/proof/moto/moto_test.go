// Package moto holds the stand-ins for KMS and Secrets Manager against another pair of eyes: moto's
// server (https://docs.getmoto.org), which other people wrote from AWS's documentation and from
// what AWS answers. One suite of cases runs against both, through AWS's SDK.
//
// AWS's documentation is the judge. A case says what it promises; where moto does something else
// the case says so, and what: one notices when moto is mended.
//
// The stand-ins are held to the cases by `go test ./...`. moto's server, which is Python, runs with
// `make test-moto`.
package moto

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/local/child"
	"managed-credentials/shared/local/standin"
)

var program = flag.String("moto", "", "path of moto_server; empty to hold the stand-ins alone to the cases")

const region = standin.Region

// difference is what moto does otherwise.
type difference struct {
	// answer is moto's, in place of the one that is documented.
	answer string
	// documented is where AWS says what is right.
	documented string
}

// expected is what the case's answer has to be.
func (d difference) expected(documented string, fromMoto bool) string {
	if fromMoto && d.answer != "" {
		return d.answer
	}
	return documented
}

// check compares an answer with the documented one, or with moto's own where that differs.
func (d difference) check(t *testing.T, fromMoto bool, got, documented string) {
	t.Helper()
	if got == d.expected(documented, fromMoto) {
		return
	}
	if fromMoto && d.answer != "" && got == documented {
		t.Errorf("moto now answers %q, as %s says: take the difference out of the case", got, d.documented)
		return
	}
	t.Errorf("the answer is %q, want %q", got, d.expected(documented, fromMoto))
}

// answerOf is the outcome of a call, fit to be compared: the value, or the error's code with its
// HTTP status.
func answerOf(value string, err error) string {
	if err == nil {
		return value
	}
	var refusal smithy.APIError
	var response *awshttp.ResponseError
	if !errors.As(err, &refusal) || !errors.As(err, &response) {
		return "no answer: " + err.Error()
	}
	return fmt.Sprintf("%s %d", refusal.ErrorCode(), response.HTTPStatusCode())
}

var listening = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// startMoto starts moto's server on a free port, and ends it with the test. It returns "" if there
// is to be none.
func startMoto(t *testing.T) string {
	t.Helper()
	if *program == "" {
		return ""
	}
	cmd := exec.Command(*program, "--host", "127.0.0.1", "--port", "0")
	output, input := io.Pipe()
	cmd.Stderr = input
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			match := listening.FindStringSubmatch(lines.Text())
			if match != nil {
				found <- match[1]
			}
		}
	}()
	select {
	case url := <-found:
		return url
	case <-process.Done():
		t.Fatalf("moto ended before it listened: %v", process.Err())
	case <-time.After(time.Minute):
		t.Fatal("moto does not listen")
	}
	return ""
}
