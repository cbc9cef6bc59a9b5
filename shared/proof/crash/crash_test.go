// Package crash_test searches for a fault that leaves a duplicate, an orphan or a leak. Each
// scenario runs on the real engine, table, seal and org keys, and on AgentMail's fake; then it runs
// again once for every call that it makes to the outside and every way in which that call can go
// wrong. After each run all faults end, reconcile runs until nothing is due, and every invariant is
// checked.
//
// See docs/proof.md for what is covered, and for how to replay a failure.
package crash_test

import (
	"flag"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed/managedtest"
)

var (
	prove  = flag.Bool("prove", false, "also search pairs of faults, which takes 20 minutes")
	sample = flag.Int("sample", 200, "how many pairs are searched in each scenario of several users or providers")
	seed   = flag.Uint64("seed", 1, "chooses that sample")
	only   = flag.String("only", "", "only scenarios whose name has this in it")
)

func TestMain(m *testing.M) {
	// What a few minutes allow; the command line wins. A failure is replayed by the seed that it
	// prints.
	_ = flag.Set("rapid.checks", "30")
	_ = flag.Set("rapid.nofailfile", "true")
	flag.Parse()
	chosen := slices.DeleteFunc(slices.Clone(scenarios), func(s *scenario) bool { return !strings.Contains(s.name, *only) })
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "no scenario has %q in its name; there are\n%s", *only, names())
		os.Exit(2)
	}
	scenarios = chosen
	os.Exit(managedtest.Main(m))
}

// names are those of the scenarios, a line each.
func names() string {
	var all strings.Builder
	for _, s := range scenarios {
		fmt.Fprintf(&all, "  %s\n", s.name)
	}
	return all.String()
}

// workers is how many runs there are at a time: most of a run is waiting.
const workers = 16

// state is one run to explore.
type state struct {
	scenario *scenario
	plan     []strike
	name     string
	skew     time.Duration
}

// explore makes the run in a world that is lent to it, and returns it.
func (s state) explore(t *testing.T, w *managedtest.World) *run {
	r := newRun(t, w, s.scenario)
	r.skew = s.skew
	defer r.close()
	if s.scenario.before != nil {
		s.scenario.before(r)
	}
	r.begin(s.plan)
	s.scenario.do(r)
	r.acted = r.count()
	r.finish(s.scenario)
	err := r.verdict()
	if err != nil {
		t.Errorf("%s: %v", s.name, err)
	}
	return r
}

// newRun lends the world to a run of the scenario.
func newRun(t *testing.T, w *managedtest.World, s *scenario) *run {
	r := &run{counts: map[string]int{}, tokens: map[string]bool{}, sent: map[*fault.Call]time.Time{},
		stored: map[string]string{}, replaced: map[string]bool{}}
	r.w = w.Lend(t, s.inWorld(t))
	for _, user := range []string{alice, bob, carol} {
		r.w.Pool.AddUser(standin.User{Username: username(user), Sub: user})
	}
	return r
}

