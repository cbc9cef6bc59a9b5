package managed

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/store"
)

// Report counts what a round of reconcile did.
type Report struct {
	// Done is how many due items were worked on, whatever came of it.
	Done int `json:"done"`
	// Failed is how many of them could not be worked on, because the table failed. They stay due.
	Failed int `json:"failed"`
	// More is true if the round ran out of time with work left.
	More bool `json:"more"`
}

// pageSize is how many due items are read and worked on before it is the next shard's turn.
const pageSize = 25

// Reconcile does all work that is due: what a killed worker, a lost answer, a failure or an unfinished deletion left behind. It starts
// nothing new once too little is left of ctx for a claim's outside calls. An error means that due work could not be read. Safe to
// repeat, and to run twice at once.
func (e *Engine) Reconcile(ctx context.Context) (Report, error) {
	r := &round{Engine: e, now: e.Now(), cursors: map[string]store.Cursor{}}
	var errs []error
	shards := store.Shards()
	for len(shards) > 0 && !e.late(ctx) {
		var unfinished []string
		for _, shard := range shards {
			more, err := r.page(ctx, shard)
			if err != nil {
				errs = append(errs, err)
			}
			if more {
				unfinished = append(unfinished, shard)
			}
		}
		shards = unfinished
	}
	r.report.More = len(shards) > 0
	e.Log.InfoContext(ctx, "reconciled", "done", r.report.Done, "failed", r.report.Failed, "more", r.report.More)
	return r.report, errors.Join(errs...)
}

// late reports whether ctx leaves too little time to start work under a claim. A context's deadline is by the real clock.
func (e *Engine) late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(deadline) < e.workTime()+writeTime
}

// round is one call of Reconcile.
type round struct {
	*Engine
	now     time.Time
	cursors map[string]store.Cursor

	mu     sync.Mutex
	report Report
}

// page works on a shard's next page of due items, and reports whether there may be more.
func (r *round) page(ctx context.Context, shard string) (bool, error) {
	if r.late(ctx) {
		return true, nil
	}
	keys, next, err := r.Store.Due(ctx, shard, r.now, pageSize, r.cursors[shard])
	if err != nil {
		return false, err
	}
	r.cursors[shard] = next
	var work errgroup.Group
	work.SetLimit(width)
	for _, key := range keys {
		work.Go(func() error {
			err := r.item(ctx, key)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.report.Done++
			if err != nil {
				r.report.Failed++
			}
			return r.logged(ctx, "reconciling", key, err)
		})
	}
	_ = work.Wait() // each failure was logged and counted
	return next != nil, nil
}

// item does what is due for one item.
func (r *round) item(ctx context.Context, key store.Key) error {
	if r.late(ctx) {
		return nil
	}
	user := key.User()
	if key.IsTombstone() {
		_, err := r.bury(ctx, user)
		return err
	}
	slots, err := r.Store.Slots(ctx, user, key.Provider())
	if errors.Is(err, credential.ErrAccountDeleted) {
		_, err = r.bury(ctx, user)
		return err
	}
	if err != nil {
		return err
	}
	slot, ok := slots[key.Provider()]
	if !ok {
		r.noteUnreadable(ctx, []store.Key{key})
		return nil
	}
	if slot.DueAt.IsZero() || slot.DueAt.After(r.Now()) {
		return nil // the index was behind
	}
	if slot.Dead() {
		return r.revoke(ctx, slot)
	}
	return r.resume(ctx, slot)
}

// resume goes on with a living user's slot: provisions it, or sweeps it if it is ready.
func (r *round) resume(ctx context.Context, slot store.Slot) error {
	p := r.byName[slot.Provider]
	if p == nil {
		return r.Store.Postpone(ctx, slot, slot.State, "no such provider is registered", r.Now().Add(jittered(slowRetry)))
	}
	if !slot.Claimable(r.Now()) {
		return r.Store.Postpone(ctx, slot, slot.State, slot.Reason, slot.ClaimableAt())
	}
	_, err := r.OrgKeys.Key(ctx, slot.Provider)
	if errors.Is(err, orgkey.ErrNone) {
		return r.Store.Postpone(ctx, slot, slot.State, "no org key is configured", r.Now().Add(jittered(slowRetry)))
	}
	outage := r.outage(slot.Provider, sealerOutage)
	if !outage.IsZero() {
		return r.Store.Postpone(ctx, slot, slot.State, slot.Reason, outage)
	}
	next := store.Provisioning
	if slot.State == store.Ready {
		next = store.Ready
	}
	now := r.Now()
	slot.Title = p.Title()
	claimed, err := r.Store.Claim(ctx, slot.User, []store.Slot{slot}, next, now.Add(r.Lease))
	switch {
	case errors.Is(err, store.ErrStale):
		return nil // somebody else is at it
	case errors.Is(err, credential.ErrAccountDeleted):
		_, err = r.bury(ctx, slot.User)
		return err
	case err != nil:
		return err
	}
	if next == store.Ready {
		r.sweep(ctx, p, claimed[0], slot, now)
	} else {
		r.provision(ctx, p, claimed[0], slot, now)
	}
	return nil
}

// sweep removes what a commit with an unknown outcome may have left beside the stored key, and settles the slot.
func (r *round) sweep(ctx context.Context, p Provider, slot, was store.Slot, claimedAt time.Time) {
	a := r.attempt(slot, was, claimedAt)
	work, cancel := r.outside(ctx, a)
	defer cancel()
	err := r.call(work, p, func(org credential.Secret) error { return p.Sweep(work, org, a) })
	release := store.Release{State: store.Ready, Settled: a.Settled(), Resource: slot.Resource}
	if err != nil {
		classed := classified(err)
		release.Settled = false
		release.Tries = slot.Tries + 1
		release.Reason = string(classed.Class)
		release.DueAt = r.retryAt(release.Tries, classed)
		r.Log.WarnContext(ctx, "sweeping failed", "user", slot.User, "provider", slot.Provider, "error", err)
	}
	r.release(ctx, slot, release)
}
