package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// A suspension is the item that stands where a tombstone would, with a status. That it is there
// refuses whatever a tombstone refuses, by the same conditions; what it has tells the two apart.
// Each party has a suspension of its own: the user is suspended while there is any.

// Suspender is who has a user suspended, and who alone can enable them again.
type Suspender string

// The parties that suspend users.
const (
	ByOperator Suspender = "operator"
	ByCognito  Suspender = "cognito"
)

const statusSuspended = "suspended"

// marks are the attribute of the party's own suspension, since when it stands, and the other
// party's.
func (s Suspender) marks() (own, others string) {
	if s == ByCognito {
		return attrByCognito, attrByOperator
	}
	return attrByOperator, attrByCognito
}

// Suspension is a party's suspension of a user.
type Suspension struct {
	By Suspender
	// OrderedBy is who ordered an operator's, and Reason why.
	OrderedBy, Reason string
	// KeysEnd is when the user's keys are to be revoked; zero if they live on.
	KeysEnd time.Time
}

// Suspend notes a suspension of the user. From then on no claim, create, change or deletion of that
// user's can succeed, and nothing of theirs is handed out. It is due when the keys are to be
// revoked; one that is due earlier stays so. It returns ErrAccountDeleted if the tombstone stands.
// Safe to repeat: since when it stands does not change.
func (s *Store) Suspend(ctx context.Context, user string, suspension Suspension) error {
	own, _ := suspension.By.marks()
	key := tombstoneKey(user)
	values := args{}
	suspended := values.str("suspended", statusSuspended)
	expression := "SET #v = " + values.num("v", version) + ", #status = " + suspended +
		", #" + own + " = if_not_exists(#" + own + ", " + values.time("now", s.now()) + ")"
	if suspension.By == ByOperator {
		expression += ", #ordered_by = " + values.str("ordered_by", suspension.OrderedBy) +
			", #reason = " + values.str("reason", suspension.Reason)
	}
	if !suspension.KeysEnd.IsZero() {
		expression += ", #due_at = if_not_exists(#due_at, " + values.time("keys_end", suspension.KeysEnd) + ")" +
			", #due_shard = " + values.str("shard", shard(living, key.PK))
	}
	err := s.update(ctx, key, expression, "attribute_not_exists(#pk) OR #status = "+suspended, values)
	return outcome(err, credential.ErrAccountDeleted, "suspending the user")
}

// PostponeSuspension says when a suspension that was read as due at was is due again; zero if there
// is nothing left to do for it. Refused, which is no error, where it is not due then any more.
func (s *Store) PostponeSuspension(ctx context.Context, user string, was, dueAt time.Time) error {
	values := args{}
	// By what a tombstone lacks, and not by the status, which reconcile's role may not write.
	condition := "(attribute_exists(#" + attrByOperator + ") OR attribute_exists(#" + attrByCognito + ")) AND #due_at = " + values.time("was", was)
	expression := "REMOVE #due_at, #due_shard"
	if !dueAt.IsZero() {
		expression = "SET #due_at = " + values.time("due", dueAt)
	}
	err := s.update(ctx, tombstoneKey(user), expression, condition, values)
	return outcome(err, nil, "postponing the suspension")
}

// Enable ends the party's suspension of the user, and returns who else still has them suspended, ""
// if nobody has. It returns ErrAccountDeleted if the tombstone stands. Safe to repeat: who is not
// suspended is no error.
func (s *Store) Enable(ctx context.Context, user string, by Suspender) (still Suspender, err error) {
	own, others := by.marks()
	key := tombstoneKey(user)
	for range endsOfSuspension {
		values := args{}
		condition := "#status = " + values.str("suspended", statusSuspended) + " AND attribute_not_exists(#" + others + ")"
		err := repeat(ctx, func() error {
			_, err := s.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
				TableName:                           &s.table,
				Key:                                 key.item(),
				ConditionExpression:                 &condition,
				ExpressionAttributeNames:            names(condition),
				ExpressionAttributeValues:           values,
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
			})
			return err
		})
		item := refusedItem(err)
		refused := accountRefused(item)
		switch {
		case err != nil && !isRefused(err):
			return "", fmt.Errorf("ending the suspension: %w", err)
		case item == nil: // it has gone, or there was none
			return "", nil
		case !errors.Is(refused, credential.ErrAccountSuspended):
			return "", refused
		case item[own] == nil:
			return by.other(), nil
		}
		values = args{}
		expression := "REMOVE #" + own
		if by == ByOperator {
			expression += ", #ordered_by, #reason"
		}
		err = s.update(ctx, key, expression, "#status = "+values.str("suspended", statusSuspended)+" AND attribute_exists(#"+others+")", values)
		if !isRefused(err) {
			return by.other(), outcome(err, nil, "ending one of two suspensions")
		}
	}
	return "", ErrStale
}

// endsOfSuspension is how often Enable begins anew, each time because the other party has ended its
// suspension, or begun one, between two writes.
const endsOfSuspension = 3

func (s Suspender) other() Suspender {
	if s == ByCognito {
		return ByOperator
	}
	return ByCognito
}

// PostponeSuspended has a suspended user's slot wait, if it still is as it was read, and if the
// user is still suspended: else who enables them would not see that it waits. It returns ErrStale
// then, and nothing is written.
func (s *Store) PostponeSuspended(ctx context.Context, slot Slot, dueAt time.Time) error {
	waiting := slot
	waiting.Reason = ReasonSuspended
	values := args{}
	condition := slot.asRead(values) + " AND attribute_exists(#pk)"
	expression := "SET #due_at = " + values.time("due", dueAt) +
		", #due_shard = " + values.str("shard", waiting.shard()) +
		", #reason = " + values.str("reason", waiting.Reason)
	return s.whileSuspended(ctx, slot, expression, condition, values, "postponing a suspended user's slot")
}

// RetractSuspended turns a suspended user's slot to retracting, as Retract does for one who is not,
// if it still is as it was read, and if the user is still suspended. It returns ErrStale if not, as
// a repeat does.
func (s *Store) RetractSuspended(ctx context.Context, slot Slot) error {
	values := args{}
	condition := slot.asRead(values) + " AND attribute_exists(#pk)"
	return s.whileSuspended(ctx, slot, s.retract(slot, BySuspension, values), condition, values, "retracting a suspended user's slot")
}

// whileSuspended updates a slot in a transaction with the condition that its user is suspended. It
// returns ErrStale if they are not, or the update's own condition refuses it.
func (s *Store) whileSuspended(ctx context.Context, slot Slot, expression, condition string, values args, doing string) error {
	checked := args{}
	suspended := "#status = " + checked.str("suspended", statusSuspended)
	_, err := s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{ConditionCheck: &types.ConditionCheck{
			TableName:                 &s.table,
			Key:                       tombstoneKey(slot.User).item(),
			ConditionExpression:       &suspended,
			ExpressionAttributeNames:  names(suspended),
			ExpressionAttributeValues: checked,
		}},
		{Update: &types.Update{
			TableName:                 &s.table,
			Key:                       slot.Key().item(),
			UpdateExpression:          &expression,
			ConditionExpression:       &condition,
			ExpressionAttributeNames:  names(expression, condition),
			ExpressionAttributeValues: values,
		}},
	}})
	if slices.Contains(cancellation(err), conditionalCheckFailed) || isConflict(err) {
		return ErrStale
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
