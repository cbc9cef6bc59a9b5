package managed

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
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
	// Repair has done what each finding's Remedy says. Nothing is changed without it.
	Repair bool
	// By is who asks for a repair, for the audit log.
	By string
}

// AuditReport is what an audit has found so far.
type AuditReport struct {
	// Resources and Slots are how many were looked at.
	Resources int       `json:"resources"`
	Slots     int       `json:"slots"`
	Findings  []Finding `json:"findings"`
	// Next is where to go on: the Cursor of another request. "" if the audit is complete.
	Next string `json:"next,omitempty"`
	// Stopped says why it did not go on, if that was no want of time.
	Stopped string `json:"stopped,omitempty"`
}

// Finding is something that is not as it should be.
type Finding struct {
	Kind     FindingKind `json:"kind"`
	User     string      `json:"user,omitempty"`
	Resource string      `json:"resource,omitempty"`
	KeyID    string      `json:"key_id,omitempty"`
	// Remedy is what a repair does; "" where an operator has to judge.
	Remedy Remedy `json:"remedy,omitempty"`
	// Error is why it could not be looked at, or repaired.
	Error string `json:"error,omitempty"`
}

// FindingKind says what is wrong.
type FindingKind string

// The kinds of findings.
const (
	// LeftBehind: a resource of a deleted account that the table does not know of any more.
	LeftBehind FindingKind = "left_behind"
	// Unclaimed: a resource whose user has neither slot nor tombstone. They may not have come yet, and it is theirs when they do.
	Unclaimed FindingKind = "unclaimed"
	// Unattributed: a resource of which nobody can tell whose it is.
	Unattributed FindingKind = "unattributed"
	// SecondResource: a resource of a user whose slot names another one.
	SecondResource FindingKind = "second_resource"
	// MissingResource and MissingKey: what a slot names is not there any more.
	MissingResource FindingKind = "missing_resource"
	MissingKey      FindingKind = "missing_key"
	// SurplusKey: a key of ours beside the stored one.
	SurplusKey FindingKind = "surplus_key"
	// Undecodable: a slot that this version cannot read.
	Undecodable FindingKind = "undecodable"
	// NotInspected: the table or the third party failed to tell.
	NotInspected FindingKind = "not_inspected"
)

// Remedy is what a repair does. Either only makes work due, which reconcile then does under a claim.
type Remedy string

const (
	// Revoke has the resource revoked.
	Revoke Remedy = "revoke"
	// Check has the slot's key looked for, what is missing made anew, and keys of lower attempts removed.
	Check Remedy = "check"
)

var (
	// ErrNoProvider: no provider of that name is registered.
	ErrNoProvider = errors.New("no such provider is registered")
	// ErrCursor: the cursor is not one that an audit gave.
	ErrCursor = errors.New("the cursor is not one of an audit's report")
)

// auditReserve is how much time has to be left for an audit to look at another page.
const auditReserve = 20 * time.Second

// Audit compares what the third party lists with the table, page by page, until it is complete or too little is left of ctx: first each
// resource there, then each slot that is at rest, and the keys in its resource. It finds what broke the assumption that the protocol rests
// on, and what was changed at the third party by hand. What reconcile is at work on is left alone.
//
// It returns ErrNoProvider or ErrCursor; what else goes wrong is in the report. Safe to repeat, and beside everything else.
func (e *Engine) Audit(ctx context.Context, request AuditRequest) (AuditReport, error) {
	p := e.byName[request.Provider]
	if p == nil {
		return AuditReport{}, ErrNoProvider
	}
	at, err := parsePlace(request.Cursor)
	if err != nil {
		return AuditReport{}, err
	}
	a := &audit{Engine: e, provider: p, request: request}
	report := AuditReport{Findings: []Finding{}}
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
		report.Resources += page.Resources
		report.Slots += page.Slots
		report.Findings = append(report.Findings, page.Findings...)
		if next == (place{}) {
			return report, nil
		}
		at = next
	}
}

