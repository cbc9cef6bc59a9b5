package store_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// FuzzItem reads an account whose one item has any attributes: they come as DynamoDB would send
// them, in its JSON.
func FuzzItem(f *testing.F) {
	const slotSK, ownSK = "CRED#agent_mail#fab6152b-b3a1-5188-98f1-63f310fccc0f", "CRED#github#" + ownID
	const slotItem = `"v":{"N":"1"},"type":{"S":"api_key"},"title":{"S":"AgentMail"},"autogpt_managed":{"BOOL":true},"state":{"S":"ready"},` +
		`"attempt":{"N":"2"},"committed":{"N":"2"},"tries":{"N":"0"},"resource_id":{"S":"pod"},"key_id":{"S":"key"},"org_id":{"S":"org"}`
	const ownItem = `"v":{"N":"1"},"type":{"S":"oauth2"},"title":{"S":"Mine"},"autogpt_managed":{"BOOL":false},"scopes":{"S":"repo user"},"username":{"S":"al"}`
	for _, seed := range [][2]string{
		{slotSK, slotItem},
		{slotSK, slotItem + `,"owner":{"S":"w"},"lease_until":{"N":"1800000000000"},"due_at":{"N":"1800000000000"},"reason":{"S":"transient"}`},
		{slotSK, strings.Replace(slotItem, `"2"`, `"1e2"`, 1)},
		{slotSK, strings.Replace(slotItem, `"2"`, `"-2"`, 1)},
		{slotSK, strings.Replace(slotItem, `"committed":{"N":"2"}`, `"committed":{"N":"9223372036854775808"}`, 1)},
		{slotSK, strings.Replace(slotItem, `"ready"`, `"revoking"`, 1)},
		{slotSK, strings.Replace(slotItem, `"ready"`, `"unheard"`, 1)},
		{slotSK, strings.Replace(slotItem, `{"N":"1"}`, `{"N":"2"}`, 1)},
		{slotSK, ownItem},
		{ownSK, ownItem},
		{ownSK, slotItem},
		{ownSK, strings.Replace(ownItem, `{"S":"repo user"}`, `{"L":[{"S":"repo"}]}`, 1)},
		{ownSK, strings.Replace(ownItem, `"oauth2"`, `"ssh_key"`, 1)},
		{ownSK, strings.Replace(ownItem, `{"BOOL":false}`, `{"NULL":true}`, 1)},
		{ownSK, ``},
		{"ACCOUNT", `"v":{"N":"1"}`},
		{"CRED#", ownItem}, {"CRED##", ownItem}, {"CRED#GitHub#x", ownItem}, {"", ownItem}, {"PROFILE", ownItem},
	} {
		f.Add(seed[0], seed[1])
	}
	var stored atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer := `{"Count":1,"ScannedCount":1,"Items":[` + *stored.Load() + `]}`
		w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(answer))), 10))
		_, _ = w.Write([]byte(answer))
	}))
	f.Cleanup(server.Close)
	table := store.New(dynamodb.New(dynamodb.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	}), "credentials", nil)

	f.Fuzz(func(t *testing.T, sk, attributes string) {
		quoted, err := json.Marshal(sk)
		if err != nil {
			t.Fatal(err)
		}
		if attributes != "" {
			attributes += ","
		}
		item := fmt.Sprintf(`{%s"pk":{"S":"USER#%s"},"sk":{"S":%s}}`, attributes, user, quoted)
		if !json.Valid([]byte(item)) {
			return
		}
		stored.Store(&item)
		account, err := table.Account(t.Context(), user)
		if err != nil {
			return // it is no item that DynamoDB could send
		}
		found := len(account.Own) + len(account.Slots) + len(account.Unreadable)
		if account.Refused != nil {
			found++
		}
		if found != 1 {
			t.Errorf("one item was read as %+v", account)
		}
		for _, m := range account.Own {
			if !m.Type.Valid() || m.Managed || m.System || m.ID == credential.ManagedID(m.Provider, user) {
				t.Errorf("an own credential that cannot be: %+v", m)
			}
		}
		for name, s := range account.Slots {
			checkSlot(t, name, s)
		}
	})
}

// checkSlot checks that a slot is one that the protocol can have made.
func checkSlot(t *testing.T, name string, s store.Slot) {
	t.Helper()
	known := []store.State{store.Provisioning, store.Ready, store.Failed, store.Revoking, store.Parked, store.Retracting, store.Off}
	switch {
	case s.Provider != name, s.User != user, !credential.ValidProvider(s.Provider):
		t.Errorf("the slot is of %q at %q", s.User, s.Provider)
	case !slices.Contains(known, s.State), s.Attempt < 0, s.Tries < 0, s.Committed < 0, s.Committed > s.Attempt:
		t.Errorf("no slot can be like this: %+v", s)
	case s.LeaseUntil.UnixMilli() < 0 && !s.Settled(), s.DueAt.UnixMilli() < 0 && !s.DueAt.IsZero():
		t.Errorf("the times are before there was a table: %+v", s)
	}
}
