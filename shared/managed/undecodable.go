package managed

import (
	"context"

	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// keysNamed is how many of the items that cannot be decoded a log line names.
const keysNamed = 10

// noteUnreadable counts items that cannot be decoded, and says so in one line however many they
// are. The metric's dimension is a provider that is registered: the names of users' own providers
// are theirs to choose.
func (e *Engine) noteUnreadable(ctx context.Context, keys []store.Key) {
	if len(keys) == 0 {
		return
	}
	counts := map[string]int{}
	for _, key := range keys {
		name := key.Provider()
		if e.byName[name] == nil {
			name = ""
		}
		counts[name]++
	}
	for name, n := range counts {
		e.cfg.Metrics.Count(telemetry.ItemsUndecodable, name, n)
	}
	e.cfg.Log.ErrorContext(ctx, "items cannot be decoded and are left alone", "count", len(keys), "first", keys[:min(len(keys), keysNamed)])
}

// setAside notes an item that is due and that cannot be decoded, and has it come again later: it
// must not stand before what can be done.
func (r *round) setAside(ctx context.Context, key store.Key) error {
	r.mu.Lock()
	r.undecodable = append(r.undecodable, key)
	r.mu.Unlock()
	return r.cfg.Store.PostponeUndecodable(ctx, key, r.cfg.Now().Add(jittered(parkedRetry)))
}
