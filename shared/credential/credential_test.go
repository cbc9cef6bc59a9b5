package credential_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"managed-credentials/shared/credential"
)

// These ids stand in users' saved agents. Another value here is a break with every one of them.
func TestIDsStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{credential.ManagedID("agent_mail", "alice"), "fab6152b-b3a1-5188-98f1-63f310fccc0f"},
		{credential.ManagedID("agent_mail", "bob"), "bf4df6f8-3e0f-595d-8bdc-15d8efec3ba5"},
		{credential.ManagedID("open_router", "alice"), "bbf3b0ad-093f-5216-a8b4-33be35226474"},
		{credential.ManagedID("agent_mail", "3f0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11"), "df0910e3-9485-5e19-8a8d-68a15fce0f9b"},
		{credential.SystemID("agent_mail"), "e2370d72-8bbe-59d4-83ad-495c14982d3a"},
		{credential.SystemID("openai"), "331b65ec-da3c-5c26-b6ba-e71ce538f6f4"},
	} {
		if c.got != c.want {
			t.Errorf("an id is %s, and was %s", c.got, c.want)
		}
	}
}

// providerName and userID make what may be a provider's name and a user id.
var (
	providerName = rapid.StringMatching(`[a-z0-9_]{1,64}`)
	userID       = rapid.String().Filter(credential.ValidUserID)
)

func TestIDsAreValidAndOnePerProviderAndUser(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p1, p2 := providerName.Draw(t, "provider"), providerName.Draw(t, "other provider")
		u1, u2 := userID.Draw(t, "user"), userID.Draw(t, "other user")
		first := credential.ManagedID(p1, u1)
		if !credential.ValidID(first) || !credential.ValidID(credential.SystemID(p1)) || !credential.ValidID(credential.NewID()) {
			t.Fatal("an id is not valid")
		}
		if (first == credential.ManagedID(p2, u2)) != (p1 == p2 && u1 == u2) {
			t.Fatal("two pairs of provider and user share an id, or one pair has two")
		}
		if (credential.SystemID(p1) == credential.SystemID(p2)) != (p1 == p2) {
			t.Fatal("two providers share a system id, or one has two")
		}
		if first == credential.SystemID(p2) {
			t.Fatal("a managed credential has a system credential's id")
		}
	})
}

// A random id can never be that of a slot.
func TestANewIDIsRandom(t *testing.T) {
	t.Parallel()
	first, second := credential.NewID(), credential.NewID()
	if first == second {
		t.Error("two new ids are the same")
	}
	parsed, err := uuid.Parse(first)
	if err != nil || parsed.Version() != 4 {
		t.Errorf("the new id %s is of version %d, %v", first, parsed.Version(), err)
	}
}

func TestWhatMayBeAUserID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, id string
		valid    bool
	}{
		{"empty", "", false},
		{"one character", "a", true},
		{"a sub", "3f0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11", true},
		{"'#' and '/'", "USER#a/b", true},
		{"a blank", "a b", false},
		{"a blank at the start", " a", false},
		{"a line break at the end", "a\n", false},
		{"a control character", "a\x00", false},
		{"a no-break space", "a\u00a0", false},
		{"a character that is not seen", "a\u200b", false},
		{"256 characters of one byte", strings.Repeat("a", 256), true},
		{"257 characters of one byte", strings.Repeat("a", 257), false},
		{"256 characters of four bytes", strings.Repeat("😀", 256), true},
		{"257 characters of four bytes", strings.Repeat("😀", 257), false},
		{"no UTF-8", "\xff", false},
		{"half a character at the end", "a\xf0\x9f", false},
		{"what decoders put in the place of a broken character", "a\ufffd", false},
	} {
		if credential.ValidUserID(c.id) != c.valid {
			t.Errorf("%s: valid is %t", c.name, !c.valid)
		}
	}
}

