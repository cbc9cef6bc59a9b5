package gateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
)

const routeKey = "PUT /{provider}/credentials/{id}"

// apiGatewayEvent is an event as API Gateway sends it (payload format 2.0), with the claims of a
// Cognito access token.
const apiGatewayEvent = `{
  "version": "2.0",
  "routeKey": "PUT /{provider}/credentials/{id}",
  "rawPath": "/github/credentials/fab6152b-b3a1-5188-98f1-63f310fccc0f",
  "rawQueryString": "sub=mallory",
  "cookies": ["sub=mallory"],
  "headers": {"content-type": "application/json", "authorization": "Bearer e30.e30.c2ln", "x-user": "mallory", "content-length": "17"},
  "queryStringParameters": {"sub": "mallory"},
  "requestContext": {
    "accountId": "123456789012",
    "apiId": "r3pmxmplak",
    "authorizer": {
      "jwt": {
        "claims": {
          "auth_time": "1800000000", "client_id": "1example23456789", "exp": "1800003600", "iat": "1800000000",
          "iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Example", "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
          "scope": "aws.cognito.signin.user.admin", "sub": "3f0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11", "token_use": "access",
          "username": "alice@example.com", "cognito:groups": "[a b]"
        },
        "scopes": null
      }
    },
    "domainName": "r3pmxmplak.execute-api.us-east-1.amazonaws.com",
    "http": {"method": "PUT", "path": "/github/credentials/fab6152b-b3a1-5188-98f1-63f310fccc0f", "protocol": "HTTP/1.1",
      "sourceIp": "192.0.2.1", "userAgent": "agent"},
    "requestId": "JKJaXmPLvHcESHA=",
    "routeKey": "PUT /{provider}/credentials/{id}",
    "stage": "$default",
    "time": "15/Jan/2027:08:00:00 +0000",
    "timeEpoch": 1800000000000
  },
  "pathParameters": {"provider": "github", "id": "fab6152b-b3a1-5188-98f1-63f310fccc0f"},
  "stageVariables": null,
  "body": "{\"title\": \"New\"}",
  "isBase64Encoded": false
}`

