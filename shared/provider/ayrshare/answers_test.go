package ayrshare_test

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
	"managed-credentials/shared/provider/ayrshare"
	"managed-credentials/shared/provider/ayrshare/fake"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/flat/flattest"
)

func (s *service) ready(a *managed.Attempt) managed.Grant {
	s.t.Helper()
	g, err := s.provider.Provision(s.t.Context(), orgKey, a)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// wantTitles checks that the profiles of these attempts of alice's are there, and no others.
func (s *service) wantTitles(attempts ...int64) {
	s.t.Helper()
	want := map[string]bool{}
	for _, n := range attempts {
		want[flat.KeyName("alice", "", n)] = true
	}
	for _, p := range s.Profiles() {
		if !want[p.Title] {
			s.t.Errorf("%s is there", p.Title)
		}
		delete(want, p.Title)
	}
	if len(want) > 0 {
		s.t.Errorf("%v are not there", want)
	}
}

func classed(err error) *managed.Error {
	var classed *managed.Error
	if !errors.As(err, &classed) {
		return &managed.Error{}
	}
	return classed
}

func TestAProfileHasWhatIsConfigured(t *testing.T) {
	t.Parallel()
	s := start(t)
	for want, settings := range map[string]ayrshare.Settings{
		`{"title":"managed-credentials/alice/abcd2345/1","hideTopHeader":true}`:                                {},
		`{"title":"managed-credentials/alice/abcd2345/2","disableSocial":["telegram"],"topHeader":"Channels"}`: {DisableSocial: []string{"telegram"}, TopHeader: "Channels"},
	} {
		settings.BaseURL = s.url
		s.provider = newProvider(t, settings)
		number := int64(1)
		if settings.TopHeader != "" {
			number = 2
		}
		a := flattest.Attempt(number, credential.Resource{}, false)
		a.Deployment = "abcd2345"
		s.proxy.Reset()
		g := s.ready(a)
		title := flat.KeyName("alice", "abcd2345", number)
		if g.Resource != (credential.Resource{ID: "alice", KeyID: title, OrgID: fake.Account}) {
			t.Errorf("granted %+v", g.Resource)
		}
		for _, c := range s.proxy.Calls() {
			if c.Method == http.MethodPost && string(c.Body) != want {
				t.Errorf("sent %s", c.Body)
			}
		}
		s.Drop(title)
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]ayrshare.Settings{
		"base_url": {BaseURL: "https://api.ayrshare.com/api"},
		"rate":     {Rate: -1},
	} {
		_, err := ayrshare.New(settings)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	p, err := ayrshare.New(ayrshare.Settings{})
	if err != nil || p.Rate() != 1 {
		t.Errorf("%v: nobody holds back, %v", err, p)
	}
}

// lagging is Ayrshare whose lists are renewed every five minutes, a minute after one was, and a
// while from now: by the provider's clock, which does not stand still, none is overdue.
func lagging(t *testing.T) *service {
	t.Helper()
	s := start(t)
	s.SetSwitches(fake.Switches{ListsLag: fault.Duration(5 * time.Minute)})
	now := s.clock.Now()
	s.clock.Advance(now.Truncate(5 * time.Minute).Add(6 * time.Minute).Sub(now))
	return s
}

// A profile that is too new for the list is neither gone, nor accounted for with what is older.
func TestAListThatLagsProvesNothingByItself(t *testing.T) {
	t.Parallel()
	s := lagging(t)
	g := s.ready(flattest.Attempt(2, credential.Resource{}, true))
	a := flattest.Attempt(3, g.Resource, true)
	err := s.provider.Sweep(t.Context(), orgKey, a)
	if classed(err).Class != managed.Gone || classed(err).Age != 5*time.Minute || a.Settled() {
		t.Errorf("what is not listed yet: %v, %v old, settled: %t", err, classed(err).Age, a.Settled())
	}
	_, err = s.provider.Inspect(t.Context(), orgKey, "alice", g.Resource)
	if classed(err).Class != managed.Gone || classed(err).Age != 5*time.Minute {
		t.Errorf("an audit takes it for gone: %v, %v old", err, classed(err).Age)
	}
	s.wantTitles(2)
}

// What was listed before a lower attempt's create took effect does not account for that.
func TestASweepWaitsUntilTheListHasAllThatIsOlder(t *testing.T) {
	t.Parallel()
	s := lagging(t)
	g := s.ready(flattest.Attempt(2, credential.Resource{}, true))
	s.Seed(fake.Account, flat.KeyName("alice", "", 1)) // late
	s.clock.Advance(5 * time.Minute)                   // 6 after the key was made, which is listed as it was after 4
	a := flattest.Attempt(3, g.Resource, true)
	err := s.provider.Sweep(t.Context(), orgKey, a)
	if classed(err).Class != managed.NotYet || classed(err).RetryAfter != 6*time.Minute || a.Settled() {
		t.Errorf("%v, after %v, settled: %t", err, classed(err).RetryAfter, a.Settled())
	}
	s.clock.Advance(6 * time.Minute)
	a = flattest.Attempt(4, g.Resource, true)
	err = s.provider.Sweep(t.Context(), orgKey, a)
	if err != nil || !a.Settled() {
		t.Errorf("%v, settled: %t", err, a.Settled())
	}
	s.wantTitles(2)
}

// Deletions go by how things are: what is too new for the list is deleted, and what is listed still
// is not there.
func TestADeletionDoesNotGoByAnOldList(t *testing.T) {
	t.Parallel()
	for _, absent := range []int{http.StatusNotFound, http.StatusBadRequest, http.StatusOK} {
		s := lagging(t)
		switches := s.Switches()
		switches.AbsentStatus = absent
		s.SetSwitches(switches)
		g := s.ready(flattest.Attempt(1, credential.Resource{}, false))
		err := s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, g.Resource, false))
		if err != nil {
			t.Errorf("%d: %v", absent, err)
		}
		s.wantTitles()
		err = s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(3, g.Resource, false))
		if classed(err).Class != managed.Gone || classed(err).Age != 5*time.Minute {
			t.Errorf("%d: the look after it: %v, %v old", absent, err, classed(err).Age)
		}
		g = s.ready(flattest.Attempt(4, credential.Resource{}, false))
		s.clock.Advance(5 * time.Minute) // it is listed now
		s.Drop(g.Resource.KeyID)
		err = s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(5, g.Resource, false))
		if classed(err).Class != managed.NotYet || classed(err).RetryAfter != 5*time.Minute {
			t.Errorf("%d: what is listed still: %v, after %v", absent, err, classed(err).RetryAfter)
		}
		s.ready(flattest.Attempt(6, credential.Resource{}, true)) // nobody waits for the list
	}
}

