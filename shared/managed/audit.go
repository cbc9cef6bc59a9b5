package managed

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// AuditRequest says what to audit.
type AuditRequest struct {
	Provider string
	// Cursor is the Next of an earlier report; "" is the start.
	Cursor string
	// Repair has done what each finding's Remedy says, at most so many times in the whole audit.
	// Nothing is changed at 0.
	Repair int
	// By is who asks for a repair, for the audit log.
	By string
}

// AuditReport is what an audit has found so far.
type AuditReport struct {
	// Resources and Slots are how many were looked at, without the page at which it stopped.
	Resources int       `json:"resources"`
	Slots     int       `json:"slots"`
	Findings  []Finding `json:"findings"`
	// Next is where to go on: the Cursor of another request. "" if the audit is complete.
	Next string `json:"next,omitempty"`
	// Repaired is how many remedies were carried out.
	Repaired int `json:"repaired,omitempty"`
	// Stopped says why it did not go on, if that was no want of time.
	Stopped string `json:"stopped,omitempty"`

	// states are how many of the slots were in which state.
	states map[store.State]int
	// passed is how many of the findings are of pages that are not looked at again. tooMany: it
	// stopped because more is gone than can be explained.
	passed  int
	tooMany bool
}

// ErrCursor: the cursor is not one that an audit gave.
var ErrCursor error = &credential.FieldError{Field: "cursor", Problem: `has to be the "next" of an audit's report`}

// auditReserve is how much time has to be left for an audit to look at another page.
const auditReserve = 20 * time.Second

// Audit compares what the third party lists with the table, page by page, until it is complete or
// too little is left of ctx: first each resource there, then each slot that is at rest, and the
// keys in its resource. It finds what broke the assumption that the protocol rests on, and what was
// changed at the third party by hand. What reconcile is at work on is left alone.
//
// It returns credential.ErrNoProvider or ErrCursor; what else goes wrong is in the report. Safe to
// repeat, and beside everything else.
func (e *Engine) Audit(ctx context.Context, request AuditRequest) (AuditReport, error) {
	p := e.byName[request.Provider]
	if p == nil {
		return AuditReport{}, credential.ErrNoProvider
	}
	at, err := parsePlace(request.Cursor)
	if err != nil {
		return AuditReport{}, err
	}
	own, err := e.cfg.Store.Deployment(ctx, p.Name())
	if err != nil {
		return AuditReport{}, err
	}
	a := &audit{Engine: e, provider: p, request: request, own: own.ID}
	report := AuditReport{Findings: []Finding{}, states: map[store.State]int{}}
	for {
		deadline, ok := ctx.Deadline()
		if ok && clock.Until(deadline) < auditReserve {
			report.Next = at.String()
			return report, nil
		}
		page, next, err := a.page(ctx, at)
		if err != nil { // the page is looked at again
			report.Next, report.Stopped = at.String(), err.Error()
			return report, nil //nolint:nilerr // the report says so
		}
		next.Slots, next.Repaired = at.Slots+page.slots, at.Repaired
		next.Gone, next.Condemned = at.Gone+page.gone(), at.Condemned+page.condemned()
		report.Stopped = a.tooMany(next)
		report.tooMany = report.Stopped != ""
		if !report.tooMany {
			repaired, enough := a.repair(ctx, page.findings, at.Repaired)
			next.Repaired += repaired
			report.Repaired += repaired
			if enough {
				report.Stopped = fmt.Sprintf("as many repairs as were asked for have been made (%d): go on with a higher number", a.request.Repair)
			}
		}
		for _, f := range page.findings {
			report.Findings = append(report.Findings, f.Finding)
		}
		if report.Stopped != "" { // the page is looked at again
			at.Repaired = next.Repaired
			report.Next = at.String()
			return report, nil
		}
		report.Resources += page.resources
		report.Slots += page.slots
		for state, n := range page.states {
			report.states[state] += n
		}
		report.passed = len(report.Findings)
		if next.Done {
			return report, nil
		}
		at = next
	}
}

// tooMany says why an audit does not go on, if it has found more gone than can be explained: a
// third party in trouble, or an org key of another organisation, has everything look gone; and
// another user pool than the users' has everybody look gone. A deletion cannot be taken back, so
// that the number of repairs does not raise its floor.
func (a *audit) tooMany(at place) string {
	if a.exceeds(at.Condemned, at.Slots, a.cfg.GoneFloor) {
		return fmt.Sprintf("of %d slots that were looked at, the users of %d are unknown to the user pool, and would be deleted: "+
			"see whether it is the right pool, and answers; if it is so, raise the share of slots that an audit believes to be gone", at.Slots, at.Condemned)
	}
	if !a.exceeds(at.Gone, at.Slots, max(a.cfg.GoneFloor, a.request.Repair)) {
		return ""
	}
	return fmt.Sprintf("of %d slots that were looked at, what %d of them name seems to be gone at the third party: look there first; "+
		"if it is so, have at most that many repaired", at.Slots, at.Gone)
}

func (a *audit) exceeds(n, slots, floor int) bool {
	return n > floor && float64(n) > a.cfg.GoneShare*float64(slots)
}

// place is where an audit stands: at a page of the third party's resources, or of each segment of
// the table, and what it has counted so far. Of another walk it is After alone.
type place struct {
	Resources string
	Table     bool
	// After is the item of the table at which a walk stands, and an audit that the version before
	// began, which takes the table as one.
	After store.Key
	// Segments are how far each segment of the table is. How many there are is settled when the
	// audit gets to the table.
	Segments []segment
	Done     bool
	// Slots is how many were looked at, Gone of how many what they name was not there, Condemned of
	// how many the user is to be deleted, and Repaired how many remedies were carried out.
	Slots, Gone, Condemned, Repaired int
}

