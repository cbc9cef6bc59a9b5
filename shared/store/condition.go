package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// args collects the values of an expression and returns their placeholders.
type args map[string]types.AttributeValue

func (a args) str(name, value string) string {
	a[":"+name] = &types.AttributeValueMemberS{Value: value}
	return ":" + name
}

func (a args) num(name string, value int64) string {
	a[":"+name] = number(value)
	return ":" + name
}

func (a args) flag(name string, value bool) string {
	a[":"+name] = &types.AttributeValueMemberBOOL{Value: value}
	return ":" + name
}

// time stores a time as what every time in the table is: Unix milliseconds.
func (a args) time(name string, t time.Time) string { return a.num(name, t.UnixMilli()) }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// named are the results of names, of which there are as many as the store has expressions.
var named sync.Map

// names maps each #name of the expressions, two at most, to the attribute of that name: many of
// ours are words that DynamoDB reserves. The result is everybody's, and not to be changed.
func names(expressions ...string) map[string]string {
	var key [2]string
	copy(key[:], expressions)
	found, ok := named.Load(key)
	if ok {
		return found.(map[string]string)
	}
	all := map[string]string{}
	defer named.Store(key, all)
	for _, e := range expressions {
		for {
			_, rest, found := strings.Cut(e, "#")
			if !found {
				break
			}
			end := strings.IndexFunc(rest, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
			if end < 0 {
				end = len(rest)
			}
			all["#"+rest[:end]] = rest[:end]
			e = rest[end:]
		}
	}
	return all
}

// asRead is the condition that the slot is still as it was read.
func (s Slot) asRead(values args) string {
	if s.State == Absent {
		return "attribute_not_exists(#pk)"
	}
	condition := "#state = " + values.str("was_state", string(s.State)) + " AND #attempt = " + values.num("was_attempt", s.Attempt)
	if s.Owner == "" {
		condition += " AND attribute_not_exists(#owner)"
	} else {
		condition += " AND #owner = " + values.str("was_owner", s.Owner)
	}
	if s.LeaseUntil.IsZero() {
		return condition + " AND attribute_not_exists(#lease_until)"
	}
	return condition + " AND #lease_until = " + values.time("was_lease", s.LeaseUntil)
}

// mine is the condition that the slot is still under the claim that s describes.
func (s Slot) mine(values args) string {
	return "#owner = " + values.str("mine", s.Owner) + " AND #attempt = " + values.num("my_attempt", s.Attempt) +
		" AND #state = " + values.str("my_state", string(s.State))
}

// noAccountItem is the check that the user is neither deleted nor suspended, as the first part of a
// transaction. If it refuses that, refusedAccount says which.
func (s *Store) noAccountItem(user string) types.TransactWriteItem {
	condition := "attribute_not_exists(#pk)"
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName:                           &s.table,
		Key:                                 tombstoneKey(user).item(),
		ConditionExpression:                 &condition,
		ExpressionAttributeNames:            names(condition),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

// accountRefused is what the item that stands where a tombstone would says of its account:
// ErrAccountDeleted; ErrAccountSuspended, if it has any status; or nil, if there is none.
func accountRefused(item map[string]types.AttributeValue) error {
	switch {
	case len(item) == 0:
		return nil
	case item[attrStatus] != nil:
		return credential.ErrAccountSuspended
	default:
		return credential.ErrAccountDeleted
	}
}

// refusedAccount is why noAccountItem refused a transaction; nil if it did not.
func refusedAccount(err error) error {
	var cancelled *types.TransactionCanceledException
	reasons := cancellation(err)
	if len(reasons) == 0 || reasons[0] != conditionalCheckFailed || !errors.As(err, &cancelled) {
		return nil
	}
	return accountRefused(cancelled.CancellationReasons[0].Item)
}

// whileServed runs one write in a transaction with the condition that the user is neither deleted
// nor suspended, and returns ErrAccountDeleted or ErrAccountSuspended if they are. If the write's
// own condition refuses it, the error is that of the write alone.
func (s *Store) whileServed(ctx context.Context, user string, write types.TransactWriteItem) error {
	err := repeat(ctx, func() error {
		_, err := s.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{s.noAccountItem(user), write},
		})
		return err
	})
	refused := refusedAccount(err)
	if refused != nil {
		return refused
	}
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) && slices.Contains(cancellation(err), conditionalCheckFailed) {
		return &types.ConditionalCheckFailedException{Item: cancelled.CancellationReasons[len(cancelled.CancellationReasons)-1].Item}
	}
	return err
}

