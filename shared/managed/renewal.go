package managed

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"managed-credentials/shared/store"
)

// Keys that work are replaced by themselves, too, as a rotation with an overlap does it: those that
// are older than the owner allows, and those that expire. The old ones are found by a walk over the
// table, in the job of the rotations of all keys, so that the two are never made at once. A slot
// whose key expires waits in the index of due work until it is time: a walk would miss a key that
// lives for an hour.

// DefaultOverlap is for how long a key that was replaced serves on, where nobody says otherwise.
const DefaultOverlap = 24 * time.Hour

// The keys of users who came in one week do not all come to be replaced in one hour: by their share
// of a quarter of the age that is allowed some are replaced earlier than others. A user's share is
// always the same, so that their keys have a period of their own, and users who began together are
// apart by a further quarter with each key.
const spread = 4

// share is the user's, from 0 to less than 1, evenly spread over all users of a provider.
func share(user, provider string) float64 {
	sum := sha256.Sum256([]byte(provider + "\x00" + user))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// replaces reports whether a provider's keys are replaced by themselves while they work.
func (e *Engine) replaces(provider string) bool {
	p := e.byName[provider]
	return p != nil && replaceable(p) == nil && e.Gives(provider)
}

// agingWalk reports whether a walk for old keys is under way, or to be begun.
func (e *Engine) agingWalk(provider string, last *RotationRun) bool {
	if e.cfg.MaxKeyAge == 0 || !e.replaces(provider) {
		return false
	}
	return last == nil || last.EndedAt.IsZero() || e.cfg.Now().Sub(last.BegunAt) >= e.agingWalkEvery()
}

// agingWalkEvery is how long after one walk for old keys has begun the next one does.
func (e *Engine) agingWalkEvery() time.Duration {
	return min(max(e.cfg.MaxKeyAge/24, time.Hour), 24*time.Hour)
}

// agingOverlap is for how long a key serves on that was too old: it is over before the next one is.
func (e *Engine) agingOverlap() time.Duration { return min(DefaultOverlap, e.cfg.MaxKeyAge/spread) }

// tooOld reports whether a slot's stored key is to be replaced because of its age: a walk later
// could be too late. A key of which it is not known when it was made is as old as its slot.
func (e *Engine) tooOld(slot store.Slot) bool {
	if slot.State != store.Ready || slot.Committed == 0 || slot.Resource.KeyID == "" {
		return false
	}
	made := slot.CommittedAt
	if made.IsZero() {
		made = slot.CreatedAt
	}
	earlier := time.Duration(share(slot.User, slot.Provider) * float64(e.cfg.MaxKeyAge/spread))
	return !made.Add(e.cfg.MaxKeyAge - earlier - e.agingWalkEvery()).After(e.cfg.Now())
}

// How long before its end a key that expires is replaced: a quarter of its life, a week at most,
// and by the user's share up to half of that later. A key that lives for less than shortestLife is
// replaced when somebody is refused with it: a round of reconcile may take as long as what is left
// of it.
const (
	longestAhead = 7 * 24 * time.Hour
	shortestLife = 30 * time.Minute
)

// renewAt is when a key that expires is to be replaced; zero if it is not. Where the next one
// expires at the same time, as with its org key, the quarter of what is left is shorter each time,
// until it is not replaced any more.
func (e *Engine) renewAt(user, provider string, made, expires time.Time) time.Time {
	life := expires.Sub(made)
	if expires.IsZero() || life < shortestLife || !e.replaces(provider) {
		return time.Time{}
	}
	ahead := min(life/4, longestAhead)
	return expires.Add(-ahead + time.Duration(share(user, provider)*float64(ahead/2)))
}

// renewalOf is when a slot's stored key is to be replaced because it expires; zero if it is not.
func (e *Engine) renewalOf(slot store.Slot) time.Time {
	return e.renewAt(slot.User, slot.Provider, slot.CommittedAt, slot.ExpiresAt)
}

// renews reports whether the key of a ready slot that is to be claimed is replaced under that
// claim, because it expires. Nobody has to ask for that: it goes by what the slot says, also after
// a claim that died. While one key retires no other does. A moment early is no matter, and what is
// due by a clock that is ahead is not looked at for nothing.
func (e *Engine) renews(slot store.Slot, now time.Time) bool {
	at := e.renewalOf(slot)
	return !slot.Rotates && slot.Retiring.KeyID == "" && !at.IsZero() && !now.Add(store.SkewMargin).Before(at)
}

// earliest is the earlier of two times, of which the second may be zero, for never.
func earliest(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
