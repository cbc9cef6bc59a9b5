package functions_test

import (
	"net/http"
	"testing"

	"managed-credentials/shared/credential"
)

func TestAChangeOfTheSecretLosesNothingThatItDoesNotName(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	const (
		oauth = `{"type":"oauth2","access_token":"old","access_token_expires_at":1893456000,"refresh_token":"kept","refresh_token_expires_at":1893456001,` +
			`"username":"ada","scopes":["repo"]}`
		hosts = `{"type":"host_scoped","host":"example.com","headers":{"X-Key":"old","X-Other":"kept"}}`
	)
	for name, c := range map[string]struct{ body, change, lost string }{
		"a key":                    {`{"type":"api_key","api_key":"old","expires_at":1893456000}`, `{"api_key":"new"}`, "expires_at"},
		"a key for ever":           {`{"type":"api_key","api_key":"old","expires_at":1893456000}`, `{"api_key":"new","expires_at":null}`, ""},
		"a key without expiry":     {`{"type":"api_key","api_key":"old"}`, `{"api_key":"new"}`, ""},
		"a key that expires now":   {`{"type":"api_key","api_key":"old"}`, `{"api_key":"new","expires_at":1893456000}`, ""},
		"a token alone":            {oauth, `{"access_token":"new"}`, "access_token_expires_at, refresh_token, refresh_token_expires_at, username, scopes"},
		"a token without scopes":   {oauth, `{"access_token":"new","access_token_expires_at":null,"refresh_token":"new","refresh_token_expires_at":1893456002,"username":"ada"}`, "scopes"},
		"a token without expiry":   {oauth, `{"access_token":"new","refresh_token":null,"refresh_token_expires_at":null,"username":null,"scopes":null}`, "access_token_expires_at"},
		"a token, the rest null":   {oauth, `{"access_token":"new","access_token_expires_at":null,"refresh_token":null,"refresh_token_expires_at":null,"username":null,"scopes":[]}`, ""},
		"a token of nothing else":  {`{"type":"oauth2","access_token":"old","username":""}`, `{"access_token":"new"}`, ""},
		"a password":               {`{"type":"user_password","username":"ada","password":"old"}`, `{"username":"ada","password":"new"}`, ""},
		"one header of two":        {hosts, `{"host":"example.com","headers":{"X-Key":"new"}}`, "headers.X-Other"},
		"another header":           {hosts, `{"host":"example.com","headers":{"X-New":"new","X-Other":null}}`, "headers.X-Key"},
		"a header is removed":      {hosts, `{"host":"example.com","headers":{"X-Key":"new","X-Other":null}}`, ""},
		"both headers":             {hosts, `{"host":"example.com","headers":{"X-Key":"new","X-Other":"new"}}`, ""},
		"both and one more":        {hosts, `{"host":"example.com","headers":{"X-Key":"new","X-Other":"new","X-New":"new"}}`, ""},
		"headers in another case":  {hosts, `{"host":"example.com","headers":{"x-key":"new","x-other":null}}`, ""},
		"a header that is unknown": {hosts, `{"host":"example.com","headers":{"X-Key":"new","X-Other":"new","X-Never":null}}`, ""},
	} {
		path := "/acme/credentials/" + s.create(token, "acme", c.body).ID
		m := decode[credential.Metadata](t, s.call("GET", path, token, "").body)
		kept := s.resolve(alice, "acme", m.ID).body
		before := s.call("GET", path, token, "") // with the day on which it was used
		got := s.call("PUT", path, token, c.change)
		if c.lost == "" {
			if got.status != http.StatusOK || s.resolve(alice, "acme", m.ID).body == kept {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
			continue
		}
		got.want(t, http.StatusUnprocessableEntity, `{"detail":"body: would lose `+c.lost+`: give it again, or null to remove it"}`)
		if after := s.call("GET", path, token, ""); after.body != before.body || s.resolve(alice, "acme", m.ID).body != kept {
			t.Errorf("%s: it is %s now", name, after.body)
		}
	}
}

func TestWhatAChangeRemovesIsGone(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	m := s.create(token, "acme", `{"type":"host_scoped","host":"example.com","headers":{"X-Key":"old","X-Other":"old"}}`)
	path := "/acme/credentials/" + m.ID
	for _, none := range []string{`{}`, `{"X-Key":null,"X-Other":null}`} {
		s.call("PUT", path, token, `{"host":"example.com","headers":`+none+`}`).want(t, http.StatusUnprocessableEntity, "")
	}
	got := s.call("PUT", path, token, `{"host":"example.com","headers":{"X-Key":"new","X-Other":null}}`)
	got.want(t, http.StatusOK, "")
	if stored := decode[credential.Metadata](t, got.body).Stored; len(stored) != 1 || stored[0] != "headers.X-Key" {
		t.Errorf("stored is %q", stored)
	}
	s.call("POST", "/acme/credentials", token, `{"type":"host_scoped","host":"example.com","headers":{"X-Key":"new","X-Other":null}}`).
		want(t, http.StatusUnprocessableEntity, "")
}
