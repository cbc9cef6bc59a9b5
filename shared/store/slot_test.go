package store_test

import (
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

func TestAKeyIsKnownNotToWorkIfItsThirdPartySaysSoOrHasLetItExpire(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		change func(*store.Slot)
		fails  bool
	}{
		"in order":             {func(*store.Slot) {}, false},
		"reported":             {func(s *store.Slot) { s.Reason = store.ReasonReported }, false},
		"said not to work":     {func(s *store.Slot) { s.Reason = store.ReasonUnusable }, true},
		"about to expire":      {func(s *store.Slot) { s.ExpiresAt = now.Add(time.Millisecond) }, false},
		"expired":              {func(s *store.Slot) { s.ExpiresAt = now }, true},
		"not handed out":       {func(s *store.Slot) { s.ExpiresAt, s.State = now, store.Revoking }, false},
		"expired, and is made": {func(s *store.Slot) { s.ExpiresAt, s.State = now, store.Provisioning }, true},
	} {
		slot := store.Slot{State: store.Ready, Committed: 1, Resource: credential.Resource{KeyID: "key"}}
		c.change(&slot)
		if slot.KeyFails(now) != c.fails {
			t.Errorf("%s: %t", name, !c.fails)
		}
	}
}
