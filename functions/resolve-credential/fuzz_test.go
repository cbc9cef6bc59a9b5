package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

const (
	alice, alicesKey = "5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11", "Zj7q-alice" // the user and the credential of events/by-id.json
	expiredID        = "0d3b6f1e-1f0a-4c8e-9f43-0d7d9a1c2e56"
	aliceID          = "0b9f3f0e-6f3a-4f4e-8a3b-1c2d3e4f5a6b"
	bob, bobsKey     = "bob", "Zj7q-bob"
	bobID            = "8a3e5f0e-6f3a-4f4e-8a3b-1c2d3e4f5a6b"
	systemKey        = "Zj7q-system"
)

// statuses are those of an answer without a secret that an event alone may bring about.
var statuses = []int{404, 409, 410, 422}

// FuzzEvent sends events to the whole function, on DynamoDB Local and the stand-ins for KMS and
// Secrets Manager.
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
	for _, event := range []string{
		`{"user_id":"bob","provider":"github","credential_id":"` + bobID + `"}`, `{"user_id":"bob","provider":"github","credential_id":"` + aliceID + `"}`,
		`{"user_id":"bob","provider":"openai","credential_id":"` + credential.SystemID("openai") + `"}`, `{"user_id":"nobody","provider":"github"}`,
		`{"USER_ID":"bob","user_id":"","provider":"github"}`, `{"user_id":"` + alice + `","user_id":"bob","provider":"github","credential_id":"` + bobID + `"}`,
		`{"user_id":"` + strings.ToUpper(alice) + `","provider":"github","credential_id":"` + aliceID + `"}`, `{"user_id":7}`, `{"user_id":"bob","provider":"github","rejected_attempt":1}`,
		`{"user_id":"bob","provider":"github","rejected_attempt":1.5}`, `null`, `[]`, ``, "{\"user_id\":\"\xff\",\"provider\":\"github\"}",
	} {
		f.Add([]byte(event))
	}
	handler := serve(f, slog.New(slog.DiscardHandler))

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
		released := map[string]bool{alice: bytes.Contains(answer, []byte(alicesKey)), bob: bytes.Contains(answer, []byte(bobsKey))}
		if refused.Status != 0 {
			if !slices.Contains(statuses, refused.Status) || refused.Detail == "" || bytes.Contains(answer, []byte("Zj7q")) {
				t.Errorf("the refusal is %s", answer)
			}
			return
		}
		var asked map[string]any
		err = json.Unmarshal(bytes.TrimPrefix(event, []byte("\ufeff")), &asked)
		if err != nil {
			t.Fatalf("what is no request was granted: %s", answer)
		}
		asker, _ := asked["user_id"].(string) // the last one, if there are two: then nothing may be granted
		for user, yes := range released {
			if yes && strings.ToLower(asker) != user {
				t.Errorf("%q got the secret of %s", asker, user)
			}
		}
	})
}

// serve wires the function up with a table that has a credential of alice's and one of bob's.
func serve(tb testing.TB, log *slog.Logger) lambda.Handler {
	tb.Helper()
	name, client := managedtest.Table(tb)
	keys := httptest.NewServer(standin.NewKMS(standin.Key{ID: "key"}))
	tb.Cleanup(keys.Close)
	secrets := httptest.NewServer(standin.NewSecrets(map[string]string{"system": `{"openai":"` + systemKey + `"}`}))
	tb.Cleanup(secrets.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "LOG_LEVEL": "",
		"AWS_ENDPOINT_URL_DYNAMODB": aws.ToString(client.Options().BaseEndpoint), "TABLE_NAME": name,
		"AWS_ENDPOINT_URL_KMS": keys.URL, "KMS_KEY_ID": "key",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets.URL, "SYSTEM_KEYS_SECRET_ID": "system", "SYSTEM_CREDENTIALS": `{"openai":"Credits"}`,
	} {
		tb.Setenv(name, value)
	}
	cfg, err := config.AWS(tb.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range [][3]string{{alice, aliceID, alicesKey}, {bob, bobID, bobsKey}, {alice, expiredID, alicesKey}} {
		material := credential.APIKeyMaterial(credential.NewSecret(c[2]))
		if c[1] == expiredID {
			material = material.Expiring(time.Now().Add(-time.Second))
		}
		m := credential.Metadata{ID: c[1], Provider: "github", Type: credential.APIKey}
		sealed, err := seal.New(awskms.NewFromConfig(cfg), "key").Seal(tb.Context(), c[0], m.Provider, m.ID, material)
		if err != nil {
			tb.Fatal(err)
		}
		_, err = store.New(client, name, nil).Create(tb.Context(), c[0], m, sealed)
		if err != nil {
			tb.Fatal(err)
		}
	}
	handler, err := wire(tb.Context(), config.Environ(), log)
	if err != nil {
		tb.Fatal(err)
	}
	return handler
}

func TestAnExpiredCredentialIsNotReleased(t *testing.T) {
	handler := serve(t, slog.New(slog.DiscardHandler))
	answer, err := handler.Invoke(t.Context(), []byte(`{"user_id":"`+alice+`","provider":"github","credential_id":"`+expiredID+`"}`))
	if err != nil || string(answer) != `{"status":409,"detail":"The credential has expired: its user has to replace it"}` {
		t.Errorf("the answer is %s, %v", answer, err)
	}
}

// A table that takes no writes keeps no executor from its credential, and that is counted.
func TestAUseThatCannotBeNotedReleasesTheSecret(t *testing.T) {
	name, client := managedtest.Table(t)
	table := fault.New(aws.ToString(client.Options().BaseEndpoint))
	table.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "UpdateItem" {
			return fault.Respond(http.StatusBadRequest, nil, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException"}`))
		}
		return nil
	})
	proxied := httptest.NewServer(table)
	t.Cleanup(proxied.Close)
	var counted bytes.Buffer
	c := store.Sealed{Metadata: credential.Metadata{ID: aliceID, Provider: "github"}}
	f := &function{
		table: store.New(store.Client(aws.Config{
			Region: "us-east-1", BaseEndpoint: &proxied.URL, Credentials: client.Options().Credentials,
		}), name, nil),
		log: slog.New(slog.DiscardHandler), metrics: telemetry.NewMetrics(&counted),
	}
	f.noteUse(t.Context(), alice, c)
	if !strings.Contains(counted.String(), `"UsesNotNoted":1`) {
		t.Errorf("counted is %s", &counted)
	}
	counted.Reset()
	c.System = true
	f.noteUse(t.Context(), alice, c)
	if counted.Len() > 0 || table.Count("UpdateItem") != 1 {
		t.Error("of a system credential a use is noted")
	}
}

// full is a log that can be written to no more.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestNoSecretIsReleasedWithoutARecord(t *testing.T) {
	handler := serve(t, telemetry.Logger(full{}, slog.LevelDebug))
	for _, event := range []string{
		`{"user_id":"` + alice + `","provider":"github","credential_id":"` + aliceID + `"}`,
		`{"user_id":"bob","provider":"openai","credential_id":"` + credential.SystemID("openai") + `"}`,
	} {
		answer, err := handler.Invoke(t.Context(), []byte(event))
		if answer != nil || err == nil || !strings.Contains(err.Error(), "writing the audit line") {
			t.Errorf("%s: %d bytes were handed out, %v", event, len(answer), err)
		}
	}
}
