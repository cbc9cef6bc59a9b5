// Package table is a DynamoDB table in memory, behind the operations and for the expressions that
// package store uses: one with the keys pk and sk and the index "due", as template.yaml defines it.
// A simulation can run a million schedules on it. A test beside it makes the same operations, at
// random, on this and on AWS's own DynamoDB Local, and compares every answer.
//
// What it does not know (other operations, functions, types of values) is an error that no caller
// expects, never a guess.
package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Item is an item, which nobody changes once it is in the table.
type Item = map[string]types.AttributeValue

const (
	// Index is the name of the one index.
	Index = "due"
	// maxItem is how large an item may be, and maxPage how much a query or a scan goes over before
	// its page ends.
	maxItem, maxPage = 400 << 10, 1 << 20
	maxGets          = 100
	maxWrites        = 25
	maxTransaction   = 100
)

// Table is one. It is not safe for concurrent use. It implements store.API, without what a network
// adds.
type Table struct {
	// Stale is asked for each item that an eventually consistent read meets, and says whether that
	// read sees it as it was before its last change. nil means never.
	Stale func(key [2]string) bool

	records map[[2]string]*record
	// order holds the keys of all that were ever written, sorted.
	order [][2]string
	// tokens are the transactions that were carried out, by their tokens.
	tokens map[string]bool
	writes int
}

// Writes counts the changes so far.
func (t *Table) Writes() int { return t.writes }

// record is an item and how it was before; nil where there is none.
type record struct{ now, before Item }

// New returns an empty table.
func New() *Table { return &Table{records: map[[2]string]*record{}, tokens: map[string]bool{}} }

// Items returns all items as they are, by their keys.
func (t *Table) Items() []Item {
	all := make([]Item, 0, len(t.order))
	for _, key := range t.order {
		item := t.records[key].now
		if item != nil {
			all = append(all, item)
		}
	}
	return all
}

// Item returns an item as it is; nil if there is none.
func (t *Table) Item(pk, sk string) Item {
	r := t.records[[2]string{pk, sk}]
	if r == nil {
		return nil
	}
	return r.now
}

func (t *Table) set(key [2]string, item Item) {
	r := t.records[key]
	if r == nil {
		if item == nil {
			return
		}
		r = &record{}
		t.records[key] = r
		i, _ := slices.BinarySearchFunc(t.order, key, compareKeys)
		t.order = slices.Insert(t.order, i, key)
	}
	r.before, r.now = r.now, item
	t.writes++
}

func compareKeys(a, b [2]string) int {
	return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
}

// seen is the record's item as a read sees it.
func (t *Table) seen(key [2]string, consistent bool) Item {
	r := t.records[key]
	if !consistent && t.Stale != nil && t.Stale(key) {
		return r.before
	}
	return r.now
}

func text(v types.AttributeValue) (string, bool) {
	s, ok := v.(*types.AttributeValueMemberS)
	if !ok || s.Value == "" {
		return "", false
	}
	return s.Value, true
}

func keyOf(item Item) ([2]string, error) {
	pk, hasPK := text(item["pk"])
	sk, hasSK := text(item["sk"])
	if !hasPK || !hasSK {
		return [2]string{}, invalid("the provided key element does not match the schema")
	}
	return [2]string{pk, sk}, nil
}

// exactKey is the key that a request names, which has to be nothing else.
func exactKey(key Item) ([2]string, error) {
	if len(key) != 2 {
		return [2]string{}, invalid("the provided key element does not match the schema")
	}
	return keyOf(key)
}

// write is one conditional write.
type write struct {
	key       [2]string
	condition *string
	update    *string
	put       Item // the new item; nil with neither this nor an update: a deletion, or only a check
	checkOnly bool
	names     map[string]string
	values    map[string]types.AttributeValue
	onRefusal types.ReturnValuesOnConditionCheckFailure
}

// errRefused: the condition did not hold.
type errRefused struct{ item Item }

func (errRefused) Error() string { return "the conditional request failed" }

