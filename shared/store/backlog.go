package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Backlog is work that is due.
type Backlog struct {
	// Items is how many items it is, as far as they are counted.
	Items int
	// Since is when the longest due of them became due; zero if nothing is.
	Since time.Time
}

// countedPages is how many pages of a shard are counted at most, of some thousand items each.
const countedPages = 20

// Backlogs is what is due at the time now, of living users ("live") and of deleted accounts
// ("dead"). What waits for an org key is none of it. The index is eventually consistent, so that
// it may be off by what was written in the last moment.
func (s *Store) Backlogs(ctx context.Context, now time.Time) (map[string]Backlog, error) {
	all := map[string]Backlog{}
	for _, shard := range Shards() {
		family, _, _ := strings.Cut(shard, ".")
		b := all[family]
		since, err := s.longestDue(ctx, shard, now)
		if err != nil {
			return nil, err
		}
		if !since.IsZero() {
			n, err := s.countDue(ctx, shard, now)
			if err != nil {
				return nil, err
			}
			b.Items += n
			if b.Since.IsZero() || since.Before(b.Since) {
				b.Since = since
			}
		}
		all[family] = b
	}
	return all, nil
}

// longestDue is since when the longest due item of a shard is due; zero if none is.
func (s *Store) longestDue(ctx context.Context, shard string, now time.Time) (time.Time, error) {
	in := s.dueQuery(shard, now)
	in.Limit = aws.Int32(1)
	out, err := s.db.Query(ctx, in)
	if err != nil {
		return time.Time{}, fmt.Errorf("looking for the longest due work: %w", err)
	}
	if len(out.Items) == 0 {
		return time.Time{}, nil
	}
	at, _ := out.Items[0][attrDueAt].(*types.AttributeValueMemberN) // the index's own key
	ms, err := strconv.ParseInt(at.Value, 10, 64)
	return time.UnixMilli(ms), err
}

func (s *Store) countDue(ctx context.Context, shard string, now time.Time) (int, error) {
	in := s.dueQuery(shard, now)
	in.Select = types.SelectCount
	n := 0
	for range countedPages {
		out, err := s.db.Query(ctx, in)
		if err != nil {
			return 0, fmt.Errorf("counting due work: %w", err)
		}
		n += int(out.Count)
		in.ExclusiveStartKey = out.LastEvaluatedKey
		if in.ExclusiveStartKey == nil {
			break
		}
	}
	return n, nil
}

func (s *Store) dueQuery(shard string, now time.Time) *dynamodb.QueryInput {
	values := args{}
	condition := "#due_shard = " + values.str("shard", shard) + " AND #due_at <= " + values.time("now", now)
	return &dynamodb.QueryInput{
		TableName:                 &s.table,
		IndexName:                 aws.String(dueIndex),
		KeyConditionExpression:    &condition,
		ExpressionAttributeNames:  names(condition),
		ExpressionAttributeValues: values,
	}
}
