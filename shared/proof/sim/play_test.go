package sim_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/proof/sim/table"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/provider/ayrshare"
	"managed-credentials/shared/store"
)

var users = []string{"alice", "bob", "carol"}

// horizon is how long the faults last.
const horizon = 4 * time.Minute

// task is something that is to be done at a time.
type task struct {
	at   time.Duration
	what string
	do   func()
}

// some returns a process that lives: mostly one that is warm.
func (w *world) some(rng *rand.Rand) *process {
	var alive []*process
	for _, p := range w.processes {
		if !p.dead.Load() && !p.frozen.After(w.now()) {
			alive = append(alive, p)
		}
	}
	if len(alive) == 0 || len(alive) < 4 && rng.IntN(3) == 0 {
		return w.process()
	}
	return alive[rng.IntN(len(alive))]
}

// weights say how often what is done, of users, operators and the world around.
var weights = []struct {
	what string
	n    int
}{
	{"list", 30}, {"delete", 10}, {"event", 3}, {"own", 8}, {"own deleted", 3}, {"many own", 1}, {"resolve", 6}, {"report", 6}, {"audit", 4},
	{"retry", 3}, {"holdback", 1}, {"revoked by hand", 4}, {"pod by hand", 2}, {"inbox", 4}, {"kill", 8}, {"freeze", 6}, {"suspend", 6},
	{"outage", 4}, {"lag", 4}, {"rotate", 2}, {"no org key", 2}, {"foreign org key", 2},
	{"new key", 5}, {"give up", 4}, {"ask", 4}, {"disable", 3}, {"enable", 4},
}

// unspecified are those of which the specification knows nothing.
var unspecified = map[string]bool{
	"give up": true, "ask": true, "rotate": true, "no org key": true, "foreign org key": true, "pod by hand": true,
}

// plan draws the tasks.
func (w *world) plan() []task {
	rng := rand.New(rand.NewPCG(w.seed, 3))
	total := 0
	for _, x := range weights {
		total += x.n
	}
	var tasks []task
	at := time.Duration(0)
	for i := range w.config.tasks {
		if rng.IntN(3) > 0 {
			at += time.Duration(rng.Int64N(int64(2 * horizon / time.Duration(w.config.tasks))))
		} else {
			at += time.Duration(rng.IntN(300)) * time.Millisecond
		}
		n, what := rng.IntN(total), ""
		for _, x := range weights {
			n -= x.n
			if n < 0 {
				what = x.what
				break
			}
		}
		user := users[rng.IntN(len(users))]
		if i == 0 {
			what = "list"
		}
		if w.config.plain && unspecified[what] {
			what = "new key"
		}
		own := rand.New(rand.NewPCG(w.seed, mix(4, uint64(i))))
		if w.without[i] {
			continue
		}
		tasks = append(tasks, task{min(at, horizon), fmt.Sprintf("task %d: %s of %s", i, what, user), w.doing(what, user, i, own)})
	}
	return tasks
}

