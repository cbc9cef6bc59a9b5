// Function create-credential stores a credential of the user's own.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/config"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

func main() {
	handler, err := wire(context.Background(), config.Environ())
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(handler)
}

func wire(ctx context.Context, env *config.Env) (lambda.Handler, error) {
	logger := telemetry.Logger(os.Stdout, env.LogLevel())
	cfg, err := config.AWS(ctx)
	if err != nil {
		return nil, err
	}
	table := store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil)
	sealer := seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID"))
	err = env.Err()
	if err != nil {
		return nil, err
	}
	return newHandler(logger, table, sealer), nil
}
