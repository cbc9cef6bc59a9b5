// Function reconcile goes on with all work that is due. A schedule invokes it every minute; two at once are safe.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
	"managed-credentials/shared/userpool"
)

func main() {
	engine, err := wire(context.Background(), config.Environ())
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(engine.Reconcile) // whatever the event says: what is due stands in the table
}

func wire(ctx context.Context, env *config.Env) (*managed.Engine, error) {
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
		Seal:      seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID")),
		Lease:     env.Lease(),
		Log:       telemetry.Logger(os.Stdout, env.LogLevel()),
		Metrics:   telemetry.NewMetrics(os.Stdout),
	}
	pool := env.Optional("USER_POOL_ID")
	if pool != "" {
		c.Users = userpool.New(cognitoidentityprovider.NewFromConfig(cfg), pool)
	}
	err = env.Err()
	if err != nil {
		return nil, err
	}
	return managed.New(c)
}
