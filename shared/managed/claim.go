package managed

import (
	"context"
	"log/slog"
	"time"

	"managed-credentials/shared/store"
)

// claim is a pass that has claimed its slot. Its methods are what the pass does at the third party
// until the claim ends, and the writes that end it.
type claim struct {
	*pass
	// slot is as it was claimed.
	slot store.Slot
	// began is a time before the claim was sent.
	began time.Time
	// attempt is the claim as the provider sees it.
	attempt *Attempt
	// retires says that the key that is made replaces one that serves on for the slot's overlap,
	// and retired that none is there any more that was replaced before.
	retires, retired bool
	// log names the user, the provider and the attempt in each line.
	log *slog.Logger
}

// claimed is the pass with its slot claimed. was is the slot before that, slot as it is then, and
// at a time before the claim was sent.
func (x *pass) claimed(was, slot store.Slot, at time.Time) *claim {
	var retiring string
	if slot.State == store.Ready && !slot.Rotates && at.Before(slot.Retiring.At) {
		retiring = slot.Retiring.KeyID
	}
	return &claim{
		pass:  x,
		slot:  slot,
		began: at,
		attempt: NewAttempt(Terms{
			User:      slot.User,
			Number:    slot.Attempt,
			Stored:    slot.Resource,
			Retiring:  retiring,
			Inherited: !was.Settled() || slot.Ends() && slot.Retiring.KeyID != "",
			Now:       x.e.cfg.Now,
			Cutoff:    slot.LeaseUntil.Add(-x.e.cfg.Lease / 2), // as others read it, in milliseconds
		}),
		log: x.e.cfg.Log.With("user", slot.User, "provider", slot.Provider, "attempt", slot.Attempt),
	}
}

// longestWork bounds the outside calls under one claim, however long the lease: an invocation has
// to have time for them.
const longestWork = 25 * time.Second

// workTime is how long the outside calls under one claim may take.
func (e *Engine) workTime() time.Duration { return min(e.cfg.Lease/2, longestWork) }

// outside is a context for the claim's outside calls: it ends with the lease's first half, or
// earlier with ctx.
func (c *claim) outside(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(c.in(ctx), min(c.attempt.cutoff.Sub(c.e.cfg.Now()), longestWork))
	return clocked{ctx, c.attempt}, cancel
}

// clocked is a context whose Err goes by the attempt's clock, too: in a process that was frozen, a
// timer alone lets through what somebody else has claimed meanwhile.
type clocked struct {
	context.Context
	attempt *Attempt
}

// Err implements context.Context.
func (c clocked) Err() error {
	if c.attempt.over() {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

// writeTime is how long a write to the table may take that ends a claim, after the time for outside
// calls is over.
const writeTime = 3 * time.Second

// writing is a context for the write that ends a claim: not bound to the time for outside calls.
func writing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTime)
}

// release ends the claim and returns the slot as it then is.
func (c *claim) release(ctx context.Context, r store.Release) store.Slot {
	wctx, cancel := writing(ctx)
	defer cancel()
	r.Retired = c.slot.Retiring.KeyID != "" && (c.retired || c.slot.Ends() && c.attempt.Settled())
	err := c.e.cfg.Store.Release(wctx, c.slot, r)
	if err != nil { // lost, or unknown: then the lease runs out
		c.log.WarnContext(ctx, "the claim could not be released", "error", err)
		return c.slot
	}
	slot := c.slot
	slot.State, slot.Owner, slot.Tries, slot.Reason, slot.DueAt, slot.GoneSince = r.State, "", r.Tries, r.Reason, r.DueAt, r.GoneSince
	if r.Settled {
		slot.LeaseUntil = time.Time{}
	} else if slot.DueAt.Before(slot.ClaimableAt()) {
		slot.DueAt = slot.ClaimableAt()
	}
	return slot
}
