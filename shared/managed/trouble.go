package managed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/telemetry"
)

// errNotNow: the third party is not to be called now, nor as long as there is time to wait. Nothing
// was done, and the work stays due.
var errNotNow = errors.New("the third party is left alone for now")

// health is what this process knows of how one third party is. None of it is in the table: each
// process finds out for itself.
type health struct {
	circuit circuit
	// turn is held by the one who waits to be let through: the others come after.
	turn chan struct{}

	mu   sync.Mutex
	pace *pace
	// costs are the calls that the last pass of each kind took.
	costs map[work]int
	// fullUntil is until when the organisation may have no more resources. What is revoked makes
	// room.
	fullUntil time.Time
	// foreign are the users whose slots were of another organisation than the org key, in a row.
	foreign map[string]bool
}

func newHealth(p Provider) *health {
	rate := 0.0
	paced, ok := p.(Paced)
	if ok {
		rate = paced.Rate()
	}
	return &health{
		circuit: circuit{most: slotsThatFail},
		turn:    make(chan struct{}, 1),
		pace:    newPace(rate),
		costs:   map[work]int{},
		foreign: map[string]bool{},
	}
}

// work is a kind of pass over a slot.
type work string

const (
	making   work = "provision"
	sweeping work = "sweep"
	revoking work = "revoke"
	looking  work = "last look"
	other    work = "" // under no claim
)

const (
	// These are how long a call may wait under a claim.
	longestPauseOfAList = 2 * time.Second
	longestPause        = 10 * time.Second
	// shortPause is how long a third party that asks for fewer calls is left alone if it does not
	// say.
	shortPause = time.Second
	// hang is how long a call has to have taken for our own deadline to be the third party's
	// failure.
	hang = 2 * time.Second
	// fullMemory is how long a third party that takes nothing more is asked to make nothing.
	fullMemory = 10 * time.Second
)

// pass is one piece of work that a provider is asked to do for one slot, from before the claim to
// its end.
type pass struct {
	e        *Engine
	provider Provider
	h        *health
	user     string
	work     work

	// These are guarded by the health's lock.
	reserved float64   // calls that were taken before the claim, and not sent yet
	sent     int       // calls that were sent
	last     int64     // the last one's number
	began    time.Time // when it was sent
	slowed   bool      // the third party asked for fewer
}

func (e *Engine) pass(p Provider, user string, w work) *pass {
	return &pass{e: e, provider: p, h: e.health[p.Name()], user: user, work: w}
}

type passKey struct{}

// in is a context for the pass's outside calls.
func (x *pass) in(ctx context.Context) context.Context { return context.WithValue(ctx, passKey{}, x) }

// passIn is the pass that ctx is for; nil if it is for none.
func passIn(ctx context.Context) *pass {
	x, _ := ctx.Value(passKey{}).(*pass)
	return x
}

// end ends the pass: what it had taken and did not need is there for others. Safe to repeat.
func (x *pass) end() {
	if x == nil {
		return
	}
	x.h.circuit.leave(x)
	x.e.sealer.leave(x)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	x.h.pace.give(x.reserved)
	x.reserved = 0
}

// makes reports until when nothing can be made for this slot, whatever the wait: the organisation
// is full, or KMS is in trouble, and a key that cannot be sealed is made for nothing.
func (x *pass) makes() time.Time {
	now := x.e.cfg.Now()
	at, _ := x.e.sealer.enter(x, now)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	if x.h.fullUntil.After(now) {
		at = later(at, x.h.fullUntil)
	}
	return at
}

// wait waits until the third party may be called for this slot, and takes as many calls as the pass
// will need. It comes before the claim, so that no lease runs meanwhile. If that would take longer
// than patience allows, it returns when to ask again, and the slot is left as it is: it stays due.
func (x *pass) wait(ctx context.Context, patience func() time.Duration) time.Time {
	select {
	case x.h.turn <- struct{}{}:
	case <-ctx.Done():
		return x.e.cfg.Now().Add(firstOpening)
	}
	defer func() { <-x.h.turn }()
	for {
		now := x.e.cfg.Now()
		at, probed := x.h.circuit.enter(x, now)
		if at.IsZero() {
			at = x.key(ctx, now)
		}
		if at.IsZero() {
			at = x.reserve(now)
		}
		if at.IsZero() {
			return at
		}
		left := patience()
		if at.Sub(now) > left || x.pause(ctx, probed, at.Sub(now), left) != nil {
			return at
		}
	}
}

