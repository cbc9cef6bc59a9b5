package managed_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

var drill = managed.Order{By: "the operator", Reason: "a drill"}

func suspend(t *testing.T, w *managedtest.World, user string) {
	t.Helper()
	err := w.Engine().Suspend(t.Context(), user, drill)
	if err != nil {
		t.Fatalf("suspending: %v", err)
	}
}

func enable(t *testing.T, w *managedtest.World, user string) {
	t.Helper()
	err := w.Engine().Enable(t.Context(), user, drill)
	if err != nil {
		t.Fatalf("enabling: %v", err)
	}
	w.Clock.Advance(time.Millisecond)
}

// untouched does some rounds of reconcile, hours apart, and fails the test if alice's slot gets
// into another state, or anything is asked of AgentMail.
func untouched(t *testing.T, w *managedtest.World) {
	t.Helper()
	before := slot(t, w, alice)
	w.AgentMail.Reset()
	for range 3 {
		w.Clock.Advance(12 * time.Hour)
		reconcile(t, w.Engine())
	}
	s := slot(t, w, alice)
	if s.Reason != store.ReasonSuspended {
		t.Errorf("alice's slot was not due: %+v", s)
	}
	s.Reason, s.DueAt = before.Reason, before.DueAt
	if s != before {
		t.Errorf("alice's slot was\n%+v and is\n%+v\n%s", before, s, w.Logs())
	}
	if n := len(w.AgentMail.Calls()); n > 0 {
		t.Errorf("AgentMail was called %d times for who is suspended: %v", n, ops(w.AgentMail))
	}
}

