// Package functions_test drives the service as its users do: the built functions, behind the local
// gateway, over HTTP.
package functions_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/proof/contract"
	"managed-credentials/shared/provider/agentmail"
)

// api is what all requests and answers are held to.
var api *contract.Contract

func TestMain(m *testing.M) {
	var err error
	api, err = contract.Load(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := stacktest.Main(m, nil)
	if code == 0 && wholeRun() {
		code = seenAll()
	}
	os.Exit(code)
}

// service is a running service as a test sees it.
type service struct {
	*stack.Stack
	t   *testing.T
	log *stacktest.Log
}

// start starts the service, with proxies that inject faults.
func start(t *testing.T, env map[string]string) *service {
	t.Helper()
	return startWith(t, stack.Config{Env: env})
}

func startWith(t *testing.T, cfg stack.Config) *service {
	t.Helper()
	cfg.Faults, cfg.Around = true, api.Around(func(err error) { t.Error(err) })
	s, log := stacktest.Start(t, cfg)
	return &service{Stack: s, t: t, log: log}
}

// logs reports whether the functions have written all of the texts, each on a line of its own or in
// one. A process's output is copied beside its answers, so that a line may come after the answer:
// logs waits for it.
func (s *service) logs(texts ...string) bool {
	return s.logsThat(func(log string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(log, text) })
	})
}

