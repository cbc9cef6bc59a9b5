package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

// writes are all writes but the claim of a list, each with what has to stand before it. Each is
// done once.
var writes = map[string]struct {
	op      string
	prepare func(*table)
	write   func(context.Context, *table) error
}{
	"Create": {"TransactWriteItems", func(*table) {}, func(ctx context.Context, tb *table) error {
		_, err := tb.Create(ctx, user, credential.Metadata{ID: ownID, Provider: "github", Type: credential.APIKey}, []byte("new"))
		return err
	}},
	"Update": {"TransactWriteItems", func(tb *table) { tb.put(ownKey, ownItem) }, func(ctx context.Context, tb *table) error {
		_, err := tb.Update(ctx, user, "github", ownID, credential.Change{Title: str("New")}, nil)
		return err
	}},
	"Delete": {"TransactWriteItems", func(tb *table) { tb.put(ownKey, ownItem) }, func(ctx context.Context, tb *table) error {
		return tb.Delete(ctx, user, "github", ownID)
	}},
	"ClaimDead": {"UpdateItem", func(tb *table) { tb.put(slotKey, deadItem) }, func(ctx context.Context, tb *table) error {
		_, err := tb.ClaimDead(ctx, tb.read(), leaseEnd)
		return err
	}},
	"Commit": {"UpdateItem", func(tb *table) { tb.put(slotKey, claimedItem) }, func(ctx context.Context, tb *table) error {
		return tb.Commit(ctx, tb.read(), store.Made{Ciphertext: []byte("new"), Began: began, Resource: made, Settled: true})
	}},
	"Release": {"UpdateItem", func(tb *table) { tb.put(slotKey, claimedItem) }, func(ctx context.Context, tb *table) error {
		return tb.Release(ctx, tb.read(), store.Release{State: store.Failed, Settled: true})
	}},
	"Postpone": {"UpdateItem", func(tb *table) { tb.put(slotKey, failedItem) }, func(ctx context.Context, tb *table) error {
		return tb.Postpone(ctx, tb.read(), store.Wait{State: store.Failed, Reason: "", DueAt: now})
	}},
	"PutOff": {"UpdateItem", func(tb *table) { tb.put(slotKey, failedItem) }, func(ctx context.Context, tb *table) error {
		return tb.PutOff(ctx, tb.read(), now)
	}},
	"Remove": {"DeleteItem", func(tb *table) { tb.put(slotKey, deadItem) }, func(ctx context.Context, tb *table) error {
		return tb.Remove(ctx, tb.read())
	}},
	"Bury": {"PutItem", func(*table) {}, func(ctx context.Context, tb *table) error {
		_, err := tb.Bury(ctx, user, "alice")
		return err
	}},
	"Bury, the username": {"UpdateItem", func(tb *table) { tb.put(tombKey, tombItem) }, func(ctx context.Context, tb *table) error {
		_, err := tb.Bury(ctx, user, "alice")
		return err
	}},
	"UsernameGone": {"UpdateItem", func(tb *table) { tb.put(tombKey, tombItem.with(attributes{"cognito_username": "alice"})) },
		func(ctx context.Context, tb *table) error {
			return tb.UsernameGone(ctx, store.Tombstone{User: user, Username: "alice"})
		}},
	"Rest": {"UpdateItem", func(tb *table) { tb.put(tombKey, tombItem) }, func(ctx context.Context, tb *table) error { return tb.Rest(ctx, user) }},
	"PostponeTombstone": {"UpdateItem", func(tb *table) { tb.put(tombKey, tombItem) }, func(ctx context.Context, tb *table) error {
		return tb.PostponeTombstone(ctx, store.Tombstone{User: user, Tries: 1}, leaseEnd)
	}},
	"MarkRevoking": {"UpdateItem", func(tb *table) { tb.put(slotKey, claimedItem) }, func(ctx context.Context, tb *table) error {
		return tb.MarkRevoking(ctx, slotKey, time.Time{})
	}},
}

func (tb *table) all() [3]attributes {
	return [3]attributes{tb.get(ownKey), tb.get(slotKey), tb.get(tombKey)}
}

// DynamoDB Local never gives a transaction conflict, and the SDK does not repeat after one.
func TestAWriteThatMeetsAConflictIsRepeated(t *testing.T) {
	t.Parallel()
	for name, w := range writes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := newTable(t)
			w.prepare(tb)
			before := tb.all()
			conflict := fault.TransactionConflict()
			tb.on(w.op, conflict, conflict, conflict)
			err := w.write(t.Context(), tb)
			if err != nil {
				t.Errorf("got the error %v", err)
			}
			if tb.proxy.Count(w.op) != 4 {
				t.Errorf("there were %d calls", tb.proxy.Count(w.op))
			}
			if reflect.DeepEqual(before, tb.all()) {
				t.Error("nothing was written")
			}
		})
	}
}

