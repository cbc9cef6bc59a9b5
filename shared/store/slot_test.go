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

var made = credential.Resource{ID: "new-pod", KeyID: "new-key", OrgID: "new-org"}

// committed is the claimed slot once its attempt has stored a secret and nothing else can take
// effect.
var committed = claimedItem.with(attributes{
	"state": "ready", "secret": []byte("new"), "committed": 7, "resource_id": "new-pod", "key_id": "new-key", "org_id": "new-org",
	"owner": nil, "tries": nil, "reason": nil, "lease_until": nil, "due_at": nil, "due_shard": nil, "gone_since": nil, "expires_at": nil,
	"report_from": nil, "report_pause": nil,
})

func TestACommitEndsTheClaim(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: true})
	if err != nil {
		t.Errorf("commit: %v", err)
	}
	tb.wantItem(slotKey, committed)
	if len(tb.dueAt(now.AddDate(1, 0, 0))) != 0 {
		t.Error("a settled slot is due for something")
	}
}

func TestACommitNotesWhenTheKeyExpires(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	expires := now.AddDate(0, 1, 0)
	err := tb.Commit(t.Context(), tb.slot(claimedItem), store.Made{Ciphertext: []byte("new"), Resource: made, ExpiresAt: expires, Settled: true})
	if err != nil {
		t.Errorf("commit: %v", err)
	}
	tb.wantItem(slotKey, committed.with(attributes{"expires_at": ms(expires)}))
}

func TestACommitWithAnUnknownOutcomeKeepsTheLease(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.claim(tb.slot(failedItem), store.Provisioning)
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: false})
	if err != nil {
		t.Errorf("commit: %v", err)
	}
	claimable := leaseEnd.Add(store.SkewMargin)
	tb.wantItem(slotKey, committed.with(attributes{"committed": 8, "attempt": 8, "lease_until": ms(leaseEnd), "due_at": ms(claimable), "due_shard": "live"}))
	if len(tb.dueAt(claimable.Add(-time.Millisecond))) != 0 || !reflect.DeepEqual(tb.dueAt(claimable), []store.Key{slotKey}) {
		t.Error("it is not due when it can be claimed")
	}
}

// notMine are what others may have done to a slot under a claim.
var notMine = map[string]attributes{
	"another owner":           {"owner": "other"},
	"no owner":                {"owner": nil},
	"another attempt":         {"attempt": 8},
	"a taken over claim":      {"attempt": 8, "owner": "other"},
	"marked":                  {"state": "revoking"},
	"parked":                  {"state": "parked"},
	"released":                {"state": "failed", "owner": nil},
	"ready by an earlier one": {"state": "ready", "owner": nil, "committed": 6},
	"ready by a later one":    {"state": "ready", "owner": nil, "attempt": 8, "committed": 8},
}

// wantLost tries a write under a claim that was lost: it has to be refused and to change nothing.
func (tb *table) wantLost(was attributes, try func(store.Slot) error) {
	tb.t.Helper()
	for name, change := range notMine {
		item := was.with(change)
		if reflect.DeepEqual(item, was) {
			continue
		}
		slot := tb.slot(was)
		tb.put(slotKey, item)
		err := try(slot)
		if !errors.Is(err, store.ErrLost) {
			tb.t.Errorf("%s: got the error %v", name, err)
		}
		tb.wantUnchanged(item)
	}
}

func TestACommitUnderALostClaimIsRefused(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	commit := func(slot store.Slot) error {
		return tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: true})
	}
	tb.wantLost(claimedItem, commit)
	slot := tb.slot(claimedItem)
	tb.remove(slotKey)
	wantError(t, "gone", commit(slot), store.ErrLost)
	tb.wantItem(slotKey, nil)
}

func TestACommitWhoseAnswerIsLostIsRecognised(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, settled := range []bool{true, false} {
		slot := tb.slot(claimedItem)
		tb.on("UpdateItem", fault.LoseAnswer())
		err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: settled})
		if err != nil || tb.proxy.Count("UpdateItem") != 2 || tb.read().Committed != 7 {
			t.Errorf("settled %t: %v", settled, err)
		}
	}
}

// Between the commit and its repeat, a sweep may have claimed the slot: it still stores what this
// attempt made.
func TestACommitWhoseAnswerIsLostIsRecognisedUnderTheNextClaim(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	var next store.Slot
	tb.on("UpdateItem", func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		_, err := c.Forward(ctx)
		next = tb.claim(tb.read(), store.Ready)
		return nil, err
	})
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: false})
	if err != nil || tb.proxy.Count("UpdateItem") != 2 || !reflect.DeepEqual(tb.read(), next) || next.Attempt != 8 {
		t.Errorf("got %v, the slot is %+v", err, tb.read())
	}
}

