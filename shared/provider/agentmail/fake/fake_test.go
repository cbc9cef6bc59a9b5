package fake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/provider/agentmail/fake"
)

// patience bounds what would otherwise hang. No test takes anything like it.
const patience = 30 * time.Second

// clock is a time that only moves when told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// service is a fake behind a real listener, and somebody who calls it.
type service struct {
	*fake.Server
	t   *testing.T
	url string
	key string
}

func start(t *testing.T, config fake.Config) service {
	t.Helper()
	f := fake.New(config)
	ts := httptest.NewServer(f)
	t.Cleanup(func() {
		f.Close()
		ts.Close()
	})
	return service{Server: f, t: t, url: ts.URL, key: fake.OrgKey}
}

// as is the same service, called with another key.
func (s service) as(key string) service {
	s.key = key
	return s
}

// response is an answer, its body decoded.
type response struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (r response) text(member string) string {
	text, _ := r.body[member].(string)
	return text
}

// items are the objects in a list's answer.
func (r response) items(member string) []map[string]any {
	var items []map[string]any
	list, _ := r.body[member].([]any)
	for _, item := range list {
		items = append(items, item.(map[string]any))
	}
	return items
}

func (s service) send(ctx context.Context, method, path, body string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if s.key != "" {
		req.Header.Set("Authorization", "Bearer "+s.key)
	}
	// Each request has a connection of its own, lest Go repeat one whose connection was dropped.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, err
	}
	r := response{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	_ = json.Unmarshal(raw, &r.body) // some bodies are no JSON on purpose
	return r, nil
}

// do sends a request that has to be answered.
func (s service) do(method, path, body string) response {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := s.send(ctx, method, path, body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// want sends a request that has to be answered with a status.
func (s service) want(status int, method, path, body string) response {
	s.t.Helper()
	r := s.do(method, path, body)
	if r.status != status {
		s.t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, status, r.raw)
	}
	return r
}

// wantCode sends a request that the API has to refuse.
func (s service) wantCode(status int, code, method, path, body string) response {
	s.t.Helper()
	r := s.want(status, method, path, body)
	if r.text("code") != code {
		s.t.Fatalf("%s %s: code %q, want %q: %s", method, path, r.text("code"), code, r.raw)
	}
	return r
}

// pod creates a pod and returns its path.
func (s service) pod(clientID string) string {
	s.t.Helper()
	r := s.want(200, "POST", "/v0/pods", `{"client_id":"`+clientID+`"}`)
	return "/v0/pods/" + r.text("pod_id")
}

// newKey creates a key of a pod and returns its id and secret.
func (s service) newKey(pod, body string) (id, secret string) {
	s.t.Helper()
	r := s.want(200, "POST", pod+"/api-keys", body)
	return r.text("api_key_id"), r.text("api_key")
}

var uuids = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func TestANewPodHasTheDocumentedMembers(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{Now: newClock().Now})
	r := s.want(200, "POST", "/v0/pods", `{"name":"n","client_id":"c"}`)
	if !uuids.MatchString(r.text("pod_id")) {
		t.Errorf("pod_id %q is no UUID", r.text("pod_id"))
	}
	delete(r.body, "pod_id")
	want := map[string]any{
		"organization_id": fake.OrganizationID, "name": "n", "client_id": "c",
		"created_at": "2026-10-01T12:00:00.000Z", "updated_at": "2026-10-01T12:00:00.000Z",
	}
	equal(t, r.body, want)
}

func TestAPodNeedsNoBody(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	for _, body := range []string{"", "{}", ` { "unknown": 1 } `} {
		r := s.want(200, "POST", "/v0/pods", body)
		if r.text("name") != "My Pod" {
			t.Errorf("body %q: name %q", body, r.text("name"))
		}
		if _, present := r.body["client_id"]; present {
			t.Errorf("body %q: an absent client_id was sent as %v", body, r.body["client_id"])
		}
	}
	if n := len(s.Pods()); n != 3 {
		t.Errorf("%d pods, want one for each request", n)
	}
}

