package openai_test

import (
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
	"managed-credentials/shared/provider/openai"
	"managed-credentials/shared/provider/openai/fake"
)

func (o *service) ready(a *managed.Attempt) managed.Grant {
	o.t.Helper()
	g, err := o.provider.Provision(o.t.Context(), orgKey, a)
	if err != nil {
		o.t.Fatal(err)
	}
	return g
}

// wantNothing checks that nothing of alice's is left, and that nothing can be opened.
func (o *service) wantNothing(secrets ...credential.Secret) {
	o.t.Helper()
	if len(o.subject().Resources("alice")) > 0 {
		o.t.Errorf("left %+v", o.Accounts())
	}
	for _, secret := range secrets {
		_, works := o.Identify(secret.Reveal())
		if works {
			o.t.Error("a key still works")
		}
	}
}

func TestAnAccountHasWhatIsConfigured(t *testing.T) {
	t.Parallel()
	o := start(t)
	o.provider = newProvider(t, openai.Settings{BaseURL: o.url, Project: fake.Project, ExpiresInSeconds: 60})
	a := flattest.Attempt(1, credential.Resource{}, false)
	a.Deployment = "abcd2345"
	g := o.ready(a)
	account, key := o.Accounts()[0], o.Keys()[0]
	if account.Name != "managed-credentials/alice/abcd2345/1" || account.Project != fake.Project || key.Account != account.ID {
		t.Errorf("made %+v and %+v", account, key)
	}
	want := credential.Resource{ID: "alice", KeyID: account.ID, OrgID: fake.Project}
	if g.Resource != want || !g.ExpiresAt.Equal(key.ExpiresAt) || key.ExpiresAt.IsZero() {
		t.Errorf("granted %+v until %v", g.Resource, g.ExpiresAt)
	}
	for _, c := range o.proxy.Calls() {
		if c.Method == http.MethodPost && string(c.Body) != `{"name":"managed-credentials/alice/abcd2345/1","expires_in_seconds":60}` {
			t.Errorf("sent %s", c.Body)
		}
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := openai.Settings{Project: "proj_1", FormerProjects: []string{"proj_0"}, ExpiresInSeconds: 3600}
	for name, change := range map[string]func(*openai.Settings){
		"base_url":           func(s *openai.Settings) { s.BaseURL = "https://api.openai.com/v1" },
		"project ":           func(s *openai.Settings) { s.Project = "" },
		"former_projects":    func(s *openai.Settings) { s.FormerProjects = []string{"proj/1"} },
		"former_projects ":   func(s *openai.Settings) { s.FormerProjects = []string{"proj_1"} },
		"expires_in_seconds": func(s *openai.Settings) { s.ExpiresInSeconds = -1 },
		"rate":               func(s *openai.Settings) { s.Rate = -1 },
	} {
		s := good
		change(&s)
		_, err := openai.New(s)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := openai.New(good)
	if err != nil {
		t.Error(err)
	}
}

func TestADeletionThatDeletedNothingIsNone(t *testing.T) {
	t.Parallel()
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	o.SetSwitches(fake.Switches{DeletedFalse: true})
	for _, a := range []*managed.Attempt{flattest.Attempt(2, g.Resource, false), flattest.Attempt(2, credential.Resource{}, true)} {
		err := o.provider.Deprovision(t.Context(), orgKey, a)
		if flattest.ClassOf(err) != managed.Transient {
			t.Errorf("got %v", err)
		}
	}
}

// An account may lose what opens it, and a key expires. Both are found when somebody looks, and
// made anew.
func TestAnAccountThatNothingOpensIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*service) managed.Grant{
		"its key was deleted": func(o *service) managed.Grant {
			g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
			o.DropKeys(g.Resource.KeyID)
			return g
		},
		"its key has expired": func(o *service) managed.Grant {
			o.clock.Advance(-time.Hour)
			g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
			o.clock.Advance(time.Hour)
			return g
		},
	} {
		o := start(t)
		o.provider = newProvider(t, openai.Settings{BaseURL: o.url, Project: fake.Project, ExpiresInSeconds: 1800})
		g := prepare(o)
		a := flattest.Attempt(2, g.Resource, true)
		err := o.provider.Sweep(t.Context(), orgKey, a)
		if flattest.ClassOf(err) != managed.Gone || a.Settled() || len(o.Accounts()) != 1 {
			t.Errorf("%s: %v, settled: %t", name, err, a.Settled())
		}
		fresh := o.ready(flattest.Attempt(3, g.Resource, true))
		err = o.provider.Sweep(t.Context(), orgKey, flattest.Attempt(4, fresh.Resource, true))
		if err != nil || len(o.Accounts()) != 1 || o.Accounts()[0].ID != fresh.Resource.KeyID {
			t.Errorf("%s: %v: made %+v, and there are %+v", name, err, fresh.Resource, o.Accounts())
		}
	}
}

