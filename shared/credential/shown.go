package credential

import (
	"encoding/json"
	"slices"
	"strings"
)

// A hint is the last hintLength characters of an API key that has hintedLength at least: with 20
// that are not shown, those that are help nobody to guess it.
const (
	hintLength   = 4
	hintedLength = 24
)

// Hint is the end of the key of an api_key credential, which is stored and shown in the clear; nil
// for a short key, one of several lines, and every other type. Tokens change too often to be known
// by their ends, and a password's end is a part of it that counts.
func (m Material) Hint() *string {
	if m.typ != APIKey {
		return nil
	}
	var key string
	err := json.Unmarshal([]byte(m.fields["api_key"].Reveal()), &key)
	if err != nil || len(key) < hintedLength || strings.ContainsFunc(key, isNotVisible) {
		return nil
	}
	hint := key[len(key)-hintLength:]
	return &hint
}

// isNotVisible reports whether r is none of the ASCII characters that can be seen.
func isNotVisible(r rune) bool { return r <= ' ' || r > '~' }

// ExpiresAt is until when the credential can be used, in Unix seconds; nil if for ever. An access
// token that can be refreshed is of use until its refresh token expires.
func (m Material) ExpiresAt() *int64 {
	name := "expires_at"
	switch {
	case m.typ == OAuth2 && m.has("refresh_token"):
		name = "refresh_token_expires_at"
	case m.typ == OAuth2:
		name = "access_token_expires_at"
	}
	return m.seconds(name)
}

// seconds is the time that a field holds; nil if there is none.
func (m Material) seconds(name string) *int64 {
	var at *int64
	err := json.Unmarshal([]byte(m.fields[name].Reveal()), &at)
	if err != nil {
		return nil
	}
	return at
}

// Stored names the secret fields that m has, sorted, each header as "headers." and its name.
func (m Material) Stored() []string {
	names := []string{}
	for name := range m.fields {
		if !m.has(name) {
			continue
		}
		if name != headersField {
			names = append(names, name)
			continue
		}
		var headers map[string]json.RawMessage
		_ = json.Unmarshal([]byte(m.fields[name].Reveal()), &headers) // it was made by encoding a map
		for header := range headers {
			names = append(names, headersField+"."+header)
		}
	}
	slices.Sort(names)
	return names
}

const headersField = "headers"

func (m Material) has(name string) bool { return !isNull(json.RawMessage(m.fields[name].Reveal())) }
