package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

func TestWhatCannotBeDecodedIsDueLater(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	later := now.Add(time.Hour)
	due := claimedItem.with(attributes{"due_at": ms(now)})
	for name, was := range map[string]attributes{
		"another version's": due.with(attributes{"v": 2}),
		"without a version": due.with(attributes{"v": nil}),
		"of this one":       due.with(attributes{"state": nil}),
	} {
		tb.put(slotKey, was)
		err := tb.PostponeUndecodable(t.Context(), slotKey, later)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tb.wantItem(slotKey, was.with(attributes{"due_at": ms(later), "due_shard": "live"}))
	}
}

// Another version may be at work on it: it knows better.
func TestWhatAnotherVersionWroteMeanwhileIsNotPostponed(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	was := claimedItem.with(attributes{"v": 2, "due_at": ms(now)})
	for name, is := range map[string]attributes{
		"claimed there":   was.with(attributes{"due_at": ms(leaseEnd)}),
		"brought to ours": was.with(attributes{"v": 1}),
		"at rest":         was.with(attributes{"due_at": nil, "due_shard": nil}),
		"gone":            nil,
	} {
		tb.put(slotKey, was)
		tb.proxy.Reset()
		tb.proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op != "UpdateItem" {
				return nil
			}
			if is == nil {
				tb.remove(slotKey)
			} else {
				tb.put(slotKey, is)
			}
			return nil
		})
		err := tb.PostponeUndecodable(t.Context(), slotKey, now.Add(time.Hour))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if is == nil {
			tb.wantItem(slotKey, nil)
		} else {
			tb.wantUnchanged(is)
		}
	}
	tb.put(slotKey, was)
	tb.always("UpdateItem", fault.Drop())
	err := tb.PostponeUndecodable(t.Context(), slotKey, now.Add(time.Hour))
	if err == nil {
		t.Error("nothing was written, and there is no error")
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

func TestDueWorkIsReadPageByPageTheLongestDueFirst(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	var want []store.Key
	for i := range 7 {
		key := store.SlotKey(user, fmt.Sprintf("provider_%d", i))
		tb.put(key, claimedItem.with(attributes{"due_at": ms(now) - 7 + i, "due_shard": "live.1"}))
		want = append(want, key)
	}
	tb.put(slotKey, claimedItem.with(attributes{"due_at": ms(now) + 1, "due_shard": "live.1"}))
	tb.put(tombKey, tombItem.with(attributes{"due_shard": "dead.1"}))
	var got []store.Key
	var from store.Cursor
	for pages := 1; ; pages++ {
		keys, next, err := tb.Due(t.Context(), "live.1", now, 3, from)
		if err != nil || len(keys) > 3 || pages > 4 {
			t.Fatalf("page %d is %v, %v", pages, keys, err)
		}
		got = append(got, keys...)
		if next == nil {
			break
		}
		from = next
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	keys, next, err := tb.Due(t.Context(), "live.0", now, 3, nil)
	if err != nil || len(keys) != 0 || next != nil {
		t.Errorf("another shard has %v, %v", keys, err)
	}
	tb.always("Query", fault.Drop())
	_, _, err = tb.Due(t.Context(), "live.1", now, 3, nil)
	if err == nil {
		t.Error("due work that cannot be read is no error")
	}
}

func TestTheLivingAndTheDeadAreDueInTheirFamilies(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	shardsOf := map[string]map[string]bool{"live": {}, "dead": {}}
	living := map[store.Key]bool{}
	for i := range 20 {
		user := fmt.Sprintf("user-%d", i)
		slot := store.Slot{User: user, Provider: provider, Title: title}
		if i%2 == 0 {
			_, err := tb.Claim(t.Context(), []store.Slot{slot}, store.Provisioning, now)
			if err != nil {
				t.Fatal(err)
			}
			living[slot.Key()] = true
			continue
		}
		_, err := tb.Bury(t.Context(), user, "")
		if err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	for _, shard := range store.Shards() {
		family := shard[:4]
		keys, _, err := tb.Due(t.Context(), shard, now, 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			found++
			shardsOf[family][shard] = true
			if living[key] != (family == "live") {
				t.Errorf("%v is due in %s", key, shard)
			}
		}
	}
	if found != 20 {
		t.Errorf("of 20 items %d are due", found)
	}
	if len(shardsOf["live"]) < 2 || len(shardsOf["dead"]) < 2 {
		t.Errorf("all work is in one shard: %v", shardsOf)
	}
}

func TestTheIndexKnowsNothingButKeys(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(slotKey, claimedItem)
	keys, _, err := tb.Due(t.Context(), "live.0", leaseEnd.Add(time.Second), 10, nil)
	if err != nil || !reflect.DeepEqual(keys, []store.Key{slotKey}) {
		t.Errorf("due are %v, %v", keys, err)
	}
	for _, call := range tb.proxy.Calls() {
		a, err := call.Forward(t.Context())
		if err != nil || bytes.Contains(a.Body, []byte("ciphertext")) || bytes.Contains(a.Body, []byte(`"secret"`)) || bytes.Contains(a.Body, []byte(`"owner"`)) {
			t.Errorf("the index answers %s, %v", a.Body, err)
		}
	}
}