// pause waits until a probe has ended, for most at most, or for d if there is none.
func (x *pass) pause(ctx context.Context, probed <-chan struct{}, d, most time.Duration) error {
	if probed == nil {
		return x.e.cfg.Wait(ctx, d)
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-probed:
		return nil
	case <-timer.C:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reserve takes the calls of the pass, or says when they can be had.
func (x *pass) reserve(now time.Time) time.Time {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	n := float64(max(1, x.h.costs[x.work]))
	wait := x.h.pace.take(now, n)
	if wait > 0 {
		return now.Add(wait)
	}
	if x.h.pace.rate > 0 {
		x.reserved = n
	}
	return time.Time{}
}

// key sees that the org keys can be read, which is nobody's slot's fault either. Without a key the
// slot is not held up: it has to be told.
func (x *pass) key(ctx context.Context, now time.Time) time.Time {
	_, err := x.e.cfg.OrgKeys.Key(ctx, x.provider.Name())
	if err == nil || isNoKey(err) {
		return time.Time{}
	}
	x.e.noteOrgKey(ctx, x.provider, err)
	x.failed(ctx, now, 0, err)
	return now.Add(firstOpening)
}

// isNoKey reports whether err says that the secret holds no key that can be used, and not that it
// cannot be read.
func isNoKey(err error) bool {
	return errors.Is(err, orgkey.ErrNone) || errors.Is(err, orgkey.ErrUnusable)
}

// noteOrgKey counts and logs that a provider's org key cannot be had.
func (e *Engine) noteOrgKey(ctx context.Context, p Provider, err error) {
	e.cfg.Metrics.Count(telemetry.OrgKeyUnavailable, p.Name(), 1)
	if isNoKey(err) {
		e.cfg.Log.WarnContext(ctx, "there is no org key: put one into the org keys secret", "provider", p.Name(), "error", err)
		return
	}
	e.cfg.Log.WarnContext(ctx, "the org keys cannot be read", "provider", p.Name(), "error", err)
}

// patience is how long work may wait that is to be done before ctx ends. A context's deadline is by
// the real clock.
func (e *Engine) patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return math.MaxInt64
	}
	return clock.Until(deadline) - e.workTime() - writeTime
}