func TestARepeatedClientIDReturnsTheOriginalPod(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	first := s.want(200, "POST", "/v0/pods", `{"name":"first","client_id":"c"}`)
	again := s.want(200, "POST", "/v0/pods", `{"name":"second","client_id":"c"}`)
	equal(t, again.body, first.body)

	s.AcceptOrgKey("another-organisation", "11111111-1111-4111-8111-111111111111")
	elsewhere := s.as("another-organisation").want(200, "POST", "/v0/pods", `{"client_id":"c"}`)
	if elsewhere.text("pod_id") == first.text("pod_id") {
		t.Error("a client_id reached into another organisation")
	}
}

func TestDeletingAPodFreesItsClientID(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	first := s.pod("c")
	r := s.want(204, "DELETE", first, "")
	if r.raw != "" {
		t.Errorf("204 with body %q", r.raw)
	}
	s.wantCode(404, "not_found", "GET", first, "")
	s.wantCode(404, "not_found", "DELETE", first, "")
	if second := s.pod("c"); second == first {
		t.Error("the deleted pod came back")
	}
}

func TestClientIDsAreValidated(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	for id, status := range map[string]int{
		"a":                      200,
		"AZaz09-._~":             200,
		strings.Repeat("x", 256): 200,
		"":                       400,
		strings.Repeat("x", 257): 400,
		"a b":                    400,
		"a|b":                    400,
		"auth0|1":                400,
		"a/b":                    400,
		"ü":                      400,
		"a\n":                    400,
	} {
		body, err := json.Marshal(map[string]string{"client_id": id})
		if err != nil {
			t.Fatal(err)
		}
		r := s.do("POST", "/v0/pods", string(body))
		if r.status != status {
			t.Errorf("client_id %q: status %d, want %d", id, r.status, status)
		}
	}
}

func TestAPodIsDeletableOnlyOnceItHoldsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, body, id string }{
		{"api-keys", `{"name":"k"}`, "api_key_id"},
		{"inboxes", `{"username":"u"}`, "inbox_id"},
		{"domains", `{"domain":"example.com"}`, "domain_id"},
		{"webhooks", `{"url":"https://example.com/hook"}`, "webhook_id"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			s := start(t, fake.Config{})
			pod := s.pod("c")
			held := s.want(200, "POST", pod+"/"+c.kind, c.body)
			s.wantCode(409, "cannot_delete", "DELETE", pod, "")
			s.want(200, "GET", pod, "") // nothing cascaded

			path := pod + "/" + c.kind + "/" + strings.ReplaceAll(held.text(c.id), "@", "%40")
			deleted := s.do("DELETE", path, "")
			if want := map[bool]int{true: 202, false: 204}[c.kind == "inboxes"]; deleted.status != want {
				t.Errorf("DELETE %s: status %d, want %d", path, deleted.status, want)
			}
			s.wantCode(404, "not_found", "DELETE", path, "")
			s.want(204, "DELETE", pod, "")
		})
	}
}

func TestAPublicKeyHoldsAPodAndCanBeDeleted(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	seeded := s.SeedPod(fake.Pod{ClientID: "c", Keys: []fake.Key{{Name: "sign-in", Type: "public_key"}}})
	pod := "/v0/pods/" + seeded.ID
	listed := s.want(200, "GET", pod+"/api-keys", "").items("api_keys")
	if len(listed) != 1 || listed[0]["type"] != "public_key" || listed[0]["prefix"] != nil {
		t.Fatalf("listed as %v", listed)
	}
	s.wantCode(409, "cannot_delete", "DELETE", pod, "")
	s.want(204, "DELETE", pod+"/api-keys/"+seeded.Keys[0].ID, "")
	s.want(204, "DELETE", pod, "")
}

func TestTheDefaultPodIsListedAndNeverDeletable(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pods := s.want(200, "GET", "/v0/pods", "").items("pods")
	if len(pods) != 1 || pods[0]["pod_id"] != fake.OrganizationID || pods[0]["name"] != "Default Pod" {
		t.Fatalf("a new organisation has pods %v", pods)
	}
	s.wantCode(409, "cannot_delete", "DELETE", "/v0/pods/"+fake.OrganizationID, "")
}

