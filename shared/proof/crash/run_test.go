package crash_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

const (
	lease  = 60 * time.Second
	budget = 5 * time.Second
	agent  = managedtest.Provider
)

// run is one schedule: what a scenario does, under a plan of faults, watched from its first call to
// the end of all recovery.
type run struct {
	w *managedtest.World
	// plan says which call meets which fault.
	plan []strike
	// skew is how far the clocks of the scenario's processes are behind, and those of recovery's
	// before.
	skew time.Duration
	// removed is done when Cognito has removed a user, the first time; nil for nothing. raised
	// tells that it was.
	removed func()
	raised  atomic.Bool
	// offInPool says that alice is disabled in the user pool, and unfollowed how many looks at it
	// came to no end.
	offInPool  atomic.Bool
	unfollowed atomic.Int32
	// down is an operation that no server carries out at present.
	down atomic.Value

	// gate keeps the clock still while a create takes effect.
	gate   sync.RWMutex
	jumped time.Time // when the clock last went on by a jump; under gate

	mu        sync.Mutex
	calls     []*fault.Call
	counts    map[string]int // of calls, by what short calls them; those of all by the empty string
	struck    []string
	repeats   []*again
	triggers  []*trigger
	processes []*process
	tokens    map[string]bool // of transactions that have succeeded
	sent      map[*fault.Call]time.Time
	stored    map[string]string // the key that was stored last, by the slot's primary key
	replaced  map[string]bool   // the slots in which a key was stored over another one

	old map[string]string // keys that are to be replaced, by their users

	acted      int // how many calls the scenario made
	recovered  int // how many calls were made until the first recovery was over
	violations []string
}

// strike is a fault that is planned for a call.
type strike struct {
	place
	mode *mode
}

// place is a call's among all that all processes make: it is the nth one that has this short name,
// or the nth one of all if the name is empty. Where several calls are under way at once, a named
// one is more likely to be met in the next run.
type place struct {
	name string
	nth  int
}

// again is a strike that goes on with the same process's next calls of the same kind.
type again struct {
	p    *process
	op   string
	mode *mode
	left int
}

// trigger does something when a process is about to make a call.
type trigger struct {
	p    *process
	op   string
	do   func()
	done bool
}

// process is a process that the run watches.
type process struct {
	*managedtest.Process
	r *run

	skew time.Duration // how far its clock is before the true one

	mu     sync.Mutex
	owners map[string]bool // the claims that it sent
	keys   map[string]bool // the keys that it made
	held   int             // at how many calls it is held
	since  time.Time       // when it was started or last let go: it has seen the clock go on from then
}

// process starts a process that lives until the run ends, or a fault kills it.
func (r *run) process() *process { return r.processAt(-r.skew) }

// processAt is process with a clock that is off by that much.
func (r *run) processAt(skew time.Duration) *process {
	p := &process{r: r, skew: skew, owners: map[string]bool{}, keys: map[string]bool{}, since: r.w.Clock.Now()}
	p.Process = r.w.Process(p.now, p.hook)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes = append(r.processes, p)
	return p
}

// now is the process's clock.
func (p *process) now() time.Time { return p.r.w.Clock.Now().Add(p.skew) }

func (r *run) close() {
	r.mu.Lock()
	all := r.processes
	r.mu.Unlock()
	for _, p := range all {
		p.Close()
	}
}

// violated notes that an invariant did not hold.
func (r *run) violated(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// before has something done when the process is about to make its first call of that operation.
func (r *run) before(p *process, op string, do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.triggers = append(r.triggers, &trigger{p: p, op: op, do: do})
}

// hook says what becomes of a call.
func (p *process) hook(c *fault.Call) fault.Fault {
	r := p.r
	r.sends(c)
	forward := p.watched(c)
	for _, do := range r.triggered(p, c) {
		p.hold(do)
	}
	s := r.next(p, c)
	if c.Op == r.down.Load() {
		return broken
	}
	if s == nil || p.Context.Err() != nil {
		return forward
	}
	return s.do(r, p, forward)
}

// sends notes when the call was sent: what happens before it arrives may move the clock on.
func (r *run) sends(c *fault.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[c] = r.w.Clock.Now()
}

func (r *run) sentAt(c *fault.Call) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[c]
}

// triggered are what the scenario does before that call.
func (r *run) triggered(p *process, c *fault.Call) []func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []func()
	for _, t := range r.triggers {
		if !t.done && t.p == p && strings.HasSuffix(c.Op, t.op) {
			t.done = true
			all = append(all, t.do)
		}
	}
	return all
}

