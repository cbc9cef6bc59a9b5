package managed_test

import (
	"bytes"
	"context"
	"encoding/json"
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

const batchWrite = "BatchWriteItem"

// remains is the first page of what is left of a user.
func remains(t *testing.T, w *managedtest.World, user string) store.Remains {
	t.Helper()
	page, err := w.Store.Remains(context.Background(), user, nil)
	if err != nil {
		t.Error(err)
	}
	return page
}

// largest watches the answers to queries.
type largest struct{ items, bytes atomic.Int64 }

func (l *largest) watch(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	a, err := c.Forward(ctx)
	if err != nil {
		return nil, err
	}
	var page struct{ Count int64 }
	err = json.Unmarshal(a.Body, &page)
	l.items.Store(max(l.items.Load(), page.Count))
	l.bytes.Store(max(l.bytes.Load(), int64(len(a.Body))))
	return a, err
}

// What a user has stored decides neither how much memory their deletion takes, nor when others are
// deleted.
func TestAnAccountWithThousandsOfCredentialsIsDeletedPageByPage(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	const credentials = 3000
	w.SeedOwn(alice, "github", credentials, strings.Repeat("s", 1000))
	for _, user := range []string{alice, bob} {
		_, err := w.Store.Bury(t.Context(), user, "")
		if err != nil {
			t.Fatal(err)
		}
	}
	var pages largest
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == query && !bytes.Contains(c.Body, []byte(`"IndexName"`)) {
			return pages.watch
		}
		return nil
	})
	r := reconcile(t, w.Engine())
	if r.Done != 2 || r.Failed != 0 {
		t.Errorf("the report is %+v", r)
	}
	if pages.items.Load() > store.RemainsPage || pages.bytes.Load() > store.RemainsPage*250 {
		t.Errorf("a page had %d items in %d bytes", pages.items.Load(), pages.bytes.Load())
	}
	if n := w.DynamoDB.Count(batchWrite); n > credentials/store.DeleteBatch+credentials/store.RemainsPage+1 {
		t.Errorf("there were %d calls to delete", n)
	}
	for _, user := range []string{alice, bob} {
		if s := slot(t, w, user); s.State != store.Revoking {
			t.Errorf("the slot of %s is %+v", user, s)
		}
	}
	w.Converge()
	w.CheckNothingLeft(alice)
	w.CheckNothingLeft(bob)
}

func TestEachPassOverAnAccountMakesProgressHoweverShort(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	left := 4 * store.RemainsPage
	w.SeedOwn(alice, "github", left, "repo")
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op == batchWrite {
				return then(cancel)
			}
			return nil
		})
		pending, _, err := w.Engine().DeleteAccount(ctx, alice, "")
		if err != nil || len(pending) != 1 || pending[0].Provider != "github" {
			t.Errorf("left: %+v, %v", pending, err)
		}
		now := strings.Count(w.Dump(), "CRED#github")
		if now > left-(store.DeleteBatch-1) { // the tombstone is on the page, too
			t.Errorf("there were %d and are %d", left, now)
		}
		left = now
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

// An account that takes many passes must not wait longer and longer between them.
func TestAPassThatGotOnLengthensNoPause(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SeedOwn(alice, "github", 4*store.RemainsPage, "repo")
	_, err := w.Store.Bury(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		w.DynamoDB.Reset()
		w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op == batchWrite && c.Nth == store.RemainsPage/store.DeleteBatch+1 { // the second page's first
				return then(cancel)
			}
			return nil
		})
		_, err := w.Engine().Reconcile(ctx)
		if err != nil {
			t.Error(err)
		}
		tombstone := remains(t, w, alice).Tombstone
		if tombstone.Tries != 0 || tombstone.DueAt.After(w.Clock.Now().Add(2*time.Second)) || !tombstone.DueAt.After(w.Clock.Now()) {
			t.Errorf("the tombstone is %+v", tombstone)
		}
		w.Clock.Advance(2 * time.Second)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

// Whoever deletes a page and dies of it must not come first in every round.
func TestAnAccountIsPostponedAndCountedBeforeItIsWorkedOn(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SeedOwn(alice, "github", 1, "repo")
	_, err := w.Store.Bury(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(25 * time.Hour)
	inject(t, w.DynamoDB, batchWrite, 0, fault.Before(func(context.Context) {
		tombstone := remains(t, w, alice).Tombstone
		if !tombstone.DueAt.After(w.Clock.Now()) || tombstone.Tries != 1 {
			t.Errorf("the tombstone is %+v", tombstone)
		}
		if !strings.Contains(w.Logs(), `"DeletionsOverdue":1`) {
			t.Error("it was not counted")
		}
	}, fault.Drop()))
	reconcile(t, w.Engine())
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestCredentialsThatCouldNotBeDeletedStayPending(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SeedOwn(alice, "github", 2, "repo")
	inject(t, w.DynamoDB, batchWrite, 0, fault.Drop())
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].Provider != "github" || left[0].State != "deleting" || !left[0].RetryAt.After(w.Clock.Now()) {
		t.Errorf("left: %+v", left)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestWhatCannotBeReadIsNotCalledDone(t *testing.T) {
	t.Parallel()
	for name, nth := range map[string]int{"before the work": 1, "after it": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			w.SeedOwn(alice, "github", 1, "repo")
			w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
				if c.Op == query && c.Nth >= nth {
					return fault.Drop()
				}
				return nil
			})
			left, _, err := w.Engine().DeleteAccount(t.Context(), alice, "")
			if err == nil {
				t.Errorf("no error, left: %+v", left)
			}
			w.Converge()
			w.CheckNothingLeft(alice)
		})
	}
}

