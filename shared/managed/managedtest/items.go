package managedtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// NextDue is when the next work is due of users who are not suspended; zero if there is none. That
// a key expires later is none yet.
func (w *World) NextDue() time.Time {
	var next time.Time
	for _, item := range w.items() {
		due, ok := item["due_at"].(*types.AttributeValueMemberN)
		reason, _ := item["reason"].(*types.AttributeValueMemberS)
		if !ok || reason != nil && reason.Value == store.ReasonSuspended { // nobody works on it until its user is enabled
			continue
		}
		at := millis(w.t, due.Value)
		if at.After(w.Clock.Now()) && waitsForExpiry(item) {
			continue
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// waitsForExpiry reports whether a slot is at rest until its key is to be replaced.
func waitsForExpiry(item map[string]types.AttributeValue) bool {
	reason, _ := item["reason"].(*types.AttributeValueMemberS)
	rests := reason == nil || reason.Value == ""
	for _, name := range []string{"owner", "lease_until", "retire_at", "rotate"} {
		rests = rests && item[name] == nil
	}
	return rests && item["expires_at"] != nil
}

func millis(t testing.TB, s string) time.Time {
	t.Helper()
	var n int64
	_, err := fmt.Sscan(s, &n)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(n)
}

// items is the whole table.
func (w *World) items() []map[string]types.AttributeValue {
	w.t.Helper()
	var all []map[string]types.AttributeValue
	pages := dynamodb.NewScanPaginator(w.direct, &dynamodb.ScanInput{TableName: &w.table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Items...)
	}
	return all
}

// Slot is the user's slot as it is, and whether the account is deleted.
func (w *World) Slot(user, provider string) (slot store.Slot, deleted bool, err error) {
	slots, err := w.Store.Slots(context.Background(), user, provider)
	if errors.Is(err, credential.ErrAccountDeleted) {
		return slots[provider], true, nil
	}
	if errors.Is(err, credential.ErrAccountSuspended) {
		err = nil
	}
	return slots[provider], false, err
}

// Suspended reports whether the user is suspended.
func (w *World) Suspended(user string) bool {
	_, err := w.Store.Slots(context.Background(), user)
	return errors.Is(err, credential.ErrAccountSuspended)
}

// PodUser is whose a pod is, and at which provider, by its client_id.
func PodUser(clientID string) (user, provider string) {
	provider, user, named := strings.Cut(clientID, ".")
	if !named {
		return clientID, Provider
	}
	return user, provider
}

func (w *World) deleteItem(item map[string]types.AttributeValue) {
	w.t.Helper()
	_, err := w.direct.DeleteItem(context.Background(), &dynamodb.DeleteItemInput{
		TableName: &w.table,
		Key:       map[string]types.AttributeValue{"pk": item["pk"], "sk": item["sk"]},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Dump is the table as a text, a line an item, ciphertexts left out.
func (w *World) Dump() string {
	var lines []string
	for _, item := range w.items() {
		pk, _ := item["pk"].(*types.AttributeValueMemberS)
		if pk.Value == "DEPLOYMENT" || pk.Value == "JOB" { // nobody's
			continue
		}
		var parts []string
		for name, value := range item {
			switch v := value.(type) {
			case *types.AttributeValueMemberS:
				parts = append(parts, name+"="+v.Value)
			case *types.AttributeValueMemberN:
				parts = append(parts, name+"="+v.Value)
			case *types.AttributeValueMemberB:
				parts = append(parts, name)
			}
		}
		slices.Sort(parts)
		lines = append(lines, strings.Join(parts, " "))
	}
	return strings.Join(lines, "\n")
}

// SetItem changes attributes of an item behind everybody's back; a nil value removes one.
func (w *World) SetItem(key store.Key, attributes map[string]types.AttributeValue) {
	w.t.Helper()
	for _, item := range w.items() {
		if item["pk"].(*types.AttributeValueMemberS).Value != key.PK || item["sk"].(*types.AttributeValueMemberS).Value != key.SK {
			continue
		}
		for name, value := range attributes {
			if value == nil {
				delete(item, name)
			} else {
				item[name] = value
			}
		}
		_, err := w.direct.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &w.table, Item: item})
		if err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatalf("there is no item %v", key)
}

// SeedOwn stores n credentials of the user's own at a provider, behind everybody's back, with a
// cleartext that is as long as scopes.
func (w *World) SeedOwn(user, provider string, n int, scopes string) {
	w.t.Helper()
	var requests []types.WriteRequest
	for range n {
		key := store.CredentialKey(user, provider, credential.NewID())
		requests = append(requests, types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{
			"pk":              &types.AttributeValueMemberS{Value: key.PK},
			"sk":              &types.AttributeValueMemberS{Value: key.SK},
			"v":               &types.AttributeValueMemberN{Value: "1"},
			"type":            &types.AttributeValueMemberS{Value: string(credential.OAuth2)},
			"autogpt_managed": &types.AttributeValueMemberBOOL{Value: false},
			"scopes":          &types.AttributeValueMemberS{Value: scopes},
			"secret":          &types.AttributeValueMemberB{Value: []byte("sealed")},
		}}})
	}
	for batch := range slices.Chunk(requests, store.DeleteBatch) {
		out, err := w.direct.BatchWriteItem(context.Background(), &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{w.table: batch},
		})
		if err != nil || len(out.UnprocessedItems) > 0 {
			w.t.Fatalf("seeding credentials: %v", err)
		}
	}
}

// Key returns the user's stored key, decrypted.
func (w *World) Key(user string) credential.Secret {
	w.t.Helper()
	key, err := w.KeyAt(user, Provider)
	if err != nil {
		w.t.Fatalf("reading the stored key of %s: %v\n%s", user, err, w.Dump())
	}
	return key
}

// KeyAt returns the key that the user has stored at a provider, decrypted.
func (w *World) KeyAt(user, provider string) (credential.Secret, error) {
	id := credential.ManagedID(provider, user)
	sealed, err := w.Store.Sealed(context.Background(), user, provider, id)
	if err != nil {
		return credential.Secret{}, err
	}
	m, err := w.Sealer().Open(context.Background(), user, provider, id, sealed.Type, sealed.Open(), sealed.Ciphertext)
	if err != nil {
		return credential.Secret{}, err
	}
	return credential.NewSecret(strings.Trim(string(m.Fields()["api_key"]), `"`)), nil
}

// clientIDPrefix is what the client_ids begin with of a provider that goes for a third party of its
// own.
func clientIDPrefix(provider string) string {
	if provider == Provider {
		return ""
	}
	return provider + "."
}

// pods are those of the user at the provider.
func (w *World) pods(user, provider string) []fake.Pod {
	var all []fake.Pod
	for _, pod := range w.Mail.Pods() {
		if pod.ClientID == clientIDPrefix(provider)+user {
			all = append(all, pod)
		}
	}
	return all
}
