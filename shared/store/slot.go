package store

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// State is where a slot stands.
type State string

// The states of a slot. Absent is that of a slot which has no item.
const (
	Absent       State = ""
	Provisioning State = "provisioning"
	Ready        State = "ready"
	Failed       State = "failed"
	Revoking     State = "revoking"
	Parked       State = "parked"
	// Retracting: what was made for a living user is being removed. Off: it has been, and nothing
	// is made until that is asked for.
	Retracting State = "retracting"
	Off        State = "off"
)

// Retractor is who had a living user's credential removed, and so who may have it made again.
type Retractor string

const (
	// ByUser: only the user has it made again.
	ByUser Retractor = "user"
	// ByDraining: the owner had it removed from all users. A list makes it again where the owner
	// offers it to everybody.
	ByDraining Retractor = "drained"
	// BySuspension: the user was suspended for so long that their keys were revoked. A list makes
	// another key once they are enabled.
	BySuspension Retractor = "suspended"
)

// SkewMargin is how long past its lease a slot is left alone, for clocks that are apart by ±5 s.
const SkewMargin = 10 * time.Second

// Slot is a managed credential's item as it was read, without its ciphertext.
type Slot struct {
	User, Provider string
	Title          string
	State          State
	// Owner is the claim that works on the slot now; "" if nobody does.
	Owner string
	// Attempt counts the claims. A number belongs to one claim for ever.
	Attempt int64
	// Tries counts the failures since the last success; it drives the backoff.
	Tries int
	// LeaseUntil is until when something sent under this slot may still take effect at the third
	// party; zero if all is settled.
	LeaseUntil time.Time
	// DueAt is when there is work to do; zero if there is none.
	DueAt time.Time
	// Committed is the attempt that made the stored secret; 0 if none did.
	Committed int64
	// Resource is what is known to exist at the third party.
	Resource credential.Resource
	// Reason is why there is work left: the class of the last failure, what has to be configured,
	// who asked for a check, or ReasonLastLook.
	Reason string
	// GoneSince is when a look first found that what the slot names is not there; zero if the last
	// look found it. It is a suspicion: a later look has to say the same.
	GoneSince time.Time
	// Left is how many things a revocation's last pass left at the third party, and LeftSince since
	// when that has not shrunk; zero where the third party is not deleting.
	Left      int
	LeftSince time.Time
	// HeldUntil is until when a revocation leaves alone what cannot be made again, and revokes the
	// keys only; zero if it holds nothing back.
	HeldUntil time.Time
	// ExpiresAt is when the third party lets the stored key expire; zero if it does not.
	ExpiresAt time.Time
	// CreatedAt is when the slot was first claimed; zero where that is not known.
	CreatedAt time.Time
	// Hint is the end of the stored key, to be shown; "" for none.
	Hint string
	// LastUsedOn is the day on which the secret was last handed out; "" where that is not known.
	LastUsedOn string
	// UnknownSince is when an audit first found that the user pool does not know the user; zero if
	// the last one found them. Only Scan reads it.
	UnknownSince time.Time
	// CommittedAt is when the claim began that made the stored key, which is no older than that;
	// zero where that is not known, as of keys from before it was noted.
	CommittedAt time.Time
	// ReportFrom is from when on the stored key may be reported as rejected again; zero if it never
	// was. ReportPause is how long the pause was that ends then. A commit removes both.
	ReportFrom  time.Time
	ReportPause time.Duration
	// Rotates says that another key is to be made, and Overlap for how long the stored one is to
	// serve on beside it.
	Rotates bool
	Overlap time.Duration
	// Retiring is the key that a rotation has replaced, and that serves on for a while.
	Retiring Retiring
	// RetractedBy is who had the credential removed; "" unless the slot is retracting or off.
	RetractedBy Retractor
	// AskFrom is from when on the user may ask again for what would not be made by itself, or not
	// yet: another key, or one in place of what they gave up. Zero if they never did. AskPause is
	// how long the pause was that ends then.
	AskFrom  time.Time
	AskPause time.Duration
}

