package managed

import (
	"time"

	"managed-credentials/shared/store"
)

// An absence is a suspicion. One answer that something is not there may come from a replica that
// lags, or be a list that was cut short, and what follows from it cannot be undone: a key that
// works is replaced, or a deletion is called done. So the first look only notes in the slot when it
// was, and a later claim has to see the same.

// suspicionHolds is how long a first look counts. What was seen before that is looked at twice
// again.
const suspicionHolds = time.Hour

// suspectedSince is when the look was taken that the next one may confirm: now, unless the slot has
// an earlier one that still counts.
func (e *Engine) suspectedSince(slot store.Slot) time.Time {
	now := e.Now()
	if slot.GoneSince.IsZero() || now.Sub(slot.GoneSince) > suspicionHolds {
		return now
	}
	return slot.GoneSince
}

// confirms reports whether a look taken now that finds nothing may be believed: an earlier one, far
// enough back, has found nothing either.
func (e *Engine) confirms(slot store.Slot) bool {
	return !e.Now().Before(e.suspectedSince(slot).Add(LastLook))
}
