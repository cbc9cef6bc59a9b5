package managed_test

import (
	"context"
	"errors"
	"log/slog"

	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// parkedWorld is one in which the revocation of alice's credential is parked: AgentMail's org key
// has been taken away.
func parkedWorld(t *testing.T) *managedtest.World {
	t.Helper()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	w.SetOrgKeys(`{}`)
	remove(t, w.Engine(), alice)
	return w
}

func TestParkedRevocationsAreListed(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	all, more, err := w.Engine().Parked(t.Context())
	if err != nil || more || len(all) != 1 {
		t.Fatalf("%v %v %+v", err, more, all)
	}
	s := slot(t, w, alice)
	want := managed.ParkedRevocation{User: alice, Provider: managedtest.Provider, Resource: s.Resource.ID,
		Reason: "no org key is configured", RetryAt: s.DueAt}
	if all[0] != want {
		t.Errorf("got %+v, want %+v", all[0], want)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	all, more, err = w.Engine().Parked(short)
	if err != nil || !more || len(all) > 0 {
		t.Errorf("without time for all: %v %v %+v", err, more, all)
	}
}

func TestAParkedRevocationIsForcedOnRecord(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	err := w.Engine().Force(t.Context(), alice, managedtest.Provider, managed.Order{By: "Ops", Reason: "removed in the console"})
	if err != nil {
		t.Fatal(err)
	}
	if s := slot(t, w, alice); s.State != store.Absent {
		t.Errorf("the slot is %+v", s)
	}
	for _, want := range []string{`"audit":true,"by":"Ops","reason":"removed in the console","user":"alice"`, `"RevocationsForced":1`} {
		if !strings.Contains(w.Logs(), want) {
			t.Errorf("%s is not in\n%s", want, w.Logs())
		}
	}
	w.Converge()
	if !w.NextDue().IsZero() {
		t.Error("there is still work due")
	}
}

// deaf has a log that can be written to no more.
func deaf(c *managed.Config) { c.Log = telemetry.Logger(full{}, slog.LevelDebug) }

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestNothingIsForcedWithoutARecord(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	before := w.Dump()
	err := w.EngineWith(deaf).Force(t.Context(), alice, managedtest.Provider, managed.Order{By: "Ops", Reason: "removed in the console"})
	if err == nil || !strings.Contains(err.Error(), "writing the audit line") {
		t.Errorf("it was forced: %v", err)
	}
	if w.Dump() != before || strings.Contains(w.Logs(), `"RevocationsForced":1`) {
		t.Errorf("the table was\n%s\nand is\n%s", before, w.Dump())
	}
}

func TestOnlyWhatIsParkedIsForced(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	for _, user := range []string{bob, "nobody"} {
		err := w.Engine().Force(t.Context(), user, managedtest.Provider, managed.Order{By: "Ops", Reason: "by mistake"})
		if !errors.Is(err, managed.ErrNotParked) {
			t.Errorf("%s: %v", user, err)
		}
	}
	s := slot(t, w, alice)
	claimed, err := w.Store.ClaimDead(t.Context(), s, w.Clock.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	err = w.Engine().Force(t.Context(), alice, managedtest.Provider, managed.Order{By: "Ops", Reason: "while somebody works on it"})
	if !errors.Is(err, managed.ErrNotParked) || slot(t, w, alice).Owner != claimed.Owner {
		t.Errorf("%v, the slot is %+v", err, slot(t, w, alice))
	}
	err = w.Store.Release(t.Context(), claimed, store.Release{State: store.Revoking, Settled: true, DueAt: w.Clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Engine().Force(t.Context(), alice, managedtest.Provider, managed.Order{By: "Ops", Reason: "not parked yet"})
	if !errors.Is(err, managed.ErrNotParked) {
		t.Error(err)
	}
	if !strings.Contains(w.Dump(), "sk=CRED#agent_mail#"+credential.ManagedID(managedtest.Provider, bob)) || strings.Contains(w.Logs(), "revocation forced") {
		t.Errorf("something was forced:\n%s", w.Dump())
	}
}

// A key that is back is known to be within ten seconds, and what waited for it is due at once: of
// the deleted and of the living.
func TestWhatWaitsForAnOrgKeyIsDueWhenItIsThere(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fake.Code("internal_error")})
	list(t, w.Engine(), bob)
	w.Heal()
	process := w.Engine()
	w.SetOrgKeys(`{}`)
	remove(t, process, alice)
	w.Clock.Advance(3 * time.Minute)
	reconcile(t, process)
	for _, user := range []string{alice, bob} {
		if s := slot(t, w, user); s.Reason != store.ReasonNoKey || s.DueAt.Before(w.Clock.Now().Add(20*time.Minute)) {
			t.Errorf("without a key the slot is %+v", s)
		}
	}
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `"}`)
	for _, e := range []*managed.Engine{process, w.Engine()} { // one that saw that there was none, and one that did not
		w.Clock.Advance(11 * time.Second)
		reconcile(t, e)
	}
	w.CheckExactlyOne(bob)
	w.CheckNoPod(alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

// A worker that was killed leaves its name in the slot, which then waits for the key like any
// other.
func TestWhatAKilledWorkerHeldIsDueWhenTheOrgKeyIsThere(t *testing.T) {
	t.Parallel()
	for name, asked := range map[string]bool{"by itself": false, "on request": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fake.Code("internal_error")})
			list(t, w.Engine(), bob)
			w.Heal()
			w.SetOrgKeys(`{}`)
			remove(t, w.Engine(), alice)
			w.Clock.Advance(3 * time.Minute)
			lease := w.Clock.Now().Add(time.Minute)
			_, err := w.Store.Claim(t.Context(), []store.Slot{slot(t, w, bob)}, store.Provisioning, lease)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Store.ClaimDead(t.Context(), slot(t, w, alice), lease)
			if err != nil {
				t.Fatal(err)
			}
			w.Clock.Advance(2 * time.Minute)
			reconcile(t, w.Engine())
			for _, user := range []string{alice, bob} {
				if s := slot(t, w, user); s.Reason != store.ReasonNoKey || s.DueAt.Before(w.Clock.Now().Add(20*time.Minute)) {
					t.Errorf("without a key the slot is %+v", s)
				}
			}
			w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `"}`)
			if asked {
				retried, _, err := w.Engine().Retry(t.Context(), managed.RetryRequest{By: "Ops"})
				if retried != 2 || err != nil {
					t.Errorf("%d are retried, %v", retried, err)
				}
			}
			reconcile(t, w.Engine())
			w.CheckExactlyOne(bob)
			w.CheckNoPod(alice)
			w.Converge()
			w.CheckNothingLeft(alice)
		})
	}
}

func TestWhatWaitsIsTriedAgainOnRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request managed.RetryRequest
		want    []string
	}{
		"all":              {managed.RetryRequest{By: "Ops"}, []string{alice, bob, "carol"}},
		"of one provider":  {managed.RetryRequest{By: "Ops", Provider: managedtest.Provider}, []string{alice, bob, "carol"}},
		"of one user":      {managed.RetryRequest{By: "Ops", User: alice}, []string{alice}},
		"of one, at one":   {managed.RetryRequest{By: "Ops", User: bob, Provider: managedtest.Provider}, []string{bob}},
		"of nobody's":      {managed.RetryRequest{By: "Ops", User: "nobody"}, nil},
		"of who is served": {managed.RetryRequest{By: "Ops", User: "dave"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			all := []string{alice, bob, "carol", "dave"}
			for _, user := range all {
				if user == "carol" {
					w.Mail.Inject(fault.Rule{About: user, Fault: fake.Code("validation_error")})
				}
				list(t, w.Engine(), user)
			}
			w.Mail.Inject(fault.Rule{About: bob, Fault: fake.Code("internal_error")})
			remove(t, w.Engine(), bob)
			w.SetOrgKeys(`{}`)
			remove(t, w.Engine(), alice)
			retried, more, err := w.Engine().Retry(t.Context(), c.request)
			if err != nil || more || retried != len(c.want) {
				t.Errorf("%d retried, %v, %v", retried, more, err)
			}
			var due []string
			for _, user := range all {
				if s := slot(t, w, user); !s.DueAt.IsZero() && !s.DueAt.After(w.Clock.Now()) {
					due = append(due, user)
				}
			}
			if !slices.Equal(due, c.want) || strings.Count(w.Logs(), `"retry","audit":true,"by":"Ops"`) != len(c.want) {
				t.Errorf("due are %v, want %v:\n%s", due, c.want, w.Logs())
			}
		})
	}
}

func TestAProviderThatIsNotRegisteredIsNotRetried(t *testing.T) {
	t.Parallel()
	_, _, err := parkedWorld(t).Engine().Retry(t.Context(), managed.RetryRequest{By: "Ops", Provider: "github"})
	if !errors.Is(err, credential.ErrNoProvider) {
		t.Error(err)
	}
}
