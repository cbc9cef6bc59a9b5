package managed

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// ParkedRevocation is a revocation that was put aside. It is tried every few hours.
type ParkedRevocation struct {
	User     string `json:"user"`
	Provider string `json:"provider"`
	// Resource is what is known to exist at the third party; "" if the table does not know.
	Resource string `json:"resource,omitempty"`
	// Reason is the class of the last failure, or what has to be configured.
	Reason string `json:"reason"`
	Tries  int    `json:"tries"`
	// RetryAt is when it is tried again.
	RetryAt time.Time `json:"retry_at"`
}

// mostParked is how many revocations are enough for one answer of Parked.
const mostParked = 1000

// parkedReserve is how much time has to be left to read another page of due work.
const parkedReserve = 5 * time.Second

// longestPostponed is more than any slot waits.
const longestPostponed = 2 * parkedRetry

// Parked returns the revocations that are parked, and whether there may be more than it had the
// time to find, or than it returns.
func (e *Engine) Parked(ctx context.Context) (all []ParkedRevocation, more bool, err error) {
	more, err = e.waiting(ctx, longestPostponed, func(keys []store.Key) (bool, error) {
		page, err := e.parkedOf(ctx, keys)
		all = append(all, page...)
		return len(all) < mostParked, err
	})
	if err != nil {
		return nil, false, err
	}
	return all, more, nil
}

// waiting goes through the keys of all that is due now or later, page by page, for as long as there
// is time and visit wants more. It reports whether that ended it.
func (e *Engine) waiting(ctx context.Context, horizon time.Duration, visit func([]store.Key) (bool, error)) (more bool, err error) {
	shards := store.Shards()
	for _, p := range e.cfg.Providers {
		shards = append(shards, store.KeylessShard(p.Name()))
	}
	wanted := true
	for _, shard := range shards {
		var from store.Cursor
		for {
			deadline, ok := ctx.Deadline()
			if !wanted || ok && clock.Until(deadline) < parkedReserve {
				return true, nil
			}
			keys, next, err := e.cfg.Store.Due(ctx, shard, e.cfg.Now().Add(horizon), pageSize, from)
			if err != nil {
				return false, err
			}
			wanted, err = visit(keys)
			if err != nil {
				return false, err
			}
			if next == nil {
				break
			}
			from = next
		}
	}
	return false, nil
}

// RetryRequest says what is to be tried again at once: what waits of one user, or of all if it
// names none, at one provider, or at all.
type RetryRequest struct {
	Provider, User string
	// By is who asks.
	By string
}

// Retry makes due at once what waits for a later try: revocations, the parked ones, too, and
// credentials that could not be made. Each is on record in the audit log before. It returns how
// many there were, and whether there may be more than it had the time to find.
//
// It returns credential.ErrNoProvider. Safe to repeat: what is due already is left as it is.
func (e *Engine) Retry(ctx context.Context, r RetryRequest) (retried int, more bool, err error) {
	if r.Provider != "" && e.byName[r.Provider] == nil {
		return 0, false, credential.ErrNoProvider
	}
	var all atomic.Int64
	visit := func(keys []store.Key) (bool, error) {
		var work errgroup.Group
		work.SetLimit(width)
		for _, key := range keys {
			if key.IsTombstone() || r.Provider != "" && r.Provider != key.Provider() {
				continue
			}
			work.Go(func() error {
				done, err := e.retry(ctx, key, r.By)
				if done {
					all.Add(1)
				}
				return err
			})
		}
		return true, work.Wait()
	}
	if r.User == "" {
		more, err = e.waiting(ctx, longestPostponed, visit)
		return int(all.Load()), more, err
	}
	var keys []store.Key
	for _, p := range e.cfg.Providers {
		keys = append(keys, store.SlotKey(r.User, p.Name()))
	}
	_, err = visit(keys)
	return int(all.Load()), false, err
}

