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

// To replace the keys of all users of a provider is a job: a walk over the table's slots, which
// asks for a rotation of each that has a key from before it began, and reconcile makes the new
// keys. It asks for no more than a few rounds of reconcile can do, so that the third party's pace
// rules it and other work is not held up for long. What cannot be asked now, because somebody works
// on it, is met again by the next pass over the table. The job ends with a pass that meets no key
// from before.

// RotationOfAll says what becomes of all keys of a provider.
type RotationOfAll struct {
	Provider string
	// Overlap is for how long a stored key serves on beside the new one; 0 if it is to go as soon
	// as there is another one.
	Overlap time.Duration
	Order
}

// RotationStatus is where the rotations of all keys of a provider stand.
type RotationStatus = Runs[RotationRun]

// RotationRun is one walk that replaces keys of a provider.
type RotationRun struct {
	BegunAt time.Time `json:"begun_at"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	// By is empty where nobody asked for it but the settings.
	By     string `json:"by"`
	Reason string `json:"reason"`
	// Overlap is for how long the keys that are replaced serve on.
	Overlap string `json:"overlap"`
	// Asked is how many rotations were asked for; fewer, where an invocation died before it noted
	// that.
	Asked int `json:"asked"`
	// Passes is how many times the walk came to the end of the table. Left is how many slots it met
	// in the last one that had a key from before, or one that is too old.
	Passes int `json:"passes"`
	Left   int `json:"left"`
	// Met is the same of the pass that is under way, as far as it has come, and Unreadable how many
	// slots it could not decode, which may have such a key.
	Met        int `json:"met"`
	Unreadable int `json:"unreadable,omitempty"`
	// Stopped says why the last invocation did not go on, if that was no want of time or room; or
	// who ended it.
	Stopped string `json:"stopped,omitempty"`
}

// ErrNoRotation: no rotation of all keys of that provider is under way.
var ErrNoRotation error = &credential.ConflictError{Detail: "No rotation of all keys is under way there"}

// RotateAll has all keys of a provider replaced that users have now, under the same ids: it begins
// a job, and RotationsDue goes on with it. It is on record in the audit log before.
//
// It returns credential.ErrNoProvider, or a credential.ConflictError that names the one that is
// under way there, or says why the provider is Irreplaceable. After any other error a repeat is
// safe: it begins the job, or is told that it is under way.
func (e *Engine) RotateAll(ctx context.Context, r RotationOfAll) (RotationStatus, error) {
	p := e.byName[r.Provider]
	if p == nil {
		return RotationStatus{}, credential.ErrNoProvider
	}
	err := replaceable(p)
	if err != nil {
		return RotationStatus{}, err
	}
	status, err := e.rotationStatus(ctx, r.Provider)
	if err != nil {
		return RotationStatus{}, err
	}
	if status.UnderWay != nil {
		return RotationStatus{}, status.UnderWay.conflict()
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "rotation of all keys", "by", r.By, "reason", r.Reason, "provider", r.Provider, "overlap", r.Overlap.String())
	if err != nil {
		return RotationStatus{}, err
	}
	run := &RotationRun{BegunAt: e.cfg.Now(), By: r.By, Reason: r.Reason, Overlap: r.Overlap.String()}
	return changeRuns(ctx, e, rotationJob(r.Provider), r.Provider, func(s *RotationStatus) error {
		if s.UnderWay != nil {
			return s.UnderWay.conflict()
		}
		s.UnderWay = run
		if s.Aged != nil && s.Aged.EndedAt.IsZero() { // what it looks for is replaced now
			s.Aged = nil
		}
		return nil
	})
}

// EndRotation ends the rotation of all keys of a provider before its time. What it has asked for is
// done; what it has not, stays as it is. It is on record in the audit log before.
//
// It returns credential.ErrNoProvider or ErrNoRotation. Safe to repeat.
func (e *Engine) EndRotation(ctx context.Context, provider string, o Order) (RotationStatus, error) {
	if e.byName[provider] == nil {
		return RotationStatus{}, credential.ErrNoProvider
	}
	err := telemetry.Audit(ctx, e.cfg.Log, "rotation of all keys ended", "by", o.By, "reason", o.Reason, "provider", provider)
	if err != nil {
		return RotationStatus{}, err
	}
	return changeRuns(ctx, e, rotationJob(provider), provider, func(s *RotationStatus) error {
		if s.UnderWay == nil {
			return ErrNoRotation
		}
		s.UnderWay.EndedAt, s.UnderWay.Stopped = e.cfg.Now(), fmt.Sprintf("ended by %s: %s", o.By, o.Reason)
		s.Ended, s.UnderWay = s.UnderWay, nil
		return nil
	})
}

// Rotations returns where the rotations of all keys stand, of each provider. It changes nothing.
func (e *Engine) Rotations(ctx context.Context) ([]RotationStatus, error) {
	all := []RotationStatus{}
	for _, p := range e.cfg.Providers {
		s, err := e.rotationStatus(ctx, p.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// RotationsDue goes on with the rotation of all keys of each provider that is under way, each
// provider's by itself, and returns where they stand. Where none is, it goes on with the walk for
// keys that are older than Config.MaxKeyAge, and begins it where it is due. An error means that the
// table failed.
//
// Safe to repeat, and to run twice at once: a rotation goes on in one of them.
func (e *Engine) RotationsDue(ctx context.Context) ([]RotationStatus, error) {
	all := make([]RotationStatus, len(e.cfg.Providers))
	errs := make([]error, len(e.cfg.Providers))
	var lanes sync.WaitGroup
	for i, p := range e.cfg.Providers {
		lanes.Go(func() {
			var job store.Job
			wanted := func(job store.Job) bool { return e.rotationWanted(p.Name(), job) }
			job, errs[i] = e.goOn(ctx, rotationJob(p.Name()), wanted, func(ctx context.Context, job *store.Job) { e.goOnRotating(ctx, p.Name(), job) })
			all[i] = runsOf[RotationRun](p.Name(), job)
		})
	}
	lanes.Wait()
	return all, errors.Join(errs...)
}

// rotationJob is the name of the job of a provider's rotations.
func rotationJob(provider string) string { return "ROTATION#" + provider }

// rotationWanted reports whether a rotation is under way, and clocks that are apart agree that it
// has begun: else the keys that it asks for could seem to be from before. Without one it reports
// whether old keys are to be looked for.
func (e *Engine) rotationWanted(provider string, job store.Job) bool {
	s := runsOf[RotationRun](provider, job)
	if s.UnderWay != nil {
		return e.cfg.Now().After(s.UnderWay.BegunAt.Add(store.SkewMargin))
	}
	return e.agingWalk(provider, s.Aged)
}

func (e *Engine) rotationStatus(ctx context.Context, provider string) (RotationStatus, error) {
	job, err := e.cfg.Store.Job(ctx, rotationJob(provider))
	return runsOf[RotationRun](provider, job), err
}

// conflict refuses another one beside this one.
func (r *RotationRun) conflict() error {
	return &credential.ConflictError{Detail: fmt.Sprintf("The keys are being replaced already, since %s, for %s (%s), with an overlap of %s: see where that stands, or end it",
		r.BegunAt.UTC().Format(time.RFC3339), r.By, r.Reason, r.Overlap)}
}

// goOnRotating is one invocation's part of a rotation of all keys, or of a walk for old ones.
func (e *Engine) goOnRotating(ctx context.Context, provider string, job *store.Job) {
	status := runsOf[RotationRun](provider, *job)
	run := status.UnderWay
	if run == nil {
		run = e.agingRun(&status, job)
	}
	run.Stopped = ""
	overlap, err := time.ParseDuration(run.Overlap)
	if err == nil {
		err = e.walk(ctx, provider, job, &rotator{Engine: e, provider: provider, run: run, aging: run == status.Aged, overlap: overlap})
	}
	if err != nil {
		run.Stopped = err.Error()
		e.cfg.Log.WarnContext(ctx, "the walk through all keys does not get on", "provider", provider, "error", err)
	}
	if run == status.UnderWay && !run.EndedAt.IsZero() {
		status.Ended, status.UnderWay = run, nil
		e.cfg.Metrics.Count(telemetry.RotationsOfAllEnded, provider, 1)
	}
	status.note(job)
}

// agingRun is the walk for old keys that is under way; a new one, from the start of the table, if
// none is.
func (e *Engine) agingRun(status *RotationStatus, job *store.Job) *RotationRun {
	if status.Aged == nil || !status.Aged.EndedAt.IsZero() {
		status.Aged = &RotationRun{
			BegunAt: e.cfg.Now(),
			Reason:  fmt.Sprintf("no key is to be older than %v", e.cfg.MaxKeyAge),
			Overlap: e.agingOverlap().String(),
		}
		job.Cursor = ""
	}
	return status.Aged
}

// rotator is one invocation's walk.
type rotator struct {
	*Engine
	provider string
	run      *RotationRun
	// aging: it looks for keys that are too old, and not for those from before it began.
	aging   bool
	overlap time.Duration
}

// anew forgets what the pass has met.
func (w *rotator) anew() { w.run.Met, w.run.Unreadable = 0, 0 }

// endPass ends a pass over the table, and with it the rotation, if it has met no key from before.
// Of a walk for old keys one pass is all: what it could not ask now, the next one does.
func (w *rotator) endPass(ctx context.Context) {
	run := w.run
	run.Passes++
	run.Left, run.Met = run.Met, 0
	w.cfg.Log.InfoContext(ctx, "a pass over all keys has ended", "provider", w.provider, "begun_at", run.BegunAt, "asked", run.Asked, "left", run.Left,
		"unreadable", run.Unreadable)
	if run.Left == 0 || w.aging {
		run.EndedAt = w.cfg.Now()
		return
	}
	run.Unreadable = 0
}

// page asks for the rotations of a page of the table, and returns of how many it did, and the item
// after which to go on.
func (w *rotator) page(ctx context.Context, from store.Key) (int, store.Key, error) {
	slots, unreadable, next, err := w.cfg.Store.Scan(ctx, store.Segment{}, from)
	if err != nil {
		return 0, from, err
	}
	others := func(k store.Key) bool { return k.Provider() != w.provider }
	slots = slices.DeleteFunc(slots, func(s store.Slot) bool { return others(s.Key()) || !w.concerns(s) })
	n, err := askEach(slots, w.asksNow, func(slot store.Slot) error { return w.cfg.Store.Rotate(ctx, slot, w.overlap) })
	w.run.Asked += n
	if n > 0 {
		w.cfg.Metrics.Count(w.metric(), w.provider, n)
	}
	if err != nil {
		return n, from, err
	}
	w.run.Met += len(slots)
	w.run.Unreadable += len(slices.DeleteFunc(unreadable, others))
	return n, next, nil
}

// metric is the one that counts what the walk asks for.
func (w *rotator) metric() string {
	if w.aging {
		return telemetry.KeysTooOld
	}
	return telemetry.RotationsAsked
}

// concerns reports whether a slot's key is one that the walk looks for.
func (w *rotator) concerns(slot store.Slot) bool {
	if w.aging {
		return w.tooOld(slot)
	}
	return w.fromBefore(slot)
}

// fromBefore reports whether a slot has a key from before the run that is to go by it, or may yet
// store one: a claim from before has not ended.
func (w *rotator) fromBefore(slot store.Slot) bool {
	if slot.Ends() || slot.State == store.Off {
		return false
	}
	claimed := slot.Owner != "" && slot.LeaseUntil.Add(-w.cfg.Lease).Before(w.run.BegunAt)
	return claimed || w.stores(slot) || w.overlap == 0 && slot.Retiring.KeyID != ""
}

// stores reports whether the stored key is from before.
func (w *rotator) stores(slot store.Slot) bool {
	return slot.Committed > 0 && slot.Resource.KeyID != "" && slot.CommittedAt.Before(w.run.BegunAt)
}

// asksNow reports whether a slot that the walk looks for is to be asked for another key now. It is
// not if somebody works on it, or if it waits for that already, unless it would keep the one from
// before for longer.
func (w *rotator) asksNow(slot store.Slot) bool {
	soon := w.cfg.Now().Add(store.SkewMargin)
	switch {
	case askable(slot, w.overlap) != nil:
		return false
	case slot.Rotates:
		return slot.DueAt.IsZero() || slot.Overlap > w.overlap && !w.aging // a version that knew of no wishes may have dropped it
	default:
		return w.aging || w.stores(slot) || slot.Retiring.At.After(soon)
	}
}