// ownCondition is what decodeOwn requires, as a condition: a write by a user touches no item that a
// list would leave out.
func ownCondition(values args) string {
	condition := "#v = " + values.num("v", version) + " AND #autogpt_managed = " + values.flag("own", false) + " AND #type IN ("
	for i, t := range []credential.Type{credential.APIKey, credential.OAuth2, credential.UserPassword, credential.HostScoped} {
		if i > 0 {
			condition += ", "
		}
		condition += values.str("type"+strconv.Itoa(i), string(t))
	}
	condition += ")"
	text := values.str("text", "S")
	for _, name := range []string{attrTitle, attrScopes, attrUsername, attrHost} {
		condition += " AND (attribute_not_exists(#" + name + ") OR attribute_type(#" + name + ", " + text + "))"
	}
	return condition
}

// firstRevision is that of an item from before there were revisions.
const firstRevision = "0"

// matching is the condition that an item is of one of the revisions; "" for any.
func matching(values args, revisions []string) string {
	if revisions == nil {
		return ""
	}
	condition := " AND (#revision = " + values.str("revision", "none")
	for i, revision := range revisions {
		condition += " OR #revision = " + values.str("revision"+strconv.Itoa(i), revision)
		if revision == firstRevision {
			condition += " OR attribute_not_exists(#revision)"
		}
	}
	return condition + ")"
}

// sameFields is the condition that an item has nothing beside its secret but what a change gives
// anew, whose names are among the values. What an item from before there were names holds is not
// known.
func sameFields(change credential.Change, values args) string {
	condition := " AND (attribute_not_exists(#stored)"
	_, ok := values[":new_stored"]
	if ok {
		condition += " OR #stored = :new_stored"
	}
	condition += ")"
	for _, name := range []string{attrUsername, attrScopes} {
		if !slices.Contains(change.Named, name) {
			condition += " AND (attribute_not_exists(#" + name + ") OR #" + name + " = " + values.str("no_"+name, "") + ")"
		}
	}
	return condition
}

// outcome is what a conditional write comes to: refused if its condition did not hold, which is nil
// where that is no error, and any other error with what was being done.
func outcome(err, refused error, doing string) error {
	switch {
	case err == nil:
		return nil
	case isRefused(err):
		return refused
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// isRefused reports whether a single conditional write was refused by its condition. Every other
// error leaves the outcome unknown.
func isRefused(err error) bool {
	var refused *types.ConditionalCheckFailedException
	return errors.As(err, &refused)
}

// refusedItem is the item as it was when its condition refused a write; nil if there was none.
func refusedItem(err error) map[string]types.AttributeValue {
	var refused *types.ConditionalCheckFailedException
	if !errors.As(err, &refused) || len(refused.Item) == 0 {
		return nil
	}
	return refused.Item
}

// isConflict reports whether a write was turned away because of a transaction under way, or a
// transaction for want of capacity.
func isConflict(err error) bool {
	var conflict *types.TransactionConflictException
	if errors.As(err, &conflict) {
		return true
	}
	reasons := cancellation(err)
	conflicts := 0
	for _, reason := range reasons {
		switch reason {
		case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
			conflicts++
		case "None":
		default:
			return false
		}
	}
	return conflicts > 0
}

// cancellation returns the reason codes of a cancelled transaction, one an item; nil for any other
// error.
func cancellation(err error) []string {
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) {
		return nil
	}
	reasons := make([]string, len(cancelled.CancellationReasons))
	for i, reason := range cancelled.CancellationReasons {
		reasons[i] = aws.ToString(reason.Code)
	}
	return reasons
}

const conditionalCheckFailed = "ConditionalCheckFailed"
