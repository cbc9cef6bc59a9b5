package managed_test

import (
	"context"
	"errors"
	"net/http"
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

// Each test here is a schedule that breaks the promise if the rule in its name is left out.

func TestClaimComesFirst_NothingIsCreatedWithoutOne(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault.Fault{
		"refused":     fault.AWSError(http.StatusBadRequest, "ValidationException", "no"),
		"lost before": fault.Drop(),
		"lost after":  fault.LoseAnswer(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			inject(t, w.DynamoDB, transact, 0, f)
			list(t, w.Engine(), alice)
			if n := w.Mail.Count(fake.CreatePod) + creates(w); n != 0 {
				t.Errorf("I3: %d creates without a claim", n)
			}
			w.Heal()
			w.Converge()
			list(t, w.Engine(), alice)
			w.CheckExactlyOne(alice)
		})
	}
}

func TestALostCommitAnswerIsRecognisedAsMyOwnCommit(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, update, 1, fault.LoseAnswer()) // the SDK repeats it, and its own first effect refuses the repeat
	l := list(t, w.Engine(), alice)
	if !has(l, alice) {
		t.Errorf("the list is %+v", l)
	}
	if w.Mail.Count(fake.DeleteKey) != 0 {
		t.Error("the key that is stored was deleted")
	}
	w.CheckExactlyOne(alice)
}

func TestAnUnknownCommitDestroysNothing(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]fault.Fault{"it took effect": fault.LoseAnswer(), "it did not": fault.Drop()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			inject(t, w.DynamoDB, update, 0, func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
				if c.Nth == 1 {
					return first(ctx, c)
				}
				return nil, nil
			})
			list(t, w.Engine(), alice)
			if w.Mail.Count(fake.DeleteKey) != 0 {
				t.Error("a key was deleted although it may be stored")
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

func TestAnUnknownCreateKeepsTheLease_ALateKeyIsSweptByTheTakeOver(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	late := w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Times: 1, Instead: &fake.Answer{Drop: true}, Late: fake.UntilReleased})
	list(t, w.Engine(), alice)
	w.Clock.Advance(20 * time.Second) // past every backoff, within the lease's first half
	list(t, w.Engine(), alice)
	reconcile(t, w.Engine())
	if creates(w) != 1 {
		t.Fatalf("%d keys were asked for while the first may still come", creates(w))
	}
	if !w.Mail.Release(late) {
		t.Fatal("nothing was held")
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestAnUnknownCreateIsSticky_AlsoOnCommit(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, fault.LoseAnswer()) // the client repeats it, and that answer comes
	l := list(t, w.Engine(), alice)
	if !has(l, alice) {
		t.Fatalf("the list is %+v", l)
	}
	s := slot(t, w, alice)
	if s.State != store.Ready || s.Settled() || s.Owner != "" || s.DueAt.Before(s.LeaseUntil) {
		t.Errorf("the slot is %+v", s)
	}
	w.Converge() // one sweep
	s = slot(t, w, alice)
	if !s.Settled() || !s.DueAt.IsZero() || s.Attempt != 2 || s.Committed != 1 {
		t.Errorf("after the sweep the slot is %+v", s)
	}
	w.CheckExactlyOne(alice)
}

func TestWhatALowerAttemptLeftStaysUnsettledUntilItIsAccountedFor(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Times: 1, Then: &fake.Answer{Drop: true}})
	list(t, w.Engine(), alice) // made a key that nobody knows
	w.Clock.Advance(71 * time.Second)
	w.Mail.Inject(fake.Fault{Operation: fake.ListKeys, Times: 1, Instead: &fake.Answer{Code: "limit_exceeded"}})
	reconcile(t, w.Engine()) // fails before it could look, and itself sent nothing whose outcome is unknown
	if s := slot(t, w, alice); s.State != store.Failed || s.Settled() {
		t.Errorf("the slot is %+v", s)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestASweepRemovesWhatALowerAttemptLeft(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, fault.LoseAnswer())
	list(t, w.Engine(), alice)
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.0"}, {Name: alice + "-agpt-managed.9"}, {Name: "hers"}}})
	w.Converge()
	pod, _ := w.Mail.Pod(alice)
	var names []string
	for _, key := range pod.Keys {
		names = append(names, strings.TrimPrefix(key.Name, alice+"-agpt-managed"))
	}
	if got := strings.Join(names, " "); got != "."+w.DeploymentID+".1 .9 hers" {
		t.Errorf("the keys left are %s: of ours, only those of lower attempts may go", got)
	}
}

