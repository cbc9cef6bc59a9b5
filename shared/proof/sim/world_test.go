package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"managed-credentials/shared/jitter"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/proof/sim/table"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/ayrshare"
	"managed-credentials/shared/provider/openai"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

const (
	lease  = 60 * time.Second
	budget = 5 * time.Second
	// effectTime is A1: a create takes effect within it, or never.
	effectTime = lease / 2
	tableName  = "table"
)

// world is one schedule under way. All of it runs in one bubble of synctest: time stands still
// while anybody does something.
//
// Every goroutine but the one that plays belongs to a process, and comes to a halt at a call to the
// outside, a pause, or a deadline. When all have, the player takes in the calls that were made, in
// an order that no scheduler decides, draws for each what becomes of it and when, and lets happen
// what comes first.
//
// So the seed decides everything, whichever goroutine Go lets run first. One answer is given at a
// time, at a nanosecond that no other has, and wakes one goroutine; what runs side by side is what
// that one starts, or what one deadline ends. Whatever these draw hangs on what they are, and on
// nothing that is drawn for others: a pause on the time at which it begins, and a call's fate on
// its process, its operation and its number among those. That number is given when all have come to
// a halt, in the order of what the calls are about, and of whose task and claim they are. The text
// of a call, which orders it, has in it nothing that is drawn anew each time. And who may have to
// wait for another, as for an org key, gets their turn from the player, too.
type world struct {
	schedule
	heard heard
	story []string
	hash  uint64
	lines int

	start   time.Time
	config  config
	table   *table.Table
	parties map[string]party // by the names of their providers
	mail    *mail            // that one of them, if it is one
	store   *store.Store     // goes past all faults, by the true time
	sealer  *seal.Sealer     // likewise
	orgKeys map[string]string
	// shown are what Secrets Manager holds in place of an org key; "" for nothing.
	shown     map[string]string
	pool      map[string]string // the user pool: names by sub
	processes []*process

	mu       sync.Mutex
	arrivals []*call
	taken    []*call // the player's: those of before, whose room the next ones get
	running  int
	tasks    int // that were spawned
	arrived  chan struct{}

	events []event
	timer  *time.Timer // wakes the player
	dice   rand.PCG    // of one call at a time
	rolls  *rand.Rand  // of these dice
	// suspended is for how long all processes have been, altogether.
	suspended time.Duration
	over      bool // faults are
	struck    []string
	calls     int
	// staleDraws counts the items that eventually consistent reads have met, and sawStale says that
	// one of them was as it had been.
	staleDraws uint64
	sawStale   bool

	observed
	// histories are what each slot shows; nil if nobody writes them down.
	histories *histories
}

// event is what is to happen at a time.
type event struct {
	at time.Time
	do func()
	// outside says that it happens outside of all processes, whether they run or not.
	outside bool
}

// at has something done at a time.
func (w *world) at(at time.Time, do func()) { w.add(event{at, do, false}) }

// outside has something happen at a time, also while all processes are suspended.
func (w *world) outside(at time.Time, do func()) { w.add(event{at, do, true}) }

func (w *world) add(e event) {
	i := sort.Search(len(w.events), func(i int) bool { return w.events[i].at.After(e.at) })
	w.events = slices.Insert(w.events, i, e)
}

// next takes out what comes first. What comes after it moves up, so that there stays room for more.
func (w *world) next() event {
	e := w.events[0]
	n := copy(w.events, w.events[1:])
	w.events[n] = event{}
	w.events = w.events[:n]
	return e
}

// now is the true time. The bubble's own is behind it by how long all processes were suspended.
func (w *world) now() time.Time { return time.Now().Round(0).Add(w.suspended) }

// suspend stops all processes for that long, with their monotonic clocks: no timer goes on, and the
// wall clock does. What they have sent takes effect meanwhile, and they hear of it afterwards.
func (w *world) suspend(length time.Duration) {
	end := w.now().Add(length)
	w.note("all processes are suspended until %.3f", end.Sub(w.start).Seconds())
	for _, p := range w.processes {
		if p.frozen.Before(end) {
			p.frozen = end
		}
	}
	var waiting []event
	for len(w.events) > 0 && !w.events[0].at.After(end) {
		e := w.next()
		if !e.outside {
			waiting = append(waiting, e)
			continue
		}
		w.suspended += max(0, e.at.Sub(w.now()))
		e.do()
	}
	w.suspended += end.Sub(w.now())
	for _, e := range waiting {
		w.at(end, e.do)
	}
}

