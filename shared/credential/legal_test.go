package credential_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
)

// pasted is a file as people paste it. What is in it is made up.
func pasted(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "pasted", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// quoted is a text in JSON.
func quoted(t *testing.T, text string) string {
	t.Helper()
	raw, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// kept is how a secret text was taken, or the error.
func kept(t *testing.T, body, field string) (string, error) {
	t.Helper()
	_, err := credential.ParseNew([]byte(body))
	change, changeErr := credential.ParseChange([]byte(body))
	if (err == nil) != (changeErr == nil) || err != nil && err.Error() != changeErr.Error() {
		t.Errorf("%s is %v to be created, and %v as a change", body, err, changeErr)
	}
	if changeErr != nil {
		return "", changeErr
	}
	if change.Material.Fields()[field] == nil {
		return *change.Open.Host, nil
	}
	var text string
	err = json.Unmarshal(change.Material.Fields()[field], &text)
	if err != nil {
		t.Fatal(err)
	}
	return text, nil
}

func TestAFileIsKeptByteForByte(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"private-key.pem", "id_ed25519", "service-account.json"} {
		for body, field := range map[string]string{
			`{"type":"api_key","api_key":` + quoted(t, pasted(t, name)) + `}`:                         "api_key",
			`{"type":"user_password","username":"ada","password":` + quoted(t, pasted(t, name)) + `}`: "password",
		} {
			got, err := kept(t, body, field)
			if err != nil || got != pasted(t, name) {
				t.Errorf("%s as %s is kept as %q, %v", name, field, got, err)
			}
		}
	}
	for _, name := range []string{"token-of-25-groups", "refresh-token"} {
		got, err := kept(t, `{"type":"oauth2","access_token":"a","refresh_token":`+quoted(t, pasted(t, name))+`}`, "refresh_token")
		if err != nil || got != pasted(t, name) {
			t.Errorf("%s is kept as %q, %v", name, got, err)
		}
	}
}

func TestWhatGoesIntoAHeaderIsTrimmedAndAPasswordIsNot(t *testing.T) {
	t.Parallel()
	const blanks = " \t\r\n\u00a0\u202f\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u2066\u3000"
	padded := quoted(t, blanks+"a key\tb"+blanks)
	for body, field := range map[string]string{
		`{"type":"api_key","api_key":` + padded + `}`:                         "api_key",
		`{"type":"oauth2","access_token":` + padded + `}`:                     "access_token",
		`{"type":"oauth2","access_token":"a","refresh_token":` + padded + `}`: "refresh_token",
	} {
		got, err := kept(t, body, field)
		if err != nil || got != "a key\tb" {
			t.Errorf("%s is kept as %q, %v", field, got, err)
		}
	}
	change, err := credential.ParseChange([]byte(`{"host":"\u00a0Example.COM\n","headers":{"X-Key":` + padded + `}}`))
	if err != nil || revealed(*change.Material)["headers"] != `{"X-Key":"a key\tb"}` || *change.Open.Host != "example.com" {
		t.Errorf("a header is kept as %v, %v", change, err)
	}
	got, err := kept(t, `{"type":"user_password","username":"ada","password":`+padded+`}`, "password")
	if err != nil || got != blanks+"a key\tb"+blanks {
		t.Errorf("a password is kept as %q, %v", got, err)
	}
}

func TestWhatIsPastedWithASecretIsPointedOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, field, text, says string }{
		{"api_key", "api_key", "abc\u200bdef", "api_key: character 4 is a zero-width space"},
		{"api_key", "api_key", "\u200b ab\u2060c", "api_key: character 5 is a zero-width no-break space"},
		{"api_key", "api_key", "ab\u00a0c", "api_key: character 3 is a no-break or other special space"},
		{"api_key", "api_key", "ab\ncd", "api_key: character 3 is a line break"},
		{"api_key", "api_key", "ab\x00", "api_key: character 3 is a control character"},
		{"api_key", "api_key", "\u200eab\u200fc", "api_key: character 4 is a mark of direction"},
		{"api_key", "api_key", "“sk-1”", "api_key: character 1 is a curly quote"},
		{"api_key", "api_key", "clé", "api_key: character 3 is not a letter, digit or sign of ASCII, which is all that an HTTP header carries"},
		{"api_key", "api_key", " \u200b\ufeff", "api_key: must not be empty"},
		{"api_key", "api_key", "Bearer sk-1", `api_key: begins with "Bearer ", which is no part of it: leave that out`},
		{"api_key", "api_key", "-----BEGIN KEY-----\n\x00", "api_key: character 21 is a control character"},
		{"oauth2", "access_token", "\u00a0bEARER\tat", `access_token: begins with "Bearer ", which is no part of it: leave that out`},
		{"oauth2", "access_token", "-----BEGIN KEY-----\nx", "access_token: character 20 is a line break"},
		{"user_password", "password", "a\x00", "password: character 2 is a control character"},
		{"user_password", "password", "a\u0085", "password: character 2 is a control character"},
		{"host_scoped", "host", "https://example.com/x", "host: must be a host name such as api.example.com, not a URL"},
		{"host_scoped", "host", "exa mple.com", "host: must be a host name such as api.example.com or *.example.com, with a port behind it if need be"},
		{"host_scoped", "host", "example.com:0", "host: must be a host name such as api.example.com or *.example.com, with a port behind it if need be"},
	} {
		all := members{"type": quoted(t, c.typ), c.field: quoted(t, c.text)}
		switch c.typ {
		case "user_password":
			all["username"] = `"ada"`
		case "host_scoped":
			all["headers"] = `{"X":"a"}`
		}
		_, err := kept(t, string(all.body()), c.field)
		if err == nil || err.Error() != c.says {
			t.Errorf("%q: %v, want %s", c.text, err, c.says)
		}
	}
}

func TestWhatMayBeAHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"example.com", "*.example.com", "localhost", "127.0.0.1", "[::1]", "[::1]:8080", "a_b.example.com:8443", "xn--mnchen-3ya.de"} {
		got, err := kept(t, `{"type":"host_scoped","host":"`+host+`","headers":{"X":"a"}}`, "host")
		if err != nil || got != host {
			t.Errorf("%s is kept as %q, %v", host, got, err)
		}
	}
}

func TestHeadersHaveNamesOfTheirOwnAndValues(t *testing.T) {
	t.Parallel()
	for headers, says := range map[string]string{
		`{"X Key":"a"}`:           "headers: must have names of letters, digits and !#$%&'*+-.^_`|~ alone",
		`{"X-Key:":"a"}`:          "headers: must have names of letters, digits and !#$%&'*+-.^_`|~ alone",
		`{"":"a"}`:                "headers: must have names of letters, digits and !#$%&'*+-.^_`|~ alone",
		`{"X-Key":"a","x-key":1}`: "headers: must not have one name twice, in whatever case",
		`{"X-Key":""}`:            "headers: must have a value for every name",
		`{"X-Key":" \u200b"}`:     "headers: must have a value for every name",
		`{"X-Key":"a\nb"}`:        "headers: must have values that a header carries: character 2 is a line break",
	} {
		_, err := kept(t, `{"type":"host_scoped","host":"example.com","headers":`+headers+`}`, "headers")
		if err == nil || err.Error() != says {
			t.Errorf("%s: %v, want %s", headers, err, says)
		}
	}
	change, err := credential.ParseChange([]byte(`{"host":"example.com","headers":{"Authorization":"Bearer a"}}`))
	if err != nil || revealed(*change.Material)["headers"] != `{"Authorization":"Bearer a"}` {
		t.Errorf("the scheme is a part of the value: %v, %v", change, err)
	}
}