// event is that event, changed.
func event(t testing.TB, change func(*events.APIGatewayV2HTTPRequest)) []byte {
	t.Helper()
	var e events.APIGatewayV2HTTPRequest
	err := json.Unmarshal([]byte(apiGatewayEvent), &e)
	if err != nil {
		t.Fatal(err)
	}
	change(&e)
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// invoke hands an event to a handler with one route.
func invoke(t testing.TB, log io.Writer, event []byte, route gateway.Route) events.APIGatewayV2HTTPResponse {
	t.Helper()
	h := gateway.NewHandler(slog.New(slog.NewJSONHandler(log, nil)), map[string]gateway.Route{routeKey: route})
	raw, err := h.Invoke(t.Context(), event)
	if err != nil {
		t.Fatalf("the handler returned an error: %v", err)
	}
	var response events.APIGatewayV2HTTPResponse
	err = json.Unmarshal(raw, &response)
	if err != nil {
		t.Fatalf("the response %s is not JSON: %v", raw, err)
	}
	return response
}

// capture is a route that keeps the requests it gets.
type capture []gateway.Request

func (c *capture) route(_ context.Context, r gateway.Request) (gateway.Response, error) {
	*c = append(*c, r)
	return gateway.Response{Status: 200}, nil
}

// wantRefused checks that an event was answered with this, and that no route saw it.
func wantRefused(t *testing.T, name string, event []byte, status int, body string) {
	t.Helper()
	var seen capture
	response := invoke(t, io.Discard, event, seen.route)
	if response.StatusCode != status || response.Body != body {
		t.Errorf("%s: got %d %s, want %d %s", name, response.StatusCode, response.Body, status, body)
	}
	if len(seen) != 0 {
		t.Errorf("%s: the route saw the request", name)
	}
}

func TestARequestIsTakenOutOfTheEvent(t *testing.T) {
	t.Parallel()
	var seen capture
	response := invoke(t, io.Discard, []byte(apiGatewayEvent), seen.route)
	if response.StatusCode != 200 || len(seen) != 1 {
		t.Fatalf("got %+v, the route saw %d requests", response, len(seen))
	}
	r := seen[0]
	if r.User != "3f0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11" || r.Username != "alice@example.com" || r.Provider != "github" ||
		r.ID != "fab6152b-b3a1-5188-98f1-63f310fccc0f" || string(r.Body) != `{"title": "New"}` {
		t.Errorf("got the request %+v with the body %s", r, r.Body)
	}
}

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

func TestABodyMayBe64KB(t *testing.T) {
	t.Parallel()
	largest := bytes.Repeat([]byte("a"), 64<<10)
	for name, body := range map[string][]byte{"nothing": {}, "largest": largest, "not UTF-8": {0xff, 0x00, 0xfe}} {
		var seen capture
		response := invoke(t, io.Discard, event(t, func(e *events.APIGatewayV2HTTPRequest) {
			e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
		}), seen.route)
		if len(seen) != 1 || !bytes.Equal(seen[0].Body, body) {
			t.Errorf("%s in base64: got %+v", name, response)
		}
	}
	var seen capture
	invoke(t, io.Discard, event(t, func(e *events.APIGatewayV2HTTPRequest) { e.Body = string(largest) }), seen.route)
	if len(seen) != 1 || !bytes.Equal(seen[0].Body, largest) {
		t.Error("the largest body did not arrive")
	}

	const tooLarge = `{"detail":"The body exceeds 64 KB."}`
	larger := append(largest, 'a')
	wantRefused(t, "plain", event(t, func(e *events.APIGatewayV2HTTPRequest) { e.Body = string(larger) }), 413, tooLarge)
	wantRefused(t, "base64", event(t, func(e *events.APIGatewayV2HTTPRequest) {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(larger), true
	}), 413, tooLarge)
	wantRefused(t, "far too large", event(t, func(e *events.APIGatewayV2HTTPRequest) { e.Body = strings.Repeat("a", 1<<20) }), 413, tooLarge)
}

func TestBadBase64IsRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"%%%", "e30", "e30=e30=", "_-8=", "{}", "e30= "} {
		wantRefused(t, body, event(t, func(e *events.APIGatewayV2HTTPRequest) { e.Body, e.IsBase64Encoded = body, true }),
			422, `{"detail":"body: is not valid base64"}`)
	}
}

func TestWhatIsNoEventOfAnHTTPAPIIsRefused(t *testing.T) {
	t.Parallel()
	const malformed = `{"detail":"The event is not one of an API Gateway HTTP API."}`
	for name, event := range map[string]string{
		"nothing":               "",
		"a list":                "[" + apiGatewayEvent + "]",
		"a text":                `"event"`,
		"two events":            apiGatewayEvent + apiGatewayEvent,
		"a number as body":      strings.Replace(apiGatewayEvent, `"body": "`, `"body": 5, "was": "`, 1),
		"null":                  "null",
		"two bodies":            strings.Replace(apiGatewayEvent, `"body": `, `"body": "{}", "body": `, 1),
		"two IDs in the path":   strings.Replace(apiGatewayEvent, `"id": "fab`, `"id": "x", "id": "fab`, 1),
		"a list as parameters":  strings.Replace(apiGatewayEvent, `"pathParameters": {`, `"pathParameters": [], "was": {`, 1),
		"not UTF-8 in the body": strings.Replace(apiGatewayEvent, `\"New\"`, "\\\"\xff\\\"", 1),
		"not UTF-8 in the sub":  strings.Replace(apiGatewayEvent, `"3f0c`, "\"\xff", 1),
		"UTF-16":                "\xff\xfe{\x00}\x00",
		"deep":                  strings.Repeat(`{"requestContext":`, 20_000),
	} {
		wantRefused(t, name, []byte(event), 400, malformed)
	}
	for n := 0; n < len(apiGatewayEvent); n += 13 {
		wantRefused(t, fmt.Sprintf("cut to %d bytes", n), []byte(apiGatewayEvent[:n]), 400, malformed)
	}
}

