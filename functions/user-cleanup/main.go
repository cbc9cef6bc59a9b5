// Function user-cleanup deletes an account: on the user's own request, on the event that their Cognito user was deleted, or on a
// direct call.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
	"managed-credentials/shared/userpool"
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
	providers, err := provider.All(env)
	if err != nil {
		return nil, err
	}
	c := managed.Config{
		Store:     store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		Providers: providers,
		OrgKeys:   orgkey.New(secretsmanager.NewFromConfig(cfg), env.Required("ORG_KEYS_SECRET_ID"), nil),
		Lease:     env.Lease(),
		Log:       logger,
		Metrics:   telemetry.NewMetrics(os.Stdout),
	}
	f := &function{poolID: env.Optional("USER_POOL_ID"), log: logger}
	if f.poolID != "" {
		f.pool = userpool.New(cognitoidentityprovider.NewFromConfig(cfg), f.poolID)
		c.Users = f.pool
	}
	err = env.Err()
	if err != nil {
		return nil, err
	}
	f.engine, err = managed.New(c)
	if err != nil {
		return nil, err
	}
	return f, nil
}
