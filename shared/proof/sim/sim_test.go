package sim_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	schedules = flag.Int("schedules", 1000, "how many schedules to run")
	within    = flag.Duration("within", time.Hour, "how long to run them at most")
	first     = flag.Uint64("seed", 1, "the first seed")
	story     = flag.Bool("story", true, "make a failing schedule as short as it gets, and tell it")
	worker    = flag.Bool("worker", false, "run the schedules in this process")
	repeats   = flag.Int("twice", 50, "how many seeds to run twice")
	again     = flag.String("replay", "", "tell the story of this schedule, as a failure prints it, or of a seed")
)

// TestNoScheduleBreaksAPromise runs many schedules, on all processors: each in a process of its
// own, of one processor.
//
//	go test ./shared/proof/sim -run Promise -schedules=1000000     more of them
//	go test ./shared/proof/sim -run Replay -v -replay='17'         the story of a seed
func TestNoScheduleBreaksAPromise(t *testing.T) {
	if *worker {
		work(t)
		return
	}
	n := runtime.NumCPU()
	begin := time.Now()
	share := max(1, *schedules/n)
	ctx, cancel := context.WithTimeout(t.Context(), *within+time.Minute)
	defer cancel()
	var mu sync.Mutex
	total := 0
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNoScheduleBreaksAPromise$", "-worker", "-test.timeout=0", "-within="+within.String(),
				fmt.Sprintf("-schedules=%d", share), fmt.Sprintf("-seed=%d", *first+uint64(i*share)))
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
				return
			}
			ran := 0
			_, _ = fmt.Sscanf(string(out), "%d schedules", &ran)
			mu.Lock()
			defer mu.Unlock()
			total += ran
		})
	}
	all.Wait()
	fmt.Printf("%d schedules in %.0f s\n", total, time.Since(begin).Seconds())
}

// work runs schedules one after the other, and ends with the first that breaks a promise: with its
// story, made as short as it gets.
func work(t *testing.T) {
	debug.SetGCPercent(1600)
	begin := time.Now()
	ran := 0
	for i := range *schedules {
		if time.Since(begin) > *within {
			break
		}
		s := schedule{seed: *first + uint64(i)}
		w := s.run(t, unheard)
		ran++
		if len(w.violations) > 0 && !*story {
			t.Fatalf("seed %d, after %.1f s: %s", s.seed, time.Since(begin).Seconds(), w.violations[0])
		}
		if len(w.violations) > 0 {
			t.Fatalf("seed %d, after %.1f s: %s\n%s", s.seed, time.Since(begin).Seconds(), w.violations[0], shrunk(t, s))
		}
	}
	fmt.Printf("%d schedules\n", ran)
}

// TestTheSameSeedDoesTheSame runs seeds twice, and compares every call, its time and its outcome.
// The second run is shaken.
func TestTheSameSeedDoesTheSame(t *testing.T) {
	for range *repeats {
		schedule{seed: rand.Uint64()}.repeats(t)
	}
	fmt.Printf("%d of %d seeds replayed exactly\n", *repeats, *repeats)
}

// TestSeedsThatWentTwoWaysDoTheSame has those in which Go's scheduler was once seen to decide:
// which of two lists of a user got which fate, of which of two providers the org key was fetched
// first, and which of two users of one audit went on first when it was there, or took the one call
// that a pace left.
func TestSeedsThatWentTwoWaysDoTheSame(t *testing.T) {
	for _, seed := range []uint64{1605813790335839414, 13791728408656680157, 12723977205908655862, 7272361056612917808} {
		for range 15 {
			schedule{seed: seed}.repeats(t)
		}
	}
}

// repeats runs the schedule as it is, and shaken.
func (s schedule) repeats(t *testing.T) {
	t.Helper()
	again := s
	again.shaken = true
	a, b := s.run(t, hashed), again.run(t, hashed)
	if a.hash != b.hash || a.lines != b.lines {
		x, y := s.run(t, told), again.run(t, told)
		t.Fatalf("seed %d went two ways: %s", s.seed, difference(x.story, y.story))
	}
}

// TestTwoListsThatWaitForOneOrgKeyDoTheSame has two lists of one user, begun at different times in
// one process, go on at the same moment with the same call: when the org key is there, for which
// both have waited.
func TestTwoListsThatWaitForOneOrgKeyDoTheSame(t *testing.T) {
	lists := func(s schedule) *world {
		w := &world{}
		synctest.Test(t, func(*testing.T) {
			w = newWorld(s, told)
			w.over = true // no call goes wrong
			p := w.process()
			for range 2 {
				w.spawn("list", p, func(ctx context.Context) { _, _ = w.list(ctx, p, users[0]) })
				w.passed(8 * time.Millisecond)
			}
			w.until(func() bool { return w.quiet() && len(w.events) == 0 })
			p.kill()
		})
		return w
	}
	for seed := range uint64(200) {
		x, y := lists(schedule{seed: seed}), lists(schedule{seed: seed, shaken: true})
		if x.hash != y.hash || x.lines != y.lines {
			t.Fatalf("seed %d went two ways: %s", seed, difference(x.story, y.story))
		}
	}
}

func difference(x, y []string) string {
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] && !strings.Contains(x[i], " says: ") {
			return strings.Join(x[max(0, i-5):i], "\n") + "\n- " + x[i] + "\n+ " + y[i]
		}
	}
	return "and did the same when it was told"
}

// TestReplay tells the story of a schedule.
func TestReplay(t *testing.T) {
	if *again == "" {
		t.Skip("-replay names the schedule")
	}
	replay(t, *again)
}

// replay runs a schedule that is written as a failure prints it. One line with it is a regression
// test.
func replay(t *testing.T, text string) {
	t.Helper()
	s, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	w := s.run(t, told)
	if testing.Verbose() {
		fmt.Println(strings.Join(w.story, "\n"))
	}
	if len(w.violations) > 0 {
		t.Fatalf("%s\n%s", s, strings.Join(w.violations, "\n"))
	}
}

// TestAScheduleIsReadAsItIsWritten holds the two forms of a schedule together.
func TestAScheduleIsReadAsItIsWritten(t *testing.T) {
	for _, text := range []string{"17", "17; without 2,5", "17; without 2; only 1 UpdateItem 2, 3 POST /v0/pods 1", "17; only none"} {
		s, err := parse(text)
		if err != nil || s.String() != text {
			t.Errorf("%q is read as %q, error %v", text, s, err)
		}
	}
	_, err := parse("x")
	if err == nil {
		t.Error("nonsense is read as a schedule")
	}
}