func TestASuspendedUserGetsNothingAndLosesNothing(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{OptOut: true})
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	w.Report(alice)
	suspend(t, w, alice)
	e := w.Engine()
	for name, do := range map[string]func() error{
		"a list": func() error { _, err := e.List(t.Context(), alice, ""); return err },
		"asking": func() error { _, err := e.Want(t.Context(), alice, managedtest.Provider); return err },
		"giving up": func() error {
			_, err := e.Retract(t.Context(), alice, managedtest.Provider)
			return err
		},
		"a rotation": func() error { return e.Rotate(t.Context(), order(alice, time.Hour)) },
	} {
		err := do()
		if !errors.Is(err, credential.ErrAccountSuspended) || errors.Is(err, credential.ErrAccountDeleted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	untouched(t, w)
	list(t, w.Engine(), bob)
	w.CheckExactlyOne(bob)
	suspend(t, w, alice) // once more
	enable(t, w, alice)
	enable(t, w, alice)
	if l := list(t, w.Engine(), alice); !has(l, alice) || w.Key(alice) != key || !works(w, key) {
		t.Errorf("the list is %+v", l)
	}
	if s := slot(t, w, alice); s.DueAt.After(w.Clock.Now()) {
		t.Errorf("what waited still waits: %+v", s)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
	for _, line := range []string{
		`"message":"suspension","audit":true,"by":"the operator","reason":"a drill","user":"alice"`,
		`"message":"suspension ended","audit":true,"by":"the operator","reason":"a drill","user":"alice"`,
	} {
		if !strings.Contains(w.Logs(), line) {
			t.Errorf("%s is not on record", line)
		}
	}
}

// Whatever is under way, it goes on where it stood.
func TestWhatIsUnderWayOfASuspendedUserWaitsAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T, *managedtest.World){
		"what failed": func(t *testing.T, w *managedtest.World) {
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Status(500)})
			list(t, w.Engine(), alice)
		},
		"a create whose answer is lost": func(t *testing.T, w *managedtest.World) {
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.LoseAnswer()})
			list(t, w.Engine(), alice)
		},
		"a commit that is not settled": func(t *testing.T, w *managedtest.World) {
			w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.LoseAnswer()})
			list(t, w.Engine(), alice)
		},
		"a rotation": func(t *testing.T, w *managedtest.World) {
			list(t, w.Engine(), alice)
			rotate(t, w, alice, time.Minute)
		},
		"an overlap": func(t *testing.T, w *managedtest.World) {
			list(t, w.Engine(), alice)
			rotate(t, w, alice, time.Minute)
			reconcile(t, w.Engine())
		},
		"an org key that is missing": func(t *testing.T, w *managedtest.World) {
			list(t, w.Engine(), alice)
			w.SetOrgKeys(`{}`)
			w.Report(alice)
			w.Clock.Advance(time.Minute)
			reconcile(t, w.Engine())
			w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			begin(t, w)
			suspend(t, w, alice)
			w.Heal()
			w.Clock.Advance(time.Hour)
			untouched(t, w)
			enable(t, w, alice)
			if s := slot(t, w, alice); s.DueAt.After(w.Clock.Now()) {
				t.Errorf("what waited still waits: %+v", s)
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

// What its user gives up goes once they are enabled again.
func TestWhatASuspendedUserGaveUpWaits(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{OptOut: true})
	list(t, w.Engine(), alice)
	_, err := w.Engine().Retract(t.Context(), alice, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	suspend(t, w, alice)
	untouched(t, w)
	enable(t, w, alice)
	w.Converge()
	if s := slot(t, w, alice); s.State != store.Off {
		t.Errorf("the slot is %+v", s)
	}
	w.CheckNoPod(alice)
}

func TestNoClaimBeginsOnceAUserIsSuspended(t *testing.T) {
	t.Parallel()
	t.Run("of a list", func(t *testing.T) {
		t.Parallel()
		w := managedtest.New(t, managedtest.Options{})
		inject(t, w.DynamoDB, transact, 1, first(func() { suspend(t, w, alice) }))
		_, err := w.Engine().List(t.Context(), alice, "")
		if !errors.Is(err, credential.ErrAccountSuspended) || creates(w) > 0 {
			t.Errorf("%v, and %d keys were asked for", err, creates(w))
		}
		if s := slot(t, w, alice); s.State != store.Absent {
			t.Errorf("the slot is %+v", s)
		}
	})
	t.Run("of a list that reads again", func(t *testing.T) {
		t.Parallel()
		w := managedtest.New(t, managedtest.Options{})
		inject(t, w.DynamoDB, transact, 1, func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			suspend(t, w, alice)
			return fault.TransactionConflict()(ctx, c)
		})
		_, err := w.Engine().List(t.Context(), alice, "")
		if !errors.Is(err, credential.ErrAccountSuspended) || creates(w) > 0 {
			t.Errorf("%v, and %d keys were asked for", err, creates(w))
		}
	})
	t.Run("of a list that waits for another one", func(t *testing.T) {
		t.Parallel()
		w := managedtest.New(t, managedtest.Options{})
		inject(t, w.AgentMail, createPd, 1, first(func() {
			inject(t, w.DynamoDB, batchGet, 1, first(func() { suspend(t, w, alice) }))
			_, err := w.Engine().List(t.Context(), alice, "")
			if !errors.Is(err, credential.ErrAccountSuspended) {
				t.Errorf("it is answered: %v", err)
			}
		}))
		list(t, w.Engine(), alice)
	})
	t.Run("of a check", func(t *testing.T) {
		t.Parallel()
		w := managedtest.New(t, managedtest.Options{})
		list(t, w.Engine(), alice)
		w.Report(alice)
		inject(t, w.DynamoDB, transact, 1, first(func() { suspend(t, w, alice) }))
		w.AgentMail.Reset()
		reconcile(t, w.Engine())
		s := slot(t, w, alice)
		if s.State != store.Ready || s.Owner != "" || s.Reason != store.ReasonSuspended || len(w.AgentMail.Calls()) > 0 {
			t.Errorf("the slot is %+v, and AgentMail was asked %v", s, ops(w.AgentMail))
		}
		w.DynamoDB.SetHook(nil)
		enable(t, w, alice)
		w.Converge()
		w.CheckExactlyOne(alice)
	})
}

// The claim of who was at work when the user was suspended ends as any other does.
func TestAWorkerThatIsOvertakenByASuspensionEndsItsClaim(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, first(func() { suspend(t, w, alice) }))
	list(t, w.Engine(), alice)
	if s := slot(t, w, alice); s.State != store.Ready || s.Owner != "" {
		t.Errorf("the slot is %+v", s)
	}
	enable(t, w, alice)
	w.CheckExactlyOne(alice)
}

// Who lost its claim just before the user was suspended discards what it made all the same.
func TestASuspendedUsersKeyThatIsNotStoredIsDiscarded(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, update, 1, first(func() {
		w.SetItem(store.SlotKey(alice, managedtest.Provider), map[string]types.AttributeValue{
			"owner":   &types.AttributeValueMemberS{Value: "somebody else"},
			"attempt": &types.AttributeValueMemberN{Value: "2"},
		})
		err := w.Store.Suspend(t.Context(), alice, store.Suspension{By: store.ByOperator, OrderedBy: "the operator", Reason: "a drill"})
		if err != nil {
			t.Error(err)
		}
	}))
	list(t, w.Engine(), alice)
	if pod, _ := w.Mail.Pod(alice); len(pod.Keys) != 0 {
		t.Errorf("the pod has %+v", pod)
	}
}