// mix makes one number of many, of which each matters.
func mix(parts ...uint64) uint64 {
	h := uint64(fnvOffset)
	for _, p := range parts {
		h ^= p
		h *= 0x9E3779B97F4A7C15
		h ^= h >> 29
		h *= 0xBF58476D1CE4E5B9
		h ^= h >> 32
	}
	return h
}

func hashOf(text string) uint64 {
	return hashing(fnvOffset, text)
}

// fnvOffset is where a hash begins, which is FNV-1a.
const fnvOffset = 14695981039346656037

// hashing is the hash of what had the hash h, and of this after it.
func hashing[T string | []byte](h uint64, text T) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

func init() {
	// A pause is drawn from the time at which it begins, of which no two schedules have the same:
	// so it does not matter which of two goroutines asks first.
	jitter.Source = func(n time.Duration) time.Duration {
		return time.Duration(mix(uint64(time.Now().UnixNano()), uint64(n)) % uint64(n))
	}
}

// heard says what becomes of the lines of a run.
type heard int

const (
	unheard heard = iota // nothing
	hashed               // a hash of them is kept
	told                 // that, and all of them
)

// run plays the schedule, and returns how it went.
func (s schedule) run(t *testing.T, heard heard) *world {
	t.Helper()
	var w *world
	synctest.Test(t, func(*testing.T) {
		grow()
		time.Sleep(time.Duration(mix(s.seed) % uint64(time.Hour)))
		w = newWorld(s, heard)
		w.play()
	})
	return w
}

// grow has the goroutine's stack grow while next to nothing is on it, and not again and again with
// all that the engine puts there.
//
//go:noinline
func grow() byte {
	var room [12 << 10]byte
	return room[runtime.NumGoroutine()]
}

func newWorld(s schedule, heard heard) *world {
	w := &world{
		schedule: s,
		heard:    heard,
		hash:     fnvOffset,
		start:    time.Now().Round(0),
		table:    table.New(),
		orgKeys:  map[string]string{},
		shown:    map[string]string{},
		pool:     map[string]string{},
		arrived:  make(chan struct{}, 1),
		timer:    time.NewTimer(0),
	}
	w.rolls = rand.New(&w.dice)
	w.observed = newObserved()
	w.config = drawConfig(rand.New(rand.NewPCG(s.seed, 1)))
	if leak := rand.New(rand.NewPCG(s.seed, 9)); s.bug == nil && leak.IntN(5) == 0 {
		w.config.leak = time.Duration(leak.Int64N(int64(horizon)))
	}
	if aging := rand.New(rand.NewPCG(s.seed, 21)); s.bug == nil && aging.IntN(8) == 0 {
		w.config.aging = time.Duration(aging.Int64N(int64(horizon)))
	}
	if pool := rand.New(rand.NewPCG(s.seed, 11)); s.bug == nil && pool.IntN(3) == 0 {
		w.config.switches = 1 + pool.IntN(6)
	}
	if others := rand.New(rand.NewPCG(s.seed, 31)); others.IntN(4) == 0 {
		w.config.providers = [][]string{{openai.Name}, {ayrshare.Name}, {openai.Name, ayrshare.Name}, {agentmail.Name, openai.Name}}[others.IntN(4)]
		w.config.listsLag = []time.Duration{0, 0, 20 * time.Second, 5 * time.Minute}[others.IntN(4)]
	}
	if live := rand.New(rand.NewPCG(s.seed, 41)); s.bug == nil && live.IntN(3) == 0 {
		w.config.keysLive = 30*time.Second + time.Duration(live.Int64N(int64(longestKeysLive)))
	}
	if s.recorded {
		w.config.adopts, w.config.holdback, w.config.lingers, w.config.plain = false, 0, 0, true
		w.config.leak, w.config.switches, w.config.aging, w.config.keysLive = 0, 0, 0, 0
	}
	if s.recorded || s.bug != nil {
		w.config.providers = []string{agentmail.Name}
	}
	w.parties = newParties(w)
	w.table.Stale = w.stale
	w.store = store.New(w.table, tableName, w.now)
	err := w.store.NameDeployment(context.Background(), "aaaa2222") // one that is made would not be the same twice
	if err != nil {
		panic(err)
	}
	w.sealer = seal.New(kmsAPI{w: w}, "key")
	if s.recorded {
		w.histories = newHistories(w)
	}
	for _, user := range users {
		w.pool[user] = user + " in the pool"
	}
	return w
}

