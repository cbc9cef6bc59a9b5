package managed

import "time"

// An absence is a suspicion. One answer that something is not there may come from a replica that
// lags, or be a list that was cut short, and what follows from it cannot be undone: a key that
// works is replaced, or a deletion is called done. So the first look only notes in the slot when it
// was, and a later claim has to see the same.

// suspicionHolds is how long a first look counts. What was seen before that is looked at twice
// again.
const suspicionHolds = time.Hour

// suspectedSince is when the look was taken that the next one may confirm: now, unless the slot has
// an earlier one that still counts.
func (c *claim) suspectedSince() time.Time {
	now := c.e.cfg.Now()
	if c.slot.GoneSince.IsZero() || now.Sub(c.slot.GoneSince) > suspicionHolds {
		return now
	}
	return c.slot.GoneSince
}

// confirms reports whether this pass's look, which found nothing, may be believed: an earlier one
// has found nothing either, far enough before this one began, however long it took, and before the
// time of which this one has told.
func (c *claim) confirms(gone error) bool {
	return !c.began.Before(c.nextLook(c.suspectedSince(), gone))
}

// nextLook is when the look may be that confirms the one that was taken at since, if it tells of as
// long ago as this one.
func (c *claim) nextLook(since time.Time, gone error) time.Time {
	if gone == nil {
		return since.Add(LastLook)
	}
	return since.Add(LastLook + classified(gone).Age)
}