func TestAnUnknownRouteIsNotFound(t *testing.T) {
	t.Parallel()
	const notFound = `{"message":"Not Found"}`
	for _, key := range []string{"", "$default", "PUT /{provider}/credentials", "put /{provider}/credentials/{id}", "GET /{provider}/credentials/{id}", routeKey + "/"} {
		wantRefused(t, key, event(t, func(e *events.APIGatewayV2HTTPRequest) { e.RouteKey = key }), 404, notFound)
		wantRefused(t, key+" of nobody", event(t, func(e *events.APIGatewayV2HTTPRequest) {
			e.RouteKey, e.RequestContext.Authorizer = key, nil
		}), 404, notFound)
	}
	for _, event := range []string{"{}", `{"RouteKey": "` + routeKey + `"}`, `{"detail": {}, "detail-type": "AWS API Call via CloudTrail"}`} {
		wantRefused(t, event, []byte(event), 404, notFound)
	}
}

// problems are all errors that a client is told about, with the answers that clients know.
var problems = []struct {
	err    error
	status int
	body   string
}{
	{credential.ErrUnauthenticated, 401, unauthorized},
	{credential.ErrAccountDeleted, 401, `{"detail":"This account has been deleted."}`},
	{credential.ErrForged, 403, `{"detail":"AutoGPT-managed credentials cannot be created by users"}`},
	{credential.ErrManaged, 403, `{"detail":"AutoGPT-managed credentials cannot be updated"}`},
	{credential.ErrSystem, 403, `{"detail":"System-managed credentials cannot be updated"}`},
	{credential.ErrNotFound, 404, `{"detail":"Credentials not found"}`},
	{credential.ErrOpenTooLarge, 413, `{"detail":"The username and scopes together exceed 3,072 bytes: ` +
		`all of a credential that is not secret, its title included, may have 4 KB."}`},
	{&credential.LimitError{Most: 200}, 409, `{"detail":"There are 200 credentials of your own already, as many as an account may have: delete one first."}`},
	{credential.ErrTooLarge, 413, `{"detail":"The secret fields together exceed 4,096 bytes."}`},
	{credential.ErrChanged, 412, `{"detail":"The credential was changed elsewhere: see what is there now."}`},
	{credential.ErrRepeated, 422, `{"detail":"Idempotency-Key: was sent with another body before: send a new one with this"}`},
	{&credential.TypeError{Stored: credential.APIKey, Change: credential.OAuth2}, 422,
		`{"detail":"type: is oauth2, but the credential's is api_key: make a new credential instead"}`},
	{&credential.FieldError{Field: "title", Problem: "must be a text"}, 422, `{"detail":"title: must be a text"}`},
}

// jsonHeaders are those of every answer with a body.
var jsonHeaders = map[string]string{"cache-control": "no-store", "x-content-type-options": "nosniff", "content-type": "application/json"}

func TestEachErrorHasItsAnswer(t *testing.T) {
	t.Parallel()
	for _, p := range problems {
		for _, err := range []error{p.err, fmt.Errorf("doing something: %w", p.err), errors.Join(errors.New("other"), p.err)} {
			var log bytes.Buffer
			response := invoke(t, &log, []byte(apiGatewayEvent), func(context.Context, gateway.Request) (gateway.Response, error) {
				return gateway.Response{Status: 200, Body: "ignored"}, err
			})
			if response.StatusCode != p.status || response.Body != p.body || !maps.Equal(response.Headers, jsonHeaders) {
				t.Errorf("%v: got %d %s with %v, want %d %s", err, response.StatusCode, response.Body, response.Headers, p.status, p.body)
			}
			if log.Len() != 0 {
				t.Errorf("%v is the client's business, but was logged: %s", err, &log)
			}
		}
	}
}

