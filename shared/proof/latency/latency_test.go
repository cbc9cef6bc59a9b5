// Package latency_test measures how long a key lives on after the end of its account: from the call
// that deletes the account to the moment at which AgentMail has deleted the key.
//
//	go test -v ./shared/proof/latency -prove    with as many accounts as docs/proof.md has
package latency_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
)

var prove = flag.Bool("prove", false, "measure with many accounts, which takes minutes")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(managedtest.Main(m))
}

// call is how long a call to AgentMail takes, which is far away.
const call = 120 * time.Millisecond

// measurement is what becomes of some accounts and their keys.
type measurement struct {
	*managedtest.World
	t     *testing.T
	users []string
	now   func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // accounts, by user
	dead  map[string]time.Time // keys, by id
	keys  map[string]string    // their ids, by user
}

// measure makes accounts with a key each. now is the clock.
func measure(t *testing.T, w *managedtest.World, n int, now func() time.Time) *measurement {
	t.Helper()
	m := &measurement{
		World: w, t: t, now: now,
		ended: map[string]time.Time{}, dead: map[string]time.Time{}, keys: map[string]string{},
	}
	e := w.EngineAt(now)
	var work errgroup.Group
	work.SetLimit(8)
	for i := range n {
		user := fmt.Sprintf("user-%04d", i)
		m.users = append(m.users, user)
		work.Go(func() error {
			for {
				_, err := e.List(t.Context(), user, "")
				if err != nil {
					return err
				}
				slot, _, err := w.Slot(user, managedtest.Provider)
				if err != nil {
					return err
				}
				if slot.Resource.KeyID != "" { // a busy machine may let a list run out of its budget
					m.mu.Lock()
					defer m.mu.Unlock()
					m.keys[user] = slot.Resource.KeyID
					return nil
				}
			}
		})
	}
	err := work.Wait()
	if err != nil {
		t.Fatal(err)
	}
	w.AgentMail.SetHook(m.watch)
	return m
}

// watch notes when a key is deleted, with its pod or by itself.
func (m *measurement) watch(c *fault.Call) fault.Fault {
	if c.Method != http.MethodDelete {
		return nil
	}
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		a, err := c.Forward(ctx)
		id := c.URL.Path[strings.LastIndex(c.URL.Path, "/")+1:]
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil && a.Status == http.StatusNoContent && m.dead[id].IsZero() {
			m.dead[id] = m.now()
		}
		return a, err
	}
}

// end deletes an account as its user does it, or the event of its deletion.
func (m *measurement) end(e *managed.Engine, user string) {
	m.mu.Lock()
	m.ended[user] = m.now()
	m.mu.Unlock()
	_, _, err := e.DeleteAccount(m.t.Context(), user, "")
	if err != nil {
		m.t.Errorf("deleting the account of %s: %v", user, err)
	}
}

// alive is how many keys of the accounts are not dead.
func (m *measurement) alive() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, key := range m.keys {
		if m.dead[key].IsZero() {
			n++
		}
	}
	return n
}

// tell prints a row, and fails if the worst is over a bound. since is from when on an account's
// time counts; zero for its end.
func (m *measurement) tell(what string, since time.Time, bound time.Duration) {
	m.t.Helper()
	var took []time.Duration
	for _, user := range m.users {
		from := m.ended[user]
		if from.Before(since) {
			from = since
		}
		at, ok := m.dead[m.keys[user]]
		if !ok {
			m.t.Errorf("the key of %s lives", user)
			continue
		}
		took = append(took, max(0, at.Sub(from)))
	}
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	share := func(p int) time.Duration { return took[(len(took)-1)*p/100].Round(time.Millisecond) }
	fmt.Printf("| %s | %d | %v | %v | %v |\n", what, len(took), share(50), share(99), share(100))
	if share(100) > bound {
		m.t.Errorf("%s: a key lived for %v, which is more than %v", what, share(100), bound)
	}
}

// many is how many accounts are measured.
func many(n int) int {
	if *prove {
		return n
	}
	return n / 10
}

// The account's own deletion revokes, within its request.
func TestQuiet(t *testing.T) {
	w := managedtest.New(t, managedtest.Options{})
	m := measure(t, w, many(50), time.Now)
	w.Mail.Inject(fault.Rule{Fault: fault.Before(fault.For(call/2), fault.After(fault.For(call/2), nil))})
	for _, user := range m.users {
		m.end(w.EngineAt(time.Now), user) // as a function that was just started
	}
	m.tell("one account after the other", time.Time{}, 30*time.Second)
}

// atOnce is how many functions Lambda runs at a time.
const atOnce = 50

// So does a deletion among many. What one does not get done is reconcile's.
func TestMassDeletion(t *testing.T) {
	w := managedtest.New(t, managedtest.Options{})
	m := measure(t, w, many(500), time.Now)
	w.Mail.Inject(fault.Rule{Fault: fault.Before(fault.For(call/2), fault.After(fault.For(call/2), nil))})
	m.mu.Lock()
	for _, user := range m.users { // all at the same moment, and most of them wait for their turn
		m.ended[user] = time.Now()
	}
	m.mu.Unlock()
	var work errgroup.Group
	work.SetLimit(atOnce)
	for _, user := range m.users {
		work.Go(func() error {
			_, _, err := w.EngineAt(time.Now).DeleteAccount(t.Context(), user, "")
			return err
		})
	}
	err := work.Wait()
	if err != nil {
		t.Error(err)
	}
	for m.alive() > 0 && t.Context().Err() == nil {
		_, err := w.EngineAt(time.Now).Reconcile(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	m.tell(fmt.Sprintf("all at once, %d at a time", atOnce), time.Time{}, 5*time.Minute)
}

// While AgentMail is down for an hour, an account ends every so often. Reconcile comes once a
// minute, by a clock that the test moves, and so calls take no time here.
func TestAnOutageOfAnHour(t *testing.T) {
	w := managedtest.New(t, managedtest.Options{})
	m := measure(t, w, many(120), w.Clock.Now)
	down := w.Mail.Inject(fault.Rule{Fault: fake.Status(http.StatusServiceUnavailable)})
	e := w.Engine() // one instance, warm, as a function has it that is invoked every minute
	every := time.Hour / time.Duration(len(m.users))
	begin := w.Clock.Now()
	next := 0
	var over time.Time
	for minute := range 24 * 60 {
		if minute == 60 {
			w.Mail.RemoveFault(down)
			over = w.Clock.Now()
		}
		for next < len(m.users) && !w.Clock.Now().Before(begin.Add(time.Duration(next)*every)) {
			m.end(w.Engine(), m.users[next])
			next++
		}
		if minute > 60 && m.alive() == 0 {
			break
		}
		w.Clock.Advance(time.Minute)
		_, err := e.Reconcile(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	// The few that the outage has cost so many tries that they were parked are tried again within
	// six hours.
	m.tell("during an outage of an hour", time.Time{}, 7*time.Hour)
	m.tell("the same, from the outage's end", over, 6*time.Hour)
}
