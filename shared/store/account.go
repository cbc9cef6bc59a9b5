package store

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// projection is every attribute but the ciphertext: what may be read where nothing is decrypted.
const projection = "#pk, #sk, #v, #type, #title, #autogpt_managed, #scopes, #username, #host, " +
	"#state, #owner, #attempt, #tries, #lease_until, #due_at, #committed, #resource_id, #key_id, #org_id, #reason, " +
	"#gone_since, #left, #left_since, #held_until, #expires_at, #report_from, #report_pause, #created_at, #committed_at, #hint, #stored, #revision, " +
	"#rotate, #retiring_key_id, #retiring_attempt, #retire_at, #retracted_by, #ask_from, #ask_pause, #status, #last_used_on"

// Account is all that the table holds of one user, without ciphertexts.
type Account struct {
	// Refused is ErrAccountDeleted once the tombstone stands, ErrAccountSuspended while the user is
	// suspended, and else nil.
	Refused error
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
		a.Refused = accountRefused(item)
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
// stands, or ErrAccountSuspended, with the slots as they are. A slot that cannot be decoded is left
// out.
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
	return slots, accountRefused(items[tombstoneKey(user)])
}
