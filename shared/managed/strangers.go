package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/store"
)

// Members is the user pool as an audit sees it.
type Members interface {
	// Has reports whether the pool has a user with this sub.
	Has(ctx context.Context, sub string) (bool, error)
}

// UnknownUser: a living user whom the user pool does not know, at two looks that are
// Config.UnknownAfter apart. The event of their deletion may have been lost.
const UnknownUser FindingKind = "unknown_user"

// stranger looks for a living slot's user in the user pool, and remembers on the slot since when
// they are not there: one look may meet a pool that lags, and a user who is being made.
func (a *audit) stranger(ctx context.Context, slot store.Slot) ([]*suspect, error) {
	if a.cfg.Members == nil || slot.Dead() {
		return nil, nil
	}
	f := Finding{User: slot.User, Resource: slot.Resource.ID}
	known, err := a.cfg.Members.Has(ctx, slot.User)
	switch {
	case err != nil:
		return f.notInspected(err)
	case known && slot.UnknownSince.IsZero():
		return nil, nil
	case known:
		err = a.cfg.Store.NoteUnknown(ctx, slot, time.Time{})
	case slot.UnknownSince.IsZero():
		err = a.cfg.Store.NoteUnknown(ctx, slot, a.cfg.Now())
	case a.cfg.Now().Sub(slot.UnknownSince) >= a.cfg.UnknownAfter:
		f.Kind = UnknownUser
		found := &suspect{Finding: f}
		if a.cfg.DeleteUnknown != nil {
			found.Remedy = Delete
			found.remedy = func(ctx context.Context) error { return a.cfg.DeleteUnknown(ctx, slot.User) }
		}
		return []*suspect{found}, nil
	}
	if err != nil && !errors.Is(err, store.ErrStale) { // somebody works on it: the next audit looks again
		return f.notInspected(err)
	}
	return nil, nil
}
