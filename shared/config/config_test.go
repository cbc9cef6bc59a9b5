package config_test

import (
	"encoding/pem"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/config"
	"managed-credentials/shared/local/standin"
)

// These tests change the process's environment, so that none of them runs beside another.

// read reads every variable once, and returns the error.
func read() error {
	e := config.Environ()
	e.Required("TABLE_NAME")
	e.Required("KMS_KEY_ID")
	e.Optional("USER_POOL_ID")
	e.Budget()
	e.Lease()
	e.Holdback()
	e.GoneFloor()
	e.GoneShare()
	e.UnknownAfter()
	e.DeletesUnknown()
	e.AuditEvery()
	e.AuditSegments()
	e.MaxKeyAge()
	e.LogLevel()
	e.SystemCredentials()
	e.SealOpenFields()
	e.Suspends()
	e.SuspendedKeysLive()
	e.MaxCredentials()
	e.BrandName()
	e.BrandLogoURL()
	e.BrandAccent()
	e.SupportURL()
	return e.Err()
}

// set gives each variable a good value, apart from those that are named here.
func set(t *testing.T, others map[string]string) {
	t.Helper()
	all := map[string]string{
		"TABLE_NAME": "credentials", "KMS_KEY_ID": "key", "USER_POOL_ID": "us-east-1_Example", "PROVISION_BUDGET": "2500ms", "LEASE": "1m30s",
		"LOG_LEVEL": "DEBUG", "SEAL_OPEN_FIELDS": "true", "SUSPENSION": "true", "SUSPENDED_KEYS_LIVE": "168h", "SYSTEM_CREDENTIALS": `{"openai": "Use Credits for OpenAI", "groq": ""}`,
		"MAX_CREDENTIALS": "7", "AUDIT_GONE_FLOOR": "5", "AUDIT_GONE_SHARE": "0.1", "DELETION_HOLDBACK": "24h",
		"AUDIT_UNKNOWN_AFTER": "48h", "AUDIT_DELETES_UNKNOWN": "true", "AUDIT_EVERY": "168h", "AUDIT_SEGMENTS": "16", "MAX_KEY_AGE": "2160h",
		"BRAND_NAME": "Acme", "BRAND_LOGO_URL": "https://acme.example/logo.svg", "BRAND_ACCENT": "#00a37a", "SUPPORT_URL": "mailto:help@acme.example",
	}
	maps.Copy(all, others)
	for name, value := range all {
		t.Setenv(name, value)
	}
}

func TestVariablesAreRead(t *testing.T) {
	set(t, nil)
	e := config.Environ()
	if e.Required("TABLE_NAME") != "credentials" || e.Optional("USER_POOL_ID") != "us-east-1_Example" {
		t.Error("a text was not read")
	}
	if e.Budget() != 2500*time.Millisecond || e.Lease() != 90*time.Second {
		t.Errorf("the budget is %v, the lease %v", e.Budget(), e.Lease())
	}
	if e.BrandName() != "Acme" || e.BrandLogoURL() != "https://acme.example/logo.svg" || e.BrandAccent() != "#00a37a" || e.SupportURL() != "mailto:help@acme.example" {
		t.Error("something of the brand was not read")
	}
	if !e.SealOpenFields() || !e.DeletesUnknown() || !e.Suspends() {
		t.Error("a switch was not read")
	}
	t.Setenv("AUDIT_EVERY", "never")
	if week, never := e.AuditEvery(), config.Environ().AuditEvery(); week != 0 || never != 0 {
		t.Errorf("never is every %v, %v", week, never)
	}
	if e.SuspendedKeysLive() != 7*24*time.Hour {
		t.Errorf("the keys of suspended users live for %v", e.SuspendedKeysLive())
	}
	if e.MaxKeyAge() != 90*24*time.Hour {
		t.Errorf("keys may have an age of %v", e.MaxKeyAge())
	}
	if e.MaxCredentials() != 7 {
		t.Errorf("a user may have %d credentials", e.MaxCredentials())
	}
	if e.LogLevel() != slog.LevelDebug {
		t.Errorf("the level is %v", e.LogLevel())
	}
	if !maps.Equal(e.SystemCredentials(), map[string]string{"openai": "Use Credits for OpenAI", "groq": ""}) {
		t.Errorf("the system credentials are %v", e.SystemCredentials())
	}
	if e.Err() != nil {
		t.Error(e.Err())
	}
}

