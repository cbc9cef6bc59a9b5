// Function reconcile goes on with all work that is due. A schedule invokes it every minute; two at
// once are safe.
package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/config"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/seal"
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
		Seal:     seal.New(kms.NewFromConfig(cfg), env.Required("KMS_KEY_ID")),
		Lease:    env.Lease(),
		Holdback: env.Holdback(),
		Log:      log,
		Metrics:  telemetry.NewMetrics(os.Stdout),

		SuspendedKeysLive: env.SuspendedKeysLive(),
	}
	provider.Configure(&c, env)
	c.OrgKeys = provider.OrgKeys(env, secretsmanager.NewFromConfig(cfg), c.Providers)
	pool := env.Optional("USER_POOL_ID")
	if pool != "" {
		c.Users = userpool.New(cognitoidentityprovider.NewFromConfig(cfg), pool)
	}
	err = env.Err()
	if err != nil {
		return nil, err
	}
	engine, err := managed.New(c)
	if err != nil {
		return nil, err
	}
	return lambda.NewHandler(func(ctx context.Context) (managed.Report, error) { // whatever the event says: what is due stands in the table
		var look sync.WaitGroup
		look.Go(func() { engine.WatchOrgKeys(ctx) })
		defer look.Wait()
		defer measure(ctx, &c)
		return engine.Reconcile(ctx)
	}), nil
}

// measure tells how much due work a round has left, and for how long that has waited.
func measure(ctx context.Context, c *managed.Config) {
	now := clock.Now()
	backlogs, err := c.Store.Backlogs(ctx, now)
	if err != nil {
		c.Log.WarnContext(ctx, "what is still due cannot be counted", "error", err)
		return
	}
	for kind, b := range backlogs {
		var oldest time.Duration
		if !b.Since.IsZero() {
			oldest = now.Sub(b.Since)
		}
		c.Metrics.Backlog(kind, b.Items, oldest)
	}
}
