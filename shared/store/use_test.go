package store_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// use reads a credential as who hands it out does, and notes that.
func (tb *table) use(key store.Key, at time.Time) error {
	tb.t.Helper()
	id := ownID
	if key.IsSlot() {
		id = credential.ManagedID(provider, user)
	}
	read, err := tb.Sealed(context.Background(), user, key.Provider(), id)
	if err != nil {
		tb.t.Fatal(err)
	}
	return tb.storeAt(tb.url, at, http.DefaultClient).NoteUse(context.Background(), user, read)
}

func TestTheDayOfTheLastUseIsNotedOnceADay(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2027, 1, 16, 0, 0, 0, 0, time.UTC)
	ready := failedItem.with(attributes{"state": "ready", "due_at": nil, "due_shard": nil, "gone_since": nil, "last_used_on": nil})
	for key, item := range map[store.Key]attributes{ownKey: ownItem, slotKey: ready} {
		tb := newTable(t)
		tb.put(key, item)
		for i, c := range []struct {
			at     time.Time
			day    string
			writes int
		}{
			{midnight.Add(-time.Second), "2027-01-15", 1},
			{midnight.Add(-time.Millisecond), "2027-01-15", 1},
			{midnight.In(time.FixedZone("west", -9*3600)), "2027-01-16", 2},
			{midnight.Add(-time.Hour), "2027-01-16", 2}, // by a clock that is behind
		} {
			err := tb.use(key, c.at)
			if err != nil || tb.proxy.Count("UpdateItem") != c.writes {
				t.Errorf("use %d of %s: %v after %d writes", i, key.SK, err, tb.proxy.Count("UpdateItem"))
			}
			tb.wantItem(key, item.with(attributes{"last_used_on": c.day}))
		}
		account, err := tb.Account(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		shown := account.Own
		for _, slot := range account.Slots {
			shown = append(shown, slot.Metadata())
		}
		if len(shown) != 1 || shown[0].LastUsedOn == nil || *shown[0].LastUsedOn != "2027-01-16" {
			t.Errorf("of %s a list has %+v", key.SK, shown)
		}
	}
}

// Two executors read the same item at the same moment, on different days by their clocks.
func TestTheDayOfTheLastUseDoesNotGoBack(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	read, err := tb.Sealed(t.Context(), user, "github", ownID)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now.AddDate(0, 0, 1), now} {
		err := tb.past(at).NoteUse(t.Context(), user, read)
		if err != nil {
			t.Error(err)
		}
	}
	tb.wantItem(ownKey, ownItem.with(attributes{"last_used_on": now.AddDate(0, 0, 1).UTC().Format(time.DateOnly)}))
}

func TestAUseBringsNothingBackThatHasGone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	read, err := tb.Sealed(t.Context(), user, "github", ownID)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(tb.Delete(t.Context(), user, "github", ownID), tb.NoteUse(t.Context(), user, read))
	account, reading := tb.Account(t.Context(), user)
	if err != nil || reading != nil || len(account.Own)+len(account.Unreadable) != 0 {
		t.Errorf("%v, %v: there is %+v", err, reading, account)
	}
}

// A use between a reading and a write of the protocol is in nobody's way.
func TestAUseRefusesNoOtherWrite(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(failedItem.with(attributes{"state": "ready", "gone_since": nil}))
	err := tb.use(slotKey, now)
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := tb.Claim(t.Context(), []store.Slot{slot}, store.Ready, leaseEnd)
	if err != nil {
		t.Fatalf("the claim after a use: %v", err)
	}
	err = errors.Join(tb.use(slotKey, now.AddDate(0, 0, 1)), tb.Release(t.Context(), claimed[0], store.Release{State: store.Ready, Settled: true, Resource: slot.Resource}))
	if err != nil {
		t.Errorf("the release after a use: %v", err)
	}
	tb.put(ownKey, ownItem.with(attributes{"revision": "1"}))
	err = tb.use(ownKey, now)
	if err != nil {
		t.Fatal(err)
	}
	m, err := tb.Update(t.Context(), user, "github", ownID, credential.Change{Title: str("new"), Match: []string{"1"}}, nil)
	if err != nil || m.LastUsedOn == nil {
		t.Errorf("the change after a use: %v %+v", err, m)
	}
}

func TestAUseThatMeetsAnotherWriteIsNotRepeated(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.always("UpdateItem", fault.Respond(http.StatusBadRequest, nil, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException"}`)))
	err := tb.use(ownKey, now)
	if err != nil || tb.proxy.Count("UpdateItem") != 1 {
		t.Errorf("%v after %d writes", err, tb.proxy.Count("UpdateItem"))
	}
	tb.always("UpdateItem", fault.Respond(http.StatusBadRequest, nil, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException"}`)))
	err = tb.use(ownKey, now)
	if err == nil {
		t.Error("that it is not allowed is no error")
	}
}
