package managed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestASettledSlotIsRevokedWithinTheRequestByItsStoredID(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	w.CheckNoPod(alice)
	if s := slot(t, w, alice); !s.Revoked() || s.DueAt.Sub(w.Clock.Now()) != managed.LastLook {
		t.Errorf("before the last look the slot is %+v", s)
	}
	if n := w.Mail.Count(fake.CreatePod); n != 1 {
		t.Errorf("the deletion looked the pod up by %d POSTs", n-1)
	}
	w.Converge() // the tombstone is due no more
	w.CheckNothingLeft(alice)
}

func TestALastLookFindsWhatATransactionMadeInTheTombstonesInstant(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	m := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}
	_, err := w.Store.Create(t.Context(), bob, m, []byte("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	hers := store.CredentialKey(alice, "github", m.ID)
	w.SetItem(store.CredentialKey(bob, "github", m.ID), map[string]types.AttributeValue{ // a copy under her key comes to light only now
		"pk": &types.AttributeValueMemberS{Value: hers.PK}, "sk": &types.AttributeValueMemberS{Value: hers.SK},
	})
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestADeletedAccountsOwnCredentialsGoToo(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for range 30 {
		m := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}
		_, err := w.Store.Create(t.Context(), alice, m, []byte("sealed"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	w.CheckNothingLeft(alice)
}

func TestAnotherUserIsNotTouchedByADeletion(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	remove(t, w.Engine(), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
	w.CheckExactlyOne(bob)
}

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
	w.Mail.Inject(fake.Fault{Operation: fake.DeletePod, Instead: &fake.Answer{Status: http.StatusInternalServerError}})
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
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Instead: &fake.Answer{Code: "limit_exceeded"}})
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

func TestADeletionThatTakesTooLongIsCounted(t *testing.T) {
	t.Parallel()
	users := &pool{}
	users.failures.Store(1000)
	w := managedtest.New(t, managedtest.Options{Users: users})
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Hour)
	reconcile(t, w.Engine())
	if strings.Contains(w.Logs(), "DeletionsOverdue") {
		t.Error("it was counted after an hour")
	}
	w.Clock.Advance(24 * time.Hour)
	reconcile(t, w.Engine())
	if !strings.Contains(w.Logs(), `"DeletionsOverdue":1`) {
		t.Errorf("it was not counted:\n%s", w.Logs())
	}
}

func TestEachDeletedAccountIsCountedOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for _, user := range []string{alice, bob} {
		list(t, w.Engine(), user)
		for range 3 {
			remove(t, w.Engine(), user)
		}
	}
	w.Converge()
	if n := strings.Count(w.Logs(), `"AccountsDeleted":1`); n != 2 {
		t.Errorf("two accounts were deleted, and %d counted", n)
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
		w.Mail.Inject(fake.Fault{Operation: op, ClientID: user, Instead: &fake.Answer{Status: 404}})
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
	w.Mail.Inject(fake.Fault{Operation: fake.DeletePod, Times: 1, Instead: &fake.Answer{Status: 204}}) // and it stays
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
	w.Mail.Inject(fake.Fault{Operation: fake.DeletePod, Instead: &fake.Answer{Code: "cannot_delete"}})
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

func TestATombstoneThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, put, 0, fault.Throttled())
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "")
	if err == nil {
		t.Error("no error")
	}
}

