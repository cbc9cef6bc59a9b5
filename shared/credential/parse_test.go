package credential_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"

	"pgregory.net/rapid"

	"managed-credentials/shared/credential"
)

// members is a JSON object, each value as its JSON text.
type members map[string]string

func (m members) body() []byte {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%q: %s", name, m[name]))
	}
	return []byte("{" + strings.Join(parts, ", ") + "}")
}

// with is m with one more value, or another one; an empty value leaves the name out.
func (m members) with(name, value string) members {
	changed := maps.Clone(m)
	changed[name] = value
	if value == "" {
		delete(changed, name)
	}
	return changed
}

// whole is a credential of each type with every field that it can have.
var whole = map[credential.Type]members{
	credential.APIKey: {"type": `"api_key"`, "title": `"My key"`, "api_key": `"sk-1"`, "expires_at": `1893456000`},
	credential.OAuth2: {"type": `"oauth2"`, "title": `"My login"`, "access_token": `"at-1"`, "access_token_expires_at": `1893456000`,
		"refresh_token": `"rt-1"`, "refresh_token_expires_at": `1893456001`, "username": `"ada"`, "scopes": `["repo", "user:email"]`},
	credential.UserPassword: {"type": `"user_password"`, "title": `"My account"`, "username": `"ada"`, "password": `"pw-1"`},
	credential.HostScoped:   {"type": `"host_scoped"`, "title": `"My host"`, "host": `"example.com"`, "headers": `{"X-Key": "h-1", "Accept": "h-2"}`},
}

// required are the fields that each type has to have. The first one alone tells the type.
var required = map[credential.Type][]string{
	credential.APIKey:       {"api_key"},
	credential.OAuth2:       {"access_token"},
	credential.UserPassword: {"password", "username"},
	credential.HostScoped:   {"headers", "host"},
}

// secrets are the sealed fields of the credentials above.
var secrets = map[credential.Type]map[string]string{
	credential.APIKey: {"api_key": `"sk-1"`, "expires_at": `1893456000`},
	credential.OAuth2: {"access_token": `"at-1"`, "access_token_expires_at": `1893456000`,
		"refresh_token": `"rt-1"`, "refresh_token_expires_at": `1893456001`},
	credential.UserPassword: {"username": `"ada"`, "password": `"pw-1"`},
	credential.HostScoped:   {"headers": `{"Accept":"h-2","X-Key":"h-1"}`},
}

// revealed are a material's fields as texts.
func revealed(m credential.Material) map[string]string {
	all := map[string]string{}
	for name, value := range m.Fields() {
		all[name] = string(value)
	}
	return all
}

// parsers are both ways to read a body, as far as their errors go.
var parsers = map[string]func([]byte) error{
	"ParseNew": func(body []byte) error {
		_, err := credential.ParseNew(body)
		return err
	},
	"ParseChange": func(body []byte) error {
		_, err := credential.ParseChange(body)
		return err
	},
}

// wantField checks that each parser blames the given field for the body.
func wantField(t *testing.T, body []byte, field string) {
	t.Helper()
	for name, parse := range parsers {
		err := parse(body)
		var wrong *credential.FieldError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s of %.100q returned %v, want it to name %s", name, body, err, field)
		}
	}
}

func str(s string) *string { return &s }

func TestANewCredentialHasTheFieldsOfItsType(t *testing.T) {
	t.Parallel()
	open := map[credential.Type]credential.Open{
		credential.OAuth2:     {Username: str("ada"), Scopes: []string{"repo", "user:email"}},
		credential.HostScoped: {Host: str("example.com")},
	}
	titles := map[credential.Type]string{
		credential.APIKey: "My key", credential.OAuth2: "My login", credential.UserPassword: "My account", credential.HostScoped: "My host",
	}
	for typ, all := range whole {
		wanted, err := credential.ParseNew(all.body())
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		if wanted.Material.Type() != typ || wanted.Title == nil || *wanted.Title != titles[typ] || !reflect.DeepEqual(wanted.Open, open[typ]) {
			t.Errorf("%s: got %+v of type %s", typ, wanted, wanted.Material.Type())
		}
		if !maps.Equal(revealed(wanted.Material), secrets[typ]) {
			t.Errorf("%s: the secret fields are %s", typ, revealed(wanted.Material))
		}
	}
}