// doing is what a task does when its time comes.
func (w *world) doing(what, user string, number int, rng *rand.Rand) func() {
	spawn := func(do func(ctx context.Context, p *process)) {
		p := w.some(rng)
		w.spawn(fmt.Sprintf("%s of %s", what, user), p, func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, 28*time.Second)
			defer cancel()
			do(ctx, p)
		})
	}
	provider := w.config.providers[rng.IntN(len(w.config.providers))]
	lags, after := rng.IntN(4) == 0, time.Duration(rng.IntN(2000))*time.Millisecond
	switch what {
	case "list":
		return func() { spawn(func(ctx context.Context, p *process) { _, _ = w.list(ctx, p, user) }) }
	case "delete":
		return func() {
			w.deleted[user], w.leaving[user] = true, true
			if lags {
				w.lag(user, provider, after/8)
			}
			spawn(func(ctx context.Context, p *process) { _, _, _ = p.DeleteAccount(ctx, user, user+" in the pool") })
		}
	case "event":
		return func() {
			w.deleted[user] = true
			delete(w.pool, user)
			if lags {
				w.lag(user, provider, after/8)
			}
			w.deletionEvent(user, "")
		}
	case "give up":
		return func() { spawn(func(ctx context.Context, p *process) { _, _ = p.Retract(ctx, user, provider) }) }
	case "ask":
		return func() {
			spawn(func(ctx context.Context, p *process) {
				begin := w.now()
				l, err := p.Want(ctx, user, provider)
				w.checkListing(user, p, begin, l, err)
			})
		}
	case "disable":
		return func() {
			w.disabled[user] = true
			spawn(func(ctx context.Context, p *process) { _ = p.Suspend(ctx, user, asked) })
		}
	case "enable":
		return func() { spawn(func(ctx context.Context, p *process) { _ = p.Enable(ctx, user, asked) }) }
	case "own":
		id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(strconv.Itoa(number))).String()
		return func() {
			spawn(func(ctx context.Context, p *process) {
				title := "mine"
				_, _ = p.table.Create(ctx, user, credential.Metadata{ID: id, Provider: "github", Type: credential.APIKey, Title: &title}, []byte("sealed"))
			})
		}
	case "many own": // as many as a hostile user gets in
		return func() {
			spawn(func(ctx context.Context, p *process) {
				title := strings.Repeat("mine ", 40)
				for i := range 40 {
					id := uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%d of %d", i, number)).String()
					_, _ = p.table.Create(ctx, user, credential.Metadata{ID: id, Provider: "github", Type: credential.APIKey, Title: &title}, []byte("sealed"))
				}
			})
		}
	case "own deleted":
		return func() {
			spawn(func(ctx context.Context, p *process) {
				for n := range number {
					id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(strconv.Itoa(n))).String()
					_ = p.table.Delete(ctx, user, "github", id)
				}
			})
		}
	case "resolve":
		return func() { spawn(func(ctx context.Context, p *process) { w.resolve(ctx, p, user, provider) }) }
	case "report":
		return func() {
			if lags {
				w.lag(user, provider, after)
			}
			spawn(func(ctx context.Context, p *process) { report(ctx, p, user, provider) })
		}
	case "audit":
		return func() { spawn(func(ctx context.Context, p *process) { audit(ctx, p, provider) }) }
	case "retry":
		return func() {
			spawn(func(ctx context.Context, p *process) { _, _, _ = p.Retry(ctx, managed.RetryRequest{By: "an operator"}) })
		}
	case "new key":
		overlap := time.Duration(rng.IntN(3)) * time.Duration(rng.IntN(60)) * time.Second
		return func() {
			spawn(func(ctx context.Context, p *process) {
				if overlap > 30*time.Second { // the user asks for it
					_, _ = p.Replace(ctx, user, provider)
					return
				}
				_ = p.Rotate(ctx, managed.Rotation{User: user, Provider: provider, Overlap: overlap})
			})
		}
	case "holdback":
		return func() {
			spawn(func(ctx context.Context, p *process) {
				_, _, _ = p.EndHoldback(ctx, managed.HoldbackRequest{User: user, Order: asked})
			})
		}
	default:
		return w.trouble(what, user, provider, rng)
	}
}

var asked = managed.Order{By: "an operator", Reason: "asked"}

// trouble is what happens around the service.
func (w *world) trouble(what, user, provider string, rng *rand.Rand) func() {
	length := time.Duration(rng.IntN(90_000)) * time.Millisecond
	switch what {
	case "revoked by hand":
		return func() { w.revokeByHand(user, provider) }
	case "inbox":
		return func() {
			if w.mail == nil {
				return
			}
			for _, pod := range w.mail.pods(user) {
				w.mail.byHand(http.MethodPost, "/v0/pods/"+pod.ID+"/inboxes", "{}", w.orgKeys[agentmail.Name])
			}
		}
	case "kill":
		return func() {
			p := w.some(rng)
			w.note("%s is killed", p.name())
			p.kill()
		}
	case "freeze":
		return func() {
			p := w.some(rng)
			w.note("%s freezes for %v", p.name(), length)
			p.frozen = w.now().Add(length)
		}
	case "outage":
		party := w.parties[provider].service()
		of := []service{keyService, secretService, party, party, dynamoDB}[rng.IntN(5)]
		return func() {
			w.note("an outage of service %d for %v", of, length)
			w.outages = append(w.outages, outage{of, w.now(), w.now().Add(length)})
		}
	case "lag":
		return func() { w.lag(user, provider, 0) }
	case "suspend":
		return func() { w.suspend(length) }
	case "pod by hand":
		return func() { w.removeByHand(user, provider) }
	case "no org key":
		return func() { w.show(provider, "", w.now(), length/3) }
	case "foreign org key":
		// One that came before anything was made would be taken for the right one.
		return func() {
			if w.table.Item("DEPLOYMENT", "ORG#"+provider) != nil {
				w.show(provider, w.parties[provider].foreignOrgKey(), w.now().Add(lease), length/3)
			}
		}
	default: // the org key is rotated
		party := w.parties[provider]
		next := party.newOrgKey(rng)
		return func() {
			old := w.orgKeys[provider]
			party.acceptOrgKey(next)
			w.orgKeys[provider] = next
			w.at(w.now().Add(length/3), func() {
				if old != next {
					w.note("the old org key is rejected")
					party.rejectOrgKey(old)
				}
			})
		}
	}
}