func TestAnExpiryIsATimeThatIsMeant(t *testing.T) {
	t.Parallel()
	for value, says := range map[string]string{
		"946684799":     "expires_at: is before the year 2000: it is a time in Unix seconds",
		"253402300800":  "expires_at: is after the year 9999: it is a time in Unix seconds, not in milliseconds",
		"1893456000000": "expires_at: is after the year 9999: it is a time in Unix seconds, not in milliseconds",
		"1893456000.5":  "expires_at: must be a time in Unix seconds, a whole number, or null",
		"946684800":     "", "253402300799": "", "1893456000.0": "", "1.893456e9": "",
	} {
		_, err := credential.ParseNew([]byte(`{"type":"api_key","api_key":"a","expires_at":` + value + `}`))
		if says == "" && err != nil || says != "" && (err == nil || err.Error() != says) {
			t.Errorf("%s: %v, want %q", value, err, says)
		}
	}
	change, err := credential.ParseChange([]byte(`{"api_key":"a","expires_at":1893456000.0}`))
	if err != nil || revealed(*change.Material)["expires_at"] != "1893456000" {
		t.Errorf("a float is kept as %v, %v", change, err)
	}
	for now, refused := range map[int64]bool{1893455999: false, 1893456000: true} {
		err := change.Material.CheckExpiry(time.Unix(now, 0))
		var field *credential.FieldError
		if refused != (errors.As(err, &field) && field.Field == "expires_at") {
			t.Errorf("at %d: %v", now, err)
		}
	}
}

func TestAnUnknownFieldIsNamedWithWhatWasMeant(t *testing.T) {
	t.Parallel()
	for body, says := range map[string]string{
		`{"type":"api_key","api_key":"a","expiresAt":5}`:    "expiresAt: is not a field of type api_key: expires_at is probably meant",
		`{"type":"api_key","api_key":"a","expire_at":null}`: "expire_at: is not a field of type api_key: expires_at is probably meant",
		`{"type":"api_key","api_key":"a","expires_in":5}`:   "expires_in: is not a field of type api_key: expires_at is probably meant",
		`{"type":"oauth2","access_token":"a","expires_at":5,"scope":"repo"}`: "expires_at: is not a field of type oauth2: access_token_expires_at is probably meant" +
			"; scope: is not a field of type oauth2: scopes is probably meant",
		`{"type":"api_key","api_key":"a","access_token_expires_at":5}`: "access_token_expires_at: is not a field of type api_key: expires_at is probably meant",
		`{"type":"api_key","api_key":"a","colour":5}`:                  "colour: is not a field of type api_key",
		`{"type":"api_key","api_key":"a","sk-1":5}`:                    "body: has a field that is none of a credential",
		`{"type":"api_key","api_key":"a","username":null}`:             "username: is not a field of type api_key",
	} {
		_, err := credential.ParseNew([]byte(body))
		if says == "" && err != nil || says != "" && (err == nil || err.Error() != says) {
			t.Errorf("%s: %v, want %q", body, err, says)
		}
	}
}

func TestATitleThatNobodySeesIsNone(t *testing.T) {
	t.Parallel()
	for _, title := range []string{"", " ", "\u200b", "\u00a0\u2060\ufeff", "\u3164", "\u115f", "\u2800", "\u00ad", "\ufe0f", "\u202e", "\x00"} {
		wantField(t, []byte(`{"type":"api_key","api_key":"a","title":`+quoted(t, title)+`}`), "title")
	}
	for _, title := range []string{"a", "-", "ß", "名", "👩\u200d💻", " a "} {
		_, err := credential.ParseNew([]byte(`{"type":"api_key","api_key":"a","title":` + quoted(t, title) + `}`))
		if err != nil {
			t.Errorf("%q: %v", title, err)
		}
	}
}

// What was stored before a rule is still what it was.
func TestARuleForWhatComesInIsNoneForWhatIsStored(t *testing.T) {
	t.Parallel()
	for typ, plain := range map[credential.Type]string{
		credential.APIKey:     `{"api_key":"Bearer a\u0000\u200b","expires_at":5,"type":"api_key"}`,
		credential.HostScoped: `{"headers":{"":"","X Y":"é"},"type":"host_scoped"}`,
	} {
		m, err := credential.ParseMaterial(typ, []byte(plain))
		if err != nil || strings.Contains(string(reveal(t, m)), "\n") {
			t.Errorf("%s: %v", plain, err)
		}
	}
}
