package managed_test

import (
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/provider/openrouter"
	router "managed-credentials/shared/provider/openrouter/fake"
	"managed-credentials/shared/store"
)

// refused has an executor report the user's key at a provider, as resolve-credential notes it.
func refused(t *testing.T, w *managedtest.World, user, provider string) {
	t.Helper()
	slot, _, err := w.Slot(user, provider)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Store.Report(t.Context(), slot, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Millisecond)
}

// answered has reconcile look, and then do what comes of it.
func answered(t *testing.T, w *managedtest.World) {
	t.Helper()
	for range 2 {
		reconcile(t, w.Engine())
		w.Clock.Advance(time.Millisecond)
	}
}

func TestAKeyThatIsReportedAndThereIsReplacedAndServesOnForAWhile(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	refused(t, w, alice, managedtest.Provider)
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); w.Key(alice) != old || s.Reason != store.ReasonRejected || s.State != store.Ready || s.Rotates {
		t.Errorf("before anything is made the key was looked for: %+v", s)
	}
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), old)
	s := slot(t, w, alice)
	if left := s.Retiring.At.Sub(w.Clock.Now()); left < 59*time.Minute || left > time.Hour || s.Reason != "" {
		t.Errorf("the slot is %+v", s)
	}
	w.Clock.Advance(time.Hour)
	reconcile(t, w.Engine())
	w.CheckExactlyOne(alice)
}

// While the key before it serves no third one is made, nor within a pause that doubles.
func TestReportsThatComeAgainAndAgainHaveKeysReplacedEverMoreRarely(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	reports := func(replaced bool, when string) store.Slot {
		t.Helper()
		was := w.Key(alice)
		refused(t, w, alice, managedtest.Provider)
		answered(t, w)
		s := slot(t, w, alice)
		if (w.Key(alice) != was) != replaced {
			t.Fatalf("a report %s: %+v", when, s)
		}
		return s
	}
	passes := func(until time.Time) {
		w.Clock.Advance(until.Sub(w.Clock.Now()))
		answered(t, w)
	}
	for _, pause := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute} {
		s := reports(true, "at first, or after all pauses")
		if s.AskPause != pause {
			t.Errorf("the pause is %v, not %v", s.AskPause, pause)
		}
		if pause < time.Hour {
			passes(s.AskFrom)
			reports(false, "while two keys serve")
			passes(s.Retiring.At)
		} else {
			passes(s.Retiring.At)
			reports(false, "within the pause")
			passes(s.AskFrom)
		}
	}
	w.CheckExactlyOne(alice)
}

func TestAReportIsNotForgottenIfTheNewKeyCannotBeMadeYet(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	refused(t, w, alice, managedtest.Provider)
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Status(500)})
	answered(t, w)
	if w.Key(alice) != old || !slot(t, w, alice).Rotates {
		t.Fatalf("the slot is %+v", slot(t, w, alice))
	}
	w.Converge()
	if w.Key(alice) == old {
		t.Errorf("the slot is %+v", slot(t, w, alice))
	}
}

// What the third party calls disabled or spent is not for an executor to lift.
func TestAReportLiftsNoLimitAndUndoesNoDecision(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*router.Key){
		"disabled": func(k *router.Key) { k.Disabled = true },
		"spent":    func(k *router.Key) { k.Usage = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := withSpending(t)
			id := r.Keys()[0].Hash
			r.Change(id, breaks)
			refused(t, w, alice, openrouter.Name)
			answered(t, w)
			if keys, s := r.Keys(), slotAt(t, w, openrouter.Name); len(keys) != 1 || keys[0].Hash != id || s.Reason != store.ReasonUnusable || s.Rotates {
				t.Errorf("the keys are %+v, the slot %+v", keys, s)
			}
		})
	}
}

func TestAReportHasNothingMadeWhereItWouldOpenSomethingElse(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		return []managed.Provider{irreplaceable{managedtest.AgentMail(t, url, managedtest.Provider)}}
	}})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	refused(t, w, alice, managedtest.Provider)
	answered(t, w)
	if s := slot(t, w, alice); w.Key(alice) != old || s.Rotates || s.Reason != "" || !s.DueAt.IsZero() {
		t.Errorf("the slot is %+v", s)
	}
}
