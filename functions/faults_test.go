package functions_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestATableThatFailsIs503WithRetryAfter(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	mine := s.create(token, "github", `{"type":"api_key","api_key":"s3cret"}`)
	path := "/github/credentials/" + mine.ID
	s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault { return fault.Throttled() })
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/credentials", ""}, {"GET", "/github/credentials", ""}, {"GET", path, ""}, {"POST", "/github/credentials", `{"type":"api_key","api_key":"s3cret"}`},
		{"PUT", path, `{"title":"x"}`}, {"DELETE", path, ""}, {"DELETE", "/account", ""},
	} {
		a := s.call(c.method, c.path, token, c.body)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "Throughput") {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
	}
	s.resolve(alice, "github", "").want(t, http.StatusBadGateway, "")
	s.Faults.DynamoDB.SetHook(nil)
	s.call("GET", path, token, "").want(t, http.StatusOK, "")
}

func TestKMSThatFails(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	mine := s.create(token, "github", `{"type":"api_key","api_key":"s3cret"}`)
	s.Faults.KMS.SetHook(func(*fault.Call) fault.Fault {
		return fault.AWSError(http.StatusInternalServerError, "KMSInternalException", "")
	})
	s.call("POST", "/github/credentials", token, `{"type":"api_key","api_key":"s3cret"}`).want(t, http.StatusServiceUnavailable, "")
	s.call("PUT", "/github/credentials/"+mine.ID, token, `{"api_key":"s3cret"}`).want(t, http.StatusServiceUnavailable, "")
	s.call("PUT", "/github/credentials/"+mine.ID, token, `{"title":"no call to KMS"}`).want(t, http.StatusOK, "")
	a := s.call("GET", "/credentials", token, "")
	a.want(t, http.StatusOK, "")
	if got := a.header.Get("Managed-Credentials"); !strings.HasPrefix(got, "agent_mail=failed;retry_at=") {
		t.Errorf("Managed-Credentials: %s", got)
	}
	out := s.resolve(alice, agentmail.Name, "")
	out.want(t, http.StatusConflict, "")
	if strings.Contains(s.log.String(), "s3cret") {
		t.Error("a secret was logged")
	}
}

func TestACiphertextThatWasMovedToAnotherUserDoesNotDecrypt(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	mine := s.create(s.token(alice), "github", `{"type":"api_key","api_key":"s3cret"}`)
	item, err := s.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &s.Table, Key: map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: "USER#" + alice}, "sk": &types.AttributeValueMemberS{Value: "CRED#github#" + mine.ID},
	}})
	if err != nil {
		t.Fatal(err)
	}
	item.Item["pk"] = &types.AttributeValueMemberS{Value: "USER#" + bob}
	_, err = s.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &s.Table, Item: item.Item})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Host.Invoke(t.Context(), "resolve-credential",
		[]byte(`{"user_id":"`+bob+`","provider":"github","credential_id":"`+mine.ID+`"}`))
	if err == nil {
		t.Errorf("resolve says %s", out)
	}
}

func TestASecondListCostsOneQueryAndNoOtherCall(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	proxies := []*fault.Proxy{s.Faults.DynamoDB, s.Faults.KMS, s.Faults.SecretsManager, s.Faults.AgentMail, s.Faults.Cognito}
	count := func() string {
		var all []string
		for _, p := range proxies {
			for _, c := range p.Calls() {
				all = append(all, c.Op)
			}
			p.Reset()
		}
		return strings.Join(all, " ")
	}
	s.list(token)
	pod, _ := s.AgentMail.Pod(alice)
	if got := count(); got != "Query TransactWriteItems BatchGetItem UpdateItem UpdateItem UpdateItem Encrypt GetSecretValue POST /v0/pods POST /v0/pods/"+pod.ID+"/api-keys" {
		t.Errorf("the first list: %s", got)
	}
	s.list(token)
	if got := count(); got != "Query" {
		t.Errorf("the second list: %s", got)
	}
	s.call("GET", "/agent_mail/credentials/"+credential.ManagedID(agentmail.Name, alice), token, "").want(t, http.StatusOK, "")
	if got := count(); got != "BatchGetItem" {
		t.Errorf("get: %s", got)
	}
	s.resolve(alice, agentmail.Name, "").want(t, http.StatusOK, "")
	if got := count(); got != "BatchGetItem UpdateItem Decrypt" {
		t.Errorf("the first resolve of a day: %s", got)
	}
	s.resolve(alice, agentmail.Name, "").want(t, http.StatusOK, "")
	if got := count(); got != "BatchGetItem Decrypt" {
		t.Errorf("the second resolve: %s", got)
	}
	mine := s.create(token, "github", `{"type":"api_key","api_key":"x"}`)
	if got := count(); got != "Query TransactWriteItems Encrypt" {
		t.Errorf("create: %s", got)
	}
	path := "/github/credentials/" + mine.ID
	s.call("PUT", path, token, `{"title":"x"}`)
	if got := count(); got != "TransactWriteItems BatchGetItem" {
		t.Errorf("rename: %s", got)
	}
	s.call("PUT", path, token, `{"api_key":"x"}`)
	if got := count(); got != "TransactWriteItems BatchGetItem Encrypt" {
		t.Errorf("replace: %s", got)
	}
	s.call("DELETE", path, token, "")
	if got := count(); got != "TransactWriteItems" {
		t.Errorf("delete: %s", got)
	}
}

