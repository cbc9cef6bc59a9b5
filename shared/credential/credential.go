// Package credential says what a credential is: its kinds and types, the names it goes by, what of
// it may be shown, what of it is secret, and the errors that every part of the service speaks of.
// It does no I/O.
package credential

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Type is the form of a credential: which fields it has. The values are those of AutoGPT's API.
type Type string

// The four types.
const (
	APIKey       Type = "api_key"
	OAuth2       Type = "oauth2"
	UserPassword Type = "user_password"
	HostScoped   Type = "host_scoped"
)

// Valid reports whether t is one of the four types.
func (t Type) Valid() bool {
	_, ok := fieldsOf[t]
	return ok
}

// Metadata is all of a credential that an API answer may show: never a secret. Username and Scopes
// belong to oauth2 alone and Host to host_scoped alone; they are null otherwise.
type Metadata struct {
	ID       string   `json:"id"`
	Provider string   `json:"provider"`
	Type     Type     `json:"type"`
	Title    *string  `json:"title"`
	Scopes   []string `json:"scopes"`
	Username *string  `json:"username"`
	Host     *string  `json:"host"`
	// Managed is true for a credential that the platform made for this one user. The user sees and
	// uses it, and cannot change it. AutoGPT's clients read it as is_managed, its first drafts as
	// autogpt_managed: an answer has both.
	Managed bool `json:"autogpt_managed"`
	// System is true for a credential of the platform's own, the same for all users, which nobody
	// changes over this API.
	System bool `json:"is_system"`
	// CreatedAt is when it was first stored or claimed, in Unix seconds; nil where that is not
	// known.
	CreatedAt *int64 `json:"created_at"`
	// ExpiresAt is until when it can be used, in Unix seconds; nil if for ever, or where that is
	// not known.
	ExpiresAt *int64 `json:"expires_at"`
	// Hint is the end of an API key, for people to tell two keys apart; nil where there is none.
	Hint *string `json:"hint"`
	// Stored names the secret fields that there are, each header as "headers." and its name; nil
	// where that is not known.
	Stored []string `json:"stored"`
	// LastUsedOn is the day, in UTC, on which its secret was last handed out, such as "2026-11-30";
	// nil where that is not known.
	LastUsedOn *string `json:"last_used_on"`
	// Revision is another one after each change. It is an ETag's text.
	Revision string `json:"-"`
}

// MarshalJSON shows the metadata under the API's names.
func (m Metadata) MarshalJSON() ([]byte, error) {
	type fields Metadata
	return json.Marshal(struct {
		fields
		IsManaged bool `json:"is_managed"`
	}{fields(m), m.Managed})
}

// Open is the part of the metadata that goes out with the secret.
func (m Metadata) Open() Open { return Open{Username: m.Username, Scopes: m.Scopes, Host: m.Host} }

// Resource names what was made for one user at a third party.
type Resource struct {
	// ID is the third party's id of what holds the key (a pod, a service account), or of the key
	// itself where nothing holds it.
	ID string
	// KeyID is the third party's id of the key that is stored.
	KeyID string
	// OrgID is the organisation that the resource belongs to: a key of another organisation gets
	// 404 for it, which proves nothing.
	OrgID string
}

// MaxUserIDLength is how many characters a user id may have. A user id is otherwise opaque.
const MaxUserIDLength = 256

// ValidUserID reports whether s can be a user id: not empty, valid UTF-8, at most MaxUserIDLength
// characters, and all of them to be seen: no blank, line break or control character, which would
// make another user of one that looks the same. U+FFFD is none, either: it stands for what could
// not be read, and would make one user of several.
func ValidUserID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, isNoIDs) && utf8.RuneCountInString(s) <= MaxUserIDLength
}

func isNoIDs(r rune) bool { return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r) }

// UserID is the user id that somebody typed or recorded: a UUID in capitals is the same one in
// lower case, as Cognito writes a sub. What can be no user id is a *FieldError.
func UserID(s string) (string, error) {
	lower := strings.ToLower(s)
	if IsSub(lower) {
		return lower, nil
	}
	if !ValidUserID(s) {
		return "", &FieldError{"user_id", fmt.Sprintf("must be a text of 1 to %d characters, without blanks and control characters", MaxUserIDLength)}
	}
	return s, nil
}

// IsSub reports whether a user id has the form of a Cognito sub: a UUID in lower case.
func IsSub(s string) bool { return lowerUUID.MatchString(s) }

var (
	providerName = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)
	lowerUUID    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// ValidProvider reports whether s has the form of a provider's name.
func ValidProvider(s string) bool { return providerName.MatchString(s) }

// ValidID reports whether s has the form of a credential's id: a UUID in lower case.
func ValidID(s string) bool { return lowerUUID.MatchString(s) }

// namespace is this service's own, so that its version-5 UUIDs meet nobody else's. To change it
// would give every managed and every system credential another id.
var namespace = uuid.MustParse("6f1c1d0a-8f0e-4c56-9d0b-2f3b7a5f4e21")

// ManagedID is the id of a user's managed credential at a provider: always the same one, so that it
// is known before anything exists and outlives every re-provisioning. A provider's name has no '#',
// so no two pairs share an id.
func ManagedID(provider, userID string) string {
	return uuid.NewSHA1(namespace, []byte(provider+"#"+userID)).String()
}

// SystemID is the id of the platform's own credential for a provider: the same for every user. No
// user's managed id can equal it, since a user id is never empty.
func SystemID(provider string) string {
	return uuid.NewSHA1(namespace, []byte(provider+"#")).String()
}

// NewID is a fresh random id for a user's own credential.
func NewID() string { return uuid.NewString() }

// RepeatedID is the id of the credential that a user's request with an Idempotency-Key makes: the
// same one for a repeat. It is of another UUID version than a managed, a system and a random id,
// and so equals none of them.
func RepeatedID(user, provider, key string) string {
	name, _ := json.Marshal([]string{user, provider, key}) // texts always marshal
	return uuid.NewHash(sha256.New(), namespace, name, 8).String()
}

// System is the platform's own credential for a provider, as it is listed.
func System(provider, title string) Metadata {
	return Metadata{ID: SystemID(provider), Provider: provider, Type: APIKey, Title: &title, System: true}
}
