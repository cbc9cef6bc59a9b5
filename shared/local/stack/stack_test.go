package stack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, build)) }

// build builds the functions as they are now.
func build(dist string) error {
	deployed, err := template.Load(".")
	if err != nil {
		return err
	}
	for _, f := range deployed.Functions {
		build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", filepath.Join(dist, f.Name, "bootstrap"), "./functions/"+f.Name)
		build.Dir = "../../.."
		out, err := build.CombinedOutput()
		if err != nil {
			return fmt.Errorf("building %s: %w\n%s", f.Name, err, out)
		}
	}
	return nil
}

// call sends a request and checks its status.
func call(t *testing.T, method, url, token, body string, status int) (http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %d %s, want %d", method, url, resp.StatusCode, got, status)
	}
	return resp.Header, string(got)
}

func tokenFor(t *testing.T, s *stack.Stack, sub string) string {
	t.Helper()
	_, body := call(t, "POST", s.URL+"/local/token", "", `{"sub":"`+sub+`"}`, http.StatusOK)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err := json.Unmarshal([]byte(body), &answer)
	if err != nil {
		t.Fatal(err)
	}
	return answer.AccessToken
}

// The tour that `make run` prints.
func TestUserGetsACredentialAndLosesItWithTheAccount(t *testing.T) {
	t.Parallel()
	s, log := stacktest.Start(t, stack.Config{Faults: true})
	call(t, "GET", s.URL+"/credentials", "", "", http.StatusUnauthorized)
	token := tokenFor(t, s, "alice")

	header, body := call(t, "GET", s.URL+"/credentials", token, "", http.StatusOK)
	if header.Get("Managed-Credentials") != "agent_mail=ready" || !strings.Contains(body, `"autogpt_managed":true`) {
		t.Fatalf("the list is %s, with %v", body, header)
	}
	made := regexp.MustCompile(`CredentialsProvisioned</th>.*<td>1</td>`)
	for deadline := time.Now().Add(30 * time.Second); !made.MatchString(body); time.Sleep(10 * time.Millisecond) { // the log may be later than the answer
		if time.Now().After(deadline) {
			t.Fatalf("the dashboard does not show the credential that was made:\n%s", body)
		}
		_, body = call(t, "GET", s.URL+"/local/dashboard", "", "", http.StatusOK)
	}
	_, body = call(t, "POST", s.URL+"/local/resolve", "", `{"sub":"alice","provider":"agent_mail"}`, http.StatusOK)
	if !strings.Contains(body, `"api_key":"am_`) {
		t.Fatalf("resolved to %s", body)
	}
	system := fmt.Sprintf(`{"sub":"alice","provider":"openai","credential_id":%q}`, credential.SystemID("openai"))
	_, body = call(t, "POST", s.URL+"/local/resolve", "", system, http.StatusOK)
	if !strings.Contains(body, s.SystemKeys["openai"]) {
		t.Fatalf("resolved to %s, want %s", body, s.SystemKeys["openai"])
	}
	managed := s.URL + "/agent_mail/credentials/" + credential.ManagedID("agent_mail", "alice")
	call(t, "PUT", managed, token, `{"title":"mine"}`, http.StatusForbidden)
	call(t, "DELETE", managed, token, "", http.StatusForbidden)
	call(t, "POST", s.URL+"/local/reconcile", "", "", http.StatusOK)
	_, body = call(t, "GET", s.URL+"/config", "", "", http.StatusOK)
	if !strings.Contains(body, `"sign_in_as":"/local/token"`) {
		t.Fatalf("the page's configuration is %s", body)
	}

	call(t, "POST", s.URL+"/local/delete-user", "", `{"sub":"alice"}`, http.StatusOK)
	call(t, "GET", s.URL+"/credentials", token, "", http.StatusUnauthorized)
	call(t, "POST", s.URL+"/local/resolve", "", `{"sub":"alice","provider":"agent_mail"}`, http.StatusGone)
	if pods := s.AgentMail.Pods(); len(pods) > 0 {
		t.Fatalf("left at AgentMail: %+v", pods)
	}
	if n := strings.Count(log.String(), "[user-cleanup] "); n == 0 {
		t.Fatal("the log has nothing of user-cleanup")
	}
	s.Close()
	s.Close()
	if n := s.Faults.DynamoDB.Count("PutItem"); n != 1 {
		t.Fatalf("%d tombstones were put: the deletion has to be told of once", n)
	}
	_, err := http.Get(s.URL)
	if err == nil {
		t.Fatal("something answers after Close")
	}
}

