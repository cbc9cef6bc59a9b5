package table_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/proof/sim/table"
	"managed-credentials/shared/store"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

var (
	_ store.API = (*table.Table)(nil)
	_ store.API = (*dynamodb.Client)(nil)
)

// TestTheTableAnswersAsDynamoDBLocalDoes makes the same operations, at random, on both.
func TestTheTableAnswersAsDynamoDBLocalDoes(t *testing.T) {
	t.Parallel()
	operations, refused := 0, 0
	name, local := managedtest.Table(t)
	rapid.Check(t, func(rt *rapid.T) {
		d := &draw{T: rt, name: name}
		d.empty(local)
		memory := table.New()
		for range rapid.IntRange(1, 40).Draw(rt, "operations") {
			operation := d.operation()
			ours, theirs := operation(memory), operation(local)
			if ours != theirs {
				rt.Fatalf("the table in memory says\n%s\nand DynamoDB Local\n%s", ours, theirs)
			}
			operations++
			if strings.Contains(ours, "ConditionalCheckFailed") {
				refused++
			}
		}
	})
	if refused*10 < operations {
		t.Errorf("only %d of %d operations were refused by a condition", refused, operations)
	}
	t.Logf("%d operations, %d of them refused by a condition", operations, refused)
}

// draw makes operations of the kinds that package store makes.
type draw struct {
	*rapid.T
	name   string
	values map[string]types.AttributeValue
	used   map[string]bool
}

func pick[T any](d *draw, what string, all ...T) T { return rapid.SampledFrom(all).Draw(d.T, what) }

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

var attributes = []string{"state", "owner", "attempt", "due_at", "due_shard", "v", "title", "autogpt_managed", "secret"}

// value is one for an attribute: mostly of the type that it has.
func (d *draw) value(attribute string) types.AttributeValue {
	switch attribute {
	case "due_shard":
		return str(pick(d, "shard", "live.0", "dead.1"))
	case "attempt", "v", "due_at":
		return &types.AttributeValueMemberN{Value: fmt.Sprint(rapid.IntRange(-2, 12).Draw(d.T, "number"))}
	case "autogpt_managed":
		return &types.AttributeValueMemberBOOL{Value: rapid.Bool().Draw(d.T, "flag")}
	case "secret":
		return &types.AttributeValueMemberB{Value: []byte(pick(d, "bytes", "a", "bb"))}
	}
	if rapid.IntRange(0, 9).Draw(d.T, "another type") == 0 {
		return &types.AttributeValueMemberN{Value: "7"}
	}
	return str(pick(d, "text", "", "a", "ready", "revoking"))
}

func (d *draw) begin() { d.values, d.used = map[string]types.AttributeValue{}, map[string]bool{} }

func (d *draw) placeholder(v types.AttributeValue) string {
	name := fmt.Sprintf(":v%d", len(d.values))
	d.values[name] = v
	return name
}

func (d *draw) attribute() string { return "#" + d.named(pick(d, "attribute", attributes...)) }

func (d *draw) named(attribute string) string {
	d.used["#"+attribute] = true
	return attribute
}

// condition is one of a few levels.
func (d *draw) condition(depth int) string {
	kind := rapid.IntRange(0, 8).Draw(d.T, "kind of condition")
	if depth == 0 {
		kind = min(kind, 5)
	}
	a := d.attribute()
	switch kind {
	case 0:
		return "attribute_not_exists(" + pick(d, "of", a, "#"+d.named("pk")) + ")"
	case 1:
		return "attribute_exists(" + pick(d, "of", a, "#"+d.named("pk")) + ")"
	case 2:
		return a + " IN (" + d.placeholder(d.value(a[1:])) + ", " + d.placeholder(d.value(a[1:])) + ")"
	case 3:
		return "attribute_type(" + a + ", " + d.placeholder(str(pick(d, "type", "S", "N", "B", "BOOL"))) + ")"
	case 4, 5:
		op := pick(d, "operator", "=", "=", "=", "<>", "<", "<=", ">", ">=")
		if a == "#autogpt_managed" {
			op = "="
		}
		return a + " " + op + " " + d.placeholder(d.value(a[1:]))
	case 6:
		return "NOT " + d.condition(0)
	case 7:
		return d.condition(depth-1) + " AND " + d.condition(depth-1)
	default:
		return "(" + d.condition(depth-1) + " OR " + d.condition(depth-1) + ")"
	}
}

