package orgkey_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"managed-credentials/shared/orgkey"
)

func FuzzSecret(f *testing.F) {
	const marker = "Zj7q" // stands for a key in the seeds
	for _, secret := range []string{
		``, `null`, `{}`, `[]`, secretOf(marker), `{"agent_mail":""}`, `{"agent_mail":null}`, `{"agent_mail":["Zj7q"]}`, `{"agent_mail":{"key":"Zj7q"}}`,
		`{"Agent_Mail":"Zj7q"}`, `{"agent_mail":"Zj7q"`, `"Zj7q"`, `Zj7q`, `{"agent_mail":"Zj7q"}Zj7q`, `{"agent_mail":"Zj7q","agent_mail":"old"}`,
		`{"agent_mail":" Zj7q\n"}`, `{"agent_mail":"Zj7q\nx"}`, "\ufeff" + secretOf(marker),
	} {
		f.Add(secret)
	}
	s := start(f, secretOf(oldKey))
	f.Fuzz(func(t *testing.T, secret string) {
		if !utf8.ValidString(secret) {
			t.Skip("Secrets Manager hands out text")
		}
		s.secrets.Put(secretID, secret)
		keys := orgkey.New(s.client, secretID, s.clock) // it has fetched nothing yet
		key, err := keys.Key(t.Context(), provider)
		if key.Empty() != (err != nil) {
			t.Errorf("an empty key: %t, %v", key.Empty(), err)
		}
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("the error shows a key: %v", err)
		}
		var all map[string]json.RawMessage
		wrong := json.Unmarshal(bytes.TrimPrefix([]byte(secret), []byte("\ufeff")), &all)
		var text string
		value, ok := all[provider]
		var textless error
		if ok {
			textless = json.Unmarshal(value, &text)
		}
		switch {
		case wrong != nil || all == nil:
			if err == nil || errors.Is(err, orgkey.ErrNone) || errors.Is(err, orgkey.ErrUnusable) {
				t.Errorf("what is no secret of keys was read: %v", err) // a deletion would take it that no key is configured
			}
		case errors.Is(err, orgkey.ErrUnusable):
			if !strings.Contains(err.Error(), provider) {
				t.Errorf("the error does not name the entry: %v", err)
			}
		case textless != nil:
			t.Errorf("what is no text was read: %v", err)
		case strings.TrimSpace(text) == "":
			if !errors.Is(err, orgkey.ErrNone) {
				t.Errorf("no key there, and the error is %v", err)
			}
		case key.Reveal() != strings.TrimSpace(text) || strings.ContainsFunc(key.Reveal(), unicode.IsControl):
			t.Errorf("the key is %q, want %q", key.Reveal(), text)
		}
	})
}
