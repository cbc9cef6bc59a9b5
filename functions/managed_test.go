package functions_test

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// removable lets users have their managed credential removed and its key replaced, and onDemand
// makes it for who asks, too.
var (
	removable = map[string]string{"MANAGED_PROVIDERS": `{"agent_mail":{"mode":"auto","opt_out":true,"replace":"0s"}}`}
	onDemand  = map[string]string{"MANAGED_PROVIDERS": `{"agent_mail":{"mode":"on_demand","opt_out":true}}`}
)

// onManaged are the routes by which users say what becomes of a managed credential.
var onManaged = map[string]string{"PUT": "/managed", "DELETE": "/managed", "POST": "/managed/replace"}

// wantsRetry fails the test unless the answer says when to ask again.
func (a answer) wantsRetry(t *testing.T) {
	t.Helper()
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 1 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
}

func TestAManagedCredentialOnDemandIsMadeAndRemovedOverTheAPI(t *testing.T) {
	t.Parallel()
	s := start(t, onDemand)
	token := s.token(alice)
	stands := func(want string) {
		t.Helper()
		a := s.call("GET", "/credentials", token, "")
		a.want(t, http.StatusOK, "")
		if got := a.header.Get("Managed-Credentials"); got != want {
			t.Errorf("the header is %q, not %q", got, want)
		}
	}
	stands("agent_mail=offered")
	s.call("DELETE", "/agent_mail/managed", token, "").want(t, http.StatusNotFound, "")
	a := s.call("PUT", "/agent_mail/managed", token, "")
	a.want(t, http.StatusOK, "")
	made := decode[credential.Metadata](t, a.body)
	if !made.Managed || made.ID != credential.ManagedID(agentmail.Name, alice) {
		t.Errorf("made is %+v", made)
	}
	stands("agent_mail=ready;removable")
	s.resolve(alice, agentmail.Name, "").want(t, http.StatusOK, "")

	a = s.call("DELETE", "/agent_mail/managed", token, "")
	a.want(t, http.StatusAccepted, `{"provider":"agent_mail","state":"retracting","retry_at":null,"detail":"It is being removed."}`)
	a.wantsRetry(t)
	s.resolve(alice, agentmail.Name, "").want(t, http.StatusConflict, "")
	s.call("GET", "/agent_mail/credentials/"+made.ID, token, "").want(t, http.StatusNotFound, "")
	stands("agent_mail=retracting")
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	s.reconcileLater(alice)
	s.call("DELETE", "/agent_mail/managed", token, "").want(t, http.StatusNoContent, "")
	if pods := s.AgentMail.Pods(); len(pods) != 0 {
		t.Errorf("left is %+v", pods)
	}
	stands("agent_mail=offered")

	s.call("PUT", "/agent_mail/managed", token, "").want(t, http.StatusOK, "")
	s.call("DELETE", "/agent_mail/managed", token, "").want(t, http.StatusAccepted, "")
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	s.reconcileLater(alice)
	a = s.call("PUT", "/agent_mail/managed", token, "")
	a.want(t, http.StatusTooManyRequests, "")
	a.wantsRetry(t)

	s.call("DELETE", "/account", token, "").want(t, http.StatusNoContent, "")
	s.call("PUT", "/agent_mail/managed", token, "").want(t, http.StatusUnauthorized, "")
	s.call("DELETE", "/agent_mail/managed", token, "").want(t, http.StatusUnauthorized, "")
}

func TestWhatNobodyOffersOrMayRemoveIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	s.list(token)
	s.call("PUT", "/github/managed", token, "").want(t, http.StatusNotFound, `{"detail":"No managed credential is offered there."}`)
	s.call("DELETE", "/agent_mail/managed", token, "").
		want(t, http.StatusForbidden, `{"detail":"This managed credential cannot be removed."}`)
	s.call("POST", "/agent_mail/managed/replace", token, "").want(t, http.StatusNotFound, `{"detail":"No managed credential is offered there."}`)
	for method, path := range onManaged {
		s.call(method, "/Git%20Hub"+path, token, "").
			want(t, http.StatusUnprocessableEntity, `{"detail":"provider: must match [a-z0-9_]{1,64}; github is probably meant"}`)
	}
}

