package store

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// Get reads one credential's metadata. It returns ErrAccountDeleted, ErrAccountSuspended, or
// ErrNotFound if there is none that can be used now.
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
	Attempt int64
	// KeyFails: a managed credential's key is known not to work.
	KeyFails bool
	// Retiring is the key that a managed credential's secret has replaced, and that serves on.
	Retiring   Retiring
	Ciphertext []byte
}

// Sealed reads one credential with its ciphertext. It returns ErrAccountDeleted,
// ErrAccountSuspended, ErrNotFound, or ErrNotUsable for a slot that holds no secret to hand out.
// What cannot be decoded is an error of its own.
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
		sealed.Metadata, sealed.Attempt, sealed.Retiring = slot.Metadata(), slot.Committed, slot.Retiring
		sealed.KeyFails = slot.KeyFails(s.now())
	} else {
		sealed.Metadata, err = decodeOwn(item)
		if err != nil {
			return Sealed{}, err
		}
	}
	secret, ok := item[attrSecret].(*types.AttributeValueMemberB)
	if !ok || len(secret.Value) == 0 {
		return Sealed{}, ErrUndecodable
	}
	sealed.Ciphertext = secret.Value
	return sealed, nil
}

// NoteUse notes on a user's credential, as it was just read, that its secret is handed out today: a
// day in UTC. It writes nothing if that is on record already, as it is for all but the first use of
// a day. No other write goes by what it writes. Who writes the item just now has it for themselves:
// then the next use is noted. Safe to repeat.
func (s *Store) NoteUse(ctx context.Context, user string, c Sealed) error {
	today := s.now().UTC().Format(time.DateOnly)
	if c.LastUsedOn != nil && *c.LastUsedOn >= today {
		return nil
	}
	values := args{}
	day := values.str("today", today)
	expression := "SET #last_used_on = " + day
	condition := "attribute_exists(#pk) AND (attribute_not_exists(#last_used_on) OR #last_used_on < " + day + ")"
	_, err := s.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 &s.table,
		Key:                       CredentialKey(user, c.Provider, c.ID).item(),
		UpdateExpression:          &expression,
		ConditionExpression:       &condition,
		ExpressionAttributeNames:  names(expression, condition),
		ExpressionAttributeValues: values,
	})
	if isConflict(err) {
		return nil
	}
	return outcome(err, nil, "noting the use")
}

// one reads one item together with the user's tombstone.
func (s *Store) one(ctx context.Context, projection, user string, key Key) (map[string]types.AttributeValue, error) {
	items, err := s.read(ctx, projection, tombstoneKey(user), key)
	if err != nil {
		return nil, fmt.Errorf("reading the credential: %w", err)
	}
	err = accountRefused(items[tombstoneKey(user)])
	if err != nil {
		return nil, err
	}
	if items[key] == nil {
		return nil, credential.ErrNotFound
	}
	return items[key], nil
}
