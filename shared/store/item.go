package store

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// version is the form of the items that this code reads and writes. An item of another version is
// left alone.
const version = 1

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
	// UnknownSince is when an audit first found that the user pool does not know the user; zero if
	// the last one found them. Only Scan reads it.
	UnknownSince time.Time
	// ReportFrom is from when on the stored key may be reported as rejected again; zero if it never
	// was. ReportPause is how long the pause was that ends then. A commit removes both.
	ReportFrom  time.Time
	ReportPause time.Duration
}

// ReasonLastLook is the reason of a revoking slot whose resource was deleted, by the third party's
// own answer: a last look is due.
const ReasonLastLook = "last_look"

// ReasonHeldBack is the reason of a revoking slot whose keys are revoked, and the rest of whose
// resource waits until HeldUntil.
const ReasonHeldBack = "held_back"

// ReasonNoKey is the reason of a slot that waits for its provider's org key.
const ReasonNoKey = "no org key is configured"

// Revoked reports whether all that the slot names was deleted, and nothing but the last look is
// left to do.
func (s Slot) Revoked() bool { return s.State == Revoking && s.Reason == ReasonLastLook }

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

// Dead reports whether the slot belongs to a deleted account.
func (s Slot) Dead() bool { return s.State == Revoking || s.State == Parked }

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
	return m
}

// asRead is the condition that the slot is still as it was read.
func (s Slot) asRead(values args) string {
	if s.State == Absent {
		return "attribute_not_exists(#pk)"
	}
	condition := "#state = " + values.str("was_state", string(s.State)) + " AND #attempt = " + values.num("was_attempt", s.Attempt)
	if s.Owner == "" {
		condition += " AND attribute_not_exists(#owner)"
	} else {
		condition += " AND #owner = " + values.str("was_owner", s.Owner)
	}
	if s.LeaseUntil.IsZero() {
		return condition + " AND attribute_not_exists(#lease_until)"
	}
	return condition + " AND #lease_until = " + values.time("was_lease", s.LeaseUntil)
}

// mine is the condition that the slot is still under the claim that s describes.
func (s Slot) mine(values args) string {
	return "#owner = " + values.str("mine", s.Owner) + " AND #attempt = " + values.num("my_attempt", s.Attempt) +
		" AND #state = " + values.str("my_state", string(s.State))
}

// ErrUndecodable: the item is not of the form that this code knows.
var ErrUndecodable = errors.New("the item cannot be decoded")

// reader takes attributes out of an item and notes whether any was missing or of the wrong type.
type reader struct {
	item map[string]types.AttributeValue
	bad  bool
}

func (r *reader) has(name string) bool { return r.item[name] != nil }

func (r *reader) str(name string) string {
	value, ok := r.item[name].(*types.AttributeValueMemberS)
	if !ok {
		r.bad = true
		return ""
	}
	return value.Value
}

func (r *reader) optional(name string) *string {
	if !r.has(name) {
		return nil
	}
	value := r.str(name)
	return &value
}

func (r *reader) text(name string) string {
	if !r.has(name) {
		return ""
	}
	return r.str(name)
}

func (r *reader) num(name string) int64 {
	value, ok := r.item[name].(*types.AttributeValueMemberN)
	if !ok {
		r.bad = true
		return 0
	}
	n, err := strconv.ParseInt(value.Value, 10, 64)
	if err != nil {
		r.bad = true
	}
	return n
}

func (r *reader) count(name string) int64 {
	if !r.has(name) {
		return 0
	}
	return r.num(name)
}

func (r *reader) time(name string) time.Time {
	if !r.has(name) {
		return time.Time{}
	}
	n := r.num(name)
	if n <= 0 {
		r.bad = true
	}
	return time.UnixMilli(n)
}

func (r *reader) flag(name string) bool {
	value, ok := r.item[name].(*types.AttributeValueMemberBOOL)
	if !ok {
		r.bad = true
		return false
	}
	return value.Value
}

func keyOf(item map[string]types.AttributeValue) Key {
	r := reader{item: item}
	return Key{r.str("pk"), r.str("sk")}
}

// What is only shown, and nothing depends on, is read leniently: items of before it was stored have
// none of it, and an item that has it in another form is whole without.

func shownTime(item map[string]types.AttributeValue, name string) time.Time {
	r := reader{item: item}
	at := r.time(name)
	if r.bad {
		return time.Time{}
	}
	return at
}

func shownText(item map[string]types.AttributeValue, name string) string {
	r := reader{item: item}
	return r.text(name)
}

