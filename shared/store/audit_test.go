package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// readyItem is a slot at rest.
var readyItem = failedItem.with(attributes{"state": "ready", "tries": nil, "reason": nil, "due_at": nil, "due_shard": nil})

func TestAScanGoesOverEverySlotOfEverybodyPageByPage(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	var want []string
	for i := range 250 { // of which a page goes over 100
		someone := fmt.Sprintf("user-%03d", i)
		switch {
		case i == 7:
			tb.put(store.SlotKey(someone, provider), readyItem.with(attributes{"v": 2}))
		case i%2 == 0:
			tb.put(store.SlotKey(someone, provider), readyItem)
			want = append(want, someone)
		case i%3 == 0:
			tb.put(store.CredentialKey(someone, "github", ownID), ownItem)
		default:
			tb.put(store.Key{PK: "USER#" + someone, SK: "ACCOUNT"}, tombItem)
		}
	}
	var got []string
	var bad []store.Key
	pages := 0
	for from, more := (store.Key{}), true; more; more = from != (store.Key{}) {
		slots, unreadable, next, err := tb.Scan(t.Context(), store.Segment{}, from)
		if err != nil {
			t.Fatal(err)
		}
		for _, slot := range slots {
			got = append(got, slot.User)
		}
		bad = append(bad, unreadable...)
		from = next
		pages++
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || pages < 3 || len(bad) != 1 || bad[0] != store.SlotKey("user-007", provider) {
		t.Errorf("in %d pages: %d slots, want %d; unreadable %v", pages, len(got), len(want), bad)
	}
}

func TestAScanThatFailsIsNoEmptyTable(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.on("Scan", fault.Throttled(), fault.Throttled(), fault.Throttled())
	_, _, _, err := tb.Scan(t.Context(), store.Segment{}, store.Key{})
	if err == nil {
		t.Error("no error")
	}
}

func TestASlotAtRestIsMadeDue(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(readyItem)
	err := tb.Postpone(t.Context(), slot, store.Wait{State: store.Ready, Reason: "reported", DueAt: now})
	if err != nil {
		t.Fatal(err)
	}
	tb.wantItem(slotKey, readyItem.with(attributes{"due_at": ms(now), "due_shard": "live", "reason": "reported"}))
	if !slices.Equal(tb.dueAt(now), []store.Key{slotKey}) {
		t.Error("it is not due")
	}
}

func TestASlotOfADeletedAccountIsReopenedToRevokeWhatWasFound(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]fault.Fault{"at once": nil, "conflict": {fault.TransactionCanceled("None", "TransactionConflict")}} {
		tb := newTable(t)
		tb.put(tombKey, tombItem)
		tb.on("TransactWriteItems", faults...)
		found := credential.Resource{ID: "pod-1", OrgID: "org-1"}
		err := tb.Reopen(t.Context(), store.Slot{User: user, Provider: provider, Title: title, Resource: found})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slots, err := tb.Slots(t.Context(), user, provider)
		want := store.Slot{User: user, Provider: provider, Title: title, State: store.Revoking, DueAt: now, Resource: found, CreatedAt: now}
		if !errors.Is(err, credential.ErrAccountDeleted) || slots[provider] != want {
			t.Errorf("%s: %v %+v", name, err, slots[provider])
		}
		if tb.get(slotKey)["due_shard"] != "dead" || !slices.Contains(tb.dueAt(now), slotKey) {
			t.Errorf("%s: it is not due: %v", name, tb.get(slotKey))
		}
	}
}

func TestNothingIsReopenedOfALivingUserNorOverASlot(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	reopen := func() error {
		return tb.Reopen(t.Context(), store.Slot{User: user, Provider: provider, Title: title, Resource: credential.Resource{ID: "pod-1"}})
	}
	wantError(t, "no tombstone", reopen(), store.ErrStale)
	tb.wantItem(slotKey, nil)
	tb.put(tombKey, tombItem)
	tb.put(slotKey, deadItem)
	was := tb.get(slotKey)
	wantError(t, "a slot", reopen(), store.ErrStale)
	tb.wantItem(slotKey, was)
	tb.remove(slotKey)
	tb.on("TransactWriteItems", fault.Throttled(), fault.Throttled(), fault.Throttled())
	err := reopen()
	if err == nil || errors.Is(err, store.ErrStale) {
		t.Errorf("throttled: %v", err)
	}
}

func TestWhatTheUserPoolDoesNotKnowIsNotedOnTheSlotAsItWasRead(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	key := store.SlotKey(user, provider)
	tb.put(key, readyItem)
	scan := func() store.Slot {
		t.Helper()
		slots, _, _, err := tb.Scan(t.Context(), store.Segment{}, store.Key{})
		if err != nil || len(slots) != 1 {
			t.Fatalf("%v, %+v", err, slots)
		}
		return slots[0]
	}
	was, since := scan(), time.UnixMilli(1_800_000_000_000)
	err := tb.NoteUnknown(t.Context(), was, since)
	if err != nil || !scan().UnknownSince.Equal(since) {
		t.Errorf("%v, the slot is %+v", err, scan())
	}
	err = tb.NoteUnknown(t.Context(), was, time.Time{})
	if now := scan(); err != nil || now != was {
		t.Errorf("%v, the slot is %+v", err, now)
	}
	was.Attempt++ // somebody has claimed it meanwhile
	err = tb.NoteUnknown(t.Context(), was, since)
	if !errors.Is(err, store.ErrStale) || !scan().UnknownSince.IsZero() {
		t.Errorf("%v, the slot is %+v", err, scan())
	}
	was.User = "nobody"
	err = tb.NoteUnknown(t.Context(), was, since)
	if !errors.Is(err, store.ErrStale) {
		t.Errorf("of a slot that is not there: %v", err)
	}
}