func TestAProviderThatIsDownDoesNotFailAList(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.AgentMail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Status(http.StatusServiceUnavailable)})
	a := s.call("GET", "/credentials", s.token(alice), "")
	a.want(t, http.StatusOK, "")
	if got := a.header.Get("Managed-Credentials"); !strings.HasPrefix(got, "agent_mail=failed;retry_at=") {
		t.Errorf("Managed-Credentials: %s", got)
	}
}

func TestDeletingAnAccount(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	s.list(token)
	s.create(token, "github", `{"type":"api_key","api_key":"x"}`)
	s.AgentMail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	s.AgentMail.SetSwitches(fake.Switches{InboxDeletion: time.Hour})
	a := s.call("DELETE", "/account", token, "")
	a.want(t, http.StatusAccepted, "")
	left := decode[struct {
		Pending []struct {
			Provider, State string
			RetryAt         int64 `json:"retry_at"`
		}
	}](t, a.body).Pending
	if len(left) != 1 || left[0].Provider != agentmail.Name || left[0].State != "revoking" || left[0].RetryAt < time.Now().Unix() {
		t.Errorf("pending: %s", a.body)
	}
	s.call("DELETE", "/account", token, "").want(t, http.StatusAccepted, "")
	if items := s.items(alice); len(items) != 2 {
		t.Errorf("the table has %v", items)
	}
	if s.Faults.Cognito.Count("AdminDeleteUser") != 1 {
		t.Errorf("Cognito was called %d times", s.Faults.Cognito.Count("AdminDeleteUser"))
	}
	other := s.token(bob)
	s.list(other)
	s.call("DELETE", "/account", other, "").want(t, http.StatusNoContent, "")
	s.call("DELETE", "/account", other, "").want(t, http.StatusNoContent, "")
	s.reconcileLater(bob)
	if items := s.items(bob); len(items) != 1 || items[0] != "ACCOUNT" {
		t.Errorf("the table has %v", items)
	}
}

// What a round has left is told after each, also when there is nothing.
func TestReconcileTellsWhatIsStillDue(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	for _, kind := range []string{"live", "dead"} {
		if !s.logs(`"WorkDue":0,`, `"OldestWork":0,`, `"kind":"`+kind+`"`) {
			t.Errorf("nothing is told of %s", kind)
		}
	}
	s.AgentMail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Status(http.StatusServiceUnavailable)})
	s.call("GET", "/credentials", s.token(alice), "").want(t, http.StatusOK, "")
	s.later(alice)
	s.Faults.DynamoDB.SetHook(func(c *fault.Call) fault.Fault { // so that the round cannot work on it
		if c.Op != "Query" || !strings.Contains(string(c.Body), `"Limit":100`) {
			return nil
		}
		return fault.Respond(http.StatusBadRequest, nil, []byte(`{"__type":"AccessDeniedException"}`))
	})
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusBadGateway, "")
	if !s.logs(`"WorkDue":1,`) || !s.logsThat(func(log string) bool { return oldestWork.MatchString(log) }) {
		t.Error("what is due is not told")
	}
}

// oldestWork is what is due for ten minutes and more.
var oldestWork = regexp.MustCompile(`"OldestWork":[6-9]\d\d,`)
