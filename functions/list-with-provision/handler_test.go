package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/store"
)

// answering is a table that answers each Query with the same items.
type answering struct {
	store.API
	items []map[string]types.AttributeValue
}

func (a answering) Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return &dynamodb.QueryOutput{Items: a.items}, nil
}

// allocations is how many a list of n credentials takes, without those of AWS's client.
func allocations(t *testing.T, n int) float64 {
	t.Helper()
	event, err := os.ReadFile("events/list-all.json")
	if err != nil {
		t.Fatal(err)
	}
	const user = "5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11" // the event's
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	var items []map[string]types.AttributeValue
	for i := range n {
		items = append(items, map[string]types.AttributeValue{
			"pk": text("USER#" + user), "sk": text("CRED#openai#" + credential.NewID()), "v": &types.AttributeValueMemberN{Value: "1"},
			"type": text("api_key"), "title": text(fmt.Sprintf("Credential %d", i)), "autogpt_managed": &types.AttributeValueMemberBOOL{},
			"created_at": &types.AttributeValueMemberN{Value: "1767258000000"}, "hint": text("abcd"), "revision": text(credential.NewID()),
		})
	}
	table := store.New(answering{items: items}, "table", nil)
	engine, err := managed.New(managed.Config{Store: table, Lease: time.Minute, Budget: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	handler := newHandler(slog.New(slog.DiscardHandler), function{engine: engine, table: table})
	return testing.AllocsPerRun(50, func() {
		_, err := handler.Invoke(t.Context(), event)
		if err != nil {
			t.Fatal(err)
		}
	})
}

// What a list costs beyond AWS's client, which no machine changes. The bounds leave room for the
// race detector, under which some more is allocated: 159 and 10.1 in place of 145 and 7.1.
func TestAListTakesNoMoreAllocationsThanItNeeds(t *testing.T) {
	one, many := allocations(t, 1), allocations(t, 101)
	if one > 200 {
		t.Errorf("a list of one takes %.0f allocations, and was to take no more than 200", one)
	}
	each := (many - one) / 100
	if each > 12 {
		t.Errorf("each credential in a list takes %.1f allocations, and was to take no more than 12", each)
	}
}
