// Function operate does what operators ask for: it audits a third party against the table, lists
// and forces parked revocations, and sends failed deletions on their way again. It is invoked
// directly, under IAM, and by a schedule, which has it go on with the audits that are due.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

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
		Store:     store.New(store.Client(cfg), env.Required("TABLE_NAME"), nil),
		Lease:     env.Lease(),
		GoneFloor: env.GoneFloor(),
		GoneShare: env.GoneShare(),
		Log:       log,
		Metrics:   telemetry.NewMetrics(os.Stdout),

		AuditEvery:    env.AuditEvery(),
		AuditSegments: env.AuditSegments(),
		MaxKeyAge:     env.MaxKeyAge(),
		Suspends:      env.Suspends(),

		SuspendedKeysLive: env.SuspendedKeysLive(),
	}
	provider.Configure(&c, env)
	c.OrgKeys = provider.OrgKeys(env, secretsmanager.NewFromConfig(cfg), c.Providers)
	f := &function{
		queue: deadLetters{
			queue:  sqs.NewFromConfig(cfg),
			url:    env.Required("ACCOUNT_DELETIONS_FAILED_URL"),
			lambda: awslambda.NewFromConfig(cfg, patient),
			target: env.Required("USER_CLEANUP_FUNCTION"),
		},
	}
	poolID := env.Optional("USER_POOL_ID")
	if poolID != "" {
		c.Members = userpool.New(cognitoidentityprovider.NewFromConfig(cfg), poolID)
		c.UnknownAfter = env.UnknownAfter()
		if env.DeletesUnknown() {
			c.DeleteUnknown = f.queue.deleteAccount
		}
	}
	err = env.Err()
	if err != nil {
		return nil, err
	}
	f.engine, err = managed.New(c)
	return gateway.Direct(f.run), err
}

// patient waits for a function's answer for as long as that takes. A repeat would begin beside what
// still runs, unless nothing was begun.
func patient(o *awslambda.Options) {
	o.HTTPClient = awshttp.NewBuildableClient()
	o.Retryer = config.Resign()
}