// logsThat is logs for what is more than a text.
func (s *service) logsThat(wanted func(log string) bool) bool {
	for deadline := time.Now().Add(30 * time.Second); !wanted(s.log.String()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a request. A token of "" sends none.
func (s *service) call(method, path, token, body string) answer {
	s.t.Helper()
	a, err := s.send(method, path, token, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *service) send(method, path, token, body string) (answer, error) {
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, strings.TrimSpace(string(data))}, err
}

// want fails the test unless the answer is this one; a body of "" is not compared.
func (a answer) want(t *testing.T, status int, body string) {
	t.Helper()
	if a.status != status || body != "" && a.body != body {
		t.Errorf("the answer is %d %s, not %d %s", a.status, a.body, status, body)
	}
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	err := json.Unmarshal([]byte(body), &v)
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// token is an access token for the user, as the local user pool gives it.
func (s *service) token(sub string) string {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"sub": sub})
	if err != nil {
		s.t.Fatal(err)
	}
	a := s.call("POST", "/local/token", "", string(body))
	a.want(s.t, http.StatusOK, "")
	return decode[map[string]string](s.t, a.body)["access_token"]
}

// list lists the user's credentials.
func (s *service) list(token string) []credential.Metadata {
	s.t.Helper()
	a := s.call("GET", "/credentials", token, "")
	a.want(s.t, http.StatusOK, "")
	return decode[[]credential.Metadata](s.t, a.body)
}

// create makes a credential of the user's own.
func (s *service) create(token, provider, body string) credential.Metadata {
	s.t.Helper()
	a := s.call("POST", "/"+provider+"/credentials", token, body)
	a.want(s.t, http.StatusCreated, "")
	return decode[credential.Metadata](s.t, a.body)
}

// resolve is what an executor gets of a user's managed credential, or of the one with the id if
// that is not "".
func (s *service) resolve(user, provider, id string) answer {
	s.t.Helper()
	request := map[string]string{"sub": user, "provider": provider}
	if id == "" {
		body, _ := json.Marshal(request)
		return s.call("POST", "/local/resolve", "", string(body))
	}
	event, _ := json.Marshal(map[string]string{"user_id": user, "provider": provider, "credential_id": id})
	out, err := s.Host.Invoke(s.t.Context(), "resolve-credential", event)
	if err != nil {
		s.t.Fatal(err)
	}
	refused := decode[struct{ Status int }](s.t, string(out))
	return answer{status: max(refused.Status, 200), body: string(out)}
}

// items is what the table holds of a user: the sort keys.
func (s *service) items(user string) []string { return stacktest.Items(s.t, s.Stack, user) }

// later makes all that the table notes of a user's time an hour's quarter older, as if that had
// passed.
func (s *service) later(user string) { stacktest.Later(s.t, s.Stack, user) }

// reconcileLater lets a round of reconcile run after all that the users wait for, and another for
// what that made due.
func (s *service) reconcileLater(users ...string) {
	s.t.Helper()
	for range 2 {
		for _, user := range users {
			s.later(user)
		}
		s.call("POST", "/local/reconcile", "", "").want(s.t, http.StatusOK, "")
	}
}

func ptr[T any](v T) *T { return &v }

const (
	alice = "5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11"
	bob   = "0d8a2c52-7e0c-4f5b-8d6e-2b6f4a1c9e77"
)

// notFound is the one 404.
const notFound = `{"detail":"Credentials not found"}`

func TestTheMainJob(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)

	// The list provisions a pod and a key scoped to it.
	first := s.call("GET", "/credentials", token, "")
	first.want(t, http.StatusOK, "")
	if got := first.header.Get("Managed-Credentials"); got != "agent_mail=ready" {
		t.Errorf("Managed-Credentials: %s", got)
	}
	all := decode[[]credential.Metadata](t, first.body)
	if len(all) != 2 || !all[0].Managed || all[0].Provider != agentmail.Name || *all[0].Title != "AgentMail (managed by AutoGPT)" || !all[1].System {
		t.Fatalf("the list is %s", first.body)
	}
	mine := all[0]
	pods := s.AgentMail.Pods()
	if len(pods) != 1 || len(pods[0].Keys) != 1 || pods[0].ClientID != alice || !strings.HasPrefix(pods[0].Name, alice+"-pod") {
		t.Fatalf("AgentMail has %+v", pods)
	}

	// The key works, in that pod and nowhere else.
	resolved := s.resolve(alice, agentmail.Name, "")
	resolved.want(t, http.StatusOK, "")
	secret := decode[struct {
		ID, Provider, Type string
		APIKey             string `json:"api_key"`
	}](t, resolved.body)
	if secret.ID != mine.ID || secret.Type != "api_key" {
		t.Errorf("resolve says %+v", secret)
	}
	req, err := http.NewRequest("GET", s.AgentMailURL+"/v0/auth/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	me, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	who := decode[map[string]string](t, string(me))
	if who["scope_type"] != "pod" || who["scope_id"] != pods[0].ID {
		t.Errorf("AgentMail says of the key: %s", me)
	}

	// The user sees it and cannot change it.
	path := "/" + agentmail.Name + "/credentials/" + mine.ID
	s.call("GET", path, token, "").want(t, http.StatusOK, "")
	s.call("PUT", path, token, `{"title":"x"}`).want(t, http.StatusForbidden, `{"detail":"AutoGPT-managed credentials cannot be updated"}`)
	s.call("DELETE", path, token, "").want(t, http.StatusForbidden, `{"detail":"AutoGPT-managed credentials cannot be deleted"}`)

	// Somebody else does not even see it.
	other := s.token(bob)
	s.call("GET", path, other, "").want(t, http.StatusNotFound, notFound)
	s.call("PUT", path, other, `{"title":"x"}`).want(t, http.StatusNotFound, notFound)
	s.call("DELETE", path, other, "").want(t, http.StatusNotFound, notFound)

	// The account goes, and nothing is left.
	s.call("POST", "/local/delete-user", "", `{"sub":"`+alice+`"}`).want(t, http.StatusOK, "")
	if left := s.AgentMail.Pods(); len(left) != 0 {
		t.Errorf("AgentMail still has %+v", left)
	}
	s.reconcileLater(alice)
	if left := s.items(alice); len(left) != 1 || left[0] != "ACCOUNT" {
		t.Errorf("the table still has %v", left)
	}
	s.call("GET", "/credentials", token, "").want(t, http.StatusUnauthorized, "")
	s.call("GET", path, token, "").want(t, http.StatusUnauthorized, "")
	s.call("POST", "/github/credentials", token, `{"type":"api_key","api_key":"x"}`).want(t, http.StatusUnauthorized, "")
	s.resolve(alice, agentmail.Name, "").want(t, http.StatusGone, `{"detail":"The account has been deleted"}`)
	if left := s.AgentMail.Pods(); len(left) != 0 {
		t.Errorf("something was provisioned for a deleted account: %+v", left)
	}
	if strings.Contains(s.log.String(), secret.APIKey) {
		t.Error("the key was logged")
	}
	if !s.logs(`"audit":true`) {
		t.Error("the release of the secret was not audited")
	}
}

func TestManyFirstListsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			a, err := s.send("GET", "/credentials", token, "")
			if err != nil || a.status != http.StatusOK || !strings.Contains(a.body, credential.ManagedID(agentmail.Name, alice)) {
				t.Errorf("%v %d %s", err, a.status, a.body)
			}
		})
	}
	all.Wait()
	if pods := s.AgentMail.Pods(); len(pods) != 1 || len(pods[0].Keys) != 1 {
		t.Errorf("AgentMail has %+v", pods)
	}
}

