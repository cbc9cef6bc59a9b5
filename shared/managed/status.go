package managed

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// ProviderStatus says how a provider stands here.
type ProviderStatus struct {
	Provider string `json:"provider"`
	// Mode is "" where the settings cannot work.
	Mode Mode `json:"mode"`
	// DeploymentID is what the names of the keys that are made here carry; "" before something was
	// made.
	DeploymentID string `json:"deployment_id"`
	// OrgKey: there is an org key that can be used. Whether it is accepted, KeyOrganization tells.
	OrgKey bool `json:"org_key"`
	// Organization is the one in which things are made; "" before something was made there.
	Organization string `json:"organization"`
	// KeyOrganization is the one that the org key opens; "" if nobody can say.
	KeyOrganization string `json:"key_organization"`
	// Differs: nothing is made, because the two are not the same.
	Differs bool `json:"differs"`
	// Error is why nothing can be made, or why it is not known in which organisation; "" for none.
	Error string `json:"error,omitempty"`
	// Stays is what a deletion leaves there.
	Stays string `json:"stays,omitempty"`
	// Slots are how many there were in each state when the last scheduled audit was made that is
	// complete; null before there was one.
	Slots map[store.State]int `json:"slots"`
	// Waiting is the work that is left.
	Waiting Waiting `json:"waiting"`
	// LastFailure is the last one that reconcile has met there; null before there was one.
	LastFailure *Failure `json:"last_failure"`
	// Audit is where the scheduled audits stand.
	Audit AuditStatus `json:"audit"`
	// Rotation is where the rotations of all keys stand.
	Rotation RotationStatus `json:"rotation"`
	// Draining is where its draining stands.
	Draining DrainStatus `json:"draining"`
}

// Waiting counts the slots with work left.
type Waiting struct {
	// Due is how much of it is due now, and Later how much waits for its time.
	Due   int `json:"due"`
	Later int `json:"later"`
	// Parked is how many of both are revocations that were put aside.
	Parked int `json:"parked"`
	// Reasons are why there is work left, and how often.
	Reasons map[string]int `json:"reasons"`
}

// Failure is what a third party could not do.
type Failure struct {
	At    time.Time `json:"at"`
	Class Class     `json:"class"`
	Error string    `json:"error"`
}

// mostCounted is how many slots with work left ProviderStatuses reads.
const mostCounted = 2000

// ProviderStatuses returns the status of each provider, of those whose settings cannot work and
// those of which nothing but slots is left, too; and whether there is more work left than it has
// counted, at most 2000 slots. It changes nothing.
func (e *Engine) ProviderStatuses(ctx context.Context) (all []ProviderStatus, more bool, err error) {
	waiting, more, err := e.countWaiting(ctx)
	if err != nil {
		return nil, false, err
	}
	all = []ProviderStatus{}
	for _, p := range e.cfg.Providers {
		s, err := e.providerStatus(ctx, p)
		if err != nil {
			return nil, false, err
		}
		all = append(all, s)
	}
	for _, name := range slices.Sorted(maps.Keys(e.cfg.Faults)) {
		all = append(all, ProviderStatus{Provider: name, Error: e.cfg.Faults[name].Error()})
	}
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		if e.byName[name] == nil && e.cfg.Faults[name] == nil {
			all = append(all, ProviderStatus{Provider: name, Mode: Off, Error: store.ReasonNoProvider})
		}
	}
	for i, s := range all {
		all[i].Waiting = Waiting{Reasons: map[string]int{}}
		if w := waiting[s.Provider]; w != nil {
			all[i].Waiting = *w
		}
	}
	return all, more, nil
}

// countWaiting counts the slots with work left, by provider.
func (e *Engine) countWaiting(ctx context.Context) (all map[string]*Waiting, more bool, err error) {
	all = map[string]*Waiting{}
	now, read := e.cfg.Now(), 0
	more, err = e.waiting(ctx, longestPostponed, func(keys []store.Key) (bool, error) {
		slots, err := e.slotsOf(ctx, keys)
		for _, slot := range slots {
			if slot.DueAt.IsZero() { // the index was behind
				continue
			}
			w := all[slot.Provider]
			if w == nil {
				w = &Waiting{Reasons: map[string]int{}}
				all[slot.Provider] = w
			}
			w.add(slot, now)
		}
		read += len(keys)
		return read < mostCounted, err
	})
	return all, more, err
}

