// Function resolve-credential hands a credential's secret to an executor, which invokes it directly, under IAM.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

func main() {
	f, err := wire(context.Background(), config.Environ())
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(f)
}

func wire(ctx context.Context, env *config.Env) (*function, error) {
	cfg, err := config.AWS(ctx)
	if err != nil {
		return nil, err
	}
	f := &function{
		table:      store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		sealer:     seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID")),
		system:     env.SystemCredentials(),
		systemKeys: orgkey.New(secretsmanager.NewFromConfig(cfg), env.Required("SYSTEM_KEYS_SECRET_ID"), nil),
		log:        telemetry.Logger(os.Stdout, env.LogLevel()),
	}
	return f, env.Err()
}
