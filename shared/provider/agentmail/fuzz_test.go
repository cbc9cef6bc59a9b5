package agentmail_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

// script is an AgentMail that answers each kind of call as it is told to.
type script struct {
	mu    sync.Mutex
	kinds map[string]reply
	// paths are those that were asked for, and more than maxAsked of them end the matter: a list
	// may name a next page for ever.
	paths []string
}

type reply struct {
	status int
	body   []byte
}

const maxAsked = 40

// play gives the script new answers and forgets what was asked for.
func (s *script) play(kinds map[string]reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds, s.paths = kinds, nil
}

func (s *script) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.paths)
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.paths = append(s.paths, r.URL.EscapedPath())
	kind := "other"
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v0/pods":
		kind = "pod"
	case r.Method == http.MethodPost:
		kind = "key"
	case r.Method == http.MethodGet:
		kind = "list"
	}
	answer := s.kinds[kind]
	if len(s.paths) > maxAsked {
		answer = reply{status: http.StatusForbidden}
	}
	s.mu.Unlock()
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body)
}

// classes are all that an error of a provider may have.
var classes = []managed.Class{managed.Transient, managed.Rejected, managed.Quota, managed.Permanent, managed.NotYet, managed.Gone, managed.RateLimited,
	managed.Foreign, managed.Mismatch}