// note adds a line to the log, if anybody hears it.
func (w *world) note(format string, args ...any) {
	if w.heard == unheard {
		return
	}
	line := fmt.Sprintf("%9.3f ", w.now().Sub(w.start).Seconds()) + fmt.Sprintf(format, args...)
	w.hash = hashing(w.hash, line)
	w.lines++
	if w.heard == told {
		w.story = append(w.story, line)
	}
}

// until lets things happen until a condition holds, or nothing is left to happen.
func (w *world) until(done func() bool) {
	for {
		synctest.Wait()
		w.take()
		w.mu.Lock()
		idle := w.running == 0
		w.mu.Unlock()
		if done() || idle && len(w.events) == 0 {
			return
		}
		if len(w.events) == 0 {
			<-w.arrived
			continue
		}
		wait := w.events[0].at.Sub(w.now())
		if wait > 0 {
			w.timer.Reset(wait)
			select {
			case <-w.arrived:
			case <-w.timer.C:
			}
			continue
		}
		w.next().do()
	}
}

// passed lets a time pass.
func (w *world) passed(d time.Duration) {
	end := false
	w.at(w.now().Add(d), func() { end = true })
	w.until(func() bool { return end })
}

func (w *world) signal() {
	select {
	case w.arrived <- struct{}{}:
	default:
	}
}

// spawn has a process do something beside everything else.
func (w *world) spawn(what string, p *process, do func(ctx context.Context)) {
	w.note("%s begins: %s", p.name(), what)
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	w.tasks++
	ctx := context.WithValue(p.ctx, taskKey{}, w.tasks)
	go func() {
		grow()
		defer func() {
			w.mu.Lock()
			w.running--
			w.mu.Unlock()
			w.signal()
		}()
		do(ctx)
	}()
}

// taskKey is the context's key for the number of a task, among all that were spawned.
type taskKey struct{}

func (w *world) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running == 0
}

// process is one instance of a function: an engine with clients and memories of its own.
type process struct {
	*managed.Engine
	w      *world
	number int
	skew   time.Duration
	ctx    context.Context
	end    context.CancelFunc
	dead   atomic.Bool
	frozen time.Time // until when it is
	owners map[string]bool
	keys   map[string]bool
	counts map[string]int // of its calls, by operation
	table  *store.Store
	sealer *seal.Sealer
	// trouble is when the table last was slow, failed or out of reach for this process.
	trouble time.Time
	// turnTaken says that somebody has the turn to ask for an org key, and waiting are those who
	// wait for it.
	turnTaken bool
	waiting   []*call
}

func (p *process) name() string { return "process " + strconv.Itoa(p.number) }

func (p *process) now() time.Time {
	p.w.shake()
	return p.w.now().Add(p.skew)
}

// shake has the goroutine give way to others by true chance, where the schedule is to be shaken:
// which of them goes on first must not decide anything.
func (w *world) shake() {
	if w.shaken {
		for range rand.IntN(4) {
			runtime.Gosched()
		}
	}
}

// process starts one.
func (w *world) process() *process {
	p := &process{w: w, number: len(w.processes) + 1, owners: map[string]bool{}, keys: map[string]bool{}, counts: map[string]int{}}
	rng := rand.New(rand.NewPCG(w.seed, mix(2, uint64(p.number))))
	if w.config.skewed {
		p.skew = time.Duration(rng.IntN(10001)-5000) * time.Millisecond
	}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.table = store.New(w.bug.tables(db{p}), tableName, p.now)
	p.sealer = seal.New(kmsAPI{w, p}, "key")
	var providers []managed.Provider
	for _, name := range w.config.providers {
		provider, err := w.parties[name].connect(transport{p, name, w.parties[name]}, w.config.adopts)
		if err != nil {
			panic(err)
		}
		providers = append(providers, w.bug.provides(provider))
	}
	var err error
	p.Engine, err = managed.New(managed.Config{
		Store: p.table, Providers: providers, OptOut: w.optOut(), Replace: w.replace(), OrgKeys: newKeys(p), Seal: w.bug.seals(p.sealer), Users: userPool{p},
		Lease: lease, Budget: budget, Holdback: w.config.holdback, Suspends: true, GoneFloor: 10, GoneShare: 0.02, Now: p.now, Wait: p.wait,
		Log: slog.New(logs{w: w, p: p}), Metrics: telemetry.NewMetrics(logs{w: w, p: p}), MaxKeyAge: w.maxKeyAge(),
		SuspendedKeysLive: w.config.keysLive,
	})
	if err != nil {
		panic(err)
	}
	w.processes = append(w.processes, p)
	return p
}