func TestWebhooksMayNotBlock(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{Switches: fake.Switches{WebhooksDoNotBlock: true}})
	pod := s.pod("c")
	s.want(200, "POST", pod+"/webhooks", `{"url":"https://example.com/hook"}`)
	s.want(204, "DELETE", pod, "")
}

func TestInboxDeletionFinishesLater(t *testing.T) {
	t.Parallel()
	for _, hidden := range []bool{false, true} {
		clock := newClock()
		s := start(t, fake.Config{Now: clock.Now, Switches: fake.Switches{InboxDeletion: time.Minute, HideDeletingInboxes: hidden}})
		pod := s.pod("c")
		inbox := pod + "/inboxes/u%40agentmail.to"
		s.want(200, "POST", pod+"/inboxes", `{"username":"u"}`)
		s.want(202, "DELETE", inbox, "")

		clock.advance(time.Minute - time.Millisecond)
		s.wantCode(409, "cannot_delete", "DELETE", pod, "")
		s.wantCode(403, "already_exists", "POST", pod+"/inboxes", `{"username":"u"}`)
		listed := len(s.want(200, "GET", pod+"/inboxes", "").items("inboxes"))
		repeat := s.do("DELETE", inbox, "").status
		switch {
		case !hidden && (listed != 1 || repeat != 202):
			t.Errorf("while deleting: %d listed, repeat answered %d", listed, repeat)
		case hidden && (listed != 0 || repeat != 404):
			t.Errorf("while deleting out of sight: %d listed, repeat answered %d", listed, repeat)
		}

		clock.advance(time.Millisecond)
		s.wantCode(404, "not_found", "DELETE", inbox, "")
		s.want(204, "DELETE", pod, "")
		s.want(200, "POST", s.pod("c")+"/inboxes", `{"username":"u"}`) // the address is free again
	}
}

func TestADyingPodIsStillWhatItsClientIDStandsFor(t *testing.T) {
	t.Parallel()
	for _, conflicts := range []bool{false, true} {
		clock := newClock()
		s := start(t, fake.Config{Now: clock.Now, Switches: fake.Switches{PodLingers: time.Minute, DyingPodConflicts: conflicts}})
		pod := s.pod("c")
		s.want(204, "DELETE", pod, "")
		if again := s.pod("c"); again != pod {
			t.Error("a fresh pod was made while the old one lingers")
		}
		status, code := 404, "not_found"
		if conflicts {
			status, code = 409, "resource_deleting"
		}
		s.wantCode(status, code, "GET", pod, "")
		s.wantCode(status, code, "POST", pod+"/api-keys", "")
		if n := len(s.want(200, "GET", "/v0/pods", "").items("pods")); n != 1 {
			t.Errorf("%d pods listed, want the Default Pod alone", n)
		}
		if n := len(s.Pods()); n != 0 {
			t.Errorf("state shows %d pods, the dying one included", n)
		}

		clock.advance(time.Minute)
		s.wantCode(404, "not_found", "GET", pod, "")
		if again := s.pod("c"); again == pod {
			t.Error("the client_id was not freed in the end")
		}
	}
}

func TestInboxesAreMadeAsDocumented(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	plain := s.want(200, "POST", pod+"/inboxes", "")
	if !regexp.MustCompile(`^[a-z]+[0-9]{3}@agentmail\.to$`).MatchString(plain.text("inbox_id")) || plain.text("display_name") != "AgentMail" {
		t.Errorf("defaults: %s", plain.raw)
	}
	first := s.want(200, "POST", pod+"/inboxes", `{"username":"U","domain":"Example.com","display_name":"d","client_id":"i"}`)
	if first.text("inbox_id") != "u@example.com" || first.text("email") != "u@example.com" || first.text("display_name") != "d" {
		t.Errorf("as asked for: %s", first.raw)
	}
	again := s.want(200, "POST", pod+"/inboxes", `{"client_id":"i"}`)
	equal(t, again.body, first.body)

	elsewhere := s.pod("d")
	s.wantCode(403, "already_exists", "POST", elsewhere+"/inboxes", `{"username":"u","domain":"example.com"}`)
}

