package store_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// claim claims one slot, and fails the test if that fails.
func (tb *table) claim(slot store.Slot, next store.State) store.Slot {
	tb.t.Helper()
	claimed, err := tb.past(now).Claim(context.Background(), []store.Slot{slot}, next, leaseEnd)
	if err != nil {
		tb.t.Fatal(err)
	}
	return claimed[0]
}

// read is the slot as it stands in the table.
func (tb *table) read() store.Slot {
	tb.t.Helper()
	slots, err := tb.past(now).Slots(context.Background(), user, provider)
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) {
		tb.t.Fatal(err)
	}
	return slots[provider]
}

func TestAnAbsentSlotIsClaimed(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	claimed, err := tb.Claim(t.Context(), []store.Slot{absent()}, store.Provisioning, leaseEnd)
	if err != nil || len(claimed) != 1 || claimed[0].Owner == "" {
		t.Fatalf("got %+v, %v", claimed, err)
	}
	tb.wantItem(slotKey, attributes{
		"v": 1, "type": "api_key", "title": title, "autogpt_managed": true, "created_at": ms(now), "state": "provisioning",
		"owner": claimed[0].Owner, "attempt": 1, "lease_until": ms(leaseEnd), "due_at": ms(leaseEnd), "due_shard": "live",
	})
	if !reflect.DeepEqual(tb.read(), claimed[0]) {
		t.Errorf("the claim returned %+v, but the slot is %+v", claimed[0], tb.read())
	}
}

// What is known of the slot outlives the claim: its ciphertext serves until the commit.
func TestASlotIsClaimedWithAllThatItHolds(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, was := range map[string]attributes{
		"failed cleanly":    failedItem,
		"an expired lease":  claimedItem,
		"nobody, unsettled": claimedItem.with(attributes{"state": "ready", "owner": nil}),
		"ready":             failedItem.with(attributes{"state": "ready", "tries": nil, "reason": nil, "due_at": nil, "due_shard": nil}),
	} {
		slot := tb.slot(was)
		slot.Title = "Renamed"
		leaseEnd := leaseEnd.Add(time.Hour)
		claimed, err := tb.Claim(t.Context(), []store.Slot{slot}, store.Provisioning, leaseEnd)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		tb.wantItem(slotKey, was.with(attributes{
			"title": "Renamed", "state": "provisioning", "owner": claimed[0].Owner, "attempt": 8,
			"lease_until": ms(leaseEnd), "due_at": ms(leaseEnd), "due_shard": "live",
		}))
		if claimed[0].Owner == slot.Owner || !reflect.DeepEqual(tb.read(), claimed[0]) {
			t.Errorf("%s: the claim returned %+v, but the slot is %+v", name, claimed[0], tb.read())
		}
	}
}

func TestAClaimLeavesTheStateThatItIsGiven(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	claimed := tb.claim(tb.slot(failedItem.with(attributes{"state": "ready"})), store.Ready)
	if claimed.State != store.Ready || tb.get(slotKey)["state"] != "ready" || !claimed.Usable() {
		t.Errorf("got %+v", claimed)
	}
}

// disturbances are what others may have done to a slot since it was read. Each is a change of one
// attribute.
var disturbances = map[string]attributes{
	"another state":   {"state": "parked"},
	"another attempt": {"attempt": 8},
	"another owner":   {"owner": "other"},
	"no owner":        {"owner": nil},
	"another lease":   {"lease_until": ms(leaseEnd) + 1},
	"no lease":        {"lease_until": nil},
}

// wantStale tries a write under what was read of a slot, after each disturbance: it has to be
// refused and to change nothing.
func (tb *table) wantStale(was attributes, try func(store.Slot) error) {
	tb.t.Helper()
	for name, change := range disturbances {
		item := was.with(change)
		if reflect.DeepEqual(item, was) {
			continue
		}
		slot := tb.slot(was)
		tb.put(slotKey, item)
		err := try(slot)
		if !errors.Is(err, store.ErrStale) {
			tb.t.Errorf("%s: got the error %v", name, err)
		}
		tb.wantUnchanged(item)
	}
	slot := tb.slot(was)
	tb.remove(slotKey)
	err := try(slot)
	if !errors.Is(err, store.ErrStale) {
		tb.t.Errorf("gone: got the error %v", err)
	}
	tb.wantItem(slotKey, nil)
}

