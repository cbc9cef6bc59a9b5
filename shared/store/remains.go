package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Remains is one page of what the table holds of an account that is to be deleted: keys and states,
// nothing that a user wrote.
type Remains struct {
	User string
	// ReadAt is a time before the reading began.
	ReadAt time.Time
	// Tombstone is the account's, on the first page alone. A suspended account has none.
	Tombstone Tombstone
	// SuspensionDueAt is when the keys of a suspended account are to be revoked, on the first page
	// alone; zero if they are not to, or it is not suspended.
	SuspensionDueAt time.Time
	// Slots have their user, provider, state, reason and due time, and nothing else. One that
	// cannot be decoded is among them.
	Slots []Slot
	// Own are the keys of everything else, whether it can be decoded or not.
	Own []Key
	// Next is where the next page begins; nil after the last one.
	Next Cursor
}

// Empty reports whether nothing of the account is left but its tombstone. Only the first page can
// tell.
func (r Remains) Empty() bool {
	return len(r.Slots) == 0 && len(r.Own) == 0 && r.Next == nil && r.Tombstone.Username == "" && r.Tombstone.Asks == ""
}

// RemainsPage is how many items one page of Remains has at most, the tombstone included.
const RemainsPage = 8 * DeleteBatch

// remainsProjection is what a deletion reads. What users wrote is left out: however long it is, a
// page stays small.
const remainsProjection = "#pk, #sk, #state, #reason, #due_at, #cognito_username, #asks, #tries, #created_at, #status"

// Remains reads a page of the user's partition, consistently, from the cursor on; nil is the start.
func (s *Store) Remains(ctx context.Context, user string, from Cursor) (Remains, error) {
	readAt := s.now()
	condition := "#pk = :pk"
	out, err := s.db.Query(ctx, &dynamodb.QueryInput{
		TableName:                 &s.table,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    &condition,
		Select:                    types.SelectSpecificAttributes, // said aloud, because the roles demand it
		ProjectionExpression:      aws.String(remainsProjection),
		ExpressionAttributeNames:  names(remainsProjection, condition),
		ExpressionAttributeValues: args{":pk": &types.AttributeValueMemberS{Value: userPrefix + user}},
		Limit:                     aws.Int32(RemainsPage),
		ExclusiveStartKey:         from,
	})
	if err != nil {
		return Remains{}, fmt.Errorf("querying what is left of the account: %w", err)
	}
	remains := Remains{User: user, ReadAt: readAt, Tombstone: Tombstone{User: user}, Next: out.LastEvaluatedKey}
	for _, item := range out.Items {
		key, r := keyOf(item), reader{item: item}
		switch {
		case key.IsTombstone() && r.textOrEmpty(attrStatus) == statusSuspended:
			remains.SuspensionDueAt = r.timeOrZero(attrDueAt)
		case key.IsTombstone() && r.has(attrStatus): // a later version's
		case key.IsTombstone():
			remains.Tombstone = Tombstone{
				User:      user,
				Username:  r.textOrEmpty(attrCognitoUsername),
				Asks:      r.textOrEmpty(attrAsks),
				Tries:     int(r.numberOrZero(attrTries)),
				CreatedAt: r.timeOrZero(attrCreatedAt),
				DueAt:     r.timeOrZero(attrDueAt),
			}
			if r.bad {
				return Remains{}, fmt.Errorf("reading the tombstone: %w", ErrUndecodable)
			}
		case key.IsSlot():
			remains.Slots = append(remains.Slots, Slot{
				User:     user,
				Provider: key.Provider(),
				State:    State(r.textOrEmpty(attrState)),
				Reason:   r.textOrEmpty(attrReason),
				DueAt:    r.timeOrZero(attrDueAt),
			})
		default:
			remains.Own = append(remains.Own, key)
		}
	}
	return remains, nil
}

// DeleteBatch is how many items DeleteOwn deletes with one call.
const DeleteBatch = 25

// errNotOwn: the item is no credential of a user's own.
var errNotOwn = errors.New("slots and tombstones are not deleted by their key alone")

// DeleteOwn deletes credentials of a deleted account that are no slots, whether they can be decoded
// or not, DeleteBatch with one call. A slot or a tombstone among them is an error, and nothing is
// deleted then. After any other error some of them may be left. Safe to repeat.
func (s *Store) DeleteOwn(ctx context.Context, keys ...Key) error {
	for _, key := range keys {
		if key.IsSlot() || key.IsTombstone() {
			return errNotOwn
		}
	}
	for batch := range slices.Chunk(keys, DeleteBatch) {
		err := s.deleteBatch(ctx, batch)
		if err != nil {
			return fmt.Errorf("deleting credentials of the account: %w", err)
		}
	}
	return nil
}

func (s *Store) deleteBatch(ctx context.Context, keys []Key) error {
	var requests []types.WriteRequest
	for _, key := range keys {
		requests = append(requests, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key.item()}})
	}
	pause := 10 * time.Millisecond
	for range maxReads {
		out, err := s.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{s.table: requests},
		})
		if err != nil {
			return err
		}
		requests = out.UnprocessedItems[s.table]
		if len(requests) == 0 {
			return nil
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause *= 2
	}
	return errUnprocessed
}
