package managed

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// Listing is a user's credentials and how their managed ones stand.
type Listing struct {
	// Credentials are those that can be used now, ordered by provider and id.
	Credentials []credential.Metadata
	// Standings are those of the providers that a list provisions, ordered by name.
	Standings []Standing
}

// Standing says how a user's managed credential stands.
type Standing struct {
	Provider string
	State    StandingState
	// RetryAt is when it is tried again, for StandingFailed; and from when on it may be asked for,
	// for StandingOffered: zero is now.
	RetryAt time.Time
	// Unusable: there is one, and the third party said that its key does not work.
	Unusable bool
	// Removable: there is one, and the user may have it removed.
	Removable bool
	// Replaceable: the user may have its key replaced, which then serves on for Overlap.
	Replaceable bool
	Overlap     time.Duration
	// Replacing: another key is being made. RetireAt is until when the one before that serves on,
	// once it is there; zero if none does.
	Replacing bool
	RetireAt  time.Time
}

// StandingState is a Standing's state.
type StandingState string

// The states of a standing.
const (
	StandingReady        StandingState = "ready"
	StandingProvisioning StandingState = "provisioning"
	StandingFailed       StandingState = "failed"
	StandingUnavailable  StandingState = "unavailable"
	// StandingOffered: the user has none, and gets one when they ask for it.
	StandingOffered StandingState = "offered"
	// StandingRetracting: it is being removed.
	StandingRetracting StandingState = "retracting"
)

// List returns a user's credentials, of one provider or, if only is "", of all; managed ones that
// are missing are provisioned first, within the budget. Whatever fails there costs no more than the
// budget and never the list.
//
// It returns ErrAccountDeleted, ErrAccountSuspended, or an error if the account cannot be read.
// Safe to repeat.
func (e *Engine) List(ctx context.Context, user, only string) (Listing, error) {
	return e.list(ctx, user, only, false)
}

// list is List; asked says that the user has asked for the one that it is of.
func (e *Engine) list(ctx context.Context, user, only string, asked bool) (Listing, error) {
	l := &listing{
		Engine:   e,
		user:     user,
		asked:    asked,
		deadline: e.cfg.Now().Add(e.cfg.Budget),
		standing: map[string]Standing{},
		passes:   map[string]*pass{},
	}
	account, err := e.cfg.Store.Account(ctx, user)
	if err != nil {
		return Listing{}, err
	}
	if account.Refused != nil {
		return Listing{}, account.Refused
	}
	e.noteUnreadable(ctx, account.Unreadable)
	l.slots = account.Slots
	for _, p := range e.cfg.Providers {
		if only != "" && only != p.Name() {
			continue
		}
		slot := l.slots[p.Name()]
		if !e.keeps(p.Name(), slot) && !asked {
			if e.offers(p.Name()) {
				l.standing[p.Name()] = Standing{State: StandingOffered, RetryAt: slot.AskFrom}
			}
			continue
		}
		if slices.Contains(account.Unreadable, store.SlotKey(user, p.Name())) {
			l.standing[p.Name()] = Standing{State: StandingUnavailable}
			continue
		}
		l.wanted = append(l.wanted, p)
	}
	for name := range e.cfg.Faults {
		if only == "" || only == name {
			l.standing[name] = Standing{State: StandingUnavailable}
		}
	}
	maps.DeleteFunc(l.slots, func(provider string, _ store.Slot) bool { return !e.Gives(provider) })
	err = l.ensure(ctx)
	if err != nil {
		return Listing{}, err
	}
	return l.result(account.Own, only), nil
}

// listing is one list under way.
type listing struct {
	*Engine
	user     string
	asked    bool
	deadline time.Time
	wanted   []Provider
	// slots are the user's, as last read or written.
	slots map[string]store.Slot
	// standing holds what the slot alone does not tell.
	standing map[string]Standing
	// owner is this list's own claim, if it made one.
	owner string
	// readAt is when the slots were read again last; zero if they were not.
	readAt time.Time
	// passes are what this list may make, by provider.
	passes map[string]*pass
}

// ensure provisions what is missing and waits for what others are provisioning. Its only errors are
// ErrAccountDeleted and ErrAccountSuspended.
func (l *listing) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.deadline.Sub(l.cfg.Now()))
	defer cancel()
	defer func() {
		for _, x := range l.passes {
			x.end()
		}
	}()
	claims, err := l.claim(ctx)
	if err != nil {
		return err
	}
	results := make(chan store.Slot, len(claims))
	var workers sync.WaitGroup
	for _, c := range claims {
		workers.Go(func() { results <- c.provision(ctx) })
	}
	err = l.await(ctx)
	// Joined before the handler answers: a goroutine that Lambda froze would thaw in a later
	// invocation.
	workers.Wait()
	close(results)
	for slot := range results {
		l.slots[slot.Provider] = slot
	}
	return err
}

