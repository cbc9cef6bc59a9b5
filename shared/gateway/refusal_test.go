package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
)

// problems are all errors that a client is told about, with the answers that clients know.
var problems = []struct {
	err    error
	status int
	body   string
}{
	{credential.ErrUnauthenticated, 401, unauthorized},
	{credential.ErrAccountDeleted, 401, `{"detail":"This account has been deleted."}`},
	{credential.ErrAccountSuspended, 403, `{"detail":"This account is suspended."}`},
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
