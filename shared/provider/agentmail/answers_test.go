package agentmail_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestAPodThatIsNotTheUsersIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]fault.Fault{
		"another client_id":    fault.Reshape(nil, map[string]any{"client_id": "bob"}),
		"client_id in capital": fault.Reshape(nil, map[string]any{"client_id": "Alice"}),
		"no client_id":         fault.Reshape(nil, nil, "client_id"),
		"client_id null":       fault.Reshape(nil, map[string]any{"client_id": nil}),
		"the Default Pod":      fault.Reshape(nil, map[string]any{"pod_id": fake.OrganizationID}),
		"no pod_id":            fault.Reshape(nil, nil, "pod_id"),
		"pod_id null":          fault.Reshape(nil, map[string]any{"pod_id": nil}),
		"an empty object":      fault.Delivered(fault.RespondJSON(http.StatusOK, "{}")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			m.Inject(fault.Rule{Op: fake.CreatePod, Fault: changed})
			before := m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: "alice-agpt-managed.1"}}, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
			a := attempt(2, credential.Resource{}, false)
			_, err := m.provider.Provision(t.Context(), orgKey, a)
			wantClass(t, err, managed.Permanent)
			if a.Settled() || a.Resource() != (credential.Resource{}) {
				t.Errorf("settled: %t, found %+v: what the create has made is unknown", a.Settled(), a.Resource())
			}
			wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(3, credential.Resource{}, true)), managed.Permanent)
			if n := len(m.proxy.Calls()); n != m.sent(createPod) || n != 2 {
				t.Errorf("%d calls, %d of them for the pod", n, m.sent(createPod))
			}
			after, _ := m.Pod(alice)
			if len(after.Keys) != len(before.Keys) || len(after.Inboxes) != len(before.Inboxes) {
				t.Errorf("the pod was touched: %+v", after)
			}
		})
	}
}

func TestAKeyThatIsNotThePodsIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		changed fault.Fault
		class   managed.Class
	}{
		"another pod_id":   {fault.Reshape(nil, map[string]any{"pod_id": fake.OrganizationID}), managed.Permanent},
		"no pod_id":        {fault.Reshape(nil, nil, "pod_id"), managed.Permanent},
		"no id":            {fault.Reshape(nil, nil, "api_key_id"), managed.Transient},
		"id null":          {fault.Reshape(nil, map[string]any{"api_key_id": nil}), managed.Transient},
		"no secret":        {fault.Reshape(nil, nil, "api_key"), managed.Transient},
		"an empty secret":  {fault.Reshape(nil, map[string]any{"api_key": ""}), managed.Transient},
		"an unknown form":  {fault.Reshape(nil, map[string]any{"api_key": "sk-1"}), managed.Transient},
		"secret no string": {fault.Reshape(nil, map[string]any{"api_key": 7}), managed.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			m.Inject(fault.Rule{Op: fake.CreateKey, Fault: c.changed})
			a := attempt(1, credential.Resource{}, false)
			_, err := m.provider.Provision(t.Context(), orgKey, a)
			wantClass(t, err, c.class)
			if a.Settled() || m.sent(createKey) != 1 || m.sent(deleteKey) != 0 {
				t.Errorf("settled: %t, %d keys created, %d deleted", a.Settled(), m.sent(createKey), m.sent(deleteKey))
			}
			m.ClearFaults()
			m.mustProvision(attempt(2, a.Resource(), true))
			pod, _ := m.Pod(alice)
			if len(pod.Keys) != 1 || pod.Keys[0].Name != "alice-agpt-managed.2" {
				t.Errorf("the next attempt left %+v", pod.Keys)
			}
		})
	}
}

