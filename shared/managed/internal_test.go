package managed

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"managed-credentials/shared/config"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/telemetry"
)

// Two rounds that read the same backlog would take turns in losing each item to the other.
func TestARoundWorksUntilTheNextOneBegins(t *testing.T) {
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	deployed, err := template.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{cfg: Config{Lease: config.DefaultLease}}
	for _, f := range deployed.Functions {
		if f.Name != "reconcile" {
			continue
		}
		works := f.Timeout - e.workTime() - writeTime
		if works < 50*time.Second || works > time.Minute {
			t.Errorf("a round of %v begins work for %v of each minute", f.Timeout, works)
		}
		return
	}
	t.Error("the template has no reconcile")
}

// simulation is a lane of reconcile at a third party that takes so many calls a second, with
// nothing real in it but the pace: eight workers, each of whose passes is six calls that take a
// twentieth of a second.
type simulation struct {
	start, now     time.Time
	h              *health
	rate, atOnce   float64
	tokens         float64
	filled         time.Time
	taken, refused int
	events         events
}

type event struct {
	at time.Time
	n  int
	do func()
}

type events []event

func (e *events) Len() int { return len(*e) }
func (e *events) Less(i, j int) bool {
	a, b := (*e)[i], (*e)[j]
	return a.at.Before(b.at) || a.at.Equal(b.at) && a.n < b.n
}
func (e *events) Swap(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }
func (e *events) Push(x any)    { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

const (
	callsAPass = 6
	latency    = 50 * time.Millisecond
	triesACall = 3
)

func (s *simulation) in(d time.Duration, do func()) {
	heap.Push(&s.events, event{s.now.Add(d), len(s.events) + s.taken + s.refused, do})
}

// take is the third party's answer.
func (s *simulation) take() bool {
	s.tokens = min(s.atOnce, s.tokens+s.rate*s.now.Sub(s.filled).Seconds())
	s.filled = s.now
	if s.tokens < 1 {
		s.refused++
		return false
	}
	s.tokens--
	s.taken++
	return true
}

// run lets the lane work for that long.
func (s *simulation) run(d time.Duration) {
	waiting, turn := 0, false // one waits at a time
	var admit func()
	worker := func() { waiting++; admit() }
	admit = func() {
		for !turn && waiting > 0 {
			x := &pass{h: s.h, work: revoking}
			at := x.reserve(s.now)
			if at.IsZero() {
				waiting--
				s.pass(x, 0, 1, worker)
				continue
			}
			turn = true
			s.in(at.Sub(s.now), func() { turn = false; admit() })
		}
	}
	for range width {
		worker()
	}
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(event)
		if e.at.Sub(s.start) > d {
			return
		}
		s.now = e.at
		e.do()
	}
}

// pass goes on with a pass, of which so many calls are done, by the next one.
func (s *simulation) pass(x *pass, done, try int, next func()) {
	if done == callsAPass {
		x.h.costs[x.work] = x.sent
		x.h.pace.give(x.reserved)
		next()
		return
	}
	wait := x.send(s.now)
	switch {
	case wait > longestPause:
		next()
	case wait > 0:
		s.in(wait, func() { s.pass(x, done, try, next) })
	default:
		number := x.last
		s.in(latency, func() {
			if s.take() {
				s.pass(x, done+1, 1, next)
				return
			}
			s.h.pace.refused(s.now, number, time.Second)
			if try == triesACall {
				next()
				return
			}
			s.in(time.Second, func() { s.pass(x, done, try+1, next) }) // as the client does
		})
	}
}