func TestAKeyThatOutlivesItsAccountGoesToo(t *testing.T) {
	t.Parallel()
	for _, inherited := range []bool{false, true} {
		o := start(t)
		g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
		theirs := o.Seed(fake.Project, "somebody's")
		o.SetSwitches(fake.Switches{KeysOutlive: true})
		_ = o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, inherited))
		err := o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(3, g.Resource, false)) // the look after a deletion
		if err != nil && flattest.ClassOf(err) != managed.Gone {
			t.Error(err)
		}
		o.wantNothing(g.Key)
		if len(o.Keys()) != 1 || o.Keys()[0].Account != theirs {
			t.Errorf("left %+v", o.Keys())
		}
	}
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	o.SetSwitches(fake.Switches{KeysOutlive: true, KeysStay: true})
	err := o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
	if flattest.ClassOf(err) != managed.Permanent {
		t.Errorf("a key that cannot be deleted: %v", err)
	}
}

// The settings name another project now. What is in the former one goes on working, and is revoked
// there.
func TestAnAccountInAFormerProjectIsFound(t *testing.T) {
	t.Parallel()
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	o.AcceptAdminKey(fake.AdminKey, fake.Organization, "proj_new")
	o.provider = newProvider(t, openai.Settings{BaseURL: o.url, Project: "proj_new", FormerProjects: []string{fake.Project}})
	err := o.provider.Sweep(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
	if err != nil {
		t.Errorf("sweep: %v", err)
	}
	keys, err := o.provider.Inspect(t.Context(), orgKey, "alice", g.Resource)
	if err != nil || len(keys) != 1 || keys[0].ID != g.Resource.KeyID {
		t.Errorf("inspect: %v: %+v", err, keys)
	}
	a := flattest.Attempt(2, credential.Resource{}, true)
	a.Organization = fake.Project
	_, err = o.provider.Provision(t.Context(), orgKey, a)
	if !errors.Is(err, managed.ErrOrganization) {
		t.Errorf("nobody has accepted the other project: %v", err)
	}
	err = o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(3, g.Resource, false))
	if err != nil {
		t.Error(err)
	}
	o.wantNothing(g.Key)
}

func TestAProjectThatNobodyNamedProvesNothing(t *testing.T) {
	t.Parallel()
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	o.AcceptAdminKey(fake.AdminKey, fake.Organization, "proj_new")
	o.Drop(g.Resource.KeyID)
	o.provider = newProvider(t, openai.Settings{BaseURL: o.url, Project: "proj_new"})
	err := o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, false))
	if flattest.ClassOf(err) != managed.Foreign {
		t.Errorf("got %v", err)
	}
}

func TestWhatWasInAnArchivedProjectIsGone(t *testing.T) {
	t.Parallel()
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	o.Archive(fake.Project)
	for name, do := range map[string]func() error{
		"sweep": func() error { return o.provider.Sweep(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true)) },
		"deprovision": func() error {
			return o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
		},
	} {
		err := do()
		if flattest.ClassOf(err) != managed.Gone {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := flattest.Attempt(3, credential.Resource{}, false)
	_, err := o.provider.Provision(t.Context(), orgKey, a)
	if flattest.ClassOf(err) != managed.Permanent || !a.Settled() {
		t.Errorf("a create there: %v, settled: %t", err, a.Settled())
	}
}

func TestAListThatLagsIsNotBelieved(t *testing.T) {
	t.Parallel()
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	o.SetSwitches(fake.Switches{ListsLag: time.Minute})
	err := o.provider.Sweep(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
	if flattest.ClassOf(err) != managed.Transient {
		t.Errorf("what is not listed yet: %v", err)
	}
	o.clock.Advance(2 * time.Minute)
	err = o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true))
	if flattest.ClassOf(err) != managed.Transient {
		t.Errorf("what is listed still: %v", err)
	}
	o.clock.Advance(2 * time.Minute)
	err = o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(3, g.Resource, true))
	if flattest.ClassOf(err) != managed.Gone {
		t.Errorf("what is listed no longer: %v", err)
	}
}