func TestAUserIDInCapitalsIsTheOneInLowerCaseIfItIsAUUID(t *testing.T) {
	t.Parallel()
	const sub = "3f0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11"
	for typed, want := range map[string]string{
		sub: sub, strings.ToUpper(sub): sub, "3F0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11": sub, "Alice": "Alice", "alice@example.com": "alice@example.com",
		strings.ToUpper(sub) + "0": strings.ToUpper(sub) + "0",
	} {
		got, err := credential.UserID(typed)
		if err != nil || got != want || credential.IsSub(got) != (want == sub) {
			t.Errorf("%q is the user id %q, %v, want %q", typed, got, err, want)
		}
	}
	for _, typed := range []string{"", sub + "\n", " " + sub, "a b"} {
		got, err := credential.UserID(typed)
		var field *credential.FieldError
		if got != "" || !errors.As(err, &field) || field.Field != "user_id" {
			t.Errorf("%q is the user id %q, %v", typed, got, err)
		}
	}
}

func TestWhatMayBeAProvidersName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "0", "_", "agent_mail", strings.Repeat("a", 64)} {
		if !credential.ValidProvider(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", strings.Repeat("a", 65), "Agent_mail", "agent-mail", "a#b", "a b", " a", "a\n", "a\x00", "ä", "a/b"} {
		if credential.ValidProvider(name) {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestWhatMayBeACredentialsID(t *testing.T) {
	t.Parallel()
	const id = "fab6152b-b3a1-5188-98f1-63f310fccc0f"
	if !credential.ValidID(id) {
		t.Errorf("%q is refused", id)
	}
	for _, id := range []string{"", strings.ToUpper(id), strings.ReplaceAll(id, "-", ""), "{" + id + "}", "urn:uuid:" + id, id + "\n", " " + id,
		id[1:], id + "0", "gab6152b-b3a1-5188-98f1-63f310fccc0f", "fab6152b_b3a1_5188_98f1_63f310fccc0f"} {
		if credential.ValidID(id) {
			t.Errorf("%q is accepted", id)
		}
	}
}

func TestWhatIsAType(t *testing.T) {
	t.Parallel()
	for _, typ := range []credential.Type{"api_key", "oauth2", "user_password", "host_scoped"} {
		if !typ.Valid() {
			t.Errorf("%q is refused", typ)
		}
	}
	for _, typ := range []credential.Type{"", "API_KEY", "api_key ", "oauth", "null"} {
		if typ.Valid() {
			t.Errorf("%q is accepted", typ)
		}
	}
}

// Clients read these names, and null where a type has no such field.
func TestMetadataIsShownUnderTheAPIsNames(t *testing.T) {
	t.Parallel()
	title, username, hint, used := "Mail", "ada", "abcd", "2026-11-30"
	created, expires := int64(5), int64(6)
	for _, c := range []struct {
		metadata credential.Metadata
		want     string
	}{
		{
			credential.System("openai", "Use Credits for OpenAI"),
			`{"id":"331b65ec-da3c-5c26-b6ba-e71ce538f6f4","provider":"openai","type":"api_key","title":"Use Credits for OpenAI",` +
				`"scopes":null,"username":null,"host":null,"autogpt_managed":false,"is_system":true,` +
				`"created_at":null,"expires_at":null,"hint":null,"stored":null,"last_used_on":null,"is_managed":false}`,
		},
		{
			credential.Metadata{ID: "1", Provider: "github", Type: credential.OAuth2, Title: &title, Username: &username, Scopes: []string{},
				CreatedAt: &created, ExpiresAt: &expires, Hint: &hint, Stored: []string{"access_token"}, LastUsedOn: &used, Revision: "r"},
			`{"id":"1","provider":"github","type":"oauth2","title":"Mail",` +
				`"scopes":[],"username":"ada","host":null,"autogpt_managed":false,"is_system":false,` +
				`"created_at":5,"expires_at":6,"hint":"abcd","stored":["access_token"],"last_used_on":"2026-11-30","is_managed":false}`,
		},
		{
			credential.Metadata{Managed: true},
			`{"id":"","provider":"","type":"","title":null,"scopes":null,"username":null,"host":null,"autogpt_managed":true,"is_system":false,` +
				`"created_at":null,"expires_at":null,"hint":null,"stored":null,"last_used_on":null,"is_managed":true}`,
		},
	} {
		got, err := json.Marshal(c.metadata)
		if err != nil || string(got) != c.want {
			t.Errorf("metadata is shown as\n%s, %v\nwant\n%s", got, err, c.want)
		}
	}
}
