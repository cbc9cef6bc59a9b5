package managed

import (
	"slices"
	"time"

	"managed-credentials/shared/store"
)

// Pending is something of a deleted account that is still to go.
type Pending struct {
	// Provider is whose it is; UserPool for the user themselves.
	Provider string
	State    PendingState
	// RetryAt is when it is tried again.
	RetryAt time.Time
}

// UserPool is the Provider of a Pending that stands for the user in the user pool.
const UserPool = "user_pool"

// PendingState is a Pending's state.
type PendingState string

const (
	// PendingRevoking: what was made at the third party is being removed.
	PendingRevoking PendingState = "revoking"
	// PendingParked: that cannot be done as things are. It is tried every few hours.
	PendingParked PendingState = "parked"
	// PendingHeldBack: the keys are revoked, and the rest is kept for a while.
	PendingHeldBack PendingState = "held_back"
	// PendingDeleting: it is no slot, and goes with the next pass.
	PendingDeleting PendingState = "deleting"
)

// pending is what a page of an account shows to be left: each slot, the own credentials once for
// each provider, and the user.
func (e *Engine) pending(page store.Remains) []Pending {
	soon := e.cfg.Now().Add(backoffBase)
	var all []Pending
	for _, slot := range page.Slots {
		if slot.Revoked() { // only the last look is left
			continue
		}
		p := Pending{slot.Provider, PendingRevoking, slot.DueAt}
		switch {
		case slot.State == store.Parked:
			p.State = PendingParked
		case slot.Reason == store.ReasonHeldBack:
			p.State = PendingHeldBack
		}
		if p.RetryAt.IsZero() {
			p.RetryAt = soon
		}
		all = append(all, p)
	}
	for _, key := range page.Own {
		p := Pending{key.Provider(), PendingDeleting, soon}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if page.Tombstone.Username != "" {
		all = append(all, Pending{UserPool, PendingDeleting, soon})
	}
	return all
}
