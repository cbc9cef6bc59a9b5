package managed_test

import (
	"context"
	"errors"
	"net/http"
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
	late := w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.Later(fault.UntilReleased, fault.Drop())})
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
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.LoseAnswer()})
	list(t, w.Engine(), alice) // made a key that nobody knows
	w.Clock.Advance(71 * time.Second)
	w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Times: 1, Fault: fake.Code("limit_exceeded")})
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

func TestALeaseThatRanOutIsReconcilesAlone_ASlowProviderPolledForTenLeases(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Lease: 10 * time.Second, Budget: 2 * time.Second})
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.After(fault.For(3*time.Second), nil)}) // above the budget, below half a lease
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
	held := w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.Hold(nil)})
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
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 3, Fault: fake.Status(http.StatusServiceUnavailable)})
	list(t, w.Engine(), alice) // nothing was made, but nobody knows
	remove(t, w.Engine(), alice)
	w.Clock.Advance(71 * time.Second)
	late := w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.Later(fault.UntilReleased, fault.Drop())})
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
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fake.Code("limit_exceeded")})
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
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	for _, user := range []string{alice, bob} {
		list(t, w.Engine(), user)
	}
	w.Clock.Advance(20 * time.Second)
	process := w.Engine()
	list(t, process, "carol") // learns of the outage
	before := w.Mail.Count(fake.CreatePod)
	w.DynamoDB.Reset()
	reconcile(t, process)
	if w.Mail.Count(fake.CreatePod) != before || w.DynamoDB.Count(transact) != 0 || w.DynamoDB.Count(update) != 2+1 { // one notes the failure
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
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.LoseAnswer()}) // and a take-over sweeps
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
