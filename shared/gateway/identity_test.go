package gateway_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"managed-credentials/shared/gateway"
)

const unauthorized = `{"message":"Unauthorized"}`

func TestWithoutAVerifiedAccessTokenNobodyIsAsking(t *testing.T) {
	t.Parallel()
	type authorizer = events.APIGatewayV2HTTPRequestContextAuthorizerDescription
	jwt := func(claims map[string]string) *authorizer {
		return &authorizer{JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: claims}}
	}
	access := func(sub string) *authorizer {
		return jwt(map[string]string{"token_use": "access", "sub": sub, "username": "alice"})
	}
	for name, a := range map[string]*authorizer{
		"no authorizer":         nil,
		"no JWT":                {},
		"a Lambda authorizer":   {Lambda: map[string]any{"sub": "mallory", "token_use": "access"}},
		"an IAM authorizer":     {IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserID: "mallory"}},
		"no claims":             jwt(nil),
		"an ID token":           jwt(map[string]string{"sub": "alice", "username": "alice", "token_use": "id"}),
		"a token of no use":     jwt(map[string]string{"sub": "alice", "username": "alice"}),
		"a use in capitals":     jwt(map[string]string{"sub": "alice", "username": "alice", "token_use": "ACCESS"}),
		"no sub":                jwt(map[string]string{"token_use": "access", "username": "alice"}),
		"an empty sub":          access(""),
		"a sub too long":        access(strings.Repeat("a", 257)),
		"a sub too long, wide":  access(strings.Repeat("😀", 257)),
		"a sub partly replaced": access("alice\ufffd"),
		"a client's own token":  jwt(map[string]string{"sub": "1example23456789", "token_use": "access", "client_id": "1example23456789"}),
		"a client with a name":  jwt(map[string]string{"sub": "1example23456789", "token_use": "access", "client_id": "1example23456789", "username": "alice"}),
		"no username":           jwt(map[string]string{"sub": "alice", "token_use": "access", "client_id": "1example23456789"}),
		"an empty username":     jwt(map[string]string{"sub": "alice", "token_use": "access", "client_id": "1example23456789", "username": ""}),
	} {
		wantRefused(t, name, event(t, func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.Authorizer = a }), 401, unauthorized)
	}
	for name, event := range map[string]string{
		"a list of claims":    strings.Replace(apiGatewayEvent, `"claims": {`, `"claims": [], "was": {`, 1),
		"a number as sub":     strings.Replace(apiGatewayEvent, `"sub": "3f0c`, `"sub": 5, "was": "3f0c`, 1),
		"a list as username":  strings.Replace(apiGatewayEvent, `"username": "alice`, `"username": ["alice"], "was": "alice`, 1),
		"two subs":            strings.Replace(apiGatewayEvent, `"sub": "3f0c`, `"sub": "mallory", "sub": "3f0c`, 1),
		"a sub in capitals":   strings.Replace(apiGatewayEvent, `"sub": "3f0c`, `"SUB": "3f0c`, 1),
		"an object as client": strings.Replace(apiGatewayEvent, `"1example23456789"`, `{}`, 1),
	} {
		wantRefused(t, name, []byte(event), 401, unauthorized)
	}
	// An unpaired surrogate reads as U+FFFD: two of them would be one user.
	wantRefused(t, "half a character", []byte(strings.Replace(apiGatewayEvent, `"3f0c9d52`, `"\ud8003f0c9d52`, 1)), 401, unauthorized)
}

func TestClaimsThatAreNotUsedMayHoldAnything(t *testing.T) {
	t.Parallel()
	for _, claim := range []string{`5`, `null`, `["admins", 7]`, `{"sub": "mallory"}`, `true`} {
		var seen capture
		for _, name := range []string{"cognito:groups", "Sub", "scope", "version"} {
			invoke(t, io.Discard, []byte(strings.Replace(apiGatewayEvent, `"claims": {`, `"claims": {"x-`+name+`": `+claim+`, `, 1)), seen.route)
			invoke(t, io.Discard, []byte(strings.Replace(apiGatewayEvent, `"cognito:groups": "[a b]"`, `"`+name+`s": `+claim, 1)), seen.route)
		}
		if len(seen) != 8 || slices.ContainsFunc(seen, func(r gateway.Request) bool { return r.User != seen[0].User || r.Username != "alice@example.com" }) {
			t.Errorf("with %s the route saw %+v", claim, seen)
		}
	}
}

func TestTheLongestSubIsAUser(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("😀", 256)
	var seen capture
	invoke(t, io.Discard, event(t, func(e *events.APIGatewayV2HTTPRequest) {
		e.RequestContext.Authorizer.JWT.Claims["sub"] = longest
	}), seen.route)
	if len(seen) != 1 || seen[0].User != longest {
		t.Errorf("the route saw %v", seen)
	}
}

const otherIssuer = "https://auth.example.com"

// A token of another issuer than Cognito has neither a use nor a username.
func TestAUserOfAnotherIssuerIsTakenFromEitherAuthorizer(t *testing.T) {
	t.Parallel()
	claims := map[string]string{"iss": otherIssuer, "sub": "alice", "client_id": "app"}
	for name, a := range map[string]*events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		"API Gateway's own": {JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: claims}},
		"authorize":         {Lambda: map[string]any{"iss": otherIssuer, "sub": "alice"}},
	} {
		var seen capture
		invoke(t, io.Discard, event(t, func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.Authorizer = a }), seen.route)
		if len(seen) != 1 || seen[0].User != "alice" || seen[0].Username != "" {
			t.Errorf("%s: the route saw %+v", name, seen)
		}
	}
}

func TestOnlyAWholeUserOfAnotherIssuerIsAsking(t *testing.T) {
	t.Parallel()
	const cognito = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Example"
	for name, context := range map[string]map[string]any{
		"an expired token, which has no user": {},
		"no sub":                              {"iss": otherIssuer},
		"a number as sub":                     {"iss": otherIssuer, "sub": 5},
		"a blank in the sub":                  {"iss": otherIssuer, "sub": "al ice"},
		"a client's own token":                {"iss": otherIssuer, "sub": "app", "client_id": "app"},
		"Cognito's, of no use":                {"iss": cognito, "sub": "alice", "username": "alice"},
		"Cognito's ID token":                  {"iss": cognito, "sub": "alice", "username": "alice", "token_use": "id"},
		"Cognito's without a username":        {"iss": cognito, "sub": "alice", "token_use": "access"},
	} {
		wantRefused(t, name, event(t, func(e *events.APIGatewayV2HTTPRequest) {
			e.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{Lambda: context}
		}), 401, unauthorized)
	}
	// What the JWT authorizer has said counts, whatever else is there.
	wantRefused(t, "both", event(t, func(e *events.APIGatewayV2HTTPRequest) {
		e.RequestContext.Authorizer.JWT.Claims["token_use"] = "id"
		e.RequestContext.Authorizer.Lambda = map[string]any{"iss": otherIssuer, "sub": "mallory"}
	}), 401, unauthorized)
}