func TestAFaultIsLoggedAndTheClientLearnsNoMoreThanToTryAgain(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{
		errors.New("inner text"), fmt.Errorf("inner text: %w", context.DeadlineExceeded), fmt.Errorf("inner text: %w", credential.ErrNotUsable),
	} {
		var log bytes.Buffer
		response := invoke(t, &log, []byte(apiGatewayEvent), func(context.Context, gateway.Request) (gateway.Response, error) {
			return gateway.Response{}, fault
		})
		headers := maps.Clone(jsonHeaders)
		headers["retry-after"] = "5"
		if response.StatusCode != 503 || !maps.Equal(response.Headers, headers) ||
			response.Body != `{"detail":"The service cannot answer right now. Please try again."}` {
			t.Errorf("got %+v", response)
		}
		var line struct{ Level, Route, Error string }
		err := json.Unmarshal(log.Bytes(), &line)
		if err != nil || line.Level != "ERROR" || line.Route != routeKey || line.Error != fault.Error() {
			t.Errorf("the log says %s, %v", &log, err)
		}
	}
}

func TestAnAnswerIsEncoded(t *testing.T) {
	t.Parallel()
	with := func(more map[string]string) map[string]string {
		headers := maps.Clone(jsonHeaders)
		maps.Copy(headers, more)
		return headers
	}
	for _, c := range []struct {
		answer  gateway.Response
		headers map[string]string
		body    string
	}{
		{gateway.Response{Status: 204}, map[string]string{"cache-control": "no-store", "x-content-type-options": "nosniff"}, ""},
		{gateway.Response{Status: 200, Body: []string{}}, jsonHeaders, "[]"},
		{
			gateway.Response{Status: 200, Body: map[string]any{"deleted": true, "revoked": nil}},
			jsonHeaders, `{"deleted":true,"revoked":null}`,
		},
		{
			gateway.Response{Status: 200, Header: map[string]string{"managed-credentials": "agent_mail=ready"}, Body: 1},
			with(map[string]string{"managed-credentials": "agent_mail=ready"}), "1",
		},
	} {
		response := invoke(t, io.Discard, []byte(apiGatewayEvent), func(context.Context, gateway.Request) (gateway.Response, error) {
			return c.answer, nil
		})
		if response.StatusCode != c.answer.Status || response.Body != c.body || !maps.Equal(response.Headers, c.headers) || response.IsBase64Encoded {
			t.Errorf("%+v was encoded as %+v", c.answer, response)
		}
	}
}