func (d *draw) update() string {
	var set, remove []string
	for _, attribute := range attributes {
		switch rapid.IntRange(0, 5).Draw(d.T, "change") {
		case 0:
			set = append(set, "#"+d.named(attribute)+" = "+d.placeholder(d.value(attribute)))
		case 1:
			remove = append(remove, "#"+d.named(attribute))
		case 2:
			a := "#" + d.named(attribute)
			set = append(set, a+" = if_not_exists("+a+", "+d.placeholder(d.value(attribute))+")")
		}
	}
	expression := ""
	if len(set) > 0 || len(remove) == 0 {
		set = append(set, "#"+d.named("tries")+" = "+d.placeholder(d.value("attempt")))
		expression = "SET " + strings.Join(set, ", ")
	}
	if len(remove) > 0 {
		expression += " REMOVE " + strings.Join(remove, ", ")
	}
	return expression
}

// names are those that the expressions use, now and then with one that is not there, or not used.
func (d *draw) names() map[string]string {
	all := map[string]string{}
	for token := range d.used {
		all[token] = token[1:]
	}
	if rapid.IntRange(0, 19).Draw(d.T, "a name too many") == 0 {
		all["#unused"] = "unused"
	}
	return all
}

func (d *draw) given() map[string]types.AttributeValue {
	if len(d.values) == 0 {
		return nil
	}
	return d.values
}

var (
	partitions = []string{"USER#a", "USER#b"}
	sortKeys   = []string{"ACCOUNT", "CRED#p#1", "CRED#p#2"}
)

func (d *draw) key() table.Item {
	return table.Item{"pk": str(pick(d, "pk", partitions...)), "sk": str(pick(d, "sk", sortKeys...))}
}

// keys are all of them. A transaction, and a batch, names each once: DynamoDB Local looks at their
// conditions before it sees that one is there twice.
func keys() []table.Item {
	var all []table.Item
	for _, pk := range partitions {
		for _, sk := range sortKeys {
			all = append(all, table.Item{"pk": str(pk), "sk": str(sk)})
		}
	}
	return all
}

// empty deletes every item that an operation can have made.
func (d *draw) empty(db store.API) {
	var requests []types.WriteRequest
	for _, key := range keys() {
		requests = append(requests, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key}})
	}
	_, err := db.BatchWriteItem(context.Background(), &dynamodb.BatchWriteItemInput{
		RequestItems: map[string][]types.WriteRequest{d.name: requests},
	})
	if err != nil {
		d.Fatal(err)
	}
}

func (d *draw) item() table.Item { return d.itemAt(d.key()) }

func (d *draw) itemAt(key table.Item) table.Item {
	item := maps.Clone(key)
	for _, attribute := range attributes {
		if rapid.Bool().Draw(d.T, "has") {
			item[attribute] = d.value(attribute)
		}
	}
	if rapid.IntRange(0, 29).Draw(d.T, "large") == 0 {
		item["scopes"] = str(strings.Repeat("x", pick(d, "size", 100_000, 500_000)))
	}
	return item
}

func (d *draw) onRefusal() types.ReturnValuesOnConditionCheckFailure {
	return pick(d, "on refusal", types.ReturnValuesOnConditionCheckFailureNone, types.ReturnValuesOnConditionCheckFailureAllOld)
}

// answer is an outcome as a text in which nothing stands that may differ.
func answer(out any, err error) string {
	var refused *types.ConditionalCheckFailedException
	var cancelled *types.TransactionCanceledException
	var api smithy.APIError
	switch {
	case err == nil:
		return plain(out)
	case errors.As(err, &refused):
		return "ConditionalCheckFailed " + plain(refused.Item)
	case errors.As(err, &cancelled):
		var reasons []string
		for _, r := range cancelled.CancellationReasons {
			reasons = append(reasons, aws.ToString(r.Code)+" "+plain(r.Item))
		}
		return "cancelled: " + strings.Join(reasons, "; ")
	case errors.As(err, &api):
		return api.ErrorCode()
	default:
		return err.Error()
	}
}