// try works out what the write would make of its item, and changes nothing.
func (t *Table) try(w write) (next Item, touched []string, err error) {
	var old Item
	r := t.records[w.key]
	if r != nil {
		old = r.now
	}
	s := newScope(w.names, w.values)
	s.item = old
	var condition, update *parsed
	if w.condition != nil {
		condition = conditionOf(*w.condition)
		err = s.use(condition)
	}
	if err == nil && w.update != nil {
		update = updateOf(*w.update)
		err = s.use(update)
	}
	if err == nil {
		err = s.unused()
	}
	if err == nil && update != nil {
		touched, err = s.touches(update)
	}
	if err == nil && w.put != nil {
		err = check(w.put, false)
	}
	if err != nil {
		return nil, nil, err
	}
	if condition != nil {
		holds, err := condition.condition.holds(s)
		if err != nil {
			return nil, nil, err
		}
		if !holds {
			refused := errRefused{}
			if w.onRefusal == types.ReturnValuesOnConditionCheckFailureAllOld {
				refused.item = old
			}
			return nil, nil, refused
		}
	}
	switch {
	case w.checkOnly:
		next = old
	case update != nil:
		next, err = s.apply(update, w.key)
	case w.put != nil:
		next = maps.Clone(w.put)
	}
	if err == nil {
		err = check(next, update != nil)
	}
	return next, touched, err
}

// check says whether DynamoDB would hold the item.
func check(item Item, updated bool) error {
	if item == nil {
		return nil
	}
	if sizeOf(item) > maxItem {
		if updated {
			return invalid("item size to update has exceeded the maximum allowed size")
		}
		return invalid("item size has exceeded the maximum allowed size")
	}
	for _, v := range item {
		err := known(v)
		if err != nil {
			return err
		}
	}
	shard, hasShard := item["due_shard"]
	_, isText := text(shard)
	due, hasDue := item["due_at"]
	if hasShard && !isText || hasDue && typeOf(due) != "N" {
		return invalid("one or more parameter values were invalid: type mismatch for index key")
	}
	return nil
}

// touches are the attributes that an update names.
func (s *scope) touches(update *parsed) ([]string, error) {
	var all []string
	for _, c := range update.changes {
		name, err := s.name(string(c.of))
		if err != nil {
			return nil, err
		}
		if slices.Contains(all, name) {
			return nil, invalid("two document paths overlap with each other; path: [%s]", name)
		}
		if name == "pk" || name == "sk" {
			return nil, invalid("cannot update attribute %s. This attribute is part of the key", name)
		}
		all = append(all, name)
	}
	return all, nil
}

// apply is the item after the update. Every operand sees it as it was before.
func (s *scope) apply(update *parsed, key [2]string) (Item, error) {
	next := maps.Clone(s.item)
	if next == nil {
		next = Item{
			"pk": &types.AttributeValueMemberS{Value: key[0]},
			"sk": &types.AttributeValueMemberS{Value: key[1]},
		}
	}
	for _, c := range update.changes {
		name, err := s.name(string(c.of))
		if err != nil {
			return nil, err
		}
		if c.to == nil {
			delete(next, name)
			continue
		}
		v, err := c.to.value(s)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, invalid("the provided expression refers to an attribute that does not exist in the item")
		}
		next[name] = v
	}
	return next, nil
}

// one carries out a single write, and returns the item after it, and what an update named.
func (t *Table) one(w write) (next Item, touched []string, err error) {
	next, touched, err = t.try(w)
	var refused errRefused
	if errors.As(err, &refused) {
		return nil, nil, &types.ConditionalCheckFailedException{
			Message: aws.String("The conditional request failed"), Item: refused.item,
		}
	}
	if err != nil {
		return nil, nil, err
	}
	t.set(w.key, next)
	return next, touched, nil
}

// PutItem implements store.API.
func (t *Table) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	key, err := keyOf(in.Item)
	if err != nil {
		return nil, err
	}
	_, _, err = t.one(write{
		key: key, put: in.Item, condition: in.ConditionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues, onRefusal: in.ReturnValuesOnConditionCheckFailure,
	})
	if err != nil {
		return nil, err
	}
	return &dynamodb.PutItemOutput{}, nil
}

// UpdateItem implements store.API.
func (t *Table) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	key, err := exactKey(in.Key)
	if err != nil {
		return nil, err
	}
	next, touched, err := t.one(write{
		key: key, update: in.UpdateExpression, condition: in.ConditionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues, onRefusal: in.ReturnValuesOnConditionCheckFailure,
	})
	if err != nil {
		return nil, err
	}
	out := &dynamodb.UpdateItemOutput{}
	switch in.ReturnValues {
	case "", types.ReturnValueNone:
	case types.ReturnValueAllNew:
		out.Attributes = next
	case types.ReturnValueUpdatedNew:
		out.Attributes = only(next, touched)
	case types.ReturnValueAllOld, types.ReturnValueUpdatedOld:
		return nil, fmt.Errorf("this table does not return %s", in.ReturnValues)
	}
	return out, nil
}

