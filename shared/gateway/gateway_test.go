package gateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
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
