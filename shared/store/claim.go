package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"managed-credentials/shared/credential"
)

// Claim takes slots of one user, all or none, in one transaction with the condition that the user
// is neither deleted nor suspended: each slot has to be as it was read, and each is then in the
// state given by next, under one new owner and the next attempt, until the lease ends. The caller
// has checked that they are claimable, counts the lease from before this call, and gives AskFrom
// and AskPause as they are to be from then on.
//
// It returns the slots as claimed; ErrAccountDeleted; ErrAccountSuspended; or ErrStale, after which
// to read again. Any other error leaves the outcome unknown: nothing may be done under the claim,
// and the lease runs out by itself.
func (s *Store) Claim(ctx context.Context, slots []Slot, next State, leaseUntil time.Time) ([]Slot, error) {
	items := []types.TransactWriteItem{s.noAccountItem(slots[0].User)}
	claimed := slices.Clone(slots)
	owner := uuid.NewString()
	for i, slot := range slots {
		values := args{}
		condition := slot.asRead(values)
		claimed[i] = slot.claimed(owner, next, leaseUntil)
		if slot.CreatedAt.IsZero() {
			claimed[i].CreatedAt = s.now()
		}
		expression := s.claim(claimed[i], values) +
			", #v = " + values.num("v", version) +
			", #type = " + values.str("type", string(credential.APIKey)) +
			", #title = " + values.str("title", slot.Title) +
			", #autogpt_managed = " + values.flag("managed", true) +
			", #created_at = if_not_exists(#created_at, " + values.time("now", s.now()) + ")"
		if !slot.AskFrom.IsZero() {
			expression += ", " + slot.asked(values)
		}
		if next == Provisioning && slot.RetractedBy != "" {
			expression += " REMOVE #retracted_by"
			claimed[i].RetractedBy = ""
		}
		items = append(items, types.TransactWriteItem{Update: &types.Update{
			TableName:                 &s.table,
			Key:                       slot.Key().item(),
			UpdateExpression:          &expression,
			ConditionExpression:       &condition,
			ExpressionAttributeNames:  names(expression, condition),
			ExpressionAttributeValues: values,
		}})
	}
	_, err := s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
	reasons := cancellation(err)
	refused := refusedAccount(err)
	if refused != nil {
		return nil, refused
	}
	if slices.Contains(reasons, conditionalCheckFailed) || isConflict(err) {
		return nil, ErrStale
	}
	if err != nil {
		return nil, fmt.Errorf("claiming slots: %w", err)
	}
	return claimed, nil
}

// ClaimDead takes one slot of which all is to go, a deleted account's or one that is retracting,
// which keeps its state. Like Claim, but one conditional update without the tombstone's check. Who
// had it removed has to be as it was read, too: that says whether the resource stays.
func (s *Store) ClaimDead(ctx context.Context, slot Slot, leaseUntil time.Time) (Slot, error) {
	values := args{}
	condition := slot.asRead(values)
	if slot.RetractedBy != "" {
		condition += " AND #retracted_by = " + values.str("was_retracted_by", string(slot.RetractedBy))
	}
	claimed := slot.claimed(uuid.NewString(), slot.State, leaseUntil)
	err := s.update(ctx, slot.Key(), s.claim(claimed, values), condition, values)
	if !isRefused(err) {
		if err != nil {
			return Slot{}, fmt.Errorf("claiming the revocation: %w", err)
		}
		return claimed, nil
	}
	// The SDK repeats a write whose answer was lost, and the repeat is refused by its own first
	// effect.
	now, err := s.reread(ctx, slot)
	if err != nil {
		return Slot{}, err
	}
	if now.Owner != claimed.Owner {
		return Slot{}, ErrStale
	}
	return claimed, nil
}

// claimed is the slot as it is once the claim is written.
func (s Slot) claimed(owner string, next State, leaseUntil time.Time) Slot {
	s.State = next
	s.Owner = owner
	s.Attempt++
	s.LeaseUntil = time.UnixMilli(leaseUntil.UnixMilli())
	s.DueAt = s.LeaseUntil
	return s
}