func TestADomainBelongsToOnePod(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	s.want(200, "POST", s.pod("c")+"/domains", `{"domain":"Example.com"}`)
	s.wantCode(403, "already_exists", "POST", s.pod("d")+"/domains", `{"domain":"example.com"}`)
}

func TestEveryAnswerNamesItsRequest(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	seen := map[string]bool{}
	for _, r := range []response{
		s.do("GET", "/v0/auth/me", ""), s.do("GET", "/v0/no-such-route", ""), s.as("").do("GET", "/v0/pods", ""), s.as("wrong").do("GET", "/v0/pods", ""),
	} {
		seen[r.header.Get("apigw-requestid")] = true
	}
	if len(seen) != 4 || seen[""] {
		t.Errorf("request ids %v", seen)
	}
}

func TestOtherMethodsAndPathsAreNotFound(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	id, _ := s.newKey(pod, "")
	for _, request := range []string{
		"GET /", "GET /v0", "GET /v0/no-such-route", "DELETE /v0/auth/me", "PUT /v0/pods", "PATCH " + pod, "GET " + pod + "/", "GET /v0/pods/",
		"GET /v0//pods", "GET " + pod + "/api-keys/" + id, "PUT " + pod + "/api-keys/" + id, "DELETE " + pod + "/api-keys/", "POST /v1/pods",
	} {
		method, path, _ := strings.Cut(request, " ")
		r := s.wantCode(404, "not_found", method, path, "")
		if r.text("message") != "Route not found" {
			t.Errorf("%s: %s", request, r.raw)
		}
	}
	for _, path := range []string{"/v0/pods/not-a-uuid", "/v0/pods/00000000-0000-4000-8000-000000000000", "/v0/pods/..%2F..", "/v0/pods/%20"} {
		r := s.wantCode(404, "not_found", "GET", path, "")
		if r.text("message") != "Pod not found" {
			t.Errorf("%s: %s", path, r.raw)
		}
	}
	s.wantCode(404, "not_found", "DELETE", pod+"/api-keys/not-a-uuid", "")
}