func TestADeletionOvertakesASuspension(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T, *managedtest.World){
		"at rest": func(*testing.T, *managedtest.World) {},
		"due":     func(_ *testing.T, w *managedtest.World) { w.Report(alice) },
		"that waits": func(t *testing.T, w *managedtest.World) {
			w.Report(alice)
			suspend(t, w, alice)
			untouched(t, w)
		},
	} {
		w := managedtest.New(t, managedtest.Options{})
		list(t, w.Engine(), alice)
		begin(t, w)
		suspend(t, w, alice)
		_, known, err := w.Engine().DeleteAccount(t.Context(), alice, "")
		if err != nil || !known {
			t.Errorf("%s: known: %v, %v", name, known, err)
		}
		for doing, err := range map[string]error{
			"suspending": w.Engine().Suspend(t.Context(), alice, drill), "enabling": w.Engine().Enable(t.Context(), alice, drill),
		} {
			if !errors.Is(err, credential.ErrAccountDeleted) {
				t.Errorf("%s: %s: %v", name, doing, err)
			}
		}
		w.Converge()
		w.CheckNothingLeft(alice)
	}
}

// A suspension is no tombstone, however it came among what is due.
func TestASuspensionIsNeverTakenForADeletionThatIsDue(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	suspend(t, w, alice)
	w.SetItem(store.Key{PK: "USER#" + alice, SK: "ACCOUNT"}, map[string]types.AttributeValue{
		"due_at":    &types.AttributeValueMemberN{Value: "1"},
		"due_shard": &types.AttributeValueMemberS{Value: "dead.0"},
	})
	reconcile(t, w.Engine())
	enable(t, w, alice)
	if !has(list(t, w.Engine(), alice), alice) || w.Key(alice) != key {
		t.Error("the credential is not what it was")
	}
	w.CheckExactlyOne(alice)
}

// Neither is anything found, nor would a repair change anything, before they are enabled.
func TestAnAuditLeavesWhoIsSuspendedAlone(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.RemoveKey(alice)
	w.Mail.SeedPod(fake.Pod{ClientID: bob, Keys: []fake.Key{{Name: bob + "-agpt-managed.1"}}})
	suspend(t, w, alice)
	suspend(t, w, bob)
	longAgo(w)
	before := w.Dump()
	r := audit(t, w, true)
	if len(r.Findings) != 0 || w.Dump() != before {
		t.Errorf("it finds %+v, and the table was\n%s\nand is\n%s", r.Findings, before, w.Dump())
	}
	enable(t, w, alice)
	enable(t, w, bob)
	r = audit(t, w, true)
	if found(r, alice) != "missing_key check" || found(r, bob) != "unclaimed" {
		t.Errorf("after that it finds %+v", r.Findings)
	}
}

// What operators do for all users goes on past one who is suspended.
func TestASuspendedUserIsInNobodysWay(t *testing.T) {
	t.Parallel()
	w := held(t)
	list(t, w.Engine(), bob)
	w.Report(bob)
	suspend(t, w, bob)
	reconcile(t, w.Engine())
	retried, _, err := w.Engine().Retry(t.Context(), managed.RetryRequest{By: "Ops"})
	if err != nil {
		t.Errorf("%d retried, %v", retried, err)
	}
	_, _, err = w.Engine().Parked(t.Context())
	if err != nil {
		t.Errorf("what is parked: %v", err)
	}
	w.Clock.Advance(managed.LastLook)
	reconcile(t, w.Engine())
	ended, _, err := w.Engine().EndHoldback(t.Context(), managed.HoldbackRequest{Order: drill})
	if err != nil || ended != 1 {
		t.Errorf("%d are held back no more, %v", ended, err)
	}
}

func TestWhoIsDisabledInTheUserPoolIsEnabledThere(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	suspend(t, w, alice)
	err := w.Store.Suspend(t.Context(), alice, store.Suspension{By: store.ByCognito})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err = w.Engine().Enable(t.Context(), alice, drill)
		if !errors.Is(err, managed.ErrDisabledInPool) {
			t.Errorf("enabling: %v", err)
		}
	}
	_, err = w.Engine().List(t.Context(), alice, "")
	if !errors.Is(err, credential.ErrAccountSuspended) {
		t.Errorf("a list: %v", err)
	}
}