func TestOptionalFieldsMayBeLeftOutOrNull(t *testing.T) {
	t.Parallel()
	for typ, all := range whole {
		for name := range all {
			if name == "type" || slices.Contains(required[typ], name) {
				continue
			}
			for _, value := range []string{"", "null", " \n null "} {
				wanted, err := credential.ParseNew(all.with(name, value).body())
				if err != nil {
					t.Errorf("%s with %s as %q: %v", typ, name, value, err)
					continue
				}
				_, secret := secrets[typ][name]
				if secret && revealed(wanted.Material)[name] != "null" {
					t.Errorf("%s with %s as %q has it as %s", typ, name, value, revealed(wanted.Material)[name])
				}
				if name == "title" && wanted.Title != nil || name == "username" && wanted.Open.Username != nil {
					t.Errorf("%s with %s as %q: got %+v", typ, name, value, wanted)
				}
				if name == "scopes" && (wanted.Open.Scopes == nil || len(wanted.Open.Scopes) != 0) {
					t.Errorf("%s with %s as %q has the scopes %#v, want an empty list that is not nil", typ, name, value, wanted.Open.Scopes)
				}
			}
		}
	}
}

// What is stored in the clear has to stay small whichever of its parts an update changes: a title
// that has to fit later is reckoned with.
func TestTheCleartextOfACredentialHasAtMost4KB(t *testing.T) {
	t.Parallel()
	body := func(scopes int) []byte {
		return whole[credential.OAuth2].with("username", `"`+strings.Repeat("é", 256)+`"`).
			with("scopes", `["`+strings.Repeat("s", scopes-3)+`", "é"]`).body() // a space is between them
	}
	_, err := credential.ParseNew(body(3072 - 512))
	if err != nil {
		t.Errorf("3,072 bytes: %v", err)
	}
	_, created := credential.ParseNew(body(3073 - 512))
	_, updated := credential.ParseChange(body(3073 - 512))
	for name, err := range map[string]error{"create": created, "update": updated} {
		if !errors.Is(err, credential.ErrOpenTooLarge) {
			t.Errorf("%s of 3,073 bytes: %v", name, err)
		}
	}
}

func TestEachMissingFieldIsNamed(t *testing.T) {
	t.Parallel()
	for typ, fields := range required {
		for _, field := range fields {
			wantField(t, whole[typ].with(field, "").body(), field)
			wantField(t, whole[typ].with(field, "null").body(), field)
		}
	}
	_, err := credential.ParseNew(whole[credential.APIKey].with("type", "").body())
	var wrong *credential.FieldError
	if !errors.As(err, &wrong) || wrong.Field != "type" {
		t.Errorf("without a type ParseNew returned %v", err)
	}
}

func TestEachWrongFieldIsNamed(t *testing.T) {
	t.Parallel()
	tooLong := `"` + strings.Repeat("😀", 257) + `"`
	var (
		noText  = []string{`1`, `1.5`, `true`, `false`, `[]`, `["a"]`, `{}`, `{"a": "b"}`, `"\ud800"`, `"a\udc00\ud800"`, "\"\ufffd\"", `"\uFFFD"`}
		noLabel = append([]string{tooLong}, noText...)
		noKey   = append([]string{`""`}, noText...)
		noTime  = []string{`"1893456000"`, `1.5`, `-1`, `1e3`, `9223372036854775808`, `true`, `[]`, `{}`, `""`}
	)
	for name, values := range map[string][]string{
		"type":  {`""`, `"API_KEY"`, `"api_key "`, `"basic"`, `1`, `true`, `[]`, `["api_key"]`, `{}`},
		"title": noLabel, "host": append([]string{`""`}, noLabel...),
		"api_key": noKey, "access_token": noKey, "refresh_token": noKey, "password": noKey,
		"expires_at": noTime, "access_token_expires_at": noTime, "refresh_token_expires_at": noTime,
		"scopes":  {`"repo"`, `1`, `{}`, `true`, `[1]`, `[null]`, `[""]`, `["a b"]`, `["a\tb"]`, `["a\u00a0b"]`, `["a\u2028b"]`, `[["a"]]`, `["\ud800"]`},
		"headers": {`"X-Key: a"`, `1`, `[]`, `{}`, `true`, `{"a": 1}`, `{"a": null}`, `{"a": ["b"]}`, `{"a": {}}`, `{"a": "\ud800"}`, `{"\ud800": "a"}`},
	} {
		for typ, all := range whole {
			_, ok := all[name]
			if !ok {
				continue
			}
			for _, value := range values {
				wantField(t, whole[typ].with(name, value).body(), name)
			}
		}
	}
	for _, value := range noLabel {
		wantField(t, whole[credential.OAuth2].with("username", value).body(), "username")
	}
	for _, value := range noKey {
		wantField(t, whole[credential.UserPassword].with("username", value).body(), "username")
	}
}

func TestALabelMayHave256Characters(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("😀", 256)
	wanted, err := credential.ParseNew(whole[credential.OAuth2].with("title", `"`+longest+`"`).with("username", `"`+longest+`"`).body())
	if err != nil || *wanted.Title != longest || *wanted.Open.Username != longest {
		t.Errorf("got %v, %v", wanted, err)
	}
}