// A discard is done only if it is certain: else the next attempt has to look.
func TestADiscardThatFindsNothingInAnOldListIsNotDone(t *testing.T) {
	t.Parallel()
	s := lagging(t)
	g := s.ready(flattest.Attempt(1, credential.Resource{}, false))
	err := s.provider.Discard(t.Context(), orgKey, g.Resource)
	if err != nil {
		t.Error(err)
	}
	s.wantTitles()
	err = s.provider.Discard(t.Context(), orgKey, g.Resource)
	if classed(err).Class != managed.NotYet {
		t.Errorf("it is not there: %v", err)
	}
}

// What the list shows of a user's networks decides whether a profile may go to mend a key. The
// account's deletion is another matter.
func TestAProfileWithLinkedNetworksIsLeftToAnOperator(t *testing.T) {
	t.Parallel()
	s := start(t)
	first := s.ready(flattest.Attempt(1, credential.Resource{}, false))
	s.Link(first.Resource.KeyID, "instagram")
	_, err := s.provider.Provision(t.Context(), orgKey, flattest.Attempt(2, credential.Resource{}, true))
	if classed(err).Class != managed.Permanent {
		t.Errorf("a take-over: %v", err)
	}
	second := s.Seed(fake.Account, flat.KeyName("alice", "", 3)).Title
	a := flattest.Attempt(4, credential.Resource{ID: "alice", KeyID: second, OrgID: fake.Account}, true)
	err = s.provider.Sweep(t.Context(), orgKey, a)
	if classed(err).Class != managed.Permanent || a.Settled() {
		t.Errorf("a sweep: %v, settled: %t", err, a.Settled())
	}
	s.wantTitles(1, 3)
	err = s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(5, first.Resource, true))
	if err != nil {
		t.Errorf("the account's deletion: %v", err)
	}
	s.wantTitles()
}

// Whatever the status of the answer, the profile is there, and the next attempt has to remove it.
func TestATitleThatThereIsAlreadyIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusOK} {
		s := start(t)
		s.SetSwitches(fake.Switches{DuplicateStatus: status})
		s.Seed(fake.Account, flat.KeyName("alice", "", 1))
		a := flattest.Attempt(1, credential.Resource{}, false)
		_, err := s.provider.Provision(t.Context(), orgKey, a)
		if classed(err).Class != managed.Transient || a.Settled() {
			t.Errorf("%d: %v, settled: %t", status, err, a.Settled())
		}
		s.ready(flattest.Attempt(2, a.Resource(), true))
		s.wantTitles(2)
	}
}

