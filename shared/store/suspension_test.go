package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// suspendedItem is a suspension by an operator.
var suspendedItem = attributes{"v": 1, "status": "suspended", "by_operator": ms(now), "ordered_by": "the operator", "reason": "a drill"}

// suspend has an operator suspend the user.
func (tb *table) suspend() {
	tb.t.Helper()
	err := tb.Suspend(context.Background(), user, store.Suspension{By: store.ByOperator, OrderedBy: "the operator", Reason: "a drill"})
	if err != nil {
		tb.t.Fatal(err)
	}
}

// refusedToUsers are all that is done for a user who lives.
var refusedToUsers = map[string]func(context.Context, *table) error{
	"a claim": func(ctx context.Context, tb *table) error {
		_, err := tb.Claim(ctx, []store.Slot{absent()}, store.Provisioning, leaseEnd)
		return err
	},
	"a create": func(ctx context.Context, tb *table) error {
		_, err := tb.Create(ctx, user, credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}, []byte("new"))
		return err
	},
	"a create over the limit": func(ctx context.Context, tb *table) error { return tb.CheckRoom(ctx, user, 1, "") },
	"a change": func(ctx context.Context, tb *table) error {
		_, err := tb.Update(ctx, user, "github", ownID, credential.Change{Title: str("New")}, nil)
		return err
	},
	"a deletion": func(ctx context.Context, tb *table) error { return tb.Delete(ctx, user, "github", ownID) },
	"to give up": func(ctx context.Context, tb *table) error {
		slots, _ := tb.Slots(ctx, user, "open_router")
		return tb.Retract(ctx, slots["open_router"], store.ByUser)
	},
	"a look": func(ctx context.Context, tb *table) error {
		_, err := tb.Get(ctx, user, "github", ownID)
		return err
	},
	"the secret": func(ctx context.Context, tb *table) error {
		_, err := tb.Sealed(ctx, user, "github", ownID)
		return err
	},
	"a list": func(ctx context.Context, tb *table) error {
		account, err := tb.Account(ctx, user)
		return errors.Join(err, account.Refused)
	},
	"a list's second look": func(ctx context.Context, tb *table) error {
		_, err := tb.Slots(ctx, user, provider)
		return err
	},
}

func TestNothingIsDoneForWhoeverIsSuspendedAndAllOfItAfterwards(t *testing.T) {
	t.Parallel()
	for name, do := range refusedToUsers {
		tb := newTable(t)
		item, at := failedItem.with(attributes{"due_shard": "live"}), store.SlotKey(user, "open_router")
		tb.put(ownKey, ownItem)
		tb.put(at, item)
		tb.suspend()
		err := do(t.Context(), tb)
		wantError(t, name, err, credential.ErrAccountSuspended)
		if errors.Is(err, credential.ErrAccountDeleted) {
			t.Errorf("%s: the account is taken for deleted", name)
		}
		tb.wantItem(ownKey, ownItem)
		tb.wantItem(at, item)
		tb.wantItem(slotKey, nil)
		tb.wantItem(tombKey, suspendedItem)
		_, err = tb.Enable(t.Context(), user, store.ByOperator)
		if err != nil {
			t.Fatal(err)
		}
		tb.wantItem(tombKey, nil)
		err = do(t.Context(), tb)
		var full *credential.LimitError
		if err != nil && !errors.As(err, &full) {
			t.Errorf("%s, after that: %v", name, err)
		}
		tb.bury()
		wantError(t, name+" once deleted", do(t.Context(), tb), credential.ErrAccountDeleted)
	}
}

// A later version may know another status: it is no tombstone either.
func TestWhateverHasAStatusIsNoTombstone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(tombKey, attributes{"v": 2, "status": "another", "due_at": ms(now), "due_shard": "dead.0"})
	_, err := tb.Slots(t.Context(), user, provider)
	wantError(t, "slots", err, credential.ErrAccountSuspended)
	remains, err := tb.Remains(t.Context(), user, nil)
	if err != nil || remains.Tombstone != (store.Tombstone{User: user}) || !remains.SuspensionDueAt.IsZero() {
		t.Errorf("what is left is %+v, %v", remains, err)
	}
	wantError(t, "reopen", tb.Reopen(t.Context(), store.Slot{User: user, Provider: provider}), store.ErrStale)
	tb.wantItem(slotKey, nil)
}

func TestADeletionReplacesASuspension(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.suspend()
	buried, err := tb.Bury(t.Context(), user, "")
	if err != nil || !buried {
		t.Errorf("buried: %v, %v", buried, err)
	}
	tb.wantItem(tombKey, tombItem)
	for _, by := range []store.Suspender{store.ByOperator, store.ByCognito} {
		wantError(t, "suspending", tb.Suspend(t.Context(), user, store.Suspension{By: by, OrderedBy: "me", Reason: "late"}), credential.ErrAccountDeleted)
		_, err = tb.Enable(t.Context(), user, by)
		wantError(t, "enabling", err, credential.ErrAccountDeleted)
	}
	tb.wantItem(tombKey, tombItem)
}