// next counts the call and returns the fault that it meets; nil if it meets none.
func (r *run) next(p *process, c *fault.Call) *mode {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.repeats {
		if s.left > 0 && s.p == p && s.op == c.Op {
			s.left--
			return s.mode
		}
	}
	r.calls = append(r.calls, c)
	name := short(c)
	r.counts[name]++
	r.counts[""]++
	for _, s := range r.plan {
		if s.name != "" && s.name != name || s.nth != r.counts[s.name] || !s.mode.on(c) {
			continue
		}
		r.struck = append(r.struck, s.mode.name+" "+c.Op)
		if s.mode.times > 1 {
			r.repeats = append(r.repeats, &again{p: p, op: c.Op, mode: s.mode, left: s.mode.times - 1})
		}
		return s.mode
	}
	return nil
}

// list lists, and checks the answer.
func (p *process) list(user string) managed.Listing {
	l, err := p.List(p.Context, user, "")
	if err == nil { // else the table was out of reach, or the account is deleted
		p.r.checkListing(user, l)
	}
	return l
}

// checkListing is I7 and I8 of an answer.
func (r *run) checkListing(user string, l managed.Listing) {
	if secret.MatchString(fmt.Sprintf("%+v", l)) {
		r.violated("I7: a secret is in a list")
	}
	for _, m := range l.Credentials {
		if m.Managed && m.ID != credential.ManagedID(m.Provider, user) {
			r.violated("I8: the id of %s's credential is %s", user, m.ID)
		}
	}
}

// want asks for the managed credential, and checks the answer.
func (p *process) want(user string) managed.Listing {
	l, err := p.Want(p.Context, user, agent)
	if err == nil {
		p.r.checkListing(user, l)
	}
	return l
}

// retract has the managed credential removed. An error is for the caller to repeat it.
func (p *process) retract(user string) { _, _ = p.Retract(p.Context, user, agent) }

// suspend has the user suspended, as far as the faults let it, and enable ends that.
func (p *process) suspend(user string) { _ = p.Suspend(p.Context, user, theSearch) }

func (p *process) enable(user string) { _ = p.Enable(p.Context, user, theSearch) }

// switchInPool disables or enables alice in the user pool.
func (r *run) switchInPool(enabled bool) {
	r.offInPool.Store(!enabled)
	r.w.Pool.Switch(alice, enabled)
}

// follow has alice suspended as the user pool says. After an error the event comes again.
func (p *process) follow() {
	p.r.unfollowed.Add(1)
	_, err := p.FollowPool(p.Context, alice)
	if err == nil {
		p.r.unfollowed.Add(-1)
	}
}

var theSearch = managed.Order{By: "the search", Reason: "a drill"}

// remove deletes the account. An error is for the caller to repeat it.
func (p *process) remove(user string) { _, _, _ = p.DeleteAccount(p.Context, user, "") }

// leave deletes the account as its user does it, who is then removed from the user pool, too.
func (p *process) leave(user string) { _, _, _ = p.DeleteAccount(p.Context, user, username(user)) }

// username is the user's name in the user pool.
func username(user string) string { return user + " in the pool" }

// inPool reports whether Cognito has the user.
func (r *run) inPool(user string) bool {
	return slices.ContainsFunc(r.w.Pool.Users(), func(u standin.User) bool { return u.Sub == user })
}

// reconcile does one round.
func (p *process) reconcile() {
	_, _ = p.Reconcile(p.Context) // what failed is due still
}

// advance moves the clock on.
func (r *run) advance(d time.Duration) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.w.Clock.Advance(d)
	if d >= jump {
		r.jumped = r.w.Clock.Now()
	}
}

// jump is more than any process takes between a look at the clock and the call that the look
// allows.
const jump = 20 * time.Second

// pass moves the clock on while the process is held, and lets reconcile take over what has run out
// meanwhile.
func (r *run) pass(p *process) {
	p.hold(func() {
		r.advance(lease + store.SkewMargin + time.Second)
		r.processAt(r.skew).reconcile()
	})
}

// hold does something while the process is held at a call.
func (p *process) hold(do func()) {
	p.mu.Lock()
	p.held++
	p.mu.Unlock()
	do()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held--
	p.since = p.r.w.Clock.Now()
}

// overtaken reports whether the clock may have gone on by a jump since the process looked at it for
// the call that it makes now: it did so while another process was held, in no time at all for this
// one, or this one is held and another of its threads makes the call.
func (p *process) overtaken() bool {
	p.r.gate.RLock()
	defer p.r.gate.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held > 0 || p.since.Before(p.r.jumped)
}

