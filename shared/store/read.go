package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// projection is every attribute but the ciphertext: what may be read where nothing is decrypted.
const projection = "#pk, #sk, #v, #type, #title, #autogpt_managed, #scopes, #username, #host, " +
	"#state, #owner, #attempt, #tries, #lease_until, #due_at, #committed, #resource_id, #key_id, #org_id, #reason, " +
	"#gone_since, #left, #left_since, #held_until, #expires_at, #report_from, #report_pause, #created_at, #hint, #stored, #revision"

// Account is all that the table holds of one user, without ciphertexts.
type Account struct {
	// Deleted is true once the tombstone stands.
	Deleted bool
	// Own are the user's own credentials, ordered by provider and id.
	Own []credential.Metadata
	// Slots are the managed ones, by provider.
	Slots map[string]Slot
	// Unreadable are the items that could not be decoded.
	Unreadable []Key
}

// Account reads the user's whole partition, consistently.
func (s *Store) Account(ctx context.Context, user string) (Account, error) {
	account := Account{Slots: map[string]Slot{}}
	condition := "#pk = :pk"
	pages := dynamodb.NewQueryPaginator(s.db, &dynamodb.QueryInput{
		TableName:                 &s.table,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    &condition,
		Select:                    types.SelectSpecificAttributes, // said aloud, because the list function's role demands it
		ProjectionExpression:      aws.String(projection),
		ExpressionAttributeNames:  names(projection, condition),
		ExpressionAttributeValues: args{":pk": &types.AttributeValueMemberS{Value: userPrefix + user}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return Account{}, fmt.Errorf("querying the account: %w", err)
		}
		for _, item := range page.Items {
			account.add(item)
		}
	}
	return account, nil
}

func (a *Account) add(item map[string]types.AttributeValue) {
	key := keyOf(item)
	if key.IsTombstone() {
		a.Deleted = true
		return
	}
	if key.IsSlot() {
		slot, err := decodeSlot(item)
		if err != nil {
			a.Unreadable = append(a.Unreadable, key)
			return
		}
		a.Slots[slot.Provider] = slot
		return
	}
	own, err := decodeOwn(item)
	if err != nil {
		a.Unreadable = append(a.Unreadable, key)
		return
	}
	a.Own = append(a.Own, own)
}

// Slots reads the user's slots at the given providers, consistently and together with the
// tombstone; an absent slot has the state Absent. It returns ErrAccountDeleted once the tombstone
// stands, with the slots as they are. A slot that cannot be decoded is left out.
func (s *Store) Slots(ctx context.Context, user string, providers ...string) (map[string]Slot, error) {
	keys := []Key{tombstoneKey(user)}
	for _, provider := range providers {
		keys = append(keys, SlotKey(user, provider))
	}
	items, err := s.read(ctx, projection, keys...)
	if err != nil {
		return nil, fmt.Errorf("reading slots: %w", err)
	}
	slots := map[string]Slot{}
	for _, provider := range providers {
		item := items[SlotKey(user, provider)]
		if item == nil {
			slots[provider] = Slot{User: user, Provider: provider}
			continue
		}
		slot, err := decodeSlot(item)
		if err == nil {
			slots[provider] = slot
		}
	}
	if items[tombstoneKey(user)] != nil {
		return slots, credential.ErrAccountDeleted
	}
	return slots, nil
}

// Get reads one credential's metadata. It returns ErrAccountDeleted, or ErrNotFound if there is
// none that can be used now.
func (s *Store) Get(ctx context.Context, user, provider, id string) (credential.Metadata, error) {
	item, err := s.one(ctx, projection, user, CredentialKey(user, provider, id))
	if err != nil {
		return credential.Metadata{}, err
	}
	if !keyOf(item).IsSlot() {
		m, err := decodeOwn(item)
		if err != nil {
			return credential.Metadata{}, credential.ErrNotFound
		}
		return m, nil
	}
	slot, err := decodeSlot(item)
	if err != nil || !slot.Usable() {
		return credential.Metadata{}, credential.ErrNotFound
	}
	return slot.Metadata(), nil
}

// Sealed is a credential with its ciphertext.
type Sealed struct {
	credential.Metadata
	// Attempt is the one that made a managed credential's secret; 0 for any other.
	Attempt    int64
	Ciphertext []byte
}

// Sealed reads one credential with its ciphertext. It returns ErrAccountDeleted, ErrNotFound, or
// ErrNotUsable for a slot that holds no secret to hand out. What cannot be decoded is an error of
// its own.
func (s *Store) Sealed(ctx context.Context, user, provider, id string) (Sealed, error) {
	item, err := s.one(ctx, projection+", #secret", user, CredentialKey(user, provider, id))
	if err != nil {
		return Sealed{}, err
	}
	var sealed Sealed
	if keyOf(item).IsSlot() {
		slot, err := decodeSlot(item)
		if err != nil {
			return Sealed{}, err
		}
		if !slot.Usable() {
			return Sealed{}, credential.ErrNotUsable
		}
		sealed.Metadata, sealed.Attempt = slot.Metadata(), slot.Committed
	} else {
		sealed.Metadata, err = decodeOwn(item)
		if err != nil {
			return Sealed{}, err
		}
	}
	secret, ok := item["secret"].(*types.AttributeValueMemberB)
	if !ok || len(secret.Value) == 0 {
		return Sealed{}, ErrUndecodable
	}
	sealed.Ciphertext = secret.Value
	return sealed, nil
}

// one reads one item together with the user's tombstone.
func (s *Store) one(ctx context.Context, projection, user string, key Key) (map[string]types.AttributeValue, error) {
	items, err := s.read(ctx, projection, tombstoneKey(user), key)
	if err != nil {
		return nil, fmt.Errorf("reading the credential: %w", err)
	}
	if items[tombstoneKey(user)] != nil {
		return nil, credential.ErrAccountDeleted
	}
	if items[key] == nil {
		return nil, credential.ErrNotFound
	}
	return items[key], nil
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