// wantUnchanged checks that the slot's item is as it was put.
func (tb *table) wantUnchanged(item attributes) {
	tb.t.Helper()
	if item["due_shard"] != nil {
		item = item.with(attributes{"due_shard": "live"})
	}
	tb.wantItem(slotKey, item)
}

func TestAClaimOfASlotThatIsNotAsItWasReadIsStale(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	claim := func(slot store.Slot) error {
		_, err := tb.Claim(t.Context(), []store.Slot{slot}, store.Provisioning, leaseEnd)
		return err
	}
	tb.wantStale(claimedItem, claim)
	tb.wantStale(failedItem, claim)
	tb.put(slotKey, failedItem)
	wantError(t, "not absent any more", claim(absent()), store.ErrStale)
	tb.wantUnchanged(failedItem)
}

func TestSeveralSlotsAreClaimedAllOrNone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	second := store.Slot{User: user, Provider: "open_router", Title: "OpenRouter"}
	third := store.Slot{User: user, Provider: "ayrshare", Title: "Ayrshare"}
	failed := tb.slot(failedItem)

	tb.put(second.Key(), failedItem)
	_, err := tb.Claim(t.Context(), []store.Slot{failed, second, third}, store.Provisioning, leaseEnd)
	wantError(t, "one of three is stale", err, store.ErrStale)
	tb.wantUnchanged(failedItem)
	tb.wantItem(third.Key(), nil)

	tb.remove(second.Key())
	claimed, err := tb.Claim(t.Context(), []store.Slot{failed, second, third}, store.Provisioning, leaseEnd)
	if err != nil || len(claimed) != 3 {
		t.Fatalf("got %+v, %v", claimed, err)
	}
	for i, want := range []struct {
		provider string
		attempt  int64
	}{{provider, 8}, {"open_router", 1}, {"ayrshare", 1}} {
		got := claimed[i]
		if got.Provider != want.provider || got.Attempt != want.attempt || got.Owner != claimed[0].Owner || got.State != store.Provisioning {
			t.Errorf("claim %d is %+v", i, got)
		}
		item := tb.get(got.Key())
		if item["owner"] != got.Owner || item["attempt"] != int(got.Attempt) {
			t.Errorf("claim %d is %+v, but its item is %v", i, got, item)
		}
	}
}

func TestNothingIsClaimedInADeletedAccount(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.bury()
	failed := tb.slot(failedItem)
	other := store.Slot{User: user, Provider: "open_router"}
	for name, slots := range map[string][]store.Slot{"absent": {other}, "failed": {failed}, "both": {failed, other}, "stale": {absent(), other}} {
		_, err := tb.Claim(t.Context(), slots, store.Provisioning, leaseEnd)
		wantError(t, name, err, credential.ErrAccountDeleted)
	}
	tb.wantUnchanged(failedItem)
	tb.wantItem(other.Key(), nil)
}

func TestAKilledWorkersSlotIsDueWhenItsLeaseEnds(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.claim(absent(), store.Provisioning)
	if len(tb.dueAt(leaseEnd.Add(-time.Millisecond))) != 0 {
		t.Error("it is due before")
	}
	if !reflect.DeepEqual(tb.dueAt(leaseEnd), []store.Key{slotKey}) {
		t.Error("it is not due then")
	}
}

func TestOfManyClaimsOneSucceeds(t *testing.T) {
	t.Parallel()
	for _, was := range []attributes{nil, failedItem} {
		tb := newTable(t)
		slot := absent()
		if was != nil {
			slot = tb.slot(was)
		}
		errs := make(chan error, 10)
		var claimers sync.WaitGroup
		for range cap(errs) {
			claimers.Go(func() {
				_, err := tb.Claim(t.Context(), []store.Slot{slot}, store.Provisioning, leaseEnd)
				errs <- err
			})
		}
		claimers.Wait()
		close(errs)
		won := 0
		for err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, store.ErrStale) {
				t.Errorf("a claim that lost got %v", err)
			}
		}
		if won != 1 {
			t.Errorf("%d claims succeeded", won)
		}
	}
}

func TestAClaimWhoseAnswerIsLostIsRecognised(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.on("TransactWriteItems", fault.LoseAnswer())
	claimed, err := tb.Claim(t.Context(), []store.Slot{absent()}, store.Provisioning, leaseEnd)
	if err != nil || tb.proxy.Count("TransactWriteItems") != 2 || tb.read().Owner != claimed[0].Owner {
		t.Errorf("got %+v, %v", claimed, err)
	}
}