// Each party enables whom it has suspended, and nobody else.
func TestAUserIsSuspendedUntilEveryPartyHasEnabledThem(t *testing.T) {
	t.Parallel()
	later := now.Add(time.Hour)
	for _, by := range []store.Suspender{store.ByOperator, store.ByCognito} {
		tb := newTable(t)
		other := store.ByOperator
		if by == other {
			other = store.ByCognito
		}
		check := func(doing string, by, want store.Suspender) {
			t.Helper()
			still, err := tb.Enable(t.Context(), user, by)
			if err != nil || still != want {
				t.Errorf("%s: still suspended by %q, %v", doing, still, err)
			}
		}
		check("nobody", by, "")
		err := errors.Join(tb.Suspend(t.Context(), user, store.Suspension{By: by, OrderedBy: "me", Reason: "why"}), tb.past(later).Suspend(t.Context(), user, store.Suspension{By: by, OrderedBy: "me", Reason: "why"}))
		if err != nil {
			t.Fatal(err)
		}
		if at := tb.get(tombKey)["by_"+string(by)]; at != ms(now) {
			t.Errorf("suspended since %v", at)
		}
		check("by the other party", other, by)
		err = tb.Suspend(t.Context(), user, store.Suspension{By: other, OrderedBy: "me", Reason: "why"})
		if err != nil {
			t.Fatal(err)
		}
		check("the first of two", by, other)
		check("the first again", by, other)
		if item := tb.get(tombKey); item["by_"+string(by)] != nil || item["status"] != "suspended" || (item["reason"] != nil) != (other == store.ByOperator) {
			t.Errorf("of two one is left: %v", item)
		}
		check("the last", other, "")
		tb.wantItem(tombKey, nil)
	}
}

// Between the two writes of an enabling the other party may have enabled the user, too.
func TestAnEnablingGoesOnWhereTheOtherPartyWasFaster(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.suspend()
	err := tb.Suspend(t.Context(), user, store.Suspension{By: store.ByCognito})
	if err != nil {
		t.Fatal(err)
	}
	tb.on("UpdateItem", func(ctx context.Context, call *fault.Call) (*fault.Answer, error) {
		still, err := tb.past(now).Enable(ctx, user, store.ByCognito)
		if err != nil || still != store.ByOperator {
			t.Errorf("still suspended by %q, %v", still, err)
		}
		return call.Forward(ctx)
	})
	still, err := tb.Enable(t.Context(), user, store.ByOperator)
	if err != nil || still != "" {
		t.Errorf("still suspended by %q, %v", still, err)
	}
	tb.wantItem(tombKey, nil)
}

func TestASuspendedUsersSlotWaitsOnlyWhileTheyAreSuspended(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(failedItem)
	before := tb.get(slotKey)
	wantError(t, "of a user who lives", tb.PostponeSuspended(t.Context(), slot, leaseEnd), store.ErrStale)
	tb.wantItem(slotKey, before)
	tb.suspend()
	err := tb.PostponeSuspended(t.Context(), slot, leaseEnd)
	if err != nil {
		t.Fatal(err)
	}
	tb.wantItem(slotKey, before.with(attributes{"due_at": ms(leaseEnd), "due_shard": "live", "reason": "suspended"}))
	stale := slot
	stale.Attempt++
	wantError(t, "of another attempt", tb.PostponeSuspended(t.Context(), stale, leaseEnd), store.ErrStale)
	tb.bury()
	wantError(t, "of a deleted account", tb.PostponeSuspended(t.Context(), slot, now), store.ErrStale)
}

func TestASuspensionIsDueWhenTheKeysAreToBeRevoked(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	end, later := now.Add(time.Hour), now.Add(2*time.Hour)
	due := func() time.Time {
		t.Helper()
		remains, err := tb.Remains(t.Context(), user, nil)
		if err != nil || remains.Tombstone != (store.Tombstone{User: user}) {
			t.Fatalf("what is left is %+v, %v", remains, err)
		}
		return remains.SuspensionDueAt
	}
	suspend := func(keysEnd time.Time) {
		t.Helper()
		err := tb.Suspend(t.Context(), user, store.Suspension{By: store.ByOperator, OrderedBy: "the operator", Reason: "a drill", KeysEnd: keysEnd})
		if err != nil {
			t.Fatal(err)
		}
	}
	postpone := func(was, dueAt time.Time) {
		t.Helper()
		err := tb.PostponeSuspension(t.Context(), user, was, dueAt)
		if err != nil {
			t.Fatal(err)
		}
	}
	suspend(time.Time{})
	tb.wantItem(tombKey, suspendedItem)
	suspend(end)
	suspend(later) // the earlier one counts
	tb.wantItem(tombKey, suspendedItem.with(attributes{"due_at": ms(end), "due_shard": "live"}))
	postpone(later, now) // as it is not
	if at := due(); !at.Equal(end) {
		t.Errorf("it is due at %v", at)
	}
	postpone(end, later)
	if at := due(); !at.Equal(later) {
		t.Errorf("it is due at %v", at)
	}
	postpone(later, time.Time{})
	tb.wantItem(tombKey, suspendedItem)
	deleted := tombItem.with(attributes{"due_at": ms(end)})
	tb.put(tombKey, deleted)
	postpone(end, time.Time{})
	tb.wantItem(tombKey, deleted)
}

func TestASuspendedUsersSlotIsRetractedOnlyWhileTheyAreSuspended(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(readyItem)
	before := tb.get(slotKey)
	wantError(t, "of a user who lives", tb.RetractSuspended(t.Context(), slot), store.ErrStale)
	tb.suspend()
	stale := slot
	stale.Attempt++
	wantError(t, "of another attempt", tb.RetractSuspended(t.Context(), stale), store.ErrStale)
	tb.wantItem(slotKey, before)
	err := tb.RetractSuspended(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	tb.wantItem(slotKey, before.with(attributes{
		"state": "retracting", "retracted_by": "suspended", "due_at": ms(now), "due_shard": "live", "tries": 0, "secret": nil, "gone_since": nil,
	}))
	wantError(t, "a repeat", tb.RetractSuspended(t.Context(), slot), store.ErrStale)
}