func TestAnAnswerThatIsNotAboutThisProfileIsNotTaken(t *testing.T) {
	t.Parallel()
	for what, set := range map[string]map[string]any{
		"title":     {"title": "managed-credentials/bob/1"},
		"no key":    {"profileKey": ""},
		"no id":     {"refId": ""},
		"no status": {"status": "error"},
	} {
		s := start(t)
		s.proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Method != http.MethodPost {
				return nil
			}
			return fault.Reshape(nil, set)
		})
		a := flattest.Attempt(1, credential.Resource{}, false)
		_, err := s.provider.Provision(t.Context(), orgKey, a)
		if err == nil || a.Settled() {
			t.Errorf("%s: %v, settled: %t", what, err, a.Settled())
		}
		s.proxy.SetHook(nil)
		s.ready(flattest.Attempt(2, a.Resource(), true))
		s.wantTitles(2)
	}
}

func TestADeletionThatDeletedNothingIsNone(t *testing.T) {
	t.Parallel()
	s := start(t)
	g := s.ready(flattest.Attempt(1, credential.Resource{}, false))
	s.SetSwitches(fake.Switches{DeletesNothing: true})
	for _, a := range []*managed.Attempt{flattest.Attempt(2, g.Resource, false), flattest.Attempt(2, credential.Resource{}, true)} {
		err := s.provider.Deprovision(t.Context(), orgKey, a)
		if classed(err).Class != managed.Transient {
			t.Errorf("got %v", err)
		}
	}
}

// A thousand refusals in a day suspend the account: none is answered with another call.
func TestARefusedCallIsNotRepeated(t *testing.T) {
	t.Parallel()
	s := start(t)
	g := s.ready(flattest.Attempt(1, credential.Resource{}, false))
	s.SetSwitches(fake.Switches{CallsPerWindow: 1})
	for name, do := range map[string]func() error{
		"sweep":   func() error { return s.provider.Sweep(t.Context(), orgKey, flattest.Attempt(2, g.Resource, true)) },
		"discard": func() error { return s.provider.Discard(t.Context(), orgKey, g.Resource) },
	} {
		s.proxy.Reset()
		err := do()
		if classed(err).Class != managed.RateLimited || len(s.proxy.Calls()) != 1 {
			t.Errorf("%s: %v, after %d calls", name, err, len(s.proxy.Calls()))
		}
	}
}

// A list that does not say how old it is may be as old as Ayrshare's lists get, and one that was
// not renewed says nothing.
func TestAListSaysHowOldItIs(t *testing.T) {
	t.Parallel()
	now := time.Now()
	stamp := func(from time.Duration) string { return now.Add(from).UTC().Format(time.RFC3339) }
	renewed := func(last, next string) map[string]any { return map[string]any{"lastUpdated": last, "nextUpdate": next} }
	for name, c := range map[string]struct {
		set map[string]any
		age time.Duration
	}{
		"it does":                 {renewed(stamp(-time.Minute), stamp(time.Minute)), 2 * time.Minute},
		"it shows how things are": {renewed("2026-11-30T12:00:00Z", "2026-11-30T12:00:00Z"), 0},
		"not when it was made":    {renewed("", stamp(time.Minute)), 5 * time.Minute},
		"in words":                {renewed("just now", "soon"), 5 * time.Minute},
	} {
		s := start(t)
		s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.Reshape(nil, c.set) })
		err := s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, credential.Resource{}, true))
		if classed(err).Class != managed.Gone || classed(err).Age != c.age {
			t.Errorf("%s: %v, %v old", name, err, classed(err).Age)
		}
	}
	s := start(t)
	s.proxy.SetHook(func(*fault.Call) fault.Fault {
		return fault.Reshape(nil, renewed(stamp(-time.Hour), stamp(-30*time.Minute)))
	})
	err := s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, credential.Resource{}, true))
	if classed(err).Class != managed.Transient {
		t.Errorf("one that was not renewed: %v", err)
	}
}

func TestAListWithoutProfilesIsNoEmptyOne(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(func(c *fault.Call) fault.Fault {
		body, _ := json.Marshal(map[string]any{"status": "success"})
		if c.URL.Path != "/api/profiles" {
			return nil
		}
		return fault.Respond(http.StatusOK, nil, body)
	})
	err := s.provider.Deprovision(t.Context(), orgKey, flattest.Attempt(2, credential.Resource{}, true))
	if classed(err).Class != managed.Transient {
		t.Errorf("got %v", err)
	}
}