// Between the commit and its repeat, the account may have been deleted: what was made belongs to
// whoever revokes.
func TestACommitWhoseAnswerIsLostToADeletionIsLost(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	tb.on("UpdateItem", func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		_, err := c.Forward(ctx)
		return nil, errors.Join(err, tb.past(now).MarkRevoking(ctx, slotKey, time.Time{}))
	})
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: true})
	wantError(t, "commit", err, store.ErrLost)
	if tb.read().Resource != made {
		t.Errorf("the slot is %+v", tb.read())
	}
}

// Only a refusal says that a claim was lost: after anything else nothing may be destroyed.
func TestACommitWithoutAnAnswerIsNeitherDoneNorLost(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	unknown := func(name string, slot store.Slot) {
		t.Helper()
		err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Resource: made, Settled: true})
		if err == nil || errors.Is(err, store.ErrLost) {
			t.Errorf("%s: got the error %v", name, err)
		}
	}
	for name, f := range map[string]fault.Fault{
		"lost": fault.Drop(), "failing": fault.AWSError(500, "InternalServerError", ""), "throttled": fault.Throttled(),
		"no such table": fault.AWSError(400, "ResourceNotFoundException", ""), "malformed": fault.AWSError(400, "ValidationException", ""),
	} {
		slot := tb.slot(claimedItem)
		tb.always("UpdateItem", f)
		unknown(name, slot)
		tb.wantUnchanged(claimedItem)
	}
	slot := tb.slot(claimedItem)
	tb.put(slotKey, claimedItem.with(attributes{"attempt": 8}))
	tb.always("BatchGetItem", fault.Drop())
	unknown("refused, and then out of reach", slot)
	tb.proxy.SetHook(nil)
	tb.put(slotKey, claimedItem.with(attributes{"attempt": 8, "v": 2}))
	unknown("refused, by a newer version's item", slot)
}

func TestAReleaseEndsTheClaim(t *testing.T) {
	t.Parallel()
	claimable := leaseEnd.Add(store.SkewMargin)
	soon, late := now.Add(time.Second), claimable.Add(time.Hour)
	ended := claimedItem.with(attributes{
		"owner": nil, "lease_until": nil, "tries": 3, "reason": "quota", "resource_id": "new-pod", "key_id": "new-key", "org_id": "new-org",
		"gone_since": nil, "left": nil, "left_since": nil,
	})
	for name, c := range map[string]struct {
		state   store.State
		settled bool
		due     time.Time
		want    attributes
	}{
		"a clean failure":                            {store.Failed, true, soon, attributes{"state": "failed", "due_at": ms(soon), "due_shard": "live"}},
		"a failure with an unknown outcome":          {store.Failed, false, soon, attributes{"state": "failed", "lease_until": ms(leaseEnd), "due_at": ms(claimable), "due_shard": "live"}},
		"a failure that waits longer than a lease":   {store.Failed, false, late, attributes{"state": "failed", "lease_until": ms(leaseEnd), "due_at": ms(late), "due_shard": "live"}},
		"an unknown outcome and nothing else":        {store.Ready, false, time.Time{}, attributes{"state": "ready", "lease_until": ms(leaseEnd), "due_at": ms(claimable), "due_shard": "live"}},
		"a sweep":                                    {store.Ready, true, time.Time{}, attributes{"state": "ready", "due_at": nil, "due_shard": nil}},
		"a revocation that goes on":                  {store.Revoking, true, soon, attributes{"state": "revoking", "due_at": ms(soon), "due_shard": "dead"}},
		"a revocation that is parked":                {store.Parked, true, late, attributes{"state": "parked", "due_at": ms(late), "due_shard": "dead"}},
		"a revocation with an unknown outcome of it": {store.Revoking, false, soon, attributes{"state": "revoking", "lease_until": ms(leaseEnd), "due_at": ms(claimable), "due_shard": "dead"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := newTable(t)
			slot := tb.slot(claimedItem)
			err := tb.Release(t.Context(), slot, store.Release{
				State: c.state, Settled: c.settled, DueAt: c.due, Tries: 3, Reason: "quota", Resource: made,
			})
			if err != nil {
				t.Errorf("release: %v", err)
			}
			tb.wantItem(slotKey, ended.with(c.want))
			at, isDue := c.want["due_at"].(int)
			due := tb.dueAt(now.AddDate(1, 0, 0))
			if isDue != (len(due) == 1) || isDue && len(tb.dueAt(time.UnixMilli(int64(at)-1))) != 0 {
				t.Errorf("due are %v", due)
			}
		})
	}
}

func TestAReleaseNotesWhatIsSuspectedAndWhatIsLeft(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	r := store.Release{State: store.Revoking, Settled: true, DueAt: now, GoneSince: now, Left: 0, LeftSince: now.Add(-time.Second)}
	err := tb.Release(t.Context(), tb.slot(claimedItem), r)
	if err != nil {
		t.Errorf("release: %v", err)
	}
	slots, err := tb.Slots(t.Context(), user, provider)
	if s := slots[provider]; err != nil || !s.GoneSince.Equal(r.GoneSince) || s.Left != 0 || !s.LeftSince.Equal(r.LeftSince) {
		t.Errorf("%v, the slot is %+v", err, s)
	}
}

