package managed_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestAPodWithInboxesIsRevokedWhenTheyHaveGone(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.SetSwitches(fake.Switches{InboxDeletion: 3 * time.Minute})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}, {Address: "b@agentmail.to"}},
		Domains: []string{"example.com"}, Webhooks: []string{"https://example.com/hook"}})
	key := w.Key(alice)
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].Provider != managedtest.Provider || left[0].State != managed.PendingRevoking || !left[0].RetryAt.After(w.Clock.Now()) {
		t.Errorf("left: %+v", left)
	}
	_, _, works := w.Mail.Identify(key.Reveal())
	if works {
		t.Error("the key still works while the inboxes are being deleted")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
	if strings.Contains(w.Logs(), `"RevocationFailed"`) {
		t.Error("not yet was counted as a failure")
	}
}

func TestARevocationThatKeepsFailingIsParkedAndStillTried(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.DeletePod, Fault: fake.Status(http.StatusInternalServerError)})
	remove(t, w.Engine(), alice)
	var waits []time.Duration
	for range 40 {
		s := slot(t, w, alice)
		if s.State == store.Parked {
			break
		}
		waits = append(waits, s.DueAt.Sub(w.Clock.Now()))
		w.Clock.Advance(s.DueAt.Sub(w.Clock.Now()) + time.Millisecond)
		reconcile(t, w.Engine())
	}
	if s := slot(t, w, alice); s.State != store.Parked {
		t.Fatalf("the slot is %+v", s)
	}
	if len(waits) < 5 || waits[len(waits)-1] < 8*waits[0] {
		t.Errorf("the waits do not grow: %v", waits)
	}
	if !strings.Contains(w.Logs(), `"RevocationsParked":1`) {
		t.Error("no alarm")
	}
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].State != managed.PendingParked {
		t.Errorf("left: %+v", left)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAThirdPartyThatIsAtItAgainIsNotParked(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.SetSwitches(fake.Switches{InboxDeletion: time.Minute})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	w.SetOrgKeys(`{}`)
	remove(t, w.Engine(), alice)
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `"}`)
	w.Clock.Advance(7 * time.Hour)
	reconcile(t, w.Engine())
	s := slot(t, w, alice)
	if s.State != store.Revoking || s.Tries != 0 || s.DueAt.After(w.Clock.Now().Add(time.Minute)) {
		t.Errorf("the slot is %+v", s)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAnOrganisationThatIsFullStillRevokes(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), bob)
	e := w.Engine()
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	for _, user := range []string{alice, "carol"} {
		if stands(t, list(t, e, user)) != managed.StandingFailed {
			t.Errorf("%s has a credential", user)
		}
	}
	if n := w.Mail.Count(fake.CreatePod); n != 2 { // bob's, and alice's
		t.Errorf("a pod was asked for %d times", n)
	}
	left := remove(t, e, bob)
	if len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestNeverDoneWithoutProof_NoOrgKeyParksTheRevocation(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.SetOrgKeys(`{}`)
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].State != managed.PendingParked || !strings.Contains(w.Logs(), `"RevocationsParked":1`) {
		t.Errorf("left: %+v", left)
	}
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `"}`)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestNeverDoneWithoutProof_AnUnregisteredProviderParksTheRevocation(t *testing.T) {
	t.Parallel()
	none := false
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		if none {
			return nil
		}
		return []managed.Provider{managedtest.AgentMail(t, url, managedtest.Provider)}
	}})
	list(t, w.Engine(), alice)
	none = true
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].State != managed.PendingParked || !strings.Contains(w.Logs(), `"RevocationsParked":1`) {
		t.Errorf("left: %+v", left)
	}
	none = false
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestNeverDoneWithoutProof_NotFoundByAnotherOrganisationsKeyIsNoProof(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	foreign := "am_us_" + strings.Repeat("d", 64)
	w.Mail.AcceptOrgKey(foreign, "11111111-2222-4333-8444-555555555555")
	w.SetOrgKeys(`{"agent_mail":"` + foreign + `"}`)
	left := remove(t, w.Engine(), alice)
	if reason := slot(t, w, alice).Reason; len(left) != 1 || reason != string(managed.Foreign) {
		t.Errorf("left: %+v, reason: %q", left, reason)
	}
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `"}`)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAPodThatIsGoneAlreadyIsDoneAfterTwoLooks(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.RemovePod(alice)
	if left := remove(t, w.Engine(), alice); len(left) != 1 {
		t.Errorf("one look was enough: %+v", left)
	}
	w.Clock.Advance(managed.LastLook - time.Millisecond)
	w.MakeDue(alice)
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); s.State != store.Revoking {
		t.Errorf("two looks less than LastLook apart were enough: %+v", s)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

// lags answers all GETs, lists and deletions of the user's pod with 404, as a replica does that has
// not heard of it.
func lags(w *managedtest.World, user string) {
	for _, op := range []fake.Operation{fake.GetPod, fake.DeletePod, fake.ListKeys, fake.DeleteKey, fake.ListInboxes, fake.ListDomains, fake.ListWebhooks} {
		w.Mail.Inject(fault.Rule{Op: op, About: user, Fault: fake.Status(404)})
	}
}

func TestAnAbsenceIsASuspicion_ADeletionWhileAReplicaLags(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	lags(w, alice)
	if left := remove(t, w.Engine(), alice); len(left) != 1 {
		t.Errorf("a deletion that deleted nothing is called done: %+v", left)
	}
	w.Converge() // the replica has caught up
	w.CheckNothingLeft(alice)
}

// The look for more is a create. A pass that follows one that was killed makes a pod, and an
// earlier look says nothing of that one.
func TestAnAbsenceIsASuspicion_OfAPodThatTheRevocationMadeItself(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	remove(t, w.Engine(), alice)
	w.Clock.Advance(managed.LastLook)
	_, err := w.Store.ClaimDead(t.Context(), slot(t, w, alice), w.Clock.Now().Add(time.Minute)) // by whom it is killed
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute + store.SkewMargin + time.Second)
	lags(w, alice)
	w.Mail.SetSwitches(fake.Switches{Oddities: fake.Oddities{EmptyLists: true}})
	reconcile(t, w.Engine())
	if n := w.Mail.Count(fake.CreatePod); n != 2 {
		t.Errorf("it was looked for by %d POSTs", n-1)
	}
	w.Mail.SetSwitches(fake.Switches{})
	w.Converge() // the replica has caught up
	w.CheckNothingLeft(alice)
}

