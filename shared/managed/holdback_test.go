package managed_test

import (
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

const holdback = 72 * time.Hour

// held is a world in which alice's account was deleted and her mail is held back.
func held(t *testing.T) *managedtest.World {
	t.Helper()
	w := managedtest.New(t, managedtest.Options{Holdback: holdback})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}, Keys: []fake.Key{{Name: "made with the key itself"}}})
	list(t, w.Engine(), alice)
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].State != "held_back" {
		t.Errorf("left: %+v", left)
	}
	pod, _ := w.Mail.Pod(alice)
	if len(pod.Keys) != 0 || len(pod.Inboxes) != 1 {
		t.Fatalf("the pod has %+v", pod)
	}
	return w
}

func TestWhatCannotBeMadeAgainIsHeldBackAndTheKeysAreNot(t *testing.T) {
	t.Parallel()
	w := held(t)
	w.Clock.Advance(managed.LastLook)
	reconcile(t, w.Engine()) // looks once more whether the keys are gone
	s := slot(t, w, alice)
	if s.State != store.Revoking || !s.DueAt.Equal(s.HeldUntil) || !s.Settled() {
		t.Errorf("the slot is %+v", s)
	}
	w.Clock.Advance(holdback - time.Minute)
	reconcile(t, w.Engine())
	if pod, _ := w.Mail.Pod(alice); len(pod.Inboxes) != 1 {
		t.Error("the mail went before its time")
	}
	if strings.Contains(w.Logs(), "DeletionsOverdue") {
		t.Error("what is held back on purpose is called overdue")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAKeyThatAListMissedDoesNotOutliveItsAccountWhileMailIsHeldBack(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Holdback: holdback})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.DeleteKey, Times: 1, Fault: fake.Status(404)})
	missesKeys(w, alice, 1)
	remove(t, w.Engine(), alice)
	w.Clock.Advance(managed.LastLook)
	reconcile(t, w.Engine())
	if pod, _ := w.Mail.Pod(alice); len(pod.Keys) != 0 {
		t.Errorf("the key lives on: %+v", pod.Keys)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestWhatIsHeldBackIsBroughtForward(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]managed.HoldbackRequest{"one": {User: alice}, "all": {}, "a provider": {Provider: managedtest.Provider}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := held(t)
			w.Clock.Advance(managed.LastLook)
			reconcile(t, w.Engine())
			r.By, r.Reason = "the tests", "she asked for it"
			n, more, err := w.Engine().EndHoldback(t.Context(), r)
			if n != 1 || more || err != nil {
				t.Errorf("%d, %t, %v", n, more, err)
			}
			if !strings.Contains(w.Logs(), `"message":"holdback ended","audit":true,"by":"the tests"`) {
				t.Error("it is not on record")
			}
			w.Clock.Advance(time.Millisecond)
			reconcile(t, w.Engine())
			w.CheckNoPod(alice)
			n, _, err = w.Engine().EndHoldback(t.Context(), r)
			if n != 0 || err != nil {
				t.Errorf("again: %d, %v", n, err)
			}
			w.Converge()
			w.CheckNothingLeft(alice)
		})
	}
}

func TestNothingOfSomebodyElseIsBroughtForward(t *testing.T) {
	t.Parallel()
	w := held(t)
	for _, r := range []managed.HoldbackRequest{{User: bob}, {Provider: "second_mail"}, {User: alice, Provider: "second_mail"}} {
		n, _, err := w.Engine().EndHoldback(t.Context(), r)
		if n != 0 || err != nil {
			t.Errorf("%+v: %d, %v", r, n, err)
		}
	}
}

func TestAPodThatAnotherServiceMadeIsHeldBackToo(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Holdback: holdback, Adopts: true})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}, Keys: []fake.Key{{Name: "another service's"}}})
	remove(t, w.Engine(), alice) // she never listed here
	pod, ok := w.Mail.Pod(alice)
	if !ok || len(pod.Inboxes) != 1 || len(pod.Keys) != 0 {
		t.Errorf("the pod is %+v", pod)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestWhatIsBeingWorkedOnIsNotBroughtForwardButSaidToBeLeft(t *testing.T) {
	t.Parallel()
	w := held(t)
	w.Clock.Advance(managed.LastLook)
	_, err := w.Store.ClaimDead(t.Context(), slot(t, w, alice), w.Clock.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []managed.HoldbackRequest{{User: alice}, {}} {
		n, more, err := w.Engine().EndHoldback(t.Context(), r)
		if n != 0 || !more || err != nil {
			t.Errorf("%+v: %d, %t, %v", r, n, more, err)
		}
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}