// maxKeyAge is so short that each key is too old for a walk, of which one is begun in an hour. The
// key before it serves for a quarter of that.
func (w *world) maxKeyAge() time.Duration {
	if w.config.aging == 0 {
		return 0
	}
	return 4 * time.Minute
}

// optOut lets users give up what they have at each provider.
func (w *world) optOut() map[string]bool {
	all := map[string]bool{}
	for _, name := range w.config.providers {
		all[name] = true
	}
	return all
}

// replace lets users have their key replaced at each provider.
func (w *world) replace() map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, name := range w.config.providers {
		all[name] = replaceOverlap
	}
	return all
}

// replaceOverlap is for how long a key serves on that its user has had replaced.
const replaceOverlap = 40 * time.Second

// wait is a pause that the player ends, so that of two that end at once one goes first.
func (p *process) wait(ctx context.Context, d time.Duration) error {
	about := func() string { return fmt.Sprint(d, callerIn(ctx)) }
	_, err := p.call(ctx, &call{op: "pause", about: about, pause: max(d, time.Nanosecond)})
	return err
}

// kill ends the process as SIGKILL would: what it has sent is on its way, and it sends and hears
// nothing any more.
func (p *process) kill() {
	p.dead.Store(true)
	p.end()
}

// logs is I7 as far as logs go: no secret stands in any.
type logs struct {
	w *world
	p *process
}

func (logs) Enabled(context.Context, slog.Level) bool { return true }

func (l logs) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l logs) WithGroup(string) slog.Handler { return l }

// Handle implements slog.Handler.
func (l logs) Handle(_ context.Context, r slog.Record) error {
	leaks := l.w.isSecret(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindAny || a.Value.Kind() == slog.KindString {
			leaks = leaks || l.w.isSecret(a.Value.String())
		}
		return true
	})
	if !leaks && l.w.heard != told {
		return nil
	}
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.Key + "=" + a.Value.String()
		return true
	})
	if leaks {
		l.w.violated("I7: a secret is logged: %s", line)
	}
	if l.w.heard == told {
		l.w.mu.Lock()
		l.w.story = append(l.w.story, fmt.Sprintf("%9.3f     %s says: %s", l.w.now().Sub(l.w.start).Seconds(), l.p.name(), line))
		l.w.mu.Unlock()
	}
	return nil
}

// Write implements io.Writer for metrics.
func (l logs) Write(b []byte) (int, error) {
	if l.w.isSecret(string(b)) {
		l.w.violated("I7: a secret is in a metric: %s", b)
	}
	return len(b), nil
}

// isSecret reports whether a text has a secret of a third party in it.
func (w *world) isSecret(text string) bool {
	for _, name := range w.config.providers {
		if w.parties[name].tells(text) {
			return true
		}
	}
	return false
}

var errDead = errors.New("the process has ended")

// userPool is the user pool.
type userPool struct{ p *process }

// Remove implements managed.Users. The pool raises an event, as Cognito does.
func (u userPool) Remove(ctx context.Context, username, sub string) error {
	w := u.p.w
	_, err := u.p.call(ctx, &call{service: poolService, op: "AdminDeleteUser", about: func() string { return sub }, user: sub, do: func() (any, error) {
		if w.pool[sub] != username {
			return nil, nil
		}
		delete(w.pool, sub)
		w.at(w.now().Add(time.Second+time.Duration(mix(w.seed, hashOf(sub))%uint64(mostOfEvent))), func() { w.deletionEvent(sub, username) })
		return nil, nil
	}})
	return err
}

// Enabled implements managed.Users.
func (u userPool) Enabled(ctx context.Context, sub string) (enabled, exists bool, err error) {
	w := u.p.w
	value, err := u.p.call(ctx, &call{service: poolService, op: "AdminGetUser", about: func() string { return sub }, user: sub, do: func() (any, error) {
		return [2]bool{w.pool[sub] != "" && !w.offInPool[sub], w.pool[sub] != ""}, nil
	}})
	if err != nil {
		return false, false, err
	}
	is, _ := value.([2]bool)
	return is[0], is[1], nil
}
