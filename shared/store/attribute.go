package store

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// version is the form of the items that this code reads and writes. An item of another version is
// left alone.
const version = 1

// The attributes, by the items that have them. In an expression a name has a # before it: see
// names.
const (
	// Every item.
	attrPK      = "pk"
	attrSK      = "sk"
	attrVersion = "v"

	// Credentials and slots.
	attrType      = "type"
	attrTitle     = "title"
	attrManaged   = "autogpt_managed"
	attrSecret    = "secret"
	attrCreatedAt = "created_at"
	attrExpiresAt = "expires_at"
	attrHint      = "hint"
	attrLastUsed  = "last_used_on"

	// Users' own credentials.
	attrScopes   = "scopes"
	attrUsername = "username"
	attrHost     = "host"
	attrStored   = "stored"
	attrRevision = "revision"
	attrRequest  = "request"

	// Slots.
	attrState        = "state"
	attrOwner        = "owner"
	attrAttempt      = "attempt"
	attrTries        = "tries"
	attrLeaseUntil   = "lease_until"
	attrCommitted    = "committed"
	attrResourceID   = "resource_id"
	attrKeyID        = "key_id"
	attrOrgID        = "org_id"
	attrReason       = "reason"
	attrGoneSince    = "gone_since"
	attrLeft         = "left"
	attrLeftSince    = "left_since"
	attrHeldUntil    = "held_until"
	attrUnknownSince = "unknown_since"
	attrCommittedAt  = "committed_at"
	attrReportFrom   = "report_from"
	attrReportPause  = "report_pause"
	attrRetractedBy  = "retracted_by"
	attrAskFrom      = "ask_from"
	attrAskPause     = "ask_pause"

	// A rotation of a slot's key.
	attrRotate          = "rotate"
	attrRetiringKeyID   = "retiring_key_id"
	attrRetiringAttempt = "retiring_attempt"
	attrRetireAt        = "retire_at"

	// What is due.
	attrDueShard = "due_shard"
	attrDueAt    = "due_at"

	// Tombstones.
	attrCognitoUsername = "cognito_username"
	attrAsks            = "asks"

	// Suspensions, which stand where a tombstone would.
	attrStatus     = "status"
	attrByOperator = "by_operator"
	attrByCognito  = "by_cognito"
	attrOrderedBy  = "ordered_by"

	// Jobs.
	attrCursor   = "cursor"
	attrProgress = "progress"
)

// ErrUndecodable: the item is not of the form that this code knows.
var ErrUndecodable = errors.New("the item cannot be decoded")

// reader takes attributes out of an item and notes whether any was missing or of the wrong type.
type reader struct {
	item map[string]types.AttributeValue
	bad  bool
}

func (r *reader) has(name string) bool { return r.item[name] != nil }

func (r *reader) text(name string) string {
	value, ok := r.item[name].(*types.AttributeValueMemberS)
	if !ok {
		r.bad = true
		return ""
	}
	return value.Value
}

func (r *reader) textOrNil(name string) *string {
	if !r.has(name) {
		return nil
	}
	value := r.text(name)
	return &value
}

func (r *reader) textOrEmpty(name string) string {
	if !r.has(name) {
		return ""
	}
	return r.text(name)
}

func (r *reader) number(name string) int64 {
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

func (r *reader) numberOrZero(name string) int64 {
	if !r.has(name) {
		return 0
	}
	return r.number(name)
}

func (r *reader) timeOrZero(name string) time.Time {
	if !r.has(name) {
		return time.Time{}
	}
	n := r.number(name)
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
	return Key{r.text(attrPK), r.text(attrSK)}
}

// What is only shown, and nothing depends on, is read leniently: items of before it was stored have
// none of it, and an item that has it in another form is whole without.

func shownTime(item map[string]types.AttributeValue, name string) time.Time {
	r := reader{item: item}
	at := r.timeOrZero(name)
	if r.bad {
		return time.Time{}
	}
	return at
}

func shownText(item map[string]types.AttributeValue, name string) string {
	r := reader{item: item}
	return r.textOrEmpty(name)
}

// shownDay is a day, such as "2026-11-30"; "" for none.
func shownDay(item map[string]types.AttributeValue, name string) string {
	day := shownText(item, name)
	_, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return ""
	}
	return day
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
