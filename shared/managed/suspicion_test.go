package managed_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestAKeyThatWasRevokedByHandIsMadeAnewUnderTheSameID(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	w.RemoveKey(alice)
	r := audit(t, w, true)
	if found(r, alice) != "missing_key check" {
		t.Errorf("the report is %+v", r)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
	if w.Key(alice) == old || !has(list(t, w.Engine(), alice), alice) {
		t.Error("it is not a new key under the same id")
	}
	if !strings.Contains(w.Logs(), `"CredentialsLost":1`) {
		t.Error("nobody counted it")
	}
}

func TestAPodThatWasDeletedByHandIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.RemovePod(alice)
	r := audit(t, w, true)
	if found(r, alice) != "missing_resource check" {
		t.Errorf("the report is %+v", r)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestWhatHasGoneIsNotHandedOutWhereItCannotBeMadeAnew(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.RemoveKey(alice)
	audit(t, w, true)
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	w.Clock.Advance(managed.LastLook)
	inject(t, w.AgentMail, "POST /v0/pods/"+slot(t, w, alice).Resource.ID+"/api-keys", 1, fault.Respond(403, nil, []byte(`{"code":"limit_exceeded"}`)))
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); s.State != store.Failed || s.DueAt.IsZero() || s.Resource.KeyID == "" {
		t.Errorf("the slot is %+v", s)
	}
	_, err := w.Store.Sealed(t.Context(), alice, managedtest.Provider, credential.ManagedID(managedtest.Provider, alice))
	if !errors.Is(err, credential.ErrNotUsable) {
		t.Errorf("a key that has gone is handed out: %v", err)
	}
	if l := list(t, w.Engine(), alice); has(l, alice) || stands(t, l) != managed.StandingFailed {
		t.Errorf("the list is %+v", l)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestACheckThatFindsEverythingLeavesIt(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	w.Report(alice)
	w.Converge()
	w.CheckExactlyOne(alice)
	if w.Key(alice) != old || creates(w) != 1 {
		t.Error("the key was replaced")
	}
}

// missesKeys answers the next lists of the user's keys with an empty one, as a replica does that
// has not caught up.
func missesKeys(w *managedtest.World, user string, times int) {
	w.Mail.Inject(fault.Rule{Op: fake.ListKeys, About: user, Times: times, Fault: fault.RespondJSON(200, `{"count":0,"api_keys":[]}`)})
}

// A take-over looks for what a lower attempt may have left. A replica that lags does not show it.
func TestAnAbsenceIsASuspicion_ALookBeforeTheCreateAccountsForNothing(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.LoseAnswer()})
	list(t, w.Engine(), alice)
	missesKeys(w, alice, 1)
	w.Clock.Advance(2 * time.Minute)
	reconcile(t, w.Engine())
	if pod, _ := w.Mail.Pod(alice); len(pod.Keys) != 2 || slot(t, w, alice).Settled() {
		t.Errorf("with %d keys there, the slot is %+v", len(pod.Keys), slot(t, w, alice))
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestAKeyThatCouldNotBeDiscardedIsNotSettled(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.KMS.SetHook(func(*fault.Call) fault.Fault { return fault.AWSError(400, "DisabledException", "switched off") })
	w.Mail.Inject(fault.Rule{Op: fake.DeleteKey, Fault: fake.Status(500)})
	list(t, w.Engine(), alice)
	if pod, _ := w.Mail.Pod(alice); len(pod.Keys) != 1 || slot(t, w, alice).Settled() {
		t.Errorf("with %d keys there, the slot is %+v", len(pod.Keys), slot(t, w, alice))
	}
	w.Heal()
	missesKeys(w, alice, 1) // the take-over's look
	w.Clock.Advance(2 * time.Minute)
	reconcile(t, w.Engine())
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestAnAbsenceIsASuspicion_OneListWithoutTheKeyReplacesNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]fault.Fault{
		"an empty list": fault.RespondJSON(200, `{"count":0,"api_keys":[]}`),
		"not found":     fake.Status(404),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			old := w.Key(alice)
			w.Report(alice)
			w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Times: 1, Fault: answer})
			w.Clock.Advance(time.Millisecond)
			reconcile(t, w.Engine())
			if l := list(t, w.Engine(), alice); !has(l, alice) {
				t.Errorf("a key that is only suspected to be gone is not listed: %+v", l)
			}
			w.Converge()
			w.CheckExactlyOne(alice)
			if w.Key(alice) != old || creates(w) != 1 {
				t.Error("the key was replaced")
			}
			if s := slot(t, w, alice); !s.GoneSince.IsZero() {
				t.Errorf("the suspicion stays although the key was found: %+v", s)
			}
		})
	}
}

