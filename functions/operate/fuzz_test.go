package main

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"managed-credentials/shared/config"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

// statuses are those of a refusal that an event alone may bring about.
var statuses = []int{404, 409, 422}

// FuzzEvent sends events to the whole function, on DynamoDB Local, the stand-in for Secrets
// Manager, a fake AgentMail and an empty queue.
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
		f.Add(event)
	}
	const force = `"command":"force","by":"me","reason":"gone"`
	for _, event := range []string{
		`null`, `[]`, ``, `{}`, `{"command":7}`, `{"command":"audit"}`, `{"command":"audit","provider":"agent_mail","cursor":"r:x"}`,
		`{` + force + `,"provider":"agent_mail","user_id":"` + strings.Repeat("a", 3000) + `"}`,
		`{` + force + `,"provider":"` + strings.Repeat("a", 3000) + `","user_id":"alice"}`,
		`{` + force + `,"provider":"A B","user_id":"\ud800"}`,
	} {
		f.Add([]byte(event))
	}
	name, client := managedtest.Table(f)
	agentMail := fake.New(fake.Config{})
	mail := httptest.NewServer(agentMail)
	f.Cleanup(func() { agentMail.Close(); mail.Close() })
	secrets := httptest.NewServer(standin.NewSecrets(map[string]string{"org-keys": `{"agent_mail":"` + fake.OrgKey + `"}`}))
	f.Cleanup(secrets.Close)
	const failed = "http://127.0.0.1/failed"
	queue := httptest.NewServer(standin.NewQueues(standin.QueuesConfig{Queues: []string{failed}}))
	f.Cleanup(queue.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "LOG_LEVEL": "", "LEASE": "",
		"AWS_ENDPOINT_URL_DYNAMODB": aws.ToString(client.Options().BaseEndpoint), "TABLE_NAME": name,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets.URL, "ORG_KEYS_PREFIX": "org-keys/", "ORG_KEYS_SECRET_ID": "org-keys",
		"AGENTMAIL_BASE_URL": mail.URL, "AGENTMAIL_CLIENT_ID_PREFIX": "", "AGENTMAIL_PERMISSIONS": "",
		"AWS_ENDPOINT_URL_SQS": queue.URL, "ACCOUNT_DELETIONS_FAILED_URL": failed, "USER_CLEANUP_FUNCTION": "user-cleanup",
	} {
		f.Setenv(name, value)
	}
	handler, err := wire(f.Context(), config.Environ(), slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}

	f.Fuzz(func(t *testing.T, event []byte) {
		answer, err := handler.Invoke(t.Context(), event)
		if err != nil {
			t.Fatalf("a function error: %v", err)
		}
		var refused gateway.Status
		err = json.Unmarshal(answer, &refused)
		if err != nil {
			t.Fatalf("the answer %s is not JSON: %v", answer, err)
		}
		if refused.Status != 0 && (!slices.Contains(statuses, refused.Status) || refused.Detail == "") {
			t.Errorf("the refusal is %s", answer)
		}
		if strings.Contains(string(answer), fake.OrgKey) {
			t.Errorf("the answer shows the org key: %s", answer)
		}
	})
}