func TestARouteGetsTheContextOfTheInvocation(t *testing.T) {
	t.Parallel()
	type key struct{}
	h := gateway.NewHandler(slog.New(slog.DiscardHandler), map[string]gateway.Route{
		routeKey: func(ctx context.Context, _ gateway.Request) (gateway.Response, error) {
			return gateway.Response{Status: 200, Body: ctx.Value(key{})}, nil
		},
	})
	raw, err := h.Invoke(context.WithValue(t.Context(), key{}, "here"), []byte(apiGatewayEvent))
	if err != nil || !bytes.Contains(raw, []byte(`\"here\"`)) {
		t.Errorf("got %s, %v", raw, err)
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

// Hundreds of requests of one user at one moment are answered; one who does not stop is refused
// without a call, and nobody else is.
func TestAUserWhoDoesNotStopIsRefusedAlone(t *testing.T) {
	t.Parallel()
	served := 0
	h := gateway.NewHandler(slog.New(slog.DiscardHandler), map[string]gateway.Route{
		routeKey: func(context.Context, gateway.Request) (gateway.Response, error) {
			served++
			return gateway.Response{Status: 200}, nil
		},
	})
	ask := func(user string) (response events.APIGatewayV2HTTPResponse) {
		raw, err := h.Invoke(t.Context(), event(t, func(e *events.APIGatewayV2HTTPRequest) {
			e.RequestContext.Authorizer.JWT.Claims["sub"] = user
		}))
		if err != nil {
			t.Fatal(err)
		}
		err = json.Unmarshal(raw, &response)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	const atOnce, never = 1000, 20_000
	answered := 0
	for ; answered < never; answered++ {
		response := ask("alice")
		if response.StatusCode == 200 {
			continue
		}
		if response.StatusCode != 429 || response.Headers["retry-after"] != "1" ||
			response.Body != `{"detail":"There are too many requests of yours. Please wait a moment."}` {
			t.Errorf("the refusal is %+v", response)
		}
		break
	}
	if answered < atOnce || answered == never || served != answered {
		t.Errorf("%d requests were answered, and %d served", answered, served)
	}
	if response := ask("bob"); response.StatusCode != 200 {
		t.Errorf("another user gets %+v", response)
	}
}

func TestAMalformedProviderIsNamed(t *testing.T) {
	t.Parallel()
	err := gateway.CheckProvider("agent_mail")
	if err != nil {
		t.Errorf("a good name: %v", err)
	}
	for _, name := range []string{"", "Agent", "a-b", "a#b", "%2e%2e", strings.Repeat("a", 65)} {
		err := gateway.CheckProvider(name)
		var field *credential.FieldError
		if !errors.As(err, &field) || field.Field != "provider" || strings.Contains(field.Problem, "%") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAGuardAnswersWhatNeedsNoLookIntoTheTable(t *testing.T) {
	t.Parallel()
	system := map[string]string{"openai": "Use Credits for OpenAI"}
	const own = "0d3b6f1e-1f0a-4c8e-9f43-0d7d9a1c2e55"
	for _, c := range []struct {
		provider, id string
		want         error
	}{
		{provider: "github", id: own},
		{provider: "openai", id: own},
		{provider: "agent_mail", id: credential.ManagedID("agent_mail", "alice")},
		// A system credential that is not on offer is nobody's: the table says so.
		{provider: "groq", id: credential.SystemID("groq")},
		{provider: "openai", id: credential.SystemID("openai"), want: credential.ErrSystem},
		// The id counts before the provider, as in AutoGPT.
		{provider: "github", id: credential.SystemID("openai"), want: credential.ErrSystem},
		{provider: "", id: credential.SystemID("openai"), want: credential.ErrSystem},
		{provider: "", id: own, want: credential.ErrNotFound},
		{provider: "GitHub", id: own, want: credential.ErrNotFound},
		{provider: "github#x", id: own, want: credential.ErrNotFound},
		{provider: "github", id: "", want: credential.ErrNotFound},
		{provider: "github", id: strings.ToUpper(own), want: credential.ErrNotFound},
		{provider: "github", id: own + "#", want: credential.ErrNotFound},
	} {
		err := gateway.Guard(gateway.Request{User: "alice", Provider: c.provider, ID: c.id}, system)
		if !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v", c.provider, c.id, err)
		}
	}
}

// refusals are the statuses that an event alone may bring about.
var refusals = []int{200, 400, 401, 404, 413, 422}

func FuzzHandler(f *testing.F) {
	f.Add([]byte(apiGatewayEvent))
	f.Add(event(f, func(e *events.APIGatewayV2HTTPRequest) { e.Body, e.IsBase64Encoded = "e30=", true }))
	f.Add(event(f, func(e *events.APIGatewayV2HTTPRequest) { e.Body, e.IsBase64Encoded = "e30", true }))
	f.Add(event(f, func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.Authorizer = nil }))
	f.Add(event(f, func(e *events.APIGatewayV2HTTPRequest) { e.RouteKey = "$default" }))
	f.Add([]byte("null"))
	f.Add([]byte(`{"routeKey":"PUT /{provider}/credentials/{id}","requestContext":{"authorizer":{"jwt":{"claims":{"sub":"a","token_use":"access","username":"a"}}}}}`))
	f.Add([]byte("{\"routeKey\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, event []byte) {
		response := invoke(t, io.Discard, event, func(_ context.Context, r gateway.Request) (gateway.Response, error) {
			if !credential.ValidUserID(r.User) || len(r.Body) > gateway.MaxBody {
				t.Errorf("a route got the user %q and a body of %d bytes", r.User, len(r.Body))
			}
			return gateway.Response{Status: 200, Body: r}, nil
		})
		if !slices.Contains(refusals, response.StatusCode) {
			t.Errorf("the status is %d", response.StatusCode)
		}
		if !json.Valid([]byte(response.Body)) {
			t.Errorf("the body is not JSON: %s", response.Body)
		}
	})
}