func plain(v any) string {
	if items, ok := v.(map[string]types.AttributeValue); ok && len(items) == 0 {
		return "no item"
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

type operation = func(store.API) string

func (d *draw) operation() operation {
	d.begin()
	ctx := context.Background()
	switch pick(d, "operation", "put", "put", "update", "update", "update", "delete", "transact", "transact", "query", "due", "scan", "get", "batch") {
	case "put":
		condition := d.condition(2)
		in := dynamodb.PutItemInput{
			TableName: &d.name, Item: d.item(), ConditionExpression: &condition,
			ExpressionAttributeNames: d.names(), ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
		}
		if pick(d, "unconditional", true, false) {
			in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = nil, nil, nil
		}
		return func(db store.API) string {
			_, err := db.PutItem(ctx, &in)
			return answer(nil, err)
		}
	case "update":
		update, condition := d.update(), d.condition(2)
		in := dynamodb.UpdateItemInput{
			TableName: &d.name, Key: d.key(), UpdateExpression: &update, ConditionExpression: &condition,
			ExpressionAttributeNames: d.names(), ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
			ReturnValues: pick(d, "return", types.ReturnValueNone, types.ReturnValueAllNew, types.ReturnValueUpdatedNew),
		}
		return func(db store.API) string {
			out, err := db.UpdateItem(ctx, &in)
			if err != nil {
				return answer(nil, err)
			}
			return answer(out.Attributes, nil)
		}
	case "delete":
		condition := d.condition(2)
		in := dynamodb.DeleteItemInput{
			TableName: &d.name, Key: d.key(), ConditionExpression: &condition,
			ExpressionAttributeNames: d.names(), ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
		}
		return func(db store.API) string {
			_, err := db.DeleteItem(ctx, &in)
			return answer(nil, err)
		}
	case "transact":
		return d.transaction()
	case "batch":
		return d.batch()
	case "get":
		return d.get()
	case "due":
		return d.due()
	case "query":
		return d.query()
	default:
		return d.scan()
	}
}

func (d *draw) transaction() operation {
	var in []types.TransactWriteItem
	for _, key := range rapid.Permutation(keys()).Draw(d.T, "keys")[:rapid.IntRange(1, 3).Draw(d.T, "actions")] {
		d.begin()
		condition := d.condition(1)
		switch pick(d, "action", "check", "put", "update", "delete") {
		case "check":
			in = append(in, types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
				TableName: &d.name, Key: key, ConditionExpression: &condition, ExpressionAttributeNames: d.names(),
				ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
			}})
		case "put":
			in = append(in, types.TransactWriteItem{Put: &types.Put{
				TableName: &d.name, Item: d.itemAt(key), ConditionExpression: &condition, ExpressionAttributeNames: d.names(),
				ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
			}})
		case "update":
			update := d.update()
			in = append(in, types.TransactWriteItem{Update: &types.Update{
				TableName: &d.name, Key: key, UpdateExpression: &update, ConditionExpression: &condition, ExpressionAttributeNames: d.names(),
				ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
			}})
		default:
			in = append(in, types.TransactWriteItem{Delete: &types.Delete{
				TableName: &d.name, Key: key, ConditionExpression: &condition, ExpressionAttributeNames: d.names(),
				ExpressionAttributeValues: d.given(), ReturnValuesOnConditionCheckFailure: d.onRefusal(),
			}})
		}
	}
	token := aws.String(uuid.NewString())
	return func(db store.API) string {
		_, err := db.TransactWriteItems(context.Background(), &dynamodb.TransactWriteItemsInput{TransactItems: in, ClientRequestToken: token})
		first := answer(nil, err)
		if err != nil {
			return first
		}
		_, err = db.TransactWriteItems(context.Background(), &dynamodb.TransactWriteItemsInput{TransactItems: in, ClientRequestToken: token})
		return first + ", again " + answer(nil, err)
	}
}

func (d *draw) batch() operation {
	var requests []types.WriteRequest
	for _, key := range rapid.Permutation(keys()).Draw(d.T, "keys")[:rapid.IntRange(1, 3).Draw(d.T, "writes")] {
		if pick(d, "put", true, false) {
			requests = append(requests, types.WriteRequest{PutRequest: &types.PutRequest{Item: d.itemAt(key)}})
		} else {
			requests = append(requests, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key}})
		}
	}
	return func(db store.API) string {
		_, err := db.BatchWriteItem(context.Background(), &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{d.name: requests},
		})
		return answer(nil, err)
	}
}

