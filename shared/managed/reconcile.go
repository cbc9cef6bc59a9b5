package managed

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
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

// pageSize is how many due items are read before it is the next shard's turn.
const pageSize = 100

// Reconcile does all work that is due: what a killed worker, a lost answer, a failure or an
// unfinished deletion left behind. Each provider's work goes on by itself, so that one that hangs
// holds up no other's. It starts nothing new once too little is left of ctx for a claim's outside
// calls. An error means that due work could not be read. Safe to repeat, and to run twice at once.
func (e *Engine) Reconcile(ctx context.Context) (Report, error) {
	r := &round{Engine: e, now: e.cfg.Now(), lanes: map[string][]store.Key{}, stopped: map[string]bool{}}
	err := errors.Join(r.read(ctx), r.wake(ctx))
	var lanes sync.WaitGroup
	for name, lane := range r.lanes {
		lanes.Go(func() {
			var work errgroup.Group
			work.SetLimit(width)
			for _, key := range lane {
				work.Go(func() error { return r.work(ctx, name, key) })
			}
			_ = work.Wait() // each failure was logged and counted
		})
	}
	lanes.Wait()
	e.noteUnreadable(ctx, r.undecodable)
	r.noteFailures(ctx)
	e.cfg.Log.InfoContext(ctx, "reconciled", "done", r.report.Done, "failed", r.report.Failed, "more", r.report.More)
	return r.report, err
}

// late reports whether ctx leaves too little time to start work under a claim. A context's deadline
// is by the process's clock, whatever the engine's is.
func (e *Engine) late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && clock.Until(deadline) < e.workTime()+writeTime
}

// round is one call of Reconcile.
type round struct {
	*Engine
	now time.Time
	// lanes are what is worked on side by side: each provider's work by its name, and what needs no
	// call to a provider.
	lanes map[string][]store.Key

	mu     sync.Mutex
	report Report
	// undecodable are the items that were due and that this code cannot read.
	undecodable []store.Key
	// stopped are the lanes that go on in another round: their third party is not to be called for
	// longer than this one lasts.
	stopped map[string]bool
}

// tableLane is the lane of tombstones, and of slots of providers that are not registered.
const tableLane = ""

// pagesOfAShard is how many pages of a shard a round reads at most, so that reading a long backlog
// leaves time to work on it. What is more is left for the next one.
const pagesOfAShard = 50

// lane is the one that an item belongs to.
func (r *round) lane(key store.Key) string {
	p := r.byName[key.Provider()]
	if p == nil {
		return tableLane
	}
	return p.Name()
}

// wake makes due what waits for an org key that is there.
func (r *round) wake(ctx context.Context) error {
	var errs []error
	for _, p := range r.cfg.Providers {
		_, err := r.cfg.OrgKeys.Key(ctx, p.Name())
		if err == nil {
			errs = append(errs, r.wakeAll(ctx, p.Name()))
		}
	}
	return errors.Join(errs...)
}

func (r *round) wakeAll(ctx context.Context, provider string) error {
	var from store.Cursor
	for range pagesOfAShard {
		if r.late(ctx) {
			return nil
		}
		keys, next, err := r.cfg.Store.Due(ctx, store.KeylessShard(provider), r.now.Add(longestPostponed), pageSize, from)
		if err != nil {
			return err
		}
		var work errgroup.Group
		work.SetLimit(width)
		for _, key := range keys {
			r.lanes[provider] = append(r.lanes[provider], key)
			work.Go(func() error { return r.logged(ctx, "waking", key, r.wakeOne(ctx, key)) })
		}
		_ = work.Wait() // what failed was logged, and waits on
		if next == nil {
			return nil
		}
		from = next
	}
	return nil
}

// wakeOne has a slot that waited for the org key worked on as if it had not waited.
func (r *round) wakeOne(ctx context.Context, key store.Key) error {
	slot, err := r.slotOf(ctx, key)
	if err != nil || slot.Reason != store.ReasonNoKey || slot.Owner != "" {
		return err
	}
	next, due := slot.State, r.cfg.Now()
	if next == store.Parked {
		next = store.Revoking
	}
	if !slot.Claimable(due) {
		due = slot.ClaimableAt()
	}
	return r.cfg.Store.Postpone(ctx, slot, store.Wait{State: next, Reason: store.ReasonKeyIsThere, DueAt: due})
}

// turn is the number of the shard that is read first. Each minute it is another one, so that none
// stands before another for longer: the minutes are counted from the epoch, because those of an
// hour are no multiple of the shards.
func turn(now time.Time, shards int) int { return int(now.Unix() / 60 % int64(shards)) }

// read puts what is due into its lane, page by page, each shard in turn.
func (r *round) read(ctx context.Context) error {
	var errs []error
	cursors := map[string]store.Cursor{}
	shards := store.Shards()
	begin := turn(r.now, len(shards))
	shards = slices.Concat(shards[begin:], shards[:begin])
	for page := 0; page < pagesOfAShard && len(shards) > 0 && !r.late(ctx); page++ {
		var unfinished []string
		for _, shard := range shards {
			keys, next, err := r.cfg.Store.Due(ctx, shard, r.now, pageSize, cursors[shard])
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, key := range keys {
				lane := r.lane(key)
				r.lanes[lane] = append(r.lanes[lane], key)
			}
			cursors[shard] = next
			if next != nil {
				unfinished = append(unfinished, shard)
			}
		}
		shards = unfinished
	}
	r.report.More = len(shards) > 0
	return errors.Join(errs...)
}