// Its sweep has found the key: what a lagging replica said before, and what one says later, are two
// first looks.
func TestAnAbsenceIsASuspicion_ARotationThatFailsHasFoundTheKey(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	lag := func() {
		w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Times: 1, Fault: fault.RespondJSON(200, `{"count":0,"api_keys":[]}`)})
		w.Clock.Advance(managed.LastLook)
		reconcile(t, w.Engine())
	}
	w.Report(alice)
	lag()
	if slot(t, w, alice).GoneSince.IsZero() {
		t.Fatal("nothing is suspected")
	}
	rotate(t, w, alice, time.Hour)
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Status(500)})
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); !s.GoneSince.IsZero() || !s.Rotates {
		t.Errorf("the suspicion stays although the key was found: %+v", s)
	}
	w.Clock.Advance(time.Minute)
	lag()
	if w.Key(alice) != old || !works(w, old) {
		t.Error("the key was replaced for two looks between which it was found")
	}
}

func TestAnAbsenceIsASuspicion_ALookThatBeganTooEarlyConfirmsNothing(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	w.Report(alice)
	missesKeys(w, alice, 1)
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	held := w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Times: 1, Fault: fault.Hold(fault.RespondJSON(200, `{"count":0,"api_keys":[]}`))})
	w.MakeDue(alice)
	looks := w.Mail.State().Requests[fake.ListKeys]
	var second sync.WaitGroup
	engine := w.Engine()
	second.Go(func() {
		_, err := engine.Reconcile(t.Context())
		if err != nil {
			t.Error(err)
		}
	})
	err := w.Mail.Await(t.Context(), fake.ListKeys, looks+1)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(managed.LastLook) // its answer takes that long
	w.Mail.Release(held)
	second.Wait()
	w.Converge()
	w.CheckExactlyOne(alice)
	if w.Key(alice) != old || creates(w) != 1 {
		t.Error("the key was replaced after two looks at nearly the same time")
	}
}

func TestMakeBeforeBreak_AKeyThatIsThereAfterAllGoesOnlyOnceItsReplacementIsStored(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := slot(t, w, alice).Resource.KeyID
	w.Report(alice)
	missesKeys(w, alice, 2)
	for range 2 {
		w.Clock.Advance(managed.LastLook + time.Millisecond)
		reconcile(t, w.Engine())
	}
	s := slot(t, w, alice)
	pod, _ := w.Mail.Pod(alice)
	if s.State != store.Ready || s.Resource.KeyID == old || s.DueAt.IsZero() {
		t.Errorf("the slot is %+v", s)
	}
	if len(pod.Keys) != 2 || !has(list(t, w.Engine(), alice), alice) {
		t.Errorf("when the replacement was stored the pod had %+v", pod.Keys)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
	if slot(t, w, alice).Resource.KeyID != s.Resource.KeyID {
		t.Error("it was replaced once more")
	}
}

func TestMakeBeforeBreak_AReplacementThatFailsDestroysNothing(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := slot(t, w, alice).Resource.KeyID
	w.Report(alice)
	missesKeys(w, alice, 2)
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Status(500)})
	for range 3 { // two looks, and the take-over after the failure
		w.Clock.Advance(2*time.Minute + time.Millisecond)
		reconcile(t, w.Engine())
		pod, _ := w.Mail.Pod(alice)
		s := slot(t, w, alice)
		if s.Resource.KeyID == old && !slices.ContainsFunc(pod.Keys, func(k fake.Key) bool { return k.ID == old }) {
			t.Fatalf("the stored key was deleted before another one was stored: %+v", s)
		}
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestASuspicionThatIsOldIsLookedAtTwiceAgain(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	w.Report(alice)
	missesKeys(w, alice, 2)
	for range 2 {
		w.Clock.Advance(2 * time.Hour)
		reconcile(t, w.Engine())
	}
	w.Converge()
	if w.Key(alice) != old || creates(w) != 1 {
		t.Error("two looks two hours apart replaced a key that works")
	}
}

func TestAFailedSweepOfASettledSlotLeavesItSettled(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Report(alice)
	w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Fault: fake.Status(500)})
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); !s.Settled() || s.DueAt.IsZero() || s.Tries != 1 {
		t.Errorf("the slot is %+v", s)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}