// A page that begins after what has gone is an error that passes, never the end of the list.
func TestAListThatLosesItsPlaceIsReadAgain(t *testing.T) {
	t.Parallel()
	o := start(t)
	for range 5 {
		o.Seed(fake.Project, "somebody's")
	}
	o.SetSwitches(fake.Switches{PageSize: 2, LostCursors: true})
	o.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if after := c.URL.Query().Get("after"); after != "" {
			o.Drop(after)
		}
		return nil
	})
	_, err := o.provider.Provision(t.Context(), orgKey, flattest.Attempt(2, credential.Resource{}, true))
	if flattest.ClassOf(err) != managed.Transient {
		t.Errorf("got %v", err)
	}
	o.proxy.SetHook(nil)
	o.ready(flattest.Attempt(3, credential.Resource{}, true))
}

func TestAnAnswerAboutAnotherAccountIsNotTaken(t *testing.T) {
	t.Parallel()
	const body = `{"id":"svc_acct_1","name":"NAME","created_at":1,"api_key":{"value":"VALUE"}}`
	name := flat.KeyName("alice", "", 1)
	for what, answer := range map[string]string{
		"name":      strings.NewReplacer("NAME", "managed-credentials/bob/1", "VALUE", "sk-1").Replace(body),
		"no key":    strings.NewReplacer("NAME", name, `{"value":"VALUE"}`, "null").Replace(body),
		"no secret": strings.NewReplacer("NAME", name, "VALUE", "").Replace(body),
		"no id":     strings.NewReplacer("NAME", name, "VALUE", "sk-1", "svc_acct_1", "").Replace(body),
	} {
		o := start(t)
		o.proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Method != http.MethodPost {
				return nil
			}
			return fault.Delivered(fault.Respond(http.StatusOK, nil, []byte(answer)))
		})
		a := flattest.Attempt(1, credential.Resource{}, false)
		_, err := o.provider.Provision(t.Context(), orgKey, a)
		if err == nil || a.Settled() || a.Resource().OrgID != fake.Project {
			t.Errorf("%s: %v, settled: %t, the slot names %+v", what, err, a.Settled(), a.Resource())
		}
		o.proxy.SetHook(nil)
		o.ready(flattest.Attempt(2, a.Resource(), true))
		if len(o.Accounts()) != 1 {
			t.Errorf("%s: the next attempt leaves %+v", what, o.Accounts())
		}
	}
}

func TestWhatARefusalSaysDecidesItsClass(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]managed.Class{
		`{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`: managed.Quota,
		`{"error":{"message":"m","type":"requests","param":null,"code":"rate_limit_exceeded"}}`:          managed.RateLimited,
		`{"error":{"message":"m","type":"sk-admin-ff","param":null,"code":"a b"}}`:                       managed.RateLimited,
	} {
		o := start(t)
		o.proxy.SetHook(func(*fault.Call) fault.Fault {
			return fault.Respond(http.StatusTooManyRequests, http.Header{"X-Request-Id": {"req 1"}}, []byte(body))
		})
		_, err := o.provider.Provision(t.Context(), orgKey, flattest.Attempt(1, credential.Resource{}, false))
		if flattest.ClassOf(err) != want || strings.Contains(err.Error(), "sk-admin") || strings.Contains(err.Error(), "req 1") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestTooManyCallsAreNoFailure(t *testing.T) {
	t.Parallel()
	for _, curt := range []bool{false, true} {
		o := start(t)
		g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
		o.SetSwitches(fake.Switches{CallsPerSecond: 1, Curt: curt})
		o.clock.Advance(time.Second)
		err := o.provider.Discard(t.Context(), orgKey, credential.Resource{KeyID: "none", OrgID: fake.Project})
		if flattest.ClassOf(err) != managed.RateLimited {
			t.Errorf("got %v", err)
		}
		o.SetSwitches(fake.Switches{})
		err = o.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, false))
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAnOrdinaryKeyIsRejected(t *testing.T) {
	t.Parallel()
	o := start(t)
	g := o.ready(flattest.Attempt(1, credential.Resource{}, false))
	err := o.provider.Deprovision(t.Context(), g.Key, flattest.Attempt(2, g.Resource, false))
	if flattest.ClassOf(err) != managed.Rejected {
		t.Errorf("got %v", err)
	}
}
