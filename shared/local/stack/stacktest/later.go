package stacktest

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/local/stack"
)

// Passed is how much older Later makes what it finds.
const Passed = 15 * time.Minute

// Items is what the table holds of a user: the sort keys.
func Items(t testing.TB, s *stack.Stack, user string) []string {
	t.Helper()
	out, err := s.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{
		TableName:                 &s.Table,
		KeyConditionExpression:    aws.String("pk = :u"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":u": text("USER#" + user)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, item := range out.Items {
		all = append(all, item["sk"].(*types.AttributeValueMemberS).Value)
	}
	return all
}

// ages are the attributes that LaterBy makes older.
var ages = []string{"created_at", "committed_at", "expires_at", "due_at", "lease_until", "gone_since", "report_from", "retire_at"}

// Later is LaterBy with Passed.
func Later(t testing.TB, s *stack.Stack, user string) {
	t.Helper()
	LaterBy(t, s, user, Passed)
}

// LaterBy makes all that the table notes of a user's time older, as if so much had passed.
// Functions may go on with what is there meanwhile.
func LaterBy(t testing.TB, s *stack.Stack, user string, passed time.Duration) {
	t.Helper()
	for _, sk := range Items(t, s, user) {
		for !older(t, s, map[string]types.AttributeValue{"pk": text("USER#" + user), "sk": text(sk)}, passed) {
		}
	}
}

// older makes an item older, unless it has changed since it was read.
func older(t testing.TB, s *stack.Stack, key map[string]types.AttributeValue, passed time.Duration) bool {
	t.Helper()
	out, err := s.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &s.Table, Key: key, ConsistentRead: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	var set, same []string
	values := map[string]types.AttributeValue{":passed": &types.AttributeValueMemberN{Value: strconv.FormatInt(passed.Milliseconds(), 10)}}
	for _, name := range ages {
		at, ok := out.Item[name]
		if !ok {
			continue
		}
		set = append(set, name+" = "+name+" - :passed")
		same = append(same, name+" = :"+name)
		values[":"+name] = at
	}
	if len(set) == 0 {
		return true
	}
	_, err = s.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: &s.Table, Key: key,
		UpdateExpression:          aws.String("SET " + strings.Join(set, ", ")),
		ConditionExpression:       aws.String(strings.Join(same, " AND ")),
		ExpressionAttributeValues: values,
	})
	var changed *types.ConditionalCheckFailedException
	if err != nil && !errors.As(err, &changed) {
		t.Fatal(err)
	}
	return err == nil
}

func text(value string) types.AttributeValue { return &types.AttributeValueMemberS{Value: value} }