func TestClocksApart_ALeaseIsLeftAloneForTenSecondsMore(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Times: 1, Instead: &fake.Answer{Drop: true}})
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
	w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Times: 1, Instead: &fake.Answer{Drop: true}})
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

func TestALeaseThatRanOutIsReconcilesAlone_ASlowProviderPolledForTenLeases(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Lease: 10 * time.Second, Budget: 2 * time.Second})
	w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, After: 3 * time.Second}) // above the budget, below half a lease
	for range 40 {
		list(t, w.Engine(), alice)
		w.Clock.Advance(10 * time.Second / 4)
	}
	if creates(w) != 1 {
		t.Errorf("the page's polling asked for %d keys", creates(w))
	}
	w.Clock.Advance(store.SkewMargin)
	reconcile(t, w.Engine()) // it has half a lease, and the provider makes it
	if creates(w) != 2 {
		t.Errorf("%d keys were asked for", creates(w))
	}
	w.CheckExactlyOne(alice)
}

func TestNoClaimPassesTheTombstone_AListBetweenItsLookAndTheClaim(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, transact, 1, first(func() {
		if left := remove(t, w.Engine(), alice); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
	}))
	_, err := w.Engine().List(t.Context(), alice, "")
	if !errors.Is(err, credential.ErrAccountDeleted) {
		t.Errorf("the error is %v", err)
	}
	if w.Mail.Count(fake.CreatePod) != 0 {
		t.Error("I5: something was created after the tombstone")
	}
	w.CheckNothingLeft(alice)
}