// claim takes all that is to be provisioned, in one transaction. After a refusal it pauses, reads
// again, and claims once more what is still claimable, with growing pauses, for as long as enough
// of the budget is left to make something. Whoever refused it is at work now as a rule, so that the
// first of these reads is the first look at what they do. Its only errors are ErrAccountDeleted and
// ErrAccountSuspended.
func (l *listing) claim(ctx context.Context) ([]*claim, error) {
	trying, cancel := context.WithTimeout(ctx, l.cfg.Budget*4/5)
	defer cancel()
	var was, claimed []store.Slot
	var at time.Time
	var err error
	firstClaimAgain := l.part(again)
	for pause := firstClaimAgain; ; pause = min(2*pause, longestClaimAgain) {
		was = l.missing(trying)
		if len(was) == 0 {
			return nil, nil
		}
		at = l.cfg.Now()
		claimed, err = l.cfg.Store.Claim(ctx, was, store.Provisioning, at.Add(l.cfg.Lease))
		if !errors.Is(err, store.ErrStale) {
			break
		}
		if sleep(trying, jittered(pause)) != nil {
			break
		}
		gone := l.reread(ctx)
		if gone != nil {
			return nil, gone
		}
	}
	switch {
	case isRefused(err):
		return nil, err
	case errors.Is(err, store.ErrStale): // nothing was written
		for _, slot := range l.missing(trying) {
			l.cfg.Metrics.Count(telemetry.ClaimsConflicted, slot.Provider, 1)
			l.cfg.Log.WarnContext(ctx, "a slot could not be claimed in time: DynamoDB is busy with it, or short of capacity",
				"user", l.user, "provider", slot.Provider)
			l.standing[slot.Provider] = Standing{State: StandingFailed, RetryAt: l.cfg.Now().Add(backoffBase)}
		}
		return nil, nil
	case err != nil: // whether they are claimed is unknown: the lease runs out by itself
		l.cfg.Log.WarnContext(ctx, "the claim failed, and whether it took effect is unknown", "error", err)
		for _, slot := range was {
			l.standing[slot.Provider] = Standing{State: StandingProvisioning}
		}
		return nil, nil
	}
	var claims []*claim
	for i, slot := range claimed {
		l.slots[slot.Provider] = slot
		l.owner = slot.Owner
		claims = append(claims, l.passes[slot.Provider].claimed(was[i], slot, at))
	}
	return claims, nil
}

// longestClaimAgain is the longest pause before a claim is sent again.
const longestClaimAgain = 400 * time.Millisecond

// missing are the slots that a list may claim: those that are absent, or failed cleanly and are
// due. An expired lease is reconcile's: a page that polls would start over for ever. A provider in
// trouble, or without org key, is left alone.
func (l *listing) missing(ctx context.Context) []store.Slot {
	var missing []store.Slot
	for _, p := range l.wanted {
		name := p.Name()
		slot, ok := l.slots[name]
		if !ok {
			slot = store.Slot{User: l.user, Provider: name}
		}
		if l.takes(&slot) && l.may(ctx, p) {
			slot.Title = p.Title()
			missing = append(missing, slot)
		}
	}
	return missing
}

// takes reports whether a list may claim the slot: one that is absent, or failed cleanly and is
// due; or was drained, at a provider that is for everybody. The user who asks for it may have it
// claimed before it is due, and after they gave it up, with a pause after that in which they may
// not again: takes notes it in the slot.
func (l *listing) takes(slot *store.Slot) bool {
	now := l.cfg.Now()
	switch {
	case slot.State == store.Absent:
		return true
	case slot.State == store.Failed && slot.Settled() && !slot.DueAt.After(now):
		return true
	case slot.State == store.Off && l.keeps(slot.Provider, *slot):
		return true
	case slot.State == store.Failed && slot.Settled() && !saysWait(slot.Reason), slot.State == store.Off:
	default:
		return false
	}
	if !l.asked || slot.AskFrom.After(now) {
		return false
	}
	slot.AskFrom, slot.AskPause = nextAsk(*slot, now)
	return true
}

