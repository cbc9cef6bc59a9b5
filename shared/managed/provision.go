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

// provision has the provider make what the slot is for, and ends the claim. It returns the slot as
// it then is, as far as this worker knows.
func (c *claim) provision(ctx context.Context) store.Slot {
	at := c.makes()
	if !at.IsZero() {
		return c.fail(ctx, &Error{Class: Transient, RetryAfter: at.Sub(c.e.cfg.Now()), Err: errors.New("nothing can be made for now")})
	}
	ctx, cancel := c.outside(ctx)
	defer cancel()
	var grant Grant
	err := c.under(ctx, func(ctx context.Context, org credential.Secret) error {
		var err error
		grant, err = c.provider.Provision(ctx, org, c.attempt)
		return err
	})
	if err != nil {
		return c.fail(ctx, err)
	}
	material := credential.APIKeyMaterial(grant.Key).Expiring(grant.ExpiresAt)
	sealed, err := c.seal(ctx, material)
	if err != nil {
		c.discard(ctx, grant.Resource)
		return c.fail(ctx, err)
	}
	defer c.pin(ctx, grant.Resource.OrgID)
	made := store.Made{
		Ciphertext: sealed,
		Resource:   grant.Resource,
		Began:      c.began,
		ExpiresAt:  grant.ExpiresAt,
		RenewAt:    c.e.renewAt(c.slot.User, c.slot.Provider, c.began, grant.ExpiresAt),
		Hint:       material.Hint(),
		// Where another key was stored before that the slot does not name any more, it may be there
		// after all: the sweep that is due then removes it.
		Settled: c.attempt.Settled() && (c.slot.Resource.KeyID == "" || c.retires),
	}
	if c.retires {
		made.RetireAt = earliest(c.e.cfg.Now().Add(c.slot.Overlap), made.RenewAt)
	}
	return c.commit(ctx, made)
}

// seal encrypts the key, and remembers a KMS in trouble.
func (c *claim) seal(ctx context.Context, material credential.Material) ([]byte, error) {
	c.begin()
	id := credential.ManagedID(c.slot.Provider, c.slot.User)
	sealed, err := c.e.cfg.Seal.Seal(ctx, c.slot.User, c.slot.Provider, id, material)
	if errors.Is(err, credential.ErrTooLarge) {
		return nil, &Error{Class: Permanent, Err: fmt.Errorf("sealing the key: %w", err)}
	}
	c.sealed(ctx, err)
	if err != nil {
		return nil, fmt.Errorf("sealing the key: %w", err)
	}
	return sealed, nil
}

// commit stores what was made, which ends the claim.
func (c *claim) commit(ctx context.Context, made store.Made) store.Slot {
	wctx, cancel := writing(ctx)
	defer cancel()
	err := c.e.cfg.Store.Commit(wctx, c.slot, made)
	if err == nil {
		c.e.cfg.Metrics.Count(telemetry.CredentialsProvisioned, c.slot.Provider, 1)
		c.log.InfoContext(ctx, "provisioned", "settled", made.Settled)
		slot := c.slot
		slot.State, slot.Committed, slot.Resource, slot.GoneSince = store.Ready, slot.Attempt, made.Resource, time.Time{}
		slot.ExpiresAt, slot.Hint = made.ExpiresAt, ""
		if made.Hint != nil {
			slot.Hint = *made.Hint
		}
		return slot
	}
	if !errors.Is(err, store.ErrLost) { // unknown: nothing is destroyed, the lease runs out
		c.log.ErrorContext(ctx, "the commit failed, and whether it took effect is unknown", "error", err)
		return c.slot
	}
	return c.lost(ctx, made.Resource)
}

// lost deletes the key that this worker made under a claim that it lost, by its id, unless the slot
// names that very key.
func (c *claim) lost(ctx context.Context, made credential.Resource) store.Slot {
	c.log.WarnContext(ctx, "the claim was lost")
	wctx, cancel := writing(ctx)
	defer cancel()
	slots, err := c.e.cfg.Store.Slots(wctx, c.slot.User, c.slot.Provider)
	now, ok := slots[c.slot.Provider]
	if err != nil && !isRefused(err) || !ok {
		return c.slot
	}
	if now.Resource.KeyID != made.KeyID && now.Retiring.KeyID != made.KeyID {
		c.discard(ctx, made)
	}
	return now
}

// discard deletes a key that this worker made and that is not stored. Where that fails, the attempt
// is not settled, and a later one finds the key by its name.
func (c *claim) discard(ctx context.Context, made credential.Resource) {
	err := c.e.call(ctx, c.provider, c.slot.User, func(ctx context.Context, org credential.Secret) error {
		return c.provider.Discard(ctx, org, made)
	})
	if err != nil {
		c.attempt.leaves()
		c.log.WarnContext(ctx, "a key that is not stored could not be discarded yet", "key_id", made.KeyID, "error", err)
	}
}

// fail ends a claim that brought no secret.
func (c *claim) fail(ctx context.Context, cause error) store.Slot {
	classed := classified(cause)
	tries := c.slot.Tries + 1
	if classed.Class == RateLimited { // no failure
		tries = max(1, c.slot.Tries)
	}
	// A stored key that was found to be gone stays named, so that it is not destroyed should it be
	// there after all.
	state, since := store.Failed, c.slot.GoneSince
	if c.retires { // the stored key serves on, and this claim's sweep has found it
		state = store.Ready
		since = time.Time{}
	}
	r := store.Release{
		State:     state,
		Settled:   c.attempt.Settled(),
		DueAt:     c.e.retryAt(tries, classed),
		Tries:     tries,
		Reason:    string(classed.Class),
		Resource:  c.attempt.Resource(),
		GoneSince: since,
	}
	c.e.cfg.Metrics.Count(telemetry.ProvisioningFailed, c.slot.Provider, 1)
	c.e.noteSettings(ctx, c.slot.Provider, cause)
	c.log.WarnContext(ctx, "provisioning failed", "tries", tries, "settled", r.Settled, "retry_at", r.DueAt, "error", cause)
	return c.release(ctx, r)
}
