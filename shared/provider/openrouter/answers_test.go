package openrouter_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/flat/flattest"
	"managed-credentials/shared/provider/openrouter"
	"managed-credentials/shared/provider/openrouter/fake"
)

func (r *router) ready(a *managed.Attempt) managed.Grant {
	r.t.Helper()
	g, err := r.provider.Provision(r.t.Context(), orgKey, a)
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}

func TestAKeyHasWhatIsConfigured(t *testing.T) {
	t.Parallel()
	r := start(t)
	a := flattest.Attempt(1, credential.Resource{}, false)
	a.Deployment = "abcd2345"
	g := r.ready(a)
	k := r.Keys()[0]
	if k.Name != "managed-credentials/alice/abcd2345/1" || *k.Limit != 5 || *k.Reset != "monthly" || k.Workspace != fake.Workspace {
		t.Errorf("made %+v", k)
	}
	want := credential.Resource{ID: "alice", KeyID: k.Hash, OrgID: fake.Workspace}
	if g.Resource != want || !g.ExpiresAt.IsZero() {
		t.Errorf("granted %+v until %v", g.Resource, g.ExpiresAt)
	}
	for _, c := range r.proxy.Calls() {
		if c.Method == http.MethodPost && string(c.Body) != `{"name":"managed-credentials/alice/abcd2345/1","limit":5,"limit_reset":"monthly","workspace_id":"`+fake.Workspace+`"}` {
			t.Errorf("sent %s", c.Body)
		}
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := openrouter.Settings{Limit: 5, Workspace: "w"}
	for name, change := range map[string]func(*openrouter.Settings){
		"base_url": func(s *openrouter.Settings) { s.BaseURL = "openrouter.ai" }, "limit": func(s *openrouter.Settings) { s.Limit = 0 },
		"limit_reset": func(s *openrouter.Settings) { s.LimitReset = "hourly" }, "workspace": func(s *openrouter.Settings) { s.Workspace = "" },
		"rate": func(s *openrouter.Settings) { s.Rate = -1 },
	} {
		s := good
		change(&s)
		_, err := openrouter.New(s)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := openrouter.New(good)
	if err != nil {
		t.Error(err)
	}
}

func TestADeletionThatDeletedNothingIsNone(t *testing.T) {
	t.Parallel()
	r := start(t)
	g := r.ready(flattest.Attempt(1, credential.Resource{}, false))
	r.SetSwitches(fake.Switches{DeletedFalse: true})
	for _, a := range []*managed.Attempt{flattest.Attempt(2, g.Resource, false), flattest.Attempt(2, credential.Resource{}, true)} {
		err := r.provider.Deprovision(t.Context(), orgKey, a)
		if flattest.ClassOf(err) != managed.Transient {
			t.Errorf("got %v", err)
		}
	}
	err := r.provider.Discard(t.Context(), orgKey, g.Resource)
	if flattest.ClassOf(err) != managed.Transient {
		t.Errorf("discard: %v", err)
	}
}

func TestAKeyThatIsNotListedIsNotGone(t *testing.T) {
	t.Parallel()
	r := start(t)
	g := r.ready(flattest.Attempt(1, credential.Resource{}, false))
	r.SetSwitches(fake.Switches{ListHides: []string{g.Resource.KeyID}})
	err := r.provider.Sweep(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
	if flattest.ClassOf(err) != managed.Transient {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerAboutAnotherKeyIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]map[string]any{
		"name": {"name": "managed-credentials/bob/1"}, "workspace": {"workspace_id": "w-2"}, "no id": {"hash": ""}, "null id": {"hash": nil},
	} {
		r := start(t)
		r.proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Method != http.MethodPost {
				return nil
			}
			key, err := json.Marshal(map[string]any{"key": "sk-or-v1-1", "data": with(map[string]any{
				"hash": "h", "name": flat.KeyName("alice", "", 1), "workspace_id": fake.Workspace, "created_at": "2026-01-02T03:04:05Z",
			}, change)})
			if err != nil {
				t.Error(err)
			}
			return fault.Delivered(fault.Respond(http.StatusCreated, nil, key))
		})
		a := flattest.Attempt(1, credential.Resource{}, false)
		_, err := r.provider.Provision(t.Context(), orgKey, a)
		if err == nil || a.Settled() || a.Resource().OrgID != fake.Workspace || a.Resource().KeyID != "" {
			t.Errorf("%s: %v, settled: %t, the slot names %+v", name, err, a.Settled(), a.Resource())
		}
		r.proxy.SetHook(nil)
		r.ready(flattest.Attempt(2, a.Resource(), true))
		if len(r.Keys()) != 1 {
			t.Errorf("%s: the next attempt leaves %+v", name, r.Keys())
		}
	}
}

// with is all with what is changed.
func with(all, changed map[string]any) map[string]any {
	for name, value := range changed {
		all[name] = value
	}
	return all
}

// A key that is made in another workspace than configured now is found all the same.
func TestAKeyInAWorkspaceOfBeforeIsFound(t *testing.T) {
	t.Parallel()
	r := start(t)
	g := r.ready(flattest.Attempt(1, credential.Resource{}, false))
	r.AcceptManagementKey(fake.ManagementKey, fake.Account, "w-2")
	r.provider = newProvider(t, openrouter.Settings{BaseURL: r.url, Limit: 5, Workspace: "w-2"})
	err := r.provider.Sweep(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
	if err != nil {
		t.Errorf("sweep: %v", err)
	}
	a := flattest.Attempt(2, credential.Resource{}, true)
	a.Organization = fake.Workspace
	_, err = r.provider.Provision(t.Context(), orgKey, a)
	if !errors.Is(err, managed.ErrOrganization) {
		t.Errorf("nobody has accepted the other workspace: %v", err)
	}
	err = r.provider.Deprovision(t.Context(), orgKey, a)
	if err != nil || len(r.Keys()) > 0 {
		t.Errorf("%v: left %+v", err, r.Keys())
	}
}

func TestTwoDeploymentsInOneAccountLeaveEachOthersKeysAlone(t *testing.T) {
	t.Parallel()
	r := start(t)
	theirs := flattest.Attempt(1, credential.Resource{}, false)
	theirs.Deployment = "zzzz2345"
	other := r.ready(theirs)
	for _, do := range []func(*managed.Attempt) error{
		func(a *managed.Attempt) error { _, err := r.provider.Provision(t.Context(), orgKey, a); return err },
		func(a *managed.Attempt) error { return r.provider.Deprovision(t.Context(), orgKey, a) },
	} {
		a := flattest.Attempt(2, credential.Resource{}, true)
		a.Deployment = "abcd2345"
		err := do(a)
		_, works := r.Identify(other.Key.Reveal())
		if err != nil || !works {
			t.Errorf("%v, the other deployment's key works: %t", err, works)
		}
	}
	holdings, _, err := r.provider.Enumerate(t.Context(), orgKey, "")
	if err != nil || len(holdings) != 1 || holdings[0].Deployment != "zzzz2345" || len(holdings[0].Keys) != 1 {
		t.Errorf("%v: %+v", err, holdings)
	}
}

func TestAnOrdinaryKeyIsRejected(t *testing.T) {
	t.Parallel()
	r := start(t)
	g := r.ready(flattest.Attempt(1, credential.Resource{}, false))
	err := r.provider.Deprovision(t.Context(), g.Key, flattest.Attempt(2, g.Resource, false))
	if flattest.ClassOf(err) != managed.Rejected {
		t.Errorf("got %v", err)
	}
}

func TestTooManyCallsAreNoFailure(t *testing.T) {
	t.Parallel()
	for _, curt := range []bool{false, true} {
		r := start(t)
		g := r.ready(flattest.Attempt(1, credential.Resource{}, false))
		r.SetSwitches(fake.Switches{CallsPerSecond: 1, Curt: curt})
		r.clock.Advance(time.Second)
		ctx := t.Context()
		err := r.provider.Discard(ctx, orgKey, credential.Resource{KeyID: "none"})
		if flattest.ClassOf(err) != managed.RateLimited {
			t.Errorf("got %v", err)
		}
		r.SetSwitches(fake.Switches{})
		err = r.provider.Deprovision(ctx, orgKey, flattest.Attempt(2, g.Resource, false))
		if err != nil {
			t.Error(err)
		}
	}
}

func TestWhenTheManagementKeyExpires(t *testing.T) {
	t.Parallel()
	r := start(t)
	at, err := r.provider.OrgKeyExpires(t.Context(), orgKey)
	if err != nil || !at.IsZero() {
		t.Errorf("%v: %v", err, at)
	}
	want := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	r.ExpireManagementKey(fake.ManagementKey, want)
	at, err = r.provider.OrgKeyExpires(t.Context(), orgKey)
	if err != nil || !at.Equal(want) {
		t.Errorf("%v: %v", err, at)
	}
	_, err = r.provider.OrgKeyExpires(t.Context(), credential.NewSecret("sk-or-v1-none"))
	if flattest.ClassOf(err) != managed.Rejected {
		t.Errorf("got %v", err)
	}
}

func TestAnAuditReadsEveryListOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.AcceptManagementKey(fake.ManagementKey, fake.Account, "w-2")
	r.SetSwitches(fake.Switches{PageSize: 10})
	r.ready(flattest.Attempt(1, credential.Resource{}, false))
	r.Seed(fake.Key{Name: flat.KeyName("alice", "", 2), Workspace: "w-2"})
	for range 25 {
		r.Seed(fake.Key{Name: "somebody's"})
	}
	var found []managed.Holding
	for cursor, more := "", true; more; more = cursor != "" {
		page, next, err := r.provider.Enumerate(t.Context(), orgKey, cursor)
		if err != nil {
			t.Fatal(err)
		}
		found, cursor = append(found, page...), next
	}
	if len(found) != 2 || found[0].User != "alice" || found[1].Resource.OrgID != "w-2" || found[1].Keys[0].Attempt != 2 {
		t.Errorf("found %+v", found)
	}
	_, _, err := r.provider.Enumerate(t.Context(), orgKey, "x")
	if flattest.ClassOf(err) != managed.Permanent {
		t.Errorf("a cursor that nobody gave: %v", err)
	}
}