func TestAUsersOwnCredentialsOfEveryType(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	for _, c := range []struct{ name, body, metadata, resolved, change, changed string }{
		{
			"api_key", `{"type":"api_key","title":"one","api_key":"s3cret","expires_at":1893456000}`,
			`"type":"api_key","title":"one","scopes":null,"username":null,"host":null`,
			`"api_key":"s3cret","expires_at":1893456000,`,
			`{"api_key":"n3w","expires_at":null}`, `"api_key":"n3w","expires_at":null`,
		},
		{
			"oauth2", `{"type":"oauth2","access_token":"s3cret","scopes":["repo","user"],"username":"al"}`,
			`"type":"oauth2","title":null,"scopes":["repo","user"],"username":"al","host":null`,
			`"access_token":"s3cret","access_token_expires_at":null`,
			`{"type":"oauth2","access_token":"n3w","scopes":[],"username":null}`, `"access_token":"n3w"`,
		},
		{
			"user_password", `{"type":"user_password","title":"t","username":"al","password":"s3cret"}`,
			`"type":"user_password","title":"t","scopes":null,"username":null,"host":null`,
			`"password":"s3cret"`,
			`{"username":"bo","password":"n3w"}`, `"password":"n3w"`,
		},
		{
			"host_scoped", `{"type":"host_scoped","title":"t","host":"example.com","headers":{"X-Key":"s3cret"}}`,
			`"type":"host_scoped","title":"t","scopes":null,"username":null,"host":"example.com"`,
			`"headers":{"X-Key":"s3cret"}`,
			`{"host":"example.org","headers":{"X-Key":"n3w"}}`, `"headers":{"X-Key":"n3w"},"host":"example.org"`,
		},
	} {
		m := s.create(token, "github", c.body)
		path := "/github/credentials/" + m.ID
		got := s.call("GET", path, token, "")
		got.want(t, http.StatusOK, "")
		if !strings.HasPrefix(got.body, `{"id":"`+m.ID+`","provider":"github",`+c.metadata+`,"autogpt_managed":false,"is_system":false,`) {
			t.Errorf("%s is shown as %s", c.name, got.body)
		}
		if a := s.resolve(alice, "github", m.ID); !strings.Contains(a.body, c.resolved) {
			t.Errorf("%s resolves to %s", c.name, a.body)
		}
		renamed := s.call("PUT", path, token, `{"title":"renamed"}`)
		if renamed.status != http.StatusOK || *decode[credential.Metadata](t, renamed.body).Title != "renamed" {
			t.Errorf("renaming %s: %+v", c.name, renamed)
		}
		if a := s.resolve(alice, "github", m.ID); !strings.Contains(a.body, c.resolved) {
			t.Errorf("%s resolves to %s after renaming", c.name, a.body)
		}
		s.call("PUT", path, token, c.change).want(t, http.StatusOK, "")
		if a := s.resolve(alice, "github", m.ID); !strings.Contains(a.body, c.changed) || strings.Contains(a.body, "s3cret") {
			t.Errorf("%s resolves to %s after the change", c.name, a.body)
		}
		if list := s.call("GET", "/github/credentials", token, ""); strings.Contains(list.body, "n3w") || !strings.Contains(list.body, m.ID) {
			t.Errorf("the list is %s", list.body)
		}
		s.resolve(bob, "github", m.ID).want(t, http.StatusNotFound, "")
		s.call("DELETE", path, token, "").want(t, http.StatusOK, `{"deleted":true,"revoked":null}`)
		s.call("DELETE", path, token, "").want(t, http.StatusNotFound, "")
		s.resolve(alice, "github", m.ID).want(t, http.StatusNotFound, "")
	}
	s.call("GET", "/github/credentials", token, "").want(t, http.StatusOK, `[]`)
	if strings.Contains(s.log.String(), "s3cret") || strings.Contains(s.log.String(), "n3w") {
		t.Error("a secret was logged")
	}
}

func TestSystemCredentials(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"SYSTEM_CREDENTIALS": `{"openai":"Use Credits for OpenAI"}`})
	token := s.token(alice)
	id := credential.SystemID("openai")
	s.call("GET", "/openai/credentials", token, "").want(t, http.StatusOK,
		`[{"id":"`+id+`","provider":"openai","type":"api_key","title":"Use Credits for OpenAI","scopes":null,"username":null,"host":null,"autogpt_managed":false,"is_system":true,"created_at":null,"expires_at":null,"hint":null,"stored":null,"last_used_on":null,"is_managed":false}]`)
	s.call("GET", "/openai/credentials/"+id, token, "").want(t, http.StatusOK, "")
	s.call("GET", "/github/credentials/"+id, token, "").want(t, http.StatusNotFound, "")
	s.call("DELETE", "/openai/credentials/"+id, token, "").want(t, http.StatusForbidden, `{"detail":"System-managed credentials cannot be deleted"}`)
	s.call("DELETE", "/github/credentials/"+id, token, "").want(t, http.StatusForbidden, "")
	s.call("PUT", "/openai/credentials/"+id, token, `{"title":"x"}`).want(t, http.StatusForbidden, `{"detail":"System-managed credentials cannot be updated"}`)
	a := s.resolve(alice, "openai", id)
	if !strings.Contains(a.body, `"api_key":"`+s.SystemKeys["openai"]+`"`) {
		t.Errorf("resolve says %s", a.body)
	}
	s.call("DELETE", "/account", token, "")
	s.resolve(alice, "openai", id).want(t, http.StatusGone, "")
	s.call("GET", "/openai/credentials/"+id, token, "").want(t, http.StatusUnauthorized, "")
}