// place is where an audit stands: at a page of the third party's resources, or of the table.
type place struct {
	Resources string
	Table     bool
	After     store.Key
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
}

// page looks at one page, and says where the next is; the zero place after the last.
func (a *audit) page(ctx context.Context, at place) (AuditReport, place, error) {
	if at.Table {
		return a.slots(ctx, at.After)
	}
	var holdings []Holding
	var next string
	err := a.call(ctx, a.provider, func(org credential.Secret) error {
		var err error
		holdings, next, err = a.provider.Enumerate(ctx, org, at.Resources)
		return err
	})
	if err != nil {
		return AuditReport{}, place{}, err
	}
	findings, err := each(ctx, holdings, a.resource)
	return AuditReport{Resources: len(holdings), Findings: findings}, place{Resources: next, Table: next == ""}, err
}

func (a *audit) slots(ctx context.Context, after store.Key) (AuditReport, place, error) {
	slots, unreadable, last, err := a.Store.Scan(ctx, after)
	if err != nil {
		return AuditReport{}, place{}, err
	}
	slots = slices.DeleteFunc(slots, func(s store.Slot) bool { return s.Provider != a.provider.Name() })
	findings, err := each(ctx, slots, a.slot)
	for _, key := range unreadable {
		if key.Provider() == a.provider.Name() {
			findings = append(findings, Finding{Kind: Undecodable, User: key.User()})
		}
	}
	next := place{Table: true, After: last}
	if last == (store.Key{}) {
		next = place{}
	}
	return AuditReport{Slots: len(slots), Findings: findings}, next, err
}