func FuzzAnswers(f *testing.F) {
	const marker = "Zj7q" // stands in the seeds where AgentMail's answers have a secret
	const pod = `{"pod_id":"5d7a","client_id":"alice","organization_id":"0c1e","name":"alice-pod"}`
	const key = `{"api_key_id":"k1","pod_id":"5d7a","api_key":"am_us_Zj7q","name":"alice-agpt-managed.2"}`
	const list = `{"count":1,"api_keys":[{"api_key_id":"k0","name":"alice-agpt-managed.1","created_at":"2026-01-02T03:04:05Z"}],` +
		`"inboxes":[{"inbox_id":"a@agentmail.to"}],"domains":[],"webhooks":[],"pods":[` + pod + `],"scope_type":"organization","organization_id":"0c1e"}`
	f.Add(200, pod, 200, list, 200, key, 204)
	f.Add(200, pod, 200, list, 200, key, 404)
	f.Add(200, pod, 200, list, 200, `{"api_key_id":"k1","pod_id":"other","api_key":"am_us_Zj7q"}`, 409)
	f.Add(200, pod, 200, list, 200, `{"api_key_id":"k1","pod_id":"5d7a","api_key":{"am_us_Zj7q":1}}`, 204)
	f.Add(200, pod, 200, list, 200, `{"api_key_id":"k1","pod_id":"5d7a","api_key":"am_us_Zj7q`, 204)
	f.Add(200, pod, 200, list, 500, `{"code":"internal_error","message":"am_us_Zj7q"}`, 500)
	f.Add(200, pod, 200, list, 400, `{"code":"am_us_Zj7q"}`, 204)
	f.Add(200, `{"pod_id":"..","client_id":"alice","organization_id":"0c1e"}`, 200, list, 200, `{"api_key_id":"k1","pod_id":"..","api_key":"am_us_Zj7q"}`, 204)
	f.Add(200, pod, 200, `{"api_keys":[{"api_key_id":"..","name":"alice-agpt-managed.1"}],"inboxes":[{"inbox_id":".."}],"domains":[],"webhooks":[]}`, 200, key, 204)
	f.Add(200, pod, 200, `{"api_keys":[{"api_key_id":"../../..","name":"alice-agpt-managed.1"}]}`, 200, key, 204)
	f.Add(200, pod, 200, `{"api_keys":[],"inboxes":[],"next_page_token":"again"}`, 200, key, 204)
	f.Add(200, `{"pod_id":"0c1e","client_id":"alice","organization_id":"0c1e"}`, 200, list, 200, key, 204)
	f.Add(403, `{"message":"Forbidden"}`, 403, `{"code":"limit_exceeded"}`, 401, `{"message":"Unauthorized"}`, 401)
	f.Add(409, `{"code":"race_condition"}`, 429, ``, 302, ``, 503)
	f.Add(200, `null`, 200, `null`, 200, `null`, 200)

	var mail script
	server := httptest.NewServer(&mail)
	f.Cleanup(server.Close)
	provider, err := agentmail.New(agentmail.Config{BaseURL: server.URL})
	if err != nil {
		f.Fatal(err)
	}
	agentmail.Hurry(provider)

	f.Fuzz(func(t *testing.T, podStatus int, pod string, listStatus int, list string, keyStatus int, key string, otherStatus int) {
		play := func() {
			mail.play(map[string]reply{
				"pod": {status(podStatus), []byte(pod)}, "list": {status(listStatus), []byte(list)}, "key": {status(keyStatus), []byte(key)},
				"other": {status: status(otherStatus)},
			})
		}
		check := func(what string, err error) {
			t.Helper()
			for _, asked := range mail.asked() {
				// What is not clean is another path to a server that cleans it.
				if asked != path.Clean(asked) || asked != "/v0/auth/me" && asked != "/v0/pods" && !strings.HasPrefix(asked, "/v0/pods/") && !strings.HasPrefix(asked, "/v0/inboxes/") {
					t.Errorf("%s asked for %s", what, asked)
				}
			}
			if err == nil {
				return
			}
			var classed *managed.Error
			if !errors.As(err, &classed) || !slices.Contains(classes, classed.Class) {
				t.Errorf("%s: the error has no class: %v", what, err)
			}
			text := fmt.Sprintf("%v %+v %#v", err, err, err)
			if strings.Contains(text, fake.OrgKey) || strings.Contains(text, marker) && !strings.Contains(pod+list, marker) {
				t.Errorf("%s: the error shows a secret: %v", what, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		play()
		a := attempt(2, credential.Resource{}, true)
		grant, err := provider.Provision(ctx, orgKey, a)
		check("provision", err)
		r := grant.Resource
		switch {
		case err != nil && (!grant.Key.Empty() || r != credential.Resource{}):
			t.Errorf("an error came with a part of a grant: %+v", r)
		case err == nil && (r.ID == "" || r.KeyID == "" || r.OrgID == "" || r.ID == r.OrgID || r.ID != a.Resource().ID || !strings.HasPrefix(grant.Key.Reveal(), "am_")):
			t.Errorf("the grant cannot be: %+v", r)
		}

		play()
		check("sweep", provider.Sweep(ctx, orgKey, attempt(3, credential.Resource{ID: "5d7a", KeyID: "k1", OrgID: "0c1e"}, true)))
		play()
		check("deprovision", provider.Deprovision(ctx, orgKey, attempt(4, credential.Resource{ID: "5d7a", KeyID: "k1", OrgID: "0c1e"}, false)))
		play()
		check("deprovision by lookup", provider.Deprovision(ctx, orgKey, attempt(4, credential.Resource{}, true)))
		play()
		holdings, _, err := provider.Enumerate(ctx, orgKey, "")
		check("enumerate", err)
		for _, h := range holdings {
			if h.User != "" && !credential.ValidUserID(h.User) || h.Resource.ID == "" || h.Resource.OrgID == "" || h.Resource.ID == h.Resource.OrgID {
				t.Errorf("enumerated %+v", h)
			}
		}
		play()
		keys, err := provider.Inspect(ctx, orgKey, alice, credential.Resource{ID: "5d7a", OrgID: "0c1e"})
		check("inspect", err)
		for _, key := range keys {
			if key.ID == "" {
				t.Errorf("inspected %+v", key)
			}
		}
	})
}

// status makes a final status of any number.
func status(n int) int { return 200 + int(uint(n-200)%400) }