// DeleteItem implements store.API.
func (t *Table) DeleteItem(_ context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	key, err := exactKey(in.Key)
	if err != nil {
		return nil, err
	}
	_, _, err = t.one(write{
		key: key, condition: in.ConditionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues, onRefusal: in.ReturnValuesOnConditionCheckFailure,
	})
	if err != nil {
		return nil, err
	}
	return &dynamodb.DeleteItemOutput{}, nil
}

// TransactWriteItems implements store.API: all writes, or none. A token that was carried out before
// is answered the same way, and nothing is written again.
func (t *Table) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (
	*dynamodb.TransactWriteItemsOutput, error,
) {
	token := aws.ToString(in.ClientRequestToken)
	if token != "" && t.tokens[token] {
		return &dynamodb.TransactWriteItemsOutput{}, nil
	}
	if len(in.TransactItems) == 0 || len(in.TransactItems) > maxTransaction {
		return nil, invalid("a transaction has 1 to %d actions", maxTransaction)
	}
	writes := make([]write, len(in.TransactItems))
	seen := map[[2]string]bool{}
	for i, item := range in.TransactItems {
		w, err := transacted(item)
		if err != nil {
			return nil, err
		}
		if seen[w.key] {
			return nil, invalid("transaction request cannot include multiple operations on one item")
		}
		seen[w.key], writes[i] = true, w
	}
	reasons := make([]types.CancellationReason, len(writes))
	next := make([]Item, len(writes))
	cancelled := false
	for i, w := range writes {
		reasons[i].Code = aws.String("None")
		var err error
		next[i], _, err = t.try(w)
		var refused errRefused
		switch {
		case err == nil:
		case errors.As(err, &refused):
			cancelled = true
			reasons[i].Code = aws.String("ConditionalCheckFailed")
			reasons[i].Message = aws.String("The conditional request failed")
			reasons[i].Item = refused.item
		default:
			return nil, err
		}
	}
	if cancelled {
		return nil, &types.TransactionCanceledException{Message: aws.String("Transaction cancelled"), CancellationReasons: reasons}
	}
	for i, w := range writes {
		if !w.checkOnly {
			t.set(w.key, next[i])
		}
	}
	if token != "" {
		t.tokens[token] = true
	}
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

func transacted(item types.TransactWriteItem) (w write, err error) {
	switch {
	case item.ConditionCheck != nil:
		c := item.ConditionCheck
		w.key, err = exactKey(c.Key)
		w.condition, w.checkOnly, w.onRefusal = c.ConditionExpression, true, c.ReturnValuesOnConditionCheckFailure
		w.names, w.values = c.ExpressionAttributeNames, c.ExpressionAttributeValues
	case item.Put != nil:
		p := item.Put
		w.key, err = keyOf(p.Item)
		w.put, w.condition, w.onRefusal = p.Item, p.ConditionExpression, p.ReturnValuesOnConditionCheckFailure
		w.names, w.values = p.ExpressionAttributeNames, p.ExpressionAttributeValues
	case item.Update != nil:
		u := item.Update
		w.key, err = exactKey(u.Key)
		w.update, w.condition, w.onRefusal = u.UpdateExpression, u.ConditionExpression, u.ReturnValuesOnConditionCheckFailure
		w.names, w.values = u.ExpressionAttributeNames, u.ExpressionAttributeValues
	case item.Delete != nil:
		d := item.Delete
		w.key, err = exactKey(d.Key)
		w.condition, w.onRefusal = d.ConditionExpression, d.ReturnValuesOnConditionCheckFailure
		w.names, w.values = d.ExpressionAttributeNames, d.ExpressionAttributeValues
	default:
		err = invalid("an action of the transaction is empty")
	}
	return w, err
}

// BatchGetItem implements store.API. It leaves nothing unprocessed.
func (t *Table) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]map[string]types.AttributeValue{}}
	for name, wanted := range in.RequestItems {
		if len(wanted.Keys) == 0 || len(wanted.Keys) > maxGets {
			return nil, invalid("a batch has 1 to %d keys", maxGets)
		}
		project, err := projector(wanted.ProjectionExpression, wanted.ExpressionAttributeNames)
		if err != nil {
			return nil, err
		}
		asked := map[[2]string]bool{}
		found := []map[string]types.AttributeValue{}
		for _, one := range wanted.Keys {
			key, err := exactKey(one)
			if err != nil {
				return nil, err
			}
			if asked[key] {
				return nil, invalid("provided list of item keys contains duplicates")
			}
			asked[key] = true
			if t.records[key] == nil {
				continue
			}
			item := t.seen(key, aws.ToBool(wanted.ConsistentRead))
			if item != nil {
				found = append(found, project(item))
			}
		}
		out.Responses[name] = found
	}
	return out, nil
}

