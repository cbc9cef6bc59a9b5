package managed

import (
	"context"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// sweep looks at a ready slot's key, removes what a commit with an unknown outcome may have left
// beside it, or a rotation whose overlap is over, and settles the slot. If another key was asked
// for, that is made then, and the stored one serves on.
func (c *claim) sweep(ctx context.Context) {
	work, cancel := c.outside(ctx)
	defer cancel()
	err := c.under(work, func(ctx context.Context, org credential.Secret) error { return c.provider.Sweep(ctx, org, c.attempt) })
	unusable := err != nil && classified(err).Class == Unusable
	c.retired = (err == nil || unusable) && !c.attempt.Keeps(c.slot.Retiring.KeyID)
	release := store.Release{State: store.Ready, Settled: c.attempt.Settled(), Resource: c.slot.Resource}
	switch {
	case isGone(err) && c.confirms(err):
		c.e.cfg.Metrics.Count(telemetry.CredentialsLost, c.slot.Provider, 1)
		c.log.WarnContext(ctx, "two looks have not found the key at the third party: another one is made",
			"resource", c.slot.Resource.ID, "key_id", c.slot.Resource.KeyID, "error", err)
		c.attempt.keepsStoredOnly()
		c.provision(work)
		return
	case isGone(err):
		release.GoneSince = c.suspectedSince()
		release.DueAt = c.nextLook(release.GoneSince, err)
		release.Reason = string(Gone)
		c.log.WarnContext(ctx, "the key was not found at the third party: it is looked for once more",
			"resource", c.slot.Resource.ID, "key_id", c.slot.Resource.KeyID, "retry_at", release.DueAt, "error", err)
	case c.slot.Rotates && (err == nil || unusable):
		c.retires = true
		c.provision(work)
		return
	case unusable:
		c.unusable(ctx, &release, err)
	case err != nil:
		classed := classified(err)
		release.Tries = c.slot.Tries + 1
		release.Reason = string(classed.Class)
		release.DueAt = c.e.retryAt(release.Tries, classed)
		if release.Tries >= triesUntilPark {
			c.e.cfg.Metrics.Count(telemetry.SweepsStuck, c.slot.Provider, 1)
		}
		c.log.WarnContext(ctx, "the sweep failed", "error", err)
	case c.isRejected():
		release.Reason, release.DueAt = store.ReasonRejected, c.e.cfg.Now()
	default:
		release.DueAt = c.planned()
	}
	c.release(ctx, release)
}

// planned is when there is work to do with a stored key that was found: when the one before it
// retires, or else when it is to be replaced because it expires. Zero if there is none.
func (c *claim) planned() time.Time {
	if c.attempt.Keeps(c.slot.Retiring.KeyID) {
		return c.slot.Retiring.At
	}
	return c.e.renewalOf(c.slot)
}

// unusable has a slot say that its key does not work, so that its user sees that, until another
// look finds it in order, or another key is asked for. Nothing is made for it.
func (c *claim) unusable(ctx context.Context, release *store.Release, cause error) {
	release.Reason = string(Unusable)
	release.DueAt = earliest(c.e.cfg.Now().Add(jittered(parkedRetry)), c.planned())
	c.e.cfg.Metrics.Count(telemetry.KeysUnusable, c.slot.Provider, 1)
	c.log.WarnContext(ctx, "the key is there, and does not work: no other one is made for that",
		"key_id", c.slot.Resource.KeyID, "retry_at", release.DueAt, "error", cause)
}
