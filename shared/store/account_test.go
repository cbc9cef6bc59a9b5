package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

func TestAnAccountIsAllThatTheTableHoldsOfAUser(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	account, err := tb.Account(t.Context(), user)
	if err != nil || account.Refused != nil || len(account.Own)+len(account.Slots)+len(account.Unreadable) != 0 {
		t.Errorf("an empty account is %+v, %v", account, err)
	}

	tb.put(ownKey, ownItem)
	tb.put(slotKey, claimedItem)
	tb.put(store.SlotKey(user, "open_router"), failedItem)
	newer := store.SlotKey(user, "newer")
	tb.put(newer, claimedItem.with(attributes{"v": 2}))
	unknown := store.Key{PK: "USER#" + user, SK: "PROFILE"}
	tb.put(unknown, attributes{"v": 1})
	tb.bury()
	// Neighbours: another user's items, and those of users whose ids begin alike.
	for _, other := range []string{"bob", "alice#", "alic", "USER#alice"} {
		tb.put(store.CredentialKey(other, "github", ownID), ownItem)
	}

	account, err = tb.Account(t.Context(), user)
	if err != nil || !errors.Is(account.Refused, credential.ErrAccountDeleted) {
		t.Fatalf("got %+v, %v", account, err)
	}
	if len(account.Own) != 1 || account.Own[0].ID != ownID {
		t.Errorf("the user's own are %+v", account.Own)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(account.Slots)), []string{provider, "open_router"}) {
		t.Errorf("the slots are %+v", account.Slots)
	}
	if !reflect.DeepEqual(account.Unreadable, []store.Key{newer, unknown}) {
		t.Errorf("unreadable are %v", account.Unreadable)
	}
}