// Sending is what a provider calls right before each call that it sends, with the context that the
// engine gave it, or one made from that. It counts the call against what the third party takes, and
// waits for a moment at most. It returns an error if the call must not be sent: the context's Err,
// which goes by the clock, or one of class RateLimited.
func Sending(ctx context.Context) error {
	x := passIn(ctx)
	if x != nil {
		err := x.sending(ctx)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// longestPause is how long a call of this pass may wait under its claim: one that the pass could
// not foresee, and one that was refused a moment ago. Somebody waits for what a list makes, and
// nobody for the rest, which would have to begin anew.
func (x *pass) longestPause() time.Duration {
	switch x.work {
	case making:
		return longestPauseOfAList
	case other:
		return math.MaxInt64
	case sweeping, revoking, looking:
	}
	return longestPause
}

// errPaced: this process held a call back. The third party refused nothing.
var errPaced = errors.New("the third party takes no more calls for now, nothing was sent")

func (x *pass) sending(ctx context.Context) error {
	for {
		wait := x.send(x.e.cfg.Now())
		if wait == 0 {
			return nil
		}
		if wait > x.longestPause() || x.e.cfg.Wait(ctx, wait) != nil {
			return &Error{Class: RateLimited, RetryAfter: wait, Err: errPaced}
		}
	}
}

// send notes that a call is sent at the time now, or returns how long it has to wait.
func (x *pass) send(now time.Time) time.Duration {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	wait := x.h.pace.until.Sub(now)
	if wait > 0 {
		return wait
	}
	if x.reserved >= 1 {
		x.reserved--
	} else {
		wait = x.h.pace.take(now, 1)
		if wait > 0 {
			return wait
		}
	}
	x.last, x.began = x.h.pace.call(now), now
	x.sent++
	return 0
}

// SlowDown is what a provider calls when the third party has refused the last call that Sending let
// through because there are too many, with what it said to wait; 0 if it did not say.
func SlowDown(ctx context.Context, wait time.Duration) {
	x := passIn(ctx)
	if x != nil {
		x.slowDown(wait)
	}
}

func (x *pass) slowDown(wait time.Duration) {
	x.e.cfg.Metrics.Count(telemetry.CallsRefused, x.provider.Name(), 1)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	x.slowed = true
	if wait <= 0 {
		wait = shortPause
	}
	x.h.pace.refused(x.e.cfg.Now(), x.last, wait)
}

// call makes an outside call with the provider's org key, and once more with a fresh one if that
// seems to be bad. A panic is an error: a provider that fails does not take the others along. What
// became of it is noted in this process's memory of the third party.
func (e *Engine) call(ctx context.Context, p Provider, user string, do func(ctx context.Context, org credential.Secret) error) (err error) {
	x := passIn(ctx)
	if x == nil {
		x = e.pass(p, user, other)
		defer x.end()
		ctx = x.in(ctx)
	}
	x.begin()
	defer func() {
		r := recover()
		if r != nil {
			err = &Error{Class: Permanent, Err: fmt.Errorf("the provider panicked: %v", r)}
		}
		x.note(ctx, err)
	}()
	org, err := e.cfg.OrgKeys.Key(ctx, p.Name())
	if err != nil {
		return fmt.Errorf("fetching the org key: %w", err)
	}
	err = do(ctx, org)
	if x.blamesKey(err) {
		fresh, refreshErr := e.cfg.OrgKeys.Refresh(ctx, p.Name(), org)
		if refreshErr != nil {
			return errors.Join(err, fmt.Errorf("fetching the org key anew: %w", refreshErr))
		}
		if fresh != org {
			err = do(ctx, fresh)
		}
	}
	if x.keyIsBad(err) {
		e.cfg.Metrics.Count(telemetry.OrgKeyRejected, p.Name(), 1)
		e.cfg.Log.ErrorContext(ctx, "the org key was rejected or is another organisation's, and so is the one that was fetched since: "+
			"put a valid one into the org keys secret", "provider", p.Name(), "error", err)
	}
	return err
}

// begin notes that the provider is asked now.
func (x *pass) begin() {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	x.began = x.e.cfg.Now()
}

// blamesKey reports whether err is a reason to fetch the org key anew: it was rejected; or what
// several different slots in a row name is another organisation's, which is a reason once.
func (x *pass) blamesKey(err error) bool {
	if err == nil {
		return false
	}
	class := classified(err).Class
	if class != Foreign {
		return class == Rejected
	}
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	known := len(x.h.foreign)
	x.h.foreign[x.user] = true
	return len(x.h.foreign) > known && len(x.h.foreign) == slotsThatFail
}

// keyIsBad reports whether err says that the org key is bad, and not something of this slot.
func (x *pass) keyIsBad(err error) bool {
	if err == nil {
		return false
	}
	class := classified(err).Class
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	return class == Rejected || class == Foreign && len(x.h.foreign) >= slotsThatFail
}

// note remembers what an answer says of the third party, which is mostly nothing: a failure belongs
// to its slot, unless several different ones fail in a row.
func (x *pass) note(ctx context.Context, err error) {
	now := x.e.cfg.Now()
	classed := &Error{}
	if err != nil {
		classed = classified(err)
	}
	switch classed.Class {
	case Transient, Rejected:
		if !isNoKey(err) && !x.cutOff(ctx, now, err) {
			x.failed(ctx, now, classed.RetryAfter, err)
		}
		return
	case RateLimited:
		if !x.slowed && !errors.Is(err, errPaced) { // the provider did not say so itself
			x.slowDown(classed.RetryAfter)
		}
		x.foresee()
		return
	case Quota, Permanent, NotYet, Gone, Foreign, Mismatch:
	}
	x.h.circuit.succeeded(x)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	if classed.Class == Quota {
		x.h.fullUntil = now.Add(max(fullMemory, min(classed.RetryAfter, longestWaitSaid)))
	}
	if (err == nil || classed.Class == Gone) && x.work != making {
		clear(x.h.foreign)
	}
	if err == nil || classed.Class == Gone {
		x.h.costs[x.work] = x.sent
	}
}

// foresee has the next pass of this kind take more calls before its claim than this one could send,
// or it would get no further.
func (x *pass) foresee() {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	x.h.costs[x.work] = max(x.h.costs[x.work], 2*x.sent)
}

// failed notes a failure of the third party's.
func (x *pass) failed(ctx context.Context, now time.Time, wait time.Duration, cause error) {
	if x.h.circuit.failed(x, now, min(wait, longestWaitSaid)) {
		x.e.cfg.Metrics.Count(telemetry.CircuitOpened, x.provider.Name(), 1)
		x.e.cfg.Log.WarnContext(ctx, "several slots in a row have failed: the third party is left alone for a while",
			"provider", x.provider.Name(), "error", cause)
	}
}

// sealed notes what became of sealing a key.
func (x *pass) sealed(ctx context.Context, err error) {
	now := x.e.cfg.Now()
	switch {
	case err == nil:
		x.e.sealer.succeeded(x)
	case !x.cutOff(ctx, now, err) && x.e.sealer.failed(x, now, 0):
		x.e.cfg.Metrics.Count(telemetry.CircuitOpened, "", 1)
		x.e.cfg.Log.WarnContext(ctx, "a key could not be sealed: none is made for a while", "error", err)
	}
}

// cutOff reports whether err is our own deadline, and came too soon to tell anything of the third
// party.
func (x *pass) cutOff(ctx context.Context, now time.Time, err error) bool {
	ours := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	return ours && ctx.Err() != nil && now.Sub(x.began) < hang
}
