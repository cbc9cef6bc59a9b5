package store_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// own are a user's own credentials of each type, with and without what they may lack.
var own = []credential.Metadata{
	{ID: "00000000-0000-4000-8000-000000000001", Provider: "a_first", Type: credential.UserPassword},
	{ID: "00000000-0000-4000-8000-000000000002", Provider: "github", Type: credential.OAuth2, Title: str("Mine"), Username: str("ada"),
		Scopes: []string{"repo", "user:email"}, ExpiresAt: seconds(4102444800), Stored: []string{"access_token", "refresh_token"}},
	{ID: "00000000-0000-4000-8000-000000000003", Provider: "github", Type: credential.OAuth2, Title: str(""), Scopes: []string{}},
	{ID: "00000000-0000-4000-8000-000000000004", Provider: "github_2", Type: credential.APIKey, Title: str("Mine"), Hint: str("7f3a")},
	{ID: "00000000-0000-4000-8000-000000000005", Provider: "http", Type: credential.HostScoped, Host: str("example.com")},
}

func TestACreatedCredentialIsListedAndRead(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	own := slices.Clone(own)
	for i := len(own) - 1; i >= 0; i-- {
		got, err := tb.Create(t.Context(), user, own[i], []byte(own[i].ID))
		own[i].CreatedAt, own[i].Revision = seconds(now.Unix()), got.Revision
		if err != nil || !reflect.DeepEqual(got, own[i]) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	account, err := tb.Account(t.Context(), user)
	if err != nil || !reflect.DeepEqual(account.Own, own) || account.Refused != nil || len(account.Slots) != 0 || len(account.Unreadable) != 0 {
		t.Errorf("the account is %+v, %v", account, err)
	}
	for _, m := range own {
		got, err := tb.Get(t.Context(), user, m.Provider, m.ID)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v", got, err)
		}
		sealed, err := tb.Sealed(t.Context(), user, m.Provider, m.ID)
		if err != nil || !reflect.DeepEqual(sealed, store.Sealed{Metadata: m, Ciphertext: []byte(m.ID)}) {
			t.Errorf("got %+v, %v", sealed, err)
		}
	}
	tb.wantItem(store.CredentialKey(user, "github", own[1].ID), attributes{
		"v": 1, "type": "oauth2", "autogpt_managed": false, "title": "Mine", "username": "ada", "scopes": "repo user:email",
		"secret": []byte(own[1].ID), "created_at": ms(now), "expires_at": 4102444800000, "stored": texts("access_token", "refresh_token"),
	})
	if len(tb.dueAt(now.AddDate(1, 0, 0))) != 0 {
		t.Error("a user's own credential is due for something")
	}
}

// The table must not take a credential's own expiry for its item's.
func TestAnExpiredCredentialStays(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	wanted, err := credential.ParseNew([]byte(`{"type":"api_key","api_key":"sk-1","expires_at":946684800}`))
	if err != nil {
		t.Fatal(err)
	}
	material, err := wanted.Material.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	m := credential.Metadata{ID: ownID, Provider: "github", Type: credential.APIKey}
	_, err = tb.Create(t.Context(), user, m, material)
	if err != nil {
		t.Fatal(err)
	}
	tb.wantItem(ownKey, attributes{"v": 1, "type": "api_key", "autogpt_managed": false, "secret": material, "created_at": ms(now)})
	out, err := tb.direct.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &tb.name})
	if err != nil || out.TimeToLiveDescription.TimeToLiveStatus != types.TimeToLiveStatusDisabled {
		t.Errorf("the table deletes by time: %+v, %v", out, err)
	}
	sealed, err := tb.Sealed(t.Context(), user, "github", ownID)
	if err != nil || string(sealed.Ciphertext) != string(material) {
		t.Errorf("got %+v, %v", sealed, err)
	}
}

func TestNothingIsCreatedInADeletedAccount(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.bury()
	_, err := tb.Create(t.Context(), user, credential.Metadata{ID: ownID, Provider: "github", Type: credential.APIKey}, []byte("new"))
	wantError(t, "create", err, credential.ErrAccountDeleted)
	tb.wantItem(ownKey, nil)
	_, err = tb.Create(t.Context(), "bob", credential.Metadata{ID: ownID, Provider: "github", Type: credential.APIKey}, []byte("new"))
	if err != nil {
		t.Errorf("another user's account: %v", err)
	}
}

func TestCreateReplacesNothing(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	_, err := tb.Create(t.Context(), user, credential.Metadata{ID: ownID, Provider: "github", Type: credential.APIKey}, []byte("new"))
	if err == nil || errors.Is(err, credential.ErrAccountDeleted) {
		t.Errorf("got the error %v", err)
	}
	tb.wantItem(ownKey, ownItem)
}

func TestACreateWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.on("TransactWriteItems", fault.LoseAnswer())
	_, err := tb.Create(t.Context(), user, own[0], []byte("new"))
	if err != nil {
		t.Errorf("create: %v", err)
	}
	if tb.proxy.Count("TransactWriteItems") != 2 {
		t.Error("the SDK did not repeat the call")
	}
}

// ownItem is a user's own credential.
var ownItem = attributes{
	"v": 1, "type": "oauth2", "autogpt_managed": false, "title": "Mine", "username": "ada", "scopes": "repo user:email",
	"secret": []byte("ciphertext"), "created_at": 5000,
}

func seconds(s int64) *int64 { return &s }

func texts(all ...string) types.AttributeValue { return &types.AttributeValueMemberSS{Value: all} }

func TestAChangeOfTheTitleKeepsTheSecretAndWhatGoesWithIt(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, typ := range []credential.Type{"", credential.OAuth2} {
		tb.put(ownKey, ownItem)
		got, err := tb.Update(t.Context(), user, "github", ownID, credential.Change{Type: typ, Title: str("New")}, nil)
		want := credential.Metadata{ID: ownID, Provider: "github", Type: credential.OAuth2, Title: str("New"), Username: str("ada"),
			Scopes: []string{"repo", "user:email"}, CreatedAt: seconds(5), Revision: got.Revision}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
		tb.wantItem(ownKey, ownItem.with(attributes{"title": "New"}))
	}
}