func TestWhatIsNotSetHasItsDefault(t *testing.T) {
	set(t, map[string]string{"USER_POOL_ID": "", "PROVISION_BUDGET": "", "LEASE": "", "LOG_LEVEL": "", "SYSTEM_CREDENTIALS": "",
		"MAX_CREDENTIALS": "", "SEAL_OPEN_FIELDS": "", "SUSPENSION": "", "SUSPENDED_KEYS_LIVE": "", "AUDIT_GONE_FLOOR": "", "AUDIT_GONE_SHARE": "", "DELETION_HOLDBACK": "", "AUDIT_UNKNOWN_AFTER": "",
		"AUDIT_DELETES_UNKNOWN": "", "AUDIT_EVERY": "", "AUDIT_SEGMENTS": "", "MAX_KEY_AGE": ""})
	if held := config.Environ().Holdback(); held != 0 {
		t.Errorf("what is deleted is held back for %v", held)
	}
	e := config.Environ()
	if e.MaxCredentials() != 200 {
		t.Errorf("a user may have %d credentials", e.MaxCredentials())
	}
	if e.UnknownAfter() != 24*time.Hour || e.AuditEvery() != 24*time.Hour {
		t.Errorf("a user is unknown after %v, and audits are %v apart", e.UnknownAfter(), e.AuditEvery())
	}
	if e.MaxKeyAge() != 0 {
		t.Errorf("keys may have an age of %v", e.MaxKeyAge())
	}
	if e.GoneFloor() != 10 || e.GoneShare() != 0.02 {
		t.Errorf("an audit goes by %d and %v", e.GoneFloor(), e.GoneShare())
	}
	if e.SealOpenFields() || e.Suspends() || e.SuspendedKeysLive() != 0 || e.DeletesUnknown() || e.Optional("USER_POOL_ID") != "" || len(e.SystemCredentials()) != 0 || e.LogLevel() != slog.LevelInfo {
		t.Error("something has no default")
	}
	if e.Budget() != 5*time.Second || e.Lease() != time.Minute || e.Duration("NO_SUCH_VARIABLE", time.Hour) != time.Hour {
		t.Errorf("the budget is %v, the lease %v", e.Budget(), e.Lease())
	}
	if e.Err() != nil {
		t.Error(e.Err())
	}
}

func TestEachWrongVariableIsNamed(t *testing.T) {
	for name, values := range map[string][]string{
		"TABLE_NAME":            {""},
		"KMS_KEY_ID":            {""},
		"PROVISION_BUDGET":      {"5", "five", "0", "0s", "-5s", "5 s", " "},
		"LEASE":                 {"60", "-1m", "0h", "1d"},
		"MAX_CREDENTIALS":       {"many", "0", "-1", "1.5", " 1"},
		"DELETION_HOLDBACK":     {"30", "721h", "-1h", "0h", "30d"},
		"AUDIT_GONE_FLOOR":      {"many", "-1", "1.5", " 1"},
		"AUDIT_GONE_SHARE":      {"5%", "-0.1", "1.1", "NaN", " 0"},
		"AUDIT_DELETES_UNKNOWN": {"yes", "1", " true"},
		"AUDIT_SEGMENTS":        {"many", "0", "-1", "1.5", "65"},
		"AUDIT_EVERY":           {"24", "0h", "1d", "Never", "-1h"},
		"MAX_KEY_AGE":           {"90", "23h", "90d", "0h", "-48h", "never"},
		"SEAL_OPEN_FIELDS":      {"yes", "1", "TRUE", " true"},
		"SUSPENSION":            {"yes", "1", "TRUE", " true"},
		"SUSPENDED_KEYS_LIVE":   {"168", "59m", "7d", "0h", "-1h", "never"},
		"LOG_LEVEL":             {"LOUD", "5", " INFO"},
		"SYSTEM_CREDENTIALS":    {"openai", "[]", `"openai"`, `{"openai": 5}`, `{"openai": "a"`, `{"OpenAI": "a"}`, `{"": "a"}`, `{"open ai": "a", "openai": "b"}`},
	} {
		for _, value := range values {
			set(t, map[string]string{name: value})
			err := read()
			if err == nil || !strings.Contains(err.Error(), name) || strings.Count(err.Error(), "\n") != 0 {
				t.Errorf("%s=%q: got %v", name, value, err)
			}
		}
	}
}

