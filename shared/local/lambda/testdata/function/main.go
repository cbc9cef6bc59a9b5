// Command function is a Lambda function that does what its event says.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	// Call is a URL that the function calls, and waits for, before all else.
	Call string
	// Do is what it does then.
	Do string
	// Text is for print.
	Text string
}

type answer struct {
	PID       int
	Env       []string
	RequestID string
	ARN       string
	TraceID   string
	Remaining time.Duration
}

type refusal struct{}

func (refusal) Error() string { return "I had rather not" }

func main() {
	switch os.Getenv("AT_START") {
	case "exit":
		fmt.Print("no reason to live") // Without the line's end.
		os.Exit(7)
	case "report":
		report()
	}
	lambda.Start(handle)
}

// report tells Lambda of a failed start, as the documentation of the Runtime API asks for.
func report() {
	url := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/init/error"
	_, _ = http.Post(url, "application/json", strings.NewReader(`{"errorType":"Init.NoTable","errorMessage":"TABLE_NAME is not set"}`))
	os.Exit(1)
}

func handle(ctx context.Context, e event) (any, error) {
	if e.Call != "" {
		resp, err := http.Get(e.Call)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
	}
	switch e.Do {
	case "fail":
		return nil, refusal{}
	case "panic":
		panic("at the disco")
	case "exit":
		os.Exit(3)
	case "exit well":
		os.Exit(0)
	case "print":
		fmt.Print(e.Text)
	case "hold": // until it is ended
		held := make([]byte, 256<<20)
		for i := 0; i < len(held); i += os.Getpagesize() {
			held[i] = 1
		}
		<-ctx.Done()
		fmt.Print(len(held)) // so that it is held
	case "much":
		return strings.Repeat("x", 7<<20), nil
	case "":
	default:
		return nil, errors.New("unknown: " + e.Do)
	}
	deadline, _ := ctx.Deadline()
	lc, _ := lambdacontext.FromContext(ctx)
	return answer{
		PID:       os.Getpid(),
		Env:       os.Environ(),
		RequestID: lc.AwsRequestID,
		ARN:       lc.InvokedFunctionArn,
		TraceID:   os.Getenv("_X_AMZN_TRACE_ID"),
		Remaining: time.Until(deadline),
	}, nil
}
