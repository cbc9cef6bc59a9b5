package main

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/uuid"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/store"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }

const marker = "Zj7q" // stands for a secret in the seeds

// statuses are all that a body alone may bring about.
var statuses = []int{201, 403, 413, 422}

// FuzzBody sends bodies to the whole function, on DynamoDB Local and the stand-in for KMS.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"type":"api_key","title":"t","api_key":"Zj7q","expires_at":7}`,
		`{"type":"oauth2","access_token":"Zj7q","refresh_token":"Zj7q","username":"","scopes":["repo","user"]}`,
		`{"type":"oauth2","access_token":"Zj7q","scopes":[]}`,
		`{"type":"user_password","title":"","username":"al","password":"Zj7q"}`,
		`{"type":"host_scoped","host":"example.com","headers":{"X-Key":"Zj7q","":""}}`,
		`{"type":"api_key","api_key":"Zj7q","title":"` + strings.Repeat("t", 256) + `"}`,
		`{"type":"api_key","api_key":"` + strings.Repeat("Zj7q", 1100) + `"}`,
		`{"type":"oauth2","access_token":"Zj7q","scopes":["` + strings.Repeat("s", 60_000) + `"]}`,
		`{"type":"api_key","api_key":{"Zj7q":"Zj7q"}}`, `{"type":"api_key","api_key":"Zj7q","expires_at":"Zj7q"}`,
		`{"autogpt_managed":true,"type":"api_key","api_key":"Zj7q"}`, `{`, ``, `null`, "\"\xff\"",
	} {
		f.Add(body)
	}
	name, client := managedtest.Table(f)
	keys := httptest.NewServer(standin.NewKMS(standin.Key{ID: "key"}))
	f.Cleanup(keys.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "LOG_LEVEL": "",
		"AWS_ENDPOINT_URL_DYNAMODB": aws.ToString(client.Options().BaseEndpoint), "TABLE_NAME": name,
		"AWS_ENDPOINT_URL_KMS": keys.URL, "KMS_KEY_ID": "key",
	} {
		f.Setenv(name, value)
	}
	handler, err := wire(f.Context(), config.Environ(), slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	table := store.New(client, name, nil)
	sample, err := os.ReadFile(filepath.Join("events", "api-key.json"))
	if err != nil {
		f.Fatal(err)
	}

	f.Fuzz(func(t *testing.T, body string) {
		var e events.APIGatewayV2HTTPRequest
		err := json.Unmarshal(sample, &e)
		if err != nil {
			t.Fatal(err)
		}
		e.Body, e.IsBase64Encoded = body, false
		user := uuid.NewString() // each has requests and room of their own
		e.RequestContext.Authorizer.JWT.Claims["sub"] = user
		event, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := handler.Invoke(t.Context(), event)
		if err != nil {
			t.Fatal(err)
		}
		var answer events.APIGatewayV2HTTPResponse
		err = json.Unmarshal(raw, &answer)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(statuses, answer.StatusCode) {
			t.Fatalf("the answer is %d %s", answer.StatusCode, answer.Body)
		}
		if answer.StatusCode != 201 {
			if strings.Contains(answer.Body, marker) {
				t.Errorf("the refusal shows a secret: %s", answer.Body)
			}
			return
		}
		var made credential.Metadata
		err = json.Unmarshal([]byte(answer.Body), &made)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := table.Get(t.Context(), user, made.Provider, made.ID)
		made.Revision = stored.Revision // it is a header of the answer
		if err != nil || !reflect.DeepEqual(stored, made) {
			t.Errorf("the answer was %+v, the table has %+v, %v", made, stored, err)
		}
	})
}
