package store_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

func TestTheBacklogIsWhatIsDueAndSinceWhen(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	read := func() map[string]store.Backlog {
		t.Helper()
		all, err := tb.Backlogs(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := read(); !reflect.DeepEqual(got, map[string]store.Backlog{"live": {}, "dead": {}}) {
		t.Errorf("of an empty table it is %v", got)
	}
	for i, item := range []attributes{
		{"due_shard": "live.0", "due_at": ms(now.Add(-time.Minute))},
		{"due_shard": "live.3", "due_at": ms(now.Add(-time.Hour))},
		{"due_shard": "live.3", "due_at": ms(now)},
		{"due_shard": "live.1", "due_at": ms(now.Add(time.Millisecond))}, // not yet
		{"due_shard": "dead.2", "due_at": ms(now.Add(-time.Second))},
		{"due_shard": store.KeylessShard(provider), "due_at": ms(now.Add(-time.Hour))},
		{"due_at": ms(now.Add(-time.Hour))},
	} {
		tb.put(store.SlotKey(fmt.Sprint("user-", i), provider), item)
	}
	want := map[string]store.Backlog{
		"live": {Items: 3, Since: now.Add(-time.Hour)},
		"dead": {Items: 1, Since: now.Add(-time.Second)},
	}
	got := read()
	if got["live"].Items != want["live"].Items || !got["live"].Since.Equal(want["live"].Since) ||
		got["dead"].Items != want["dead"].Items || !got["dead"].Since.Equal(want["dead"].Since) {
		t.Errorf("it is %v, not %v", got, want)
	}
}

func TestABacklogThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(slotKey, claimedItem.with(attributes{"due_at": ms(now)}))
	for nth := range 2 { // the look for the longest due, and the count
		faults := make([]fault.Fault, nth, nth+1)
		tb.on("Query", append(faults, fault.AWSError(400, "ValidationException", ""))...)
		all, err := tb.Backlogs(t.Context(), now)
		if err == nil {
			t.Errorf("it is %v", all)
		}
	}
}
