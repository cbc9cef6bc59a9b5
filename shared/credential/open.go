package credential

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrOpenChanged: what is stored in the clear beside a secret is not what was sealed with it.
// Somebody has changed the item by another way than this service, and the secret must not be handed
// out with it.
var ErrOpenChanged = errors.New("the fields beside the secret are not those that it was sealed with")

// openSum is the member of a sealed plaintext that vouches for the open fields. Whether a plaintext
// has it is said by the plaintext alone: if the item said so, whoever changes the item could ask
// for the form without.
const openSum = "open_sha256"

// WithOpen returns m with a checksum of o, which has to be stored beside it. Versions of this
// service before the one that introduced it cannot read what is sealed so. A type without open
// fields stays as it is.
func (m Material) WithOpen(o Open) Material {
	if hasOpen(m.typ) {
		m.openSum = o.sum()
	}
	return m
}

// CheckOpen returns ErrOpenChanged if m vouches for other open fields than o.
func (m Material) CheckOpen(o Open) error {
	if m.openSum != "" && m.openSum != o.sum() {
		return ErrOpenChanged
	}
	return nil
}

// OpenProven reports whether m vouches for the open fields, or its type has none. It is false for
// what was sealed without WithOpen.
func (m Material) OpenProven() bool { return m.openSum != "" || !hasOpen(m.typ) }

func hasOpen(t Type) bool {
	return slices.ContainsFunc(fieldsOf[t], func(f field) bool { return f.open })
}

// sum is the SHA-256 of the fields, in hexadecimal. Scopes have no white space, and none are as
// good as no list of them: the table keeps them as one text.
func (o *Open) sum() string {
	text, _ := encode([]any{o.Username, strings.Join(o.Scopes, " "), o.Host}) // texts always encode
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// takeOpenSum reads the checksum out of a plaintext's members; "" if there is none.
func takeOpenSum(t Type, all map[string]json.RawMessage) (string, error) {
	raw, ok := all[openSum]
	if !ok {
		return "", nil
	}
	delete(all, openSum)
	var sum string
	err := json.Unmarshal(raw, &sum)
	if err != nil || len(sum) != hex.EncodedLen(sha256.Size) || !hasOpen(t) {
		return "", fmt.Errorf("reading the checksum of the open fields: %w", errShape)
	}
	return sum, nil
}
