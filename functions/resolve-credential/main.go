// Function resolve-credential hands a credential's secret to an executor, which invokes it
// directly, under IAM.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/orgkey"
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
	f := &function{
		table:      store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		sealer:     seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID")),
		system:     env.SystemCredentials(),
		systemKeys: orgkey.New(secretsmanager.NewFromConfig(cfg), env.Required("SYSTEM_KEYS_SECRET_ID"), nil),
		providers:  env.ManagedProviders(),
		log:        log,
		metrics:    telemetry.NewMetrics(os.Stdout),
	}
	return gateway.Direct(f.resolve), env.Err()
}
