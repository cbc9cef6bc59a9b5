package credential

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what a secret looks like wherever it is printed, logged or marshalled.
const redacted = "[redacted]"

// Secret is text that must not leak. It redacts itself in fmt, slog and JSON; Reveal is the only way to read it.
type Secret struct{ value string }

// NewSecret wraps a secret text.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s.value == "" }

// String redacts.
func (s Secret) String() string { return redacted }

// Format redacts, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts, in JSON and in every other text encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
