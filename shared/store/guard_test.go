package store_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// guards are the two writes that a user may try on any credential: each with the change that it
// would make.
var guards = map[string]func(*table, string, string, string) error{
	"updated": func(tb *table, user, provider, id string) error {
		_, err := tb.Update(tb.t.Context(), user, provider, id, credential.Change{Title: str("New")}, nil)
		return err
	},
	"deleted": func(tb *table, user, provider, id string) error {
		return tb.Delete(tb.t.Context(), user, provider, id)
	},
}

func TestAManagedCredentialIsForbiddenToItsUser(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for verb, try := range guards {
		for _, change := range []attributes{
			{}, {"state": "ready"}, {"state": "failed"}, {"state": "provisioning", "committed": nil, "secret": nil}, {"v": 2}, {"state": "new"}, {"type": "new"},
		} {
			item := claimedItem.with(change)
			tb.put(slotKey, item)
			err := try(tb, user, provider, credential.ManagedID(provider, user))
			if !errors.Is(err, credential.ErrManaged) {
				t.Errorf("%v, to be %s: %v", change, verb, err)
			}
			tb.wantItem(slotKey, item.with(attributes{"due_shard": "live"}))
		}
	}
}

// After the account's deletion nobody is told that there is still something to be revoked.
func TestADeadSlotIsNotFound(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for verb, try := range guards {
		for _, state := range []string{"revoking", "parked"} {
			item := claimedItem.with(attributes{"state": state})
			tb.put(slotKey, item)
			err := try(tb, user, provider, credential.ManagedID(provider, user))
			wantError(t, state+" to be "+verb, err, credential.ErrNotFound)
			tb.wantItem(slotKey, item.with(attributes{"due_shard": "live"}))
		}
	}
}

func TestWhatDoesNotExistIsNotFoundAndNotMade(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	for verb, try := range guards {
		for name, at := range map[string][3]string{
			"another user's":      {"bob", "github", ownID},
			"at another provider": {user, "gitlab", ownID},
			"unknown":             {user, "github", "00000000-0000-4000-8000-000000000009"},
		} {
			err := try(tb, at[0], at[1], at[2])
			wantError(t, name+" to be "+verb, err, credential.ErrNotFound)
			tb.wantItem(store.CredentialKey(at[0], at[1], at[2]), nil)
		}
	}
	_, err := tb.Update(t.Context(), "bob", "github", ownID, credential.Change{Type: credential.OAuth2}, []byte("new"))
	wantError(t, "another user's to be replaced", err, credential.ErrNotFound)
	tb.wantItem(store.CredentialKey("bob", "github", ownID), nil)
	tb.wantItem(ownKey, ownItem)
}

func TestAChangeOfAnotherTypeIsNamed(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	for name, c := range map[string]struct {
		change     credential.Change
		ciphertext []byte
	}{
		"a secret": {credential.Change{Type: credential.APIKey}, []byte("new")},
		"a title":  {credential.Change{Type: credential.HostScoped, Title: str("New")}, nil},
	} {
		_, err := tb.Update(t.Context(), user, "github", ownID, c.change, c.ciphertext)
		var other *credential.TypeError
		if !errors.As(err, &other) || *other != (credential.TypeError{Stored: credential.OAuth2, Change: c.change.Type}) {
			t.Errorf("%s: %v", name, err)
		}
		tb.wantItem(ownKey, ownItem)
	}
}

// undecodable are items of which this version does not know what they are: a newer version's, or
// damaged.
var undecodable = map[string]attributes{
	"a newer version":                {"v": 2},
	"no version":                     {"v": nil},
	"a version that is no number":    {"v": "1"},
	"an unknown type":                {"type": "basic"},
	"no type":                        {"type": nil},
	"a type that is no text":         {"type": 1},
	"managed, but in no slot":        {"autogpt_managed": true},
	"neither managed nor not":        {"autogpt_managed": nil},
	"managed in a text":              {"autogpt_managed": "false"},
	"a title that is no text":        {"title": 1},
	"a title that is null":           {"title": &types.AttributeValueMemberNULL{Value: true}},
	"a list of scopes":               {"scopes": &types.AttributeValueMemberSS{Value: []string{"repo"}}},
	"a username that is no text":     {"username": true},
	"a host that is no text":         {"host": []byte("example.com")},
	"nothing but a key and a secret": {"v": nil, "type": nil, "autogpt_managed": nil, "title": nil, "username": nil, "scopes": nil, "created_at": nil},
}

func TestWhatCannotBeDecodedIsLeftOutAndNotTouched(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, change := range undecodable {
		item := ownItem.with(change)
		tb.put(ownKey, item)
		account, err := tb.Account(t.Context(), user)
		if err != nil || len(account.Own) != 0 || !reflect.DeepEqual(account.Unreadable, []store.Key{ownKey}) {
			t.Errorf("%s: the account is %+v, %v", name, account, err)
		}
		_, err = tb.Get(t.Context(), user, "github", ownID)
		wantError(t, name+", to be read", err, credential.ErrNotFound)
		sealed, err := tb.Sealed(t.Context(), user, "github", ownID)
		if err == nil || errors.Is(err, credential.ErrNotFound) || sealed.Ciphertext != nil {
			t.Errorf("%s: its secret is read as %v, %v", name, sealed, err)
		}
		for verb, try := range guards {
			err := try(tb, user, "github", ownID)
			if !errors.Is(err, credential.ErrNotFound) && !(item["autogpt_managed"] == true && errors.Is(err, credential.ErrManaged)) {
				t.Errorf("%s, to be %s: %v", name, verb, err)
			}
		}
		_, err = tb.Update(t.Context(), user, "github", ownID, credential.Change{Type: credential.OAuth2}, []byte("new"))
		if err == nil {
			t.Errorf("%s: its secret was replaced", name)
		}
		tb.wantItem(ownKey, item)
	}
}

// A user's write applies to all that a list shows.
func TestWhatCanBeDecodedCanBeChanged(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, change := range map[string]attributes{
		"whole": {}, "without a title": {"title": nil}, "with an empty title": {"title": ""}, "without a username": {"username": nil},
		"without scopes": {"scopes": nil}, "with empty scopes": {"scopes": ""}, "with a host": {"host": "example.com"},
		"of a newer version, that adds": {"added": "something"}, "without a time": {"created_at": nil},
		"with a time that is none": {"created_at": "then", "expires_at": -1}, "with a hint, a list and a day that are none": {"hint": 5, "stored": "api_key", "last_used_on": "today"}, "of another type": {"type": "user_password"},
	} {
		item := ownItem.with(change)
		for verb, try := range guards {
			tb.put(ownKey, item)
			_, err := tb.Get(t.Context(), user, "github", ownID)
			if err != nil {
				t.Errorf("%s, to be read: %v", name, err)
			}
			err = try(tb, user, "github", ownID)
			if err != nil {
				t.Errorf("%s, to be %s: %v", name, verb, err)
			}
		}
	}
}
