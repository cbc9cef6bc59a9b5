package managed_test

import (
	"context"
	"errors"
	"fmt"
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

// party is a third party that the test plays: it has what the slots name, and answers as revoke and
// make say.
type party struct {
	managed.Provider
	rate   float64
	make   func(context.Context, *managed.Attempt) error
	sweep  func(context.Context, *managed.Attempt) error
	revoke func(context.Context, *managed.Attempt) error
}

func (p *party) Rate() float64 { return p.rate }

func (p *party) Provision(ctx context.Context, _ credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	if p.make != nil {
		err := p.make(ctx, a)
		if err != nil {
			return managed.Grant{}, err
		}
	}
	return managed.Grant{
		Resource: credential.Resource{ID: "pod-" + a.User, KeyID: "key-" + a.User, OrgID: "org"},
		Key:      credential.NewSecret("secret"),
	}, nil
}

func (p *party) Discard(context.Context, credential.Secret, credential.Resource) error { return nil }

func (p *party) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	if p.sweep != nil {
		return p.sweep(ctx, a)
	}
	return p.Provider.Sweep(ctx, org, a)
}

func (p *party) Deprovision(ctx context.Context, _ credential.Secret, a *managed.Attempt) error {
	if p.revoke != nil {
		return p.revoke(ctx, a)
	}
	a.Accounted()
	return nil
}

// partyWorld is a world whose only third party is p.
func partyWorld(t *testing.T, p *party, waits bool) *managedtest.World {
	t.Helper()
	return managedtest.New(t, managedtest.Options{Waits: waits, Providers: func(url string) []managed.Provider {
		p.Provider = managedtest.AgentMail(t, url, managedtest.Provider)
		return []managed.Provider{p}
	}})
}

func users(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("user-%03d", i)
	}
	return all
}

