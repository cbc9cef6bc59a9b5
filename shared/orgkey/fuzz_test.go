package orgkey_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"managed-credentials/shared/orgkey"
)

func FuzzSecret(f *testing.F) {
	const marker = "Zj7q" // stands for a key in the seeds
	for _, secret := range []string{
		``, `null`, `{}`, `[]`, secretOf(marker), `{"agent_mail":""}`, `{"agent_mail":null}`, `{"agent_mail":["Zj7q"]}`, `{"agent_mail":{"key":"Zj7q"}}`,
		`{"Agent_Mail":"Zj7q"}`, `{"agent_mail":"Zj7q"`, `"Zj7q"`, `Zj7q`, `{"agent_mail":"Zj7q"}Zj7q`, `{"agent_mail":"Zj7q","agent_mail":"old"}`,
	} {
		f.Add(secret)
	}
	s := start(f, secretOf(oldKey))
	f.Fuzz(func(t *testing.T, secret string) {
		s.secrets.Put(secretID, secret)
		keys := orgkey.New(s.client, secretID, s.clock) // it has fetched nothing yet
		key, err := keys.Key(t.Context(), provider)
		if key.Empty() != (err != nil) {
			t.Errorf("an empty key: %t, %v", key.Empty(), err)
		}
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("the error shows a key: %v", err)
		}
		var texts map[string]string
		wrong := json.Unmarshal([]byte(secret), &texts)
		switch {
		case wrong != nil || texts == nil:
			if err == nil || errors.Is(err, orgkey.ErrNone) {
				t.Errorf("what is no secret of keys was read: %v", err) // a deletion would take it that no key is configured
			}
		case texts[provider] == "":
			if !errors.Is(err, orgkey.ErrNone) {
				t.Errorf("no key there, and the error is %v", err)
			}
		case key.Reveal() != texts[provider]:
			t.Errorf("the key is %q, want %q", key.Reveal(), texts[provider])
		}
	})
}
