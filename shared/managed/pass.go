package managed

import (
	"context"
	"errors"
	"math"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/telemetry"
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

// UserIn is the user for whose slot a call with this context is made; "" where it is for no single
// one.
func UserIn(ctx context.Context) string {
	x := passIn(ctx)
	if x == nil {
		return ""
	}
	return x.user
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
var errPaced = errors.New("the third party takes no more calls for now: nothing was sent")

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