// Retiring is a key that was stored before; the zero value is none.
type Retiring struct {
	KeyID string
	// Attempt is the one that made it.
	Attempt int64
	// At is when it is to be deleted.
	At time.Time
}

// The reasons why there is work left. Where a pass failed, the reason is the class of its failure.
const (
	// ReasonLastLook: the resource was deleted, by the third party's own answer, and a last look is
	// due.
	ReasonLastLook = "last_look"
	// ReasonHeldBack: the keys are revoked, and the rest of the resource waits until HeldUntil.
	ReasonHeldBack = "held_back"
	// ReasonNoKey: the slot waits for its provider's org key.
	ReasonNoKey = "no org key is configured"
	// ReasonKeyIsThere: it waited for an org key that is there now.
	ReasonKeyIsThere = "the org key is there"
	// ReasonNoProvider: the slot's provider is not registered.
	ReasonNoProvider = "no such provider is registered"
	// ReasonReported: somebody was refused with the key.
	ReasonReported = "reported"
	// ReasonRejected: somebody was refused with the key, and the third party has it in order:
	// another one is to be made.
	ReasonRejected = "rejected"
	// ReasonUnusable: the third party has the stored key, and says that it does not work.
	ReasonUnusable = "key_unusable"
	// ReasonAudit: an audit's repair has the slot checked.
	ReasonAudit = "audit"
	// ReasonRotation: somebody asked for another key.
	ReasonRotation = "rotation"
	// ReasonDraining: what the slot has is to be removed, because its provider is drained.
	ReasonDraining = "draining"
	// ReasonSuspended: the user is suspended, and nothing of theirs is worked on.
	ReasonSuspended = "suspended"
	// ReasonEnabled: the user is suspended no more.
	ReasonEnabled = "enabled"
	// ReasonOperator: an operator had it tried again.
	ReasonOperator = "an operator asked"
)

// Revoked reports whether all that the slot names was deleted, and nothing but the last look is
// left to do.
func (s Slot) Revoked() bool {
	return (s.State == Revoking || s.State == Retracting) && s.Reason == ReasonLastLook
}

// Key is the slot's primary key.
func (s Slot) Key() Key { return SlotKey(s.User, s.Provider) }

// Settled reports whether nothing sent under the slot can still take effect.
func (s Slot) Settled() bool { return s.LeaseUntil.IsZero() }

// Claimable reports whether the slot may be claimed at the time now: all is settled, or the lease
// has run out by more than the clocks may be apart.
func (s Slot) Claimable(now time.Time) bool {
	return s.Settled() || now.After(s.ClaimableAt())
}

// ClaimableAt is the time after which an unsettled slot may be claimed.
func (s Slot) ClaimableAt() time.Time { return s.LeaseUntil.Add(SkewMargin) }

// Usable reports whether the slot holds a secret that may be handed out: one was stored, and its
// key has not been found to be gone. A ready slot's key serves on while that is only suspected, and
// until another one is stored in its place.
func (s Slot) Usable() bool {
	stored := s.Committed > 0 && s.Resource.KeyID != ""
	switch s.State {
	case Ready:
		return stored
	case Provisioning, Failed:
		return stored && s.GoneSince.IsZero()
	default:
		return false
	}
}

// KeyFails reports whether the stored key is known not to work at the time now: its third party
// said so at the last look, or has let it expire.
func (s Slot) KeyFails(now time.Time) bool {
	expired := !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt)
	return s.Usable() && (s.Reason == ReasonUnusable || expired)
}

// Dead reports whether the slot belongs to a deleted account.
func (s Slot) Dead() bool { return s.State == Revoking || s.State == Parked }

// Ends reports whether all that was made under the slot is to go: it is dead, or retracting.
func (s Slot) Ends() bool { return s.Dead() || s.State == Retracting }

// Disarmed reports whether the slot's keys were revoked because its user was suspended for so long.
// Its resource may still be there.
func (s Slot) Disarmed() bool { return s.State == Off && s.RetractedBy == BySuspension }