// retry makes one slot due, if it waits and nobody works on it, and reports whether it did.
func (e *Engine) retry(ctx context.Context, key store.Key, by string) (bool, error) {
	slot, err := e.slotOf(ctx, key)
	now := e.cfg.Now()
	waits := slot.State == store.Failed || slot.State == store.Provisioning || slot.State == store.Retracting && !slot.Revoked() ||
		slot.Dead() && !slot.Revoked() && slot.Reason != store.ReasonHeldBack
	if err != nil || !waits || !slot.Claimable(now) || !slot.DueAt.After(now) {
		return false, err
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "retry", "by", by, "user", slot.User, "provider", slot.Provider, "state", slot.State, "reason", slot.Reason)
	if err != nil {
		return false, err
	}
	err = e.cfg.Store.Postpone(ctx, slot, store.Wait{State: slot.State, Reason: store.ReasonOperator, DueAt: now})
	if errors.Is(err, store.ErrStale) {
		return false, nil // a worker has claimed it since
	}
	return err == nil, err
}

// slotOf reads the slot with that key, of a deleted or suspended account as well; the zero slot if
// there is none.
func (e *Engine) slotOf(ctx context.Context, key store.Key) (store.Slot, error) {
	slots, err := e.cfg.Store.Slots(ctx, key.User(), key.Provider())
	if err != nil && !isRefused(err) {
		return store.Slot{}, err
	}
	return slots[key.Provider()], nil
}

// slotsOf reads the slots that are due, in their order, without tombstones. One that has gone, or
// cannot be decoded, is the zero slot.
func (e *Engine) slotsOf(ctx context.Context, keys []store.Key) ([]store.Slot, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), store.Key.IsTombstone)
	slots := make([]store.Slot, len(keys))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(width)
	for i, key := range keys {
		work.Go(func() error {
			var err error
			slots[i], err = e.slotOf(ctx, key)
			return err
		})
	}
	return slots, work.Wait()
}

// parkedOf are those of the due items that are parked, in their order.
func (e *Engine) parkedOf(ctx context.Context, keys []store.Key) ([]ParkedRevocation, error) {
	slots, err := e.slotsOf(ctx, keys)
	if err != nil {
		return nil, err
	}
	var all []ParkedRevocation
	for _, slot := range slots {
		if isParked(slot) {
			all = append(all, ParkedRevocation{
				User:     slot.User,
				Provider: slot.Provider,
				Resource: slot.Resource.ID,
				Reason:   slot.Reason,
				Tries:    slot.Tries,
				RetryAt:  slot.DueAt,
			})
		}
	}
	return all, nil
}

// ErrNotParked: there is no such revocation that is parked and that nobody works on.
var ErrNotParked error = &credential.ConflictError{Detail: "No such revocation is parked, or somebody works on it now"}

// Force declares a parked revocation done without proof: the operator has seen to it that
// nothing of the user is left at the third party. It is on record in the audit log before it is
// done.
//
// It returns ErrNotParked. Not to be repeated after success: ErrNotParked is the answer then.
func (e *Engine) Force(ctx context.Context, user, provider string, o Order) error {
	slots, err := e.cfg.Store.Slots(ctx, user, provider)
	if err == nil {
		return ErrNotParked // the account is not deleted
	}
	if !errors.Is(err, credential.ErrAccountDeleted) {
		return err
	}
	slot := slots[provider]
	if slot.State != store.Parked || !slot.Claimable(e.cfg.Now()) {
		return ErrNotParked
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "revocation forced", "by", o.By, "reason", o.Reason, "user", user, "provider", provider,
		"resource", slot.Resource.ID, "key_id", slot.Resource.KeyID)
	if err != nil {
		return err
	}
	claimed, err := e.cfg.Store.ClaimDead(ctx, slot, e.cfg.Now().Add(e.cfg.Lease))
	if errors.Is(err, store.ErrStale) {
		return ErrNotParked
	}
	if err != nil {
		return err
	}
	err = e.cfg.Store.Remove(ctx, claimed)
	if err != nil {
		return err
	}
	e.cfg.Metrics.Count(telemetry.RevocationsForced, provider, 1)
	return nil
}
