package store_test

import (
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
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
