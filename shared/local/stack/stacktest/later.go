package stacktest

import (
	"strconv"
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

// Later makes all that the table notes of a user's time older, as if Passed had passed.
func Later(t testing.TB, s *stack.Stack, user string) {
	t.Helper()
	for _, sk := range Items(t, s, user) {
		key := map[string]types.AttributeValue{"pk": text("USER#" + user), "sk": text(sk)}
		out, err := s.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &s.Table, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"created_at", "due_at", "lease_until", "gone_since", "report_from", "retire_at"} {
			at, ok := out.Item[name].(*types.AttributeValueMemberN)
			if !ok {
				continue
			}
			ms, err := strconv.ParseInt(at.Value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			out.Item[name] = &types.AttributeValueMemberN{Value: strconv.FormatInt(ms-Passed.Milliseconds(), 10)}
		}
		_, err = s.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &s.Table, Item: out.Item})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func text(value string) types.AttributeValue { return &types.AttributeValueMemberS{Value: value} }
