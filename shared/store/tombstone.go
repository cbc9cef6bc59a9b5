package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// isTombstone is the condition that a tombstone stands: it has no status.
const isTombstone = "attribute_exists(#pk) AND attribute_not_exists(#status)"

// Tombstone says that an account was deleted. It stays for ever.
type Tombstone struct {
	User string
	// Username is the Cognito user that has still to be removed; "" if none has.
	Username string
	// Tries counts the rounds that began and did not finish.
	Tries int
	// CreatedAt is when it was written.
	CreatedAt time.Time
	// Asks names the providers, with a blank between them, that have still to be asked for what the
	// table knows nothing of.
	Asks string
	// DueAt is when there is work to do; zero if the account is at rest, or has no tombstone.
	DueAt time.Time
}

// Bury writes the user's tombstone if there is none yet, due at once, and reports whether it did. A
// suspension that stands in its place goes. From then on no claim and no create of that user can
// succeed. A username is noted for removal, on a tombstone that stands already, too, which is then
// due at once; noting the one that is noted already changes nothing, so that a repeat does not
// shorten the backoff. Safe to repeat; a write whose answer was lost and that the SDK repeated
// finds its own tombstone, and reports false. asks are noted with a new tombstone.
func (s *Store) Bury(ctx context.Context, user, username string, asks ...string) (bool, error) {
	key := tombstoneKey(user)
	item := key.item()
	now := number(s.now().UnixMilli())
	item[attrVersion] = number(version)
	item[attrCreatedAt] = now
	item[attrDueAt] = now
	item[attrDueShard] = &types.AttributeValueMemberS{Value: shard(dead, key.PK)}
	if username != "" {
		item[attrCognitoUsername] = &types.AttributeValueMemberS{Value: username}
	}
	if len(asks) > 0 {
		item[attrAsks] = &types.AttributeValueMemberS{Value: strings.Join(asks, " ")}
	}
	condition := "attribute_not_exists(#pk) OR attribute_exists(#status)"
	err := repeat(ctx, func() error {
		_, err := s.db.PutItem(ctx, &dynamodb.PutItemInput{
			TableName:                &s.table,
			Item:                     item,
			ConditionExpression:      &condition,
			ExpressionAttributeNames: names(condition),
		})
		return err
	})
	if isRefused(err) {
		if username == "" {
			return false, nil
		}
		return false, s.noteUsername(ctx, user, username)
	}
	if err != nil {
		return false, fmt.Errorf("writing the tombstone: %w", err)
	}
	return true, nil
}

// Asked notes that each provider that was to be asked has a slot for it. Safe to repeat.
func (s *Store) Asked(ctx context.Context, user string) error {
	err := s.update(ctx, tombstoneKey(user), "REMOVE #asks", "attribute_exists(#asks)", nil)
	return outcome(err, nil, "noting that the providers are asked")
}

func (s *Store) noteUsername(ctx context.Context, user, username string) error {
	key := tombstoneKey(user)
	values := args{}
	noted := values.str("username", username)
	expression := "SET #cognito_username = " + noted +
		", #due_at = " + values.time("now", s.now()) +
		", #due_shard = " + values.str("shard", shard(dead, key.PK))
	condition := "attribute_exists(#pk) AND NOT (attribute_exists(#cognito_username) AND #cognito_username = " + noted + ")"
	err := s.update(ctx, key, expression, condition, values)
	return outcome(err, nil, "noting the username on the tombstone")
}

// UsernameGone notes that the Cognito user has been removed, unless another was noted meanwhile.
// Safe to repeat.
func (s *Store) UsernameGone(ctx context.Context, t Tombstone) error {
	values := args{}
	condition := "#cognito_username = " + values.str("username", t.Username)
	err := s.update(ctx, tombstoneKey(t.User), "REMOVE #cognito_username", condition, values)
	return outcome(err, nil, "noting that the Cognito user is gone")
}

// Rest takes the tombstone out of the due work: the caller has seen, by a consistent read that
// started after the tombstone stood, that nothing else of the user is left. Refused, which is no
// error, while a Cognito user has still to be removed. Safe to repeat.
func (s *Store) Rest(ctx context.Context, user string) error {
	condition := "attribute_exists(#pk) AND attribute_not_exists(#cognito_username)"
	err := s.update(ctx, tombstoneKey(user), "REMOVE #due_at, #due_shard, #tries", condition, nil)
	return outcome(err, nil, "laying the tombstone to rest")
}

// PostponeTombstone says when the next round begins. Refused, which is no error, where another
// round has finished the account.
func (s *Store) PostponeTombstone(ctx context.Context, t Tombstone, dueAt time.Time) error {
	values := args{}
	expression := "SET #due_at = " + values.time("due", dueAt) + ", #tries = " + values.num("tries", int64(t.Tries))
	err := s.update(ctx, tombstoneKey(t.User), expression, "attribute_exists(#due_at)", values)
	return outcome(err, nil, "postponing the tombstone")
}
