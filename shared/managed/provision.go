package managed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// provision does the work of a claim and ends it. was is the slot before, and claimedAt a time
// before the claim was sent. It returns the slot as it then is, as far as this worker knows.
func (e *Engine) provision(ctx context.Context, p Provider, slot, was store.Slot, claimedAt time.Time) store.Slot {
	return e.produce(ctx, p, slot, e.attempt(slot, was, claimedAt))
}

// produce has the provider make what the slot is for, and ends the claim.
func (e *Engine) produce(ctx context.Context, p Provider, slot store.Slot, a *Attempt) store.Slot {
	at := passIn(ctx).makes()
	if !at.IsZero() {
		return e.fail(ctx, slot, a, &Error{Class: Transient, RetryAfter: at.Sub(e.Now()), Err: errors.New("nothing can be made for now")})
	}
	ctx, cancel := e.outside(ctx, a)
	defer cancel()
	var grant Grant
	err := e.under(ctx, p, a, func(ctx context.Context, org credential.Secret) error {
		var err error
		grant, err = p.Provision(ctx, org, a)
		return err
	})
	if err != nil {
		return e.fail(ctx, slot, a, err)
	}
	material := credential.APIKeyMaterial(grant.Key).Expiring(grant.ExpiresAt)
	sealed, err := e.seal(ctx, slot, material)
	if err != nil {
		e.discard(ctx, p, slot.User, grant.Resource)
		return e.fail(ctx, slot, a, err)
	}
	defer e.pin(ctx, a, p.Name(), grant.Resource.OrgID)
	return e.commit(ctx, p, slot, store.Made{
		Ciphertext: sealed,
		Resource:   grant.Resource,
		ExpiresAt:  grant.ExpiresAt,
		Hint:       material.Hint(),
		// Where another key was stored before, it may be there after all: the sweep that is due
		// then removes it.
		Settled: a.Settled() && slot.Resource.KeyID == "",
	})
}

// seal encrypts the key, and remembers a KMS in trouble.
func (e *Engine) seal(ctx context.Context, slot store.Slot, material credential.Material) ([]byte, error) {
	x := passIn(ctx)
	x.begin()
	id := credential.ManagedID(slot.Provider, slot.User)
	sealed, err := e.Seal.Seal(ctx, slot.User, slot.Provider, id, material)
	if errors.Is(err, credential.ErrTooLarge) {
		return nil, &Error{Class: Permanent, Err: fmt.Errorf("sealing the key: %w", err)}
	}
	x.sealed(ctx, err)
	if err != nil {
		return nil, fmt.Errorf("sealing the key: %w", err)
	}
	return sealed, nil
}

func (e *Engine) commit(ctx context.Context, p Provider, slot store.Slot, made store.Made) store.Slot {
	wctx, cancel := writing(ctx)
	defer cancel()
	err := e.Store.Commit(wctx, slot, made)
	if err == nil {
		e.Metrics.Count(telemetry.CredentialsProvisioned, p.Name(), 1)
		e.Log.InfoContext(ctx, "provisioned", "user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt, "settled", made.Settled)
		slot.State, slot.Committed, slot.Resource, slot.GoneSince = store.Ready, slot.Attempt, made.Resource, time.Time{}
		slot.ExpiresAt, slot.Hint = made.ExpiresAt, ""
		if made.Hint != nil {
			slot.Hint = *made.Hint
		}
		return slot
	}
	if !errors.Is(err, store.ErrLost) { // unknown: nothing is destroyed, the lease runs out
		e.Log.ErrorContext(ctx, "committing failed, its outcome is unknown", "user", slot.User, "provider", slot.Provider, "error", err)
		return slot
	}
	return e.lost(ctx, p, slot, made.Resource)
}

// lost deletes the key that this worker made under a claim that it lost, by its id, unless the slot
// stores that very key.
func (e *Engine) lost(ctx context.Context, p Provider, slot store.Slot, made credential.Resource) store.Slot {
	e.Log.WarnContext(ctx, "the claim was lost", "user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt)
	wctx, cancel := writing(ctx)
	defer cancel()
	slots, err := e.Store.Slots(wctx, slot.User, slot.Provider)
	now, ok := slots[slot.Provider]
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) || !ok {
		return slot
	}
	if now.Resource.KeyID != made.KeyID {
		e.discard(ctx, p, slot.User, made)
	}
	return now
}

// discard deletes a key that this worker made and that is not stored. Where that fails, the next
// attempt finds it by its name.
func (e *Engine) discard(ctx context.Context, p Provider, user string, made credential.Resource) {
	err := e.call(ctx, p, user, func(ctx context.Context, org credential.Secret) error { return p.Discard(ctx, org, made) })
	if err != nil {
		e.Log.WarnContext(ctx, "a key that is not stored could not be deleted yet", "provider", p.Name(), "key_id", made.KeyID, "error", err)
	}
}

// fail ends a claim that brought no secret.
func (e *Engine) fail(ctx context.Context, slot store.Slot, a *Attempt, cause error) store.Slot {
	classed := classified(cause)
	tries := slot.Tries + 1
	if classed.Class == RateLimited { // no failure
		tries = max(1, slot.Tries)
	}
	r := store.Release{
		State:    store.Failed,
		Settled:  a.Settled(),
		DueAt:    e.retryAt(tries, classed),
		Tries:    tries,
		Reason:   string(classed.Class),
		Resource: a.Resource,
		// A stored key that was found to be gone stays named, so that it is not destroyed should it
		// be there after all.
		GoneSince: slot.GoneSince,
	}
	e.Metrics.Count(telemetry.ProvisioningFailed, slot.Provider, 1)
	e.noteSettings(ctx, slot.Provider, cause)
	e.Log.WarnContext(ctx, "provisioning failed", "user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt, "tries", tries,
		"settled", r.Settled, "retry_at", r.DueAt, "error", cause)
	return e.release(ctx, slot, r)
}

// release ends a claim and returns the slot as it then is.
func (e *Engine) release(ctx context.Context, slot store.Slot, r store.Release) store.Slot {
	wctx, cancel := writing(ctx)
	defer cancel()
	err := e.Store.Release(wctx, slot, r)
	if err != nil { // lost, or unknown: then the lease runs out
		e.Log.WarnContext(ctx, "the claim could not be released", "user", slot.User, "provider", slot.Provider, "error", err)
		return slot
	}
	slot.State, slot.Owner, slot.Tries, slot.Reason, slot.DueAt, slot.GoneSince = r.State, "", r.Tries, r.Reason, r.DueAt, r.GoneSince
	if r.Settled {
		slot.LeaseUntil = time.Time{}
	} else if slot.DueAt.Before(slot.ClaimableAt()) {
		slot.DueAt = slot.ClaimableAt()
	}
	return slot
}
