package functions_test

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
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

const ownKey = `{"type":"api_key","title":"Work","api_key":"s3cret"}`

// in is the service as a subtest sees it.
func (s *service) in(t *testing.T) *service { return &service{Stack: s.Stack, t: t, log: s.log} }

func TestAutoGPTsClientsFindWhatTheyRelyOn(t *testing.T) {
	t.Parallel()
	all := start(t, map[string]string{"SYSTEM_CREDENTIALS": `{"openai":"Use Credits for OpenAI"}`})
	for name, expectation := range map[string]func(t *testing.T, s *service, user, token string){
		"a list has the user's stored credentials first, then the system's": func(t *testing.T, s *service, _, token string) {
			s.create(token, "zzz", ownKey)
			s.create(token, "aaa", ownKey)
			var got []string
			for _, m := range s.list(token) {
				got = append(got, m.Provider)
			}
			if strings.Join(got, " ") != "aaa agent_mail zzz openai" {
				t.Errorf("the list is of %v", got)
			}
		},
		"the list of one provider has its credentials alone": func(t *testing.T, s *service, user, token string) {
			mine := s.create(token, "github", ownKey)
			for provider, id := range map[string]string{
				"github": mine.ID, "openai": credential.SystemID("openai"), agentmail.Name: credential.ManagedID(agentmail.Name, user),
			} {
				got := decode[[]credential.Metadata](t, s.call("GET", "/"+provider+"/credentials", token, "").body)
				if len(got) != 1 || got[0].ID != id || got[0].Provider != provider {
					t.Errorf("the list of %s is %+v", provider, got)
				}
			}
		},
		"a provider of whom there is nothing has an empty array": func(t *testing.T, s *service, _, token string) {
			s.call("GET", "/github/credentials", token, "").want(t, http.StatusOK, `[]`)
		},
		"a malformed provider is 422": func(t *testing.T, s *service, _, token string) {
			s.call("GET", "/Git-Hub/credentials", token, "").want(t, http.StatusUnprocessableEntity, `{"detail":"provider: must match [a-z0-9_]{1,64}; github is probably meant"}`)
		},
		"one credential is shown as the list shows it": func(t *testing.T, s *service, _, token string) {
			s.create(token, "github", `{"type":"oauth2","access_token":"x","username":"al","scopes":["repo"]}`)
			list := s.call("GET", "/credentials", token, "").body
			for _, m := range s.list(token) {
				one := s.call("GET", "/"+m.Provider+"/credentials/"+m.ID, token, "")
				one.want(t, http.StatusOK, "")
				if !strings.Contains(list, one.body) {
					t.Errorf("%s is not in %s", one.body, list)
				}
			}
		},
		"unknown, of another provider and somebody else's are one 404": func(t *testing.T, s *service, _, token string) {
			mine := s.create(token, "github", ownKey)
			theirs := s.create(s.token("somebody-else"), "github", ownKey)
			for _, path := range []string{
				"/github/credentials/" + credential.NewID(), "/gitlab/credentials/" + mine.ID, "/github/credentials/" + theirs.ID, "/github/credentials/x",
			} {
				for _, method := range []string{"GET", "DELETE"} {
					s.call(method, path, token, "").want(t, http.StatusNotFound, notFound)
				}
			}
		},
		"the path's provider wins over the body's": func(t *testing.T, s *service, _, token string) {
			a := s.call("POST", "/github/credentials", token,
				`{"id":"`+credential.NewID()+`","provider":"gitlab","type":"api_key","title":"Work","api_key":"x","expires_at":null,"autogpt_managed":false,"metadata":{}}`)
			a.want(t, http.StatusCreated, "")
			m := decode[credential.Metadata](t, a.body)
			s.call("GET", "/github/credentials/"+m.ID, token, "").want(t, http.StatusOK, a.body)
			s.call("GET", "/gitlab/credentials", token, "").want(t, http.StatusOK, `[]`)
		},
		"a deletion says that nothing was revoked": func(t *testing.T, s *service, _, token string) {
			mine := s.create(token, "github", ownKey)
			s.call("DELETE", "/github/credentials/"+mine.ID, token, "").want(t, http.StatusOK, `{"deleted":true,"revoked":null}`)
		},
		"a deletion is refused for a system id first": func(t *testing.T, s *service, _, token string) {
			for _, provider := range []string{"openai", "github", "Not-A-Provider"} {
				s.call("DELETE", "/"+provider+"/credentials/"+credential.SystemID("openai"), token, "").
					want(t, http.StatusForbidden, `{"detail":"System-managed credentials cannot be deleted"}`)
			}
		},
		"a deletion is refused as unknown before it is as managed": func(t *testing.T, s *service, user, token string) {
			s.list(token)
			id := credential.ManagedID(agentmail.Name, user)
			s.call("DELETE", "/github/credentials/"+id, token, "").want(t, http.StatusNotFound, notFound)
			s.call("DELETE", "/agent_mail/credentials/"+id, s.token("somebody-else"), "").want(t, http.StatusNotFound, notFound)
			s.call("DELETE", "/agent_mail/credentials/"+id, token, "").
				want(t, http.StatusForbidden, `{"detail":"AutoGPT-managed credentials cannot be deleted"}`)
		},
		"metadata has AutoGPT's fields, null where the type has none, and ours": func(t *testing.T, s *service, _, token string) {
			fields := []string{"autogpt_managed", "created_at", "expires_at", "hint", "host", "id", "is_managed", "is_system", "last_used_on", "provider", "scopes",
				"stored", "title", "type", "username"}
			for _, c := range []struct{ body, shown string }{
				{`{"type":"api_key","api_key":"s3cret"}`, ``},
				{`{"type":"oauth2","access_token":"s3cret","username":"al","scopes":["repo"]}`, `scopes username`},
				{`{"type":"user_password","username":"al","password":"s3cret"}`, ``},
				{`{"type":"host_scoped","host":"example.com","headers":{"X":"s3cret"}}`, `host`},
			} {
				m := decode[map[string]any](t, s.call("POST", "/github/credentials", token, c.body).body)
				var shown []string
				for _, name := range []string{"host", "scopes", "username"} {
					if m[name] != nil {
						shown = append(shown, name)
					}
				}
				if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, fields) || strings.Join(shown, " ") != c.shown {
					t.Errorf("%s is shown as %v", c.body, m)
				}
			}
		},
		"each type's secret parts reach the executor, and nobody else": func(t *testing.T, s *service, user, token string) {
			for _, c := range []struct{ kind, parts string }{
				{"api_key", `"api_key":"s3cret","expires_at":1893456000`},
				{"oauth2", `"access_token":"s3cret","access_token_expires_at":1893456000,"refresh_token":"s3cret2","refresh_token_expires_at":1893456001,"username":"al","scopes":["repo"]`},
				{"user_password", `"username":"s3cret","password":"s3cret2"`},
				{"host_scoped", `"host":"example.com","headers":{"A":"s3cret","B":"s3cret2"}`},
			} {
				a := s.call("POST", "/github/credentials", token, `{"type":"`+c.kind+`",`+c.parts+`}`)
				got := decode[map[string]any](t, s.resolve(user, "github", decode[credential.Metadata](t, a.body).ID).body)
				want := decode[map[string]any](t, `{`+c.parts+`}`)
				for name, value := range want {
					if !reflect.DeepEqual(got[name], value) {
						t.Errorf("%s: %s is %v", c.kind, name, got[name])
					}
				}
				if list := s.call("GET", "/credentials", token, "").body; strings.Contains(a.body+list, "s3cret") {
					t.Errorf("%s shows a secret: %s %s", c.kind, a.body, list)
				}
			}
		},
		"the managed AgentMail credential is AutoGPT's own": func(t *testing.T, s *service, user, token string) {
			m := s.list(token)[0]
			if m.Provider != "agent_mail" || m.Type != "api_key" || *m.Title != "AgentMail (managed by AutoGPT)" || !m.Managed || m.System {
				t.Errorf("it is %+v", m)
			}
			if a := s.resolve(user, "agent_mail", ""); !strings.Contains(a.body, `"expires_at":null`) {
				t.Errorf("resolve says %s", a.body)
			}
			// Its pages read is_managed, its first drafts read autogpt_managed.
			if list := s.call("GET", "/credentials", token, "").body; !strings.Contains(list, `"is_managed":true`) || !strings.Contains(list, `"autogpt_managed":true`) {
				t.Errorf("the list is %s", list)
			}
			pod, _ := s.AgentMail.Pod(user)
			if !strings.HasPrefix(pod.Name, user+"-pod") || len(pod.Keys) != 1 || !strings.HasPrefix(pod.Keys[0].Name, user+"-agpt-managed") {
				t.Errorf("AgentMail has %+v", pod)
			}
		},
		"a platform that moves over keeps its pods, and the keys in use there": func(t *testing.T, s *service, user, token string) {
			had := s.AgentMail.SeedPod(fake.Pod{ClientID: user, Name: user + "-pod", Keys: []fake.Key{{Name: user + "-agpt-managed"}}})
			s.list(token)
			pod, _ := s.AgentMail.Pod(user)
			if pod.ID != had.ID || len(pod.Keys) != 2 || pod.Keys[0].ID != had.Keys[0].ID {
				t.Errorf("AgentMail had %+v and has %+v", had, pod)
			}
		},
		"system credentials are everybody's, and stored for nobody": func(t *testing.T, s *service, user, token string) {
			for _, who := range []string{token, s.token("somebody-else")} {
				list := s.list(who)
				last := list[len(list)-1]
				if last.ID != credential.SystemID("openai") || *last.Title != "Use Credits for OpenAI" || !last.System {
					t.Errorf("the list ends with %+v", last)
				}
			}
			if items := s.items(user); len(items) != 1 || !strings.HasPrefix(items[0], "CRED#agent_mail#") {
				t.Errorf("the table has %v", items)
			}
		},
		"nobody forges a managed credential": func(t *testing.T, s *service, user, token string) {
			for _, flag := range []string{`"autogpt_managed":true`, `"is_managed":true`, `"autogpt_managed":false,"is_managed":true`} {
				s.call("POST", "/agent_mail/credentials", token,
					`{"type":"api_key","api_key":"x",`+flag+`,"metadata":{"pod_id":"x"}}`).want(t, http.StatusForbidden, "")
			}
			if items := s.items(user); len(items) != 0 {
				t.Errorf("the table has %v", items)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := all.in(t)
			user := credential.NewID()
			expectation(t, s, user, s.token(user))
		})
	}
}