// Metadata is the slot as a credential of its user.
func (s Slot) Metadata() credential.Metadata {
	m := credential.Metadata{
		ID:        credential.ManagedID(s.Provider, s.User),
		Provider:  s.Provider,
		Type:      credential.APIKey,
		Title:     &s.Title,
		Managed:   true,
		CreatedAt: seconds(s.CreatedAt),
		ExpiresAt: seconds(s.ExpiresAt),
	}
	if s.Hint != "" {
		m.Hint = &s.Hint
	}
	if s.LastUsedOn != "" {
		m.LastUsedOn = &s.LastUsedOn
	}
	return m
}

// shard is the index's partition in which the slot's work stands.
func (s Slot) shard() string {
	if s.Reason == ReasonNoKey && s.Owner == "" {
		return KeylessShard(s.Provider)
	}
	if s.Dead() {
		return shard(dead, s.Key().PK)
	}
	return shard(living, s.Key().PK)
}

// decodeSlot reads a slot, strictly.
func decodeSlot(item map[string]types.AttributeValue) (Slot, error) {
	key := keyOf(item)
	r := reader{item: item}
	s := Slot{
		User:       key.User(),
		Provider:   key.Provider(),
		Title:      r.text(attrTitle),
		State:      State(r.text(attrState)),
		Owner:      r.textOrEmpty(attrOwner),
		Attempt:    r.number(attrAttempt),
		Tries:      int(r.numberOrZero(attrTries)),
		LeaseUntil: r.timeOrZero(attrLeaseUntil),
		DueAt:      r.timeOrZero(attrDueAt),
		Committed:  r.numberOrZero(attrCommitted),
		Resource:   credential.Resource{ID: r.textOrEmpty(attrResourceID), KeyID: r.textOrEmpty(attrKeyID), OrgID: r.textOrEmpty(attrOrgID)},
		Reason:     r.textOrEmpty(attrReason),
		GoneSince:  r.timeOrZero(attrGoneSince),
		Left:       int(r.numberOrZero(attrLeft)),
		LeftSince:  r.timeOrZero(attrLeftSince),
		HeldUntil:  r.timeOrZero(attrHeldUntil),
		ExpiresAt:  r.timeOrZero(attrExpiresAt),

		CreatedAt:    shownTime(item, attrCreatedAt),
		Hint:         shownText(item, attrHint),
		LastUsedOn:   shownDay(item, attrLastUsed),
		UnknownSince: r.timeOrZero(attrUnknownSince),
		CommittedAt:  shownTime(item, attrCommittedAt),

		ReportFrom:  r.timeOrZero(attrReportFrom),
		ReportPause: time.Duration(r.numberOrZero(attrReportPause)) * time.Millisecond,

		Rotates: r.has(attrRotate),
		Overlap: time.Duration(r.numberOrZero(attrRotate)) * time.Millisecond,

		RetractedBy: Retractor(r.textOrEmpty(attrRetractedBy)),
		AskFrom:     r.timeOrZero(attrAskFrom),
		AskPause:    time.Duration(r.numberOrZero(attrAskPause)) * time.Millisecond,
	}
	if r.has(attrRetiringKeyID) {
		s.Retiring = Retiring{KeyID: r.text(attrRetiringKeyID), Attempt: r.number(attrRetiringAttempt), At: r.timeOrZero(attrRetireAt)}
		r.bad = r.bad || s.Retiring.KeyID == "" || s.Retiring.At.IsZero()
	}
	switch s.State {
	case Provisioning, Ready, Failed, Revoking, Parked:
	case Retracting, Off:
		r.bad = r.bad || s.RetractedBy != ByUser && s.RetractedBy != ByDraining && s.RetractedBy != BySuspension
	default:
		r.bad = true
	}
	if s.Attempt < 0 || s.Tries < 0 || s.Left < 0 || s.ReportPause < 0 || s.Overlap < 0 || s.AskPause < 0 || s.Committed < 0 || s.Committed > s.Attempt {
		r.bad = true
	}
	if r.number(attrVersion) != version || !r.flag(attrManaged) || r.text(attrType) != string(credential.APIKey) || r.bad {
		return Slot{}, ErrUndecodable
	}
	return s, nil
}
