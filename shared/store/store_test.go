package store_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/logging"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/store"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

const (
	user     = "alice"
	provider = "agent_mail"
	title    = "AgentMail (managed by AutoGPT)"
	ownID    = "0d3b6f1e-1f0a-4c8e-9f43-0d7d9a1c2e55"
)

// now is what the clock of every store says.
var now = time.UnixMilli(1_800_000_000_000)

var (
	slotKey = store.SlotKey(user, provider)
	ownKey  = store.CredentialKey(user, "github", ownID)
	tombKey = store.Key{PK: "USER#" + user, SK: "ACCOUNT"}
)

// table is an empty table, and a store of it that a proxy stands before.
type table struct {
	*store.Store
	proxy  *fault.Proxy
	url    string // of the proxy
	t      testing.TB
	name   string
	direct *dynamodb.Client
}

func newTable(t testing.TB) *table {
	t.Helper()
	name, direct := managedtest.Table(t)
	tb := &table{proxy: fault.New(aws.ToString(direct.Options().BaseEndpoint)), t: t, name: name, direct: direct}
	server := httptest.NewServer(tb.proxy)
	t.Cleanup(server.Close)
	tb.url = server.URL
	tb.Store = tb.storeAt(tb.url, now, http.DefaultClient)
	return tb
}

// storeAt is a store with the SDK's own repeats, but without pauses between them, and with a clock
// that stands still.
func (tb *table) storeAt(url string, now time.Time, calls aws.HTTPClient) *store.Store {
	client := store.Client(aws.Config{
		HTTPClient:   calls,
		Region:       "us-east-1",
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			})
		},
		Logger: logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			tb.t.Errorf("the SDK logged: "+format, args...)
		}),
	})
	return store.New(client, tb.name, func() time.Time { return now })
}

// past is another process's store, which goes past the proxy and has its clock at another time.
func (tb *table) past(now time.Time) *store.Store {
	return tb.storeAt(aws.ToString(tb.direct.Options().BaseEndpoint), now, http.DefaultClient)
}

// attributes are an item without its key: texts, numbers (int), flags and bytes. In a change nil
// stands for no attribute.
type attributes map[string]any

// with is a changed.
func (a attributes) with(change attributes) attributes {
	changed := maps.Clone(a)
	for name, value := range change {
		changed[name] = value
		if value == nil {
			delete(changed, name)
		}
	}
	return changed
}

func value(v any) types.AttributeValue {
	switch v := v.(type) {
	case string:
		return &types.AttributeValueMemberS{Value: v}
	case int:
		return &types.AttributeValueMemberN{Value: strconv.Itoa(v)}
	case bool:
		return &types.AttributeValueMemberBOOL{Value: v}
	case []byte:
		return &types.AttributeValueMemberB{Value: v}
	default:
		return v.(types.AttributeValue)
	}
}

func plain(v types.AttributeValue) any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		n, err := strconv.Atoi(v.Value)
		if err != nil {
			return v
		}
		return n
	case *types.AttributeValueMemberBOOL:
		return v.Value
	case *types.AttributeValueMemberB:
		return v.Value
	default:
		return v
	}
}

func primaryKey(key store.Key) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"pk": value(key.PK), "sk": value(key.SK)}
}

// put writes an item behind the store's back.
func (tb *table) put(key store.Key, a attributes) {
	tb.t.Helper()
	item := primaryKey(key)
	for name, v := range a {
		item[name] = value(v)
	}
	_, err := tb.direct.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &tb.name, Item: item})
	if err != nil {
		tb.t.Fatal(err)
	}
}

// remove deletes an item behind the store's back.
func (tb *table) remove(key store.Key) {
	tb.t.Helper()
	_, err := tb.direct.DeleteItem(context.Background(), &dynamodb.DeleteItemInput{TableName: &tb.name, Key: primaryKey(key)})
	if err != nil {
		tb.t.Fatal(err)
	}
}

