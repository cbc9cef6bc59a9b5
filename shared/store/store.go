// Package store is the table: its keys, its conditions and every transition of an item in it. It is
// the only place that knows DynamoDB.
//
// One table holds credentials, slots and tombstones. A slot is a managed credential's item: lock,
// state and credential in one. Each transition is one conditional write, or one transaction;
// nothing is checked first and written later. A write that loses is told so (ErrStale, ErrLost) and
// has changed nothing.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/jitter"
)

var (
	// ErrStale: what was read is not so any more, or somebody is writing it now. Nothing was
	// written; read again.
	ErrStale = errors.New("the item changed since it was read")
	// ErrLost: the claim under which the write was made is no longer the slot's. Nothing was
	// written.
	ErrLost = errors.New("the claim was lost")
)

// Store reads and writes the table. It is safe for concurrent use.
type Store struct {
	db    API
	table string
	now   func() time.Time
}

// New returns a store of the named table. now is the clock; nil means clock.Now.
func New(db API, table string, now func() time.Time) *Store {
	if now == nil {
		now = clock.Now
	}
	return &Store{db: db, table: table, now: now}
}

// update runs one conditional UpdateItem, repeated on transaction conflicts until ctx ends.
func (s *Store) update(ctx context.Context, key Key, expression, condition string, values args) error {
	return repeat(ctx, func() error {
		_, err := s.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName:                 &s.table,
			Key:                       key.item(),
			UpdateExpression:          &expression,
			ConditionExpression:       &condition,
			ExpressionAttributeNames:  names(expression, condition),
			ExpressionAttributeValues: values,
		})
		return err
	})
}

// repeat runs a write again, with growing jittered pauses, for as long as it meets a transaction
// conflict, which is neither a refusal nor a failure and which the SDK does not retry. It ends with
// ctx.
func repeat(ctx context.Context, write func() error) error {
	pause := 5 * time.Millisecond
	for {
		err := write()
		if !isConflict(err) {
			return err
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("%w, last: %w", ctx.Err(), err)
		}
		pause = min(2*pause, 200*time.Millisecond)
	}
}

// sleep waits for about d, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + jitter.Below(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxReads is how often a batch is sent again with what DynamoDB left unprocessed.
const maxReads = 5

var errUnprocessed = errors.New("DynamoDB left a part of the batch unprocessed")

// read gets items by key, consistently, in one BatchGetItem. Keys that DynamoDB leaves unprocessed
// are asked for again, and are a fault if that does not help: never an absence.
func (s *Store) read(ctx context.Context, projection string, keys ...Key) (map[Key]map[string]types.AttributeValue, error) {
	wanted := types.KeysAndAttributes{
		ConsistentRead:           aws.Bool(true),
		ProjectionExpression:     &projection,
		ExpressionAttributeNames: names(projection),
	}
	for _, key := range keys {
		wanted.Keys = append(wanted.Keys, key.item())
	}
	items := map[Key]map[string]types.AttributeValue{}
	pause := 10 * time.Millisecond
	for range maxReads {
		out, err := s.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{s.table: wanted},
		})
		if err != nil {
			return nil, err
		}
		for _, item := range out.Responses[s.table] {
			items[keyOf(item)] = item
		}
		left, ok := out.UnprocessedKeys[s.table]
		if !ok || len(left.Keys) == 0 {
			return items, nil
		}
		wanted.Keys = left.Keys
		if !sleep(ctx, pause) {
			return nil, ctx.Err()
		}
		pause *= 2
	}
	return nil, errUnprocessed
}

// API is what the store needs of DynamoDB.
type API interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	BatchWriteItem(context.Context, *dynamodb.BatchWriteItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Client returns a DynamoDB client. Stand-ins for DynamoDB leave a checksum out of their error
// answers, so it is not asked of an endpoint that was set.
func Client(c aws.Config) *dynamodb.Client {
	return dynamodb.NewFromConfig(c, func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = o.BaseEndpoint != nil })
}
