package managed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/telemetry"
)

// isNoKey reports whether err says that the secret holds no key that can be used, and not that it
// cannot be read.
func isNoKey(err error) bool {
	return errors.Is(err, orgkey.ErrNone) || errors.Is(err, orgkey.ErrUnusable)
}

// noteOrgKey counts and logs that a provider's org key cannot be had.
func (e *Engine) noteOrgKey(ctx context.Context, p Provider, err error) {
	if !e.offers(p.Name()) {
		e.cfg.Log.InfoContext(ctx, "there is no org key for a provider that makes nothing new", "provider", p.Name(), "error", err)
		return
	}
	e.cfg.Metrics.Count(telemetry.OrgKeyUnavailable, p.Name(), 1)
	if isNoKey(err) {
		e.cfg.Log.WarnContext(ctx, "there is no org key: put one into its secret", "provider", p.Name(), "error", err)
		return
	}
	e.cfg.Log.WarnContext(ctx, "the org keys cannot be read", "provider", p.Name(), "error", err)
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
			"put a valid one into its secret", "provider", p.Name(), "error", err)
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
			x.fails(now, classed)
			x.failed(ctx, now, classed.RetryAfter, err)
		}
		return
	case RateLimited:
		if !x.slowed && !errors.Is(err, errPaced) { // the provider did not say so itself
			x.slowDown(classed.RetryAfter)
		}
		x.foresee()
		return
	case Quota, Permanent, Foreign, Mismatch:
		x.fails(now, classed)
	case NotYet, Gone, Unusable:
	}
	x.h.circuit.succeeded(x)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	if classed.Class == Quota {
		x.h.fullUntil = now.Add(max(fullMemory, min(classed.RetryAfter, longestWaitSaid)))
	}
	looked := err == nil || classed.Class == Gone || classed.Class == Unusable
	if looked && x.work != making {
		clear(x.h.foreign)
	}
	if looked {
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
