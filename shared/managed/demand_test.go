package managed_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// optional is an engine whose provider is in this mode, and whose users may give theirs up.
func optional(w *managedtest.World, mode managed.Mode) *managed.Engine {
	return w.EngineWith(func(c *managed.Config) {
		c.Modes = map[string]managed.Mode{managedtest.Provider: mode}
		c.OptOut = map[string]bool{managedtest.Provider: true}
	})
}

// want is what the user gets who asks for it.
func want(t *testing.T, e *managed.Engine, user string) managed.Listing {
	t.Helper()
	l, err := e.Want(t.Context(), user, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// retracted has the user's credential removed, to the end.
func retracted(t *testing.T, w *managedtest.World, user string) {
	t.Helper()
	s, err := optional(w, managed.Auto).Retract(t.Context(), user, managedtest.Provider)
	if err != nil || s.State != managed.StandingRetracting {
		t.Fatalf("%v %+v", err, s)
	}
	w.Converge()
}

func TestOnDemandMakesForWhoAsks(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	e := in(w, managed.OnDemand)
	l := list(t, e, alice)
	if len(l.Credentials) != 0 || stands(t, l) != managed.StandingOffered || w.Dump() != "" {
		t.Fatalf("who did not ask gets %+v, the table:\n%s", l, w.Dump())
	}
	l = want(t, e, alice)
	if !has(l, alice) || stands(t, l) != managed.StandingReady {
		t.Fatalf("who asks gets %+v", l)
	}
	w.CheckExactlyOne(alice)
	l = list(t, in(w, managed.OnDemand), alice)
	if !has(l, alice) || stands(t, l) != managed.StandingReady {
		t.Errorf("who has it gets %+v", l)
	}
	want(t, in(w, managed.OnDemand), alice)
	if creates(w) != 1 {
		t.Errorf("%d keys were made", creates(w))
	}
	remove(t, in(w, managed.OnDemand), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestWhatIsNotOfferedIsNotMade(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for _, mode := range []managed.Mode{managed.Frozen, managed.Off} {
		_, err := in(w, mode).Want(t.Context(), alice, managedtest.Provider)
		if !errors.Is(err, credential.ErrNotOffered) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	_, err := w.Engine().Want(t.Context(), alice, "github")
	if !errors.Is(err, credential.ErrNotOffered) || w.Dump() != "" {
		t.Errorf("%v\n%s", err, w.Dump())
	}
	list(t, w.Engine(), alice)
	if !has(want(t, in(w, managed.Frozen), alice), alice) {
		t.Error("who has it does not get it")
	}
}

func TestAUserGivesTheirCredentialUp(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	e := optional(w, managed.Auto)
	for range 2 { // a repeat is the same
		s, err := e.Retract(t.Context(), alice, managedtest.Provider)
		if err != nil || s.State != managed.StandingRetracting {
			t.Fatalf("%v %+v", err, s)
		}
	}
	_, err := w.Store.Sealed(t.Context(), alice, managedtest.Provider, credential.ManagedID(managedtest.Provider, alice))
	if !errors.Is(err, credential.ErrNotUsable) || strings.Contains(w.Dump(), "secret") {
		t.Errorf("it is handed out still: %v\n%s", err, w.Dump())
	}
	l := list(t, optional(w, managed.Auto), alice)
	if len(l.Credentials) != 0 || stands(t, l) != managed.StandingRetracting {
		t.Errorf("while it is removed: %+v", l)
	}
	if stands(t, want(t, optional(w, managed.Auto), alice)) != managed.StandingRetracting {
		t.Error("it is made while it is removed")
	}
	w.Converge()
	w.CheckNoPod(alice)
	if s := slot(t, w, alice); s.State != store.Off || !s.Settled() || s.Resource != (credential.Resource{}) || s.Attempt < 3 {
		t.Errorf("the slot is %+v", s)
	}
	l = list(t, optional(w, managed.Auto), alice)
	if len(l.Credentials) != 0 || stands(t, l) != managed.StandingOffered {
		t.Errorf("once it is removed: %+v", l)
	}
	w.Converge()
	w.CheckNoPod(alice)
	s, err := optional(w, managed.Auto).Retract(t.Context(), alice, managedtest.Provider)
	if err != nil || s.State != managed.StandingOffered {
		t.Errorf("once more: %v %+v", err, s)
	}
	if !has(want(t, optional(w, managed.Auto), alice), alice) {
		t.Error("who asks for it again does not get it")
	}
	w.CheckExactlyOne(alice)
	remove(t, w.Engine(), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestWhatWasGivenUpGoesWithTheAccount(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	retracted(t, w, alice)
	_, err := optional(w, managed.Auto).Retract(t.Context(), bob, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{alice, bob} {
		remove(t, w.Engine(), user)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
	w.CheckNothingLeft(bob)
}

func TestWhatTheOwnerKeepsIsNotGivenUp(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	before := w.Dump()
	_, err := w.Engine().Retract(t.Context(), alice, managedtest.Provider)
	if !errors.Is(err, credential.ErrKept) || w.Dump() != before {
		t.Errorf("%v\n%s", err, w.Dump())
	}
	for user, provider := range map[string]string{alice: "github", bob: managedtest.Provider} {
		_, err = optional(w, managed.Auto).Retract(t.Context(), user, provider)
		if !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s of %s: %v", provider, user, err)
		}
	}
	_, err = optional(w, managed.Off).Retract(t.Context(), alice, managedtest.Provider)
	if !errors.Is(err, credential.ErrNotFound) || w.Dump() != before {
		t.Errorf("%v\n%s", err, w.Dump())
	}
}

func TestWhatIsBeingMadeIsNotGivenUp(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, first(func() {
		s, err := optional(w, managed.Auto).Retract(t.Context(), alice, managedtest.Provider)
		if err != nil || s.State != managed.StandingProvisioning {
			t.Errorf("%v %+v", err, s)
		}
	}))
	list(t, w.Engine(), alice)
	w.CheckExactlyOne(alice)
}

// Whoever makes a credential again and again costs the third party a resource each time.
func TestAskingAgainHasAPause(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	want(t, optional(w, managed.OnDemand), alice)
	retracted(t, w, alice)
	if !has(want(t, optional(w, managed.OnDemand), alice), alice) {
		t.Fatal("the first time there is a pause")
	}
	pause := 10 * time.Minute
	for range 3 {
		from := w.Clock.Now().Add(pause)
		retracted(t, w, alice)
		l := want(t, optional(w, managed.OnDemand), alice)
		at := l.Standings[0].RetryAt
		if has(l, alice) || stands(t, l) != managed.StandingOffered || at.After(from) || at.Before(w.Clock.Now()) {
			t.Fatalf("asked at %v, it is %+v", w.Clock.Now(), l)
		}
		w.CheckNoPod(alice)
		w.Clock.Advance(at.Sub(w.Clock.Now()))
		if !has(want(t, optional(w, managed.OnDemand), alice), alice) {
			t.Fatal("after the pause it is not made")
		}
		pause *= 2
	}
	w.Clock.Advance(72 * time.Hour)
	retracted(t, w, alice)
	want(t, optional(w, managed.OnDemand), alice)
	if s := slot(t, w, alice); s.AskPause != 10*time.Minute {
		t.Errorf("after days the pause is %v", s.AskPause)
	}
}

func TestAFailedOneIsTriedOnceForWhoAsks(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 2, Fault: fake.Status(http.StatusInternalServerError)})
	list(t, w.Engine(), alice)
	w.Converge() // the outcome was unknown: reconcile has seen to it
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 2, Fault: fake.Status(http.StatusBadRequest)})
	w.RemoveKey(alice)
	w.Report(alice)
	reconcile(t, w.Engine())
	w.Clock.Advance(managed.LastLook + time.Millisecond)
	reconcile(t, w.Engine())
	failed := slot(t, w, alice)
	if failed.State != store.Failed || !failed.Settled() || !failed.DueAt.After(w.Clock.Now()) {
		t.Fatalf("the slot is %+v", failed)
	}
	made := creates(w)
	for range 2 {
		if stands(t, want(t, w.Engine(), alice)) != managed.StandingFailed {
			t.Error("it is not failed")
		}
	}
	if n := creates(w) - made; n != 1 {
		t.Errorf("who asks twice has it tried %d times", n)
	}
	w.Clock.Advance(10 * time.Minute)
	if !has(want(t, w.Engine(), alice), alice) {
		t.Errorf("the slot is %+v", slot(t, w, alice))
	}
}

func TestNobodysAskingSendsAThirdPartyMoreThanItTakes(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]fault.Fault{
		"full":         fake.Code("limit_exceeded"),
		"rate limited": fake.Status(http.StatusTooManyRequests),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: answer})
			list(t, w.Engine(), alice)
			before := w.Mail.Count(fake.CreatePod)
			if stands(t, want(t, w.Engine(), alice)) != managed.StandingFailed {
				t.Error("it is not failed")
			}
			if w.Mail.Count(fake.CreatePod) != before {
				t.Error("it was tried")
			}
		})
	}
}