func TestWhatIsOptionalMayBeMissingNullOrNew(t *testing.T) {
	t.Parallel()
	optional := []string{"name", "prefix", "type", "created_at", "updated_at", "used_at", "permissions", "expires_at", "count", "limit", "display_name"}
	nulls, added := map[string]any{}, map[string]any{"brand_new": map[string]any{"pod_id": 7}, "another": []int{1}}
	for _, name := range optional[1:] {
		nulls[name] = nil
	}
	for name, changed := range map[string]fault.Fault{
		"missing": fault.Reshape(nil, nil, optional[1:]...), // a key without its name could not be told to be ours
		"null":    fault.Reshape(nil, nulls),
		"new":     fault.Reshape(nil, added),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			m.Inject(fault.Rule{Fault: changed})
			m.mustProvision(attempt(1, credential.Resource{}, false))
			g := m.mustProvision(attempt(2, credential.Resource{}, true))
			m.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
			err := m.provider.Sweep(t.Context(), orgKey, attempt(3, g.Resource, true))
			pod, _ := m.Pod(alice)
			if err != nil || len(pod.Keys) != 1 || pod.Keys[0].ID != g.Resource.KeyID {
				t.Errorf("%v: %+v", err, pod.Keys)
			}
			m.mustDeprovision(attempt(4, g.Resource, false))
			m.wantNoPods()
		})
	}
}

// A list that cannot be read is not an empty one: what is not seen would be left behind.
func TestAListThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", "null", "[]", `"x"`, "{}", `{"count":0}`, `{"keys":[]}`, `{"api_keys":{}}`, `{"api_keys":"x"}`, `{"api_keys":[7]}`, `{"api_keys":["x"]}`,
		`{"api_keys":[],"next_page_token":7}`, `{"api_keys":[]`, `{"api_keys":[]}}`, "<html></html>", "\xff",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			g := m.ready()
			m.strike(listKeys, -1, answer(http.StatusOK, body))
			a := attempt(2, g.Resource, true)
			wantClass(t, m.provider.Sweep(t.Context(), orgKey, a), managed.Transient)
			if a.Settled() {
				t.Error("the sweep settled")
			}
			m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: "unseen"}}})
			wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(3, g.Resource, false)), managed.Transient)
			if m.sent(listKeys) != 2 || m.sent(deletePod) != 2 { // the first of these was refused for what is in the pod
				t.Errorf("the keys were listed %d times, the pod deleted %d times", m.sent(listKeys), m.sent(deletePod))
			}
		})
	}
}

func TestAnEmptyListMayBeWrittenInSeveralWays(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]managed.Class{
		`{"api_keys":[]}`:                               managed.Gone,
		`{"api_keys":null}`:                             managed.Gone,
		`{"api_keys":[],"next_page_token":null}`:        managed.Gone,
		`{"api_keys":[],"next_page_token":""}`:          managed.Gone,
		`{"api_keys":[{"api_key_id":"k","name":null}]}`: managed.Gone,
		`{"api_keys":[null]}`:                           managed.Transient, // it may be the one that is stored
		`{"api_keys":[{}],"count":1}`:                   managed.Transient,
	} {
		m := start(t)
		g := m.ready()
		m.strike(listKeys, -1, answer(http.StatusOK, body))
		a := attempt(2, g.Resource, true)
		err := m.provider.Sweep(t.Context(), orgKey, a)
		wantClass(t, err, want)
		if a.Settled() || m.sent(deleteKey) > 0 {
			t.Errorf("%s: %v, settled: %t, %d deleted", body, err, a.Settled(), m.sent(deleteKey))
		}
	}
}

// The path of a key without id is answered with 404, which would read as done.
func TestAKeyOfOursWithoutItsIDIsAnError(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	failed := g.Resource
	failed.KeyID = "" // the attempt that made the key failed
	m.strike(listKeys, -1, answer(http.StatusOK, `{"api_keys":[{"name":"alice-agpt-managed.1"}]}`))
	for _, stored := range []credential.Resource{g.Resource, failed} {
		a := attempt(2, stored, true)
		wantClass(t, m.provider.Sweep(t.Context(), orgKey, a), managed.Transient)
		if a.Settled() || m.sent(deleteKey) > 0 {
			t.Errorf("settled: %t, %d deleted", a.Settled(), m.sent(deleteKey))
		}
	}
}

