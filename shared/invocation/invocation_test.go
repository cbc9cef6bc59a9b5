package invocation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"managed-credentials/shared/invocation"
	"managed-credentials/shared/telemetry"
)

// handler is a function's, as a function.
type handler func(context.Context, []byte) ([]byte, error)

func (h handler) Invoke(ctx context.Context, event []byte) ([]byte, error) { return h(ctx, event) }

var _ lambda.Handler = handler(nil)

// logged are the lines of a log.
func logged(t *testing.T, log *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range bytes.Lines(log.Bytes()) {
		var entry map[string]any
		err := json.Unmarshal(line, &entry)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, entry)
	}
	return all
}

func TestAHandlersContextEndsBeforeLambdasDeadline(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(time.Minute)
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	asked := false
	answer, err := invocation.Bounded(handler(func(ctx context.Context, event []byte) ([]byte, error) {
		asked = true
		got, ok := ctx.Deadline()
		if !ok || !got.Equal(deadline.Add(-invocation.Reserve)) {
			t.Errorf("the handler has until %v, and Lambda ends it at %v", got, deadline)
		}
		return append(event, '!'), nil
	}), slog.New(slog.DiscardHandler)).Invoke(ctx, []byte("event"))
	if !asked || string(answer) != "event!" || err != nil {
		t.Errorf("the answer is %s, %v", answer, err)
	}
}

func TestAHandlersErrorIsLoggedOnceWithItsRequest(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "request"})
	fault := errors.New("the table does not answer")
	_, err := invocation.Bounded(handler(func(context.Context, []byte) ([]byte, error) { return nil, fault }),
		telemetry.Logger(&log, slog.LevelInfo)).Invoke(ctx, nil)
	if !errors.Is(err, fault) {
		t.Errorf("the error is %v", err)
	}
	lines := logged(t, &log)
	if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["error"] != fault.Error() || lines[0]["requestId"] != "request" {
		t.Errorf("the log is %s", log.Bytes())
	}
}

func TestAPanicIsLoggedAndGoesOn(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	defer func() {
		r := recover()
		if r != "nil map" {
			t.Errorf("the panic is %v", r)
		}
		lines := logged(t, &log)
		if len(lines) != 1 || lines[0]["panic"] != "nil map" || lines[0]["stack"] == "" {
			t.Errorf("the log is %s", log.Bytes())
		}
	}()
	_, _ = invocation.Bounded(handler(func(context.Context, []byte) ([]byte, error) { panic("nil map") }),
		telemetry.Logger(&log, slog.LevelInfo)).Invoke(t.Context(), nil)
}
