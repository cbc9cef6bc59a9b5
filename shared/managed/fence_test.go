package managed_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestClocksApart_ALeaseIsLeftAloneForTenSecondsMore(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.Drop()})
	list(t, w.Engine(), alice)
	s := slot(t, w, alice)
	w.Clock.Advance(s.LeaseUntil.Sub(w.Clock.Now()) + 4*time.Second)
	fast := func() time.Time { return w.Clock.Now().Add(5 * time.Second) }
	reconcile(t, w.EngineAt(fast))
	if creates(w) != 1 {
		t.Fatal("a clock that is 5 s fast took over within the margin")
	}
	w.Clock.Advance(7 * time.Second)
	reconcile(t, w.Engine())
	w.CheckExactlyOne(alice)
}

func TestTwoHalves_AFrozenProcessSendsNoCreateInTheSecondHalf(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, transact, 1, then(func() { w.Clock.Advance(31 * time.Second) })) // frozen between claim and create
	list(t, w.Engine(), alice)
	if n := w.Mail.Count(fake.CreatePod) + creates(w); n != 0 {
		t.Errorf("I3: %d creates in the lease's second half", n)
	}
}

func TestTwoHalves_NorBetweenTwoCreates(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, then(func() { w.Clock.Advance(31 * time.Second) }))
	list(t, w.Engine(), alice)
	if creates(w) != 0 {
		t.Error("I3: a key was asked for in the lease's second half")
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

// The table has the lease's end in whole milliseconds, and that is what others go by.
func TestTwoHalves_EndToTheMillisecond(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	whole := w.Clock.Now().Truncate(time.Millisecond).Add(time.Second)
	w.Clock.Advance(whole.Add(900 * time.Microsecond).Sub(w.Clock.Now()))
	inject(t, w.AgentMail, createPd, 1, then(func() {
		w.Clock.Advance(whole.Add(30*time.Second + 100*time.Microsecond).Sub(w.Clock.Now()))
	}))
	list(t, w.Engine(), alice)
	if w.Mail.Count(fake.CreatePod) != 1 || creates(w) != 0 {
		t.Errorf("I3: %d pods and then %d keys were asked for, the latter 0.1 ms into the lease's second half", w.Mail.Count(fake.CreatePod), creates(w))
	}
}

func TestTwoHalves_AFrozenProcessDeletesNothingThatSomebodyElseHasClaimed(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, fault.LoseAnswer())
	list(t, w.Engine(), alice)
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.0"}}})
	w.Clock.Advance(71 * time.Second)
	pod, _ := w.Mail.Pod(alice)
	deletions := 0
	inject(t, w.AgentMail, "GET /v0/pods/"+pod.ID+"/api-keys", 1, then(func() { // frozen between looking and deleting
		w.Clock.Advance(71 * time.Second)
		w.AgentMail.SetHook(nil)
		reconcile(t, w.Engine())
		deletions = w.Mail.Count(fake.DeleteKey)
	}))
	reconcile(t, w.Engine())
	if deletions != 1 || w.Mail.Count(fake.DeleteKey) != 1 {
		t.Errorf("I4: %d deletions by who took over, %d in all", deletions, w.Mail.Count(fake.DeleteKey))
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestTwoHalves_AFrozenRevocationDeletesNothingThatSomebodyElseHasClaimed(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	var frozen atomic.Bool
	w.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
		switch {
		case c.Method == http.MethodDelete && frozen.Load():
			t.Errorf("I4: %s was sent after the lease", c.Op)
		case c.Method == http.MethodGet: // frozen between looking and deleting
			return then(func() { w.Clock.Advance(71 * time.Second); frozen.Store(true) })
		}
		return nil
	})
	remove(t, w.Engine(), alice)
	if !frozen.Load() {
		t.Error("it never looked")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestTheLeaseCountsFromBeforeTheClaimWasSent(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	start := w.Clock.Now()
	inject(t, w.DynamoDB, transact, 1, first(func() { w.Clock.Advance(10 * time.Second) }))
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.Drop()})
	list(t, w.Engine(), alice)
	if got := slot(t, w, alice).LeaseUntil.Sub(start); got != 60*time.Second {
		t.Errorf("the lease ends %v after the claim was made", got)
	}
}

func TestFenced_AWorkerThatLostItsClaimDeletesTheKeyItMadeAndNoOther(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, update, 1, first(func() { // a later owner takes over just before the commit
		w.SetItem(store.SlotKey(alice, managedtest.Provider), map[string]types.AttributeValue{
			"owner":   &types.AttributeValueMemberS{Value: "somebody else"},
			"attempt": &types.AttributeValueMemberN{Value: "2"},
		})
		w.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.2"}}})
	}))
	l := list(t, w.Engine(), alice)
	if has(l, alice) {
		t.Errorf("I4: the list is %+v", l)
	}
	pod, _ := w.Mail.Pod(alice)
	if len(pod.Keys) != 1 || pod.Keys[0].Name != alice+"-agpt-managed.2" {
		t.Errorf("the keys left are %+v", pod.Keys)
	}
	if s := slot(t, w, alice); s.Owner != "somebody else" || s.Attempt != 2 {
		t.Errorf("I4: the slot is %+v", s)
	}
}

func TestFenced_AKeyThatTheSlotStoresIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	// The commit takes effect, its answer is lost, and before the repeat the account is deleted:
	// the slot is revoking and names my key.
	inject(t, w.DynamoDB, update, 1, func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		_, err := c.Forward(ctx)
		if err != nil {
			return nil, err
		}
		_, err = w.Store.Bury(ctx, alice, "")
		if err != nil {
			return nil, err
		}
		return nil, w.Store.MarkRevoking(ctx, store.SlotKey(alice, managedtest.Provider), time.Time{})
	})
	_, err := w.Engine().List(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	if w.Mail.Count(fake.DeleteKey) != 0 {
		t.Error("I4: a key was deleted without a claim, though the slot stores it")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestATransactionConflictOnTheClaimReadsAgainAndClaimsOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, transact, 1, fault.TransactionConflict())
	l := list(t, w.Engine(), alice)
	if !has(l, alice) || w.DynamoDB.Count(batchGet) != 2 || w.DynamoDB.Count(transact) != 2 {
		t.Errorf("the list is %+v after %v", l, ops(w.DynamoDB))
	}
	w.CheckExactlyOne(alice)
}

func TestATransactionConflictOnTheCommitIsRepeated(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, update, 0, func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		if c.Nth <= 5 {
			return fault.TransactionConflict()(ctx, c)
		}
		return c.Forward(ctx)
	})
	l := list(t, w.Engine(), alice)
	if !has(l, alice) {
		t.Errorf("the list is %+v", l)
	}
	w.CheckExactlyOne(alice)
}

func TestATransactionConflictOnTheTombstoneAndTheMarksIsRepeated(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.DynamoDB.Reset()
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Nth == 1 && (c.Op == put || c.Op == update || c.Op == "DeleteItem") {
			return fault.TransactionConflict()
		}
		return nil
	})
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	w.CheckNoPod(alice)
	w.Clock.Advance(managed.LastLook + time.Millisecond)
	w.DynamoDB.Reset()
	reconcile(t, w.Engine())
	w.CheckNothingLeft(alice)
}
