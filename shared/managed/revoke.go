package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// revoke does one pass over a slot that is due and dead or retracting, and was just read. Its
// errors are those of the table; what the provider could not do is noted in the slot.
func (e *Engine) revoke(ctx context.Context, slot store.Slot) error {
	p := e.byName[slot.Provider]
	if p == nil {
		return e.park(ctx, slot, store.ReasonNoProvider)
	}
	now := e.cfg.Now()
	if !slot.Claimable(now) {
		return e.cfg.Store.Postpone(ctx, slot, untilClaimable(slot))
	}
	_, err := e.cfg.OrgKeys.Key(ctx, slot.Provider)
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
	now = e.cfg.Now()
	claimed, err := e.cfg.Store.ClaimDead(ctx, slot, now.Add(e.cfg.Lease))
	if errors.Is(err, store.ErrStale) {
		return nil // another worker has claimed it
	}
	if err != nil {
		return err
	}
	return x.claimed(slot, claimed, now).revoke(ctx)
}

// revoke removes what the slot is for at the third party, or its keys alone, and ends the claim.
// Its errors are those of the table.
func (c *claim) revoke(ctx context.Context) error {
	work, cancel := c.outside(ctx)
	defer cancel()
	remove, holds := c.removal()
	err := c.under(work, func(ctx context.Context, org credential.Secret) error { return remove(ctx, org, c.attempt) })
	if err != nil && !isGone(err) {
		c.revocationFailed(ctx, err)
		return nil
	}
	return c.revoked(ctx, err, holds)
}

// revoked ends a pass that left nothing. The slot goes only when another pass, late enough, has
// found nothing to remove: what was not there may have been hidden by a replica that lags, and what
// was deleted may not be. gone is nil if this pass had something to remove, and holds says whether
// it left what is held back.
func (c *claim) revoked(ctx context.Context, gone error, holds bool) error {
	removed := gone == nil || c.attempt.hasFound() // be it what its own look for more has made
	settled := c.attempt.Settled()                 // or a create of this pass may still take effect
	confirmed := settled && !removed && c.confirms(gone)
	if confirmed && c.slot.State == store.Retracting {
		c.off(ctx, holds)
		return nil
	}
	if confirmed && holds {
		c.hold(ctx)
		return nil
	}
	if confirmed {
		return c.remove(ctx)
	}
	r := store.Release{State: goesOn(c.slot), Settled: settled, Tries: c.slot.Tries, Resource: c.attempt.Resource()}
	switch {
	case !settled: // due when the lease ends
	case holds:
		r.Reason, r.GoneSince = store.ReasonHeldBack, c.suspectedSince()
		if removed {
			r.GoneSince = c.e.cfg.Now()
		}
	case removed:
		r.Reason, r.GoneSince = store.ReasonLastLook, c.e.cfg.Now()
	default:
		r.Reason, r.GoneSince = c.slot.Reason, c.suspectedSince()
		if r.Reason != store.ReasonLastLook {
			r.Reason = string(Gone)
		}
	}
	if settled {
		r.DueAt = c.nextLook(r.GoneSince, gone)
	}
	c.log.InfoContext(ctx, "this pass has left nothing at the third party: another one looks whether that is so", "removed", removed, "settled", settled)
	c.release(ctx, r)
	return nil
}

// goesOn is the state of a slot whose revocation goes on.
func goesOn(slot store.Slot) store.State {
	if slot.Dead() {
		return store.Revoking
	}
	return slot.State
}

// off ends a living user's revocation that is complete. The slot stays, and names nothing but the
// resource, where that stays without its keys.
func (c *claim) off(ctx context.Context, stays bool) {
	c.e.cfg.Metrics.Count(telemetry.CredentialsRevoked, c.slot.Provider, 1)
	c.log.InfoContext(ctx, "revoked, and off", "by", c.slot.RetractedBy)
	r := store.Release{State: store.Off, Settled: true}
	if stays {
		r.Resource = c.attempt.Resource()
		r.Resource.KeyID = ""
	}
	c.release(ctx, r)
}

// remove ends a revocation that is complete.
func (c *claim) remove(ctx context.Context) error {
	wctx, cancel := writing(ctx)
	defer cancel()
	err := c.e.cfg.Store.Remove(wctx, c.slot)
	if err != nil {
		return err
	}
	c.e.cfg.Metrics.Count(telemetry.CredentialsRevoked, c.slot.Provider, 1)
	c.log.InfoContext(ctx, "revoked")
	return nil
}

// stuckAfter is how long a third party may say "not yet" with nothing of it going away before that
// is a failure.
const stuckAfter = time.Hour

// revocationFailed ends a pass that did not finish. Many failures park the slot, and so does one
// that no repeat can mend; it is still tried, slowly.
func (c *claim) revocationFailed(ctx context.Context, cause error) {
	classed := classified(cause)
	now := c.e.cfg.Now()
	r := store.Release{
		State:    c.slot.State,
		Settled:  c.attempt.Settled(),
		Tries:    c.slot.Tries,
		Reason:   string(classed.Class),
		Resource: c.attempt.Resource(),
	}
	failed := classed.Class != RateLimited
	if classed.Class == NotYet { // something is there
		r.Left, r.LeftSince = classed.Left, c.slot.LeftSince
		if c.slot.LeftSince.IsZero() || classed.Left < c.slot.Left {
			r.LeftSince = now
		}
		failed = now.Sub(r.LeftSince) > stuckAfter
	}
	if failed {
		r.Tries++
		c.e.cfg.Metrics.Count(telemetry.RevocationFailed, c.slot.Provider, 1)
	} else if classed.Class == NotYet { // it goes on there, whatever went wrong before
		r.State, r.Tries = goesOn(c.slot), 0
	}
	r.DueAt = c.e.retryAt(r.Tries, classed)
	if failed && (r.Tries >= triesUntilPark || classed.Class == Mismatch || classed.Class == NotYet) {
		if c.slot.Dead() {
			r.State = store.Parked
		} else {
			r.Tries = max(r.Tries, triesUntilPark) // by which isParked knows it
		}
		r.DueAt = now.Add(jittered(parkedRetry))
		c.e.cfg.Metrics.Count(telemetry.RevocationsParked, c.slot.Provider, 1)
	}
	c.log.WarnContext(ctx, "revoking did not finish",
		"tries", r.Tries, "state", r.State, "settled", r.Settled, "left", r.Left, "retry_at", r.DueAt, "error", cause)
	c.release(ctx, r)
}

// park puts a revocation aside that cannot be done as the service is configured: never "done"
// without proof.
func (e *Engine) park(ctx context.Context, slot store.Slot, reason string) error {
	e.cfg.Metrics.Count(telemetry.RevocationsParked, slot.Provider, 1)
	e.cfg.Log.ErrorContext(ctx, "a revocation is parked: configure the provider, and it goes on by itself",
		"user", slot.User, "provider", slot.Provider, "reason", reason)
	next := slot.State
	if slot.Dead() {
		next = store.Parked
	}
	return e.cfg.Store.Postpone(ctx, slot, store.Wait{State: next, Reason: reason, DueAt: e.cfg.Now().Add(jittered(parkedRetry))})
}

// isParked reports whether a revocation was put aside. A living user's stays retracting.
func isParked(slot store.Slot) bool {
	return slot.State == store.Parked || slot.State == store.Retracting &&
		(slot.Tries >= triesUntilPark || slot.Reason == store.ReasonNoKey || slot.Reason == store.ReasonNoProvider)
}