// asked is the part of an update that notes from when on the user may ask again.
func (s Slot) asked(values args) string {
	return "#ask_from = " + values.time("ask_from", s.AskFrom) + ", #ask_pause = " + values.num("ask_pause", s.AskPause.Milliseconds())
}

// claim is the part of an update that all claims share. The slot is due when its lease ends, so
// that a killed worker is found.
func (s *Store) claim(slot Slot, values args) string {
	lease := values.time("lease", slot.LeaseUntil)
	return "SET #state = " + values.str("state", string(slot.State)) +
		", #owner = " + values.str("owner", slot.Owner) +
		", #attempt = " + values.num("attempt", slot.Attempt) +
		", #lease_until = " + lease +
		", #due_at = " + lease +
		", #due_shard = " + values.str("shard", slot.shard())
}

// Made is what a claim has made.
type Made struct {
	Ciphertext []byte
	Resource   credential.Resource
	// Began is when the claim began: what it made is no older.
	Began time.Time
	// ExpiresAt is when the third party lets the key expire; zero if it does not.
	ExpiresAt time.Time
	// Hint is the end of the key, to be stored in the clear; nil for none.
	Hint *string
	// RenewAt is when it is to be replaced because it expires; zero if it is not.
	RenewAt time.Time
	// RetireAt is until when the key that was stored before serves on, named by the slot as the
	// retiring one; zero if it is not to.
	RetireAt time.Time
	// Settled is true only if the outcome of every create under the slot is known, and nothing is
	// left that it does not name.
	Settled bool
}

// Commit stores the secret that the claim made, and ends the claim and any rotation that was asked
// for. If not all is settled, the lease stands on and the slot is due when it ends; else it is due
// when the key that was stored before retires, if that is kept, or when this one is to be replaced.
//
// It returns ErrLost if the claim was lost. Any other error leaves the outcome unknown: nothing may
// be changed or destroyed then.
func (s *Store) Commit(ctx context.Context, slot Slot, m Made) error {
	values := args{":secret": &types.AttributeValueMemberB{Value: m.Ciphertext}}
	condition := slot.mine(values)
	set := "SET #state = " + values.str("ready", string(Ready)) +
		", #secret = :secret, #committed = " + values.num("committed", slot.Attempt) +
		", #committed_at = " + values.time("began", m.Began) +
		", #resource_id = " + values.str("resource", m.Resource.ID) +
		", #key_id = " + values.str("key", m.Resource.KeyID) +
		", #org_id = " + values.str("org", m.Resource.OrgID)
	remove := " REMOVE #owner, #tries, #reason, #gone_since, #report_from, #report_pause, #rotate"
	if m.RetireAt.IsZero() {
		remove += retiringNone
	} else {
		set += ", #retiring_key_id = " + values.str("retiring", slot.Resource.KeyID) +
			", #retiring_attempt = " + values.num("retiring_attempt", slot.Committed) +
			", #retire_at = " + values.time("retire_at", m.RetireAt)
	}
	if m.ExpiresAt.IsZero() {
		remove += ", #expires_at"
	} else {
		set += ", #expires_at = " + values.time("expires", m.ExpiresAt)
	}
	if m.Hint == nil {
		remove += ", #hint"
	} else {
		set += ", #hint = " + values.str("hint", *m.Hint)
	}
	switch {
	case !m.Settled:
		set += ", #due_at = " + values.time("due", slot.ClaimableAt())
	case m.RetireAt.IsZero() && m.RenewAt.IsZero():
		remove += ", #lease_until, #due_at, #due_shard"
	case m.RetireAt.IsZero():
		remove += ", #lease_until"
		set += ", #due_at = " + values.time("due", m.RenewAt)
	default:
		remove += ", #lease_until"
		set += ", #due_at = " + values.time("due", m.RetireAt)
	}
	expression := set + remove
	err := s.update(ctx, slot.Key(), expression, condition, values)
	if !isRefused(err) {
		if err != nil {
			return fmt.Errorf("committing: %w", err)
		}
		return nil
	}
	// The SDK repeats a write whose answer was lost, and the repeat is refused by its own first
	// effect. A slot that holds what my attempt made shows that: a number belongs to one claim for
	// ever.
	now, err := s.reread(ctx, slot)
	if err != nil {
		return err
	}
	if now.State == Ready && now.Committed == slot.Attempt {
		return nil
	}
	return ErrLost
}