// BatchWriteItem implements store.API. It leaves nothing unprocessed.
func (t *Table) BatchWriteItem(_ context.Context, in *dynamodb.BatchWriteItemInput, _ ...func(*dynamodb.Options)) (
	*dynamodb.BatchWriteItemOutput, error,
) {
	for _, requests := range in.RequestItems {
		if len(requests) == 0 || len(requests) > maxWrites {
			return nil, invalid("a batch has 1 to %d writes", maxWrites)
		}
		writes := map[[2]string]Item{}
		for _, r := range requests {
			var key [2]string
			var item Item
			var err error
			if r.PutRequest != nil {
				item = maps.Clone(r.PutRequest.Item)
				key, err = keyOf(item)
			} else {
				key, err = exactKey(r.DeleteRequest.Key)
			}
			err = cmp.Or(err, check(item, false))
			if err != nil {
				return nil, err
			}
			_, twice := writes[key]
			if twice {
				return nil, invalid("provided list of item keys contains duplicates")
			}
			writes[key] = item
		}
		for key, item := range writes {
			t.set(key, item)
		}
	}
	return &dynamodb.BatchWriteItemOutput{}, nil
}

// projector is what a projection makes of an item.
func projector(expression *string, names map[string]string) (func(Item) Item, error) {
	if expression == nil {
		return func(item Item) Item { return item }, nil
	}
	s := newScope(names, nil)
	e := projectionOf(*expression)
	err := cmp.Or(s.use(e), s.unused())
	if err != nil {
		return nil, err
	}
	attributes, err := s.attributes(e)
	return func(item Item) Item { return only(item, attributes) }, err
}

func newScope(names map[string]string, values map[string]types.AttributeValue) *scope {
	return &scope{names: names, values: values}
}

