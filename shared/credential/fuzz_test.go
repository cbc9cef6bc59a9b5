package credential_test

import (
	"bytes"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

// fieldNames are all that a FieldError may name.
var fieldNames = []string{"body", "type", "title", "autogpt_managed", "is_managed", "api_key", "expires_at", "access_token", "access_token_expires_at",
	"refresh_token", "refresh_token_expires_at", "username", "scopes", "password", "headers", "host"}

// unknownName is what a field that a credential has not may be named as: it cannot be a secret.
var unknownName = regexp.MustCompile(`^[A-Za-z_-]+$`)

// bodies seeds a fuzz target with what each parser takes, and with some of what it does not.
func bodies(f *testing.F) {
	f.Helper()
	for _, typ := range slices.Sorted(maps.Keys(whole)) {
		f.Add(whole[typ].body())
		f.Add(bytes.ReplaceAll(whole[typ].body(), []byte("-1"), []byte(marker)))
	}
	for _, body := range []string{
		``, `null`, `[]`, `{"title":"x"}`, `{"autogpt_managed":true}`, `{"type":"api_key","api_key":"Zj7q\ud800"}`, `{"Type":"api_key","api_key":{"Zj7q":1}}`,
		`{"type":"oauth2","access_token":"Zj7q","scopes":["Zj7q Zj7q"]}`, `{"type":"host_scoped","host":"Zj7q","headers":{"Zj7q":null}}`,
		"{\"api_key\":\"Zj7q\xff\"}", `{"api_key":"Zj7q","expires_at":"Zj7q"}`,
		`{"api_key":"Zj7q","expiresAt":1}`, `{"api_key":"Zj7q","Zj7q":1,"scope":1}`, "{\"api_key\":\"Zj\u200b7q\"}", `{"api_key":"Bearer Zj7q"}`,
		`{"api_key":"-----BEGIN KEY-----\nZj7q\n"}`, `{"api_key":"{\"Zj7q\":\u0000"}`, `{"host":"https://Zj7q/","headers":{"X":"Zj7q"}}`,
		`{"host":"a","headers":{"X":"Zj7q","x":"Zj7q"}}`, `{"api_key":"Zj7q","expires_at":1893456000000}`, `{"title":"\u2060"}`,
	} {
		f.Add([]byte(body))
	}
}

// checkRefusal checks that an error is one that a user may see.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var field *credential.FieldError
	switch {
	case errors.Is(err, credential.ErrForged):
	case !errors.As(err, &field):
		t.Errorf("the error is of no known type: %v", err)
	case !slices.Contains(fieldNames, field.Field) && !unknownName.MatchString(field.Field):
		t.Errorf("the error names %q, which is no field", field.Field)
	}
	if strings.Contains(err.Error(), marker) {
		t.Errorf("the error shows a secret: %v", err)
	}
}

// checkWhole checks that a material is one that can be stored and read back.
func checkWhole(t *testing.T, m credential.Material) {
	t.Helper()
	plain, err := m.Reveal()
	if errors.Is(err, credential.ErrTooLarge) {
		return
	}
	if err != nil {
		t.Fatalf("what was parsed cannot be revealed: %v", err)
	}
	again, err := credential.ParseMaterial(m.Type(), plain)
	if err != nil || !maps.Equal(revealed(again), revealed(m)) {
		t.Errorf("%s became %s, %v", revealed(m), revealed(again), err)
	}
}

func FuzzBody(f *testing.F) {
	bodies(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		wanted, err := credential.ParseNew(body)
		if err != nil {
			checkRefusal(t, err)
		} else {
			checkWhole(t, wanted.Material)
		}
		change, changeErr := credential.ParseChange(body)
		switch {
		case changeErr != nil:
			checkRefusal(t, changeErr)
			if err == nil {
				t.Errorf("what can be created cannot be the change: %v", changeErr)
			}
		case change.Title == nil && change.Material == nil:
			t.Error("a change that changes nothing was accepted")
		case change.Material != nil:
			checkWhole(t, *change.Material)
		}
	})
}

func FuzzMaterial(f *testing.F) {
	for _, typ := range slices.Sorted(maps.Keys(secrets)) {
		f.Add(string(typ), members(secrets[typ]).with("type", `"`+string(typ)+`"`).body())
		f.Add(string(typ), whole[typ].body())
	}
	f.Add("api_key", []byte(`{"type":"api_key","api_key":"Zj7q","Zj7q":1}`))
	f.Add("", []byte(`{"type":""}`))
	f.Fuzz(func(t *testing.T, typ string, plain []byte) {
		m, err := credential.ParseMaterial(credential.Type(typ), plain)
		if err == nil {
			checkWhole(t, m)
			return
		}
		if !strings.Contains(typ, marker) && strings.Contains(err.Error(), marker) {
			t.Errorf("the error shows a secret: %v", err)
		}
		if m.Type() != "" || len(m.Fields()) != 0 {
			t.Error("an error came with a part of the material")
		}
	})
}
