package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// MarkRevoking turns a slot of a deleted account to revoking, due at once, and removes its
// ciphertext. What was suspected of its key says nothing of its resource, and is dropped. Who works
// on it, and its lease, stay as they are. heldUntil is the slot's from then on. A slot that is
// marked already, or has gone, is left as it is. Safe to repeat.
func (s *Store) MarkRevoking(ctx context.Context, key Key, heldUntil time.Time) error {
	values := args{}
	revoking := values.str("revoking", string(Revoking))
	condition := "attribute_exists(#pk) AND NOT #state IN (" + revoking + ", " + values.str("parked", string(Parked)) + ")"
	expression := "SET #state = " + revoking +
		", #due_at = " + values.time("now", s.now()) +
		", #due_shard = " + values.str("shard", shard(dead, key.PK)) +
		", #tries = " + values.num("zero", 0)
	if !heldUntil.IsZero() {
		expression += ", #held_until = " + values.time("held", heldUntil)
	}
	expression += " REMOVE #secret, #reason, #gone_since"
	err := s.update(ctx, key, expression, condition, values)
	return outcome(err, nil, "marking the slot as revoking")
}

// Retract turns a living user's slot to retracting, due at once, and removes its ciphertext, as
// MarkRevoking does for a deleted account. Who works on it, and its lease, stay as they are. It
// returns ErrAccountDeleted, ErrAccountSuspended, or ErrStale if the slot is not as it was read, as
// a repeat does.
func (s *Store) Retract(ctx context.Context, slot Slot, by Retractor) error {
	values := args{}
	condition := slot.asRead(values) + " AND attribute_exists(#pk)"
	expression := s.retract(slot, by, values)
	err := s.whileServed(ctx, slot.User, types.TransactWriteItem{Update: &types.Update{
		TableName:                 &s.table,
		Key:                       slot.Key().item(),
		UpdateExpression:          &expression,
		ConditionExpression:       &condition,
		ExpressionAttributeNames:  names(expression, condition),
		ExpressionAttributeValues: values,
	}})
	return outcome(err, ErrStale, "retracting the slot")
}

// retract is the update that turns a living user's slot to retracting.
func (s *Store) retract(slot Slot, by Retractor, values args) string {
	return "SET #state = " + values.str("retracting", string(Retracting)) +
		", #due_at = " + values.time("now", s.now()) +
		", #due_shard = " + values.str("shard", shard(living, slot.Key().PK)) +
		", #tries = " + values.num("zero", 0) +
		", #retracted_by = " + values.str("by", string(by)) +
		" REMOVE #secret, #reason, #gone_since, #rotate"
}

// EndHoldback makes a slot whose resource is held back due at once, with nothing held back any
// more. It returns ErrStale if the slot is not as it was read.
func (s *Store) EndHoldback(ctx context.Context, slot Slot) error {
	values := args{}
	condition := slot.asRead(values) + " AND attribute_exists(#held_until)"
	expression := "SET #due_at = " + values.time("now", s.now()) + " REMOVE #held_until, #gone_since"
	err := s.update(ctx, slot.Key(), expression, condition, values)
	return outcome(err, ErrStale, "ending what is held back")
}

// Reopen puts the slot of a deleted account back, revoking and due at once, with its title, its
// resource and until when that is held back: for a resource that was found at the third party, or,
// if it names none, for one that the third party has to be asked for. It returns ErrStale if the
// account is not deleted, or there is a slot. Safe to repeat.
func (s *Store) Reopen(ctx context.Context, slot Slot) error {
	slot.State = Revoking
	now := number(s.now().UnixMilli())
	item := slot.Key().item()
	item[attrVersion] = number(version)
	item[attrType] = &types.AttributeValueMemberS{Value: string(credential.APIKey)}
	item[attrTitle] = &types.AttributeValueMemberS{Value: slot.Title}
	item[attrManaged] = &types.AttributeValueMemberBOOL{Value: true}
	item[attrState] = &types.AttributeValueMemberS{Value: string(slot.State)}
	item[attrAttempt] = number(0)
	item[attrCreatedAt] = now
	item[attrDueAt] = now
	item[attrDueShard] = &types.AttributeValueMemberS{Value: slot.shard()}
	item[attrResourceID] = &types.AttributeValueMemberS{Value: slot.Resource.ID}
	item[attrOrgID] = &types.AttributeValueMemberS{Value: slot.Resource.OrgID}
	if !slot.HeldUntil.IsZero() {
		item[attrHeldUntil] = number(slot.HeldUntil.UnixMilli())
	}
	deleted, absent := isTombstone, "attribute_not_exists(#pk)"
	err := repeat(ctx, func() error {
		_, err := s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
			{ConditionCheck: &types.ConditionCheck{
				TableName:                &s.table,
				Key:                      tombstoneKey(slot.User).item(),
				ConditionExpression:      &deleted,
				ExpressionAttributeNames: names(deleted),
			}},
			{Put: &types.Put{
				TableName:                &s.table,
				Item:                     item,
				ConditionExpression:      &absent,
				ExpressionAttributeNames: names(absent),
			}},
		}})
		return err
	})
	if slices.Contains(cancellation(err), conditionalCheckFailed) {
		return ErrStale
	}
	if err != nil {
		return fmt.Errorf("reopening the slot: %w", err)
	}
	return nil
}
