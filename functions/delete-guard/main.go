// Function delete-guard deletes a credential of the user's own, and refuses to delete any other.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"managed-credentials/shared/config"
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
	system := env.SystemCredentials()
	err = env.Err()
	if err != nil {
		return nil, err
	}
	return newHandler(logger, table, system), nil
}
