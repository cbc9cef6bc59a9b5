package agentmail_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

// as calls AgentMail with a key, and returns the status.
func (m *mail) as(key credential.Secret, method, path, body string) int {
	m.t.Helper()
	status, _ := m.request(key, method, path, body)
	return status
}

// call is as, and returns the answer.
func (m *mail) call(key credential.Secret, method, path, body string) map[string]any {
	m.t.Helper()
	_, answer := m.request(key, method, path, body)
	return answer
}

func (m *mail) request(key credential.Secret, method, path, body string) (int, map[string]any) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.direct+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer map[string]any
	_ = json.NewDecoder(res.Body).Decode(&answer) // a deletion has no body
	return res.StatusCode, answer
}

func TestAManagedKeyMakesEverythingButKeys(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	pod := "/v0/pods/" + g.Resource.ID
	for call, want := range map[string]int{
		"GET " + pod: 200, "POST " + pod + "/inboxes": 200, "GET " + pod + "/webhooks": 200, "GET " + pod + "/api-keys": 200,
		"POST " + pod + "/api-keys": 403,
	} {
		method, path, _ := strings.Cut(call, " ")
		got := m.as(g.Key, method, path, "")
		if got != want {
			t.Errorf("%s: %d, want %d", call, got, want)
		}
	}
	mine, _ := m.Pod(alice)
	for _, name := range []string{"api_key_create", "agent_armor_release", "app_connect"} {
		if mine.Keys[0].Permissions[name] {
			t.Errorf("the key has %s", name)
		}
	}
	if len(mine.Keys[0].Permissions) != 49 {
		t.Errorf("it has %d permissions", len(mine.Keys[0].Permissions))
	}
}

func TestPermissionsAreWhatIsConfigured(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]map[string]bool{
		`{"inbox_read":true,"inbox_create":false}`: {"inbox_read": true, "inbox_create": false},
		`{}`:   {},
		`null`: nil,
	} {
		m := start(t)
		m.provider = newProvider(t, agentmail.Config{BaseURL: m.url, Permissions: setting})
		m.ready()
		pod, _ := m.Pod(alice)
		got := pod.Keys[0].Permissions
		if (got == nil) != (want == nil) || !maps.Equal(got, want) {
			t.Errorf("%s: the key has %v", setting, got)
		}
	}
	for _, setting := range []string{`[]`, `"all"`, `{"inbox_read":1}`, `{"inbox_read":"true"}`, `{"Inbox":true}`, `{"":true}`, `{`, `{} {}`} {
		_, err := agentmail.New(agentmail.Config{Permissions: setting})
		if err == nil || !strings.Contains(err.Error(), "AGENTMAIL_PERMISSIONS") {
			t.Errorf("%s: got %v", setting, err)
		}
	}
}

// That is the organisation's trouble: what would be made stops for all, and what is to be deleted
// is deleted.
func TestAPermissionThatIsCalledOtherwiseNowIsNoUsersTrouble(t *testing.T) {
	t.Parallel()
	m := start(t)
	old := m.ready()
	m.provider = newProvider(t, agentmail.Config{BaseURL: m.url, Permissions: `{"inbox_read":true,"provider_connect":true}`})
	a := attempt(2, old.Resource, false)
	_, err := m.provider.Provision(t.Context(), orgKey, a)
	wantClass(t, err, managed.Quota)
	if !errors.Is(err, managed.ErrSettings) || !strings.Contains(err.Error(), "AGENTMAIL_PERMISSIONS") || !a.Settled() {
		t.Errorf("settled: %t, %v", a.Settled(), err)
	}
	err = m.provider.Sweep(t.Context(), orgKey, attempt(3, old.Resource, false))
	if !errors.Is(err, managed.ErrSettings) {
		t.Errorf("a sweep: %v", err)
	}
	m.mustDeprovision(attempt(4, old.Resource, false))
	m.wantNoPods()
}

func TestAnOldKeyIsBroughtUpToDateByASweep(t *testing.T) {
	t.Parallel()
	for _, before := range []string{`null`, `{"inbox_read":true}`} {
		m := start(t)
		m.provider = newProvider(t, agentmail.Config{BaseURL: m.url, Permissions: before})
		g := m.ready()
		m.provider = newProvider(t, agentmail.Config{BaseURL: m.url, Permissions: `{"inbox_read":true,"inbox_create":true,"inbox_delete":false}`})
		update := is(http.MethodPatch, `/v0/pods/[^/]+/api-keys/[^/]+`)
		for _, differs := range []bool{true, false} {
			keys, err := m.provider.Inspect(t.Context(), orgKey, alice, g.Resource)
			if err != nil || len(keys) != 1 || keys[0].PermissionsDiffer != differs {
				t.Errorf("%s: %v, the keys are %+v, want that they differ: %t", before, err, keys, differs)
			}
			err = m.provider.Sweep(t.Context(), orgKey, attempt(2, g.Resource, false))
			if err != nil {
				t.Fatal(err)
			}
		}
		pod, _ := m.Pod(alice)
		if !pod.Keys[0].Permissions["inbox_create"] || m.sent(update) != 1 {
			t.Errorf("%s: updated %d times: %v", before, m.sent(update), pod.Keys[0].Permissions)
		}
		if got := m.as(g.Key, "POST", "/v0/pods/"+g.Resource.ID+"/inboxes", ""); got != 200 {
			t.Errorf("%s: the key makes no inbox: %d", before, got)
		}
	}
}

// AgentMail gives a key the expiry of the one that made it, for good.
func TestAKeyExpiresWithTheOrgKeyThatMadeIt(t *testing.T) {
	t.Parallel()
	m := start(t)
	at, err := m.provider.OrgKeyExpires(t.Context(), orgKey)
	if g := m.ready(); err != nil || !at.IsZero() || !g.ExpiresAt.IsZero() {
		t.Errorf("%v: the org key ends %v, a key that it made %v", err, at, g.ExpiresAt)
	}
	ends := m.clock.Now().Add(time.Hour).Truncate(time.Second).UTC()
	m.ExpireOrgKey(fake.OrgKey, ends)
	g := m.mustProvision(attemptFor("bob", 1, credential.Resource{}, false))
	at, err = m.provider.OrgKeyExpires(t.Context(), orgKey)
	if err != nil || !at.Equal(ends) || !g.ExpiresAt.Equal(ends) {
		t.Errorf("%v: the org key ends %v, a key that it made %v, want %v", err, at, g.ExpiresAt, ends)
	}
	m.clock.Advance(time.Hour)
	if got := m.as(g.Key, "GET", "/v0/pods/"+g.Resource.ID, ""); got != 403 {
		t.Errorf("the key goes on: %d", got)
	}
	_, err = m.provider.OrgKeyExpires(t.Context(), orgKey)
	wantClass(t, err, managed.Rejected)
}
