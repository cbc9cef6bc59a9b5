package fake_test

import (
	"context"
	"encoding/json"
	"errors"

	"reflect"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestStateShowsWhatExists(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	equal(t, s.Pods(), []fake.Pod{})
	pod := s.pod("c")
	_, secret := s.newKey(pod, `{"name":"k"}`)
	s.want(200, "POST", pod+"/inboxes", `{"username":"u"}`)
	s.want(200, "POST", pod+"/domains", `{"domain":"example.com"}`)
	s.want(200, "POST", pod+"/webhooks", `{"url":"https://example.com/hook"}`)

	r := s.as("").want(200, "GET", "/_fake/state", "") // needs no key
	var state fake.State
	err := json.Unmarshal([]byte(r.raw), &state)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, state, s.State())
	got, found := s.Pod("c")
	if !found || len(state.Pods) != 1 {
		t.Fatalf("found %v, %d pods", found, len(state.Pods))
	}
	equal(t, state.Pods[0], got)
	key := got.Keys[0]
	if key.Name != "k" || key.Type != "bearer" || key.Prefix != secret[:12] || got.Inboxes[0].Address != "u@agentmail.to" ||
		got.Domains[0] != "example.com" || got.Webhooks[0] != "https://example.com/hook" {
		t.Errorf("state shows %+v", got)
	}
	podID, keyID, accepted := s.Identify(secret)
	if podID != got.ID || keyID != key.ID || !accepted {
		t.Errorf("the secret is %s of %s, accepted %v", keyID, podID, accepted)
	}
	equal(t, state.Requests, map[string]int{"create_pod": 1, "create_key": 1, "create_inbox": 1, "create_domain": 1, "create_webhook": 1})
	if len(state.DefaultPods) != 1 || state.DefaultPods[0].ID != fake.OrganizationID {
		t.Errorf("default pods: %+v", state.DefaultPods)
	}
}

func TestNoSecretIsShownTwice(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	_, secret := s.newKey(pod, "")
	s.as(secret).want(404, "GET", "/v0/pods/"+secret, "") // a careless caller
	log, err := json.Marshal(s.Requests())
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"state":   s.do("GET", "/_fake/state", "").raw,
		"list":    s.do("GET", pod+"/api-keys", "").raw,
		"auth/me": s.as(secret).do("GET", "/v0/auth/me", "").raw,
		"log":     string(log),
	} {
		if strings.Contains(text, secret[12:]) || strings.Contains(text, fake.OrgKey) {
			t.Errorf("%s shows a secret: %s", what, text)
		}
	}
}

func TestRequestsAreCountedAndLogged(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	s.do("DELETE", "/v0/pods/none", "")
	s.as("wrong").do("GET", pod, "")
	s.do("GET", "/v0/other", "")
	s.Inject(fault.Rule{Op: fake.GetPod, Fault: fault.LoseAnswer()})
	_, err := s.send(testContext(t), "GET", pod, "")
	if err == nil {
		t.Fatal("it was answered")
	}
	id := strings.TrimPrefix(pod, "/v0/pods/")
	equal(t, s.Requests(), []fake.Request{
		{Operation: fake.CreatePod, Status: 200},
		{Operation: fake.DeletePod, Status: 404},
		{Operation: fake.GetPod, PodID: id, Status: 403},
		{Operation: fake.UnknownRoute, Status: 404},
		{Operation: fake.GetPod, PodID: id, Status: 0},
	})
	if s.Count(fake.GetPod) != 2 || s.Count(fake.ListKeys) != 0 {
		t.Errorf("counted %d and %d", s.Count(fake.GetPod), s.Count(fake.ListKeys))
	}
}

func TestAwaitGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.Await(ctx, fake.CreatePod, 1)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestSeedingMakesWhatAnotherPlatformLeftBehind(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, fake.Config{Now: clock.Now, Switches: fake.Switches{InboxDeletion: time.Minute}})
	seeded := s.SeedPod(fake.Pod{
		ClientID: "alice", Name: "alice-pod",
		Keys:     []fake.Key{{Name: "alice-agpt-managed"}, {Name: "sign-in", Type: "public_key"}},
		Inboxes:  []fake.Inbox{{Address: "a@agentmail.to"}, {Address: "b@agentmail.to", Deleting: true}},
		Domains:  []string{"example.com"},
		Webhooks: []string{"https://example.com/hook"},
	})
	if adopted := s.pod("alice"); adopted != "/v0/pods/"+seeded.ID {
		t.Errorf("the POST made %s, beside the seeded %s", adopted, seeded.ID)
	}
	more := s.SeedPod(fake.Pod{ClientID: "alice", Keys: []fake.Key{{Name: "another"}}})
	if more.ID != seeded.ID || more.Name != "alice-pod" || len(more.Keys) != 3 {
		t.Errorf("seeding more: %+v", more)
	}
	clock.advance(time.Minute)
	if left := s.Pods()[0].Inboxes; len(left) != 1 || left[0].Address != "a@agentmail.to" {
		t.Errorf("inboxes after a minute: %v", left)
	}
	one, two := s.SeedPod(fake.Pod{}), s.SeedPod(fake.Pod{})
	if one.ID == two.ID {
		t.Error("pods without client_id are taken for one")
	}
}

func TestEverythingCanBeControlledOverHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	control := s.as("")

	id := control.want(200, "POST", "/_fake/faults", `{"operation":"create_pod","times":1,"instead":{"drop":true},"late":"released"}`).text("id")
	_, err := s.send(testContext(t), "POST", "/v0/pods", `{"client_id":"c"}`)
	if err == nil {
		t.Fatal("it was answered")
	}
	control.want(204, "POST", "/_fake/faults/"+id+"/release", "")
	if _, landed := s.Pod("c"); !landed {
		t.Error("the release landed nothing")
	}
	control.want(204, "DELETE", "/_fake/faults/"+id, "")
	control.want(404, "DELETE", "/_fake/faults/"+id, "")
	control.want(404, "POST", "/_fake/faults/"+id+"/release", "")

	control.want(200, "POST", "/_fake/faults", `{"before":"1ms","after":"1ms","then":{"status":503,"retry_after":"2","set":{"x":null},"omit":["fix"]}}`)
	r := s.want(503, "GET", "/v0/pods", "")
	if _, present := r.body["x"]; !present || r.header.Get("Retry-After") != "2" {
		t.Errorf("answered %s", r.raw)
	}
	control.want(204, "DELETE", "/_fake/faults", "")
	s.want(200, "GET", "/v0/pods", "")

	control.want(200, "PATCH", "/_fake/switches", `{"inbox_deletion":"1m30s","empty_pages":true}`)
	switches := control.want(200, "PATCH", "/_fake/switches", `{"key_outlives":"5m","pod_lingers":"1s","coded_key_errors":true}`)
	equal(t, control.want(200, "GET", "/_fake/switches", "").body, switches.body)
	if want := (fake.Switches{
		InboxDeletion: 90 * time.Second, EmptyPages: true, KeyOutlives: 5 * time.Minute, PodLingers: time.Second, CodedKeyErrors: true,
	}); !reflect.DeepEqual(s.Switches(), want) {
		t.Errorf("switches %+v, want %+v", s.Switches(), want)
	}

	seeded := control.want(200, "POST", "/_fake/pods", `{"client_id":"d","keys":[{"name":"k"}]}`)
	if got, _ := s.Pod("d"); got.ID != seeded.text("pod_id") || got.Keys[0].Name != "k" {
		t.Errorf("seeded %s, found %+v", seeded.raw, got)
	}

	control.want(204, "PUT", "/_fake/org-keys", `{"key":"next","organization_id":"33333333-3333-4333-8333-333333333333"}`)
	if got := s.as("next").want(200, "GET", "/v0/auth/me", "").text("scope_id"); !strings.HasPrefix(got, "33333333") {
		t.Errorf("the new key is of %s", got)
	}
	control.want(204, "DELETE", "/_fake/org-keys", `{"key":"next"}`)
	s.as("next").want(401, "GET", "/v0/auth/me", "")

	control.want(204, "POST", "/_fake/reset", "")
	equal(t, s.State().Requests, map[string]int{})
}

func TestAMistakenControlRequestIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/_fake/faults", `{"operation":"make_pod"}`},
		{"POST", "/_fake/faults", `{"operation":"create_pod","instead":{"state":503}}`},
		{"POST", "/_fake/faults", `{"instead":{"status":42}}`},
		{"POST", "/_fake/faults", `{"before":"soon"}`},
		{"POST", "/_fake/faults", ``},
		{"PATCH", "/_fake/switches", `{"empty_page":true}`},
		{"POST", "/_fake/pods", `{"keys":["k"]}`},
	} {
		r := s.want(400, c.method, c.path, c.body)
		if r.text("message") == "" {
			t.Errorf("%s %s: no reason given", c.path, c.body)
		}
	}
	if n := len(s.State().Faults); n != 0 {
		t.Errorf("%d faults were injected", n)
	}
}
