package managed_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

const alice, bob = "alice", "bob"

// list lists and expects no error.
func list(t *testing.T, e *managed.Engine, user string) managed.Listing {
	t.Helper()
	l, err := e.List(t.Context(), user, "")
	if err != nil {
		t.Fatalf("listing: %v", err)
	}
	return l
}

// stands is how the one provider stands in a listing.
func stands(t *testing.T, l managed.Listing) managed.StandingState {
	t.Helper()
	if len(l.Standings) != 1 || l.Standings[0].Provider != managedtest.Provider {
		t.Fatalf("standings: %+v", l.Standings)
	}
	return l.Standings[0].State
}

// has reports whether the listing holds the user's managed credential.
func has(l managed.Listing, user string) bool {
	for _, m := range l.Credentials {
		if m.ID == credential.ManagedID(managedtest.Provider, user) && m.Managed {
			return true
		}
	}
	return false
}

// remove deletes the account and expects no error.
func remove(t *testing.T, e *managed.Engine, user string) []managed.Pending {
	t.Helper()
	left, _, err := e.DeleteAccount(t.Context(), user, "")
	if err != nil {
		t.Fatalf("deleting the account: %v", err)
	}
	return left
}

// reconcile does one round and expects no error.
func reconcile(t *testing.T, e *managed.Engine) managed.Report {
	t.Helper()
	r, err := e.Reconcile(t.Context())
	if err != nil {
		t.Fatalf("reconciling: %v", err)
	}
	return r
}

// slot is the user's slot as it is.
func slot(t *testing.T, w *managedtest.World, user string) store.Slot {
	t.Helper()
	slots, err := w.Store.Slots(context.Background(), user, managedtest.Provider)
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) && !errors.Is(err, credential.ErrAccountSuspended) {
		t.Fatal(err)
	}
	return slots[managedtest.Provider]
}

// on makes a hook that gives the n-th call of an operation a fault, and counts how often it struck.
type strike struct {
	op    string
	nth   int // 0: every one
	fault fault.Fault
	hits  atomic.Int32
}

func (s *strike) hook(c *fault.Call) fault.Fault {
	if c.Op != s.op || s.nth != 0 && c.Nth != s.nth {
		return nil
	}
	s.hits.Add(1)
	return s.fault
}

// inject gives the n-th call of op from now on that fault, every one if nth is 0, and fails the
// test if none ever came.
func inject(t *testing.T, p *fault.Proxy, op string, nth int, f fault.Fault) {
	t.Helper()
	p.Reset()
	s := &strike{op: op, nth: nth, fault: f}
	p.SetHook(s.hook)
	t.Cleanup(func() {
		if s.hits.Load() == 0 {
			t.Errorf("the fault on %s never struck", op)
		}
	})
}

// first does something before the call goes through, once.
func first(do func()) fault.Fault {
	var done atomic.Bool
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		if done.CompareAndSwap(false, true) {
			do()
		}
		return c.Forward(ctx)
	}
}

// then does something after the call has taken effect and before its answer arrives, once.
func then(do func()) fault.Fault {
	var done atomic.Bool
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		a, err := c.Forward(ctx)
		if done.CompareAndSwap(false, true) {
			do()
		}
		return a, err
	}
}

const (
	query    = "Query"
	batchGet = "BatchGetItem"
	transact = "TransactWriteItems"
	update   = "UpdateItem"
	put      = "PutItem"
	createPd = "POST /v0/pods"
)

// creates counts the keys that were asked for.
func creates(w *managedtest.World) int { return w.Mail.Count(fake.CreateKey) }
