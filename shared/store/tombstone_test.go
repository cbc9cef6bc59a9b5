package store_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// tombItem is a tombstone that is due, with nothing else to say.
var tombItem = attributes{"v": 1, "created_at": ms(now), "due_at": ms(now), "due_shard": "dead"}

func TestATombstoneIsDueAtOnce(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	_, err := tb.Bury(t.Context(), user, "")
	if err != nil {
		t.Fatal(err)
	}
	tb.wantItem(tombKey, tombItem)
	if !reflect.DeepEqual(tb.dueAt(now), []store.Key{tombKey}) || len(tb.dueAt(now.Add(-time.Millisecond))) != 0 {
		t.Error("it is not due at once")
	}
	got, err := tb.tombstone()
	if err != nil || got != (store.Tombstone{User: user, CreatedAt: now, DueAt: now}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestATombstoneNotesWhoIsToBeRemovedFromTheUserPool(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	_, err := tb.Bury(t.Context(), user, "alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	tb.wantItem(tombKey, tombItem.with(attributes{"cognito_username": "alice@example.com"}))
	got, err := tb.tombstone()
	if err != nil || got != (store.Tombstone{User: user, Username: "alice@example.com", CreatedAt: now, DueAt: now}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestATombstoneIsWrittenOnce(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	written, err := tb.Bury(t.Context(), user, "alice@example.com")
	if err != nil || !written {
		t.Fatalf("written: %v, %v", written, err)
	}
	stands := tb.get(tombKey)
	later := tb.past(now.Add(time.Hour))
	written, err = later.Bury(t.Context(), user, "")
	if err != nil || written {
		t.Errorf("again: written: %v, %v", written, err)
	}
	tb.wantItem(tombKey, stands)
}

// Who deletes their account after the event of it came has a username to be noted, which the event
// had not.
func TestAUsernameIsNotedOnATombstoneThatStands(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	later := now.Add(time.Hour)
	for name, stands := range map[string]attributes{
		"due":        tombItem.with(attributes{"due_shard": "dead.0", "tries": 4}),
		"at rest":    {"v": 1, "created_at": ms(now)},
		"another is": tombItem.with(attributes{"cognito_username": "old"}),
	} {
		tb.put(tombKey, stands)
		_, err := tb.past(later).Bury(t.Context(), user, "alice")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tb.wantItem(tombKey, stands.with(attributes{"cognito_username": "alice", "due_at": ms(later), "due_shard": "dead"}))
		if !reflect.DeepEqual(tb.dueAt(later), []store.Key{tombKey}) {
			t.Errorf("%s: it is not due", name)
		}
	}
}

// Whoever asks again while the user pool is down must not have it asked each time.
func TestAUsernameThatIsNotedAlreadyDoesNotShortenTheBackoff(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	stands := tombItem.with(attributes{"cognito_username": "alice", "tries": 4, "due_at": ms(leaseEnd)})
	tb.put(tombKey, stands)
	_, err := tb.Bury(t.Context(), user, "alice")
	if err != nil {
		t.Error(err)
	}
	tb.wantItem(tombKey, stands)
}

func TestATombstoneWhoseAnswerIsLostStands(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, username := range []string{"", "alice"} {
		tb.remove(tombKey)
		tb.on("PutItem", fault.LoseAnswer())
		_, err := tb.Bury(t.Context(), user, username)
		if err != nil || tb.proxy.Count("PutItem") != 2 {
			t.Errorf("username %q: %v", username, err)
		}
		got, err := tb.tombstone()
		if err != nil || got.Username != username {
			t.Errorf("username %q: got %+v, %v", username, got, err)
		}
	}
}

func TestATombstoneThatMayNotStandIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.always("PutItem", fault.Drop())
	_, err := tb.Bury(t.Context(), user, "")
	if err == nil {
		t.Error("nothing was written, and there is no error")
	}
	tb.wantItem(tombKey, nil)
	tb.bury()
	tb.always("UpdateItem", fault.Drop())
	_, err = tb.Bury(t.Context(), user, "alice")
	if err == nil {
		t.Error("the username was not noted, and there is no error")
	}
}

func TestWithoutATombstoneThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	got, err := tb.tombstone()
	if err != nil || got != (store.Tombstone{User: user}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, write := range map[string]func() error{
		"UsernameGone":      func() error { return tb.UsernameGone(t.Context(), store.Tombstone{User: user, Username: "alice"}) },
		"Rest":              func() error { return tb.Rest(t.Context(), user) },
		"PostponeTombstone": func() error { return tb.PostponeTombstone(t.Context(), store.Tombstone{User: user}, now) },
	} {
		err := write()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tb.wantItem(tombKey, nil)
	}
}

func TestATombstoneThatCannotBeDecodedIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, change := range []attributes{{"cognito_username": 5}, {"tries": "many"}, {"created_at": "then"}} {
		tb.put(tombKey, tombItem.with(change))
		got, err := tb.tombstone()
		if err == nil {
			t.Errorf("%v: got %+v", change, got)
		}
		account, err := tb.Account(t.Context(), user)
		if err != nil || !errors.Is(account.Refused, credential.ErrAccountDeleted) {
			t.Errorf("%v: the account is %+v, %v", change, account, err)
		}
	}
}

func TestAUsernameThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	stands := tombItem.with(attributes{"cognito_username": "alice"})
	tb.put(tombKey, stands)
	for range 2 {
		err := tb.UsernameGone(t.Context(), store.Tombstone{User: user, Username: "alice"})
		if err != nil {
			t.Error(err)
		}
		tb.wantItem(tombKey, tombItem)
	}
	stands = tombItem.with(attributes{"cognito_username": "another"})
	tb.put(tombKey, stands)
	err := tb.UsernameGone(t.Context(), store.Tombstone{User: user, Username: "alice"})
	if err != nil {
		t.Error(err)
	}
	tb.wantItem(tombKey, stands)
}

func TestATombstoneAtRestStandsAndIsNotDue(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(tombKey, tombItem.with(attributes{"tries": 3}))
	for range 2 {
		err := tb.Rest(t.Context(), user)
		if err != nil {
			t.Error(err)
		}
		tb.wantItem(tombKey, attributes{"v": 1, "created_at": ms(now)})
	}
	account, err := tb.Account(t.Context(), user)
	if err != nil || !errors.Is(account.Refused, credential.ErrAccountDeleted) {
		t.Errorf("the account is %+v, %v", account, err)
	}
}

func TestATombstoneDoesNotRestWhileAUserHasToBeRemoved(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	stands := tombItem.with(attributes{"cognito_username": "alice", "tries": 3})
	tb.put(tombKey, stands)
	err := tb.Rest(t.Context(), user)
	if err != nil {
		t.Error(err)
	}
	tb.wantItem(tombKey, stands)
}

func TestAPostponedTombstoneIsDueLater(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(tombKey, tombItem.with(attributes{"due_shard": "dead.0", "cognito_username": "alice"}))
	later := now.Add(time.Hour)
	err := tb.PostponeTombstone(t.Context(), store.Tombstone{User: user, Tries: 4}, later)
	if err != nil {
		t.Error(err)
	}
	tb.wantItem(tombKey, tombItem.with(attributes{"due_at": ms(later), "tries": 4, "cognito_username": "alice"}))
	got, err := tb.tombstone()
	if err != nil || got != (store.Tombstone{User: user, Username: "alice", Tries: 4, CreatedAt: now, DueAt: later}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The round that finished was right: a slower one must not wake the tombstone again.
func TestATombstoneAtRestIsNotPostponed(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	rests := attributes{"v": 1, "created_at": ms(now)}
	tb.put(tombKey, rests)
	err := tb.PostponeTombstone(t.Context(), store.Tombstone{User: user, Tries: 4}, now)
	if err != nil {
		t.Error(err)
	}
	tb.wantItem(tombKey, rests)
}

func TestAMarkedSlotIsRevokedAtOnceAndHasNoSecret(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, was := range map[string]attributes{
		"ready":             committed,
		"claimed":           claimedItem,
		"failed":            failedItem,
		"unsettled":         claimedItem.with(attributes{"owner": nil}),
		"never provisioned": claimedItem.with(attributes{"committed": nil, "secret": nil, "resource_id": nil, "key_id": nil, "org_id": nil}),
		"a newer version's": claimedItem.with(attributes{"v": 2, "state": "new", "added": "something"}),
		"without a state":   claimedItem.with(attributes{"state": nil}),
	} {
		tb.put(slotKey, was)
		err := tb.MarkRevoking(t.Context(), slotKey, time.Time{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		marked := was.with(attributes{"state": "revoking", "due_at": ms(now), "due_shard": "dead", "tries": 0, "secret": nil, "reason": nil, "gone_since": nil})
		tb.wantItem(slotKey, marked)
		if !reflect.DeepEqual(tb.dueAt(now), []store.Key{slotKey}) {
			t.Errorf("%s: it is not due at once", name)
		}
	}
}

func TestASlotIsMarkedOnce(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, state := range []string{"revoking", "parked"} {
		was := deadItem.with(attributes{"state": state, "tries": 5, "reason": "quota", "due_at": ms(leaseEnd)})
		tb.put(slotKey, was)
		err := tb.MarkRevoking(t.Context(), slotKey, time.Time{})
		if err != nil {
			t.Errorf("%s: %v", state, err)
		}
		tb.wantUnchanged(was)
	}
	tb.remove(slotKey)
	err := tb.MarkRevoking(t.Context(), slotKey, time.Time{})
	if err != nil {
		t.Errorf("gone: %v", err)
	}
	tb.wantItem(slotKey, nil)
}

// A worker that was provisioning when the account was deleted can neither store its key nor end the
// revocation.
func TestAMarkedSlotIsLostToItsWorker(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	tb.bury()
	err := tb.MarkRevoking(t.Context(), slotKey, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	marked := tb.get(slotKey)
	wantError(t, "commit", tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true}), store.ErrLost)
	wantError(t, "release", tb.Release(t.Context(), slot, store.Release{State: store.Failed, Settled: true}), store.ErrLost)
	wantError(t, "remove", tb.Remove(t.Context(), slot), store.ErrLost)
	wantError(t, "postpone", tb.Postpone(t.Context(), slot, store.Wait{State: store.Failed, Reason: "", DueAt: now}), store.ErrStale)
	_, err = tb.Claim(t.Context(), []store.Slot{tb.read()}, store.Provisioning, leaseEnd)
	wantError(t, "claim", err, credential.ErrAccountDeleted)
	tb.wantItem(slotKey, marked)
}

func TestAWriteToATombstoneThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(tombKey, tombItem)
	tb.put(slotKey, claimedItem)
	tb.always("UpdateItem", fault.Drop())
	for name, err := range map[string]error{
		"UsernameGone":      tb.UsernameGone(t.Context(), store.Tombstone{User: user, Username: "alice"}),
		"Rest":              tb.Rest(t.Context(), user),
		"PostponeTombstone": tb.PostponeTombstone(t.Context(), store.Tombstone{User: user}, now),
		"MarkRevoking":      tb.MarkRevoking(t.Context(), slotKey, time.Time{}),
		"Postpone":          tb.Postpone(t.Context(), tb.read(), store.Wait{State: store.Failed, Reason: "", DueAt: now}),
	} {
		if err == nil || errors.Is(err, store.ErrStale) {
			t.Errorf("%s returned %v", name, err)
		}
	}
}