func TestAReleaseUnderALostClaimIsRefused(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	release := func(slot store.Slot) error {
		return tb.Release(t.Context(), slot, store.Release{State: store.Failed, Settled: true, DueAt: now, Tries: 3})
	}
	tb.wantLost(claimedItem, release)
	slot := tb.slot(claimedItem)
	err := release(slot)
	if err != nil {
		t.Errorf("release: %v", err)
	}
	wantError(t, "the repeat", release(slot), store.ErrLost)
	tb.remove(slotKey)
	wantError(t, "gone", release(slot), store.ErrLost)
	tb.wantItem(slotKey, nil)
}

func TestAReleaseWithoutAnAnswerIsNotLost(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	tb.always("UpdateItem", fault.Drop())
	err := tb.Release(t.Context(), slot, store.Release{State: store.Failed})
	if err == nil || errors.Is(err, store.ErrLost) {
		t.Errorf("got the error %v", err)
	}
}

func TestAPostponedSlotIsDueLater(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	later := now.Add(time.Hour)
	for name, was := range map[string]attributes{
		"failed":    failedItem,
		"claimed":   claimedItem,
		"unsettled": claimedItem.with(attributes{"owner": nil}),
		"dead":      deadItem.with(attributes{"due_shard": "dead.0"}),
	} {
		slot := tb.slot(was)
		err := tb.Postpone(t.Context(), slot, store.Wait{State: store.Parked, Reason: "no key", DueAt: later})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		family := tb.get(slotKey)["due_shard"]
		tb.wantItem(slotKey, was.with(attributes{"due_at": ms(later), "state": "parked", "reason": "no key", "due_shard": family}))
		if len(tb.dueAt(later.Add(-time.Millisecond))) != 0 || !reflect.DeepEqual(tb.dueAt(later), []store.Key{slotKey}) {
			t.Errorf("%s: it is not due then", name)
		}
	}
}

// wantStale tries it with a slot that has gone, too: an unconditional update would bring it back.
func TestAPostponementOfASlotThatIsNotAsItWasReadIsStale(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	postpone := func(slot store.Slot) error {
		return tb.Postpone(t.Context(), slot, store.Wait{State: slot.State, Reason: "", DueAt: now})
	}
	tb.wantStale(claimedItem, postpone)
	tb.wantStale(failedItem, postpone)
	wantError(t, "absent", postpone(absent()), store.ErrStale)
	tb.wantItem(slotKey, nil)
}

func TestARemovedSlotIsGone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for name, faults := range map[string][]fault.Fault{"at once": nil, "answer lost": {fault.LoseAnswer()}} {
		slot := tb.slot(deadItem)
		tb.on("DeleteItem", faults...)
		err := tb.Remove(t.Context(), slot)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tb.wantItem(slotKey, nil)
		err = tb.Remove(t.Context(), slot)
		if err != nil {
			t.Errorf("%s, again: %v", name, err)
		}
		if tb.proxy.Count("DeleteItem") != 2+len(faults) {
			t.Errorf("%s: there were %d calls", name, tb.proxy.Count("DeleteItem"))
		}
	}
}

func TestARemovalUnderALostClaimIsRefused(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.wantLost(deadItem, func(slot store.Slot) error { return tb.Remove(t.Context(), slot) })
}

func TestARemovalWithoutAnAnswerIsNeitherDoneNorLost(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(deadItem)
	tb.always("DeleteItem", fault.Drop())
	err := tb.Remove(t.Context(), slot)
	if err == nil || errors.Is(err, store.ErrLost) {
		t.Errorf("got the error %v", err)
	}
	tb.wantUnchanged(deadItem)
}

func TestAReportMakesAReadySlotDueAndHasAPause(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	const pause = 20 * time.Minute
	reported := attributes{"due_at": ms(now), "due_shard": "live", "reason": "reported", "report_from": ms(now.Add(pause)), "report_pause": 1_200_000}
	for name, was := range map[string]attributes{
		"first":  committed,
		"second": committed.with(attributes{"report_from": ms(now), "report_pause": 600_000}),
	} {
		slot := tb.slot(was)
		err := tb.past(now).Report(t.Context(), slot, pause)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tb.wantItem(slotKey, was.with(reported))
		wantError(t, name+", twice at once", tb.past(now).Report(t.Context(), slot, pause), store.ErrStale)
	}
	slot := tb.slot(committed)
	tb.remove(slotKey)
	wantError(t, "gone", tb.Report(t.Context(), slot, pause), store.ErrStale)
	tb.wantItem(slotKey, nil)
	slot = tb.slot(committed)
	tb.always("UpdateItem", fault.Drop())
	err := tb.Report(t.Context(), slot, pause)
	if err == nil || errors.Is(err, store.ErrStale) {
		t.Errorf("nothing was written: %v", err)
	}
}