func TestADeletionThatCrashedAfterItsTombstoneIsFinishedByReconcile(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	_, err := w.Store.Bury(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

// pool is a user pool that fails a given number of times.
type pool struct {
	failures atomic.Int32
	removed  atomic.Value
}

func (p *pool) Remove(_ context.Context, username, sub string) error {
	if p.failures.Add(-1) >= 0 {
		return errors.New("the user pool is down")
	}
	p.removed.Store(username + " " + sub)
	return nil
}

func TestTheCognitoUserIsDueUntilItHasGone(t *testing.T) {
	t.Parallel()
	users := &pool{}
	users.failures.Store(2)
	w := managedtest.New(t, managedtest.Options{Users: users})
	left, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
	if err != nil || len(left) != 1 || left[0].Provider != managed.UserPool {
		t.Errorf("%v, left: %+v", err, left)
	}
	w.Converge()
	if got := users.removed.Load(); got != "Alice the First alice" {
		t.Errorf("removed: %v", got)
	}
	if n := strings.Count(w.Logs(), `"PoolUsersRemoved":1`); n != 1 {
		t.Errorf("one user was removed, and %d counted", n)
	}
	if strings.Contains(w.Dump(), "Alice the First") {
		t.Errorf("the username is kept:\n%s", w.Dump())
	}
	w.CheckNothingLeft(alice)
}

func TestAUsernameIsNotedAlsoWhenTheTombstoneStandsAlready(t *testing.T) {
	t.Parallel()
	users := &pool{}
	w := managedtest.New(t, managedtest.Options{Users: users})
	remove(t, w.Engine(), alice)
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
	if err != nil || users.removed.Load() != "Alice the First alice" {
		t.Errorf("%v, removed: %v", err, users.removed.Load())
	}
}

// From whatever minute on: the turn of the last minutes of an hour goes over into the next one's.
func TestEachShardIsReadFirstInItsTurn(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	first := map[string]int{}
	const turns = 3
	w.Clock.Advance(w.Clock.Now().Truncate(time.Hour).Add(time.Hour + 50*time.Minute).Sub(w.Clock.Now()))
	for range turns * len(store.Shards()) {
		w.DynamoDB.Reset()
		reconcile(t, w.Engine())
		for _, shard := range store.Shards() {
			if strings.Contains(string(w.DynamoDB.Calls()[0].Body), shard) {
				first[shard]++
			}
		}
		w.Clock.Advance(time.Minute)
	}
	for _, shard := range store.Shards() {
		if first[shard] != turns {
			t.Errorf("%s was the first %d times of %d", shard, first[shard], turns)
		}
	}
}

func TestAReconcileRoundGoesThroughAllThatIsDue(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 60 // more than two pages of a shard
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Instead: &fake.Answer{Code: "limit_exceeded"}})
	for i := range users {
		list(t, w.Engine(), fmt.Sprintf("user-%d", i))
	}
	w.Heal()
	w.Clock.Advance(time.Minute)
	r := reconcile(t, w.Engine())
	if r.Done != users || r.Failed != 0 || r.More {
		t.Errorf("the report is %+v", r)
	}
	for i := range users {
		w.CheckExactlyOne(fmt.Sprintf("user-%d", i))
	}
}

// hanging is a third party that answers nothing until it is released.
type hanging struct {
	managed.Provider
	hung    func()
	release <-chan struct{}
}

func (h hanging) Provision(context.Context, credential.Secret, *managed.Attempt) (managed.Grant, error) {
	h.hung()
	<-h.release
	return managed.Grant{}, errors.New("it hung")
}

// Whoever waits for another third party must not wait for one that hangs. This one does so until
// the others' work is done, so that a machine that is slow changes nothing.
func TestAProviderThatHangsHoldsUpNoOthersWorkInARound(t *testing.T) {
	t.Parallel()
	hung, release := make(chan struct{}), make(chan struct{})
	hang := hanging{hung: sync.OnceFunc(func() { close(hung) }), release: release}
	hangs := false
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		both := twoMails(t)(url)
		if hangs {
			hang.Provider = both[1]
			both[1] = hang
		}
		return both
	}})
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `","second_mail":"` + fake.OrgKey + `"}`)
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Instead: &fake.Answer{Code: "limit_exceeded"}})
	waiting := make([]string, 20) // more than are worked on at once, so that all hang before the last of the others' turn comes
	for i := range waiting {
		waiting[i] = fmt.Sprintf("user-%d", i)
		list(t, w.Engine(), waiting[i])
	}
	w.Heal()
	w.Clock.Advance(time.Minute)
	hangs = true
	e, done := w.Engine(), make(chan struct{})
	go func() {
		defer close(done)
		_, err := e.Reconcile(context.Background())
		if err != nil {
			t.Error(err)
		}
	}()
	<-hung
	never := time.After(time.Minute)
	for len(waiting) > 0 && !t.Failed() {
		waiting = slices.DeleteFunc(waiting, func(user string) bool { return slot(t, w, user).State == store.Ready })
		select {
		case <-never:
			t.Errorf("%s wait for the one that hangs", waiting)
		case <-time.After(time.Millisecond):
		}
	}
	close(release)
	<-done
}

func TestARoundStartsNothingItHasNoTimeFor(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Instead: &fake.Answer{Code: "limit_exceeded"}})
	list(t, w.Engine(), alice)
	w.Heal()
	w.Clock.Advance(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than half a lease
	defer cancel()
	r, err := w.Engine().Reconcile(ctx)
	if err != nil || r.Done != 0 || !r.More {
		t.Errorf("%v, the report is %+v", err, r)
	}
	if creates(w) != 0 {
		t.Error("work was started")
	}
}

func TestAnAccountDeletedMeanwhileIsNotProvisionedByReconcile(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Instead: &fake.Answer{Code: "limit_exceeded"}})
	list(t, w.Engine(), alice)
	w.Heal()
	w.Clock.Advance(time.Minute)
	inject(t, w.DynamoDB, transact, 1, first(func() {
		_, err := w.Store.Bury(context.Background(), alice, "")
		if err != nil {
			t.Error(err)
		}
	}))
	reconcile(t, w.Engine())
	if creates(w) != 0 {
		t.Error("I5: a key was asked for after the tombstone")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}