// schedule is how often reconcile runs. While something is on its way, it comes at the first moment
// at which there is work for it.
const schedule = time.Minute

// maxRounds is how many rounds of reconcile the recovery may take.
const maxRounds = 60

// recover lets reconcile run until nothing is due and nothing is on its way any more. Faults that
// are still planned strike it, too.
func (r *run) recover() {
	for range maxRounds {
		due := r.w.NextDue()
		if due.IsZero() {
			last := r.w.Clock.LastEvent()
			if last.IsZero() {
				return
			}
			due = last.Add(r.skew) // this is by the true clock
		}
		step := due.Sub(r.w.Clock.Now()) + time.Millisecond
		if r.skew == 0 && r.w.Clock.LastEvent().IsZero() {
			step = max(step, schedule)
		}
		r.advance(max(step-r.skew, 0))
		p := r.processAt(r.skew)
		p.reconcile()
		p.Close()
	}
	r.violated("after %d rounds of reconcile there is still work due", maxRounds)
}

// finish recovers, and checks that each user has what is theirs.
func (r *run) finish(s *scenario) {
	r.w.Mail.ClearFaults()
	r.recover()
	r.recovered = r.count()
	r.faultsOver()
	r.recover()
	if s.after != nil {
		s.after(r)
		r.recover()
	}
	r.noOrphans()
	for _, user := range s.deleted {
		_, gone, err := r.w.Slot(user, agent)
		if err == nil && !gone { // the request did not get as far as the tombstone: whoever made it repeats it
			if s.leave {
				r.process().leave(user)
			} else {
				r.process().remove(user)
			}
			r.recover()
		}
		r.check(r.w.NothingLeft(user))
		if s.leave && r.inPool(user) {
			r.violated("I2: %s is still in the user pool", user)
		}
	}
	for _, user := range s.off {
		slot, _, err := r.w.Slot(user, agent)
		if err == nil && (slot.State != store.Off || slot.Disarmed()) { // as with the deletions
			r.process().retract(user)
			r.recover()
		}
		l := r.process().list(user)
		r.recover()
		r.check(r.w.NothingThere(user, agent))
		if len(l.Credentials) > 0 {
			r.violated("I1: %s is off, and is shown %+v", user, l)
		}
	}
	for _, user := range s.users {
		if !r.inPool(user) {
			r.violated("%s lives, and is not in the user pool any more", user)
		}
		var l managed.Listing
		for range 5 { // a busy machine may let one run out of its budget
			if s.asks {
				l = r.process().want(user)
			} else {
				l = r.process().list(user)
			}
			r.recover()
			if len(l.Credentials) == len(s.at()) {
				break
			}
		}
		for _, provider := range s.at() {
			r.check(r.w.ExactlyOne(user, provider))
			r.check(inUse(l, provider))
			key := store.SlotKey(user, provider)
			if s.keeps && r.replaced[key.PK+" "+key.SK] {
				r.violated("the key of %s was replaced, and it had worked all the time", user)
			}
		}
	}
	r.noOrphans()
	if secret.MatchString(r.w.Logs()) {
		r.violated("I7: a secret was logged")
	}
}

// secret is what AgentMail's keys look like.
var secret = regexp.MustCompile(`am_[a-z]{2}_[0-9a-f]{64}`)

// begin lets the plan's faults strike from now on.
func (r *run) begin(plan []strike) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan = plan
	r.calls = nil
	r.counts = map[string]int{}
}

func (r *run) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

func (r *run) faultsOver() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan, r.repeats = nil, nil
}

func inUse(l managed.Listing, provider string) error {
	for _, m := range l.Credentials {
		if m.Provider == provider {
			return nil
		}
	}
	return fmt.Errorf("I1: the list lacks the credential of %s: %+v", provider, l)
}

// noOrphans checks that each pod is known to a slot, which nobody works on and nothing is on its
// way under.
func (r *run) noOrphans() {
	for _, pod := range r.w.Mail.Pods() {
		user, provider := managedtest.PodUser(pod.ClientID)
		slot, _, err := r.w.Slot(user, provider)
		if err != nil {
			r.violated("reading a slot: %v", err)
			continue
		}
		if slot.State == store.Absent && pod.Name == adopted || r.w.Suspended(user) { // whose work waits
			continue
		}
		if slot.Resource.ID != pod.ID || slot.Owner != "" || !slot.Settled() {
			r.violated("I1: the pod %+v is an orphan of the slot %+v", pod, slot)
		}
	}
}

