package managed

import (
	"context"
	"errors"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// Replacement is what became of a user's wish for another key.
type Replacement struct {
	// Standing is how the credential stands. RetryAt is when the user may ask again, where they
	// have to wait.
	Standing Standing
	// Refused is why nothing was done; "" if another key is being made.
	Refused ReplaceRefusal
}

// ReplaceRefusal is why a user's key is not replaced.
type ReplaceRefusal string

// The reasons why a user's key is not replaced.
const (
	// ReplaceNever: another key would not open what this one does.
	ReplaceNever ReplaceRefusal = "irreplaceable"
	// ReplaceNotReady: there is no key that works, or it is being worked on.
	ReplaceNotReady ReplaceRefusal = "not ready"
	// ReplaceUnderWay: another key is being made already.
	ReplaceUnderWay ReplaceRefusal = "under way"
	// ReplaceRetiring: two keys work already.
	ReplaceRetiring ReplaceRefusal = "retiring"
	// ReplaceTooSoon: the user has asked a short while ago.
	ReplaceTooSoon ReplaceRefusal = "too soon"
)

// Replace asks for another key of the user's managed credential, under the same id, because they
// want one. It is an ordinary rotation: the key that they have serves until the other one is there,
// and then for as long as the owner has set. After it there is a pause, as after all that users can
// ask for again and again.
//
// It returns ErrNotOffered if the owner does not allow it, ErrNotFound if the user has no
// credential there, ErrAccountDeleted or ErrAccountSuspended. Safe to repeat: while one is under
// way none is asked for.
func (e *Engine) Replace(ctx context.Context, user, provider string) (Replacement, error) {
	p := e.byName[provider]
	overlap, allowed := e.cfg.Replace[provider]
	if p == nil || !allowed || e.mode(provider) == Off {
		return Replacement{}, credential.ErrNotOffered
	}
	var wish int64 // the attempt's number that it takes
	for tries := 1; ; tries++ {
		slots, err := e.cfg.Store.Slots(ctx, user, provider)
		if err != nil {
			return Replacement{}, err
		}
		slot, ok := slots[provider]
		if !ok {
			return Replacement{}, store.ErrUndecodable
		}
		if slot.State == store.Absent || slot.State == store.Off {
			return Replacement{}, credential.ErrNotFound
		}
		r := e.mayReplace(p, slot)
		// The SDK repeats a write whose answer was lost, and the repeat is refused by its own first
		// effect. A number belongs to one wish for ever.
		if r.Refused == ReplaceUnderWay && slot.Attempt == wish {
			r.Refused = ""
			return r, nil
		}
		if r.Refused != "" {
			return r, nil
		}
		slot.AskFrom, slot.AskPause = nextAsk(slot, e.cfg.Now())
		wish = slot.Attempt + 1
		err = e.cfg.Store.Replace(ctx, slot, overlap)
		switch {
		case err == nil:
			e.cfg.Log.InfoContext(ctx, "a user has their key replaced", "user", user, "provider", provider,
				"attempt", slot.Committed, "overlap", overlap.String())
			r.Standing.Replacing, r.Standing.Replaceable = true, false
			return r, nil
		case !errors.Is(err, store.ErrStale):
			return Replacement{}, err
		case tries == staleReads:
			r.Refused = ReplaceNotReady
			return r, nil
		}
	}
}

// mayReplace says how a slot stands, and whether its user may have its key replaced now.
func (e *Engine) mayReplace(p Provider, slot store.Slot) Replacement {
	r := Replacement{Standing: Standing{Provider: p.Name(), State: StandingProvisioning}, Refused: ReplaceNotReady}
	switch slot.State {
	case store.Ready:
		r.Standing.State = StandingReady
	case store.Failed:
		r.Standing.State, r.Standing.RetryAt = StandingFailed, slot.DueAt
	case store.Retracting:
		r.Standing.State = StandingRetracting
	default:
	}
	e.noteOptions(&r.Standing, slot)
	refused := askable(slot, e.cfg.Replace[p.Name()])
	switch {
	case replaceable(p) != nil:
		r.Refused = ReplaceNever
	case slot.Rotates:
		r.Refused = ReplaceUnderWay
	case errors.Is(refused, ErrRetiring):
		r.Refused, r.Standing.RetryAt = ReplaceRetiring, slot.Retiring.At
	case refused != nil:
	case slot.AskFrom.After(e.cfg.Now()):
		r.Refused, r.Standing.RetryAt = ReplaceTooSoon, slot.AskFrom
	default:
		r.Refused = ""
	}
	return r
}

// noteOptions notes in a standing what the user may have done with what they have, as far as the
// owner allows it and it can be; and of what is ready, whether its key is being replaced.
func (e *Engine) noteOptions(s *Standing, slot store.Slot) {
	s.Removable = e.cfg.OptOut[s.Provider] && (s.State == StandingReady || s.State == StandingFailed)
	if s.State != StandingReady {
		return
	}
	s.Unusable = slot.KeyFails(e.cfg.Now())
	s.Replacing = slot.Rotates
	if e.cfg.Now().Before(slot.Retiring.At) {
		s.RetireAt = slot.Retiring.At
	}
	overlap, allowed := e.cfg.Replace[s.Provider]
	p := e.byName[s.Provider]
	if allowed && p != nil && replaceable(p) == nil && !s.Replacing && (s.RetireAt.IsZero() || overlap == 0) {
		s.Replaceable, s.Overlap = true, overlap
	}
}