func shownTexts(item map[string]types.AttributeValue, name string) []string {
	set, ok := item[name].(*types.AttributeValueMemberSS)
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(set.Value))
}

// seconds is a time in Unix seconds, as the API shows it; nil for the zero time.
func seconds(at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	s := at.Unix()
	return &s
}

// decodeSlot reads a slot, strictly.
func decodeSlot(item map[string]types.AttributeValue) (Slot, error) {
	key := keyOf(item)
	r := reader{item: item}
	s := Slot{
		User:       key.User(),
		Provider:   key.Provider(),
		Title:      r.str("title"),
		State:      State(r.str("state")),
		Owner:      r.text("owner"),
		Attempt:    r.num("attempt"),
		Tries:      int(r.count("tries")),
		LeaseUntil: r.time("lease_until"),
		DueAt:      r.time("due_at"),
		Committed:  r.count("committed"),
		Resource:   credential.Resource{ID: r.text("resource_id"), KeyID: r.text("key_id"), OrgID: r.text("org_id")},
		Reason:     r.text("reason"),
		GoneSince:  r.time("gone_since"),
		Left:       int(r.count("left")),
		LeftSince:  r.time("left_since"),
		HeldUntil:  r.time("held_until"),
		ExpiresAt:  r.time("expires_at"),

		CreatedAt:    shownTime(item, "created_at"),
		Hint:         shownText(item, "hint"),
		UnknownSince: r.time("unknown_since"),

		ReportFrom:  r.time("report_from"),
		ReportPause: time.Duration(r.count("report_pause")) * time.Millisecond,
	}
	switch s.State {
	case Provisioning, Ready, Failed, Revoking, Parked:
	default:
		r.bad = true
	}
	if s.Attempt < 0 || s.Tries < 0 || s.Left < 0 || s.ReportPause < 0 || s.Committed < 0 || s.Committed > s.Attempt {
		r.bad = true
	}
	if r.num("v") != version || !r.flag("autogpt_managed") || r.str("type") != string(credential.APIKey) || r.bad {
		return Slot{}, ErrUndecodable
	}
	return s, nil
}

// firstRevision is that of an item from before there were revisions.
const firstRevision = "0"

// matching is the condition that an item is of one of the revisions; "" for any.
func matching(values args, revisions []string) string {
	if revisions == nil {
		return ""
	}
	condition := " AND (#revision = " + values.str("revision", "none")
	for i, revision := range revisions {
		condition += " OR #revision = " + values.str("revision"+strconv.Itoa(i), revision)
		if revision == firstRevision {
			condition += " OR attribute_not_exists(#revision)"
		}
	}
	return condition + ")"
}

// ownCondition is what decodeOwn requires, as a condition: a write by a user touches no item that a
// list would leave out.
func ownCondition(values args) string {
	condition := "#v = " + values.num("v", version) + " AND #autogpt_managed = " + values.flag("own", false) + " AND #type IN ("
	for i, t := range []credential.Type{credential.APIKey, credential.OAuth2, credential.UserPassword, credential.HostScoped} {
		if i > 0 {
			condition += ", "
		}
		condition += values.str("type"+strconv.Itoa(i), string(t))
	}
	condition += ")"
	text := values.str("text", "S")
	for _, name := range []string{"#title", "#scopes", "#username", "#host"} {
		condition += " AND (attribute_not_exists(" + name + ") OR attribute_type(" + name + ", " + text + "))"
	}
	return condition
}

// decodeOwn reads a user's own credential, strictly, as metadata.
func decodeOwn(item map[string]types.AttributeValue) (credential.Metadata, error) {
	key := keyOf(item)
	r := reader{item: item}
	_, id, _ := strings.Cut(strings.TrimPrefix(key.SK, credentialPrefix), "#")
	m := credential.Metadata{
		ID:       id,
		Provider: key.Provider(),
		Type:     credential.Type(r.str("type")),
		Title:    r.optional("title"),
		Username: r.optional("username"),
		Host:     r.optional("host"),

		CreatedAt: seconds(shownTime(item, "created_at")),
		ExpiresAt: seconds(shownTime(item, "expires_at")),
		Stored:    shownTexts(item, "stored"),
		Revision:  cmp.Or(shownText(item, "revision"), firstRevision),
	}
	if hint := shownText(item, "hint"); hint != "" {
		m.Hint = &hint
	}
	scopes := r.optional("scopes")
	if scopes != nil {
		m.Scopes = strings.Fields(*scopes)
	}
	if r.num("v") != version || r.flag("autogpt_managed") || !m.Type.Valid() || r.bad {
		return credential.Metadata{}, ErrUndecodable
	}
	return m, nil
}
