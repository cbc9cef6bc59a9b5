package main

import (
	"context"
	"errors"
	"time"

	"cirello.io/dynamolock/v2"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/proof/bench/byhand"
)

// pollEvery is how often a caller looks who did not get the lock.
const pollEvery = 100 * time.Millisecond

// locked is a process that makes a user's key by hand under a lock of dynamolock's, so that of
// several callers one makes it. The lock's table has the same form as the service's.
type locked struct {
	*side
	locks *dynamolock.Client
	maker byhand.Maker
}

func (s *side) locked() (*locked, error) {
	// Its partition key is pk; the sort key is one of a lock's own.
	locks, err := dynamolock.New(s.db, s.table, dynamolock.WithPartitionKeyName("pk"), dynamolock.WithSortKey("sk", "LOCK"))
	if err != nil {
		return nil, err
	}
	return &locked{side: s, locks: locks, maker: s.maker()}, nil
}

// provide sees that the user has a key: it makes it, or waits for whoever is at it.
func (l *locked) provide(ctx context.Context, user string) error {
	has, err := l.has(ctx, user)
	if err != nil || has {
		return err
	}
	lock, err := l.locks.AcquireLockWithContext(ctx, "LOCK#"+user,
		dynamolock.FailIfLocked(), dynamolock.WithRefreshPeriod(pollEvery), dynamolock.WithDeleteLockOnRelease())
	var taken *dynamolock.LockNotGrantedError
	if errors.As(err, &taken) {
		return l.await(ctx, user)
	}
	if err != nil {
		return err
	}
	has, err = l.has(ctx, user) // somebody may have had the lock before
	if err == nil && !has {
		err = l.make(ctx, user)
	}
	_, released := l.locks.ReleaseLockWithContext(ctx, lock)
	return errors.Join(err, released)
}

// await looks for the key until somebody has made it.
func (l *locked) await(ctx context.Context, user string) error {
	for {
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
		has, err := l.has(ctx, user)
		if err != nil || has {
			return err
		}
	}
}

func (l *locked) key(user string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: "USER#" + user},
		"sk": &types.AttributeValueMemberS{Value: "CRED#" + byhand.Provider + "#" + credential.ManagedID(byhand.Provider, user)},
	}
}

func (l *locked) has(ctx context.Context, user string) (bool, error) {
	out, err := l.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &l.table, Key: l.key(user), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return false, err
	}
	return out.Item != nil, nil
}

func (l *locked) make(ctx context.Context, user string) error {
	made, err := l.maker.Make(ctx, user)
	if err != nil {
		return err
	}
	item := l.key(user)
	item["pod_id"] = &types.AttributeValueMemberS{Value: made.PodID}
	item["key_id"] = &types.AttributeValueMemberS{Value: made.KeyID}
	item["secret"] = &types.AttributeValueMemberB{Value: made.Sealed}
	_, err = l.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &l.table, Item: item})
	return err
}

// remove removes the user by hand: what they have at AgentMail, and their items.
func (l *locked) remove(ctx context.Context, user string) error {
	tombstone := l.key(user)
	tombstone["sk"] = &types.AttributeValueMemberS{Value: "ACCOUNT"}
	_, err := l.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &l.table, Item: tombstone})
	if err != nil {
		return err
	}
	out, err := l.db.Query(ctx, &dynamodb.QueryInput{
		TableName: &l.table, ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("pk = :pk"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": tombstone["pk"]},
	})
	if err != nil {
		return err
	}
	for _, item := range out.Items {
		pod, isCredential := item["pod_id"].(*types.AttributeValueMemberS)
		if !isCredential {
			continue
		}
		err = l.maker.Remove(ctx, pod.Value, item["key_id"].(*types.AttributeValueMemberS).Value)
		if err != nil {
			return err
		}
		_, err = l.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &l.table, Key: l.key(user)})
		if err != nil {
			return err
		}
	}
	return nil
}