// retiringNone removes, in a list of what is removed, the retiring key from a slot.
const retiringNone = ", #retiring_key_id, #retiring_attempt, #retire_at"

// Release says how a claim ends that did not commit.
type Release struct {
	// State is the slot's state from then on.
	State State
	// Settled is true only if the outcome of every create under the slot is known; the lease stands
	// on otherwise.
	Settled bool
	// DueAt is when to go on; zero if there is nothing left to do. For an unsettled slot it is
	// moved to the lease's end at least.
	DueAt time.Time
	// Tries counts the failures since the last success.
	Tries int
	// Reason is the class of the failure; "" if there was none.
	Reason string
	// Resource is what is known to exist at the third party.
	Resource credential.Resource
	// GoneSince, Left and LeftSince are the slot's from then on.
	GoneSince time.Time
	Left      int
	LeftSince time.Time
	// Retired says that the key which the slot names as retiring is there no more.
	Retired bool
}

// Release ends a claim. It returns ErrLost if the claim was lost, as a repeat of it does. After any
// other error the outcome is unknown, and the lease runs out by itself.
func (s *Store) Release(ctx context.Context, slot Slot, r Release) error {
	values := args{}
	condition := slot.mine(values)
	released := slot
	released.State = r.State
	expression := "SET #state = " + values.str("state", string(r.State)) +
		", #tries = " + values.num("tries", int64(r.Tries)) +
		", #reason = " + values.str("reason", r.Reason) +
		", #resource_id = " + values.str("resource", r.Resource.ID) +
		", #key_id = " + values.str("key", r.Resource.KeyID) +
		", #org_id = " + values.str("org", r.Resource.OrgID)
	remove := " REMOVE #owner"
	for _, since := range []struct {
		name string
		time time.Time
	}{{attrGoneSince, r.GoneSince}, {attrLeftSince, r.LeftSince}} {
		if since.time.IsZero() {
			remove += ", #" + since.name
		} else {
			expression += ", #" + since.name + " = " + values.time(since.name, since.time)
		}
	}
	if r.Retired {
		remove += retiringNone
	}
	if r.LeftSince.IsZero() {
		remove += ", #left"
	} else {
		expression += ", #left = " + values.num("left", int64(r.Left))
	}
	due := r.DueAt
	if r.Settled {
		remove += ", #lease_until"
	} else if due.Before(slot.ClaimableAt()) {
		due = slot.ClaimableAt()
	}
	if due.IsZero() {
		remove += ", #due_at, #due_shard"
	} else {
		expression += ", #due_at = " + values.time("due", due) + ", #due_shard = " + values.str("shard", released.shard())
	}
	err := s.update(ctx, slot.Key(), expression+remove, condition, values)
	return outcome(err, ErrLost, "releasing the slot")
}

// Remove deletes a slot whose revocation is complete and was claimed by the caller. It returns
// ErrLost if the claim was lost. Safe to repeat: a slot that has gone is no error.
func (s *Store) Remove(ctx context.Context, slot Slot) error {
	values := args{}
	condition := slot.mine(values)
	err := repeat(ctx, func() error {
		_, err := s.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName:                           &s.table,
			Key:                                 slot.Key().item(),
			ConditionExpression:                 &condition,
			ExpressionAttributeNames:            names(condition),
			ExpressionAttributeValues:           values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		return err
	})
	if isRefused(err) {
		if refusedItem(err) == nil {
			return nil
		}
		return ErrLost
	}
	if err != nil {
		return fmt.Errorf("removing the slot: %w", err)
	}
	return nil
}

// reread is the slot as it is now, consistently; Absent if it has gone.
func (s *Store) reread(ctx context.Context, slot Slot) (Slot, error) {
	items, err := s.read(ctx, projection, slot.Key())
	if err != nil {
		return Slot{}, fmt.Errorf("reading the slot again: %w", err)
	}
	item := items[slot.Key()]
	if item == nil {
		return Slot{User: slot.User, Provider: slot.Provider}, nil
	}
	return decodeSlot(item)
}