// work does what is due for one item of a lane, if there is still time. A lane that is stopped
// holds what is left of it, unread.
func (r *round) work(ctx context.Context, lane string, key store.Key) error {
	if r.late(ctx) || r.isStopped(lane) {
		r.note(func(report *Report) { report.More = true })
		return nil
	}
	err := r.item(ctx, key)
	if errors.Is(err, errNotNow) {
		r.note(func(report *Report) { report.More, r.stopped[lane] = true, true })
		return nil
	}
	r.note(func(report *Report) {
		report.Done++
		if err != nil {
			report.Failed++
		}
	})
	return r.logged(ctx, "reconciling", key, err)
}

func (r *round) isStopped(lane string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped[lane]
}

// note changes the report.
func (r *round) note(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
}

// item does what is due for one item.
func (r *round) item(ctx context.Context, key store.Key) error {
	if key.IsTombstone() {
		err := r.bury(ctx, key.User())
		if errors.Is(err, store.ErrUndecodable) {
			return r.setAside(ctx, key)
		}
		return err
	}
	slots, err := r.cfg.Store.Slots(ctx, key.User(), key.Provider())
	if err != nil && !isRefused(err) {
		return err
	}
	slot, ok := slots[key.Provider()]
	switch {
	case !ok:
		return r.setAside(ctx, key)
	case slot.DueAt.IsZero() || slot.DueAt.After(r.cfg.Now()):
		return nil // the index was behind
	case errors.Is(err, credential.ErrAccountSuspended) && r.waitsForEnabling(slot):
		return r.postponeSuspended(ctx, slot)
	case slot.Dead():
		return r.revoke(ctx, slot)
	case errors.Is(err, credential.ErrAccountDeleted):
		return r.markAndRevoke(ctx, key)
	case slot.State == store.Retracting:
		return r.revoke(ctx, slot)
	case r.isToDrain(slot):
		return r.drained(ctx, slot)
	case slot.Reason == store.ReasonRejected && r.replacesRejected(slot):
		return r.replaceRejected(ctx, slot)
	default:
		return r.resume(ctx, slot)
	}
}

// resume goes on with a living user's slot: provisions it, or sweeps it if it is ready.
func (r *round) resume(ctx context.Context, slot store.Slot) error {
	p := r.byName[slot.Provider]
	if p == nil {
		return r.cfg.Store.Postpone(ctx, slot, r.slowly(slot, store.ReasonNoProvider))
	}
	if !slot.Claimable(r.cfg.Now()) {
		return r.cfg.Store.Postpone(ctx, slot, untilClaimable(slot))
	}
	_, err := r.cfg.OrgKeys.Key(ctx, slot.Provider)
	if isNoKey(err) {
		return r.cfg.Store.Postpone(ctx, slot, r.slowly(slot, store.ReasonNoKey))
	}
	next, x := store.Provisioning, r.pass(p, slot.User, making)
	defer x.end()
	if slot.State == store.Ready {
		next, x.work = store.Ready, sweeping
	} else {
		at := x.makes()
		if !at.IsZero() { // the rest of the lane is not held up: it may be to revoke
			return r.cfg.Store.PutOff(ctx, slot, later(at, r.cfg.Now().Add(backoff(slot.Tries+1))))
		}
	}
	at := x.wait(ctx, func() time.Duration { return r.patience(ctx) })
	if !at.IsZero() {
		return errNotNow
	}
	now := r.cfg.Now()
	renews := next == store.Ready && r.renews(slot, now)
	if renews {
		slot.Rotates, slot.Overlap = true, max(0, min(DefaultOverlap, slot.ExpiresAt.Sub(now)))
	}
	slot.Title = p.Title()
	claimed, err := r.cfg.Store.Claim(ctx, []store.Slot{slot}, next, now.Add(r.cfg.Lease))
	switch {
	case errors.Is(err, store.ErrStale):
		return nil // another worker has claimed it
	case errors.Is(err, credential.ErrAccountDeleted):
		return r.markAndRevoke(ctx, slot.Key())
	case errors.Is(err, credential.ErrAccountSuspended):
		return r.postponeSuspended(ctx, slot)
	case err != nil:
		return err
	}
	if renews {
		r.cfg.Metrics.Count(telemetry.KeysExpiring, slot.Provider, 1)
	}
	c := x.claimed(slot, claimed[0], now)
	if next == store.Ready {
		c.sweep(ctx)
	} else {
		c.provision(ctx)
	}
	return nil
}

// slowly is how a living user's slot waits for what has to be configured.
func (e *Engine) slowly(slot store.Slot, reason string) store.Wait {
	return store.Wait{State: slot.State, Reason: reason, DueAt: e.cfg.Now().Add(jittered(slowRetry))}
}

// untilClaimable is how a slot waits that is due, and that another claim may still be at work on.
func untilClaimable(slot store.Slot) store.Wait {
	return store.Wait{State: slot.State, Reason: slot.Reason, DueAt: slot.ClaimableAt()}
}
