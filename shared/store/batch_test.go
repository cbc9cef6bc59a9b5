package store_test

import (
	"context"
	"errors"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// reading are all that reads items by their keys. Each returns an error if it took an unread item
// for an absent one.
func reading(tb *table) map[string]func() error {
	id := credential.ManagedID(provider, user)
	return map[string]func() error{
		"Slots": func() error {
			slots, err := tb.Slots(tb.t.Context(), user, provider, "open_router")
			if err == nil && slots[provider].State == store.Absent {
				return errors.New("the slot is absent")
			}
			return err
		},
		"Get":    func() error { _, err := tb.Get(tb.t.Context(), user, provider, id); return err },
		"Sealed": func() error { _, err := tb.Sealed(tb.t.Context(), user, provider, id); return err },
	}
}

var (
	anyKey       = func(fault.Key) bool { return true }
	theTombstone = func(k fault.Key) bool { return k["sk"]["S"] == tombKey.SK }
	theSlot      = func(k fault.Key) bool { return k["sk"]["S"] == slotKey.SK }
)

func TestUnprocessedKeysAreReadAgain(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(slotKey, committed)
	for _, deleted := range []bool{false, true} {
		if deleted {
			tb.bury()
		}
		for what, match := range map[string]func(fault.Key) bool{"the slot": theSlot, "the tombstone": theTombstone, "everything": anyKey} {
			for name, call := range reading(tb) {
				tb.on("BatchGetItem", fault.UnprocessedKeys(match), fault.UnprocessedKeys(match))
				err := call()
				if errors.Is(err, credential.ErrAccountDeleted) != deleted || err != nil && !deleted {
					t.Errorf("%s with %s unprocessed twice, deleted %t: %v", name, what, deleted, err)
				}
				if tb.proxy.Count("BatchGetItem") != 3 {
					t.Errorf("%s with %s unprocessed twice read %d times", name, what, tb.proxy.Count("BatchGetItem"))
				}
			}
		}
	}
}

func TestKeysThatStayUnprocessedAreAnErrorAndNotAnAbsence(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(slotKey, committed)
	tb.bury()
	for what, match := range map[string]func(fault.Key) bool{"the slot": theSlot, "the tombstone": theTombstone, "everything": anyKey} {
		for name, call := range reading(tb) {
			tb.always("BatchGetItem", fault.UnprocessedKeys(match))
			err := call()
			for _, answer := range []error{credential.ErrNotFound, credential.ErrNotUsable, credential.ErrAccountDeleted} {
				if err == nil || errors.Is(err, answer) {
					t.Errorf("%s with %s unprocessed: got the error %v", name, what, err)
				}
			}
		}
	}
}

// oneKeyACall leaves all keys of a call unprocessed but the first. (A call of which nothing can be
// processed is throttled instead, which is what becomes of the second one above; the SDK repeats
// that by itself.)
func oneKeyACall(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	first := true
	return fault.UnprocessedKeys(func(fault.Key) bool {
		defer func() { first = false }()
		return !first
	})(ctx, c)
}

func TestKeysMayBeReadInFiveCalls(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	providers := []string{"a", "b", "c", "d", "e"}
	for _, p := range providers {
		tb.put(store.SlotKey(user, p), claimedItem)
	}
	tb.always("BatchGetItem", oneKeyACall)
	slots, err := tb.Slots(t.Context(), user, providers[:4]...) // and the tombstone
	if err != nil || len(slots) != 4 || tb.proxy.Count("BatchGetItem") != 5 {
		t.Errorf("got %+v in %d calls, %v", slots, tb.proxy.Count("BatchGetItem"), err)
	}
	for p, slot := range slots {
		if slot.Owner != "owner" {
			t.Errorf("the slot at %s is %+v", p, slot)
		}
	}
	tb.always("BatchGetItem", oneKeyACall)
	slots, err = tb.Slots(t.Context(), user, providers...)
	if err == nil || slots != nil || tb.proxy.Count("BatchGetItem") != 5 {
		t.Errorf("got %+v in %d calls, %v", slots, tb.proxy.Count("BatchGetItem"), err)
	}
}

func TestTheCallersContextEndsTheReadingOfUnprocessedKeys(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tb.Store = tb.storeAt(tb.url, now, &patience{1, cancel})
	tb.always("BatchGetItem", oneKeyACall)
	_, err := tb.Slots(ctx, user, provider)
	wantError(t, "slots", err, context.Canceled)
	if tb.proxy.Count("BatchGetItem") != 1 {
		t.Errorf("there were %d calls", tb.proxy.Count("BatchGetItem"))
	}
}

// A commit that was refused must not be given up, nor taken for done, for want of a look at the
// slot.
func TestAnUnreadSlotDoesNotEndACommit(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	tb.put(slotKey, claimedItem.with(attributes{"attempt": 8}))
	tb.always("BatchGetItem", fault.UnprocessedKeys(theSlot))
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
	if err == nil || errors.Is(err, store.ErrLost) {
		t.Errorf("got the error %v", err)
	}
}
