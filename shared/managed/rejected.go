package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// An executor that the third party refuses reports the key, and a check looks for it. One that is
// gone is made anew, and one that the third party itself calls disabled or spent is left as it is.
// But one that is there and in order, by all that can be seen, is no use to whoever is refused with
// it: another one is asked for, as its user could do it. Nobody's word is taken for more than that:
// the reported key serves on for a while, and each such rotation has a pause after it that doubles.

// rejectedOverlap is for how long a key that was reported and is there serves on: others may have
// it, and the report may be false.
const rejectedOverlap = time.Hour

// isRejected reports whether the key that this sweep has found in order was reported, and is to be
// replaced for that.
func (c *claim) isRejected() bool {
	slot := c.slot
	slot.Owner = ""
	if c.attempt.Settled() {
		slot.LeaseUntil = time.Time{}
	}
	if c.retired {
		slot.Retiring = store.Retiring{}
	}
	reported := slot.Reason == store.ReasonReported || slot.Reason == store.ReasonRejected
	return reported && c.e.replacesRejected(slot)
}

// replacesRejected reports whether another key of a slot can be asked for now, because somebody is
// refused with the one that it has: nobody works on it, no other one is asked for or retires, and
// the pause is over in which nothing is to be made again.
func (e *Engine) replacesRejected(slot store.Slot) bool {
	return e.replaces(slot.Provider) && askable(slot, rejectedOverlap) == nil && !slot.Rotates && !slot.AskFrom.After(e.cfg.Now())
}

// replaceRejected asks for another key of a slot that was as replacesRejected wants it, and goes on
// with it.
func (r *round) replaceRejected(ctx context.Context, slot store.Slot) error {
	slot.AskFrom, slot.AskPause = nextAsk(slot, r.cfg.Now())
	err := r.cfg.Store.Replace(ctx, slot, rejectedOverlap)
	if errors.Is(err, store.ErrStale) {
		return nil // another worker was faster, or the account was deleted: what is left to do is due
	}
	if err != nil {
		return err
	}
	r.cfg.Metrics.Count(telemetry.KeysRejected, slot.Provider, 1)
	r.cfg.Log.WarnContext(ctx, "a key was reported, and the third party has it: another one is made", "user", slot.User,
		"provider", slot.Provider, "attempt", slot.Committed, "key_id", slot.Resource.KeyID, "overlap", rejectedOverlap.String())
	return r.item(ctx, slot.Key())
}
