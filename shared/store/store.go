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
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
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

// Key is an item's primary key.
type Key struct{ PK, SK string }

const (
	userPrefix       = "USER#"
	credentialPrefix = "CRED#"
	tombstoneSK      = "ACCOUNT"
)

// CredentialKey is the key of a credential.
func CredentialKey(user, provider, id string) Key {
	return Key{userPrefix + user, credentialPrefix + provider + "#" + id}
}

func tombstoneKey(user string) Key { return Key{userPrefix + user, tombstoneSK} }

// SlotKey is the key of a user's slot at a provider, known before the slot exists.
func SlotKey(user, provider string) Key {
	return CredentialKey(user, provider, credential.ManagedID(provider, user))
}

// User is the user whose partition the item is in.
func (k Key) User() string { return strings.TrimPrefix(k.PK, userPrefix) }

// IsTombstone reports whether the key is a tombstone's.
func (k Key) IsTombstone() bool { return k.SK == tombstoneSK }

// Provider is the provider of a credential's or slot's key; "" for any other.
func (k Key) Provider() string {
	provider, _, _ := strings.Cut(strings.TrimPrefix(k.SK, credentialPrefix), "#")
	if !strings.HasPrefix(k.SK, credentialPrefix) {
		return ""
	}
	return provider
}

// IsSlot reports whether the key is a slot's. The key alone tells, so that this holds for an item
// that cannot be decoded, too.
func (k Key) IsSlot() bool {
	provider := k.Provider()
	return provider != "" && k == SlotKey(k.User(), provider)
}

func (k Key) item() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: k.PK},
		"sk": &types.AttributeValueMemberS{Value: k.SK},
	}
}

// shards is how many partitions of the index each family of work is spread over.
const shards = 4

// Shards returns the index's partitions in the order in which they are to be worked on: work for
// the living and work for the dead by turns, so that a mass deletion does not stand before a new
// user's retry.
func Shards() []string {
	var all []string
	for i := range shards {
		all = append(all, "live."+strconv.Itoa(i), "dead."+strconv.Itoa(i))
	}
	return all
}

// KeylessShard is the index's partition of the slots that wait for the provider's org key. It is
// none of Shards: what is in it is due when the key is there.
func KeylessShard(provider string) string { return "keyless." + provider }

func shard(family, pk string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pk))
	return family + "." + strconv.FormatUint(uint64(h.Sum32()%shards), 10)
}

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

// names maps each #name of the expressions to the attribute of that name: many of ours are words
// that DynamoDB reserves.
func names(expressions ...string) map[string]string {
	all := map[string]string{}
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

// isRefused reports whether a single conditional write was refused by its condition. Every other
// error leaves the outcome unknown.
func isRefused(err error) bool {
	var refused *types.ConditionalCheckFailedException
	return errors.As(err, &refused)
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