func TestAManagedCredentialThatIsNotThereYetSaysHowItStands(t *testing.T) {
	t.Parallel()
	s := start(t, removable)
	id := s.AgentMail.Inject(fault.Rule{Op: fake.CreateKey, About: alice, Fault: fake.Status(http.StatusBadRequest)})
	s.list(s.token(alice))
	a := s.call("PUT", "/agent_mail/managed", s.token(alice), "")
	a.want(t, http.StatusAccepted, "")
	a.wantsRetry(t)
	if !strings.HasPrefix(a.body, `{"provider":"agent_mail","state":"failed","retry_at":1`) {
		t.Errorf("the answer is %s", a.body)
	}
	s.AgentMail.RemoveFault(id)

	// While one request makes it, another one does not take it away.
	id = s.AgentMail.Inject(fault.Rule{Op: fake.CreatePod, About: bob, Fault: fault.Hold(nil)})
	done := make(chan answer)
	go func() {
		a, _ := s.send("GET", "/credentials", s.token(bob), "")
		done <- a
	}()
	for a.status = http.StatusNotFound; a.status == http.StatusNotFound; time.Sleep(time.Millisecond) { // until it is claimed
		a = s.call("DELETE", "/agent_mail/managed", s.token(bob), "")
	}
	s.AgentMail.RemoveFault(id)
	a.want(t, http.StatusConflict, `{"provider":"agent_mail","state":"provisioning","retry_at":null,"detail":"It is being set up."}`)
	a.wantsRetry(t)
	<-done
}

func TestAManagedCredentialWithoutItsTableIs503(t *testing.T) {
	t.Parallel()
	s := start(t, removable)
	token := s.token(alice)
	s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault {
		return fault.Respond(http.StatusBadRequest, nil, []byte(`{"__type":"AccessDeniedException"}`))
	})
	for method, path := range onManaged {
		a := s.call(method, "/agent_mail"+path, token, "")
		a.want(t, http.StatusServiceUnavailable, "")
		a.wantsRetry(t)
	}
}

func TestAKeyIsReplacedOverTheAPI(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"MANAGED_PROVIDERS": `{"agent_mail":{"mode":"auto","replace":"1h"}}`})
	token := s.token(alice)
	replace := func() answer { return s.call("POST", "/agent_mail/managed/replace", token, "") }
	stands := func(pattern string) {
		t.Helper()
		a := s.call("GET", "/credentials", token, "")
		a.want(t, http.StatusOK, "")
		if got := a.header.Get("Managed-Credentials"); !regexp.MustCompile("^agent_mail=ready" + pattern + "$").MatchString(got) {
			t.Errorf("the header is %q, not like %q", got, pattern)
		}
	}
	replace().want(t, http.StatusNotFound, `{"detail":"Credentials not found"}`)
	stands(";replaceable=3600")
	before := decode[map[string]any](t, s.resolve(alice, agentmail.Name, "").body)
	a := replace()
	a.want(t, http.StatusAccepted, `{"provider":"agent_mail","state":"ready","retry_at":null,"detail":"Another key is being made. The one that you have works until then."}`)
	a.wantsRetry(t)
	stands(";replacing")
	a = replace()
	a.want(t, http.StatusConflict, `{"provider":"agent_mail","state":"ready","retry_at":null,"detail":"This key is being replaced already. Please wait a minute or two until that is done."}`)
	a.wantsRetry(t)
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	stands(";retire_at=[0-9]+")
	a = replace()
	a.want(t, http.StatusConflict, "")
	a.wantsRetry(t)
	now := decode[map[string]any](t, s.resolve(alice, agentmail.Name, "").body)
	if now["id"] != before["id"] || now["api_key"] == before["api_key"] || now["retiring_attempt"] != before["attempt"] {
		t.Errorf("before it was %v, and now it is %v", before["attempt"], now["attempt"])
	}
	s.call("DELETE", "/account", token, "")
	replace().want(t, http.StatusUnauthorized, "")
}