func (s *scope) attributes(e *parsed) ([]string, error) {
	all := make([]string, len(e.paths))
	for i, p := range e.paths {
		var err error
		all[i], err = s.name(string(p))
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func only(item Item, attributes []string) Item {
	part := make(Item, min(len(attributes), len(item)))
	for _, name := range attributes {
		v, ok := item[name]
		if ok {
			part[name] = v
		}
	}
	return part
}

// reading is a query or a scan.
type reading struct {
	keyCondition, filter, projection *string
	names                            map[string]string
	values                           map[string]types.AttributeValue
	index, consistent, countOnly     bool
	limit                            *int32
	from                             Item
}

// page is what a reading found.
type page struct {
	items          []map[string]types.AttributeValue
	count, scanned int32
	last           Item
}

// Query implements store.API, forwards alone.
func (t *Table) Query(_ context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if in.KeyConditionExpression == nil {
		return nil, invalid("either the KeyConditions or KeyConditionExpression parameter must be specified in the request")
	}
	index := aws.ToString(in.IndexName)
	if index != "" && (index != Index || aws.ToBool(in.ConsistentRead)) || in.ScanIndexForward != nil {
		return nil, invalid("this table has no such query")
	}
	p, err := t.read(reading{
		keyCondition: in.KeyConditionExpression, filter: in.FilterExpression, projection: in.ProjectionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues,
		index: index != "", consistent: aws.ToBool(in.ConsistentRead), countOnly: in.Select == types.SelectCount,
		limit: in.Limit, from: in.ExclusiveStartKey,
	})
	if err != nil {
		return nil, err
	}
	return &dynamodb.QueryOutput{Items: p.items, Count: p.count, ScannedCount: p.scanned, LastEvaluatedKey: p.last}, nil
}

// Scan implements store.API, in the order of the keys.
func (t *Table) Scan(_ context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if in.IndexName != nil || in.Segment != nil {
		return nil, invalid("this table has no such scan")
	}
	p, err := t.read(reading{
		filter: in.FilterExpression, projection: in.ProjectionExpression,
		names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues,
		consistent: aws.ToBool(in.ConsistentRead), countOnly: in.Select == types.SelectCount,
		limit: in.Limit, from: in.ExclusiveStartKey,
	})
	if err != nil {
		return nil, err
	}
	return &dynamodb.ScanOutput{Items: p.items, Count: p.count, ScannedCount: p.scanned, LastEvaluatedKey: p.last}, nil
}

func (t *Table) read(r reading) (page, error) {
	s := newScope(r.names, r.values)
	var within, filter condition
	for _, e := range []struct {
		text *string
		into *condition
	}{{r.keyCondition, &within}, {r.filter, &filter}} {
		if e.text == nil {
			continue
		}
		parsed := conditionOf(*e.text)
		err := s.use(parsed)
		if err != nil {
			return page{}, err
		}
		*e.into = parsed.condition
	}
	var project []string
	if r.projection != nil {
		e := projectionOf(*r.projection)
		err := s.use(e)
		if err != nil {
			return page{}, err
		}
		project, err = s.attributes(e)
		if err != nil {
			return page{}, err
		}
	}
	err := s.unused()
	if err != nil {
		return page{}, err
	}
	items, err := t.candidates(s, within, r)
	if err != nil {
		return page{}, err
	}
	return paged(s, items, filter, project, r)
}

// candidates are the items that the key condition allows, or all, in the order of the table or of
// its index.
func (t *Table) candidates(s *scope, within condition, r reading) ([]Item, error) {
	var items []Item
	for _, key := range t.order {
		item := t.seen(key, r.consistent)
		if item == nil || r.index && (item["due_shard"] == nil || item["due_at"] == nil) {
			continue
		}
		if within != nil {
			s.item = item
			is, err := within.holds(s)
			if err != nil {
				return nil, err
			}
			if !is {
				continue
			}
		}
		items = append(items, item)
	}
	if r.index {
		slices.SortStableFunc(items, byDue)
	}
	return items, nil
}

func byDue(a, b Item) int {
	order, _, _ := compare(a["due_at"], b["due_at"]) // they were checked when they were written
	return order
}

// paged is the page of the items that begins after where the reading begins.
func paged(s *scope, items []Item, filter condition, project []string, r reading) (page, error) {
	begin, err := start(items, r)
	if err != nil {
		return page{}, err
	}
	p := page{}
	if !r.countOnly {
		p.items = []map[string]types.AttributeValue{}
	}
	read := 0
	for i, item := range items[begin:] {
		p.scanned++
		read += sizeOf(item)
		matches := true
		if filter != nil {
			s.item = item
			matches, err = filter.holds(s)
			if err != nil {
				return page{}, err
			}
		}
		if matches {
			p.count++
			if !r.countOnly {
				p.items = append(p.items, shownOf(item, project, r.index))
			}
		}
		full := r.limit != nil && p.scanned == *r.limit
		last := begin+i == len(items)-1
		if full || read > maxPage && !last {
			p.last = cursor(item, r.index)
			break
		}
	}
	return p, nil
}

func shownOf(item Item, project []string, index bool) Item {
	switch {
	case project != nil:
		return only(item, project)
	case index:
		return cursor(item, true)
	default:
		return item
	}
}

func cursor(item Item, index bool) Item {
	names := []string{"pk", "sk"}
	if index {
		names = append(names, "due_shard", "due_at")
	}
	return only(item, names)
}

// start is where the reading goes on: after the place of the item that it names, whether or not
// that is still there.
func start(items []Item, r reading) (int, error) {
	if r.from == nil {
		return 0, nil
	}
	from, err := keyOf(r.from)
	if err != nil {
		return 0, err
	}
	for i, item := range items {
		key, err := keyOf(item)
		if err != nil {
			return 0, err
		}
		order := compareKeys(key, from)
		if r.index {
			order = cmp.Or(byDue(item, r.from), order)
		}
		if order > 0 {
			return i, nil
		}
	}
	return len(items), nil
}