// A user's repeated request is answered, and costs the third party and the user pool nothing until
// it is time.
func TestARepeatedDeletionKeepsToTheBackoff(t *testing.T) {
	t.Parallel()
	users := &pool{}
	users.failures.Store(1000)
	asked := func() int { return 1000 - int(users.failures.Load()) }
	w := managedtest.New(t, managedtest.Options{Users: users})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.GetPod, Fault: fake.Status(http.StatusInternalServerError)})
	tombstone := func() store.Tombstone { return remains(t, w, alice).Tombstone }
	again := func() {
		left, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
		if err != nil || len(left) != 2 {
			t.Errorf("%v, left: %+v", err, left)
		}
	}
	again()
	once, revoking := tombstone(), slot(t, w, alice)
	if asked() != 1 || !once.DueAt.After(w.Clock.Now()) || !revoking.DueAt.After(w.Clock.Now()) {
		t.Errorf("the pool was asked %d times, the tombstone is %+v, the slot %+v", asked(), once, revoking)
	}
	w.AgentMail.Reset()
	for range 3 {
		again()
	}
	if asked() != 1 || tombstone() != once || slot(t, w, alice) != revoking || len(w.AgentMail.Calls()) != 0 {
		t.Errorf("the pool was asked %d times, the tombstone is %+v, the slot %+v, AgentMail got %d calls",
			asked(), tombstone(), slot(t, w, alice), len(w.AgentMail.Calls()))
	}
	for range 5 { // each when it is due again: the pauses are not lengthened by asking
		w.Clock.Advance(tombstone().DueAt.Sub(w.Clock.Now()))
		again()
	}
	if asked() != 6 || tombstone().Tries != 1 || tombstone().DueAt.After(w.Clock.Now().Add(2*time.Second)) {
		t.Errorf("the pool was asked %d times, the tombstone is %+v", asked(), tombstone())
	}
	users.failures.Store(0)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAWorkingKeyGoesFirstHoweverMuchStandsBeforeItsSlot(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	w.SeedOwn(alice, "aaa", store.RemainsPage+10, "repo")
	inject(t, w.DynamoDB, batchWrite, 0, fault.Drop())
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].Provider != "aaa" {
		t.Errorf("left: %+v", left)
	}
	_, _, works := w.Mail.Identify(key.Reveal())
	if works {
		t.Error("the key still works")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestTheLastLookCostsOneReadAndOneWrite(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SeedOwn(alice, "github", 1, "repo")
	remove(t, w.Engine(), alice)
	w.Clock.Advance(managed.LastLook)
	w.DynamoDB.Reset()
	reconcile(t, w.Engine())
	if !w.NextDue().IsZero() {
		t.Error("the tombstone does not rest")
	}
	reads := w.DynamoDB.Count(query) - len(store.Shards()) - 1 // what waits for an org key
	if reads != 1 || w.DynamoDB.Count(update) != 1 || w.DynamoDB.Count(batchGet) != 0 {
		t.Errorf("it took %d queries, %d updates and %d other reads", reads, w.DynamoDB.Count(update), w.DynamoDB.Count(batchGet))
	}
}

// What was read early may come late: then it is no last look.
func TestALookThatWasHeldUpIsNoLastLook(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, query, 1, then(func() { w.Clock.Advance(2 * managed.LastLook) }))
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if w.NextDue().IsZero() {
		t.Error("the tombstone rests")
	}
}

func TestAnAccountIsNotReadWhileItsRevocationWaits(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.GetPod, Fault: fake.Code("forbidden")}) // slow to be tried again
	remove(t, w.Engine(), alice)
	w.Clock.Advance(time.Minute)
	reconcile(t, w.Engine()) // the tombstone's, which sees how long the slot waits
	due := w.NextDue()
	s := slot(t, w, alice)
	if due.Before(s.DueAt) && due.Sub(w.Clock.Now()) < 50*time.Minute || due.Sub(w.Clock.Now()) < 10*time.Minute {
		t.Errorf("the next work is due at %v, the slot is %+v", due, s)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAPodThatAnotherServiceMadeGoesWithTheAccountOfAUserWhoNeverListedHere(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Adopts: true})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Name: "anything", Keys: []fake.Key{{Name: alice + "-agpt-managed"}}})
	w.Mail.SeedPod(fake.Pod{ClientID: bob, Name: "anything"})
	left, known, err := w.Engine().DeleteAccount(t.Context(), alice, "")
	if err != nil || known || len(left) != 0 {
		t.Errorf("left: %+v, %t, %v", left, known, err)
	}
	w.CheckNoPod(alice)
	w.Converge()
	w.CheckNothingLeft(alice)
	if _, ok := w.Mail.Pod(bob); !ok {
		t.Error("another user's pod went, too")
	}
}

func TestAThirdPartyIsAskedThoughTheDeletionDiedBeforeIt(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Adopts: true})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Name: "anything"})
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault { // after the tombstone nothing of it gets through
		if c.Op == put {
			return nil
		}
		return fault.Drop()
	})
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "")
	if err == nil {
		t.Error("the deletion went through")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}
