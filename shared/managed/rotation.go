package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// A rotation makes another key beside the one that is stored, which serves on for an overlap, so
// that nobody who holds it is refused at once. The slot stays ready all the while: reconcile checks
// the stored key under a claim, and makes the new one under the same claim. The commit stores the
// new key and names the old one as retiring. Until its time is over every sweep keeps both, and the
// first one after that removes the old one. If anything fails, the stored key serves on, and the
// wish for another one stays.

// LongestOverlap is for how long a key that was replaced may serve on at most.
const LongestOverlap = 30 * 24 * time.Hour

// ErrNotAtRest: the credential is not ready, or is being worked on.
var ErrNotAtRest error = &credential.ConflictError{Detail: "The credential is not ready, or is being worked on: try again in a minute"}

// ErrRetiring: two keys are there already.
var ErrRetiring error = &credential.ConflictError{Detail: "The key before this one still serves: try again once it has retired, or with an overlap of 0s, which ends that at once"}

// Irreplaceable is a provider at which another key would not do what the first one does: it would
// open something else, without what the user has there. Nothing replaces its keys while they work.
type Irreplaceable interface {
	// Irreplaceable is why: a sentence for operators.
	Irreplaceable() string
}

// replaceable returns nil if a provider's keys can be replaced while they work, or else a
// *credential.ConflictError that says why not.
func replaceable(p Provider) error {
	fixed, ok := p.(Irreplaceable)
	if !ok {
		return nil
	}
	return &credential.ConflictError{Detail: fixed.Irreplaceable()}
}

// Rotation says whose key is to be replaced.
type Rotation struct {
	User, Provider string
	// Overlap is for how long the stored key serves on beside the new one; 0 if it is to go as soon
	// as there is another one.
	Overlap time.Duration
	Order
}

// Rotate asks for another key of a user's managed credential, under the same id. Reconcile makes
// it; until then the stored one stays. It is on record in the audit log before it is asked for.
//
// It returns credential.ErrNoProvider, ErrAccountDeleted, ErrAccountSuspended,
// credential.ErrNotFound, ErrNotAtRest, ErrRetiring, or another *credential.ConflictError if the
// provider is Irreplaceable. Safe to repeat until the new key is there; then a repeat asks for
// another one.
func (e *Engine) Rotate(ctx context.Context, r Rotation) error {
	p := e.byName[r.Provider]
	if p == nil {
		return credential.ErrNoProvider
	}
	err := replaceable(p)
	if err != nil {
		return err
	}
	slots, err := e.cfg.Store.Slots(ctx, r.User, r.Provider)
	if err != nil {
		return err
	}
	slot := slots[r.Provider]
	if slot.State == store.Absent {
		return credential.ErrNotFound
	}
	err = askable(slot, r.Overlap)
	if err != nil {
		return err
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "rotation", "by", r.By, "reason", r.Reason, "user", r.User, "provider", r.Provider,
		"attempt", slot.Committed, "overlap", r.Overlap.String())
	if err != nil {
		return err
	}
	err = e.cfg.Store.Rotate(ctx, slot, r.Overlap)
	if errors.Is(err, store.ErrStale) {
		return ErrNotAtRest
	}
	return err
}

// askable says why another key of a slot cannot be asked for, with that overlap: ErrNotAtRest or
// ErrRetiring; nil if it can.
func askable(slot store.Slot, overlap time.Duration) error {
	switch {
	case slot.State != store.Ready || slot.Owner != "" || !slot.Settled():
		return ErrNotAtRest
	case slot.Retiring.KeyID != "" && overlap > 0:
		return ErrRetiring
	}
	return nil
}