// get reads an item behind the store's back; nil if there is none. Of the index's shard it gives
// the family alone.
func (tb *table) get(key store.Key) attributes {
	tb.t.Helper()
	out, err := tb.direct.GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName: &tb.name, Key: primaryKey(key), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		tb.t.Fatal(err)
	}
	if out.Item == nil {
		return nil
	}
	a := attributes{}
	for name, v := range out.Item {
		a[name] = plain(v)
	}
	delete(a, "pk")
	delete(a, "sk")
	shard, ok := a["due_shard"].(string)
	if ok && slices.Contains(store.Shards(), shard) {
		a["due_shard"], _, _ = strings.Cut(shard, ".")
	}
	return a
}

// wantItem checks an item to the last attribute; nil stands for no item.
func (tb *table) wantItem(key store.Key, want attributes) {
	tb.t.Helper()
	got := tb.get(key)
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if want["revision"] == nil {
		delete(got, "revision") // a random one
	}
	if !reflect.DeepEqual(got, want) {
		tb.t.Errorf("the item %s is\n%v\nwant\n%v", key.SK, got, want)
	}
}

// dueAt are the keys that are due at a time, in all shards.
func (tb *table) dueAt(t time.Time) []store.Key {
	tb.t.Helper()
	var all []store.Key
	for _, shard := range store.Shards() {
		keys, next, err := tb.Due(context.Background(), shard, t, 100, nil)
		if err != nil || next != nil {
			tb.t.Fatalf("due: %v, next %v", err, next)
		}
		all = append(all, keys...)
	}
	return all
}

// on lets faults strike the calls of one operation, one after the other; when they are used up, and
// where one is nil, calls pass.
func (tb *table) on(op string, faults ...fault.Fault) {
	tb.proxy.Reset()
	tb.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == op && c.Nth <= len(faults) {
			return faults[c.Nth-1]
		}
		return nil
	})
}

// always lets a fault strike every call of one operation.
func (tb *table) always(op string, f fault.Fault) {
	tb.proxy.Reset()
	tb.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == op {
			return f
		}
		return nil
	})
}

func ms(t time.Time) int { return int(t.UnixMilli()) }

// leaseEnd is when the lease of the slots in these tests ends.
var leaseEnd = now.Add(time.Minute)

// claimedItem is a slot under a claim, with something in each attribute that it can have.
var claimedItem = attributes{
	"v": 1, "type": "api_key", "title": title, "autogpt_managed": true, "created_at": ms(now.Add(-time.Hour)),
	"state": "provisioning", "owner": "owner", "attempt": 7, "lease_until": ms(leaseEnd), "due_at": ms(leaseEnd), "due_shard": "live.0",
	"tries": 2, "reason": "transient", "committed": 3, "resource_id": "pod", "key_id": "key", "org_id": "org", "secret": []byte("ciphertext"),
	"gone_since": ms(now.Add(-time.Minute)), "left": 4, "left_since": ms(now.Add(-time.Hour)), "expires_at": ms(now.AddDate(1, 0, 0)),
	"report_from": ms(now.Add(5 * time.Minute)), "report_pause": 600_000, "last_used_on": "2025-12-31",
}

// failedItem is a slot that failed cleanly: nobody's, and settled.
var failedItem = claimedItem.with(attributes{"state": "failed", "owner": nil, "lease_until": nil})

// slot puts an item and reads it as a slot.
func (tb *table) slot(a attributes) store.Slot {
	tb.t.Helper()
	tb.put(slotKey, a)
	slots, err := tb.past(now).Slots(context.Background(), user, provider)
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) {
		tb.t.Fatal(err)
	}
	slot, ok := slots[provider]
	if !ok {
		tb.t.Fatalf("the slot cannot be decoded: %v", a)
	}
	return slot
}

// absent is a slot that has no item.
func absent() store.Slot { return store.Slot{User: user, Provider: provider, Title: title} }

func (tb *table) bury() {
	tb.t.Helper()
	_, err := tb.past(now).Bury(context.Background(), user, "")
	if err != nil {
		tb.t.Fatal(err)
	}
}

func str(s string) *string { return &s }

func wantError(t *testing.T, name string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got the error %v, want %v", name, got, want)
	}
}