func TestUnderALimitNearlyAllThatItAllowsIsUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ rate, atOnce, set float64 }{
		"found":        {20, 20, 0},
		"found, fast":  {100, 100, 0},
		"set":          {20, 20, 20},
		"set too high": {20, 20, 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Unix(1_800_000_000, 0)
			s := &simulation{start: start, now: start, filled: start, rate: c.rate, atOnce: c.atOnce, tokens: c.atOnce,
				h: &health{pace: newPace(c.set), costs: map[work]int{}}}
			for round := range 2 {
				taken, refused := s.taken, s.refused
				s.run(time.Duration(round+1) * 32 * time.Second)
				allowed := c.rate * 32
				used := float64(s.taken-taken) / allowed
				share := float64(s.refused-refused) / float64(s.taken-taken+s.refused-refused)
				t.Logf("round %d: %.1f %% of what it allows is used, and %.2f %% of the calls are refused", round, 100*used, 100*share)
				if used < 0.8 || share > 0.02 {
					t.Error("that is too few, or too many")
				}
			}
		})
	}
}

// A call that this process held back says nothing of the third party. If it lowered the rate, each
// pass that was cut off would have the next one cut off earlier; and if the next one took no more
// calls before its claim, it would be cut off at the same call.
func TestACallThatWasHeldBackLowersNoRateAndIsForeseenTheNextTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	e := &Engine{cfg: Config{
		Now:     func() time.Time { return now },
		Wait:    func(context.Context, time.Duration) error { return errors.New("there is no time") },
		Metrics: telemetry.NewMetrics(io.Discard),
	}}
	h := &health{circuit: circuit{most: slotsThatFail}, pace: newPace(0), costs: map[work]int{}}
	h.pace.rate, h.pace.tokens, h.pace.at = 5, 1, now
	x := &pass{e: e, h: h, work: revoking}
	err := x.sending(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rate := h.pace.rate
	err = x.sending(t.Context())
	if classified(err).Class != RateLimited {
		t.Fatalf("the second call is answered with %v", err)
	}
	x.note(t.Context(), fmt.Errorf("not sent: %w", err))
	if h.pace.rate != rate || h.pace.until.After(now) {
		t.Errorf("the rate is %v, and nothing is sent until %v", h.pace.rate, h.pace.until)
	}
	if h.costs[revoking] != 2 {
		t.Errorf("the next pass takes %d calls", h.costs[revoking])
	}
	slow := &pass{e: e, h: h, work: revoking, provider: nil}
	slow.slowed = true
	slow.note(t.Context(), &Error{Class: RateLimited})
	if h.costs[revoking] != 2 {
		t.Errorf("a pass that sent nothing has the next one take %d calls", h.costs[revoking])
	}
}

func TestAFewFailuresOfOneSlotOrOfTwoKeepNobodyOut(t *testing.T) {
	t.Parallel()
	c, now := &circuit{most: slotsThatFail}, time.Now()
	pass := func(user string) *pass { return &pass{user: user} }
	for _, user := range []string{"a", "b", "a", "a"} {
		if c.failed(pass(user), now, 0) {
			t.Errorf("a failure of %s opened the circuit", user)
		}
	}
	if at, _ := c.enter(pass("d"), now); !at.IsZero() {
		t.Errorf("after two slots that failed others wait until %v", at)
	}
	if !c.failed(pass("c"), now, 0) {
		t.Error("a third slot that failed did not open the circuit")
	}
	if at, _ := c.enter(pass("d"), now); !at.After(now) {
		t.Error("the circuit is open and lets others through")
	}
}

func TestOneProbeAtATimeIsLetThrough(t *testing.T) {
	t.Parallel()
	c, now := &circuit{most: 1}, time.Now()
	probe, other := &pass{user: "a"}, &pass{user: "b"}
	c.failed(&pass{user: "c"}, now, 0)
	now = now.Add(longestOpen)
	if at, ended := c.enter(probe, now); !at.IsZero() || ended != nil {
		t.Fatalf("after the while nobody is let through until %v", at)
	}
	at, ended := c.enter(other, now)
	if !at.After(now) || ended == nil {
		t.Fatal("a second one is let through while the first one's outcome is not known")
	}
	c.failed(probe, now, 0)
	select {
	case <-ended:
	default:
		t.Error("who waits for the probe is not told that it has ended")
	}
	if at, _ := c.enter(other, now); !at.After(now) {
		t.Error("the probe failed, and the next one is let through at once")
	}
}