// adopted is the name of the pods that were there before.
const adopted = "adopted"

func (r *run) check(err error) {
	if err != nil {
		r.violated("%v", err)
	}
}

// verdict is an error if an invariant was violated; it tells all that was done.
func (r *run) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.violations) == 0 {
		return nil
	}
	var calls strings.Builder
	for i, c := range r.calls {
		fmt.Fprintf(&calls, "%3d %s\n", i+1, c.Op)
	}
	return fmt.Errorf("%s\nfaults: %s\ncalls:\n%s\ntable:\n%s\nlog:\n%s", strings.Join(r.violations, "\n"), strings.Join(r.struck, ", "), &calls,
		r.w.Dump(), r.w.Logs())
}

// watched checks a call as it is sent, and forwards it.
func (p *process) watched(c *fault.Call) fault.Fault {
	switch {
	case c.Op == "TransactWriteItems":
		return p.watchTransaction(c)
	case c.Op == "AdminDeleteUser":
		return p.r.removes
	case c.Op == "UpdateItem":
		return p.watchUpdate(c)
	case c.Op == "POST /v0/pods":
		if !p.mayCreate(clientIDOf(c)) {
			return fault.Drop()
		}
		return p.inTime(forward)
	case c.Method == "POST" && strings.HasSuffix(c.Op, "/api-keys"):
		pod, ok := p.r.pod(c)
		if ok && !p.mayCreate(pod.ClientID) {
			return fault.Drop()
		}
		return p.inTime(p.watchKey)
	case c.Method == "DELETE" && strings.HasPrefix(c.Op, "DELETE /v0/pods/"):
		p.mayDelete(c)
	}
	return forward
}

// forward carries a call out, whether or not its sender still waits.
func forward(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	return c.Forward(context.WithoutCancel(ctx))
}

// inTime carries a create out, unless it was held up for longer than A1 allows: then it never takes
// effect.
func (p *process) inTime(do fault.Fault) fault.Fault {
	r := p.r
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		r.gate.RLock()
		defer r.gate.RUnlock()
		if r.w.Clock.Now().Sub(r.sentAt(c)) >= lease/2 {
			return nil, nil
		}
		return do(ctx, c)
	}
}

// removes has Cognito remove a user, which raises an event.
func (r *run) removes(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	a, err := forward(ctx, c)
	if err == nil && a.Status == 200 && r.removed != nil && r.raised.CompareAndSwap(false, true) {
		go r.removed()
	}
	return a, err
}

func clientIDOf(c *fault.Call) string {
	var in struct {
		ClientID string `json:"client_id"`
	}
	_ = json.Unmarshal(c.Body, &in) // AgentMail would refuse it
	return in.ClientID
}

// pod is the one that the path names.
func (r *run) pod(c *fault.Call) (fake.Pod, bool) {
	id := strings.Split(c.URL.Path, "/")[3]
	for _, pod := range r.w.Mail.Pods() {
		if pod.ID == id {
			return pod, true
		}
	}
	return fake.Pod{}, false
}

// watchUpdate remembers a claim that the process sends, and the key that is stored.
func (p *process) watchUpdate(c *fault.Call) fault.Fault {
	var in struct {
		Key                       map[string]struct{ S string }
		ExpressionAttributeValues map[string]struct{ S, B string }
	}
	_ = json.Unmarshal(c.Body, &in)
	values := in.ExpressionAttributeValues
	p.noteOwner(values[":owner"].S)
	if values[":secret"].B == "" {
		return forward
	}
	r, slot := p.r, in.Key["pk"].S+" "+in.Key["sk"].S
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		a, err := forward(ctx, c)
		if err == nil && a.Status == 200 {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.replaced[slot] = r.replaced[slot] || r.stored[slot] != ""
			r.stored[slot] = values[":key"].S
		}
		return a, err
	}
}

// noteOwner remembers a claim that the process sends.
func (p *process) noteOwner(owner string) {
	if owner == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owners[owner] = true
}