func TestTheHolesOfAutoGPTsManagedCredentialsAreClosed(t *testing.T) {
	t.Parallel()
	t.Run("a crash after the key was made has no later list make another", func(t *testing.T) {
		t.Parallel()
		s := start(t, nil)
		token := s.token(alice)
		s.list(s.token(bob)) // which gives the deployment its id
		s.Faults.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op != "UpdateItem" { // the commit
				return nil
			}
			s.Host.Kill("list-with-provision")
			return fault.Drop()
		})
		s.call("GET", "/credentials", token, "").want(t, http.StatusInternalServerError, "")
		s.Faults.DynamoDB.SetHook(nil)
		for range 3 {
			a := s.call("GET", "/credentials", token, "")
			if got := a.header.Get("Managed-Credentials"); got != "agent_mail=provisioning" {
				t.Errorf("Managed-Credentials: %s", got)
			}
		}
		if n := s.AgentMail.Count(fake.CreateKey); n != 2 { // bob's, and alice's
			t.Errorf("AgentMail was asked for %d keys", n)
		}
	})
	t.Run("a provider that is slower than the budget is asked for one key", func(t *testing.T) {
		t.Parallel()
		s := start(t, map[string]string{"PROVISION_BUDGET": "1s"})
		token := s.token(alice)
		s.AgentMail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.After(fault.For(10*time.Second), nil)})
		for range 3 {
			s.list(token)
		}
		if n := s.AgentMail.Count(fake.CreateKey); n != 1 {
			t.Errorf("AgentMail was asked for %d keys", n)
		}
	})
	t.Run("a lost answer to the create of a key is not followed by a second create", func(t *testing.T) {
		t.Parallel()
		s := start(t, nil)
		s.AgentMail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.LoseAnswer()})
		s.list(s.token(alice))
		if n := s.AgentMail.Count(fake.CreateKey); n != 1 {
			t.Errorf("AgentMail was asked for %d keys", n)
		}
	})
	t.Run("an account's pod goes after its keys and inboxes, without which AgentMail refuses it", func(t *testing.T) {
		t.Parallel()
		s := start(t, nil)
		token := s.token(alice)
		s.list(token)
		s.AgentMail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
		s.call("DELETE", "/account", token, "").want(t, http.StatusNoContent, "")
		if pods := s.AgentMail.Pods(); len(pods) != 0 {
			t.Errorf("AgentMail has %+v", pods)
		}
		var refused []string // the first try, which learns of the inbox by that
		for _, r := range s.AgentMail.Requests() {
			if r.Status == http.StatusConflict {
				refused = append(refused, r.Operation)
			}
		}
		if !slices.Equal(refused, []string{fake.DeletePod}) {
			t.Errorf("AgentMail refused %v", refused)
		}
	})
	t.Run("a provider that is down is not tried by each list", func(t *testing.T) {
		t.Parallel()
		s := start(t, nil)
		token := s.token(alice)
		s.AgentMail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Status(http.StatusServiceUnavailable)})
		s.list(token)
		before := s.AgentMail.Count(fake.CreatePod)
		for range 3 {
			s.list(token)
		}
		if n := s.AgentMail.Count(fake.CreatePod); before == 0 || n != before {
			t.Errorf("AgentMail was asked for a pod %d times, then %d times", before, n)
		}
	})
	t.Run("a secret that cannot be decrypted costs nothing but itself", func(t *testing.T) {
		t.Parallel()
		s := start(t, nil)
		token := s.token(alice)
		broken, whole := s.create(token, "github", ownKey), s.create(token, "github", ownKey)
		key := map[string]types.AttributeValue{
			"pk": &types.AttributeValueMemberS{Value: "USER#" + alice}, "sk": &types.AttributeValueMemberS{Value: "CRED#github#" + broken.ID},
		}
		_, err := s.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName: &s.Table, Key: key, UpdateExpression: ptr("SET secret = :s"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":s": &types.AttributeValueMemberB{Value: []byte("broken")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.call("POST", "/local/resolve", "", `{"sub":"`+alice+`","provider":"github","credential_id":"`+broken.ID+`"}`).want(t, http.StatusBadGateway, "")
		if list := s.call("GET", "/github/credentials", token, ""); !strings.Contains(list.body, broken.ID) || !strings.Contains(list.body, whole.ID) {
			t.Errorf("the list is %s", list.body)
		}
		s.call("PUT", "/github/credentials/"+broken.ID, token, `{"title":"renamed"}`).want(t, http.StatusOK, "")
		item, err := s.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &s.Table, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if secret := item.Item["secret"].(*types.AttributeValueMemberB).Value; string(secret) != "broken" {
			t.Errorf("what could not be read was written over with %q", secret)
		}
		s.resolve(alice, "github", whole.ID).want(t, http.StatusOK, "")
	})
}
