// Function update-guard changes a credential of the user's own, and refuses to change any other.
package main

import (
	"context"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/config"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
)

func main() { invocation.Serve(wire) }

func wire(ctx context.Context, env *config.Env, log *slog.Logger) (lambda.Handler, error) {
	cfg, err := config.AWS(ctx, log)
	if err != nil {
		return nil, err
	}
	f := function{
		table:    store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		system:   env.SystemCredentials(),
		sealer:   seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID")),
		sealOpen: env.SealOpenFields(),
	}
	err = env.Err()
	if err != nil {
		return nil, err
	}
	return newHandler(log, f), nil
}