func TestErrorsHaveTheRecordedShapes(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	s.want(200, "POST", pod+"/inboxes", "")
	missing := "/v0/pods/00000000-0000-4000-8000-000000000000"
	for _, c := range []struct {
		key, method, path, body string
		status                  int
		name, code, message     string
		issue                   string
	}{
		{"", "GET", "/v0/pods", "", 401, "", "", "Unauthorized", ""},
		{"", "GET", "/v0/no-such-route", "", 401, "", "", "Unauthorized", ""},
		{"not-a-real-key", "GET", "/v0/pods", "", 403, "", "", "Forbidden", ""},
		{"am_us_" + strings.Repeat("0", 64), "GET", "/v0/auth/me", "", 403, "", "", "Forbidden", ""},
		{s.key, "GET", missing, "", 404, "NotFoundError", "not_found", "Pod not found", ""},
		{s.key, "DELETE", pod, "", 409, "CannotDeleteError", "cannot_delete", "Cannot delete Pod: Cannot delete pod with existing inboxes", ""},
		{s.key, "POST", "/v0/pods", "not json", 400, "ValidationError", "validation_error", "Request validation failed", `invalid_format []`},
		{s.key, "POST", "/v0/pods", `{"name":123}`, 400, "ValidationError", "validation_error", "Request validation failed", `invalid_type ["name"]`},
		{s.key, "POST", "/v0/pods", `{"client_id":"a b"}`, 400, "ValidationError", "validation_error", "Request validation failed", `invalid_format ["client_id"]`},
		{s.key, "POST", pod + "/api-keys", `{"expires_at":"tomorrow"}`, 400, "ValidationError", "validation_error", "Request validation failed", `invalid_format ["expires_at"]`},
		{s.key, "POST", pod + "/domains", "", 400, "ValidationError", "validation_error", "Request validation failed", `invalid_type ["domain"]`},
		{s.key, "POST", pod + "/webhooks", "{}", 400, "ValidationError", "validation_error", "Request validation failed", `invalid_type ["url"]`},
		{s.key, "POST", pod + "/inboxes", `{"username":"a@b"}`, 400, "ValidationError", "validation_error", "Request validation failed", `invalid_format ["username"]`},
		{s.key, "GET", "/v0/pods?limit=0", "", 400, "ValidationError", "validation_error", "Request validation failed", `too_small ["limit"]`},
		{s.key, "GET", "/v0/pods?limit=-1", "", 400, "ValidationError", "validation_error", "Request validation failed", `too_small ["limit"]`},
		{s.key, "GET", "/v0/pods?limit=", "", 400, "ValidationError", "validation_error", "Request validation failed", `too_small ["limit"]`},
		{s.key, "GET", "/v0/pods?limit=abc", "", 400, "ValidationError", "validation_error", "Request validation failed", `invalid_type ["limit"]`},
		{s.key, "GET", "/v0/pods?ascending=maybe", "", 400, "ValidationError", "validation_error", "Request validation failed", `invalid_value ["ascending"]`},
		{s.key, "GET", "/v0/pods?page_token=%00", "", 400, "ValidationError", "validation_error", "Request validation failed", `invalid_format ["page_token"]`},
	} {
		r := s.as(c.key).want(c.status, c.method, c.path, c.body)
		if r.text("name") != c.name || r.text("code") != c.code || r.text("message") != c.message {
			t.Errorf("%s %s: %s", c.method, c.path, r.raw)
		}
		if bare := len(r.body) == 1; bare != (c.code == "") {
			t.Errorf("%s %s: %d members: %s", c.method, c.path, len(r.body), r.raw)
		}
		if c.code != "" && r.text("docs") != "https://docs.agentmail.to/errors#"+c.code {
			t.Errorf("%s %s: docs %q", c.method, c.path, r.text("docs"))
		}
		got := ""
		for _, issue := range r.items("errors") {
			path, err := json.Marshal(issue["path"])
			if err != nil {
				t.Fatal(err)
			}
			got += issue["code"].(string) + " " + string(path)
		}
		if got != c.issue {
			t.Errorf("%s %s: errors %q, want %q", c.method, c.path, got, c.issue)
		}
	}
}

func TestManyConcurrentCallers(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	const callers = 200
	var all sync.WaitGroup
	secrets := make([]string, callers)
	for i := range callers {
		all.Go(func() {
			ctx := testContext(t)
			pod, err := s.send(ctx, "POST", "/v0/pods", `{"client_id":"shared"}`)
			if err != nil {
				t.Error(err)
				return
			}
			path := "/v0/pods/" + pod.text("pod_id") + "/api-keys"
			key, err := s.send(ctx, "POST", path, "")
			if err != nil {
				t.Error(err)
				return
			}
			secrets[i] = key.text("api_key")
			_, err = s.send(ctx, "GET", path, "")
			if err != nil {
				t.Error(err)
			}
			s.State()
		})
	}
	all.Wait()
	pods := s.Pods()
	if len(pods) != 1 || len(pods[0].Keys) != callers {
		t.Fatalf("%d pods with %d keys, want 1 with %d", len(pods), len(pods[0].Keys), callers)
	}
	ids := map[string]bool{}
	for _, secret := range secrets {
		_, id, accepted := s.Identify(secret)
		if !accepted {
			t.Fatal("a key that was handed out is not accepted")
		}
		ids[id] = true
	}
	if len(ids) != callers {
		t.Errorf("%d different keys, want %d", len(ids), callers)
	}
}

// equal compares what JSON shows of two values.
func equal(t *testing.T, got, want any) {
	t.Helper()
	g, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}