func (d *draw) projection() *string {
	all := []string{"#" + d.named("pk"), "#" + d.named("sk")}
	for _, attribute := range attributes[:3] {
		all = append(all, "#"+d.named(attribute))
	}
	return aws.String(strings.Join(all, ", "))
}

func (d *draw) get() operation {
	wanted := types.KeysAndAttributes{ConsistentRead: aws.Bool(true), ProjectionExpression: d.projection()}
	for range rapid.IntRange(1, 3).Draw(d.T, "keys") {
		wanted.Keys = append(wanted.Keys, d.key())
	}
	wanted.ExpressionAttributeNames = d.names()
	return func(db store.API) string {
		out, err := db.BatchGetItem(context.Background(), &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{d.name: wanted},
		})
		if err != nil {
			return answer(nil, err)
		}
		return sorted(out.Responses[d.name])
	}
}

// sorted is a text of items whose order is nobody's promise.
func sorted(items []map[string]types.AttributeValue) string {
	var lines []string
	for _, item := range items {
		lines = append(lines, plain(item))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (d *draw) query() operation {
	condition := "#" + d.named("pk") + " = " + d.placeholder(str(pick(d, "pk", partitions...)))
	if pick(d, "with prefix", true, false) {
		condition += " AND begins_with(#" + d.named("sk") + ", " + d.placeholder(str("CRED#")) + ")"
	}
	in := dynamodb.QueryInput{TableName: &d.name, ConsistentRead: aws.Bool(true), KeyConditionExpression: &condition}
	if pick(d, "filtered", true, false) {
		filter := "#" + d.named("autogpt_managed") + " = " + d.placeholder(&types.AttributeValueMemberBOOL{Value: true})
		in.FilterExpression, in.Select = &filter, types.SelectCount
	} else {
		in.ProjectionExpression, in.Select = d.projection(), types.SelectSpecificAttributes
	}
	if pick(d, "limited", true, false) {
		in.Limit = aws.Int32(int32(rapid.IntRange(1, 3).Draw(d.T, "limit")))
	}
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = d.names(), d.given()
	return func(db store.API) string {
		var pages []string
		one := in
		for {
			out, err := db.Query(context.Background(), &one)
			if err != nil {
				return answer(nil, err)
			}
			pages = append(pages, fmt.Sprintf("%s %d %d %s", plain(out.Items), out.Count, out.ScannedCount, plain(out.LastEvaluatedKey)))
			if out.LastEvaluatedKey == nil {
				return strings.Join(pages, "\n")
			}
			one.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

func (d *draw) due() operation {
	condition := "#" + d.named("due_shard") + " = " + d.placeholder(d.value("due_shard")) +
		" AND #" + d.named("due_at") + " <= " + d.placeholder(d.value("due_at"))
	in := dynamodb.QueryInput{
		TableName: &d.name, IndexName: aws.String(table.Index), KeyConditionExpression: &condition,
		Limit: aws.Int32(int32(rapid.IntRange(1, 4).Draw(d.T, "limit"))), ExpressionAttributeNames: d.names(), ExpressionAttributeValues: d.given(),
	}
	return func(db store.API) string {
		var items []map[string]types.AttributeValue
		var order []string
		one := in
		for {
			out, err := db.Query(context.Background(), &one)
			if err != nil {
				return answer(nil, err)
			}
			items = append(items, out.Items...)
			for _, item := range out.Items {
				order = append(order, plain(item["due_at"]))
			}
			if out.LastEvaluatedKey == nil {
				return sorted(items) + "\n" + strings.Join(order, " ")
			}
			one.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

func (d *draw) scan() operation {
	filter := "#" + d.named("autogpt_managed") + " = " + d.placeholder(d.value("autogpt_managed"))
	in := dynamodb.ScanInput{
		TableName: &d.name, FilterExpression: &filter, ProjectionExpression: d.projection(), Select: types.SelectSpecificAttributes,
		Limit: aws.Int32(int32(rapid.IntRange(1, 4).Draw(d.T, "limit"))),
	}
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = d.names(), d.given()
	return func(db store.API) string {
		var items []map[string]types.AttributeValue
		one := in
		for {
			out, err := db.Scan(context.Background(), &one)
			if err != nil {
				return answer(nil, err)
			}
			items = append(items, out.Items...)
			if out.LastEvaluatedKey == nil {
				return sorted(items)
			}
			one.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}
