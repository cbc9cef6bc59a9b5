package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/golang-jwt/jwt/v5"

	"managed-credentials/shared/local/standin"
)

// authorizer is what the event of a request says about who is asking.
type authorizer = events.APIGatewayV2HTTPRequestContextAuthorizerDescription

// authorize returns what the authorizer says of the request's token. If the token may not pass, it
// answers the request and reports false.
//
// On AWS an API has one authorizer. Here it is the one that fits the token: for a token of
// cfg.Issuer the function authorize, and for any other the JWT authorizer.
func (g *Gateway) authorize(w http.ResponseWriter, r *http.Request, m matched) (*authorizer, bool) {
	header := strings.Join(r.Header.Values("Authorization"), ",")
	if header == "" {
		w.Header().Set("Www-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "Unauthorized")
		return nil, false
	}
	// API Gateway takes the token with the scheme before it, and without.
	token := header
	const scheme = "bearer "
	if len(token) >= len(scheme) && strings.EqualFold(token[:len(scheme)], scheme) {
		token = token[len(scheme):]
	}
	if g.cfg.Issuer != "" && issuerOf(token) == g.cfg.Issuer {
		return g.askFunction(w, r, m)
	}
	claims, err := g.cfg.Verify(token)
	if err != nil {
		why := strings.ReplaceAll(err.Error(), `"`, "'")
		w.Header().Set("Www-Authenticate", `Bearer scope="" error="invalid_token" error_description="`+why+`"`)
		refuse(w, http.StatusUnauthorized, "Unauthorized")
		return nil, false
	}
	return &authorizer{JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: stringified(claims)}}, true
}

// issuerOf is whom a token names as its issuer, without a look at the signature; "" if it is no
// token.
func issuerOf(token string) string {
	var claims jwt.RegisteredClaims
	_, _, err := jwt.NewParser().ParseUnverified(token, &claims)
	if err != nil {
		return ""
	}
	return claims.Issuer
}

// askFunction invokes the Lambda authorizer with an event of payload format 2.0 and reads its
// simple response
// (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html).
func (g *Gateway) askFunction(w http.ResponseWriter, r *http.Request, m matched) (*authorizer, bool) {
	like := newEvent(r, m, "", nil, nil)
	payload, err := json.Marshal(events.APIGatewayV2CustomAuthorizerV2Request{
		Version:               like.Version,
		Type:                  "REQUEST",
		RouteArn:              "arn:aws:execute-api:" + standin.Region + ":" + standin.Account + ":local/$default/" + strings.Replace(like.RouteKey, " ", "", 1),
		IdentitySource:        []string{like.Headers["authorization"]},
		RouteKey:              like.RouteKey,
		RawPath:               like.RawPath,
		RawQueryString:        like.RawQueryString,
		Cookies:               like.Cookies,
		Headers:               like.Headers,
		QueryStringParameters: like.QueryStringParameters,
		RequestContext:        like.RequestContext,
		PathParameters:        like.PathParameters,
	})
	if err != nil {
		g.fail(w, r, m, http.StatusInternalServerError, err)
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), g.cfg.Timeout)
	defer cancel()
	var answer struct {
		IsAuthorized *bool          `json:"isAuthorized"`
		Context      map[string]any `json:"context"`
	}
	out, err := g.cfg.Invoke(ctx, "authorize", payload)
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	if err == nil && answer.IsAuthorized == nil {
		err = errors.New("its answer does not say isAuthorized")
	}
	if err != nil {
		g.fail(w, r, m, http.StatusInternalServerError, fmt.Errorf("asking the authorizer: %w", err))
		return nil, false
	}
	if !*answer.IsAuthorized {
		refuse(w, http.StatusForbidden, "Forbidden")
		return nil, false
	}
	return &authorizer{Lambda: answer.Context}, true
}