// show has Secrets Manager hold something else in place of an org key, for a while.
func (w *world) show(provider, key string, from time.Time, length time.Duration) {
	w.at(from, func() {
		if !w.over {
			w.note("the org key of %s is %q", provider, key)
			w.shown[provider] = key
		}
	})
	w.at(from.Add(length), func() { delete(w.shown, provider) })
}

func (w *world) revokeByHand(user, provider string) {
	slot, deleted := w.slot(user, provider)
	if deleted || slot.State != store.Ready || slot.Resource.KeyID == "" {
		return
	}
	w.parties[provider].removeKey(slot.Resource, w.orgKeys[provider])
	w.byHandKeys++
	w.histories.byHand(user, provider)
}

// removeByHand removes all that a user has at a provider.
func (w *world) removeByHand(user, provider string) {
	slot, deleted := w.slot(user, provider)
	if deleted || slot.State != store.Ready {
		return
	}
	w.parties[provider].removeAll(user, w.orgKeys[provider])
	w.byHandKeys++
}

// deletionEvent is the event that Cognito raises, which comes until somebody has taken it.
func (w *world) deletionEvent(user, username string) {
	p := w.some(rand.New(rand.NewPCG(w.seed, hashOf(user))))
	w.deleted[user] = true
	w.spawn("deletion event of "+user, p, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 28*time.Second)
		defer cancel()
		_, _, _ = p.DeleteAccount(ctx, user, username)
	})
}

// list lists, and checks the answer and how long it took.
func (w *world) list(ctx context.Context, p *process, user string) (managed.Listing, error) {
	begin := w.now()
	l, err := p.List(ctx, user, "")
	w.bug.lists(&l)
	w.checkListing(user, p, begin, l, err)
	return l, err
}

// resolve is what an executor gets: it opens, and is the user's own.
func (w *world) resolve(ctx context.Context, p *process, user, provider string) {
	id := credential.ManagedID(provider, user)
	sealed, err := p.table.Sealed(ctx, user, provider, id)
	if err != nil {
		return
	}
	m, err := p.sealer.Open(ctx, user, provider, id, sealed.Type, sealed.Open(), sealed.Ciphertext)
	if err != nil {
		var api interface{ ErrorCode() string }
		if errors.As(err, &api) && api.ErrorCode() == "InvalidCiphertextException" {
			w.violated("I9: what is stored of %s does not open", user)
		}
		return
	}
	owner, _, ok := w.parties[provider].identify(strings.Trim(string(m.Fields()["api_key"]), `"`))
	if ok && owner != user {
		w.violated("I7: %s gets the key of %s", user, owner)
	}
}

func report(ctx context.Context, p *process, user, provider string) {
	slots, err := p.table.Slots(ctx, user, provider)
	slot := slots[provider]
	if err == nil && slot.State == store.Ready && slot.Owner == "" && !slot.ReportFrom.After(p.now()) {
		_ = p.table.Report(ctx, slot, 10*time.Minute)
	}
}

func audit(ctx context.Context, p *process, provider string) {
	request := managed.AuditRequest{Provider: provider, Repair: 100, By: "an operator"}
	for range 20 {
		r, err := p.Audit(ctx, request)
		if err != nil || r.Next == "" {
			return
		}
		request.Cursor = r.Next
	}
}

