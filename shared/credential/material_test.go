package credential_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"managed-credentials/shared/credential"
)

// material is that of the whole credential of a type.
func material(t *testing.T, typ credential.Type) credential.Material {
	t.Helper()
	wanted, err := credential.ParseNew(whole[typ].body())
	if err != nil {
		t.Fatal(err)
	}
	return wanted.Material
}

func reveal(t *testing.T, m credential.Material) []byte {
	t.Helper()
	plain, err := m.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// What is stored is read by later versions, too.
func TestTheSealedFormStaysWhatItIs(t *testing.T) {
	t.Parallel()
	for typ, want := range map[credential.Type]string{
		credential.APIKey: `{"api_key":"sk-1","expires_at":1893456000,"type":"api_key"}`,
		credential.OAuth2: `{"access_token":"at-1","access_token_expires_at":1893456000,"refresh_token":"rt-1",` +
			`"refresh_token_expires_at":1893456001,"type":"oauth2"}`,
		credential.UserPassword: `{"password":"pw-1","type":"user_password","username":"ada"}`,
		credential.HostScoped:   `{"headers":{"Accept":"h-2","X-Key":"h-1"},"type":"host_scoped"}`,
	} {
		plain := reveal(t, material(t, typ))
		if string(plain) != want {
			t.Errorf("%s is sealed as\n%s, want\n%s", typ, plain, want)
		}
	}
	plain := reveal(t, credential.APIKeyMaterial(credential.NewSecret("am_1")))
	if string(plain) != `{"api_key":"am_1","type":"api_key"}` {
		t.Errorf("a managed key is sealed as %s", plain)
	}
}

func TestAManagedKeyIsHandedOutLikeAUsersOwn(t *testing.T) {
	t.Parallel()
	managed := credential.APIKeyMaterial(credential.NewSecret(`a"<&>` + "\u2028"))
	again, err := credential.ParseMaterial(credential.APIKey, reveal(t, managed))
	if err != nil || !maps.Equal(revealed(again), revealed(managed)) {
		t.Errorf("got %s, %v", revealed(again), err)
	}
	if !maps.Equal(revealed(managed), map[string]string{"api_key": `"a\"<&>\u2028"`, "expires_at": "null"}) {
		t.Errorf("a managed key has the fields %s", revealed(managed))
	}
}

// anyMaterial makes the material of any credential that a user can create.
func anyMaterial(t *rapid.T) credential.Material {
	text := func(name string) string { return spelt(t, secretText.Draw(t, name)) }
	token := func(name string) string { return spelt(t, headerText.Draw(t, name)) }
	time := func(name string) string { return fmt.Sprint(rapid.Int64Range(946684800, 253402300799).Draw(t, name)) }
	typ := rapid.SampledFrom(slices.Sorted(maps.Keys(whole))).Draw(t, "type")
	all := members{"type": fmt.Sprintf("%q", typ)}
	switch typ {
	case credential.APIKey:
		all["api_key"], all["expires_at"] = token("key"), time("expiry")
	case credential.OAuth2:
		all["access_token"], all["access_token_expires_at"] = token("access token"), time("expiry")
		all["refresh_token"], all["refresh_token_expires_at"] = token("refresh token"), time("other expiry")
	case credential.UserPassword:
		all["username"], all["password"] = text("username"), text("password")
	case credential.HostScoped:
		headers := rapid.MapOfN(rapid.StringMatching("[a-z][a-z0-9-]{0,9}"), headerText, 1, 3).Draw(t, "headers")
		marshalled, err := json.Marshal(headers)
		if err != nil {
			t.Fatal(err)
		}
		all["headers"], all["host"] = string(marshalled), `"example.com"`
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		optional := name != "type" && !slices.Contains(required[typ], name)
		if optional && rapid.Bool().Draw(t, "without "+name) {
			delete(all, name)
		}
	}
	wanted, err := credential.ParseNew(all.body())
	if err != nil {
		t.Fatal(err)
	}
	return wanted.Material
}

func TestWhatIsRevealedParsesBackToTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := anyMaterial(t)
		plain, err := m.Reveal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := credential.ParseMaterial(m.Type(), plain)
		if err != nil || again.Type() != m.Type() || !maps.Equal(revealed(again), revealed(m)) {
			t.Fatalf("%s became %s, %v", revealed(m), revealed(again), err)
		}
	})
}

