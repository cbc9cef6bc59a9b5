package credential

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// redacted is what a secret looks like wherever it is printed, logged or marshalled.
const redacted = "[redacted]"

// Secret is text that must not leak. It redacts itself in fmt, slog and JSON; Reveal is the only
// way to read it. Two secrets are equal (==) if their texts are; the zero value is the empty one.
type Secret struct {
	// A handle compares as its text does, and holds it behind a pointer. Where fmt does not call
	// Format (for a field that is not exported, or for a verb such as %p) it writes what it finds
	// by reflection: that is then an address.
	value unique.Handle[string]
}

// NewSecret wraps a secret text.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{unique.Make(value)}
}

// Reveal returns the secret itself.
func (s Secret) Reveal() string {
	if s.Empty() {
		return ""
	}
	return s.value.Value()
}

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s == Secret{} }

// String redacts.
func (s Secret) String() string { return redacted }

// Format redacts, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts, in JSON and in every other text encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
