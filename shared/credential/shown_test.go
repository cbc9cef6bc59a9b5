package credential_test

import (
	"slices"
	"testing"

	"managed-credentials/shared/credential"
)

func TestOnlyTheEndOfALongKeyOfOneLineIsAHint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, hint string }{
		{`{"api_key":"abcdefghijklmnopqrstuvwx"}`, "uvwx"},
		{`{"api_key":"abcdefghijklmnopqrstuvw"}`, ""},
		{`{"api_key":"-----BEGIN PRIVATE KEY-----\nTUFERS1VUA==\n-----END PRIVATE KEY-----"}`, ""},
		{`{"access_token":"abcdefghijklmnopqrstuvwx"}`, ""},
		{`{"username":"ada","password":"abcdefghijklmnopqrstuvwx"}`, ""},
		{`{"host":"example.com","headers":{"X":"abcdefghijklmnopqrstuvwx"}}`, ""},
	} {
		change, err := credential.ParseChange([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		hint := change.Material.Hint()
		if (hint == nil) != (c.hint == "") || hint != nil && *hint != c.hint {
			t.Errorf("%s has the hint %v, want %q", c.body, hint, c.hint)
		}
	}
}

func TestACredentialExpiresWhenNothingOfItCanBeUsedAnyMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body    string
		expires int64
	}{
		{`{"api_key":"a"}`, 0},
		{`{"api_key":"a","expires_at":1893456000}`, 1893456000},
		{`{"access_token":"a","access_token_expires_at":1893456000}`, 1893456000},
		{`{"access_token":"a","access_token_expires_at":1893456000,"refresh_token":"b"}`, 0},
		{`{"access_token":"a","access_token_expires_at":1893456000,"refresh_token":"b","refresh_token_expires_at":1893456001}`, 1893456001},
		{`{"username":"ada","password":"a"}`, 0},
		{`{"host":"example.com","headers":{"X":"a"}}`, 0},
	} {
		change, err := credential.ParseChange([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		at := change.Material.ExpiresAt()
		if (at == nil) != (c.expires == 0) || at != nil && *at != c.expires {
			t.Errorf("%s expires at %v, want %d", c.body, at, c.expires)
		}
	}
}

func TestWhatIsStoredOfASecretIsNamed(t *testing.T) {
	t.Parallel()
	for typ, want := range map[credential.Type][]string{
		credential.APIKey:       {"api_key", "expires_at"},
		credential.OAuth2:       {"access_token", "access_token_expires_at", "refresh_token", "refresh_token_expires_at"},
		credential.UserPassword: {"password", "username"},
		credential.HostScoped:   {"headers.Accept", "headers.X-Key"},
	} {
		wanted, err := credential.ParseNew(whole[typ].body())
		if err != nil || !slices.Equal(wanted.Material.Stored(), want) {
			t.Errorf("of %s there are %v, %v, want %v", typ, wanted.Material.Stored(), err, want)
		}
	}
	wanted, err := credential.ParseNew([]byte(`{"type":"oauth2","access_token":"a","refresh_token":null}`))
	if err != nil || !slices.Equal(wanted.Material.Stored(), []string{"access_token"}) {
		t.Errorf("there are %v, %v", wanted.Material.Stored(), err)
	}
}