func TestAMaterialMayHaveAsManyBytesAsKMSEncrypts(t *testing.T) {
	t.Parallel()
	secret := map[credential.Type]string{
		credential.APIKey: "api_key", credential.OAuth2: "refresh_token", credential.UserPassword: "password", credential.HostScoped: "headers",
	}
	for typ, name := range secret {
		for _, letter := range []string{"a", "<", "é"} { // '<' must not count as the six characters of its HTML escape
			if letter == "é" && typ != credential.UserPassword {
				continue // no header carries it
			}
			sized := func(bytes int) credential.Material {
				value := `"` + strings.Repeat("a", bytes%len(letter)) + strings.Repeat(letter, bytes/len(letter)) + `"`
				if typ == credential.HostScoped {
					value = `{"X-Key":` + value + `}`
				}
				wanted, err := credential.ParseNew(whole[typ].with(name, value).body())
				if err != nil {
					t.Fatal(err)
				}
				return wanted.Material
			}
			room := 4096 - len(reveal(t, sized(100))) + 100
			plain, err := sized(room).Reveal()
			if err != nil || len(plain) != 4096 {
				t.Errorf("%s with %d bytes of %q: %d bytes, %v", typ, room, letter, len(plain), err)
			}
			_, err = sized(room + 1).Reveal()
			if !errors.Is(err, credential.ErrTooLarge) {
				t.Errorf("%s with one byte of %q more: %v", typ, letter, err)
			}
		}
	}
}

// What is sealed without being whole could never be opened again, and would stand there as a
// credential.
func TestWhatIsNotWholeIsNotRevealed(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]credential.Material{
		"the zero material":       {},
		"an empty managed key":    credential.APIKeyMaterial(credential.Secret{}),
		"a key that is not UTF-8": credential.APIKeyMaterial(credential.NewSecret("sk-\xff")),
	} {
		plain, err := m.Reveal()
		if err == nil {
			t.Errorf("%s is revealed as %s", name, plain)
		}
	}
}

func TestAMaterialOfAnotherTypeIsAnError(t *testing.T) {
	t.Parallel()
	for typ := range whole {
		plain := reveal(t, material(t, typ))
		for _, other := range []credential.Type{credential.APIKey, credential.OAuth2, credential.UserPassword, credential.HostScoped, "", "API_KEY"} {
			m, err := credential.ParseMaterial(other, plain)
			if other == typ && err != nil {
				t.Errorf("%s: %v", typ, err)
			}
			if other != typ {
				wantNothing(t, fmt.Sprintf("%s as %q", typ, other), m, err)
			}
		}
	}
	for _, plain := range []string{`{"type":""}`, `{"type":"basic"}`, `{"type":null}`, `{}`} {
		for _, typ := range []credential.Type{"", "basic"} {
			m, err := credential.ParseMaterial(typ, []byte(plain))
			wantNothing(t, plain, m, err)
		}
	}
}

// wantNothing checks that a plaintext gave an error, nothing of a material, and not its secrets in
// the error.
func wantNothing(t *testing.T, name string, m credential.Material, err error) {
	t.Helper()
	if err == nil || m.Type() != "" || len(m.Fields()) != 0 {
		t.Errorf("%s: got %s of type %q, %v", name, revealed(m), m.Type(), err)
		return
	}
	for _, secret := range []string{"sk-1", "at-1", "rt-1", "pw-1", "h-1", "ada", "1893456"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows %s: %v", name, secret, err)
		}
	}
}