// play plays the whole schedule.
func (w *world) play() {
	w.prepare()
	for _, t := range w.plan() {
		w.at(w.start.Add(t.at), func() {
			w.note("%s", t.what)
			t.do()
		})
	}
	warm := w.process()
	w.every(warm, time.Minute)
	if w.config.leak > 0 {
		w.at(w.start.Add(w.config.leak), w.leaked)
	}
	if w.config.aging > 0 {
		w.at(w.start.Add(w.config.aging), func() { w.walks(rand.New(rand.NewPCG(w.seed, 22))) })
	}
	w.planSwitches()
	w.passed(horizon + time.Second)
	w.over = true
	clear(w.shown)
	for _, p := range w.processes {
		if p.frozen.After(w.now()) {
			p.frozen = w.now()
		}
	}
	w.note("faults are over")
	w.until(func() bool { return w.quiet() && len(w.events) == 0 })
	w.endKeys()
	w.enableInPool()
	w.enableAll()
	w.recover()
	w.finish()
	for _, p := range w.processes {
		p.kill()
	}
	w.until(w.quiet)
}

// planSwitches has administrators disable and enable users in the user pool.
func (w *world) planSwitches() {
	rng := rand.New(rand.NewPCG(w.seed, 12))
	for range w.config.switches {
		// Most come close to each other, so that their events overtake each other.
		at := time.Duration(rng.Int64N(int64(horizon)))
		user := users[rng.IntN(len(users))]
		for range 1 + rng.IntN(3) {
			enabled, own := rng.IntN(2) == 0, rand.New(rand.NewPCG(w.seed, mix(13, rng.Uint64())))
			w.at(w.start.Add(at), func() { w.switchInPool(user, enabled, own) })
			at = min(at+time.Duration(rng.Int64N(int64(20*time.Second))), horizon)
		}
	}
}

// switchInPool disables or enables a user in the pool, which raises an event, as Cognito does: it
// comes once or twice, at some time.
func (w *world) switchInPool(user string, enabled bool, rng *rand.Rand) {
	if w.pool[user] == "" {
		return
	}
	w.note("%s is enabled in the user pool: %t", user, enabled)
	w.offInPool[user] = !enabled
	w.disabled[user] = w.disabled[user] || !enabled
	for range 1 + rng.IntN(2) {
		own := rand.New(rand.NewPCG(w.seed, mix(14, rng.Uint64())))
		w.at(w.now().Add(time.Duration(rng.Int64N(int64(mostOfEvent)))), func() { w.poolEvent(user, own) })
	}
}

// poolEvent is that event. It comes again minutes after whoever took it has failed, when what that
// one had sent is no longer on its way.
func (w *world) poolEvent(user string, rng *rand.Rand) {
	const failed, taken = 1, 2
	var outcome atomic.Int32
	p := w.some(rng)
	w.spawn("pool event of "+user, p, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 28*time.Second)
		defer cancel()
		_, err := p.FollowPool(ctx, user)
		if err != nil {
			outcome.Store(failed)
		} else {
			outcome.Store(taken)
		}
	})
	var look func()
	look = func() {
		switch outcome.Load() {
		case taken:
		case failed:
			w.at(w.now().Add(2*time.Minute), func() { w.poolEvent(user, rng) })
		default:
			w.at(w.now().Add(time.Minute), look)
		}
	}
	w.at(w.now().Add(time.Minute), look)
}

// enableInPool checks that who is disabled in the user pool is suspended for that, and nobody else,
// once the events of it have come; and enables them there. Who has gone from the pool meanwhile is
// let go by the deletion alone, whose event may not have got through.
func (w *world) enableInPool() {
	rng := rand.New(rand.NewPCG(w.seed, 15))
	for _, user := range users {
		w.checkFollowsPool(user)
		switch {
		case w.pool[user] == "" && w.suspendedInPool(user):
			w.deletionEvent(user, "")
		case w.offInPool[user]:
			w.switchInPool(user, true, rng)
		}
	}
	w.until(func() bool { return w.quiet() && len(w.events) == 0 })
	for _, user := range users {
		w.checkFollowsPool(user)
	}
}

func (w *world) checkFollowsPool(user string) {
	if w.pool[user] == "" || w.buried(user) {
		return
	}
	if w.suspendedInPool(user) != w.offInPool[user] {
		w.violated("%s is disabled in the user pool: %t, and suspended for that: %t", user, w.offInPool[user], w.suspendedInPool(user))
	}
}

func (w *world) suspendedInPool(user string) bool {
	return w.table.Item("USER#"+user, "ACCOUNT")["by_cognito"] != nil
}

// longestKeysLive is the most that config.keysLive is above its least.
const longestKeysLive = 2 * time.Minute