func TestNobodyIsSuspendedWhereThatIsOffOrNotOnRecord(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	err := w.EngineWith(func(c *managed.Config) { c.Suspends = false }).Suspend(t.Context(), alice, drill)
	if !errors.Is(err, managed.ErrSuspensionOff) {
		t.Errorf("where it is off: %v", err)
	}
	err = w.EngineWith(deaf).Suspend(t.Context(), alice, drill)
	if err == nil {
		t.Error("it is not on record")
	}
	list(t, w.Engine(), alice)
	suspend(t, w, alice)
	err = w.EngineWith(deaf).Enable(t.Context(), alice, drill)
	if err == nil {
		t.Error("the end of it is not on record")
	}
	// Who was suspended before is enabled.
	err = w.EngineWith(func(c *managed.Config) { c.Suspends = false }).Enable(t.Context(), alice, drill)
	if err != nil {
		t.Error(err)
	}
	list(t, w.Engine(), alice)
}

// inPool is a world in whose user pool alice is, and who follows it as an event has an engine do.
func inPool(t *testing.T) (w *managedtest.World, follow func()) {
	t.Helper()
	w = managedtest.New(t, managedtest.Options{UserPool: true})
	w.Pool.AddUser(standin.User{Username: "alice in the pool", Sub: alice})
	return w, func() {
		t.Helper()
		_, err := w.Engine().FollowPool(t.Context(), alice)
		if err != nil {
			t.Errorf("following the user pool: %v", err)
		}
	}
}

// An event only has the pool looked at: whichever comes, and when.
func TestWhoIsDisabledInTheUserPoolIsSuspendedUntilTheyAreEnabledThere(t *testing.T) {
	t.Parallel()
	w, follow := inPool(t)
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	follow() // a late one, of long ago
	list(t, w.Engine(), alice)
	w.Report(alice)
	for range 2 {
		w.Pool.Switch(alice, false)
		follow()
		follow() // the same one again
		_, err := w.Engine().List(t.Context(), alice, "")
		if !errors.Is(err, credential.ErrAccountSuspended) {
			t.Errorf("a list: %v", err)
		}
		untouched(t, w)
		w.Pool.Switch(alice, true)
		follow()
		follow()
		if s := slot(t, w, alice); s.DueAt.After(w.Clock.Now()) {
			t.Errorf("what waited still waits: %+v", s)
		}
	}
	if !has(list(t, w.Engine(), alice), alice) || w.Key(alice) != key {
		t.Error("the credential is not what it was")
	}
	w.Converge()
	w.CheckExactlyOne(alice)
	for _, line := range []string{
		`"message":"suspension","audit":true,"by":"cognito","reason":"disabled in the user pool","user":"alice"`,
		`"message":"suspension ended","audit":true,"by":"cognito","reason":"enabled in the user pool","user":"alice"`,
	} {
		if !strings.Contains(w.Logs(), line) {
			t.Errorf("%s is not on record", line)
		}
	}
}

func TestAnOperatorsSuspensionAndThePoolsStandSideBySide(t *testing.T) {
	t.Parallel()
	w, follow := inPool(t)
	list(t, w.Engine(), alice)
	w.Report(alice)
	suspend(t, w, alice)
	follow() // enabled in the pool
	untouched(t, w)
	w.Pool.Switch(alice, false)
	follow()
	w.Pool.Switch(alice, true)
	follow()
	if !w.Suspended(alice) {
		t.Error("the pool lifted an operator's suspension")
	}
	w.Pool.Switch(alice, false)
	follow()
	err := w.Engine().Enable(t.Context(), alice, drill)
	if !errors.Is(err, managed.ErrDisabledInPool) || !w.Suspended(alice) {
		t.Errorf("an operator lifted the pool's suspension: %v", err)
	}
	w.Pool.Switch(alice, true)
	follow()
	list(t, w.Engine(), alice)
}

