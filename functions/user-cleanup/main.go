// Function user-cleanup deletes an account: on the user's own request, on the event that their
// Cognito user was deleted, or on a direct call. On the events that their Cognito user was disabled
// or enabled it suspends them, or ends that.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
	"managed-credentials/shared/userpool"
)

func main() { invocation.Serve(wire) }

func wire(ctx context.Context, env *config.Env, log *slog.Logger) (lambda.Handler, error) {
	cfg, err := config.AWS(ctx, log)
	if err != nil {
		return nil, err
	}
	c := managed.Config{
		Store:    store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		Lease:    env.Lease(),
		Holdback: env.Holdback(),
		Suspends: env.Suspends(),
		Log:      log,
		Metrics:  telemetry.NewMetrics(os.Stdout),

		SuspendedKeysLive: env.SuspendedKeysLive(),
	}
	provider.Configure(&c, env)
	c.OrgKeys = provider.OrgKeys(env, secretsmanager.NewFromConfig(cfg), c.Providers)
	f := &function{poolID: env.Optional("USER_POOL_ID"), log: log, metrics: c.Metrics}
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
	f.http = gateway.NewHandler(log, map[string]gateway.Route{"DELETE /account": f.deleteAccount})
	return f, nil
}
