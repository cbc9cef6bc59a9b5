package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// Want makes the user's managed credential at one provider, within the budget, because they ask for
// it: also one that is made on demand alone, that they gave up, or that failed and is not due yet.
// A third party in trouble is left alone as ever. The answer is that of a list of this provider:
// its one standing is ready if the credential is among the listed.
//
// It returns ErrNotOffered, ErrAccountDeleted, ErrAccountSuspended, or an error if the account
// cannot be read. Safe to repeat: until it is ready, a repeat goes on with it.
func (e *Engine) Want(ctx context.Context, user, provider string) (Listing, error) {
	if e.cfg.Faults[provider] != nil {
		return e.list(ctx, user, provider, true)
	}
	if e.byName[provider] == nil {
		return Listing{}, credential.ErrNotOffered
	}
	if !e.offers(provider) {
		slots, err := e.cfg.Store.Slots(ctx, user, provider)
		if err != nil {
			return Listing{}, err
		}
		if !e.keeps(provider, slots[provider]) {
			return Listing{}, credential.ErrNotOffered
		}
	}
	return e.list(ctx, user, provider, true)
}

// Each time that a user has something made which would not be made by itself, or not yet, they have
// to wait longer until the next time. Who did not for a day begins anew.
const (
	firstAskPause   = 10 * time.Minute
	longestAskPause = 24 * time.Hour
)

// nextAsk is from when on the user may ask again if they do so now, and how long that is.
func nextAsk(slot store.Slot, now time.Time) (time.Time, time.Duration) {
	pause := min(max(2*slot.AskPause, firstAskPause), longestAskPause)
	if now.Sub(slot.AskFrom) > longestAskPause {
		pause = firstAskPause
	}
	return now.Add(pause), pause
}

// saysWait reports whether a slot failed because the third party takes no more: then nobody's
// asking is a reason to send it another call.
func saysWait(reason string) bool {
	switch Class(reason) {
	case RateLimited, Quota, Rejected:
		return true
	case Transient, Permanent, NotYet, Gone, Unusable, Foreign, Mismatch:
	}
	return false
}

// staleReads is how often a change that was overtaken is tried again.
const staleReads = 3

// Retract has the user's managed credential at one provider removed, with all that is in its
// resource, because they ask for it: from then on nobody can use it, and reconcile removes it at
// the third party. Nothing is made again until they ask for that. It returns how it stands then:
// StandingRetracting; StandingOffered if all is removed; or StandingProvisioning, and nothing was
// done, because somebody works on it just now.
//
// It returns ErrNotFound if they have none, ErrKept if the owner does not allow it,
// ErrAccountDeleted or ErrAccountSuspended. Safe to repeat.
func (e *Engine) Retract(ctx context.Context, user, provider string) (Standing, error) {
	if e.byName[provider] == nil || e.mode(provider) == Off {
		return Standing{}, credential.ErrNotFound
	}
	if !e.cfg.OptOut[provider] {
		return Standing{}, credential.ErrKept
	}
	for tries := 1; ; tries++ {
		slots, err := e.cfg.Store.Slots(ctx, user, provider)
		if err != nil {
			return Standing{}, err
		}
		slot, ok := slots[provider]
		if !ok {
			return Standing{}, store.ErrUndecodable
		}
		standing := Standing{Provider: provider}
		bySuspension := slot.RetractedBy == store.BySuspension // which leaves the resource
		switch {
		case slot.State == store.Absent:
			return Standing{}, credential.ErrNotFound
		case slot.State == store.Off && !bySuspension:
			standing.State = StandingOffered
			return standing, nil
		case slot.State == store.Retracting && !bySuspension:
			standing.State = StandingRetracting
			return standing, nil
		case slot.State == store.Ready, slot.State == store.Failed, slot.State == store.Off:
		case slot.State == store.Retracting && slot.Owner == "":
		default:
			standing.State = StandingProvisioning
			return standing, nil
		}
		err = e.cfg.Store.Retract(ctx, slot, store.ByUser)
		if err == nil {
			e.cfg.Log.InfoContext(ctx, "a user has their credential removed", "user", user, "provider", provider)
			standing.State = StandingRetracting
			return standing, nil
		}
		if !errors.Is(err, store.ErrStale) || tries == staleReads {
			return Standing{}, err
		}
	}
}