// Of two that look at once the one that has seen less may write last.
func TestALookThatIsWrittenLateIsPutRight(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write string // of who is overtaken
		seen  bool
	}{
		"disabled": {update, false},
		"enabled":  {"DeleteItem", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, follow := inPool(t)
			list(t, w.Engine(), alice)
			w.Pool.Switch(alice, !c.seen)
			follow()
			w.Pool.Switch(alice, c.seen)
			inject(t, w.DynamoDB, c.write, 1, first(func() {
				w.Pool.Switch(alice, !c.seen)
				follow()
			}))
			follow()
			if w.Suspended(alice) != c.seen {
				t.Errorf("alice is enabled in the pool: %t, and suspended: %t", !c.seen, w.Suspended(alice))
			}
			w.DynamoDB.SetHook(nil)
			w.Pool.Switch(alice, true)
			follow()
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

// Whoever is suspended again while what waited is resumed stays suspended.
func TestADisablingWhileWorkIsResumedIsNoError(t *testing.T) {
	t.Parallel()
	w, follow := inPool(t)
	list(t, w.Engine(), alice)
	w.Pool.Switch(alice, false)
	follow()
	w.Pool.Switch(alice, true)
	inject(t, w.DynamoDB, batchGet, 1, first(func() {
		w.Pool.Switch(alice, false)
		follow()
	}))
	disabled, err := w.Engine().FollowPool(t.Context(), alice)
	if err != nil || !disabled || !w.Suspended(alice) {
		t.Errorf("disabled: %t, suspended: %t, %v", disabled, w.Suspended(alice), err)
	}
}

func TestALookThatCannotBeTakenOrWrittenIsAnErrorAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	w, follow := inPool(t)
	list(t, w.Engine(), alice)
	w.Pool.Switch(alice, false)
	for _, c := range []struct {
		proxy *fault.Proxy
		op    string
		nth   int
		fault fault.Fault
	}{
		{w.Cognito, "AdminGetUser", 1, fault.AWSError(400, "NotAuthorizedException", "no")},
		{w.DynamoDB, update, 1, fault.AWSError(400, "AccessDeniedException", "no")},
		{w.Cognito, "AdminGetUser", 2, fault.AWSError(400, "NotAuthorizedException", "no")}, // it is not known what stands
	} {
		inject(t, c.proxy, c.op, c.nth, c.fault)
		_, err := w.Engine().FollowPool(t.Context(), alice)
		if err == nil {
			t.Errorf("%s the %dth time: no error", c.op, c.nth)
		}
		c.proxy.SetHook(nil)
	}
	_, err := w.EngineWith(deaf).FollowPool(t.Context(), alice)
	if err == nil {
		t.Error("it is not on record")
	}
	follow()
	if !w.Suspended(alice) {
		t.Error("alice is not suspended")
	}
	var looks atomic.Int32
	w.Cognito.SetHook(func(*fault.Call) fault.Fault {
		w.Pool.Switch(alice, looks.Add(1)%2 == 0)
		return nil
	})
	_, err = w.Engine().FollowPool(t.Context(), alice)
	if err == nil || looks.Load() > 10 {
		t.Errorf("of somebody who is switched again and again: %v after %d looks", err, looks.Load())
	}
}

func TestWhoIsNotInThePoolOrDeletedIsLeftAlone(t *testing.T) {
	t.Parallel()
	w, follow := inPool(t)
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	for _, who := range []string{bob, "alice in the pool"} {
		disabled, err := w.Engine().FollowPool(t.Context(), who)
		if err != nil || disabled || w.Suspended(who) {
			t.Errorf("%s: %t, %v", who, disabled, err)
		}
	}
	w.Pool.Switch(alice, false)
	follow()
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, enabled := range []bool{false, true} { // late events of somebody whose user is still there
		w.Pool.Switch(alice, enabled)
		follow()
		_, err = w.Engine().List(t.Context(), alice, "")
		if !errors.Is(err, credential.ErrAccountDeleted) {
			t.Errorf("a list: %v", err)
		}
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

// Where suspension is off nobody is suspended, and who was before is enabled all the same.
func TestWhereSuspensionIsOffThePoolOnlyEnables(t *testing.T) {
	t.Parallel()
	w, follow := inPool(t)
	list(t, w.Engine(), alice)
	off := func(c *managed.Config) { c.Suspends = false }
	w.Pool.Switch(alice, false)
	_, err := w.EngineWith(off).FollowPool(t.Context(), alice)
	if !errors.Is(err, managed.ErrSuspensionOff) {
		t.Errorf("disabling: %v", err)
	}
	list(t, w.Engine(), alice)
	follow()
	w.Pool.Switch(alice, true)
	_, err = w.EngineWith(off).FollowPool(t.Context(), alice)
	if err != nil {
		t.Error(err)
	}
	list(t, w.Engine(), alice)
}