func TestWhatWasDrainedIsMadeAgainWhereItIsForEverybody(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	err := w.Store.Retract(t.Context(), slot(t, w, alice), store.ByDraining)
	if err != nil {
		t.Fatal(err)
	}
	w.Converge()
	w.CheckNoPod(alice)
	for _, mode := range []managed.Mode{managed.OnDemand, managed.Frozen} {
		if l := list(t, in(w, mode), alice); len(l.Credentials) != 0 {
			t.Errorf("%s: %+v", mode, l)
		}
	}
	w.CheckNoPod(alice)
	if !has(list(t, w.Engine(), alice), alice) {
		t.Error("it is not made again")
	}
	w.CheckExactlyOne(alice)
	if s := slot(t, w, alice); s.RetractedBy != "" || !s.AskFrom.IsZero() {
		t.Errorf("the slot is %+v", s)
	}
}

// A removal that fails for long is an operator's, and goes on by itself once it can.
func TestARetractionThatCannotBeDoneIsParked(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.SetOrgKeys(`{}`)
	_, err := optional(w, managed.Auto).Retract(t.Context(), alice, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	reconcile(t, w.Engine())
	parked := func() string {
		t.Helper()
		all, _, err := w.Engine().Parked(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			return ""
		}
		return all[0].Reason
	}
	if got := parked(); got != store.ReasonNoKey || !strings.Contains(w.Logs(), `"RevocationsParked":1`) {
		t.Errorf("without org key: %q", got)
	}
	w.SetOrgKeys(`{"` + managedtest.Provider + `":"` + fake.OrgKey + `"}`)
	w.Mail.Inject(fault.Rule{Op: fake.DeletePod, Fault: fake.Status(http.StatusBadRequest)})
	for range 12 {
		reconcile(t, w.Engine())
		w.Clock.Advance(w.NextDue().Sub(w.Clock.Now()) + time.Millisecond)
	}
	if got := parked(); got != string(managed.Permanent) {
		t.Errorf("after twelve failures: %q, the slot is %+v", got, slot(t, w, alice))
	}
	w.Mail.ClearFaults()
	retried, _, err := w.Engine().Retry(t.Context(), managed.RetryRequest{User: alice, By: "Ops"})
	if err != nil || retried > 1 {
		t.Errorf("%v %d", err, retried)
	}
	w.Converge()
	w.CheckNoPod(alice)
	if parked() != "" {
		t.Error("it is still parked")
	}
}

func TestAnAuditFindsWhatIsThereOfWhoGaveItUp(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	retracted(t, w, alice)
	longAgo(w)
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.1"}}})
	if got := found(audit(t, w, false), alice); got != "left_behind revoke" {
		t.Fatalf("found %q", got)
	}
	audit(t, w, true)
	w.Converge()
	w.CheckNoPod(alice)
	if s := slot(t, w, alice); s.State != store.Off || s.RetractedBy != store.ByUser {
		t.Errorf("the slot is %+v", s)
	}
}

func TestARetractionIsBelievedAtASecondLook(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	_, err := optional(w, managed.Auto).Retract(t.Context(), alice, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	lags(w, alice)
	w.Mail.SetSwitches(fake.Switches{Oddities: fake.Oddities{EmptyLists: true}})
	reconcile(t, w.Engine())
	w.Mail.SetSwitches(fake.Switches{})
	w.Mail.ClearFaults()
	if s := slot(t, w, alice); s.State != store.Retracting || s.GoneSince.IsZero() {
		t.Errorf("after one look the slot is %+v", s)
	}
	w.Converge()
	w.CheckNoPod(alice)
	if s := slot(t, w, alice); s.State != store.Off {
		t.Errorf("the slot is %+v", s)
	}
}