// segment is how far an audit is in a segment of the table: after which item, or at its end.
type segment struct {
	After store.Key
	Done  bool
}

func parsePlace(cursor string) (place, error) {
	if cursor == "" {
		return place{}, nil
	}
	var at place
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if err != nil {
		return place{}, ErrCursor
	}
	return at, nil
}

// String is the place as a cursor.
func (at place) String() string {
	text, _ := json.Marshal(at) // texts always marshal
	return base64.RawURLEncoding.EncodeToString(text)
}

// audit is one call of Audit.
type audit struct {
	*Engine
	provider Provider
	request  AuditRequest
	// own is this deployment's id; "" if it has none yet.
	own string
}

// others reports whether any of the keys is another deployment's.
func (a *audit) others(keys []HeldKey) bool {
	return slices.ContainsFunc(keys, func(k HeldKey) bool { return k.Deployment != "" && k.Deployment != a.own })
}

// page looks at one page, and says where the next is.
func (a *audit) page(ctx context.Context, at place) (findings, place, error) {
	if at.Table {
		return a.slots(ctx, at)
	}
	var holdings []Holding
	var next string
	err := a.call(ctx, a.provider, "", func(ctx context.Context, org credential.Secret) error {
		var err error
		holdings, next, err = a.provider.Enumerate(ctx, org, at.Resources)
		return err
	})
	if err != nil {
		return findings{}, place{}, err
	}
	found, err := each(ctx, a.atOnce(), holdings, a.resource)
	after := place{Resources: next}
	if next == "" {
		after = place{Table: true, Segments: make([]segment, a.segments())}
	}
	return findings{resources: len(holdings), findings: found}, after, err
}

// segments is how many parts of the table are looked at side by side.
func (a *audit) segments() int { return max(1, a.cfg.AuditSegments) }

// atOnce is how many resources or slots are looked at, at once.
func (a *audit) atOnce() int { return width * a.segments() }

// slots looks at the next page of each segment that is not at its end.
func (a *audit) slots(ctx context.Context, at place) (findings, place, error) {
	slots, unreadable, next, err := a.scan(ctx, at)
	if err != nil {
		return findings{}, place{}, err
	}
	slots = slices.DeleteFunc(slots, func(s store.Slot) bool { return s.Provider != a.provider.Name() })
	states := map[store.State]int{}
	for _, slot := range slots {
		states[slot.State]++
	}
	found, err := each(ctx, a.atOnce(), slots, a.slot)
	if err != nil {
		return findings{}, place{}, err
	}
	strangers, err := each(ctx, a.atOnce(), slots, a.stranger)
	found = append(found, strangers...)
	for _, key := range unreadable {
		if key.Provider() == a.provider.Name() {
			found = append(found, &suspect{Finding: Finding{Kind: Undecodable, User: key.User()}})
		}
	}
	return findings{slots: len(slots), states: states, findings: found}, next, err
}

// scan reads the next page of each segment that is not at its end, side by side.
func (a *audit) scan(ctx context.Context, at place) (slots []store.Slot, unreadable []store.Key, next place, err error) {
	segments := slices.Clone(at.Segments)
	if len(segments) == 0 {
		segments = []segment{{After: at.After}}
	}
	var mu sync.Mutex
	var scans errgroup.Group
	for i, s := range segments {
		if s.Done {
			continue
		}
		scans.Go(func() error {
			some, bad, last, err := a.cfg.Store.Scan(ctx, store.Segment{Number: i, Of: len(segments)}, s.After)
			mu.Lock()
			defer mu.Unlock()
			slots, unreadable = append(slots, some...), append(unreadable, bad...)
			segments[i] = segment{After: last, Done: last == (store.Key{})}
			return err
		})
	}
	err = scans.Wait()
	open := slices.ContainsFunc(segments, func(s segment) bool { return !s.Done })
	return slots, unreadable, place{Table: true, Segments: segments, Done: !open}, err
}

// each looks at all, so many at once, and returns what it found. If nothing could be looked at,
// that is an error: an outage would go through as so many findings.
func each[T any](ctx context.Context, atOnce int, all []T, look func(context.Context, T) ([]*suspect, error)) ([]*suspect, error) {
	var mu sync.Mutex
	var suspects []*suspect
	var failed []error
	var work errgroup.Group
	work.SetLimit(atOnce)
	for _, one := range all {
		work.Go(func() error {
			found, err := look(ctx, one)
			mu.Lock()
			defer mu.Unlock()
			suspects = append(suspects, found...)
			if err != nil {
				failed = append(failed, err)
			}
			return nil
		})
	}
	_ = work.Wait() // what failed is counted
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(failed) > 0 && len(failed) == len(all) {
		return nil, failed[0]
	}
	return suspects, nil
}

// repair carries out the remedies of a page, as far as was asked for, and notes which failed. It
// returns how many it has carried out; done is how many were before.
func (a *audit) repair(ctx context.Context, found []*suspect, done int) (repaired int, enough bool) {
	for _, f := range found {
		if f.remedy == nil || a.request.Repair == 0 {
			continue
		}
		if done+repaired >= a.request.Repair {
			return repaired, true
		}
		repaired++
		err := telemetry.Audit(ctx, a.cfg.Log, "repair", "by", a.request.By, "provider", a.provider.Name(), "user", f.User,
			"kind", f.Kind, "remedy", f.Remedy, "resource", f.Resource, "key_id", f.KeyID)
		if err == nil {
			err = f.remedy(ctx)
		}
		if err != nil {
			f.Error = err.Error()
		}
	}
	return repaired, false
}
