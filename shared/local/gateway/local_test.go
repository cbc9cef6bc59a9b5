package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"managed-credentials/shared/local/lambda"
)

// post is a request without token, as /local/* takes it.
func post(path, body string) request {
	return request{method: "POST", path: path, body: body, header: http.Header{}}
}

func TestTokenIsForAnyUserAndPutsThemIntoThePool(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.want(t, post("/local/token", `{"sub":"alice"}`), http.StatusOK, `{"access_token":"token of alice"}`)
	f.want(t, post("/local/token", `{"sub":"bob","username":"bob@example.com"}`), http.StatusOK, `{"access_token":"token of bob"}`)
	if f.users["alice"] != "alice" || f.users["bob"] != "bob@example.com" {
		t.Fatalf("users = %v", f.users)
	}
}

func TestDeleteUserDeliversTheEventAndGivesTheFunctionsAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(context.Context) (string, error) { return `{"pending":[]}`, nil }
	f.want(t, post("/local/delete-user", `{"sub":"gone-by"}`), http.StatusOK, `{"pending":[]}`)
	if len(f.users) != 0 {
		t.Errorf("users = %v", f.users)
	}
	c := f.called(t)
	e := c.event(t)
	d := e["detail"].(map[string]any)
	for name, pair := range map[string][2]any{
		"function":    {c.function, "user-cleanup"},
		"source":      {e["source"], "aws.cognito-idp"},
		"detail-type": {e["detail-type"], "AWS API Call via CloudTrail"},
		"eventSource": {d["eventSource"], "cognito-idp.amazonaws.com"},
		"eventName":   {d["eventName"], "AdminDeleteUser"},
		"sub":         {d["additionalEventData"].(map[string]any)["sub"], "gone-by"},
		"userPoolId":  {d["requestParameters"].(map[string]any)["userPoolId"], "us-east-1_local"},
		"errorCode":   {d["errorCode"], nil},
		"region":      {e["region"], "us-east-1"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s = %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestDisablingAndEnablingAUserDeliversTheEventAndGivesTheFunctionsAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.want(t, post("/local/token", `{"sub":"alice","username":"alice@example.com"}`), http.StatusOK, `{"access_token":"token of alice"}`)
	f.answer = func(context.Context) (string, error) { return `{"pending":[],"disabled":true}`, nil }
	for _, c := range [][3]string{
		{"/local/disable-user", "AdminDisableUser", "enabled: false"},
		{"/local/enable-user", "AdminEnableUser", "enabled: true"},
	} {
		f.want(t, post(c[0], `{"sub":"alice"}`), http.StatusOK, `{"pending":[],"disabled":true}`)
		call := f.called(t)
		d := call.event(t)["detail"].(map[string]any)
		if call.function != "user-cleanup" || d["eventName"] != c[1] || d["additionalEventData"].(map[string]any)["sub"] != "alice" {
			t.Errorf("%s: %s was invoked with %s", c[0], call.function, call.payload)
		}
		if f.users["alice"] != c[2] {
			t.Errorf("%s: users = %v", c[0], f.users)
		}
		f.want(t, post(c[0], `{"sub":"bob"}`), http.StatusNotFound, `{"detail":"User does not exist."}`)
	}
	if len(f.calls) > 0 {
		t.Errorf("of nobody: invoked %s", f.called(t).function)
	}
}

func TestReconcileAnswersAfterOneRound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(context.Context) (string, error) { return `{"done":3}`, nil }
	f.want(t, post("/local/reconcile", ""), http.StatusOK, `{"done":3}`)
	c := f.called(t)
	if c.function != "reconcile" || c.event(t)["detail-type"] != "Scheduled Event" {
		t.Fatalf("%s was invoked with %s", c.function, c.payload)
	}
}

func TestResolveTurnsRefusalsIntoTheirStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		out    string
		err    error
		status int
		body   string
	}{
		{`{"id":"1","api_key":"am_us_1"}`, nil, 200, `{"id":"1","api_key":"am_us_1"}`},
		{`{"status":404,"detail":"no such credential"}`, nil, 404, `{"detail":"no such credential"}`},
		{`{"status":410,"detail":"the account is deleted"}`, nil, 410, `{"detail":"the account is deleted"}`},
		{`{"status":200,"detail":"am_us_1"}`, nil, 502, `{"detail":"resolve-credential answered with the status 200"}`},
		{`{"status":202,"detail":"It is looked into"}`, nil, 202, `{"detail":"It is looked into"}`},
		{`{"status":"bad"}`, nil, 502, `{"detail":"resolve-credential gave an answer of another shape"}`},
		{`am_us_1`, nil, 502, `{"detail":"resolve-credential gave an answer that is not JSON"}`},
		{``, &lambda.FunctionError{Type: "Oops", Message: "am_us_1"}, 502, `{"detail":"resolve-credential failed with Oops, see its log"}`},
		{``, errors.New("am_us_1"), 502, `{"detail":"resolve-credential could not be invoked"}`},
	} {
		f.answer = func(context.Context) (string, error) { return c.out, c.err }
		f.want(t, post("/local/resolve", `{"sub":"alice","provider":"agent_mail"}`), c.status, c.body)
		call := f.called(t)
		if call.function != "resolve-credential" || string(call.payload) != `{"credential_id":"","provider":"agent_mail","rejected_attempt":0,"user_id":"alice"}` {
			t.Fatalf("%s was invoked with %s", call.function, call.payload)
		}
	}
	f.want(t, post("/local/resolve", `{"sub":"alice","provider":"openai","credential_id":7}`), http.StatusUnprocessableEntity,
		`{"detail":"the body has to be {\"sub\": \"…\", \"provider\": \"…\"}, optionally with a \"credential_id\" or a \"rejected_attempt\""}`)
}

func TestLocalRequestThatCannotBeReadIsA422(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, path := range []string{"/local/token", "/local/delete-user", "/local/disable-user", "/local/enable-user", "/local/reconcile", "/local/resolve"} {
		for _, body := range []string{`{`, `[]`, `null`, `"x"`, `{} {}`} {
			resp, got := f.do(t, post(path, body))
			if resp.StatusCode != http.StatusUnprocessableEntity || !strings.HasPrefix(got, `{"detail":"`) {
				t.Errorf("%s with %s: %d %s", path, body, resp.StatusCode, got)
			}
		}
	}
	for _, path := range []string{"/local/token", "/local/delete-user", "/local/disable-user", "/local/enable-user"} {
		for _, body := range []string{``, `{}`, `{"sub":""}`, `{"sub":7}`} {
			resp, _ := f.do(t, post(path, body))
			if resp.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("%s with %s: %d", path, body, resp.StatusCode)
			}
		}
	}
	if len(f.calls) > 0 {
		t.Errorf("invoked %s", f.called(t).function)
	}
}

func TestWebPagesCannotReachLocalPaths(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, r := range map[string]request{
		"page of another site": {host: "127.0.0.1:8080", header: http.Header{"Origin": {"https://evil.example"}}},
		"the same, newer":      {host: "127.0.0.1:8080", header: http.Header{"Sec-Fetch-Site": {"cross-site"}}},
		"rebound name":         {host: "evil.example:8080", header: http.Header{"Origin": {"http://evil.example:8080"}}},
	} {
		r.method, r.path, r.body = "POST", "/local/token", `{"sub":"alice"}`
		resp, _ := f.do(t, r)
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	for name, r := range map[string]request{
		"the page itself": {host: "127.0.0.1:8080", header: http.Header{"Origin": {"http://127.0.0.1:8080"}, "Sec-Fetch-Site": {"same-origin"}}},
		"by name":         {host: "localhost:8080", header: http.Header{}},
		"without port":    {host: "localhost", header: http.Header{}},
		"IPv6":            {host: "[::1]:8080", header: http.Header{}},
	} {
		r.method, r.path, r.body = "POST", "/local/token", `{"sub":"alice"}`
		resp, _ := f.do(t, r)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
}
