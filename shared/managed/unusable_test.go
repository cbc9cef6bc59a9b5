package managed_test

import (
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/flat/flattest"
	"managed-credentials/shared/provider/openrouter"
	"managed-credentials/shared/provider/openrouter/fake"
	"managed-credentials/shared/store"
)

// withSpending is a world whose only provider is OpenRouter, where a key may be switched off, or
// spend its limit. Alice has one.
func withSpending(t *testing.T) (*managedtest.World, *fake.Server) {
	t.Helper()
	var clock *managedtest.Clock
	router := fake.New(fake.Config{Now: func() time.Time { return clock.Now() }})
	_, url := flattest.Serve(t, router)
	w := managedtest.New(t, managedtest.Options{Providers: func(string) []managed.Provider {
		p, err := openrouter.New(openrouter.Settings{BaseURL: url, Limit: 5, Workspace: fake.Workspace})
		if err != nil {
			t.Fatal(err)
		}
		return []managed.Provider{p}
	}})
	clock = w.Clock
	w.SetOrgKeys(`{"open_router":"` + fake.ManagementKey + `"}`)
	list(t, w.Engine(), alice)
	if len(router.Keys()) != 1 {
		t.Fatalf("the keys are %+v\n%s", router.Keys(), w.Logs())
	}
	return w, router
}

// checked has the slot checked, as by an audit, and returns it.
func checked(t *testing.T, w *managedtest.World) store.Slot {
	t.Helper()
	slot := slotAt(t, w, openrouter.Name)
	err := w.Store.Postpone(t.Context(), slot, store.Wait{State: slot.State, Reason: store.ReasonAudit, DueAt: w.Clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	return slotAt(t, w, openrouter.Name)
}

func slotAt(t *testing.T, w *managedtest.World, provider string) store.Slot {
	t.Helper()
	slot, _, err := w.Slot(alice, provider)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func TestAKeyThatDoesNotWorkIsSaidToBeOneAndNotMadeAnew(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]struct{ breaks, mends func(*fake.Key) }{
		"switched off": {func(k *fake.Key) { k.Disabled = true }, func(k *fake.Key) { k.Disabled = false }},
		"spent":        {func(k *fake.Key) { k.Usage = 5 }, func(k *fake.Key) { k.Usage = 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, router := withSpending(t)
			id := router.Keys()[0].Hash
			router.Change(id, broken.breaks)
			s := checked(t, w)
			if s.State != store.Ready || s.Reason != string(managed.Unusable) || !s.Settled() || s.Tries != 0 || s.DueAt.Before(w.Clock.Now().Add(3*time.Hour)) {
				t.Errorf("the slot is %+v", s)
			}
			l := list(t, w.Engine(), alice)
			if len(l.Credentials) != 1 || len(l.Standings) != 1 || l.Standings[0].State != managed.StandingReady || !l.Standings[0].Unusable {
				t.Errorf("it is shown as %+v", l)
			}
			if keys := router.Keys(); len(keys) != 1 || keys[0].Hash != id {
				t.Errorf("the keys are %+v", keys)
			}
			if !strings.Contains(w.Logs(), `"KeysUnusable":1`) {
				t.Error("it is not counted")
			}
			router.Change(id, broken.mends)
			w.Clock.Advance(s.DueAt.Sub(w.Clock.Now()) + time.Millisecond)
			reconcile(t, w.Engine())
			s = slotAt(t, w, openrouter.Name)
			if s.Reason != "" || !s.DueAt.IsZero() || list(t, w.Engine(), alice).Standings[0].Unusable {
				t.Errorf("when it works again the slot is %+v", s)
			}
		})
	}
}

func TestARotationMendsAKeyThatDoesNotWork(t *testing.T) {
	t.Parallel()
	w, router := withSpending(t)
	old := router.Keys()[0].Hash
	router.Change(old, func(k *fake.Key) { k.Disabled = true })
	checked(t, w)
	err := w.Engine().Rotate(t.Context(), managed.Rotation{User: alice, Provider: openrouter.Name, Order: managed.Order{By: "the tests", Reason: "it is off"}})
	if err != nil {
		t.Fatal(err)
	}
	w.Converge()
	keys := router.Keys()
	s := slotAt(t, w, openrouter.Name)
	if len(keys) != 1 || keys[0].Hash == old || s.Resource.KeyID != keys[0].Hash || s.Reason != "" {
		t.Errorf("the keys are %+v, the slot %+v", keys, s)
	}
	if l := list(t, w.Engine(), alice); l.Standings[0].Unusable || l.Credentials[0].ID != credential.ManagedID(openrouter.Name, alice) {
		t.Errorf("it is shown as %+v", l)
	}
}

// The world's keys may spend five dollars, once.
func TestARotationLiftsNoLimit(t *testing.T) {
	t.Parallel()
	for _, spent := range []float64{0, 3.5, 5, 6} {
		w, router := withSpending(t)
		router.Change(router.Keys()[0].Hash, func(k *fake.Key) { k.Usage = spent })
		err := w.Engine().Rotate(t.Context(), managed.Rotation{User: alice, Provider: openrouter.Name, Order: managed.Order{By: "the tests", Reason: "a drill"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.Clock.Advance(time.Second)
			reconcile(t, w.Engine())
		}
		keys := router.Keys()
		if len(keys) != 1 || keys[0].Limit == nil || *keys[0].Limit != max(0, 5-spent) || keys[0].Usage != 0 {
			t.Errorf("after %v dollars the keys are %+v", spent, keys)
		}
	}
}

// What a rotation has replaced goes in its time, also if the new key is switched off meanwhile.
func TestAKeyThatDoesNotWorkKeepsNoOtherAlive(t *testing.T) {
	t.Parallel()
	w, router := withSpending(t)
	old := router.Keys()[0].Hash
	err := w.Engine().Rotate(t.Context(), managed.Rotation{User: alice, Provider: openrouter.Name, Overlap: time.Hour, Order: managed.Order{By: "the tests", Reason: "a drill"}})
	if err != nil {
		t.Fatal(err)
	}
	reconcile(t, w.Engine())
	s := slotAt(t, w, openrouter.Name)
	if s.Retiring.KeyID != old {
		t.Fatalf("the slot is %+v", s)
	}
	router.Change(s.Resource.KeyID, func(k *fake.Key) { k.Disabled = true })
	if s = checked(t, w); s.DueAt.After(s.Retiring.At) || s.Reason != string(managed.Unusable) {
		t.Errorf("in the overlap the slot is %+v", s)
	}
	w.Clock.Advance(s.DueAt.Sub(w.Clock.Now()) + time.Millisecond)
	reconcile(t, w.Engine())
	if s = slotAt(t, w, openrouter.Name); s.Retiring.KeyID != "" || len(router.Keys()) != 1 || router.Keys()[0].Hash == old {
		t.Errorf("after the overlap the keys are %+v, and the slot %+v", router.Keys(), s)
	}
}

// One that does not work waits for another look, which is no reason for an audit to pass it by.
func TestAnAuditFindsThatAKeyWhichDoesNotWorkIsGone(t *testing.T) {
	t.Parallel()
	w, router := withSpending(t)
	id := router.Keys()[0].Hash
	router.Change(id, func(k *fake.Key) { k.Disabled = true })
	checked(t, w)
	router.Drop(id)
	r, err := w.Engine().Audit(t.Context(), managed.AuditRequest{Provider: openrouter.Name})
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != managed.MissingResource {
		t.Errorf("%v: the audit finds %+v", err, r)
	}
}
