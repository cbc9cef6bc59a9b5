// Function list-with-provision lists a user's credentials and makes the managed ones that are
// missing.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

func main() { invocation.Serve(wire) }

func wire(ctx context.Context, env *config.Env, log *slog.Logger) (lambda.Handler, error) {
	cfg, err := config.AWS(ctx, log)
	if err != nil {
		return nil, err
	}
	table := store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil)
	system := env.SystemCredentials()
	c := managed.Config{
		Store:   table,
		Seal:    seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID")),
		Lease:   env.Lease(),
		Budget:  env.Budget(),
		Log:     log,
		Metrics: telemetry.NewMetrics(os.Stdout),
	}
	provider.Configure(&c, env)
	c.OrgKeys = provider.OrgKeys(env, secretsmanager.NewFromConfig(cfg), c.Providers)
	err = env.Err()
	if err != nil {
		return nil, err
	}
	engine, err := managed.New(c)
	if err != nil {
		return nil, err
	}
	return newHandler(log, function{engine: engine, table: table, system: system}), nil
}
