package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// tombstone is the user's, as a deletion reads it.
func (tb *table) tombstone() (store.Tombstone, error) {
	remains, err := tb.Remains(context.Background(), user, nil)
	return remains.Tombstone, err
}

func TestADeletionReadsKeysAndStatesAndNothingThatAUserWrote(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(tombKey, tombItem.with(attributes{"cognito_username": "alice", "tries": 3}))
	tb.put(ownKey, ownItem.with(attributes{"scopes": strings.Repeat("s", 60_000)}))
	tb.put(slotKey, deadItem)
	got, err := tb.Remains(t.Context(), user, nil)
	if err != nil {
		t.Fatal(err)
	}
	dead := tb.read()
	got.ReadAt = now
	want := store.Remains{
		User:      user,
		ReadAt:    now,
		Tombstone: store.Tombstone{User: user, Username: "alice", Tries: 3, CreatedAt: now, DueAt: now},
		Slots:     []store.Slot{{User: user, Provider: provider, State: dead.State, Reason: dead.Reason, DueAt: dead.DueAt}},
		Own:       []store.Key{ownKey},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	for _, call := range tb.proxy.Calls() {
		if call.Op != "Query" {
			continue
		}
		var in struct{ ExpressionAttributeNames map[string]string }
		err := json.Unmarshal(call.Body, &in)
		if err != nil {
			t.Fatal(err)
		}
		asked := slices.Sorted(maps.Values(in.ExpressionAttributeNames))
		if !slices.Equal(asked, []string{"asks", "cognito_username", "created_at", "due_at", "pk", "reason", "sk", "state", "status", "tries"}) {
			t.Errorf("it reads %v", asked)
		}
	}
}

func TestWhatCannotBeDecodedIsFoundByADeletion(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, change := range undecodable {
		tb.put(ownKey, ownItem.with(change))
		tb.put(slotKey, deadItem.with(attributes{"v": 2, "state": nil}))
		got, err := tb.Remains(t.Context(), user, nil)
		if err != nil || !slices.Equal(got.Own, []store.Key{ownKey}) || len(got.Slots) != 1 || got.Slots[0].Key() != slotKey {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	tb.put(tombKey, tombItem.with(attributes{"tries": "many"}))
	_, err := tb.Remains(t.Context(), user, nil)
	wantError(t, "the tombstone", err, store.ErrUndecodable)
}

func TestADeletionReadsAndDeletesPageByPage(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	const all = store.RemainsPage + 40
	want := map[store.Key]bool{}
	for range all {
		key := store.CredentialKey(user, "github", credential.NewID())
		tb.put(key, ownItem)
		want[key] = true
	}
	tb.put(tombKey, tombItem)
	first, err := tb.Remains(t.Context(), user, nil)
	if err != nil || len(first.Own) != store.RemainsPage-1 || first.Next == nil || first.Tombstone.CreatedAt.IsZero() {
		t.Fatalf("the first page has %d items, next %v, %v", len(first.Own), first.Next, err)
	}
	last, err := tb.Remains(t.Context(), user, first.Next)
	if err != nil || len(last.Own) != all-len(first.Own) || last.Next != nil || last.Empty() {
		t.Fatalf("the last page has %d items, next %v, %v", len(last.Own), last.Next, err)
	}
	for _, key := range append(first.Own, last.Own...) {
		delete(want, key)
	}
	if len(want) != 0 {
		t.Errorf("on neither page: %v", want)
	}
	for _, page := range []store.Remains{first, last} {
		err = tb.DeleteOwn(t.Context(), page.Own...)
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := tb.proxy.Count("BatchWriteItem"); n != 8+2 {
		t.Errorf("there were %d calls", n)
	}
	left, err := tb.Remains(t.Context(), user, nil)
	if err != nil || !left.Empty() || left.Tombstone != first.Tombstone {
		t.Errorf("left is %+v, %v", left, err)
	}
}

func TestACredentialOfADeletedAccountIsDeletedWhateverItIs(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, change := range undecodable {
		tb.put(ownKey, ownItem.with(change))
		for range 2 {
			err := tb.DeleteOwn(t.Context(), ownKey)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		tb.wantItem(ownKey, nil)
	}
	tb.put(ownKey, ownItem)
	tb.always("BatchWriteItem", fault.Drop())
	err := tb.DeleteOwn(t.Context(), ownKey)
	if err == nil {
		t.Error("nothing was deleted, and there is no error")
	}
}

// A slot goes only after its revocation, under its claim; a tombstone never.
func TestNoSlotAndNoTombstoneIsDeletedByItsKeyAlone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.put(slotKey, deadItem)
	tb.put(tombKey, tombItem)
	for _, key := range []store.Key{slotKey, tombKey} {
		err := tb.DeleteOwn(t.Context(), ownKey, key)
		if err == nil {
			t.Errorf("%s: no error", key.SK)
		}
	}
	tb.wantItem(ownKey, ownItem)
	tb.wantUnchanged(deadItem)
	tb.wantItem(tombKey, tombItem)
}

// oneItemACall carries out the first request of a batch and gives the others back as unprocessed.
// DynamoDB Local never does that.
func oneItemACall(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	var in struct {
		RequestItems map[string][]json.RawMessage
	}
	err := json.Unmarshal(c.Body, &in)
	if err != nil {
		return nil, err
	}
	left := map[string][]json.RawMessage{}
	for table, requests := range in.RequestItems {
		in.RequestItems[table] = requests[:1]
		if len(requests) > 1 {
			left[table] = requests[1:]
		}
	}
	reduced := *c
	reduced.Body, err = json.Marshal(in)
	if err != nil {
		return nil, err
	}
	a, err := reduced.Forward(ctx)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"UnprocessedItems": left})
	a.SetBody(body)
	return a, err
}

func TestWhatDynamoDBLeavesOfABatchIsDeletedAfterAll(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	var keys []store.Key
	for i := range 10 {
		key := store.CredentialKey(user, "github", fmt.Sprint("id-", i))
		tb.put(key, ownItem)
		keys = append(keys, key)
	}
	tb.always("BatchWriteItem", oneItemACall)
	err := tb.DeleteOwn(t.Context(), keys...)
	if err == nil || tb.proxy.Count("BatchWriteItem") != 5 {
		t.Errorf("got %v after %d calls", err, tb.proxy.Count("BatchWriteItem"))
	}
	tb.on("BatchWriteItem", oneItemACall)
	err = tb.DeleteOwn(t.Context(), keys...)
	if err != nil {
		t.Error(err)
	}
	for _, key := range keys {
		tb.wantItem(key, nil)
	}
}
