package fault

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Rule says which calls go wrong, and how. Of several rules that match a call, the one that was
// injected first applies, alone.
type Rule struct {
	// Op is the operation that goes wrong: a [Call.Op]. Empty: any.
	Op string
	// About narrows it to calls about one thing: a [Call.About]. Empty: about anything.
	About string
	// Skip is how many matching calls pass unharmed first.
	Skip int
	// Times is how often the rule applies. Zero: until it is removed.
	Times int
	// Fault is what becomes of the calls. Nil: they pass, and are counted.
	Fault Fault
}

// State is how far a rule has got.
type State struct {
	ID      string `json:"id"`
	Op      string `json:"operation"`
	Hits    int    `json:"hits"`    // calls that it was applied to
	Waiting int    `json:"waiting"` // of these, those that Hold keeps now
}

// Rules are faults by rule, and the requests that take effect late. They are part of every [Proxy],
// and of a fake third party, where they stand behind its edge: there a request has been counted and
// its key checked before it goes wrong. They are safe for concurrent use.
type Rules struct {
	now   func() time.Time
	open  context.Context // until Close
	close context.CancelFunc

	mu      sync.Mutex
	rules   []*rule
	byHook  *rule // to which the faults of a hook belong
	ids     int
	pending []late // in the order of arrival
}

// rule is a Rule at work.
type rule struct {
	Rule
	id            string
	seen          int // calls that matched
	hits, waiting int
	release       chan struct{} // closed, and replaced, when what it holds is let go
}

// late is a request that is to take effect.
type late struct {
	due  time.Time
	held bool // whatever the time, until its rule lets go
	call *Call
	then Fault
}

// NewRules makes rules that go by this clock; nil means time.Now.
func NewRules(now func() time.Time) *Rules {
	if now == nil {
		now = time.Now
	}
	r := &Rules{now: now, byHook: &rule{release: make(chan struct{})}}
	r.open, r.close = context.WithCancel(context.Background())
	return r
}

// Inject adds a rule and returns its id.
func (r *Rules) Inject(added Rule) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids++
	id := "fault-" + strconv.Itoa(r.ids)
	r.rules = append(r.rules, &rule{Rule: added, id: id, release: make(chan struct{})})
	return id
}

// Release lets go of everything that a rule's fault holds back at this moment, whatever its time:
// requests that are kept go on, and what was to take effect later has done so when Release returns.
// The rule stays in force for further calls. It reports whether there is such a rule.
func (r *Rules) Release(id string) bool { return r.end(id, false) }

// RemoveFault is Release, and the end of the rule.
func (r *Rules) RemoveFault(id string) bool { return r.end(id, true) }

func (r *Rules) end(id string, removed bool) bool {
	r.mu.Lock()
	one := r.find(id)
	var due []late
	if one != nil {
		due = r.letGo(one)
	}
	if removed {
		r.rules = slices.DeleteFunc(r.rules, func(other *rule) bool { return other == one })
	}
	r.mu.Unlock()
	_ = takeEffect(due) // A fake is never out of reach.
	return one != nil
}

// ClearFaults removes all rules as RemoveFault does, and lets go of what a hook's faults hold.
func (r *Rules) ClearFaults() {
	r.mu.Lock()
	due := r.letGo(r.all()...)
	r.rules = nil
	r.mu.Unlock()
	_ = takeEffect(due)
}

// Deliver lets go of everything that any fault holds back, in the order of arrival; what was to
// take effect later has done so when it returns. That nothing was held is an error, so that a test
// does not pass because its fault never struck.
func (r *Rules) Deliver() error {
	r.mu.Lock()
	kept := len(r.pending)
	for _, one := range r.all() {
		kept += one.waiting
	}
	due := r.letGo(r.all()...)
	r.mu.Unlock()
	if kept == 0 {
		return errors.New("delivering late: nothing is held")
	}
	return takeEffect(due)
}

// Settle has everything take effect whose time has come, in order. A fake calls it before it looks
// at anything or does anything, so that nobody can tell that nothing runs in between.
func (r *Rules) Settle() {
	now := r.now()
	r.mu.Lock()
	due := r.take(func(l late) bool { return !l.held && !l.due.After(now) })
	r.mu.Unlock()
	slices.SortStableFunc(due, func(a, b late) int { return a.due.Compare(b.due) })
	_ = takeEffect(due)
}