// endKeys lets rounds go on, where the keys of suspended users are to be revoked, until it is time
// for all of them, and checks that each of these users' slots is as it has to be then.
func (w *world) endKeys() {
	if w.config.keysLive == 0 {
		return
	}
	p := w.process()
	for range 7 {
		w.passed(time.Minute)
		w.reconcile(p)
		w.until(func() bool { return w.quiet() && len(w.events) == 0 })
	}
	for _, user := range users {
		item := w.table.Item("USER#"+user, "ACCOUNT")
		if item["status"] == nil {
			continue
		}
		if _, due := dueAt(item); due {
			w.violated("liveness: the keys of %s are not revoked, who has been suspended for longer than %v:\n%s", user, w.config.keysLive, w.dump())
		}
		for _, provider := range w.config.providers {
			slot, _ := w.claimOf(user, provider)
			if provider != ayrshare.Name && slot.State != store.Absent && slot.State != store.Retracting && slot.State != store.Off {
				w.violated("%s has been suspended for longer than %v, and has a slot %+v", user, w.config.keysLive, slot)
			}
		}
	}
}

// enableAll enables whoever was suspended, also those of whom an operator cannot know whether an
// earlier asking got through to its end.
func (w *world) enableAll() {
	p := w.process()
	for _, user := range users {
		if w.disabled[user] && !w.buried(user) {
			w.spawn("enabling "+user, p, func(ctx context.Context) { w.check(p.Enable(ctx, user, asked)) })
		}
	}
	w.until(func() bool { return w.quiet() && len(w.events) == 0 })
}

// prepare puts in what was there before.
func (w *world) prepare() {
	if !w.config.adopts || w.mail == nil {
		return
	}
	for _, user := range users[1:] {
		pod := w.mail.SeedPod(fake.Pod{ClientID: user, Name: adopted})
		w.mail.learnPod(pod.ID, user)
	}
}

// every lets reconcile run each minute, in a warm process, or a new one where that was killed.
func (w *world) every(p *process, d time.Duration) {
	if w.over {
		return
	}
	if p.dead.Load() {
		p = w.process()
	}
	w.at(w.now().Add(d), func() {
		if w.over {
			return
		}
		w.reconcile(p)
		w.every(p, d)
	})
}

func (w *world) reconcile(p *process) {
	w.spawn("a round of reconcile", p, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 59*time.Second)
		defer cancel()
		_, _ = p.Reconcile(ctx)
	})
}

// due is what is due by a time, by its keys, and since when.
func (w *world) due(by time.Time) map[string]time.Time {
	all := map[string]time.Time{}
	for _, item := range w.table.Items() {
		if at, ok := dueAt(item); ok && !at.After(by) {
			all[keyText(item)] = at
		}
	}
	return all
}

