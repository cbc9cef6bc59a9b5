package managed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

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
	// LeftBehind: a resource of a deleted account, or of a user who gave it up, that the table does
	// not know of any more.
	LeftBehind FindingKind = "left_behind"
	// Unclaimed: a resource whose user has neither slot nor tombstone. They may not have come yet,
	// and it is theirs when they do.
	Unclaimed FindingKind = "unclaimed"
	// Unattributed: a resource of which nobody can tell whose it is.
	Unattributed FindingKind = "unattributed"
	// SecondResource: a resource of a user whose slot names another one.
	SecondResource FindingKind = "second_resource"
	// MissingResource and MissingKey: what a slot names is not there any more.
	MissingResource FindingKind = "missing_resource"
	MissingKey      FindingKind = "missing_key"
	// SurplusKey: a key of ours that the slot does not name.
	SurplusKey FindingKind = "surplus_key"
	// PermissionsDiffer: the stored key may do something else than what is configured now.
	PermissionsDiffer FindingKind = "permissions_differ"
	// OtherDeployment: a resource that holds keys of another deployment, which shares the
	// organisation.
	OtherDeployment FindingKind = "other_deployment"
	// Undecodable: a slot that this version cannot read.
	Undecodable FindingKind = "undecodable"
	// NotInspected: the table or the third party failed to tell.
	NotInspected FindingKind = "not_inspected"
)

// Remedy is what a repair does. Revoke and Check only make work due, which reconcile then does
// under a claim.
type Remedy string

const (
	// Revoke has the resource revoked.
	Revoke Remedy = "revoke"
	// Check has the slot's key looked for, what is missing made anew, keys of lower attempts
	// removed, and what the key may do brought up to date.
	Check Remedy = "check"
	// Delete has the user's account deleted.
	Delete Remedy = "delete"
)

// suspect is a finding with what its remedy does.
type suspect struct {
	Finding
	remedy func(context.Context) error
}

// findings are those of one page, and how many resources and slots it had, these by state, too.
type findings struct {
	resources, slots int
	states           map[store.State]int
	findings         []*suspect
}

// gone is how many slots name what is not there.
func (f findings) gone() int {
	n := 0
	for _, one := range f.findings {
		if one.Kind == MissingResource || one.Kind == MissingKey {
			n++
		}
	}
	return n
}

// condemned is how many slots belong to users who are to be deleted.
func (f findings) condemned() int {
	n := 0
	for _, one := range f.findings {
		if one.Remedy == Delete {
			n++
		}
	}
	return n
}

// resource compares a resource with its user's slot.
func (a *audit) resource(ctx context.Context, h Holding) ([]*suspect, error) {
	f := Finding{User: h.User, Resource: h.Resource.ID}
	if h.User == "" {
		f.Kind = Unattributed
		return []*suspect{{Finding: f}}, nil
	}
	slots, err := a.cfg.Store.Slots(ctx, h.User, a.provider.Name())
	if errors.Is(err, credential.ErrAccountSuspended) { // until they are enabled
		return nil, nil
	}
	deleted := errors.Is(err, credential.ErrAccountDeleted)
	if err != nil && !deleted {
		return f.notInspected(err)
	}
	slot, ok := slots[a.provider.Name()]
	switch {
	case slot.State == store.Failed && slot.Reason == string(Mismatch):
		f.Kind = OtherDeployment
	case h.Deployment != "" && h.Deployment != a.own && slot.Resource.ID != h.Resource.ID: // that one's audit is about it
		return nil, nil
	case !ok: // found again among the slots
		return nil, nil
	case slot.State == store.Absent && deleted:
		return a.leftBehind(ctx, h, f, func(ctx context.Context) error {
			return a.cfg.Store.Reopen(ctx, store.Slot{User: h.User, Provider: a.provider.Name(), Title: a.provider.Title(), Resource: h.Resource})
		})
	case slot.Disarmed() && slot.Resource.ID == h.Resource.ID: // it stays until another key is made in it
		return nil, nil
	case slot.State == store.Off && !deleted:
		return a.leftBehind(ctx, h, f, func(ctx context.Context) error {
			return a.cfg.Store.Postpone(ctx, slot, store.Wait{State: store.Retracting, Reason: store.ReasonAudit, DueAt: a.cfg.Now()})
		})
	case slot.State == store.Absent:
		f.Kind = Unclaimed
	case a.atRest(slot) && slot.Resource.ID != h.Resource.ID:
		f.Kind = SecondResource
	case a.atRest(slot): // keys that come with it are not listed again for the slot
		return a.withRemedy(slot, a.surplus(slot, h.Keys)), nil
	default:
		return nil, nil
	}
	return []*suspect{{Finding: f}}, nil
}