// Hits tells how many calls a rule was applied to; zero once it is removed. A test that means to
// have provoked something should ask.
func (r *Rules) Hits(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.find(id)
	if one == nil {
		return 0
	}
	return one.hits
}

// States are the rules in force, spent ones included.
func (r *Rules) States() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	states := []State{}
	for _, one := range r.rules {
		states = append(states, State{ID: one.id, Op: one.Op, Hits: one.hits, Waiting: one.waiting})
	}
	return states
}

// Pending is how many requests are still to take effect.
func (r *Rules) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending)
}

// Forget ends all rules. What was to take effect later never does, and what is kept goes on.
func (r *Rules) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letGo(r.all()...)
	r.rules = nil
}

// Close ends every wait, now and from now on, so that an HTTP server can be closed without waiting
// for them; what Hold keeps is dropped. It may be called more than once.
func (r *Rules) Close() { r.close() }

// Enter decides by which fault a call goes, if by any. Forward is what the fake does about it.
func (r *Rules) Enter(c *Call, forward Fault) {
	c.forward = forward
	r.adopt(c)
	c.fault = r.match(c)
}

// Meet takes a call that has entered through its fault, and to its effect. Without an answer the
// connection is to be closed.
func (c *Call) Meet(ctx context.Context) *Answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.rules.open, cancel)()
	a, err := c.fault.apply(ctx, c)
	if err != nil {
		return awsError(c, http.StatusBadGateway, "BadGateway", map[string]any{"message": "fault: " + err.Error()})
	}
	return a
}

// adopt has a hook's faults hold the call in the name of byHook.
func (r *Rules) adopt(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.rules, c.rule, c.release = r, r.byHook, r.byHook.release
}

// match finds the fault that a call runs into by the rules, if any.
func (r *Rules) match(c *Call) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.rules {
		another := one.Op != "" && one.Op != c.Op || one.About != "" && one.About != c.About
		if another || one.Times > 0 && one.hits == one.Times {
			continue
		}
		one.seen++
		if one.seen <= one.Skip {
			continue
		}
		one.hits++
		c.rule, c.release = one, one.release
		return one.Fault
	}
	return nil
}

// find returns the rule with this id, or nil. Caller holds the lock.
func (r *Rules) find(id string) *rule {
	i := slices.IndexFunc(r.rules, func(one *rule) bool { return one.id == id })
	if i < 0 {
		return nil
	}
	return r.rules[i]
}

// all are the rules, and what the faults of hooks belong to. Caller holds the lock.
func (r *Rules) all() []*rule { return append(slices.Clone(r.rules), r.byHook) }

// letGo has what Hold keeps for these rules go on, and returns what is to take effect. Caller holds
// the lock.
func (r *Rules) letGo(rules ...*rule) []late {
	for _, one := range rules {
		close(one.release)
		one.release = make(chan struct{})
	}
	return r.take(func(l late) bool { return slices.Contains(rules, l.call.rule) })
}

// take takes some out of what is pending. Caller holds the lock.
func (r *Rules) take(which func(late) bool) (taken []late) {
	r.pending = slices.DeleteFunc(r.pending, func(l late) bool {
		if which(l) {
			taken = append(taken, l)
			return true
		}
		return false
	})
	return taken
}

// takeEffect has requests take effect, one after the other, with nobody to answer.
func takeEffect(due []late) error {
	var failed []error
	for _, l := range due {
		_, err := l.then.apply(context.Background(), l.call)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// postpone has a call meet another fault later, with nobody to answer.
func (r *Rules) postpone(c *Call, d time.Duration, then Fault) {
	l := late{held: d == UntilReleased, call: c, then: then}
	if !l.held {
		l.due = r.now().Add(d)
	}
	r.mu.Lock()
	released := false
	select {
	case <-c.release: // while its client was leaving
		released = true
	default:
		r.pending = append(r.pending, l)
	}
	r.mu.Unlock()
	if released {
		_ = takeEffect([]late{l})
	}
}

// hold keeps a call until its rule lets go, and reports whether its client is still there.
func (r *Rules) hold(ctx context.Context, c *Call) bool {
	r.countWaiting(c, 1)
	defer r.countWaiting(c, -1)
	select {
	case <-c.release:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Rules) countWaiting(c *Call, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.rule.waiting += by
}