func TestABodyThatIsNoJSONObjectIsNamed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, ` `, `null`, `true`, `1`, `"{}"`, `[]`, `[{}]`, `{}{}`, `{} x`, `{"title": "a",}`, `{title: "a"}`, `{'title': 'a'}`, "\ufeff\ufeff{}",
		"{\"title\": \"a\nb\"}", `{"title": "\x41"}`, `{"title": nul}`, `{"title": 01}`, `{"title": NaN}`, `{"title"}`, `{"a": }`,
		"{\"title\": \"\xff\"}", "{\"\xff\": 1}", "{\"api_key\": \"a\xc3\x28\"}", "\xff\xfe{\x00}\x00",
		strings.Repeat("[", 1<<16), strings.Repeat(`{"a":`, 20_000), `{"title": ` + strings.Repeat("[", 1<<15) + strings.Repeat("]", 1<<15) + `}`,
	} {
		wantField(t, []byte(body), "body")
	}
}

func TestATruncatedBodyIsRefused(t *testing.T) {
	t.Parallel()
	for _, all := range whole {
		body := all.body()
		for n := range body {
			wantField(t, body[:n], "body")
		}
	}
}

func TestAForgedManagedCredentialIsForbidden(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"autogpt_managed", "is_managed"} {
		testForged(t, flag)
	}
}

func testForged(t *testing.T, flag string) {
	t.Helper()
	for _, all := range whole {
		for name, parse := range parsers {
			err := parse(all.with(flag, "true").body())
			if !errors.Is(err, credential.ErrForged) {
				t.Errorf("%s returned %v", name, err)
			}
			for _, value := range []string{"false", "null"} {
				err := parse(all.with(flag, value).body())
				if err != nil {
					t.Errorf("%s with %s as %s: %v", name, flag, value, err)
				}
			}
		}
		for _, value := range []string{`"true"`, `1`, `0`, `[]`, `[true]`, `{}`, `""`} {
			wantField(t, all.with(flag, value).body(), flag)
		}
	}
}

func TestAForgedManagedCredentialIsForbiddenWhateverElseIsWrong(t *testing.T) {
	t.Parallel()
	for name, parse := range parsers {
		err := parse([]byte(`{"autogpt_managed": 1, "is_managed": true, "type": 1, "title": 1, "api_key": []}`))
		if !errors.Is(err, credential.ErrForged) {
			t.Errorf("%s returned %v", name, err)
		}
	}
}

func TestWhatTheServiceDecidesIsIgnored(t *testing.T) {
	t.Parallel()
	for typ, all := range whole {
		plain, err := credential.ParseNew(all.body())
		if err != nil {
			t.Fatal(err)
		}
		forged, err := credential.ParseNew(all.with("id", `"fab6152b-b3a1-5188-98f1-63f310fccc0f"`).with("provider", `5`).
			with("metadata", `{"pod_id": "pod"}`).with("is_system", `true`).with("created_at", `5`).with("hint", `"sk-1"`).with("stored", `["x"]`).body())
		if err != nil || !reflect.DeepEqual(forged, plain) {
			t.Errorf("%s: got %+v, %v", typ, forged, err)
		}
	}
}

// encoding/json would match the names of a struct's members whatever their case.
func TestNamesAreMatchedToTheLetter(t *testing.T) {
	t.Parallel()
	all := whole[credential.APIKey]
	for _, name := range []string{"Autogpt_Managed", "AUTOGPT_MANAGED", "autogpt_managed ", "autogptManaged"} {
		for parser, parse := range parsers {
			err := parse(all.with(name, "true").body())
			var unknown *credential.FieldError
			if !errors.As(err, &unknown) {
				t.Errorf("%s takes %q for autogpt_managed: %v", parser, name, err)
			}
		}
	}
	wantField(t, all.with("api_key", "").with("API_KEY", `"sk-1"`).body(), "API_KEY")
	_, err := credential.ParseNew(all.with("type", "").with("Type", `"api_key"`).body())
	if err == nil {
		t.Error("ParseNew takes Type for type")
	}
}