func TestTheTombstoneComesBeforeTheLook_AListThatClaimsJustBeforeIt(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	var listing sync.WaitGroup
	held := w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Before: fake.UntilReleased})
	inject(t, w.DynamoDB, put, 1, first(func() {
		listing.Go(func() { _, _ = w.Engine().List(context.Background(), alice, "") })
		err := w.Mail.Await(context.Background(), fake.CreateKey, 1)
		if err != nil {
			t.Error(err)
		}
	}))
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 || left[0].State != managed.PendingRevoking || left[0].RetryAt.Before(w.Clock.Now().Add(60*time.Second)) {
		t.Errorf("left: %+v", left)
	}
	w.Mail.RemoveFault(held)
	listing.Wait()
	if s := slot(t, w, alice); s.State != store.Revoking || s.Committed != 0 {
		t.Errorf("I5: a commit passed the mark: %+v", s)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestTwoDeletionsAtOnce_OneWithALostLookup(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Times: 3, Instead: &fake.Answer{Status: http.StatusServiceUnavailable}})
	list(t, w.Engine(), alice) // nothing was made, but nobody knows
	remove(t, w.Engine(), alice)
	w.Clock.Advance(71 * time.Second)
	late := w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Times: 1, Instead: &fake.Answer{Drop: true}, Late: fake.UntilReleased})
	reconcile(t, w.Engine()) // its lookup is lost, and repeated; what the repeat finds is removed
	if w.Mail.Hits(late) != 1 || w.Mail.Count(fake.DeletePod) != 1 {
		t.Fatal("the schedule is not the one meant")
	}
	w.Clock.Advance(20 * time.Second)
	left := remove(t, w.Engine(), alice) // finds nothing at AgentMail, and must not take that for the end
	if len(left) != 1 {
		t.Errorf("left: %+v", left)
	}
	w.Mail.Release(late) // now the lost one makes a pod
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestTwoDeletionsAtOnceFinish(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			_, _, err := w.Engine().DeleteAccount(context.Background(), alice, "")
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAnOutageCostsNeitherEveryUserTheBudgetNorAKeyPerAttempt(t *testing.T) {
	t.Parallel()
	for name, strike := range map[string]func(*testing.T, *managedtest.World){
		"AgentMail": func(t *testing.T, w *managedtest.World) {
			w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Instead: &fake.Answer{Code: "limit_exceeded"}})
		},
		"KMS": func(t *testing.T, w *managedtest.World) {
			inject(t, w.KMS, "Encrypt", 0, fault.AWSError(http.StatusBadRequest, "DisabledException", ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			strike(t, w)
			process := w.Engine()
			list(t, process, alice)
			for _, user := range []string{bob, "carol", "dave"} {
				l := list(t, process, user)
				if stands(t, l) != managed.StandingFailed || l.Standings[0].RetryAt.Before(w.Clock.Now()) {
					t.Errorf("%s: %+v", user, l)
				}
			}
			if creates(w) != 1 {
				t.Errorf("%d keys were asked for", creates(w))
			}
			pod, _ := w.Mail.Pod(alice)
			if len(pod.Keys) != 0 {
				t.Errorf("a key that cannot be stored is left: %+v", pod.Keys)
			}
			w.Clock.Advance(11 * time.Second)
			w.Heal()
			if l := list(t, process, bob); !has(l, bob) {
				t.Errorf("after the outage: %+v", l)
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

func TestDueWorkOfAProviderThatIsDownIsPushedBackByOneWrite(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fake.Fault{Operation: fake.CreatePod, Instead: &fake.Answer{Code: "limit_exceeded"}})
	for _, user := range []string{alice, bob} {
		list(t, w.Engine(), user)
	}
	w.Clock.Advance(20 * time.Second)
	process := w.Engine()
	list(t, process, "carol") // learns of the outage
	before := w.Mail.Count(fake.CreatePod)
	w.DynamoDB.Reset()
	reconcile(t, process)
	if w.Mail.Count(fake.CreatePod) != before || w.DynamoDB.Count(transact) != 0 || w.DynamoDB.Count(update) != 2 {
		t.Errorf("calls: %v", ops(w.DynamoDB))
	}
}

func TestARejectedOrgKeyIsFetchedAnewAtOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	process := w.Engine()
	list(t, process, alice)
	fresh := "am_us_" + strings.Repeat("e", 64)
	w.Mail.RejectOrgKey(fake.OrgKey)
	w.Mail.AcceptOrgKey(fresh, fake.OrganizationID)
	w.SetOrgKeys(`{"agent_mail":"` + fresh + `"}`)
	if l := list(t, process, bob); !has(l, bob) {
		t.Errorf("the list is %+v", l)
	}
	w.CheckExactlyOne(bob)
	if n := w.SecretsManager.Count("GetSecretValue"); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

func TestARejectedOrgKeyThatIsStillTheOneRaisesAnAlarm(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.RejectOrgKey(fake.OrgKey)
	list(t, w.Engine(), alice)
	if !strings.Contains(w.Logs(), `"OrgKeyRejected":1`) {
		t.Error("no alarm")
	}
}

func TestAnAdoptedPodKeepsAutoGPTsKeyUntilTheAccountGoes(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	old := alice + "-agpt-managed"
	seeded := w.Mail.SeedPod(fake.Pod{ClientID: alice, Name: alice + "-pod", Keys: []fake.Key{{Name: old}}})
	w.Mail.Inject(fake.Fault{Operation: fake.CreateKey, Times: 1, Then: &fake.Answer{Drop: true}}) // and a take-over sweeps
	list(t, w.Engine(), alice)
	w.Converge()
	w.CheckExactlyOne(alice)
	pod, _ := w.Mail.Pod(alice)
	if pod.ID != seeded.ID || len(pod.Keys) != 2 || pod.Keys[0].Name != old {
		t.Errorf("the adopted pod is %+v", pod)
	}
	remove(t, w.Engine(), alice)
	w.CheckNoPod(alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

// panics is a provider with a defect.
type panics struct{ managed.Provider }

func (panics) Provision(context.Context, credential.Secret, *managed.Attempt) (managed.Grant, error) {
	panic("a defect")
}

func TestAProviderThatPanicsFailsAlone(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		return []managed.Provider{managedtest.AgentMail(t, url, managedtest.Provider), panics{managedtest.AgentMail(t, url, "second_mail")}}
	}})
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `","second_mail":"` + fake.OrgKey + `"}`)
	l := list(t, w.Engine(), alice)
	if !has(l, alice) || l.Standings[1].State != managed.StandingFailed {
		t.Errorf("the list is %+v", l)
	}
}
