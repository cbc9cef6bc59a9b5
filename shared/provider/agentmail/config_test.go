package agentmail_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/agentmail"
)

func TestTheBaseURLIsNamedByItsVariable(t *testing.T) {
	t.Parallel()
	_, err := agentmail.New(agentmail.Config{BaseURL: "api.agentmail.to"})
	if err == nil || !strings.Contains(err.Error(), "AGENTMAIL_BASE_URL") {
		t.Errorf("got %v", err)
	}
}

func TestTheClientIDPrefixIsWhatAgentMailTakes(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "staging-", "a.B_9~", strings.Repeat("x", 128)} {
		_, err := agentmail.New(agentmail.Config{ClientIDPrefix: prefix})
		if err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"a b", "ä", "a/", "a\n", strings.Repeat("x", 129)} {
		_, err := agentmail.New(agentmail.Config{ClientIDPrefix: prefix})
		if err == nil || !strings.Contains(err.Error(), "AGENTMAIL_CLIENT_ID_PREFIX") {
			t.Errorf("%q: got %v", prefix, err)
		}
	}
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.provider = newProvider(t, agentmail.Config{BaseURL: m.url + "/", Permissions: `{"inbox_read":true}`})
	g := m.mustProvision(attempt(7, credential.Resource{}, false))
	m.mustDeprovision(attempt(8, g.Resource, false))
	bodies := map[string]string{
		"POST /v0/pods": `{"client_id":"alice","name":"alice-pod"}`,
		"POST /v0/pods/" + g.Resource.ID + "/api-keys": `{"name":"alice-agpt-managed.7","permissions":{"inbox_read":true}}`,
	}
	for _, c := range m.proxy.Calls() {
		if string(c.Body) != bodies[c.Op] {
			t.Errorf("%s: body %s", c.Op, c.Body)
		}
		if c.Header.Get("Authorization") != "Bearer "+orgKey.Reveal() {
			t.Errorf("%s: Authorization is not the org key", c.Op)
		}
		if len(c.Body) > 0 && c.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: Content-Type %q", c.Op, c.Header.Get("Content-Type"))
		}
		delete(bodies, c.Op)
	}
	if len(bodies) > 0 {
		t.Errorf("never sent: %v", bodies)
	}
}

// An Idempotency-Key would let Go's transport repeat the create of a key by itself, and every
// repeat makes another.
func TestAKeyIsNeverCreatedTwiceOnADeadConnection(t *testing.T) {
	t.Parallel()
	m := start(t)
	var mu sync.Mutex
	creates := 0
	var connections []string
	m.provider = newProvider(t, agentmail.Config{BaseURL: m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "idempotency") {
				t.Errorf("%s %s has the header %s", r.Method, r.URL.Path, name)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		connections = append(connections, r.RemoteAddr)
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/api-keys") {
			creates++
			var body bytes.Buffer
			_, _ = body.ReadFrom(r.Body)
			panic(http.ErrAbortHandler)
		}
		m.ServeHTTP(w, r)
	}))})
	a := attempt(1, credential.Resource{}, false)
	_, err := m.provider.Provision(t.Context(), orgKey, a)
	mu.Lock()
	defer mu.Unlock()
	if err == nil || a.Settled() || creates != 1 {
		t.Errorf("%d creates, settled: %t, error: %v", creates, a.Settled(), err)
	}
	if len(connections) != 2 || connections[0] != connections[1] {
		t.Errorf("the connection was not one that had been used before: %v", connections)
	}
}
