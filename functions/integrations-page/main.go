// Function integrations-page serves the page on which users see their credentials, and the page's
// configuration.
//
// The page is made of web/ by `make build`, which leaves it in page/, from where it is embedded. A
// function that was built without it starts, and says so.
package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"

	"managed-credentials/shared/config"
	"managed-credentials/shared/invocation"
)

func main() { invocation.Serve(wire) }

func wire(_ context.Context, env *config.Env, _ *slog.Logger) (lambda.Handler, error) {
	handler, err := newHandler(pages, settings{
		ManagedLoginURL:    env.Optional("MANAGED_LOGIN_URL"),
		ManagedLoginIssuer: issuerOf(env.Optional("USER_POOL_ID")),
		ClientID:           env.Optional("USER_POOL_CLIENT_ID"),
		SignInAs:           env.Optional("SIGN_IN_AS"),
		BrandName:          env.BrandName(),
		BrandLogoURL:       env.BrandLogoURL(),
		BrandAccent:        env.BrandAccent(),
		SupportURL:         env.SupportURL(),
	})
	if err != nil {
		return nil, err
	}
	return lambda.NewHandler(handler), env.Err()
}

// issuerOf is the `iss` of a user pool's tokens. A pool's id begins with its region.
func issuerOf(pool string) string {
	if pool == "" {
		return ""
	}
	region, _, _ := strings.Cut(pool, "_")
	return "https://cognito-idp." + region + ".amazonaws.com/" + pool
}
