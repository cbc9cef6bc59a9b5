package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"managed-credentials/shared/token"
)

// answer is a simple response of payload format 2.0
// (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html).
type answer struct {
	IsAuthorized bool `json:"isAuthorized"`
	// Context is handed to the routes' functions, which find the user there: see package gateway.
	Context map[string]string `json:"context,omitempty"`
}

type handler func(context.Context, events.APIGatewayV2CustomAuthorizerV2Request) (answer, error)

// newHandler lets pass whoever has a token of the issuer. API Gateway answers 403 for a token that
// is refused, and 500 for an error.
//
// A token that has merely expired passes without a user, and the route's function answers 401: by
// that clients know that they have to sign in again, and an authorizer's simple response cannot say
// it.
func newHandler(issuer string, user func(ctx context.Context, token string) (string, error), log *slog.Logger) handler {
	return func(ctx context.Context, e events.APIGatewayV2CustomAuthorizerV2Request) (answer, error) {
		id, err := user(ctx, bearer(e.Headers["authorization"]))
		switch {
		case errors.Is(err, token.ErrExpired):
			return answer{IsAuthorized: true}, nil
		case errors.Is(err, token.ErrRefused):
			log.InfoContext(ctx, "a token is refused", "error", err)
			return answer{}, nil
		case err != nil:
			return answer{}, err
		}
		return answer{IsAuthorized: true, Context: map[string]string{"iss": issuer, "sub": id}}, nil
	}
}

// bearer is the token of an Authorization header, with the scheme before it or without, as API
// Gateway's own authorizer takes it.
func bearer(header string) string {
	const scheme = "bearer "
	if len(header) >= len(scheme) && strings.EqualFold(header[:len(scheme)], scheme) {
		return header[len(scheme):]
	}
	return header
}