func TestAllThatIsWrongIsNamedAtOnce(t *testing.T) {
	wrong := map[string]string{"TABLE_NAME": "", "KMS_KEY_ID": "", "PROVISION_BUDGET": "x", "LEASE": "x", "LOG_LEVEL": "x", "SYSTEM_CREDENTIALS": "x"}
	set(t, wrong)
	err := read()
	for name := range wrong {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named by %v", name, err)
		}
	}
}

func TestTheAWSConfigurationTakesTheStandardVariables(t *testing.T) {
	server := httptest.NewTLSServer(standin.NewSecrets(map[string]string{"keys": "{}"}))
	t.Cleanup(server.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	alone(t)
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.URL)
	t.Setenv("AWS_CA_BUNDLE", bundle)

	c, err := config.AWS(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	id := "keys"
	out, err := awssecrets.NewFromConfig(c).GetSecretValue(t.Context(), &awssecrets.GetSecretValueInput{SecretId: &id})
	if err != nil || *out.SecretString != "{}" {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestTheAWSConfigurationIsThatOfTheEnvironment(t *testing.T) {
	alone(t)
	for name, value := range map[string]string{
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_SESSION_TOKEN": "token", "AWS_MAX_ATTEMPTS": "7", "AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true",
		"AWS_ENDPOINT_URL": "http://all.example", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://one.example",
	} {
		t.Setenv(name, value)
	}
	c, err := config.AWS(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Credentials.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != "id" || got.SecretAccessKey != "secret" || got.SessionToken != "token" {
		t.Errorf("the credentials are %+v, %v", got, err)
	}
	one, other := awssecrets.NewFromConfig(c).Options(), awskms.NewFromConfig(c).Options()
	if *one.BaseEndpoint != "http://one.example" || *other.BaseEndpoint != "http://all.example" {
		t.Errorf("the endpoints are %s and %s", *one.BaseEndpoint, *other.BaseEndpoint)
	}
	if one.Region != "eu-central-1" || one.Retryer.MaxAttempts() != 7 {
		t.Errorf("%d tries in %s", one.Retryer.MaxAttempts(), one.Region)
	}
	if one.EndpointOptions.UseFIPSEndpoint != aws.FIPSEndpointStateEnabled || one.EndpointOptions.UseDualStackEndpoint != aws.DualStackEndpointStateEnabled {
		t.Errorf("the endpoints' options are %+v", one.EndpointOptions)
	}
}

func TestWithoutCredentialsNothingIsSent(t *testing.T) {
	alone(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	c, err := config.AWS(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Credentials.Retrieve(t.Context())
	if err == nil {
		t.Error("there are credentials")
	}
}

// alone keeps what stands in this machine's environment out of a test.
func alone(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": "", "AWS_ENDPOINT_URL": "", "AWS_MAX_ATTEMPTS": "", "AWS_SESSION_TOKEN": "",
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
	} {
		t.Setenv(name, value)
	}
}

// One exchange that hangs must leave time for a repeat.
func TestTheAWSConfigurationBoundsEachCall(t *testing.T) {
	alone(t)
	c, err := config.AWS(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client, ok := c.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		t.Fatalf("the HTTP client is a %T, which AWS_CA_BUNDLE does not reach", c.HTTPClient)
	}
	if client.GetTimeout() <= 0 || client.GetTimeout() > config.DefaultBudget || client.GetDialer().Timeout <= 0 || client.GetDialer().Timeout > client.GetTimeout() {
		t.Errorf("a call may take %v, and a connection %v", client.GetTimeout(), client.GetDialer().Timeout)
	}
}

func TestAnAWSConfigurationThatCannotBeLoadedIsAnError(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	err := os.WriteFile(empty, []byte("no certificate"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][2]string{
		{"AWS_CA_BUNDLE", filepath.Join(t.TempDir(), "missing.pem")}, {"AWS_CA_BUNDLE", empty}, {"AWS_MAX_ATTEMPTS", "many"}, {"AWS_MAX_ATTEMPTS", "0"},
	} {
		t.Run(strings.Join(wrong[:], "="), func(t *testing.T) {
			alone(t)
			t.Setenv(wrong[0], wrong[1])
			_, err := config.AWS(t.Context(), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), wrong[0]) {
				t.Errorf("got %v", err)
			}
		})
	}
}