// patience is an HTTP client that ends a context once it has had so many answers.
type patience struct {
	answers int
	end     context.CancelFunc
}

func (p *patience) Do(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	p.answers--
	if p.answers == 0 {
		p.end()
	}
	return resp, err
}

func TestAWriteThatMeetsConflictsToTheEndIsAnErrorOfItsContext(t *testing.T) {
	t.Parallel()
	for name, w := range writes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := newTable(t)
			w.prepare(tb)
			before := tb.all()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answers := 3
			if name == "Bury, the username" { // the first one refuses another tombstone
				answers = 4
			}
			tb.Store = tb.storeAt(tb.url, now, &patience{answers, cancel})
			tb.always(w.op, fault.TransactionConflict())
			err := w.write(ctx, tb)
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "TransactionConflict") {
				t.Errorf("got the error %v", err)
			}
			for _, answer := range []error{store.ErrLost, store.ErrStale, credential.ErrNotFound, credential.ErrAccountDeleted} {
				if errors.Is(err, answer) {
					t.Errorf("a conflict is taken for %v", answer)
				}
			}
			if tb.proxy.Count(w.op) != 3 || !reflect.DeepEqual(before, tb.all()) {
				t.Errorf("there were %d calls, and the table is %v, was %v", tb.proxy.Count(w.op), tb.all(), before)
			}
		})
	}
}

func TestACreateIsRepeatedWhateverStandsInItsWay(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.on("TransactWriteItems",
		fault.TransactionCanceled("TransactionConflict"), fault.TransactionCanceled("None", "TransactionConflict"),
		fault.TransactionCanceled("TransactionConflict", "TransactionConflict"),
		fault.TransactionCanceled("None", "ThrottlingError"), fault.TransactionCanceled("ProvisionedThroughputExceeded"),
		fault.TransactionCanceled("ThrottlingError", "TransactionConflict"))
	err := writes["Create"].write(t.Context(), tb)
	if err != nil || tb.proxy.Count("TransactWriteItems") != 7 {
		t.Errorf("got %v after %d calls", err, tb.proxy.Count("TransactWriteItems"))
	}
}

func TestACreateThatIsRefusedIsNotRepeated(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // for code that does repeat it
	defer cancel()
	for _, c := range []struct {
		reasons []string
		deleted bool
	}{
		// What stands there does not come along, so that nobody knows what it is.
		{[]string{"ConditionalCheckFailed"}, false},
		{[]string{"ConditionalCheckFailed", "TransactionConflict"}, false},
		{[]string{"None", "ConditionalCheckFailed"}, false},
		{[]string{"TransactionConflict", "ConditionalCheckFailed"}, false},
		{[]string{"None", "ValidationError"}, false},
		{[]string{"None", "None"}, false},
	} {
		tb.always("TransactWriteItems", fault.TransactionCanceled(c.reasons...))
		err := writes["Create"].write(ctx, tb)
		if err == nil || errors.Is(err, credential.ErrAccountDeleted) != c.deleted || tb.proxy.Count("TransactWriteItems") != 1 {
			t.Errorf("%v: got %v after %d calls", c.reasons, err, tb.proxy.Count("TransactWriteItems"))
		}
	}
}

// A claimer reads again before it claims once more: what it read may be what the other transaction
// is changing.
func TestAClaimThatMeetsAConflictIsStale(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	for _, reasons := range [][]string{
		{"TransactionConflict"}, {"None", "TransactionConflict"}, {"TransactionConflict", "TransactionConflict"},
		{"None", "ThrottlingError"}, {"ProvisionedThroughputExceeded"}, {"TransactionConflict", "ConditionalCheckFailed"},
	} {
		tb.always("TransactWriteItems", fault.TransactionCanceled(reasons...))
		_, err := tb.Claim(t.Context(), []store.Slot{absent()}, store.Provisioning, leaseEnd)
		wantError(t, "claim", err, store.ErrStale)
		if tb.proxy.Count("TransactWriteItems") != 1 {
			t.Errorf("%v: there were %d calls", reasons, tb.proxy.Count("TransactWriteItems"))
		}
	}
	// What stands where a tombstone would does not come along, so that nobody knows what it is.
	tb.always("TransactWriteItems", fault.TransactionCanceled("ConditionalCheckFailed", "TransactionConflict"))
	_, err := tb.Claim(t.Context(), []store.Slot{absent()}, store.Provisioning, leaseEnd)
	wantError(t, "a claim that something refuses", err, store.ErrStale)
	tb.wantItem(slotKey, nil)
}