// nextDue is when the next work is due; zero if there is none.
func (w *world) nextDue() time.Time {
	var next time.Time
	for _, item := range w.table.Items() {
		if at, ok := dueAt(item); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func dueAt(item table.Item) (time.Time, bool) {
	n, ok := item["due_at"].(*types.AttributeValueMemberN)
	if !ok {
		return time.Time{}, false
	}
	ms, _ := strconv.ParseInt(n.Value, 10, 64)
	return time.UnixMilli(ms), true
}

const (
	// mostOfEvent is how long the user pool's event may take.
	mostOfEvent = 90 * time.Second
	// patience is how long it may take until nothing is due any more, and patienceOfParked the same
	// where a revocation was parked. Each pause in it was set by a failure, and is as long as that
	// says: 15 minutes at most, 6 hours where a revocation was parked.
	patience         = 90 * time.Minute
	patienceOfParked = 8 * time.Hour
	// longestClaim is how long a claim may stand after the last fault: its lease, the margin for
	// clocks that differ, and two rounds.
	longestClaim = lease + store.SkewMargin + 2*time.Minute
	// apart is how far a process's clock may be off.
	apart = 5 * time.Second
	// longestWait is how long a slot may be due, before it is as it has to be: longestClaim, with
	// the clocks of whoever claimed it and of whoever takes it over apart, and what two rounds
	// take.
	longestWait = longestClaim + 2*apart + 4*time.Second
	// secondLook is how much longer a slot may be whose key was not found at the third party: it is
	// looked for again under another claim.
	secondLook = longestClaim
	// lastEvent is how much longer an account may be: once its slots have gone it is looked at
	// again, and the user pool's own event has it looked at once more.
	lastEvent = mostOfEvent + 2*time.Minute
)

// recover is liveness: once faults are over, with a round of reconcile each minute, no two rounds
// pass over what is due, no claim stands for longer than longestClaim, nobody waits for longer than
// longestWait, and nothing is due in the end.
func (w *world) recover() {
	begin, bound := w.now(), patience
	for _, item := range w.table.Items() {
		state := store.State(textOf(item["state"]))
		if state == store.Parked || state == store.Retracting { // which stays what it is where it is parked
			bound = patienceOfParked
		}
		if item["held_until"] != nil {
			bound = max(bound, w.config.holdback+patience)
		}
	}
	p := w.process()
	passedOver := map[string]time.Time{}
	waits := map[string]time.Time{} // since when, of what has become due
	missed := map[string]bool{}     // of these, what was looked for and not found
	for {
		due := w.nextDue()
		if due.IsZero() {
			return
		}
		w.passed(max(time.Minute, due.Sub(w.now())+apart))
		if w.now().Sub(begin) > bound {
			w.violated("liveness: %v after the last fault there is work due:\n%s", bound, w.dump())
			return
		}
		was := w.due(w.now().Add(-apart))
		for key, at := range was {
			_, waiting := waits[key]
			if !waiting {
				waits[key] = latest(at, begin)
			}
		}
		w.reconcile(p)
		w.until(func() bool { return w.quiet() && len(w.events) == 0 })
		for key, at := range w.due(w.now()) {
			if !at.Equal(was[key]) {
				continue
			}
			if at.Equal(passedOver[key]) {
				w.violated("liveness: two rounds of reconcile have passed over %s, due since %v:\n%s", key, at, w.dump())
				return
			}
			passedOver[key] = at
		}
		w.waitedFor(waits, missed)
		for _, item := range w.table.Items() {
			if textOf(item["owner"]) != "" && item["lease_until"] != nil && w.now().Sub(begin) > longestClaim {
				w.violated("liveness: %v after the last fault a claim of before stands:\n%s", longestClaim, w.dump())
				return
			}
		}
	}
}

// waitedFor is that nobody waits for longer than they have to: waits has since when each item does,
// and missed which of them had their key looked for, and not found.
func (w *world) waitedFor(waits map[string]time.Time, missed map[string]bool) {
	still := map[string]bool{}
	for _, item := range w.table.Items() {
		_, due := dueAt(item)
		if !due {
			continue
		}
		key := keyText(item)
		still[key] = true
		longest := longestWait + w.config.holdback + w.config.inboxes + w.config.lingers + w.config.oldLists() // "not yet" is the third party's to say
		if textOf(item["sk"]) == "ACCOUNT" {
			longest += lastEvent
		}
		missed[key] = missed[key] || item["gone_since"] != nil
		if missed[key] {
			longest += secondLook
		}
		since, waiting := waits[key]
		if at := item["retire_at"]; at != nil { // a key serves on until then, and nobody waits
			since = latest(since, timeOf(at))
		}
		if waiting && w.now().Sub(since) > longest {
			w.violated("liveness: %s has been waited for since %v, longer than %v:\n%s", key, since, longest, w.dump())
			return
		}
	}
	maps.DeleteFunc(waits, func(key string, _ time.Time) bool { return !still[key] })
	maps.DeleteFunc(missed, func(key string, _ bool) bool { return !still[key] })
}

// oldLists is for how long a third party whose lists lag may have to be waited for. A list shows
// all that lower attempts made once it is five minutes younger than the key that it has, and what
// is missing is missed by two looks.
func (c config) oldLists() time.Duration {
	if c.listsLag == 0 {
		return 0
	}
	return 5*time.Minute + 2*c.listsLag
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finish asks again for what did not get through, and checks that each user has what is theirs.
func (w *world) finish() {
	if len(w.violations) > 0 {
		return
	}
	w.noOrphans()
	p := w.process()
	again := func(what string, do func(ctx context.Context)) {
		w.spawn(what, p, do)
		w.until(func() bool { return w.quiet() && len(w.events) == 0 })
		w.recover()
	}
	w.allReplaced(p, again)
	if w.byHandKeys > 0 {
		w.passed(w.config.listsLag) // an audit sees no more than lists show
		for _, provider := range w.config.providers {
			again("audit", func(ctx context.Context) { audit(ctx, p, provider) })
		}
	}
	for _, user := range users {
		if w.deleted[user] && !w.buried(user) || w.leaving[user] && w.pool[user] != "" {
			again("the deletion of "+user+" again", func(ctx context.Context) { _, _, _ = p.DeleteAccount(ctx, user, user+" in the pool") })
		}
		if w.deleted[user] {
			w.check(w.nothingLeft(user))
			continue
		}
		var l managed.Listing
		for range 3 {
			again("a last list of "+user, func(ctx context.Context) { l, _ = w.list(ctx, p, user) })
			if managedIn(l) == w.kept(user) {
				break
			}
		}
		if managedIn(l) != w.kept(user) {
			w.violated("I1: a list of %s has %d managed credentials", user, managedIn(l))
		}
		for _, provider := range w.config.providers {
			if w.isOff(user, provider) {
				w.check(w.nothingThere(user, provider))
			} else {
				w.check(w.exactlyOne(user, provider))
			}
		}
		if w.pool[user] == "" {
			w.violated("%s lives, and is not in the user pool any more", user)
		}
	}
	w.noOrphans()
}

// leaked has all keys of a provider replaced, and the schedule go on with that.
func (w *world) leaked() {
	rng := rand.New(rand.NewPCG(w.seed, 10))
	p, overlap := w.some(rng), time.Duration(rng.IntN(2)*rng.IntN(60))*time.Second
	w.spawn("a rotation of all keys", p, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 28*time.Second)
		defer cancel()
		_, _ = p.RotateAll(ctx, managed.RotationOfAll{Provider: w.config.providers[0], Overlap: overlap, Order: managed.Order{By: "an operator", Reason: "a leak"}})
	})
	w.walks(rng)
}

// walks lets the schedule go on with the rotation of all keys, and look for old ones.
func (w *world) walks(rng *rand.Rand) {
	w.at(w.now().Add(time.Duration(5+rng.IntN(60))*time.Second), func() {
		if w.over {
			return
		}
		p := w.some(rng)
		w.spawn("a walk", p, func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, 59*time.Second)
			defer cancel()
			_, _ = p.RotationsDue(ctx)
		})
		w.walks(rng)
	})
}