// An outcome that nobody knows must not be taken for a refusal.
func TestAClaimThatFailsIsNeitherStaleNorARefusal(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, f := range map[string]fault.Fault{
		"lost": fault.Drop(), "answer lost": fault.LoseAnswer(), "failing": fault.AWSError(500, "InternalServerError", ""),
		"throttled": fault.Throttled(), "in progress": fault.AWSError(400, "TransactionInProgressException", ""),
		"not allowed": fault.AWSError(400, "AccessDeniedException", ""), "malformed": fault.TransactionCanceled("None", "ValidationError"),
	} {
		tb.remove(slotKey)
		tb.always("TransactWriteItems", f)
		claimed, err := tb.Claim(t.Context(), []store.Slot{absent()}, store.Provisioning, leaseEnd)
		if err == nil || errors.Is(err, store.ErrStale) || errors.Is(err, credential.ErrAccountDeleted) || claimed != nil {
			t.Errorf("%s: got %+v, %v", name, claimed, err)
		}
	}
}

// deadItem is a slot of a deleted account under a claim.
var deadItem = claimedItem.with(attributes{"state": "revoking", "secret": nil, "reason": nil, "tries": 0})

func TestADeadSlotIsClaimedAndKeepsItsState(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.bury()
	for _, state := range []string{"revoking", "parked"} {
		for _, change := range []attributes{{}, {"owner": nil}, {"owner": nil, "lease_until": nil}} {
			was := deadItem.with(attributes{"state": state}).with(change)
			slot := tb.slot(was)
			later := leaseEnd.Add(time.Hour)
			claimed, err := tb.ClaimDead(t.Context(), slot, later)
			if err != nil || claimed.Owner == "" || claimed.Owner == slot.Owner || !reflect.DeepEqual(tb.read(), claimed) {
				t.Errorf("%s %v: got %+v, %v", state, change, claimed, err)
			}
			tb.wantItem(slotKey, was.with(attributes{
				"owner": claimed.Owner, "attempt": 8, "lease_until": ms(later), "due_at": ms(later), "due_shard": "dead",
			}))
		}
	}
}

func TestAClaimOfADeadSlotThatIsNotAsItWasReadIsStale(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	claim := func(slot store.Slot) error {
		_, err := tb.ClaimDead(t.Context(), slot, leaseEnd)
		return err
	}
	tb.wantStale(deadItem, claim)
	tb.wantStale(deadItem.with(attributes{"owner": nil, "lease_until": nil}), claim)
}

func TestAClaimOfADeadSlotWhoseAnswerIsLostIsRecognised(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(deadItem)
	tb.on("UpdateItem", fault.LoseAnswer())
	claimed, err := tb.ClaimDead(t.Context(), slot, leaseEnd)
	if err != nil || tb.proxy.Count("UpdateItem") != 2 || !reflect.DeepEqual(tb.read(), claimed) {
		t.Errorf("got %+v, %v", claimed, err)
	}
}

// The repeat is refused just the same if somebody else was faster: the attempt's number does not
// tell, the owner does.
func TestAClaimOfADeadSlotDoesNotTakeAnothersForItsOwn(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(deadItem)
	var other store.Slot
	tb.on("UpdateItem", func(ctx context.Context, _ *fault.Call) (*fault.Answer, error) {
		var err error
		other, err = tb.past(now).ClaimDead(ctx, slot, leaseEnd)
		return nil, err
	})
	_, err := tb.ClaimDead(t.Context(), slot, leaseEnd)
	wantError(t, "the slower one", err, store.ErrStale)
	if tb.proxy.Count("UpdateItem") != 2 || !reflect.DeepEqual(tb.read(), other) {
		t.Errorf("the slot is %+v, want %+v", tb.read(), other)
	}
}

func TestAClaimOfADeadSlotThatFailsIsNotStale(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(deadItem)
	tb.always("UpdateItem", fault.Drop())
	_, err := tb.ClaimDead(t.Context(), slot, leaseEnd)
	if err == nil || errors.Is(err, store.ErrStale) {
		t.Errorf("lost: %v", err)
	}
	tb.put(slotKey, deadItem.with(attributes{"attempt": 9}))
	tb.always("BatchGetItem", fault.Drop())
	_, err = tb.ClaimDead(t.Context(), slot, leaseEnd)
	if err == nil || errors.Is(err, store.ErrStale) {
		t.Errorf("refused, and then out of reach: %v", err)
	}
}