func (w *Waiting) add(slot store.Slot, now time.Time) {
	if slot.DueAt.After(now) {
		w.Later++
	} else {
		w.Due++
	}
	if isParked(slot) {
		w.Parked++
	}
	if slot.Reason != "" {
		w.Reasons[slot.Reason]++
	}
}

func (e *Engine) providerStatus(ctx context.Context, p Provider) (ProviderStatus, error) {
	s, err := e.whereItMakes(ctx, p)
	if err != nil {
		return ProviderStatus{}, err
	}
	audits, err := e.cfg.Store.Job(ctx, auditJob(p.Name()))
	if err != nil {
		return ProviderStatus{}, err
	}
	s.Rotation, err = e.rotationStatus(ctx, p.Name())
	if err != nil {
		return ProviderStatus{}, err
	}
	s.Draining, err = e.drainStatus(ctx, p.Name())
	if err != nil {
		return ProviderStatus{}, err
	}
	failures, err := e.cfg.Store.Job(ctx, failureJob(p.Name()))
	if err != nil {
		return ProviderStatus{}, err
	}
	s.Audit = auditStatus(audits)
	if s.Audit.Complete != nil {
		s.Slots = s.Audit.Complete.States
	}
	_ = json.Unmarshal([]byte(failures.Progress), &s.LastFailure) // what another version has noted is as nothing
	staying, ok := p.(Staying)
	if ok {
		s.Stays = staying.Stays()
	}
	return s, nil
}

// whereItMakes is the status as far as it says with which org key things are made, and where.
func (e *Engine) whereItMakes(ctx context.Context, p Provider) (ProviderStatus, error) {
	d, err := e.cfg.Store.Deployment(ctx, p.Name())
	if err != nil {
		return ProviderStatus{}, err
	}
	s := ProviderStatus{Provider: p.Name(), Mode: e.mode(p.Name()), DeploymentID: d.ID, Organization: d.Organization}
	_, err = e.cfg.OrgKeys.Key(ctx, p.Name())
	s.OrgKey = err == nil
	organized, ok := p.(Organized)
	if err == nil && ok {
		err = e.call(ctx, p, "", func(ctx context.Context, org credential.Secret) error {
			var err error
			s.KeyOrganization, err = organized.Organization(ctx, org)
			return err
		})
	}
	if err != nil {
		s.Error = err.Error()
	}
	s.Differs = s.Organization != "" && s.KeyOrganization != "" && s.KeyOrganization != s.Organization
	return s, nil
}

// failureJob is the name under which the last failure at a provider is noted.
func failureJob(provider string) string { return "FAILURE#" + provider }

// longestError is how much is noted of an error's text, in bytes.
const longestError = 500

// fails remembers a failure of the third party's until the round ends.
func (x *pass) fails(now time.Time, err *Error) {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	text := err.Err.Error()
	x.h.failure = Failure{At: now, Class: err.Class, Error: strings.ToValidUTF8(text[:min(len(text), longestError)], "")}
}

// noteFailures notes for each provider the last failure of the round, for operators. That it cannot
// be noted is no trouble.
func (r *round) noteFailures(ctx context.Context) {
	ctx, cancel := writing(ctx)
	defer cancel()
	for _, p := range r.cfg.Providers {
		h := r.health[p.Name()]
		h.mu.Lock()
		failure := h.failure
		h.mu.Unlock()
		if failure.At.Before(r.now) {
			continue
		}
		text, err := json.Marshal(failure)
		if err != nil {
			panic(err) // cannot be: a time and texts
		}
		err = r.cfg.Store.SetProgress(ctx, failureJob(p.Name()), string(text))
		if err != nil {
			r.cfg.Log.WarnContext(ctx, "the last failure could not be noted", "provider", p.Name(), "error", err)
		}
	}
}
