// Function delete-guard deletes a credential of the user's own, and refuses to delete any other.
package main

import (
	"context"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda"

	"managed-credentials/shared/config"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/store"
)

func main() { invocation.Serve(wire) }

func wire(ctx context.Context, env *config.Env, log *slog.Logger) (lambda.Handler, error) {
	cfg, err := config.AWS(ctx, log)
	if err != nil {
		return nil, err
	}
	f := function{
		table:  store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		system: env.SystemCredentials(),
	}
	err = env.Err()
	if err != nil {
		return nil, err
	}
	return newHandler(log, f), nil
}