// leftBehind is about a resource of which nothing should be left: its user's tombstone stands
// alone, or their slot is off.
func (a *audit) leftBehind(ctx context.Context, h Holding, f Finding, remedy func(context.Context) error) ([]*suspect, error) {
	keys, err := h.Keys, error(nil)
	if keys == nil {
		keys, err = a.inspect(ctx, h.User, h.Resource)
	}
	if isGone(err) { // its revocation has just been completed
		return nil, nil
	}
	if err != nil {
		return f.notInspected(err)
	}
	if a.others(keys) {
		f.Kind = OtherDeployment
		return []*suspect{{Finding: f}}, nil
	}
	f.Kind, f.Remedy = LeftBehind, Revoke
	return []*suspect{{f, remedy}}, nil
}

// slot compares a slot with what the third party has.
func (a *audit) slot(ctx context.Context, slot store.Slot) ([]*suspect, error) {
	if !a.atRest(slot) {
		return nil, nil
	}
	f := Finding{User: slot.User, Resource: slot.Resource.ID}
	keys, err := a.inspect(ctx, slot.User, slot.Resource)
	if err != nil && !isGone(err) {
		return f.notInspected(err)
	}
	found := a.compare(slot, keys, isGone(err))
	if len(found) == 0 {
		return nil, nil
	}
	slots, err := a.cfg.Store.Slots(ctx, slot.User, slot.Provider)
	if isRefused(err) {
		return nil, nil
	}
	if err != nil {
		return f.notInspected(err)
	}
	now := slots[slot.Provider]
	if !a.atRest(now) || now.Attempt != slot.Attempt { // it has been worked on since it was read
		return nil, nil
	}
	return a.withRemedy(now, found), nil
}

// compare says what is wrong between a slot and the keys in its resource. A key that was just made
// may not be stored yet, so only those older than any lease count.
func (a *audit) compare(slot store.Slot, keys []HeldKey, gone bool) []Finding {
	f := Finding{User: slot.User, Resource: slot.Resource.ID, KeyID: slot.Resource.KeyID, Remedy: Check}
	if gone {
		f.Kind = MissingResource
		return []Finding{f}
	}
	var findings []Finding
	stored := slices.IndexFunc(keys, func(k HeldKey) bool { return k.ID == slot.Resource.KeyID })
	switch {
	case stored < 0:
		f.Kind = MissingKey
		findings = append(findings, f)
	case keys[stored].PermissionsDiffer:
		f.Kind = PermissionsDiffer
		findings = append(findings, f)
	}
	if a.others(keys) {
		findings = append(findings, Finding{Kind: OtherDeployment, User: f.User, Resource: f.Resource})
	}
	return append(findings, a.surplus(slot, keys)...)
}

// surplus are the keys of ours that the slot does not name.
func (a *audit) surplus(slot store.Slot, keys []HeldKey) []Finding {
	f := Finding{Kind: SurplusKey, User: slot.User, Resource: slot.Resource.ID}
	var findings []Finding
	for _, key := range keys {
		if key.ID == slot.Resource.KeyID || key.ID == slot.Retiring.KeyID || a.others([]HeldKey{key}) || key.CreatedAt.After(a.cfg.Now().Add(-a.cfg.Lease-store.SkewMargin)) {
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

// withRemedy has the slot checked where that is the remedy of any of its findings: once for all of
// them.
func (a *audit) withRemedy(slot store.Slot, found []Finding) []*suspect {
	var suspects []*suspect
	for _, f := range found {
		one := &suspect{Finding: f}
		if f.Remedy == Check && !slices.ContainsFunc(suspects, (*suspect).mendable) {
			one.remedy = func(ctx context.Context) error {
				return a.cfg.Store.Postpone(ctx, slot, store.Wait{State: slot.State, Reason: store.ReasonAudit, DueAt: a.cfg.Now()})
			}
		}
		suspects = append(suspects, one)
	}
	return suspects
}

func (s *suspect) mendable() bool { return s.remedy != nil }

// inspect returns the keys in a resource.
func (a *audit) inspect(ctx context.Context, user string, r credential.Resource) ([]HeldKey, error) {
	var keys []HeldKey
	err := a.call(ctx, a.provider, user, func(ctx context.Context, org credential.Secret) error {
		var err error
		keys, err = a.provider.Inspect(ctx, org, user, r)
		return err
	})
	return keys, err
}

// atRest reports whether nobody works on a living user's slot, nor has to by now: it may wait for a
// time that was set when all was well, or for another look at a key that does not work.
func (e *Engine) atRest(slot store.Slot) bool {
	planned := (slot.Reason == "" || slot.Reason == store.ReasonUnusable) && slot.DueAt.After(e.cfg.Now())
	return slot.State == store.Ready && slot.Owner == "" && slot.Settled() && (slot.DueAt.IsZero() || planned)
}

func isGone(err error) bool { return err != nil && classified(err).Class == Gone }

func (f Finding) notInspected(err error) ([]*suspect, error) {
	f.Kind, f.Error = NotInspected, fmt.Sprint(err)
	return []*suspect{{Finding: f}}, err
}