// condemned has a credential made for each user, and their accounts marked as deleted, the
// revocations due.
func condemned(t *testing.T, w *managedtest.World, all []string) {
	t.Helper()
	e := w.Engine()
	for _, user := range all {
		if l := list(t, e, user); !has(l, user) {
			t.Fatalf("%s: %+v", user, l)
		}
		_, err := w.Store.Bury(t.Context(), user, "")
		if err == nil {
			err = w.Store.MarkRevoking(t.Context(), store.SlotKey(user, managedtest.Provider), time.Time{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// revoked counts the users whose revocation is complete, or has but the last look left.
func revoked(t *testing.T, w *managedtest.World, all []string) int {
	t.Helper()
	n := 0
	for _, user := range all {
		s := slot(t, w, user)
		if s.Revoked() || s.State == store.Absent {
			n++
		}
	}
	return n
}

// One call in a hundred fails. It costs those users a moment whose call it was, and nobody else.
func TestAFewFailuresCostFewNewUsersTheirCredentialAtFirstSight(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	var calls, failures atomic.Int32
	w.AgentMail.SetHook(func(*fault.Call) fault.Fault {
		if calls.Add(1)%99 != 50 {
			return nil
		}
		failures.Add(1)
		return fault.Respond(http.StatusInternalServerError, nil, nil)
	})
	engines := []*managed.Engine{w.Engine(), w.Engine(), w.Engine(), w.Engine()}
	without := 0
	for i, user := range users(200) {
		w.Clock.Advance(50 * time.Millisecond)
		if !has(list(t, engines[i%len(engines)], user), user) {
			without++
		}
	}
	if failures.Load() < 4 || without > 5 { // under 3 %
		t.Errorf("%d calls of %d failed, and %d of 200 users went without", failures.Load(), calls.Load(), without)
	}
}

func TestOneBadSlotHoldsUpNoOtherInTheRound(t *testing.T) {
	t.Parallel()
	const bad = "user-003"
	for name, spoil := range map[string]func(*managedtest.World){
		"a pod that answers 500": func(w *managedtest.World) {
			w.Mail.Inject(fault.Rule{About: bad, Fault: fake.Status(http.StatusInternalServerError)})
		},
		"a pod of another organisation": func(w *managedtest.World) {
			w.SetItem(store.SlotKey(bad, managedtest.Provider), map[string]types.AttributeValue{
				"resource_id": &types.AttributeValueMemberS{Value: "7d8c2a52-8a2e-4a0e-9c55-6d1b0f3e7a10"},
				"org_id":      &types.AttributeValueMemberS{Value: "7d8c2a52-8a2e-4a0e-9c55-6d1b0f3e7a11"},
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			all := users(40)
			condemned(t, w, all)
			spoil(w)
			e := w.Engine()
			reconcile(t, e)
			if n := revoked(t, w, all); n != len(all)-1 {
				t.Errorf("%d of %d are revoked", n, len(all))
			}
			if s := slot(t, w, bad); s.Tries != 1 || s.Revoked() {
				t.Errorf("the bad slot is %+v", s)
			}
		})
	}
}

// Those that were tried have their own backoff. The others are neither written nor read.
func TestAnOutageCostsADueSlotNoMoreThanItsOwnBackoff(t *testing.T) {
	t.Parallel()
	p := &party{}
	w := partyWorld(t, p, false)
	all := users(40)
	condemned(t, w, all)
	p.revoke = func(context.Context, *managed.Attempt) error {
		return &managed.Error{Class: managed.Transient, Err: errors.New("down")}
	}
	e := w.Engine()
	w.Clock.Advance(time.Second)
	touched := map[string]time.Time{}
	for minute := range 3 {
		w.DynamoDB.Reset()
		if r := reconcile(t, e); !r.More {
			t.Errorf("the report says that all was done: %+v", r)
		}
		now := 0
		for _, user := range all {
			s := slot(t, w, user)
			if s.Tries > 0 && !touched[user].Equal(s.DueAt) {
				now++
				touched[user] = s.DueAt
			}
		}
		// Three open the circuit, and up to seven others are under way then.
		if now == 0 || now > 10 {
			t.Errorf("minute %d: %d slots were tried", minute, now)
		}
		if n := w.DynamoDB.Count(batchGet); n > 24 {
			t.Errorf("minute %d: %d reads", minute, n)
		}
		w.Clock.Advance(time.Minute)
	}
}

// While the circuit is open one probe is let through, and the others wait for what becomes of it.
func TestInAnOutageOneProbeFollowsAnother(t *testing.T) {
	t.Parallel()
	p := &party{}
	w := partyWorld(t, p, true)
	all := users(20)
	condemned(t, w, all)
	var down atomic.Bool
	down.Store(true)
	var asked, atOnce, most atomic.Int32
	var opened sync.WaitGroup
	opened.Add(3)
	p.revoke = func(_ context.Context, a *managed.Attempt) error {
		n := asked.Add(1)
		if n <= 3 { // the first three fail together
			opened.Done()
			opened.Wait()
			return &managed.Error{Class: managed.Transient, Err: errors.New("down")}
		}
		if n > 8 && n <= 11 { // probes, after those that were under way
			if now := atOnce.Add(1); now > most.Load() {
				most.Store(now)
			}
			defer atOnce.Add(-1)
		}
		if n == 11 {
			down.Store(false)
		}
		if down.Load() {
			return &managed.Error{Class: managed.Transient, Err: errors.New("down")}
		}
		return nil
	}
	start := w.Clock.Now()
	reconcile(t, w.Engine())
	if most.Load() != 1 {
		t.Errorf("%d probes at once", most.Load())
	}
	if n := revoked(t, w, all); n != len(all)-10 {
		t.Errorf("%d of %d are revoked, %d were asked for", n, len(all), asked.Load())
	}
	if waited := w.Clock.Now().Sub(start); waited < 7*time.Second || !strings.Contains(w.Logs(), `"CircuitOpened":1`) {
		t.Errorf("the lane waited for %v, though each while is longer than the last", waited)
	}
}

func TestOurOwnDeadlineIsNobodysFailureUnlessTheCallHung(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, call time.Duration // until the call is sent, and until it is cut off: half of the lease is 30 s
		want         managed.StandingState
	}{
		"a call that was cut off soon": {29 * time.Second, 1500 * time.Millisecond, managed.StandingReady},
		"a call that hung":             {0, 31 * time.Second, managed.StandingFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &party{}
			w := partyWorld(t, p, false)
			p.make = func(ctx context.Context, a *managed.Attempt) error {
				if a.User == alice {
					return nil
				}
				w.Clock.Advance(c.before)
				err := managed.Sending(ctx)
				if err != nil {
					t.Error(err)
				}
				w.Clock.Advance(c.call)
				return ctx.Err()
			}
			e := w.Engine()
			for _, user := range users(3) {
				if l := list(t, e, user); stands(t, l) != managed.StandingFailed {
					t.Errorf("%s: %+v", user, l)
				}
			}
			if l := list(t, e, alice); stands(t, l) != c.want {
				t.Errorf("the next user: %+v", l)
			}
		})
	}
}

func TestSeveralForeignSlotsInARowAreTheOrgKeysFault(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 6} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			p := &party{}
			w := partyWorld(t, p, false)
			all := users(n)
			condemned(t, w, all)
			p.revoke = func(context.Context, *managed.Attempt) error {
				return &managed.Error{Class: managed.Foreign, Err: errors.New("another organisation's")}
			}
			e := w.Engine()
			for range 3 {
				reconcile(t, e)
				w.Clock.Advance(time.Minute)
			}
			wantFetches := 1 // the first
			if n > 2 {
				wantFetches++
			}
			if got := w.SecretsManager.Count("GetSecretValue") - 1; got != wantFetches { // one was condemned's
				t.Errorf("the org keys were fetched %d times", got)
			}
			if alarmed := strings.Contains(w.Logs(), `"OrgKeyRejected":1`); alarmed != (n > 2) {
				t.Errorf("alarmed: %v", alarmed)
			}
			for _, user := range all {
				if s := slot(t, w, user); s.Tries != 3 {
					t.Errorf("the slot was tried %d times: %+v", s.Tries, s)
				}
			}
		})
	}
}

func TestTheLogSaysWhetherThereIsNoOrgKeyOrTheKeysCannotBeRead(t *testing.T) {
	t.Parallel()
	const none, unread = "there is no org key", "the org keys cannot be read"
	for name, c := range map[string]struct {
		trouble func(*managedtest.World)
		told    string
		not     string
	}{
		"none": {func(w *managedtest.World) { w.SetOrgKeys(`{}`) }, none, unread},
		"Secrets Manager is down": {func(w *managedtest.World) {
			w.SecretsManager.SetHook(func(*fault.Call) fault.Fault { return fault.Drop() })
		}, unread, none},
		"no object": {func(w *managedtest.World) { w.SetOrgKeys(`am_us_f`) }, unread, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			c.trouble(w)
			list(t, w.Engine(), alice)
			if logs := w.Logs(); !strings.Contains(logs, c.told) || strings.Contains(logs, c.not) || !strings.Contains(logs, `"OrgKeyUnavailable":1`) {
				t.Errorf("the log is %s", logs)
			}
		})
	}
}
