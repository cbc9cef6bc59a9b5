package store

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// scanLimit is how many items of the table one page of a scan goes over.
const scanLimit = 100

// scanned is what is read of a slot on a walk over all of them.
const scanned = projection + ", #unknown_since"

// Segment is one of the parts of the table, of about the same size, that are read side by side. The
// zero Segment is the whole table.
type Segment struct{ Number, Of int }

// Scan reads a page of all users' slots in a segment of the table, from an item on, and the item
// after which to go on there; the zero Key is the start, and the end. It goes over all that is
// stored and is eventually consistent: it is for work that goes over all users, and for no request.
func (s *Store) Scan(ctx context.Context, segment Segment, from Key) (slots []Slot, unreadable []Key, next Key, err error) {
	values := args{}
	filter := "#autogpt_managed = " + values.flag("managed", true)
	in := &dynamodb.ScanInput{
		TableName:                 &s.table,
		FilterExpression:          &filter,
		ProjectionExpression:      aws.String(scanned),
		ExpressionAttributeNames:  names(scanned, filter),
		ExpressionAttributeValues: values,
		Select:                    types.SelectSpecificAttributes, // said aloud, because the role demands it
		Limit:                     aws.Int32(scanLimit),
	}
	if segment.Of > 1 {
		in.Segment, in.TotalSegments = aws.Int32(int32(segment.Number)), aws.Int32(int32(segment.Of))
	}
	if from != (Key{}) {
		in.ExclusiveStartKey = from.item()
	}
	out, err := s.db.Scan(ctx, in)
	if err != nil {
		return nil, nil, Key{}, fmt.Errorf("scanning the table: %w", err)
	}
	for _, item := range out.Items {
		slot, err := decodeSlot(item)
		if err != nil {
			unreadable = append(unreadable, keyOf(item))
			continue
		}
		slots = append(slots, slot)
	}
	if out.LastEvaluatedKey != nil {
		next = keyOf(out.LastEvaluatedKey)
	}
	return slots, unreadable, next, nil
}

// NoteUnknown notes on a slot since when the user pool does not know its user; zero for a user that
// it knows. It returns ErrStale if the slot is no longer as it was read. Safe to repeat.
func (s *Store) NoteUnknown(ctx context.Context, slot Slot, since time.Time) error {
	values := args{}
	expression := "REMOVE #unknown_since"
	if !since.IsZero() {
		expression = "SET #unknown_since = " + values.time("since", since)
	}
	err := s.update(ctx, slot.Key(), expression, slot.asRead(values), values)
	return outcome(err, ErrStale, "noting what the user pool knows")
}
