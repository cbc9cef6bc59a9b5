package managed_test

import (
	"context"
	"errors"
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

func TestARetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		class      managed.Class
		said, want time.Duration
	}{
		"an outage":            {managed.Transient, 10 * time.Minute, 10 * time.Minute},
		"too many calls":       {managed.RateLimited, 10 * time.Minute, 10 * time.Minute},
		"longer than is heard": {managed.Transient, 24 * time.Hour, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &party{make: func(context.Context, *managed.Attempt) error {
				return &managed.Error{Class: c.class, RetryAfter: c.said, Err: errors.New("busy")}
			}}
			w := partyWorld(t, p, false)
			l := list(t, w.Engine(), alice)
			if got := slot(t, w, alice).DueAt.Sub(w.Clock.Now()); got < c.want-time.Second || got > c.want+time.Minute {
				t.Errorf("it is tried again in %v: %+v", got, l)
			}
		})
	}
}

// A third party that asks for fewer calls is not failing: nobody is parked for it, and the next
// user is told when, not that it failed.
func TestTooManyCallsAreNoFailure(t *testing.T) {
	t.Parallel()
	p := &party{}
	w := partyWorld(t, p, false)
	condemned(t, w, []string{alice})
	p.revoke = func(context.Context, *managed.Attempt) error {
		return &managed.Error{Class: managed.RateLimited, RetryAfter: time.Second, Err: errors.New("429")}
	}
	for range 15 {
		w.Clock.Advance(time.Minute)
		reconcile(t, w.Engine())
	}
	if s := slot(t, w, alice); s.State != store.Revoking || s.Tries != 0 || s.Reason != string(managed.RateLimited) {
		t.Errorf("the slot is %+v", s)
	}
	e := w.Engine()
	w.Clock.Advance(time.Minute)
	reconcile(t, e)
	if l := list(t, e, bob); stands(t, l) != managed.StandingFailed || l.Standings[0].RetryAt.After(w.Clock.Now().Add(2*time.Second)) {
		t.Errorf("the next user: %+v", l)
	}
	w.Clock.Advance(2 * time.Second)
	if l := list(t, e, bob); !has(l, bob) {
		t.Errorf("when the third party takes calls again: %+v", l)
	}
}

func TestASetRateIsNeverExceeded(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Waits: true, Providers: func(url string) []managed.Provider {
		return []managed.Provider{managedtest.PacedAgentMail(t, url, managedtest.Provider, 20)}
	}})
	all := users(30)
	condemned(t, w, all)
	// Eight work at once, each with what it has taken: so many calls may come together.
	w.Mail.SetSwitches(fake.Switches{CallsPerSecond: 20, Burst: 8 * 12})
	w.AgentMail.Reset()
	start := w.Clock.Now()
	reconcile(t, w.Engine())
	if n := revoked(t, w, all); n != len(all) || w.Mail.Limited() != 0 {
		t.Errorf("%d of %d are revoked, and %d calls were refused", n, len(all), w.Mail.Limited())
	}
	calls := len(w.AgentMail.Calls())
	if least := time.Duration(float64(calls-24) / 20 * float64(time.Second)); w.Clock.Now().Sub(start) < least {
		t.Errorf("%d calls in %v", calls, w.Clock.Now().Sub(start))
	}
}

// A pass that is cut off begins anew: it must not be cut off at the same call each time.
func TestARevocationThatNeedsMoreCallsThanMayBeSentAtOnceIsDone(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Waits: true})
	all := users(12)
	condemned(t, w, all)
	w.Mail.SetSwitches(fake.Switches{CallsPerSecond: 8, Burst: 4})
	e := w.Engine() // one process, warm
	rounds := 0
	for ; revoked(t, w, all) < len(all) && rounds < 10; rounds++ {
		for _, user := range all {
			if s := slot(t, w, user); s.State == store.Parked {
				t.Fatalf("%s is parked: %+v", user, s)
			}
		}
		reconcile(t, e)
		w.Clock.Advance(time.Minute)
	}
	if n := revoked(t, w, all); n < len(all) {
		t.Errorf("%d of %d are revoked after %d rounds", n, len(all), rounds)
	}
}

// DynamoDB cancels a claim that meets another transaction, and one for which it is short of
// capacity: neither is a refusal.
func TestAClaimThatIsCancelledIsSentAgainWithinTheBudget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cancelled, claims int32
		budget            time.Duration // far more than a busy machine needs, or all of it waited for
		want              managed.StandingState
	}{
		"a few times":  {cancelled: 5, claims: 6, budget: 25 * time.Second, want: managed.StandingReady},
		"all the time": {cancelled: 1 << 30, claims: 1, budget: 2 * time.Second, want: managed.StandingFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{Lease: time.Minute, Budget: c.budget})
			var claims atomic.Int32
			w.DynamoDB.SetHook(func(call *fault.Call) fault.Fault {
				if call.Op != transact || claims.Add(1) > c.cancelled {
					return nil
				}
				return fault.TransactionCanceled("ThrottlingError", "TransactionConflict")
			})
			l := list(t, w.Engine(), alice)
			if stands(t, l) != c.want || claims.Load() < c.claims {
				t.Errorf("after %d claims: %+v", claims.Load(), l)
			}
			conflicted := strings.Contains(w.Logs(), `"ClaimsConflicted":1`) && strings.Contains(w.Logs(), "could not be claimed")
			if conflicted != (c.want == managed.StandingFailed) {
				t.Errorf("counted and logged: %v", conflicted)
			}
		})
	}
}