// allReplaced is that a rotation of all keys that was begun comes to its end, and that no key from
// before is stored then.
func (w *world) allReplaced(p *process, again func(string, func(context.Context))) {
	if w.config.leak == 0 {
		return
	}
	var all []managed.RotationStatus
	for n := 0; n == 0 || all[0].UnderWay != nil; n++ {
		if n == 20 || len(w.violations) > 0 {
			w.violated("liveness: the rotation of all keys does not end: %+v\n%s", all[0].UnderWay, w.dump())
			return
		}
		w.passed(3 * time.Minute)
		again("a walk", func(ctx context.Context) { all, _ = p.RotationsDue(ctx) })
	}
	if all[0].Ended == nil { // nobody got through with it
		return
	}
	for _, user := range users {
		slot, deleted := w.slot(user, all[0].Provider)
		key := slot.Key()
		at := timeOf(w.table.Item(key.PK, key.SK)["committed_at"])
		if !deleted && slot.Committed > 0 && slot.State != store.Off && at.Before(all[0].Ended.BegunAt.Truncate(time.Millisecond)) {
			w.violated("of %s a key from before is stored, from %v: %+v", user, at, all[0].Ended)
		}
	}
}

// isOff reports whether the user gave up what they had at a provider.
func (w *world) isOff(user, provider string) bool {
	slot, _ := w.claimOf(user, provider)
	return slot.State == store.Off && slot.RetractedBy != store.BySuspension
}

// kept is at how many providers the user has to have something.
func (w *world) kept(user string) int {
	n := 0
	for _, provider := range w.config.providers {
		if !w.isOff(user, provider) {
			n++
		}
	}
	return n
}

func managedIn(l managed.Listing) int {
	n := 0
	for _, m := range l.Credentials {
		if m.Managed {
			n++
		}
	}
	return n
}

func (w *world) check(err error) {
	if err != nil {
		w.violated("%v", err)
	}
}

// dump is the table as a text.
func (w *world) dump() string {
	var lines []string
	for _, item := range w.table.Items() {
		lines = append(lines, textOfAll(item))
	}
	return strings.Join(lines, "\n")
}