func TestListsAreReadToTheirLastPage(t *testing.T) {
	t.Parallel()
	for name, switches := range map[string]fake.Switches{
		"as AgentMail pages": {},
		"one item a page":    {PageSize: 1},
		"empty pages":        {PageSize: 7, EmptyPages: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			m.SetSwitches(switches)
			g := m.ready()
			seeded := fake.Pod{ClientID: alice}
			for i := range 25 {
				n := strconv.Itoa(i)
				seeded.Keys = append(seeded.Keys, fake.Key{Name: "alice-agpt-managed.3"}, fake.Key{Name: "the user's " + n})
				seeded.Inboxes = append(seeded.Inboxes, fake.Inbox{Address: n + "@agentmail.to"})
				seeded.Domains = append(seeded.Domains, n+".example")
				seeded.Webhooks = append(seeded.Webhooks, "https://hooks.example/"+n)
			}
			m.SeedPod(seeded)
			err := m.provider.Sweep(t.Context(), orgKey, attempt(4, g.Resource, true))
			pod, _ := m.Pod(alice)
			if err != nil || len(pod.Keys) != 26 {
				t.Errorf("%v: after the sweep there are %d keys, want 26", err, len(pod.Keys))
			}
			m.mustDeprovision(attempt(5, g.Resource, false))
			m.wantNoPods()
		})
	}
}

// truncating is AgentMail with a connection that breaks in the middle of every body that matches.
func (m *mail) truncating(match func(*http.Request) bool) *agentmail.Provider {
	return newProvider(m.t, agentmail.Config{BaseURL: m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !match(r) {
			m.ServeHTTP(w, r)
			return
		}
		whole := httptest.NewRecorder()
		m.ServeHTTP(whole, r)
		w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()-1])
		panic(http.ErrAbortHandler)
	}))})
}

func TestABrokenOffAnswerIsNoAnswer(t *testing.T) {
	t.Parallel()
	post := func(path string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, path) }
	}
	for _, path := range []string{"/pods", "/api-keys"} {
		m := start(t)
		a := attempt(1, credential.Resource{}, false)
		_, err := m.truncating(post(path)).Provision(t.Context(), orgKey, a)
		wantClass(t, err, managed.Transient)
		if a.Settled() || secretForm.MatchString(err.Error()) {
			t.Errorf("settled: %t, error: %v", a.Settled(), err)
		}
		if m.Count(fake.CreateKey) > 1 {
			t.Errorf("%d keys", m.Count(fake.CreateKey))
		}
		m.mustDeprovision(attempt(2, a.Resource(), true))
		m.wantNoPods()
	}
	m := start(t)
	g := m.ready()
	lists := func(r *http.Request) bool { return r.Method == http.MethodGet }
	err := m.truncating(lists).Deprovision(t.Context(), orgKey, attempt(2, g.Resource, false))
	wantClass(t, err, managed.Transient)
}

// An answer that cannot be read may hide a pod that the slot does not name, although it names an
// older one.
func TestAPodThatTheSlotDoesNotNameIsFound(t *testing.T) {
	t.Parallel()
	m := start(t)
	first := m.ready()
	m.mustDeprovision(attempt(2, first.Resource, false)) // as an operator would, by hand
	failed := first.Resource
	failed.KeyID = ""
	m.strike(createPod, -1, fault.Delivered(answer(http.StatusOK, "<html></html>")))
	a := attempt(3, failed, false)
	_, err := m.provider.Provision(t.Context(), orgKey, a)
	wantClass(t, err, managed.Transient)
	m.proxy.SetHook(nil)
	m.mustDeprovision(attempt(4, a.Resource(), !a.Settled()))
	m.wantNoPods()
}

func TestAnEndlessListEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	ctx, cancel := contextFor(t)
	page, err := json.Marshal(map[string]any{"api_keys": []any{}, "next_page_token": "again"})
	if err != nil {
		t.Fatal(err)
	}
	m.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Seq == 10 {
			cancel()
		}
		return answer(http.StatusOK, string(page))
	})
	wantClass(t, m.provider.Sweep(ctx, orgKey, attempt(2, g.Resource, true)), managed.Transient)
}