func TestAMutilatedMaterialIsAnError(t *testing.T) {
	t.Parallel()
	for typ, fields := range secrets {
		sealed := members(fields).with("type", fmt.Sprintf("%q", typ))
		plain := sealed.body()
		_, err := credential.ParseMaterial(typ, plain)
		if err != nil {
			t.Fatal(err)
		}
		broken := map[string][]byte{
			"nothing":          nil,
			"null":             []byte("null"),
			"a list":           slices.Concat([]byte("["), plain, []byte("]")),
			"a text":           fmt.Appendf(nil, "%q", plain),
			"twice":            slices.Concat(plain, plain),
			"not UTF-8":        slices.Concat(plain[:len(plain)-1], []byte(", \"x\xff\": 1}")),
			"an unknown field": sealed.with("client_secret", `"sk-1"`).body(),
			"a shown field":    sealed.with("title", `"Mine"`).body(),
			"no type":          sealed.with("type", "").body(),
			"a null type":      sealed.with("type", "null").body(),
			"a list of types":  sealed.with("type", fmt.Sprintf("[%q]", typ)).body(),
		}
		for n := range plain {
			broken[fmt.Sprintf("cut to %d bytes", n)] = plain[:n]
		}
		for name, value := range sealed {
			broken["without the name "+name] = sealed.with(name, "").with(name[1:], value).body()
			broken["in capitals, "+name] = sealed.with(name, "").with(strings.ToUpper(name), value).body()
			for _, other := range []string{`""`, `[]`, `{}`, `true`, `-1`, `"\ud800"`, `{"a": 1}`, `[` + value + `]`} {
				broken[name+" as "+other] = sealed.with(name, other).body()
			}
			if slices.Contains(required[typ], name) {
				broken["without "+name] = sealed.with(name, "").body()
				broken["null as "+name] = sealed.with(name, "null").body()
			}
		}
		for name, plain := range broken {
			m, err := credential.ParseMaterial(typ, plain)
			wantNothing(t, fmt.Sprintf("%s, %s", typ, name), m, err)
		}
	}
}

// marker stands in every secret of the bodies that are mutilated at random. No error has a reason
// to say it.
const marker = "Zj7q"

func TestNoErrorShowsASecret(t *testing.T) {
	t.Parallel()
	marked := map[credential.Type][]byte{
		credential.APIKey: []byte(`{"type":"api_key","title":"Zj7q","api_key":"Zj7q-1","expires_at":1}`),
		credential.OAuth2: []byte(`{"type":"oauth2","access_token":"Zj7q-1","refresh_token":"Zj7q-2","refresh_token_expires_at":1,` +
			`"username":"Zj7q","scopes":["Zj7q"]}`),
		credential.UserPassword: []byte(`{"type":"user_password","username":"Zj7q","password":"Zj7q-1"}`),
		credential.HostScoped:   []byte(`{"type":"host_scoped","host":"Zj7q","headers":{"Zj7q-1":"Zj7q-2"}}`),
	}
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(slices.Sorted(maps.Keys(marked))).Draw(t, "type")
		body := slices.Clone(marked[typ])
		for range rapid.IntRange(1, 3).Draw(t, "wounds") {
			at := rapid.IntRange(0, len(body)).Draw(t, "at")
			wound := rapid.SampledFrom([]string{"", `"`, `\`, `\u`, `\ud800`, "\xff", "{", "}", "[", ",", ":", "1", "null", `{"Zj7q":"Zj7q"}`, marker}).Draw(t, "wound")
			until := min(len(body), at+rapid.IntRange(0, 3).Draw(t, "cut"))
			body = slices.Concat(body[:at], []byte(wound), body[until:])
		}
		check := func(name string, err error) {
			if err != nil && strings.Contains(fmt.Sprintf("%v %+v %q", err, err, err), marker) {
				t.Fatalf("%s of %q shows a secret: %v", name, body, err)
			}
		}
		for name, parse := range parsers {
			check(name, parse(body))
		}
		_, err := credential.ParseMaterial(typ, body)
		check("ParseMaterial", err)
	})
}
