package managed

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// The keys of a suspended user live on, unless the owner says for how long. Then the suspension
// itself is due in the end: their slots turn to retracting, and reconcile revokes the keys and
// leaves what else is in the resources. What the user had given up before is not held up by the
// suspension any more. The next list after they are enabled makes another key in the same resource,
// under the same id.

// endKeys has the keys of a user revoked whose suspension was read as due at due: it turns their
// slots to retracting, each of which is then due by itself. A slot that changes meanwhile is for
// the next round.
func (e *Engine) endKeys(ctx context.Context, user string, due time.Time) error {
	if e.cfg.SuspendedKeysLive == 0 { // not any more
		return e.cfg.Store.PostponeSuspension(ctx, user, due, time.Time{})
	}
	names := slices.Sorted(maps.Keys(e.cfg.Faults))
	for _, p := range e.cfg.Providers {
		if replaceable(p) == nil { // else the key does not go without all that is in its resource
			names = append(names, p.Name())
		}
	}
	slots, err := e.cfg.Store.Slots(ctx, user, names...)
	if err == nil || errors.Is(err, credential.ErrAccountDeleted) {
		return nil // and the suspension is gone
	}
	if !errors.Is(err, credential.ErrAccountSuspended) {
		return err
	}
	var next time.Time
	for _, name := range names {
		slot, readable := slots[name]
		switch {
		case readable && slot.State != store.Ready && slot.State != store.Failed && slot.State != store.Provisioning:
			continue
		case !readable || e.byName[name] == nil: // until somebody mends that
			next = earliest(e.cfg.Now().Add(jittered(slowRetry)), next)
			continue
		}
		err := e.cfg.Store.RetractSuspended(ctx, slot)
		switch {
		case errors.Is(err, store.ErrStale):
			next = earliest(e.cfg.Now().Add(backoffBase), next)
		case err != nil:
			return err
		default:
			e.cfg.Log.InfoContext(ctx, "a user has been suspended for so long that their keys are revoked", "user", user, "provider", name)
		}
	}
	return e.cfg.Store.PostponeSuspension(ctx, user, due, next)
}

// waitsForEnabling reports whether nothing is done for a suspended user's slot. What is retracting
// goes on where their keys are to be revoked.
func (e *Engine) waitsForEnabling(slot store.Slot) bool {
	return slot.State != store.Retracting || e.cfg.SuspendedKeysLive == 0
}
