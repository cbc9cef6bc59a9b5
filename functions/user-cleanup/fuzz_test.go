package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed/managedtest"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

const poolID = "us-east-1_Example01" // that of events/

// statuses are all that an event alone may bring about, where it is one of API Gateway's.
var statuses = []int{202, 204, 400, 401, 404, 413, 422}

// FuzzEvent sends events to the whole function, on DynamoDB Local and the stand-in for Cognito.
func FuzzEvent(f *testing.F) {
	files, err := filepath.Glob("events/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no events", err)
	}
	for _, file := range files {
		event, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(compact(f, event))
	}
	for _, event := range []string{
		`null`, `[]`, ``, `{"user_id":7}`, `{"user_id":"HIDDEN_DUE_TO_SECURITY_REASONS"}`, "{\"user_id\":\"\xff\"}", `{"user_id":"\ud800"}`,
		`{"detail":null,"user_id":"a"}`, `{"detail":{},"user_id":"a"}`, `{"detail":[],"user_id":"a"}`, `{"triggerSource":"AccountDeletion"}`,
		`{"user_id":"a","user_id":"b"}`, `{"USER_ID":"a"}`, "{\"user_id\":\"a\\n\"}", `{"triggerSource":"PostDelete","userName":"A0000000-0000-4000-8000-000000000000"}`,
		`{"user_id":"` + strings.Repeat("😀", 256) + `"}`, `{"user_id":"` + strings.Repeat("a", 257) + `"}`,
	} {
		f.Add([]byte(event))
	}
	name, client := managedtest.Table(f)
	proxy := fault.New(aws.ToString(client.Options().BaseEndpoint))
	database := httptest.NewServer(proxy)
	f.Cleanup(database.Close)
	users := httptest.NewServer(standin.NewPool(standin.PoolConfig{UserPoolID: poolID}))
	f.Cleanup(users.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "LOG_LEVEL": "",
		"AWS_ENDPOINT_URL_DYNAMODB": database.URL, "TABLE_NAME": name, "ORG_KEYS_PREFIX": "org-keys/", "ORG_KEYS_SECRET_ID": "org-keys",
		"AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": users.URL, "USER_POOL_ID": poolID, "SUSPENSION": "true",
		"AGENTMAIL_BASE_URL": "", "AGENTMAIL_CLIENT_ID_PREFIX": "", "AGENTMAIL_PERMISSIONS": "", "LEASE": "",
	} {
		f.Setenv(name, value)
	}
	handler, err := wire(f.Context(), config.Environ(), slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}

	f.Fuzz(func(t *testing.T, event []byte) {
		proxy.Reset()
		answer, err := handler.Invoke(t.Context(), event)
		var call *smithy.OperationError
		if errors.As(err, &call) {
			t.Errorf("the event made a call fail: %v", err)
		}
		var response struct {
			StatusCode int
			result
			Response *result
		}
		if err == nil {
			err := json.Unmarshal(answer, &response)
			if response.Response != nil { // a trigger's
				response.result = *response.Response
			}
			if err != nil || response.Pending == nil && !slices.Contains(statuses, response.StatusCode) {
				t.Errorf("the answer is %s, %v", answer, err)
			}
		}
		for _, deleted := range tombstones(t, proxy) {
			if err != nil || response.Ignored != "" || deleted == hidden || !slices.ContainsFunc(texts(event), func(s string) bool {
				id, err := credential.UserID(s)
				return err == nil && id == deleted
			}) {
				t.Errorf("the account of %q was deleted, which the event does not name; the answer is %s, %v", deleted, answer, err)
			}
		}
	})
}

// compact takes the white space out of a sample, so that what is fuzzed is the rest.
func compact(f *testing.F, event []byte) []byte {
	f.Helper()
	var b bytes.Buffer
	err := json.Compact(&b, event)
	if err != nil {
		f.Fatal(err)
	}
	return b.Bytes()
}

// tombstones are the users whose tombstones were written.
func tombstones(t *testing.T, proxy *fault.Proxy) []string {
	t.Helper()
	var all []string
	for _, call := range proxy.Calls() {
		if call.Op != "PutItem" {
			continue
		}
		var put struct {
			Item map[string]struct{ S string }
		}
		err := json.Unmarshal(call.Body, &put)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(put.Item["pk"].S, "USER#"))
	}
	return all
}

// texts are all texts in an event, wherever they stand.
func texts(event []byte) []string {
	var all []string
	tokens := json.NewDecoder(bytes.NewReader(event))
	for {
		token, err := tokens.Token()
		if err != nil {
			return all
		}
		text, ok := token.(string)
		if ok {
			all = append(all, text)
		}
	}
}
