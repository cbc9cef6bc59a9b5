package managed

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// Disarmer is a provider whose resources hold what cannot be made again, such as mail. Where a
// platform holds that back for a while after a deletion, the keys are revoked at once, and
// everything else goes when the time is over. Where it has the keys of suspended users revoked,
// everything else stays.
type Disarmer interface {
	// Disarm removes every key of the user's resource, whoever made it, and leaves the rest. It
	// looks first, finds what is not named, and answers, as Provider.Deprovision does: nil if it
	// removed something, Gone if there was nothing to remove. Safe to repeat.
	Disarm(ctx context.Context, org credential.Secret, a *Attempt) error
}

// MaxHoldback is the longest time for which anything is held back.
const MaxHoldback = 30 * 24 * time.Hour

// heldUntil is until when what is deleted now is held back; zero if nothing is.
func (e *Engine) heldUntil() time.Time {
	if e.cfg.Holdback == 0 {
		return time.Time{}
	}
	return e.cfg.Now().Add(e.cfg.Holdback)
}

// removal is what a revocation does at the third party, and whether it leaves what is held back, or
// what stays because its user is suspended.
func (c *claim) removal() (remove func(context.Context, credential.Secret, *Attempt) error, holds bool) {
	d, ok := c.provider.(Disarmer)
	suspended := c.slot.State == store.Retracting && c.slot.RetractedBy == store.BySuspension
	if ok && (suspended || c.slot.HeldUntil.After(c.e.cfg.Now())) {
		return d.Disarm, true
	}
	return c.provider.Deprovision, false
}

// hold ends a pass that found no key any more, as another one before it: the rest waits until its
// time is over.
func (c *claim) hold(ctx context.Context) {
	c.log.InfoContext(ctx, "the keys are revoked, and the rest is held back", "until", c.slot.HeldUntil)
	c.release(ctx, store.Release{
		State:    store.Revoking,
		Settled:  true,
		DueAt:    c.slot.HeldUntil,
		Reason:   store.ReasonHeldBack,
		Resource: c.attempt.Resource(),
	})
}

// HoldbackRequest says whose resources are to be held back no longer, who asks for it, and why.
type HoldbackRequest struct {
	// User and Provider narrow it; "" is all.
	User, Provider string
	Order
}

// Order is an operator's. It goes on record before it is carried out.
type Order struct {
	// By is who gives it, and Reason why.
	By, Reason string
}

// EndHoldback makes due at once what is held back, and returns how much that was, and whether there
// is more: it had no time to find all, or something is being worked on just now. Each is on record
// in the audit log first. Safe to repeat.
func (e *Engine) EndHoldback(ctx context.Context, r HoldbackRequest) (ended int, more bool, err error) {
	if r.User != "" {
		var keys []store.Key
		for _, p := range e.cfg.Providers {
			keys = append(keys, store.SlotKey(r.User, p.Name()))
		}
		return e.endHoldbackOf(ctx, r, keys)
	}
	busy := false
	more, err = e.waiting(ctx, MaxHoldback+e.cfg.Lease+store.SkewMargin, func(keys []store.Key) (bool, error) {
		n, some, err := e.endHoldbackOf(ctx, r, keys)
		ended, busy = ended+n, busy || some
		return true, err
	})
	return ended, more || busy, err
}

func (e *Engine) endHoldbackOf(ctx context.Context, r HoldbackRequest, keys []store.Key) (ended int, busy bool, err error) {
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(width)
	for _, key := range keys {
		if key.IsTombstone() || r.Provider != "" && r.Provider != key.Provider() {
			continue
		}
		work.Go(func() error {
			held, err := e.endHoldback(ctx, r, key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, store.ErrStale):
				busy = true
				return nil
			case held && err == nil:
				ended++
			}
			return err
		})
	}
	err = work.Wait()
	return ended, busy, err
}

// endHoldback reports whether the slot was held back. It returns store.ErrStale for one that
// somebody works on, who would write down again until when it is held back.
func (e *Engine) endHoldback(ctx context.Context, r HoldbackRequest, key store.Key) (bool, error) {
	slots, err := e.cfg.Store.Slots(ctx, key.User(), key.Provider())
	if errors.Is(err, credential.ErrAccountSuspended) {
		return false, nil
	}
	if !errors.Is(err, credential.ErrAccountDeleted) {
		return false, err
	}
	slot, ok := slots[key.Provider()]
	if !ok || slot.HeldUntil.IsZero() {
		return false, nil
	}
	if slot.Owner != "" {
		return false, store.ErrStale
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "holdback ended", "by", r.By, "reason", r.Reason, "user", slot.User, "provider", slot.Provider,
		"resource", slot.Resource.ID, "held_until", slot.HeldUntil)
	if err != nil {
		return false, err
	}
	return true, e.cfg.Store.EndHoldback(ctx, slot)
}