func TestADeletionEndsWithALookAfterIt(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.DeletePod, Times: 1, Fault: fake.Status(204)}) // and it stays
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestNotYetThatDoesNotMoveIsParked(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.DeletePod, Fault: fake.Code("cannot_delete")})
	remove(t, w.Engine(), alice)
	for range 6 {
		w.Clock.Advance(10*time.Minute + time.Second)
		if s := slot(t, w, alice); s.State == store.Parked {
			t.Fatalf("it is parked within the hour: %+v", s)
		}
		reconcile(t, w.Engine())
	}
	if s := slot(t, w, alice); s.State != store.Parked {
		t.Errorf("after an hour without a change the slot is %+v", s)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestARevocationsLostAnswersAreItsOwn(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	var struck atomic.Int32
	w.DynamoDB.Reset()
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault { // each write takes effect, and the SDK repeats it
		if c.Nth%2 == 1 && (c.Op == update || c.Op == "DeleteItem") {
			struck.Add(1)
			return fault.LoseAnswer()
		}
		return nil
	})
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if struck.Load() < 3 {
		t.Errorf("only %d answers were lost", struck.Load())
	}
	w.CheckNoPod(alice)
	w.Clock.Advance(managed.LastLook + time.Millisecond)
	reconcile(t, w.Engine())
	w.CheckNothingLeft(alice)
}
