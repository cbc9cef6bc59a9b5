package managed

import (
	"context"
	"errors"
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

// Parked returns the revocations that are parked, and whether there may be more than it had the time to find, or than it returns.
func (e *Engine) Parked(ctx context.Context) (all []ParkedRevocation, more bool, err error) {
	horizon := e.Now().Add(parkedRetry + e.Lease + store.SkewMargin)
	for _, shard := range store.Shards() {
		var from store.Cursor
		for {
			deadline, ok := ctx.Deadline()
			if len(all) >= mostParked || ok && clock.Until(deadline) < parkedReserve {
				return all, true, nil
			}
			keys, next, err := e.Store.Due(ctx, shard, horizon, pageSize, from)
			if err != nil {
				return nil, false, err
			}
			page, err := e.parkedOf(ctx, keys)
			if err != nil {
				return nil, false, err
			}
			all = append(all, page...)
			if next == nil {
				break
			}
			from = next
		}
	}
	return all, false, nil
}

// parkedOf are those of the due items that are parked, in their order.
func (e *Engine) parkedOf(ctx context.Context, keys []store.Key) ([]ParkedRevocation, error) {
	found := make([]*ParkedRevocation, len(keys))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(width)
	for i, key := range keys {
		work.Go(func() error {
			parked, ok, err := e.parked(ctx, key)
			if ok {
				found[i] = &parked
			}
			return err
		})
	}
	err := work.Wait()
	if err != nil {
		return nil, err
	}
	var all []ParkedRevocation
	for _, parked := range found {
		if parked != nil {
			all = append(all, *parked)
		}
	}
	return all, nil
}

// parked reads the slot that is due, if it is one, and if it is parked.
func (e *Engine) parked(ctx context.Context, key store.Key) (ParkedRevocation, bool, error) {
	if key.IsTombstone() {
		return ParkedRevocation{}, false, nil
	}
	slots, err := e.Store.Slots(ctx, key.User(), key.Provider())
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) {
		return ParkedRevocation{}, false, err
	}
	slot := slots[key.Provider()]
	return ParkedRevocation{
		User:     slot.User,
		Provider: slot.Provider,
		Resource: slot.Resource.ID,
		Reason:   slot.Reason,
		Tries:    slot.Tries,
		RetryAt:  slot.DueAt,
	}, slot.State == store.Parked, nil
}

// ErrNotParked: there is no such revocation that is parked and that nobody works on.
var ErrNotParked = errors.New("no such revocation is parked, or somebody works on it now")

// Force declares a parked revocation done without proof: the operator by has seen to it that nothing of the user is left at the third
// party, for the given reason. It is on record in the audit log before it is done.
//
// It returns ErrNotParked. Not to be repeated after success: ErrNotParked is the answer then.
func (e *Engine) Force(ctx context.Context, user, provider, by, reason string) error {
	slots, err := e.Store.Slots(ctx, user, provider)
	if err == nil {
		return ErrNotParked // the account is not deleted
	}
	if !errors.Is(err, credential.ErrAccountDeleted) {
		return err
	}
	slot := slots[provider]
	if slot.State != store.Parked || !slot.Claimable(e.Now()) {
		return ErrNotParked
	}
	err = telemetry.Audit(ctx, e.Log, "revocation forced", "by", by, "reason", reason, "user", user, "provider", provider,
		"resource", slot.Resource.ID, "key_id", slot.Resource.KeyID)
	if err != nil {
		return err
	}
	claimed, err := e.Store.ClaimDead(ctx, slot, e.Now().Add(e.Lease))
	if errors.Is(err, store.ErrStale) {
		return ErrNotParked
	}
	if err != nil {
		return err
	}
	err = e.Store.Remove(ctx, claimed)
	if err != nil {
		return err
	}
	e.Metrics.Count(telemetry.RevocationsForced, provider, 1)
	return nil
}
