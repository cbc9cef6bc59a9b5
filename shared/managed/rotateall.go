package managed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
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
type RotationStatus struct {
	Provider string `json:"provider"`
	// UnderWay is the one that goes on with the next invocation; null if none is.
	UnderWay *RotationRun `json:"under_way"`
	// Ended is the last one that came to its end, or was ended; null before there was one.
	Ended *RotationRun `json:"ended"`
}

// RotationRun is one rotation of all keys of a provider.
type RotationRun struct {
	BegunAt time.Time `json:"begun_at"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	// Overlap is for how long the keys from before serve on.
	Overlap string `json:"overlap"`
	// Asked is how many rotations were asked for; fewer, where an invocation died before it noted
	// that.
	Asked int `json:"asked"`
	// Passes is how many times the walk came to the end of the table. Left is how many slots it met
	// in the last one that had a key from before.
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

// errJobBusy: an invocation goes on with the job just now.
var errJobBusy error = &credential.ConflictError{Detail: "The rotation of all keys is being worked on: try again in a minute"}

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
	return e.change(ctx, r.Provider, func(s *RotationStatus) error {
		if s.UnderWay != nil {
			return s.UnderWay.conflict()
		}
		s.UnderWay = run
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
	return e.change(ctx, provider, func(s *RotationStatus) error {
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
// provider's by itself, and returns where they stand. An error means that the table failed.
//
// Safe to repeat, and to run twice at once: a rotation goes on in one of them.
func (e *Engine) RotationsDue(ctx context.Context) ([]RotationStatus, error) {
	all := make([]RotationStatus, len(e.cfg.Providers))
	errs := make([]error, len(e.cfg.Providers))
	var lanes sync.WaitGroup
	for i, p := range e.cfg.Providers {
		lanes.Go(func() {
			var job store.Job
			job, errs[i] = e.goOn(ctx, rotationJob(p.Name()), e.rotationWanted, func(ctx context.Context, job *store.Job) { e.goOnRotating(ctx, p.Name(), job) })
			all[i] = rotationStatus(p.Name(), job)
		})
	}
	lanes.Wait()
	return all, errors.Join(errs...)
}

// rotationJob is the name of the job of a provider's rotations.
func rotationJob(provider string) string { return rotationPrefix + provider }

const rotationPrefix = "ROTATION#"

// rotationWanted reports whether a rotation is under way, and clocks that are apart agree that it
// has begun: else the keys that it asks for could seem to be from before.
func (e *Engine) rotationWanted(job store.Job) bool {
	run := rotationStatus("", job).UnderWay
	return run != nil && e.cfg.Now().After(run.BegunAt.Add(store.SkewMargin))
}

func (e *Engine) rotationStatus(ctx context.Context, provider string) (RotationStatus, error) {
	job, err := e.cfg.Store.Job(ctx, rotationJob(provider))
	return rotationStatus(provider, job), err
}

// rotationStatus is what a job has noted; nothing, if that cannot be read.
func rotationStatus(provider string, job store.Job) RotationStatus {
	var s RotationStatus
	err := json.Unmarshal([]byte(job.Progress), &s)
	if err != nil {
		s = RotationStatus{}
	}
	s.Provider = provider
	return s
}

// note has a job hold a status.
func (s RotationStatus) note(job *store.Job) {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // cannot be: times, numbers and texts
	}
	job.Progress = string(text)
}

// change changes where a provider's job stands, from the start of the table, if do has no
// objection.
func (e *Engine) change(ctx context.Context, provider string, do func(*RotationStatus) error) (RotationStatus, error) {
	err := errJobBusy
	job, tableErr := e.goOn(ctx, rotationJob(provider), func(store.Job) bool { return true }, func(_ context.Context, job *store.Job) {
		status := rotationStatus(provider, *job)
		err = do(&status)
		if err == nil {
			job.Cursor = ""
			status.note(job)
		}
	})
	return rotationStatus(provider, job), cmp.Or(tableErr, err)
}

// conflict refuses another one beside this one.
func (r *RotationRun) conflict() error {
	return &credential.ConflictError{Detail: fmt.Sprintf("The keys are being replaced already, since %s, for %s (%s), with an overlap of %s: see where that stands, or end it",
		r.BegunAt.UTC().Format(time.RFC3339), r.By, r.Reason, r.Overlap)}
}

// mostAskedDue is how many slots of a provider may be due, of users who live, for a rotation to be
// asked for more, unless Config.MostAskedDue says otherwise: what reconcile does in about five
// minutes. walkReserve is how much time has to be left for another page of the table.
const (
	mostAskedDue = 1500
	walkReserve  = 10 * time.Second
)

// goOnRotating is one invocation's part of a rotation of all keys.
func (e *Engine) goOnRotating(ctx context.Context, provider string, job *store.Job) {
	status := rotationStatus(provider, *job)
	run := status.UnderWay
	run.Stopped = ""
	err := e.walk(ctx, run, job)
	if err != nil {
		run.Stopped = err.Error()
		e.cfg.Log.WarnContext(ctx, "the rotation of all keys does not get on", "provider", provider, "error", err)
	}
	if !run.EndedAt.IsZero() {
		status.Ended, status.UnderWay = run, nil
		e.cfg.Metrics.Count(telemetry.RotationsOfAllEnded, provider, 1)
	}
	status.note(job)
}

// walk asks for rotations from where the job stands, for as long as there is time and room for
// more, to the end of a pass at most. The page at which it fails is walked again.
func (e *Engine) walk(ctx context.Context, run *RotationRun, job *store.Job) error {
	overlap, err := time.ParseDuration(run.Overlap)
	if err != nil {
		return err
	}
	at, err := parsePlace(job.Cursor)
	if err != nil { // of another version
		run.Met, run.Unreadable = 0, 0
	}
	w := &walker{Engine: e, provider: strings.TrimPrefix(job.Name, rotationPrefix), run: run, overlap: overlap}
	room, err := w.room(ctx)
	for err == nil && room > 0 {
		deadline, ok := ctx.Deadline()
		if ok && clock.Until(deadline) < walkReserve {
			return nil
		}
		var asked int
		asked, at.After, err = w.page(ctx, at.After)
		room -= asked
		if err == nil {
			job.Cursor = at.String()
		}
		if err == nil && at.After == (store.Key{}) {
			job.Cursor = ""
			w.endPass(ctx)
			return nil
		}
	}
	return err
}

// walker is one invocation's walk.
type walker struct {
	*Engine
	provider string
	run      *RotationRun
	overlap  time.Duration
}

// endPass ends a pass over the table, and with it the rotation, if it has met no key from before.
func (w *walker) endPass(ctx context.Context) {
	run := w.run
	run.Passes++
	run.Left, run.Met = run.Met, 0
	w.cfg.Log.InfoContext(ctx, "a pass over all keys has ended", "provider", w.provider, "begun_at", run.BegunAt, "asked", run.Asked, "left", run.Left,
		"unreadable", run.Unreadable)
	if run.Left == 0 {
		run.EndedAt = w.cfg.Now()
		return
	}
	run.Unreadable = 0
}

// room is for how many rotations may be asked: as many as are done soon, beside what the provider's
// living users wait for already.
func (w *walker) room(ctx context.Context) (int, error) {
	room := cmp.Or(w.cfg.MostAskedDue, mostAskedDue)
	for _, shard := range store.LivingShards() {
		var from store.Cursor
		for room > 0 {
			keys, next, err := w.cfg.Store.Due(ctx, shard, w.cfg.Now(), pageSize, from)
			if err != nil {
				return 0, err
			}
			for _, key := range keys {
				if key.Provider() == w.provider {
					room--
				}
			}
			if next == nil {
				break
			}
			from = next
		}
	}
	return room, nil
}

// page asks for the rotations of a page of the table, and returns of how many it did, and the item
// after which to go on.
func (w *walker) page(ctx context.Context, from store.Key) (int, store.Key, error) {
	slots, unreadable, next, err := w.cfg.Store.Scan(ctx, from)
	if err != nil {
		return 0, from, err
	}
	others := func(k store.Key) bool { return k.Provider() != w.provider }
	slots = slices.DeleteFunc(slots, func(s store.Slot) bool { return others(s.Key()) || !w.fromBefore(s) })
	var asked atomic.Int64
	var work errgroup.Group
	work.SetLimit(width)
	for _, slot := range slots {
		if !w.asksNow(slot) {
			continue
		}
		work.Go(func() error {
			err := w.cfg.Store.Rotate(ctx, slot, w.overlap)
			if err == nil {
				asked.Add(1)
			}
			if errors.Is(err, store.ErrStale) { // somebody works on it: in another pass
				return nil
			}
			return err
		})
	}
	err = work.Wait()
	n := int(asked.Load())
	w.run.Asked += n
	if n > 0 {
		w.cfg.Metrics.Count(telemetry.RotationsAsked, w.provider, n)
	}
	if err != nil {
		return n, from, err
	}
	w.run.Met += len(slots)
	w.run.Unreadable += len(slices.DeleteFunc(unreadable, others))
	return n, next, nil
}

// fromBefore reports whether a slot has a key from before the run that is to go by it, or may yet
// store one: a claim from before has not ended.
func (w *walker) fromBefore(slot store.Slot) bool {
	if slot.Ends() || slot.State == store.Off {
		return false
	}
	claimed := slot.Owner != "" && slot.LeaseUntil.Add(-w.cfg.Lease).Before(w.run.BegunAt)
	return claimed || w.stores(slot) || w.overlap == 0 && slot.Retiring.KeyID != ""
}

// stores reports whether the stored key is from before.
func (w *walker) stores(slot store.Slot) bool {
	return slot.Committed > 0 && slot.Resource.KeyID != "" && slot.CommittedAt.Before(w.run.BegunAt)
}

// asksNow reports whether a slot with a key from before is to be asked for another one now. It is
// not if somebody works on it, or if it waits for that already, unless it would keep the one from
// before for longer.
func (w *walker) asksNow(slot store.Slot) bool {
	soon := w.cfg.Now().Add(store.SkewMargin)
	switch {
	case askable(slot, w.overlap) != nil:
		return false
	case slot.Rotates:
		return slot.DueAt.IsZero() || slot.Overlap > w.overlap // a version that knew of no wishes may have dropped it
	default:
		return w.stores(slot) || slot.Retiring.At.After(soon)
	}
}