// watchTransaction is I5: once the tombstone stands, no transaction succeeds that makes something
// of its user's, and while they are suspended none that claims. Whose it is, and what is made, is
// told by what it writes, whatever conditions it has: what is revoking from its beginning is the
// work of the deletion. The SDK's repeat of a transaction that has succeeded is none.
func (p *process) watchTransaction(c *fault.Call) fault.Fault {
	type text struct{ S string }
	var in struct {
		ClientRequestToken string
		TransactItems      []struct {
			Update struct {
				Key                       map[string]text
				ExpressionAttributeValues map[string]text
			}
			Put struct{ Item map[string]text }
		}
	}
	_ = json.Unmarshal(c.Body, &in)
	var makes, claims []string
	for _, item := range in.TransactItems {
		p.noteOwner(item.Update.ExpressionAttributeValues[":owner"].S)
		pk := item.Update.Key["pk"].S + item.Put.Item["pk"].S // it is one or the other
		if pk == "" || item.Put.Item["state"].S == string(store.Revoking) {
			continue
		}
		makes = append(makes, strings.TrimPrefix(pk, "USER#"))
		if item.Update.ExpressionAttributeValues[":owner"].S != "" {
			claims = append(claims, strings.TrimPrefix(pk, "USER#"))
		}
	}
	r := p.r
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		ctx = context.WithoutCancel(ctx)
		var late []string
		for _, user := range makes {
			_, deleted, err := r.w.Slot(user, agent)
			if err != nil {
				return nil, err
			}
			if deleted {
				late = append(late, user)
			}
		}
		late = append(late, slices.DeleteFunc(claims, func(user string) bool { return !r.w.Suspended(user) })...)
		a, err := c.Forward(ctx)
		done := err == nil && a.Status == 200
		r.mu.Lock()
		repeat := r.tokens[in.ClientRequestToken]
		r.tokens[in.ClientRequestToken] = done || repeat
		r.mu.Unlock()
		if done && !repeat && len(late) > 0 {
			r.violated("I5: a transaction of %s succeeded after the tombstone, or the suspension", strings.Join(late, ", "))
		}
		return a, err
	}
}

// mayCreate is I3: a create is sent under a running claim of the sender's, in the first half of its
// lease by the sender's clock. It returns false for one that was sent in time and overtaken by the
// clock on its way here, which by A1 has no effect then.
func (p *process) mayCreate(clientID string) bool {
	user, provider := managedtest.PodUser(clientID)
	slot, _, err := p.r.w.Slot(user, provider)
	if err != nil {
		p.r.violated("reading a slot: %v", err)
		return true
	}
	now := p.now()
	overtaken := p.overtaken()
	p.mu.Lock()
	defer p.mu.Unlock()
	claimed := !slot.Settled() && p.owners[slot.Owner]
	switch {
	case claimed && now.Before(slot.LeaseUntil.Add(-lease/2)):
		return true
	case overtaken:
		return false
	case claimed:
		p.r.violated("I3: a create for %s was sent in the second half of the lease: %+v", clientID, slot)
	default:
		p.r.violated("I3: a create for %s was sent without a claim: %+v", clientID, slot)
	}
	return true
}

// watchKey remembers whose the key is.
func (p *process) watchKey(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	a, err := c.Forward(context.WithoutCancel(ctx))
	if err != nil || a.Status != 200 {
		return a, err
	}
	var made struct {
		ID string `json:"api_key_id"`
	}
	_ = json.Unmarshal(a.Body, &made)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[made.ID] = true
	return a, nil
}

// lastStored is the key that was stored last in the slot, whatever the slot says of it now.
func (r *run) lastStored(slot store.Slot) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored[slot.Key().PK+" "+slot.Key().SK]
}

// mayDelete is I4: a worker destroys only under its own running claim, or what it made itself; and
// never the key that was stored last for a living user, whose replacement is stored first, nor one
// that retires before its time, unless the slot has nothing else to go by, or they had it removed.
func (p *process) mayDelete(c *fault.Call) {
	pod, ok := p.r.pod(c)
	if !ok {
		return
	}
	user, provider := managedtest.PodUser(pod.ClientID)
	slot, deleted, err := p.r.w.Slot(user, provider)
	if err != nil {
		p.r.violated("reading a slot: %v", err)
		return
	}
	overtaken := p.overtaken()
	p.mu.Lock()
	defer p.mu.Unlock()
	parts := strings.Split(c.URL.Path, "/")
	key := ""
	if len(parts) == 6 && parts[4] == "api-keys" {
		key = parts[5]
	}
	if !overtaken && !p.owners[slot.Owner] && !p.keys[key] {
		p.r.violated("I4: %s without a claim; the slot is %+v", c.Op, slot)
	}
	serves := key != "" && key == slot.Retiring.KeyID && !slot.Rotates && slot.GoneSince.IsZero() && p.now().Before(slot.Retiring.At)
	if !deleted && slot.State != store.Retracting && (serves || key == "" || key == slot.Resource.KeyID || key == p.r.lastStored(slot)) {
		p.r.violated("I4: %s of a living user; the slot is %+v", c.Op, slot)
	}
}