// A user who is deleted in the pool, as in Cognito's console, is told of by an event that nobody
// waits for.
func TestDeletionInThePoolReachesUserCleanupBeforeCloseReturns(t *testing.T) {
	t.Parallel()
	s, _ := stacktest.Start(t, stack.Config{})
	token := tokenFor(t, s, "alice")
	call(t, "GET", s.URL+"/credentials", token, "", http.StatusOK)
	if len(s.AgentMail.Pods()) != 1 {
		t.Fatal("alice has no pod to begin with")
	}
	pool := cognitoidentityprovider.New(cognitoidentityprovider.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.CognitoURL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	_, err := pool.AdminDeleteUser(t.Context(), &cognitoidentityprovider.AdminDeleteUserInput{
		UserPoolId: &s.UserPoolID, Username: aws.String("alice"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if pods := s.AgentMail.Pods(); len(pods) > 0 {
		t.Fatalf("left at AgentMail: %+v", pods)
	}
}

// So is the disabling of a user, and the enabling.
func TestADisablingInThePoolReachesUserCleanupBeforeCloseReturns(t *testing.T) {
	t.Parallel()
	s, log := stacktest.Start(t, stack.Config{})
	token := tokenFor(t, s, "alice")
	call(t, "GET", s.URL+"/credentials", token, "", http.StatusOK)
	pool := cognitoidentityprovider.New(cognitoidentityprovider.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.CognitoURL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	_, err := pool.AdminDisableUser(t.Context(), &cognitoidentityprovider.AdminDisableUserInput{
		UserPoolId: &s.UserPoolID, Username: aws.String("alice"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if !strings.Contains(log.String(), `"reason":"disabled in the user pool","user":"alice"`) {
		t.Fatal("alice was not suspended")
	}
}

func TestFaultsStandInFrontOfEachService(t *testing.T) {
	t.Parallel()
	s, _ := stacktest.Start(t, stack.Config{Faults: true})
	token := tokenFor(t, s, "alice")
	call(t, "GET", s.URL+"/credentials", token, "", http.StatusOK)
	call(t, "DELETE", s.URL+"/account", token, "", http.StatusNoContent)
	for op, proxy := range map[string]*fault.Proxy{
		"Query":           s.Faults.DynamoDB,
		"Encrypt":         s.Faults.KMS,
		"GetSecretValue":  s.Faults.SecretsManager,
		"AdminDeleteUser": s.Faults.Cognito,
		"POST /v0/pods":   s.Faults.AgentMail,
	} {
		if proxy.Count(op) == 0 {
			t.Errorf("no %s came through its proxy", op)
		}
	}
	if s.AgentMail.Count(fake.CreateKey) != 1 {
		t.Errorf("%d keys were made", s.AgentMail.Count(fake.CreateKey))
	}
	s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault { return fault.AWSError(500, "InternalServerError", "") })
	call(t, "GET", s.URL+"/credentials", tokenFor(t, s, "bob"), "", http.StatusServiceUnavailable)
}

func TestScheduleInvokesReconcile(t *testing.T) {
	t.Parallel()
	s, log := stacktest.Start(t, stack.Config{ReconcileEvery: time.Millisecond, Faults: true, Env: map[string]string{"LOG_LEVEL": "DEBUG"}})
	due := make(chan struct{}, 1)
	s.Faults.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "Query" && bytes.Contains(c.Body, []byte(`"due"`)) {
			select {
			case due <- struct{}{}:
			default:
			}
		}
		return nil
	})
	select {
	case <-due:
	case <-time.After(30 * time.Second):
		t.Fatalf("reconcile did not ask for what is due:\n%s", log)
	}
}

func TestScheduleAudits(t *testing.T) {
	t.Parallel()
	s, log := stacktest.Start(t, stack.Config{AuditEvery: time.Millisecond, Faults: true})
	audited := make(chan struct{})
	audits := sync.OnceFunc(func() { close(audited) })
	s.Faults.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "GET /v0/pods" {
			audits()
		}
		return nil
	})
	select {
	case <-audited:
	case <-time.After(30 * time.Second):
		t.Fatalf("AgentMail's pods were not listed:\n%s", log)
	}
}

func TestFunctionThatDoesNotStartIsA500(t *testing.T) {
	t.Parallel()
	s, _ := stacktest.Start(t, stack.Config{Env: map[string]string{"LEASE": "no duration"}})
	token := tokenFor(t, s, "alice")
	_, body := call(t, "GET", s.URL+"/credentials", token, "", http.StatusInternalServerError)
	if strings.TrimSpace(body) != `{"message":"Internal Server Error"}` {
		t.Fatalf("body = %s", body)
	}
	_, err := s.Host.Invoke(t.Context(), "list-with-provision", []byte("{}"))
	var failed *lambda.FunctionError
	if !errors.As(err, &failed) || failed.Type != lambda.ExitError {
		t.Fatalf("err = %v", err)
	}
}

func TestStartSaysWhatIsMissingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*stack.Config)
		says   string
	}{
		"no binaries":   {func(c *stack.Config) { c.Dist = t.TempDir() }, "run `make build` first"},
		"key by ARN":    {func(c *stack.Config) { c.Env = map[string]string{"KMS_KEY_ID": "arn:aws:kms:us-east-1:1:key/2"} }, "KMS_KEY_ID"},
		"no JSON":       {func(c *stack.Config) { c.Env = map[string]string{"SYSTEM_CREDENTIALS": "openai"} }, "SYSTEM_CREDENTIALS"},
		"no table name": {func(c *stack.Config) { c.Env = map[string]string{"TABLE_NAME": "?"} }, "creating table ?"},
		"no repository": {func(c *stack.Config) { c.Dir = os.TempDir() }, "go.mod"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := stack.Config{Dist: stacktest.Dist, DynamoDB: stacktest.Database, Listener: listener}
		c.change(&cfg)
		_, err = stack.Start(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: err = %v, want one with %q", name, err, c.says)
		}
		err = listener.Close()
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener is still open", name)
		}
	}
}

func TestDatabaseThatEndsIsAFailure(t *testing.T) {
	if os.Getenv(dynamodb.Variable) != "" {
		t.Skip("the database is shared, and not the stack's to end")
	}
	s, err := stack.Start(t.Context(), stack.Config{Dist: stacktest.Dist, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.KillDatabase()
	select {
	case err := <-s.Failed():
		if !strings.Contains(err.Error(), "DynamoDB Local") {
			t.Fatalf("err = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody noticed")
	}
}
