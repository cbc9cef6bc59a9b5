package managed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// To drain a provider is to have what its users have there removed, with all that is in it, so that
// the provider can be unregistered. The mode alone destroys nothing: an operator orders it, by name
// and with a reason, and it goes on only where the mode is Draining. It is a job, as a rotation of
// all keys is: a walk over the table's slots asks for each to be removed, no more at once than is
// done soon, and reconcile does it: ready or failed, retracting, off. The job ends with a pass that
// meets nothing of anybody's there.

// DrainOrder says what is to be drained.
type DrainOrder struct {
	Provider string
	Order
}

// DrainStatus is where the draining of a provider stands.
type DrainStatus = Runs[DrainRun]

// DrainRun is one draining of a provider.
type DrainRun struct {
	BegunAt time.Time `json:"begun_at"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	// Asked is how often a removal was asked for; a little off, where an invocation died before it
	// noted that.
	Asked int `json:"asked"`
	// Passes is how many times the walk came to the end of the table. Found is what the last one
	// met; null before there was one.
	Passes int         `json:"passes"`
	Found  *DrainCount `json:"found"`
	// Finding is the same of the pass that is under way, as far as it has come.
	Finding DrainCount `json:"finding"`
	// AtLeast is how long the rest takes at the fastest, from when Found was: by what the walk asks
	// for at once. "" where nothing is left to ask for, or it is not known yet.
	AtLeast string `json:"at_least,omitempty"`
	// Stopped says why the last invocation did not go on, if that was no want of time or room; or
	// who, or what, ended it.
	Stopped string `json:"stopped,omitempty"`
}

// DrainCount counts a provider's slots by how far their removal is.
type DrainCount struct {
	// Removed are those of which nothing is left.
	Removed int `json:"removed"`
	// Removing are those that reconcile has begun with, and Left those that it has not.
	Removing int `json:"removing"`
	Left     int `json:"left"`
	// Suspended are those of suspended users, of whom nothing is removed before they are enabled or
	// deleted.
	Suspended int `json:"suspended"`
	// Deleted are those of deleted accounts, which go by themselves.
	Deleted int `json:"deleted"`
	// Parked are how many of all these were put aside: see the parked revocations.
	Parked int `json:"parked"`
	// Unreadable are those that this version cannot decode.
	Unreadable int `json:"unreadable"`
}

// remains is how many slots may still have something at the third party.
func (c *DrainCount) remains() int {
	return c.Removing + c.Left + c.Suspended + c.Deleted + c.Unreadable
}

// ErrNoDraining: the provider is not being drained.
var ErrNoDraining error = &credential.ConflictError{Detail: "That provider is not being drained"}

// ErrNotDraining: the mode does not say so.
var ErrNotDraining error = &credential.ConflictError{Detail: "Its mode is not draining: set that first (MANAGED_PROVIDERS), so that nobody gets a new one meanwhile"}

// mostAskedTakes is how long reconcile takes at the fastest with what a walk asks for at once.
const mostAskedTakes = 3 * time.Minute

// Drain has what all users have at a provider removed, with everything in it: it begins a job, and
// DrainsDue goes on with it. It is on record in the audit log before.
//
// It returns credential.ErrNoProvider, ErrNotDraining, or a credential.ConflictError that names the
// one that is under way. After any other error a repeat is safe: it begins the job, or is told that
// it is under way.
func (e *Engine) Drain(ctx context.Context, o DrainOrder) (DrainStatus, error) {
	if e.byName[o.Provider] == nil {
		return DrainStatus{}, credential.ErrNoProvider
	}
	if e.mode(o.Provider) != Draining {
		return DrainStatus{}, ErrNotDraining
	}
	status, err := e.drainStatus(ctx, o.Provider)
	if err != nil {
		return DrainStatus{}, err
	}
	if status.UnderWay != nil {
		return DrainStatus{}, status.UnderWay.conflict()
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "draining", "by", o.By, "reason", o.Reason, "provider", o.Provider)
	if err != nil {
		return DrainStatus{}, err
	}
	run := &DrainRun{BegunAt: e.cfg.Now(), By: o.By, Reason: o.Reason}
	return changeRuns(ctx, e, drainJob(o.Provider), o.Provider, func(s *DrainStatus) error {
		if s.UnderWay != nil {
			return s.UnderWay.conflict()
		}
		s.UnderWay = run
		return nil
	})
}

// EndDrain ends the draining of a provider before its time. What it has asked for is removed, if
// the mode stays Draining; everybody else keeps what they have. It is on record in the audit log
// before.
//
// It returns credential.ErrNoProvider or ErrNoDraining. Safe to repeat.
func (e *Engine) EndDrain(ctx context.Context, o DrainOrder) (DrainStatus, error) {
	if e.byName[o.Provider] == nil {
		return DrainStatus{}, credential.ErrNoProvider
	}
	err := telemetry.Audit(ctx, e.cfg.Log, "draining ended", "by", o.By, "reason", o.Reason, "provider", o.Provider)
	if err != nil {
		return DrainStatus{}, err
	}
	return changeRuns(ctx, e, drainJob(o.Provider), o.Provider, func(s *DrainStatus) error {
		if s.UnderWay == nil {
			return ErrNoDraining
		}
		s.UnderWay.EndedAt, s.UnderWay.Stopped = e.cfg.Now(), fmt.Sprintf("ended by %s: %s", o.By, o.Reason)
		s.Ended, s.UnderWay = s.UnderWay, nil
		return nil
	})
}

// DrainsDue goes on with the draining of each provider that is under way, each provider's by
// itself, and returns where they stand. One of a provider whose mode is not Draining any more ends:
// should the mode come back, it is to be ordered anew. An error means that the table failed.
//
// Safe to repeat, and to run twice at once: a draining goes on in one of them.
func (e *Engine) DrainsDue(ctx context.Context) ([]DrainStatus, error) {
	all := make([]DrainStatus, len(e.cfg.Providers))
	errs := make([]error, len(e.cfg.Providers))
	wanted := func(job store.Job) bool { return runsOf[DrainRun]("", job).UnderWay != nil }
	var lanes sync.WaitGroup
	for i, p := range e.cfg.Providers {
		lanes.Go(func() {
			var job store.Job
			job, errs[i] = e.goOn(ctx, drainJob(p.Name()), wanted, func(ctx context.Context, job *store.Job) { e.goOnDraining(ctx, p.Name(), job) })
			all[i] = runsOf[DrainRun](p.Name(), job)
		})
	}
	lanes.Wait()
	return all, errors.Join(errs...)
}

// drainJob is the name of the job of a provider's draining.
func drainJob(provider string) string { return "DRAINING#" + provider }

func (e *Engine) drainStatus(ctx context.Context, provider string) (DrainStatus, error) {
	job, err := e.cfg.Store.Job(ctx, drainJob(provider))
	return runsOf[DrainRun](provider, job), err
}

// conflict refuses another one beside this one.
func (r *DrainRun) conflict() error {
	return &credential.ConflictError{Detail: fmt.Sprintf("The provider is being drained already, since %s, for %s (%s): see where that stands, or end it",
		r.BegunAt.UTC().Format(time.RFC3339), r.By, r.Reason)}
}

// goOnDraining is one invocation's part of a draining.
func (e *Engine) goOnDraining(ctx context.Context, provider string, job *store.Job) {
	status := runsOf[DrainRun](provider, *job)
	run := status.UnderWay
	run.Stopped = ""
	if e.mode(provider) != Draining {
		run.EndedAt, run.Stopped = e.cfg.Now(), fmt.Sprintf("the mode is %s", e.mode(provider))
	} else {
		err := e.walk(ctx, provider, job, &drainer{Engine: e, provider: provider, run: run})
		if err != nil {
			run.Stopped = err.Error()
			e.cfg.Log.WarnContext(ctx, "the draining does not get on", "provider", provider, "error", err)
		}
	}
	if !run.EndedAt.IsZero() {
		status.Ended, status.UnderWay, job.Cursor = run, nil, ""
		e.cfg.Metrics.Count(telemetry.DrainingsEnded, provider, 1)
		e.cfg.Log.InfoContext(ctx, "a draining has ended", "provider", provider, "begun_at", run.BegunAt, "asked", run.Asked, "stopped", run.Stopped)
	}
	status.note(job)
}

// drainer is one invocation's walk.
type drainer struct {
	*Engine
	provider string
	run      *DrainRun
}

// anew implements walker.
func (w *drainer) anew() { w.run.Finding = DrainCount{} }

// endPass implements walker. With a pass that has met nothing of anybody's the draining ends.
func (w *drainer) endPass(ctx context.Context) {
	run, found := w.run, w.run.Finding
	run.Passes++
	run.Found, run.Finding, run.AtLeast = &found, DrainCount{}, ""
	if found.Left > 0 {
		run.AtLeast = (time.Duration((found.Left-1)/mostAskedDue+1) * mostAskedTakes).String()
	}
	w.cfg.Log.InfoContext(ctx, "a pass over all that is drained has ended", "provider", w.provider, "begun_at", run.BegunAt, "asked", run.Asked,
		"removed", found.Removed, "remains", found.remains())
	if found.remains() == 0 {
		run.EndedAt = w.cfg.Now()
	}
}

// page implements walker.
func (w *drainer) page(ctx context.Context, from store.Key) (int, store.Key, error) {
	slots, unreadable, next, err := w.cfg.Store.Scan(ctx, store.Segment{}, from)
	if err != nil {
		return 0, from, err
	}
	others := func(k store.Key) bool { return k.Provider() != w.provider }
	slots = slices.DeleteFunc(slots, func(s store.Slot) bool { return others(s.Key()) })
	n, err := askEach(slots, asksToDrain, func(slot store.Slot) error {
		return w.cfg.Store.Postpone(ctx, slot, store.Wait{State: slot.State, Reason: store.ReasonDraining, DueAt: w.cfg.Now()})
	})
	w.run.Asked += n
	if n > 0 {
		w.cfg.Metrics.Count(telemetry.DrainingAsked, w.provider, n)
	}
	if err != nil {
		return n, from, err
	}
	for _, slot := range slots {
		w.run.Finding.add(slot)
	}
	w.run.Finding.Unreadable += len(slices.DeleteFunc(unreadable, others))
	return n, next, nil
}

// asksToDrain reports whether a removal of what the slot has is to be asked for now: not while it
// is being made, which the next pass sees, nor twice, nor of a suspended user.
func asksToDrain(slot store.Slot) bool {
	if !hasToDrain(slot) {
		return false
	}
	return slot.DueAt.IsZero() || slot.Reason != store.ReasonDraining && slot.Reason != store.ReasonSuspended
}

// hasToDrain reports whether something of a living user's may be there that nobody makes or
// removes.
func hasToDrain(slot store.Slot) bool {
	return slot.State == store.Ready || slot.State == store.Failed || slot.Disarmed()
}

func (c *DrainCount) add(slot store.Slot) {
	switch {
	case slot.State == store.Off && !slot.Disarmed():
		c.Removed++
	case slot.Dead():
		c.Deleted++
	case slot.Reason == store.ReasonSuspended:
		c.Suspended++
	case slot.State == store.Retracting:
		c.Removing++
	default:
		c.Left++
	}
	if isParked(slot) {
		c.Parked++
	}
}

// drained has a living user's slot removed that a draining has asked for, and begins with it. What
// becomes of it after that is as if the user had given it up.
func (r *round) drained(ctx context.Context, slot store.Slot) error {
	err := r.cfg.Store.Retract(ctx, slot, store.ByDraining)
	if errors.Is(err, store.ErrStale) || isRefused(err) {
		return nil // another worker was faster, or they were deleted or suspended: it stays due
	}
	if err != nil {
		return err
	}
	r.cfg.Log.InfoContext(ctx, "a user's credential is removed, because the provider is drained", "user", slot.User, "provider", slot.Provider)
	slots, err := r.cfg.Store.Slots(ctx, slot.User, slot.Provider)
	now := slots[slot.Provider]
	if isRefused(err) || err == nil && now.State != store.Retracting {
		return nil
	}
	if err != nil {
		return err
	}
	return r.revoke(ctx, now)
}

// isToDrain reports whether a draining has asked for the removal of what the slot has, and the
// provider's mode is still that.
func (e *Engine) isToDrain(slot store.Slot) bool {
	asked := slot.Disarmed() || slot.Reason == store.ReasonDraining // nothing else makes it due without its keys
	return asked && e.mode(slot.Provider) == Draining && hasToDrain(slot)
}
