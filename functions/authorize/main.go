// Function authorize is the API's authorizer where the tokens are of an issuer whose signatures API
// Gateway's own does not know. It has no rights but to log.
package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda"

	"managed-credentials/shared/config"
	"managed-credentials/shared/invocation"
	"managed-credentials/shared/token"
)

func main() { invocation.Serve(wire) }

func wire(_ context.Context, env *config.Env, log *slog.Logger) (lambda.Handler, error) {
	issuer := env.Optional("JWT_ISSUER")
	tokens, err := token.New(token.Config{
		Issuer: issuer, Audience: env.Optional("JWT_AUDIENCE"), UserClaim: env.Optional("JWT_USER_CLAIM"),
	})
	err = errors.Join(env.Err(), err)
	if err != nil {
		return nil, err
	}
	return lambda.NewHandler(newHandler(issuer, tokens.User, log)), nil
}
