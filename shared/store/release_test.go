package store_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

var made = credential.Resource{ID: "new-pod", KeyID: "new-key", OrgID: "new-org"}

// began is when the claim began that makes it.
var began = now.Add(-time.Second)

// committed is the claimed slot once its attempt has stored a secret and nothing else can take
// effect.
var committed = claimedItem.with(attributes{
	"state": "ready", "secret": []byte("new"), "committed": 7, "resource_id": "new-pod", "key_id": "new-key", "org_id": "new-org",
	"owner": nil, "tries": nil, "reason": nil, "lease_until": nil, "due_at": nil, "due_shard": nil, "gone_since": nil, "expires_at": nil,
	"report_from": nil, "report_pause": nil, "committed_at": ms(began),
})

func TestACommitEndsTheClaim(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.slot(claimedItem)
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
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
	err := tb.Commit(t.Context(), tb.slot(claimedItem), store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, ExpiresAt: expires, Settled: true})
	if err != nil {
		t.Errorf("commit: %v", err)
	}
	tb.wantItem(slotKey, committed.with(attributes{"expires_at": ms(expires)}))
}

func TestACommitWithAnUnknownOutcomeKeepsTheLease(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slot := tb.claim(tb.slot(failedItem), store.Provisioning)
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: false})
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
		return tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
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
		err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: settled})
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
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: false})
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
	err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
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
		err := tb.Commit(t.Context(), slot, store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
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