// all runs a channel of states with several workers. Each is a subtest, unless then wants to know
// what its run was like: that is needed to find further states, whatever -run says.
func all(t *testing.T, states <-chan state, then func(state, *run)) counts {
	n := counts{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for range workers {
		w := managedtest.New(t, managedtest.Options{})
		group.Go(func() {
			for s := range states {
				var r *run
				if then == nil {
					t.Run(s.name, func(t *testing.T) { r = s.explore(t, w) })
				} else {
					r = s.explore(t, w)
				}
				if r == nil {
					continue // not asked for
				}
				met := len(r.struck) == len(s.plan) // or the run took another course: several things were under way at once
				mu.Lock()
				n.add(s.scenario, met)
				mu.Unlock()
				if met && then != nil {
					then(s, r)
				}
			}
		})
	}
	group.Wait()
	return n
}

// count is in how many states all planned faults were met, and of how many.
type count struct{ met, planned int }

// counts are those of each scenario.
type counts map[*scenario]count

func (n counts) add(s *scenario, met bool) {
	c := n[s]
	c.planned++
	if met {
		c.met++
	}
	n[s] = c
}

// tell prints what a search has explored, and fails if it missed much of what it had planned, as a
// whole or in one scenario.
func (n counts) tell(t *testing.T, search, more string) {
	all := count{}
	for s, c := range n {
		all.met += c.met
		all.planned += c.planned
		if c.met*2 < c.planned {
			t.Errorf("%s: of the scenario %q only %d of %d states were met", search, s.name, c.met, c.planned)
		}
	}
	fmt.Printf("%s: %d of %d states met%s\n", search, all.met, all.planned, more)
	if all.planned == 0 {
		t.Errorf("%s: nothing was searched. A subtest is named after its scenario; there are\n%s", search, names())
	}
	if all.met*10 < all.planned*9 {
		t.Errorf("%s: the faults of %d states were not met", search, all.planned-all.met)
	}
}

// faultFree runs each scenario without faults, and returns the runs.
func faultFree(t *testing.T) map[*scenario]*run {
	t.Helper()
	runs := map[*scenario]*run{}
	var mu sync.Mutex
	states := make(chan state, len(scenarios))
	for _, s := range scenarios {
		states <- state{scenario: s, name: s.name + "/no fault"}
	}
	close(states)
	all(t, states, func(s state, r *run) {
		mu.Lock()
		defer mu.Unlock()
		runs[s.scenario] = r
		if r.acted == 0 {
			t.Errorf("the scenario %q makes no call", s.scenario.name)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return runs
}

// singles are the ways in which one call of a scenario can go wrong.
func singles(s *scenario, free *run, pairs bool) []state {
	var states []state
	for p, call := range free.places(free.acted) {
		for _, m := range modes {
			if unremarkable(call) || !m.on(call) || s.several && m.holds || pairs && m.alone {
				continue
			}
			states = append(states, state{
				scenario: s,
				plan:     []strike{{p, m}},
				name:     fmt.Sprintf("%s/%s %d %s", s.name, p.name, p.nth, m.name),
			})
		}
	}
	return states
}

// places are those of the run's first n calls.
func (r *run) places(n int) iter.Seq2[place, *fault.Call] {
	return func(yield func(place, *fault.Call) bool) {
		counts := map[string]int{}
		for _, c := range r.calls[:n] {
			name := short(c)
			counts[name]++
			if !yield(place{name, counts[name]}, c) {
				return
			}
		}
	}
}

// short is the call's operation, without the ids in a path, and with colons for slashes, which
// separate the names of subtests.
func short(c *fault.Call) string {
	parts := strings.Split(c.Op, "/")
	for i, part := range parts {
		if len(part) == 36 {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, ":")
}

// With clocks 10 s apart, the one who takes over is fast and comes at the first moment that it may.
func TestClocksApartNoSingleFaultDoes(t *testing.T) {
	t.Parallel()
	if !slices.ContainsFunc(scenarios, func(s *scenario) bool { return s.apart }) {
		t.Skip("-only leaves no scenario that is searched with clocks apart")
	}
	runs := faultFree(t)
	states := make(chan state)
	go func() {
		defer close(states)
		for _, s := range scenarios {
			if !s.apart {
				continue
			}
			for _, state := range singles(s, runs[s], true) {
				state.skew = 5 * time.Second
				states <- state
			}
		}
	}()
	all(t, states, nil).tell(t, "single faults with clocks apart", "")
}

func TestNoSingleFaultLeavesADuplicateAnOrphanOrALeak(t *testing.T) {
	t.Parallel()
	start := time.Now()
	runs := faultFree(t)
	states := make(chan state)
	go func() {
		defer close(states)
		for _, s := range scenarios {
			for _, state := range singles(s, runs[s], false) {
				states <- state
			}
		}
	}()
	n := all(t, states, nil)
	n.tell(t, "single faults", fmt.Sprintf(", of %d scenarios, in %v", len(scenarios), time.Since(start).Round(time.Second)))
}

// unremarkable: due work is read again and again; to fail there is to fail at the next call.
func unremarkable(c *fault.Call) bool {
	return c.Op == "Query" && strings.Contains(string(c.Body), `"IndexName":"due"`)
}

func TestNoPairOfFaultsDoes(t *testing.T) {
	t.Parallel()
	if !*prove {
		t.Skip("make prove searches pairs")
	}
	start := time.Now()
	runs := faultFree(t)
	first := make(chan state)
	go func() {
		defer close(first)
		for _, s := range scenarios {
			for _, state := range singles(s, runs[s], true) {
				first <- state
			}
		}
	}()
	var mu sync.Mutex
	pairs := map[*scenario][]state{}
	all(t, first, func(s state, r *run) {
		mu.Lock()
		defer mu.Unlock()
		pairs[s.scenario] = append(pairs[s.scenario], seconds(s, r)...)
	})
	second := make(chan state)
	random := rand.New(rand.NewPCG(*seed, 0))
	go func() {
		defer close(second)
		for _, s := range scenarios {
			chosen := pairs[s]
			slices.SortFunc(chosen, func(a, b state) int { return strings.Compare(a.name, b.name) })
			if s.sampled && len(chosen) > *sample {
				random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
				chosen = chosen[:*sample]
			}
			fmt.Printf("%-40s %6d of %6d pairs\n", s.name, len(chosen), len(pairs[s]))
			for _, state := range chosen {
				second <- state
			}
		}
	}()
	n := all(t, second, nil)
	n.tell(t, "pairs of faults", fmt.Sprintf(", seed %d, in %v", *seed, time.Since(start).Round(time.Second)))
}

// seconds are the ways in which, after a first fault, one of the calls that follow can go wrong
// too.
func seconds(s state, r *run) []state {
	first := s.plan[0]
	var states []state
	struck := false
	for p, call := range r.places(r.recovered) {
		if !struck || unremarkable(call) {
			struck = struck || p == first.place
			continue
		}
		for _, m := range modes {
			if !m.on(call) || m.alone || s.scenario.several && m.holds {
				continue
			}
			states = append(states, state{
				scenario: s.scenario,
				plan:     []strike{first, {p, m}},
				name:     fmt.Sprintf("%s, %s %d %s", s.name, p.name, p.nth, m.name),
			})
		}
	}
	return states
}