func TestASlotIsReadWithAllThatItHolds(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	want := store.Slot{
		User: user, Provider: provider, Title: title, State: store.Provisioning, Owner: "owner", Attempt: 7, Tries: 2, LeaseUntil: leaseEnd,
		DueAt: leaseEnd, Committed: 3, Resource: credential.Resource{ID: "pod", KeyID: "key", OrgID: "org"}, Reason: "transient",
		GoneSince: now.Add(-time.Minute), Left: 4, LeftSince: now.Add(-time.Hour), ExpiresAt: now.AddDate(1, 0, 0), CreatedAt: now.Add(-time.Hour),
		ReportFrom: now.Add(5 * time.Minute), ReportPause: 10 * time.Minute, LastUsedOn: "2025-12-31",
	}
	if got := tb.slot(claimedItem); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want = store.Slot{User: user, Provider: provider, Title: title, State: store.Provisioning, Attempt: 7}
	bare := claimedItem.with(attributes{
		"owner": nil, "lease_until": nil, "due_at": nil, "due_shard": nil, "tries": nil, "reason": nil, "committed": nil,
		"resource_id": nil, "key_id": nil, "org_id": nil, "secret": nil, "created_at": nil,
		"gone_since": nil, "left": nil, "left_since": nil, "expires_at": nil, "report_from": nil, "report_pause": nil, "last_used_on": nil,
	})
	if got := tb.slot(bare); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestASlotThatCannotBeDecodedIsLeftOut(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, change := range map[string]attributes{
		"a newer version": {"v": 2}, "no version": {"v": nil}, "an unknown state": {"state": "new"}, "no state": {"state": nil},
		"an empty state": {"state": ""}, "no attempt": {"attempt": nil}, "an attempt in a text": {"attempt": "7"}, "not managed": {"autogpt_managed": false},
		"neither managed nor not": {"autogpt_managed": nil}, "another type": {"type": "oauth2"}, "no type": {"type": nil}, "no title": {"title": nil},
		"an owner that is no text": {"owner": 1}, "a lease in a text": {"lease_until": "soon"},
		"tries in a text": {"tries": "2"}, "a commit in a text": {"committed": "3"}, "a resource that is no text": {"resource_id": 1},
		"a key that is no text": {"key_id": 1}, "an organisation that is no text": {"org_id": 1}, "a reason that is no text": {"reason": true},
		"a suspicion in a text": {"gone_since": "now"}, "less than nothing left": {"left": -1}, "an expiry in a text": {"expires_at": "never"},
		"a pause in a text": {"report_pause": "long"}, "a pause of less than nothing": {"report_pause": -1},
	} {
		item := claimedItem.with(change)
		tb.put(slotKey, item)
		slots, err := tb.Slots(t.Context(), user, provider)
		if err != nil || len(slots) != 0 {
			t.Errorf("%s: the slots are %+v, %v", name, slots, err)
		}
		account, err := tb.Account(t.Context(), user)
		if err != nil || len(account.Slots)+len(account.Own) != 0 || !reflect.DeepEqual(account.Unreadable, []store.Key{slotKey}) {
			t.Errorf("%s: the account is %+v, %v", name, account, err)
		}
		_, err = tb.Get(t.Context(), user, provider, credential.ManagedID(provider, user))
		wantError(t, name, err, credential.ErrNotFound)
		sealed, err := tb.Sealed(t.Context(), user, provider, credential.ManagedID(provider, user))
		if err == nil || sealed.Ciphertext != nil {
			t.Errorf("%s: its secret is read as %+v", name, sealed)
		}
		_, err = tb.Claim(t.Context(), []store.Slot{absent()}, store.Provisioning, leaseEnd)
		wantError(t, name+", claimed as if absent", err, store.ErrStale)
		tb.wantItem(slotKey, item.with(attributes{"due_shard": "live"}))
	}
}

func TestSlotsTellsAbsentOnesAndADeletedAccount(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(slotKey, claimedItem)
	for _, deleted := range []bool{false, true} {
		if deleted {
			tb.bury()
		}
		slots, err := tb.Slots(t.Context(), user, provider, "open_router")
		if errors.Is(err, credential.ErrAccountDeleted) != deleted || err != nil && !deleted {
			t.Errorf("deleted %t: %v", deleted, err)
		}
		if len(slots) != 2 || slots[provider].Owner != "owner" || slots["open_router"] != (store.Slot{User: user, Provider: "open_router"}) {
			t.Errorf("deleted %t: got %+v", deleted, slots)
		}
	}
	slots, err := tb.Slots(t.Context(), "bob")
	if err != nil || len(slots) != 0 {
		t.Errorf("of none: %+v, %v", slots, err)
	}
}

func TestASlotIsAnsweredByWhatItHolds(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	id := credential.ManagedID(provider, user)
	for _, c := range []struct {
		name   string
		item   attributes
		get    error
		sealed error
	}{
		{"ready", committed, nil, nil},
		{"suspected to be gone", committed.with(attributes{"gone_since": ms(now)}), nil, nil},
		{"made anew because it is gone", claimedItem, credential.ErrNotFound, credential.ErrNotUsable},
		{"made anew", claimedItem.with(attributes{"gone_since": nil}), nil, nil},
		{"gone, as an older version notes it", failedItem.with(attributes{"gone_since": nil, "key_id": nil}), credential.ErrNotFound, credential.ErrNotUsable},
		{"gone, and not made anew", failedItem, credential.ErrNotFound, credential.ErrNotUsable},
		{"provisioned for the first time", claimedItem.with(attributes{"committed": nil, "secret": nil}), credential.ErrNotFound, credential.ErrNotUsable},
		{"never provisioned", failedItem.with(attributes{"committed": nil, "secret": nil}), credential.ErrNotFound, credential.ErrNotUsable},
		{"revoking", claimedItem.with(attributes{"state": "revoking"}), credential.ErrNotFound, credential.ErrNotUsable},
		{"retracting", claimedItem.with(attributes{"state": "retracting", "retracted_by": "user", "secret": nil}), credential.ErrNotFound, credential.ErrNotUsable},
		{"off", claimedItem.with(attributes{"state": "off", "retracted_by": "drained"}), credential.ErrNotFound, credential.ErrNotUsable},
		{"off, nobody knows why", claimedItem.with(attributes{"state": "off"}), credential.ErrNotFound, store.ErrUndecodable},
		{"parked", claimedItem.with(attributes{"state": "parked"}), credential.ErrNotFound, credential.ErrNotUsable},
		{"absent", nil, credential.ErrNotFound, credential.ErrNotFound},
	} {
		tb.remove(slotKey)
		if c.item != nil {
			tb.put(slotKey, c.item)
		}
		m, err := tb.Get(t.Context(), user, provider, id)
		if !errors.Is(err, c.get) || err == nil && (m.ID != id || !m.Managed) {
			t.Errorf("%s: got %+v, %v", c.name, m, err)
		}
		sealed, err := tb.Sealed(t.Context(), user, provider, id)
		if !errors.Is(err, c.sealed) || (err == nil) != (sealed.Ciphertext != nil) || err == nil && sealed.ID != id {
			t.Errorf("%s: its secret is %+v, %v", c.name, sealed, err)
		}
	}
}

func TestNothingIsReadOfADeletedAccount(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.put(slotKey, committed)
	tb.bury()
	for _, at := range [][2]string{{"github", ownID}, {provider, credential.ManagedID(provider, user)}, {"github", "00000000-0000-4000-8000-000000000009"}} {
		_, err := tb.Get(t.Context(), user, at[0], at[1])
		wantError(t, "get", err, credential.ErrAccountDeleted)
		sealed, err := tb.Sealed(t.Context(), user, at[0], at[1])
		wantError(t, "sealed", err, credential.ErrAccountDeleted)
		if sealed.Ciphertext != nil {
			t.Error("a secret came with the error")
		}
	}
}

func TestAnotherUsersCredentialIsNotFound(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.put(slotKey, committed)
	for _, at := range [][3]string{
		{"bob", "github", ownID}, {"bob", provider, credential.ManagedID(provider, user)}, {user, "gitlab", ownID}, {"", "github", ownID},
	} {
		_, err := tb.Get(t.Context(), at[0], at[1], at[2])
		wantError(t, "get", err, credential.ErrNotFound)
		_, err = tb.Sealed(t.Context(), at[0], at[1], at[2])
		wantError(t, "sealed", err, credential.ErrNotFound)
	}
}

// large fills an account with more than two pages of a Query, which are 1 MB each.
func (tb *table) large() (ids []string) {
	tb.t.Helper()
	for i := range 8 {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		tb.put(store.CredentialKey(user, "github", id), ownItem.with(attributes{"secret": bytes.Repeat([]byte("x"), 350<<10)}))
		ids = append(ids, id)
	}
	return ids
}

func TestALargeAccountIsComplete(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	ids := tb.large()
	tb.put(slotKey, claimedItem)
	account, err := tb.Account(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range account.Own {
		got = append(got, m.ID)
	}
	if !slices.Equal(got, ids) || len(account.Slots) != 1 {
		t.Errorf("got %v and %d slots", got, len(account.Slots))
	}
	if tb.proxy.Count("Query") < 3 {
		t.Errorf("there were only %d pages", tb.proxy.Count("Query"))
	}
}

// A part of an account must never be taken for the whole.
func TestAnAccountOfWhichAPageIsLostIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.large()
	tb.on("Query", nil, fault.Drop(), fault.Drop(), fault.Drop())
	account, err := tb.Account(t.Context(), user)
	if err == nil || len(account.Own) != 0 {
		t.Errorf("got %d credentials, %v", len(account.Own), err)
	}
}

// read is the part of a Query or a BatchGetItem that says what is read, and how.
type read struct {
	ConsistentRead           bool
	Select                   string
	ProjectionExpression     string
	ExpressionAttributeNames map[string]string
}

// reads are those that a call asks for.
func reads(t *testing.T, c *fault.Call) []read {
	t.Helper()
	var one read
	var batch struct{ RequestItems map[string]read }
	err := errors.Join(json.Unmarshal(c.Body, &one), json.Unmarshal(c.Body, &batch))
	if err != nil {
		t.Fatal(err)
	}
	if c.Op == "BatchGetItem" {
		return slices.Collect(maps.Values(batch.RequestItems))
	}
	return []read{one}
}

func TestCiphertextsAreReadOnlyToBeReleased(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.put(slotKey, deadItem.with(attributes{"secret": []byte("ciphertext")}))
	tb.put(tombKey, tombItem)
	id := credential.ManagedID(provider, user)
	for name, c := range map[string]struct {
		call       func() error
		ciphertext bool
	}{
		"Account": {func() error { _, err := tb.Account(t.Context(), user); return err }, false},
		"Slots":   {func() error { _, err := tb.Slots(t.Context(), user, provider); return err }, false},
		"Get":     {func() error { _, err := tb.Get(t.Context(), user, provider, id); return err }, false},
		"Remains": {func() error { _, err := tb.Remains(t.Context(), user, nil); return err }, false},
		"Commit, refused": {func() error {
			return tb.Commit(t.Context(), store.Slot{User: user, Provider: provider, Owner: "o"}, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
		}, false},
		"Sealed": {func() error { _, err := tb.Sealed(t.Context(), user, provider, id); return err }, true},
	} {
		tb.proxy.Reset()
		_ = c.call() // what it returns is other tests' business
		seen := 0
		for _, call := range tb.proxy.Calls() {
			if call.Op != "Query" && call.Op != "BatchGetItem" {
				continue
			}
			for _, r := range reads(t, call) {
				seen++
				if !r.ConsistentRead || r.ProjectionExpression == "" || call.Op == "Query" && r.Select != "SPECIFIC_ATTRIBUTES" {
					t.Errorf("%s reads by %+v", name, r)
				}
				if slices.Contains(slices.Collect(maps.Values(r.ExpressionAttributeNames)), "secret") != c.ciphertext {
					t.Errorf("%s reads %v", name, r.ExpressionAttributeNames)
				}
			}
			if bytes.Contains(call.Body, []byte("ALL_OLD")) {
				t.Errorf("%s wants the old item", name)
			}
		}
		if seen != 1 {
			t.Errorf("%s made %d reads", name, seen)
		}
	}
}