// Of two members one reader of a body sees the first and another the last.
func TestANameThatIsThereTwiceIsRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"type": "api_key", "api_key": "a", "autogpt_managed": false, "autogpt_managed": true}`,
		`{"type": "api_key", "api_key": "a", "autogpt_managed": true, "autogpt_managed": false}`,
		`{"type": "oauth2", "type": "api_key", "api_key": "a"}`,
		`{"type": "api_key", "api_key": "a", "api_key": null}`,
		`{"type": "api_key", "api_key": "a", "api_ke\u0079": "b"}`,
		`{"type": "api_key", "api_key": "a", "metadata": 1, "metadata": 1}`,
	} {
		wantField(t, []byte(body), "body")
	}
	wantField(t, []byte(`{"type": "host_scoped", "host": "a", "headers": {"k": "a", "k": "b"}}`), "headers")
}

func TestABodyMayBeginWithAByteOrderMark(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	body := whole[credential.APIKey].body()
	for name, parse := range parsers {
		err := parse(append([]byte(mark), body...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantField(t, append([]byte(mark+mark), body...), "body")
}

func TestAPasswordIsKeptAsItWasSent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := secretText.Draw(t, "secret")
		wanted, err := credential.ParseNew([]byte(`{"type":"user_password","username":"ada","password":` + spelt(t, secret) + `}`))
		if err != nil {
			t.Fatal(err)
		}
		var kept string
		err = json.Unmarshal(wanted.Material.Fields()["password"], &kept)
		if err != nil || kept != secret {
			t.Fatalf("%q was kept as %q, %v", secret, kept, err)
		}
	})
}

// secretText makes any text that a secret may be.
var secretText = rapid.StringN(1, 50, -1).Filter(func(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '\ufffd' || unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
	})
})

// headerText makes any text that goes into a header as it is.
var headerText = rapid.StringMatching(`[!-~]([ -~]{0,40}[!-~])?`).Filter(func(s string) bool {
	return !strings.HasPrefix(s, "{") && !strings.HasPrefix(strings.ToLower(s), "bearer ")
})

// spelt is s as one of the many JSON strings that mean it.
func spelt(t *rapid.T, s string) string {
	b := []byte{'"'}
	for _, r := range s {
		units := utf16.Encode([]rune{r})
		switch {
		case rapid.Bool().Draw(t, "escaped") || r < 0x20 || r == '"' || r == '\\':
			for _, unit := range units {
				b = fmt.Appendf(b, rapid.SampledFrom([]string{`\u%04x`, `\u%04X`}).Draw(t, "form"), unit)
			}
		default:
			b = append(b, string(r)...)
		}
	}
	return string(append(b, '"'))
}

func TestAChangeOfTheTitleAloneKeepsTheSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body string
		typ  credential.Type
	}{
		{`{"title": "New"}`, ""},
		{`{"title": "New", "type": null, "autogpt_managed": false, "id": "x", "metadata": {}}`, ""},
		{`{"title": "New", "type": "oauth2"}`, credential.OAuth2},
	} {
		change, err := credential.ParseChange([]byte(c.body))
		if err != nil || change.Material != nil || change.Title == nil || *change.Title != "New" || change.Type != c.typ {
			t.Errorf("%s: got %+v, %v", c.body, change, err)
		}
	}
}

func TestAChangeOfTheSecretNeedsNoTypeAndNoTitle(t *testing.T) {
	t.Parallel()
	for typ, all := range whole {
		for _, given := range []string{all["type"], "", "null"} {
			change, err := credential.ParseChange(all.with("type", given).with("title", "").body())
			if err != nil || change.Material == nil {
				t.Errorf("%s with the type %q: got %+v, %v", typ, given, change, err)
				continue
			}
			if change.Type != typ || change.Material.Type() != typ || change.Title != nil || !maps.Equal(revealed(*change.Material), secrets[typ]) {
				t.Errorf("%s with the type %q: got %+v of type %s", typ, given, change, change.Type)
			}
		}
	}
}

func TestAChangeThatIsNotWholeIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, field string }{
		{`{}`, "body"},
		{`{"title": null}`, "body"},
		{`{"type": "api_key"}`, "body"},
		{`{"id": "x", "autogpt_managed": false}`, "body"},
		{`{"type": "basic", "title": "New"}`, "type"},
		{`{"title": "New", "expires_at": 5}`, "expires_at"},
		{`{"refresh_token": "rt"}`, "refresh_token"},
		{`{"scopes": []}`, "scopes"},
		{`{"username": "ada"}`, "username"},
		{`{"host": "example.com"}`, "host"},
		{`{"password": "pw"}`, "username"},
		{`{"headers": {"a": "b"}}`, "host"},
		{`{"type": "oauth2", "refresh_token": "rt"}`, "access_token"},
		{`{"type": "oauth2", "username": "ada"}`, "access_token"},
		{`{"type": "api_key", "username": "ada", "password": "pw"}`, "password"},
		// null is no secret, and no wish to keep the old one either.
		{`{"title": "New", "api_key": null}`, "api_key"},
		{`{"title": "New", "refresh_token": null}`, "refresh_token"},
	} {
		_, err := credential.ParseChange([]byte(c.body))
		var wrong *credential.FieldError
		if !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s returned %v, want it to name %s", c.body, err, c.field)
		}
	}
}