// each looks at all, several at a time, and returns what it found. If nothing could be looked at, that is an error: an outage would go
// through as so many findings.
func each[T any](ctx context.Context, all []T, look func(context.Context, T) ([]Finding, error)) ([]Finding, error) {
	var mu sync.Mutex
	var findings []Finding
	var failed []error
	var work errgroup.Group
	work.SetLimit(width)
	for _, one := range all {
		work.Go(func() error {
			found, err := look(ctx, one)
			mu.Lock()
			defer mu.Unlock()
			findings = append(findings, found...)
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
	return findings, nil
}

// resource compares a resource with its user's slot.
func (a *audit) resource(ctx context.Context, h Holding) ([]Finding, error) {
	f := Finding{User: h.User, Resource: h.Resource.ID}
	if h.User == "" {
		f.Kind = Unattributed
		return []Finding{f}, nil
	}
	slots, err := a.Store.Slots(ctx, h.User, a.provider.Name())
	deleted := errors.Is(err, credential.ErrAccountDeleted)
	if err != nil && !deleted {
		return f.notInspected(err)
	}
	slot, ok := slots[a.provider.Name()]
	switch {
	case !ok: // found again among the slots
		return nil, nil
	case slot.State == store.Absent && deleted:
		return a.leftBehind(ctx, h, f)
	case slot.State == store.Absent:
		f.Kind = Unclaimed
	case atRest(slot) && slot.Resource.ID != h.Resource.ID:
		f.Kind = SecondResource
	default:
		return nil, nil
	}
	return []Finding{f}, nil
}

// leftBehind is about a resource whose user's tombstone stands alone.
func (a *audit) leftBehind(ctx context.Context, h Holding, f Finding) ([]Finding, error) {
	_, err := a.inspect(ctx, h.User, h.Resource)
	if isGone(err) { // its revocation has just been completed
		return nil, nil
	}
	if err != nil {
		return f.notInspected(err)
	}
	f.Kind, f.Remedy = LeftBehind, Revoke
	return a.repaired(ctx, f, func() error {
		return a.Store.Reopen(ctx, h.User, a.provider.Name(), a.provider.Title(), h.Resource)
	}), nil
}

// slot compares a slot with what the third party has.
func (a *audit) slot(ctx context.Context, slot store.Slot) ([]Finding, error) {
	if !atRest(slot) {
		return nil, nil
	}
	f := Finding{User: slot.User, Resource: slot.Resource.ID}
	keys, err := a.inspect(ctx, slot.User, slot.Resource)
	if err != nil && !isGone(err) {
		return f.notInspected(err)
	}
	findings := a.compare(slot, keys, isGone(err))
	if len(findings) == 0 {
		return nil, nil
	}
	slots, err := a.Store.Slots(ctx, slot.User, slot.Provider)
	if errors.Is(err, credential.ErrAccountDeleted) {
		return nil, nil
	}
	if err != nil {
		return f.notInspected(err)
	}
	now := slots[slot.Provider]
	if !atRest(now) || now.Attempt != slot.Attempt { // it has been worked on since it was read
		return nil, nil
	}
	return a.checked(ctx, now, findings), nil
}

// compare says what is wrong between a slot and the keys in its resource. A key that was just made may not be stored yet, so only those
// older than any lease count.
func (a *audit) compare(slot store.Slot, keys []HeldKey, gone bool) []Finding {
	f := Finding{User: slot.User, Resource: slot.Resource.ID, KeyID: slot.Resource.KeyID, Remedy: Check}
	if gone {
		f.Kind = MissingResource
		return []Finding{f}
	}
	var findings []Finding
	if !slices.ContainsFunc(keys, func(k HeldKey) bool { return k.ID == slot.Resource.KeyID }) {
		f.Kind = MissingKey
		findings = append(findings, f)
	}
	f.Kind = SurplusKey
	for _, key := range keys {
		if key.ID == slot.Resource.KeyID || key.CreatedAt.After(a.Now().Add(-a.Lease-store.SkewMargin)) {
			continue
		}
		f.KeyID, f.Remedy = key.ID, Check
		if key.Attempt > slot.Attempt { // none that the table knows of: it may have been restored to an earlier moment
			f.Remedy = ""
		}
		findings = append(findings, f)
	}
	return findings
}

// checked has the slot checked if that is the remedy of any of its findings.
func (a *audit) checked(ctx context.Context, slot store.Slot, findings []Finding) []Finding {
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Remedy == Check })
	if i < 0 {
		return findings
	}
	repaired := a.repaired(ctx, findings[i], func() error {
		return a.Store.Postpone(ctx, slot, slot.State, "audit", a.Now())
	})
	return append(slices.Delete(findings, i, i+1), repaired...)
}

// repaired carries a finding's remedy out, if that was asked for, and notes if it failed.
func (a *audit) repaired(ctx context.Context, f Finding, repair func() error) []Finding {
	if !a.request.Repair {
		return []Finding{f}
	}
	err := telemetry.Audit(ctx, a.Log, "repair", "by", a.request.By, "provider", a.provider.Name(), "user", f.User,
		"kind", f.Kind, "remedy", f.Remedy, "resource", f.Resource, "key_id", f.KeyID)
	if err == nil {
		err = repair()
	}
	if err != nil {
		f.Error = err.Error()
	}
	return []Finding{f}
}

// inspect returns the keys in a resource.
func (a *audit) inspect(ctx context.Context, user string, r credential.Resource) ([]HeldKey, error) {
	var keys []HeldKey
	err := a.call(ctx, a.provider, func(org credential.Secret) error {
		var err error
		keys, err = a.provider.Inspect(ctx, org, user, r)
		return err
	})
	return keys, err
}

// atRest reports whether nobody works on a living user's slot, nor has to.
func atRest(slot store.Slot) bool {
	return slot.State == store.Ready && slot.Owner == "" && slot.Settled() && slot.DueAt.IsZero()
}

func isGone(err error) bool { return err != nil && classified(err).Class == Gone }

func (f Finding) notInspected(err error) ([]Finding, error) {
	f.Kind, f.Error = NotInspected, fmt.Sprint(err)
	return []Finding{f}, err
}
