// Package invocation is what the main of every Lambda function has in common: how it starts, how
// long its handler may take, and how what goes wrong is logged. All that a function writes is JSON,
// one line an event.
package invocation

import (
	"context"
	"encoding/json"
	"fmt"
	stdlog "log"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"managed-credentials/shared/config"
	"managed-credentials/shared/telemetry"
)

// Wire makes a function's handler from its environment.
type Wire func(ctx context.Context, env *config.Env, log *slog.Logger) (lambda.Handler, error)

// version is of which version the code is, set by the linker: see the Makefile.
var version = "unknown"

// Serve runs a function for as long as its process lives, and logs of which version it is. It does
// not return. A function that cannot be wired says why, and ends.
func Serve(wire Wire) {
	env := config.Environ()
	log := telemetry.Logger(os.Stdout, env.LogLevel())
	stdlog.SetFlags(0)
	stdlog.SetOutput(library{log})
	handler, err := wire(context.Background(), env, log)
	if err != nil {
		log.Error("the function cannot start", "error", err, "version", version)
		os.Exit(1)
	}
	log.Info("the function starts", "version", version)
	lambda.Start(Bounded(handler, log))
}

// Reserve is how long before Lambda's own deadline a handler's context ends. Lambda kills a
// function that takes longer, and its caller learns nothing. The reserve is for the handler to say
// what went wrong.
const Reserve = time.Second

// Bounded is the handler under a context that ends a Reserve before Lambda's deadline. An error of
// the handler's is logged once, with the request's id, and so is a panic, which ends the process.
func Bounded(handler lambda.Handler, log *slog.Logger) lambda.Handler { return bounded{handler, log} }

type bounded struct {
	handler lambda.Handler
	log     *slog.Logger
}

// Invoke implements lambda.Handler.
func (b bounded) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	deadline, ok := ctx.Deadline()
	if ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-Reserve))
		defer cancel()
	}
	defer func() {
		r := recover()
		if r != nil {
			b.log.ErrorContext(ctx, "the handler panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			panic(r)
		}
	}()
	answer, err := b.handler.Invoke(ctx, event)
	if err != nil {
		b.log.ErrorContext(ctx, "the invocation failed", "error", err)
	}
	return answer, err
}

// library takes what Lambda's library writes with package log, and has it logged like everything
// else. Its reports of a failed invocation are left out: Bounded has logged the same with the
// request's id.
type library struct{ log *slog.Logger }

// Write implements io.Writer. Package log writes one line at a time.
func (l library) Write(line []byte) (int, error) {
	var report messages.InvokeResponse_Error
	err := json.Unmarshal(line, &report)
	if err != nil || report.Type == "" {
		l.log.Error("Lambda's library reports a problem", "text", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}