func TestReplacingAKeyAgainHasAPauseThatSaysUntilWhen(t *testing.T) {
	t.Parallel()
	s := start(t, removable)
	token := s.token(alice)
	s.list(token)
	s.call("POST", "/agent_mail/managed/replace", token, "").want(t, http.StatusAccepted, "")
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	var a answer
	for a.status = http.StatusConflict; a.status == http.StatusConflict; { // until the old key has gone
		s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
		a = s.call("POST", "/agent_mail/managed/replace", token, "")
	}
	a.want(t, http.StatusTooManyRequests, "")
	a.wantsRetry(t)
	if !strings.HasPrefix(a.body, `{"provider":"agent_mail","state":"ready","retry_at":1`) {
		t.Errorf("the answer is %s", a.body)
	}
}

// A platform may take a provider out, and leave what users have there in the table.
func TestACredentialOfAProviderThatIsOffIsGivenToNobody(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	s.list(token)
	slot := store.SlotKey(alice, agentmail.Name)
	read, err := s.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &s.Table, Key: map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: slot.PK}, "sk": &types.AttributeValueMemberS{Value: slot.SK},
	}})
	if err != nil || read.Item == nil {
		t.Fatal(err)
	}
	for _, provider := range []string{"open_router", "nobody_knows"} {
		read.Item["sk"] = &types.AttributeValueMemberS{Value: store.SlotKey(alice, provider).SK}
		_, err = s.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &s.Table, Item: read.Item})
		if err != nil {
			t.Fatal(err)
		}
		if all := s.list(token); len(all) != 2 || slices.ContainsFunc(all, func(m credential.Metadata) bool { return m.Provider == provider }) {
			t.Errorf("the list is %+v", all) // AgentMail's, and the system's
		}
		id := credential.ManagedID(provider, alice)
		s.call("GET", "/"+provider+"/credentials/"+id, token, "").want(t, http.StatusNotFound, "")
		s.resolve(alice, provider, "").want(t, http.StatusNotFound, `{"detail":"Credentials not found"}`)
		report := `{"user_id":"` + alice + `","provider":"` + provider + `","rejected_attempt":1}`
		out, err := s.Host.Invoke(t.Context(), "resolve-credential", []byte(report))
		if err != nil || string(out) != `{"status":404,"detail":"Credentials not found"}` {
			t.Errorf("a report gets %s, %v", out, err)
		}
		own := s.create(token, provider, `{"type":"api_key","api_key":"not-a-real-key","title":"Mine"}`)
		s.resolve(alice, provider, own.ID).want(t, http.StatusOK, "")
		s.call("DELETE", "/"+provider+"/credentials/"+own.ID, token, "").want(t, http.StatusOK, "")
	}
}

func TestAKeyThatDoesNotWorkIsSaidToItsUserAndToExecutors(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	id := s.list(token)[0].ID
	stands := func(want string, unusable any) {
		t.Helper()
		got := s.call("GET", "/credentials", token, "").header.Get("Managed-Credentials")
		key := decode[map[string]any](t, s.resolve(alice, agentmail.Name, "").body)
		if got != want || key["unusable"] != unusable || key["api_key"] == "" {
			t.Errorf("the header is %q, and an executor gets unusable: %v", got, key["unusable"])
		}
	}
	stands("agent_mail=ready", nil)
	s.setAttribute(alice, agentmail.Name, id, "reason", store.ReasonUnusable)
	stands("agent_mail=ready;unusable", true)
}
