package managed

import (
	"context"
	"errors"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// revoke does one pass over a slot that is due and dead, and was just read. Its errors are those of the table; what the provider
// could not do is noted in the slot.
func (e *Engine) revoke(ctx context.Context, slot store.Slot) error {
	p := e.byName[slot.Provider]
	if p == nil {
		return e.park(ctx, slot, "no such provider is registered")
	}
	_, err := e.OrgKeys.Key(ctx, slot.Provider)
	if errors.Is(err, orgkey.ErrNone) {
		return e.park(ctx, slot, "no org key is configured")
	}
	now := e.Now()
	if !slot.Claimable(now) {
		return e.Store.Postpone(ctx, slot, slot.State, slot.Reason, slot.ClaimableAt())
	}
	outage := e.outage(slot.Provider)
	if !outage.IsZero() {
		return e.Store.Postpone(ctx, slot, slot.State, slot.Reason, outage)
	}
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
	err = e.call(work, p, func(org credential.Secret) error { return p.Deprovision(work, org, a) })
	if err != nil {
		e.revocationFailed(ctx, claimed, a, err)
		return nil
	}
	return e.revoked(ctx, claimed, a)
}

// revoked ends a pass after which nothing was left.
func (e *Engine) revoked(ctx context.Context, slot store.Slot, a *Attempt) error {
	if !a.Settled() { // a create of this pass may still take effect: another pass has to look
		e.release(ctx, slot, store.Release{State: slot.State, Tries: slot.Tries, Resource: slot.Resource})
		return nil
	}
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

// revocationFailed ends a pass that did not finish. Many failures park the slot; it is still tried, slowly.
func (e *Engine) revocationFailed(ctx context.Context, slot store.Slot, a *Attempt, cause error) {
	classed := classified(cause)
	r := store.Release{
		State:    slot.State,
		Settled:  a.Settled(),
		Tries:    slot.Tries,
		Reason:   string(classed.Class),
		Resource: a.Resource,
	}
	if classed.Class == NotYet { // it goes on there, whatever went wrong before
		r.State, r.Tries = store.Revoking, 0
	} else {
		r.Tries++
		e.Metrics.Count(telemetry.RevocationFailed, slot.Provider, 1)
	}
	r.DueAt = e.retryAt(r.Tries, classed)
	if r.Tries >= triesUntilPark {
		r.State = store.Parked
		r.DueAt = e.Now().Add(jittered(parkedRetry))
		e.Metrics.Count(telemetry.RevocationsParked, slot.Provider, 1)
	}
	e.Log.WarnContext(ctx, "revoking did not finish", "user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt,
		"tries", r.Tries, "state", r.State, "settled", r.Settled, "retry_at", r.DueAt, "error", cause)
	e.release(ctx, slot, r)
}

// park puts a revocation aside that cannot be done as the service is configured: never "done" without proof.
func (e *Engine) park(ctx context.Context, slot store.Slot, reason string) error {
	e.Metrics.Count(telemetry.RevocationsParked, slot.Provider, 1)
	e.Log.ErrorContext(ctx, "a revocation is parked: configure the provider, then it goes on by itself",
		"user", slot.User, "provider", slot.Provider, "reason", reason)
	return e.Store.Postpone(ctx, slot, store.Parked, reason, e.Now().Add(jittered(parkedRetry)))
}