// may reports whether something may be made at p now, or by half of the budget; else it notes how
// that stands.
func (l *listing) may(ctx context.Context, p Provider) bool {
	name := p.Name()
	if l.passes[name] != nil {
		return true
	}
	_, err := l.cfg.OrgKeys.Key(ctx, name)
	if err != nil {
		l.noteOrgKey(ctx, p, err)
		l.standing[name] = Standing{State: StandingFailed, RetryAt: l.cfg.Now().Add(backoffBase)}
		if errors.Is(err, orgkey.ErrNone) {
			l.standing[name] = Standing{State: StandingUnavailable}
		}
		return false
	}
	x := l.pass(p, l.user, making)
	at := x.makes()
	if at.IsZero() {
		at = x.wait(ctx, func() time.Duration { return l.deadline.Add(-l.cfg.Budget / 2).Sub(l.cfg.Now()) })
	}
	if !at.IsZero() {
		x.end()
		l.standing[name] = Standing{State: StandingFailed, RetryAt: at}
		return false
	}
	l.passes[name] = x
	return true
}

// waits are the moments, as parts of the budget, at which a list looks again for what others are
// provisioning: close together at first, because most keys are made within a tenth of the budget.
var waits = []float64{0.04, 0.08, 0.12, 0.16, 0.32, 0.95}

// again is the part of the budget after which a list first reads again, and claims again, whose
// claim was refused.
const again = 0.02

// part is a part of the budget.
func (l *listing) part(of float64) time.Duration { return time.Duration(of * float64(l.cfg.Budget)) }

// await reads the slots that others are provisioning again until they are done, at most len(waits)
// times. A look that would follow right after another read is left out.
func (l *listing) await(ctx context.Context) error {
	start := l.deadline.Add(-l.cfg.Budget)
	for _, wait := range waits {
		if !slices.ContainsFunc(l.wanted, l.othersWork) {
			return nil
		}
		at := start.Add(l.part(wait))
		if at.Sub(l.readAt) < l.part(again/2) {
			continue
		}
		timer := time.NewTimer(at.Sub(l.cfg.Now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		err := l.reread(ctx)
		if err != nil {
			return err
		}
	}
	return nil
}

// othersWork reports whether p is being provisioned by somebody from whom a result can still come:
// a list that was killed gives none.
func (l *listing) othersWork(p Provider) bool {
	slot := l.slots[p.Name()]
	end := slot.LeaseUntil.Add(l.cfg.Budget - l.cfg.Lease)
	return slot.State == store.Provisioning && slot.Owner != "" && slot.Owner != l.owner && l.cfg.Now().Before(end)
}

// reread reads the wanted slots again. Its only errors are ErrAccountDeleted and
// ErrAccountSuspended.
func (l *listing) reread(ctx context.Context) error {
	var names []string
	for _, p := range l.wanted {
		names = append(names, p.Name())
	}
	slots, err := l.cfg.Store.Slots(ctx, l.user, names...)
	if isRefused(err) {
		return err
	}
	if err != nil {
		l.cfg.Log.WarnContext(ctx, "the slots could not be read again", "error", err)
		return nil
	}
	maps.Copy(l.slots, slots)
	l.readAt = l.cfg.Now()
	return nil
}

// result is the answer, made from what was read and what was committed.
func (l *listing) result(own []credential.Metadata, only string) Listing {
	var r Listing
	for _, m := range own {
		if only == "" || m.Provider == only {
			r.Credentials = append(r.Credentials, m)
		}
	}
	for _, slot := range l.slots {
		if slot.Usable() && (only == "" || slot.Provider == only) {
			r.Credentials = append(r.Credentials, l.Titled(slot.Metadata()))
		}
	}
	slices.SortFunc(r.Credentials, func(a, b credential.Metadata) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.ID, b.ID))
	})
	for _, p := range l.wanted {
		l.standing[p.Name()] = l.stands(p.Name())
	}
	for _, name := range slices.Sorted(maps.Keys(l.standing)) {
		standing := l.standing[name]
		standing.Provider = name
		l.noteOptions(&standing, l.slots[name])
		r.Standings = append(r.Standings, standing)
	}
	return r
}

func (l *listing) stands(name string) Standing {
	slot := l.slots[name]
	special, ok := l.standing[name]
	switch {
	case slot.Usable():
		return Standing{State: StandingReady}
	case slot.State == store.Provisioning:
		return Standing{State: StandingProvisioning}
	case slot.State == store.Retracting:
		return Standing{State: StandingRetracting}
	case ok:
		return special
	case slot.State == store.Failed:
		return Standing{State: StandingFailed, RetryAt: slot.DueAt}
	case slot.State == store.Off:
		return Standing{State: StandingOffered, RetryAt: slot.AskFrom}
	default:
		return Standing{State: StandingUnavailable}
	}
}
