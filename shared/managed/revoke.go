package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// revoke does one pass over a slot that is due and dead, and was just read. Its errors are those of
// the table; what the provider could not do is noted in the slot.
func (e *Engine) revoke(ctx context.Context, slot store.Slot) error {
	p := e.byName[slot.Provider]
	if p == nil {
		return e.park(ctx, slot, "no such provider is registered")
	}
	now := e.Now()
	if !slot.Claimable(now) {
		return e.Store.Postpone(ctx, slot, slot.State, slot.Reason, slot.ClaimableAt())
	}
	_, err := e.OrgKeys.Key(ctx, slot.Provider)
	if isNoKey(err) {
		return e.park(ctx, slot, store.ReasonNoKey)
	}
	x := e.pass(p, slot.User, revoking)
	if slot.Revoked() {
		x.work = looking
	}
	defer x.end()
	at := x.wait(ctx, func() time.Duration { return e.patience(ctx) })
	if !at.IsZero() {
		return errNotNow
	}
	ctx, now = x.in(ctx), e.Now()
	claimed, err := e.Store.ClaimDead(ctx, slot, now.Add(e.Lease))
	if errors.Is(err, store.ErrStale) {
		return nil // somebody else is at it
	}
	if err != nil {
		return err
	}
	a := e.attempt(claimed, slot, now)
	work, cancel := e.outside(ctx, a)
	defer cancel()
	remove, holds := e.removal(p, slot)
	err = e.under(work, p, a, func(ctx context.Context, org credential.Secret) error { return remove(ctx, org, a) })
	if err != nil && !isGone(err) {
		e.revocationFailed(ctx, claimed, a, err)
		return nil
	}
	return e.revoked(ctx, claimed, a, err == nil || a.hasFound(), holds)
}

// revoked ends a pass that left nothing. The slot goes only when another pass, late enough, has
// found nothing to remove: what was not there may have been hidden by a replica that lags, and what
// was deleted may not be. removed says whether this pass had something to remove, be it what its
// own look for more has made, and holds whether it left what is held back.
func (e *Engine) revoked(ctx context.Context, slot store.Slot, a *Attempt, removed, holds bool) error {
	settled := a.Settled() // or a create of this pass may still take effect
	confirmed := settled && !removed && e.confirms(slot)
	if confirmed && holds {
		return e.hold(ctx, slot, a)
	}
	if confirmed {
		return e.remove(ctx, slot)
	}
	r := store.Release{State: store.Revoking, Settled: settled, Tries: slot.Tries, Resource: a.Resource}
	switch {
	case !settled: // due when the lease ends
	case holds:
		r.Reason, r.GoneSince = store.ReasonHeldBack, e.suspectedSince(slot)
		if removed {
			r.GoneSince = e.Now()
		}
	case removed:
		r.Reason, r.GoneSince = store.ReasonLastLook, e.Now()
	default:
		r.Reason, r.GoneSince = slot.Reason, e.suspectedSince(slot)
		if r.Reason != store.ReasonLastLook {
			r.Reason = string(Gone)
		}
	}
	if settled {
		r.DueAt = r.GoneSince.Add(LastLook)
	}
	e.Log.InfoContext(ctx, "nothing is left at the third party, as far as this pass saw: another one looks", "user", slot.User,
		"provider", slot.Provider, "attempt", slot.Attempt, "removed", removed, "settled", settled)
	e.release(ctx, slot, r)
	return nil
}

// remove ends a revocation that is complete.
func (e *Engine) remove(ctx context.Context, slot store.Slot) error {
	wctx, cancel := writing(ctx)
	defer cancel()
	err := e.Store.Remove(wctx, slot)
	if err != nil {
		return err
	}
	e.Metrics.Count(telemetry.CredentialsRevoked, slot.Provider, 1)
	e.Log.InfoContext(ctx, "revoked", "user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt)
	return nil
}

// stuckAfter is how long a third party may say "not yet" with nothing of it going away before that
// is a failure.
const stuckAfter = time.Hour

// revocationFailed ends a pass that did not finish. Many failures park the slot, and so does one
// that no repeat can mend; it is still tried, slowly.
func (e *Engine) revocationFailed(ctx context.Context, slot store.Slot, a *Attempt, cause error) {
	classed := classified(cause)
	now := e.Now()
	r := store.Release{
		State:    slot.State,
		Settled:  a.Settled(),
		Tries:    slot.Tries,
		Reason:   string(classed.Class),
		Resource: a.Resource,
	}
	failed := classed.Class != RateLimited
	if classed.Class == NotYet { // something is there
		r.Left, r.LeftSince = classed.Left, slot.LeftSince
		if slot.LeftSince.IsZero() || classed.Left < slot.Left {
			r.LeftSince = now
		}
		failed = now.Sub(r.LeftSince) > stuckAfter
	}
	if failed {
		r.Tries++
		e.Metrics.Count(telemetry.RevocationFailed, slot.Provider, 1)
	} else if classed.Class == NotYet { // it goes on there, whatever went wrong before
		r.State, r.Tries = store.Revoking, 0
	}
	r.DueAt = e.retryAt(r.Tries, classed)
	if failed && (r.Tries >= triesUntilPark || classed.Class == Mismatch || classed.Class == NotYet) {
		r.State = store.Parked
		r.DueAt = now.Add(jittered(parkedRetry))
		e.Metrics.Count(telemetry.RevocationsParked, slot.Provider, 1)
	}
	e.Log.WarnContext(ctx, "revoking did not finish", "user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt,
		"tries", r.Tries, "state", r.State, "settled", r.Settled, "left", r.Left, "retry_at", r.DueAt, "error", cause)
	e.release(ctx, slot, r)
}

// park puts a revocation aside that cannot be done as the service is configured: never "done"
// without proof.
func (e *Engine) park(ctx context.Context, slot store.Slot, reason string) error {
	e.Metrics.Count(telemetry.RevocationsParked, slot.Provider, 1)
	e.Log.ErrorContext(ctx, "a revocation is parked: configure the provider, then it goes on by itself",
		"user", slot.User, "provider", slot.Provider, "reason", reason)
	return e.Store.Postpone(ctx, slot, store.Parked, reason, e.Now().Add(jittered(parkedRetry)))
}