func TestAChangeOfTheSecretReplacesWhatGoesWithIt(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, c := range []struct {
		name   string
		item   attributes
		body   string
		want   attributes
		answer credential.Metadata
	}{
		{
			"all of an oauth2 credential", ownItem,
			`{"title":"New","access_token":"a","username":"bob","scopes":["gist"]}`,
			attributes{"title": "New", "username": "bob", "scopes": "gist"},
			credential.Metadata{Type: credential.OAuth2, Title: str("New"), Username: str("bob"), Scopes: []string{"gist"}},
		},
		{
			"an oauth2 credential without username and scopes", ownItem,
			`{"access_token":"a","username":null,"scopes":null}`,
			attributes{"username": nil, "scopes": ""},
			credential.Metadata{Type: credential.OAuth2, Title: str("Mine"), Scopes: []string{}},
		},
		{
			"an API key", ownItem.with(attributes{"type": "api_key", "username": nil, "scopes": nil}),
			`{"api_key":"a-key-of-24-characters-1","expires_at":4102444800}`,
			attributes{"hint": "rs-1", "expires_at": 4102444800000},
			credential.Metadata{Type: credential.APIKey, Title: str("Mine"), Hint: str("rs-1"), ExpiresAt: seconds(4102444800)},
		},
		{
			"an API key by a short one that does not expire",
			ownItem.with(attributes{"type": "api_key", "username": nil, "scopes": nil, "hint": "rs-1", "expires_at": 5000, "stored": texts("api_key", "expires_at")}),
			`{"api_key":"a","expires_at":null}`,
			attributes{"hint": nil, "expires_at": nil},
			credential.Metadata{Type: credential.APIKey, Title: str("Mine")},
		},
		{
			"a host", ownItem.with(attributes{"type": "host_scoped", "username": nil, "scopes": nil, "host": "old.example.com"}),
			`{"host":"example.com","headers":{"a":"b"}}`,
			attributes{"host": "example.com"},
			credential.Metadata{Type: credential.HostScoped, Title: str("Mine"), Host: str("example.com")},
		},
	} {
		change, err := credential.ParseChange([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		tb.put(ownKey, c.item)
		got, err := tb.Update(t.Context(), user, "github", ownID, change, []byte("new"))
		c.answer.ID, c.answer.Provider, c.answer.CreatedAt, c.answer.Stored = ownID, "github", seconds(5), change.Material.Stored()
		c.answer.Revision = got.Revision
		if err != nil || !reflect.DeepEqual(got, c.answer) {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
		tb.wantItem(ownKey, c.item.with(c.want).with(attributes{"secret": []byte("new"), "stored": texts(c.answer.Stored...)}))
	}
}

// What is written between the refusal, which showed that nothing would be lost, and the next write
// is not lost, either.
func TestAChangeOfTheSecretLosesNothingThatIsAddedMeanwhile(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	item := attributes{"v": 1, "type": "host_scoped", "autogpt_managed": false, "host": "example.com", "secret": []byte("old"), "created_at": 5000}
	change, err := credential.ParseChange([]byte(`{"host":"example.com","headers":{"A":"new","b":null}}`))
	if err != nil {
		t.Fatal(err)
	}
	before := item.with(attributes{"stored": texts("headers.A", "headers.B"), "revision": "1"})
	for name, c := range map[string]struct {
		meanwhile attributes
		lost      string
		writes    int
	}{
		"one that the change leaves out": {attributes{"stored": texts("headers.A", "headers.B", "headers.C"), "revision": "2"}, "headers.C", 2},
		"one that it names":              {attributes{"stored": texts("headers.A"), "revision": "2"}, "", 3},
		"nothing":                        {attributes{}, "", 2},
	} {
		tb.put(ownKey, before)
		tb.on("TransactWriteItems", nil, func(ctx context.Context, call *fault.Call) (*fault.Answer, error) {
			tb.put(ownKey, before.with(c.meanwhile))
			return call.Forward(ctx)
		})
		got, err := tb.Update(t.Context(), user, "github", ownID, change, []byte("new"))
		var field *credential.FieldError
		if c.lost != "" && (!errors.As(err, &field) || !strings.Contains(field.Problem, "lose "+c.lost+":")) {
			t.Errorf("%s: %v", name, err)
		}
		if c.lost == "" && (err != nil || !slices.Equal(got.Stored, []string{"headers.A"})) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		if c.lost != "" {
			tb.wantItem(ownKey, before.with(c.meanwhile))
		}
		if n := tb.proxy.Count("TransactWriteItems"); n != c.writes {
			t.Errorf("%s: %d writes, want %d", name, n, c.writes)
		}
	}
}

func TestAnUpdateWhoseAnswerIsLostSucceeds(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.on("TransactWriteItems", fault.LoseAnswer())
	got, err := tb.Update(t.Context(), user, "github", ownID, credential.Change{Title: str("New")}, nil)
	if err != nil || *got.Title != "New" || tb.proxy.Count("TransactWriteItems") != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestADeletedCredentialIsGone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	err := tb.Delete(t.Context(), user, "github", ownID)
	if err != nil {
		t.Errorf("delete: %v", err)
	}
	tb.wantItem(ownKey, nil)
	wantError(t, "the repeat", tb.Delete(t.Context(), user, "github", ownID), credential.ErrNotFound)
}

// An empty secret could be stored by whoever reads it.
func TestACredentialWithoutCiphertextIsAnErrorAndNotAnEmptySecret(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, secret := range map[string]any{"none": nil, "empty": []byte{}, "a text": "ciphertext"} {
		tb.put(ownKey, ownItem.with(attributes{"secret": secret}))
		sealed, err := tb.Sealed(t.Context(), user, "github", ownID)
		if err == nil || sealed.Ciphertext != nil || errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s: got %+v, %v", name, sealed, err)
		}
		tb.put(slotKey, claimedItem.with(attributes{"secret": secret}))
		sealed, err = tb.Sealed(t.Context(), user, provider, credential.ManagedID(provider, user))
		if err == nil || sealed.Ciphertext != nil || errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s in a slot: got %+v, %v", name, sealed, err)
		}
	}
}

func TestAUserMayHaveSoManyCredentialsAndNoMore(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(slotKey, committed) // counts for nobody
	const most = 3
	for i := range most + 2 {
		err := tb.CheckRoom(t.Context(), user, most, "")
		var limit *credential.LimitError
		if (i >= most) != errors.As(err, &limit) || (err == nil) == (i >= most) {
			t.Errorf("with %d of them: %v", i, err)
		}
		tb.put(store.CredentialKey(user, "github", credential.NewID()), ownItem)
	}
	tb.bury()
	wantError(t, "deleted", tb.CheckRoom(t.Context(), user, most, ""), credential.ErrAccountDeleted)
	for _, call := range tb.proxy.Calls() {
		if call.Op == "Query" && (!bytes.Contains(call.Body, []byte(`"COUNT"`)) || bytes.Contains(call.Body, []byte(`"ConsistentRead":true`))) {
			t.Errorf("it counts by %s", call.Body)
		}
	}
	tb.always("Query", fault.Drop())
	err := tb.CheckRoom(t.Context(), user, most, "")
	var limit *credential.LimitError
	if err == nil || errors.As(err, &limit) {
		t.Errorf("uncounted: %v", err)
	}
}

// Items of 1 MB together are a page: those over the limit from before may have many.
func TestTheCountGoesOverPages(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for range 5 {
		tb.put(store.CredentialKey(user, "github", credential.NewID()), ownItem.with(attributes{"secret": make([]byte, 300<<10)}))
	}
	err := tb.CheckRoom(t.Context(), user, 6, "")
	if err != nil || tb.proxy.Count("Query") < 2 {
		t.Errorf("with room: %v after %d queries", err, tb.proxy.Count("Query"))
	}
	err = tb.CheckRoom(t.Context(), user, 5, "")
	var limit *credential.LimitError
	if !errors.As(err, &limit) || limit.Most != 5 {
		t.Errorf("without room: %v", err)
	}
}
