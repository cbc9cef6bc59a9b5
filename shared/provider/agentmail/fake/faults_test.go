package fake_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/provider/agentmail/fake"
)

// result is what became of a request that was sent in the background.
type result struct {
	response
	err error
}

// background sends a request that may take until the test lets it go.
func (s service) background(ctx context.Context, method, path, body string) <-chan result {
	done := make(chan result, 1)
	go func() {
		r, err := s.send(ctx, method, path, body)
		done <- result{r, err}
	}()
	return done
}

// wantDropped checks that a request was dropped by the server, rather than given up by its caller.
func wantDropped(t *testing.T, r result) {
	t.Helper()
	if r.err == nil || errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("not dropped: status %d, error %v", r.status, r.err)
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// await waits until n requests for an operation have arrived.
func (s service) await(operation fake.Operation, n int) {
	s.t.Helper()
	err := s.Await(testContext(s.t), operation, n)
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits for what the server notices in its own time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAFaultDecidesTheAnswerAndTheEffect(t *testing.T) {
	t.Parallel()
	const lost = "lost"
	for _, c := range []struct {
		name   string
		fault  fault.Fault
		answer string // status and what the body has to contain, or lost
		retry  string
		pods   int
	}{
		{"throttled", fake.Status(429), `429 "rate_limit_exceeded"`, "1", 0},
		{"internal error", fake.Status(500), `500 "internal_error"`, "", 0},
		{"unavailable", fake.Status(503), `503 "service_unavailable"`, "", 0},
		{"unavailable, yet done", fault.Delivered(fake.Status(503)), `503 "service_unavailable"`, "", 1},
		{"bad gateway", fake.Status(502), `502 {"message":"Bad Gateway"}`, "", 0},
		{"no authentication", fake.Status(401), `401 {"message":"Unauthorized"}`, "", 0},
		{"rejected key", fake.Status(403), `403 {"message":"Forbidden"}`, "", 0},
		{"expired key", fake.Code("api_key_expired"), `401 "code":"api_key_expired"`, "", 0},
		{"race", fake.Code("race_condition"), `409 "code":"race_condition"`, "", 0},
		{"unheard-of code", fake.Code("teapot"), `500 "code":"teapot"`, "", 0},
		{"error without a code", fault.Reshape(fake.Status(409), nil, "code"), `409 {"docs":`, "", 0},
		{"dropped before", fault.Drop(), lost, "", 0},
		{"dropped after", fault.LoseAnswer(), lost, "", 1},
		{"rubbish", fault.Delivered(fault.RespondJSON(http.StatusOK, "<html>")), "200 <html>", "", 1},
		{"rubbish, nothing done", fault.RespondJSON(http.StatusOK, `{"pod_id":`), `200 {"pod_id":`, "", 0},
		{"slow", fault.Before(fault.For(time.Millisecond), fault.After(fault.For(time.Millisecond), nil)), `200 "client_id":"c"`, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, fake.Config{})
			id := s.Inject(fault.Rule{Times: 1, Fault: c.fault})
			r, err := s.send(testContext(t), "POST", "/v0/pods", `{"client_id":"c"}`)
			switch {
			case (err != nil) != (c.answer == lost):
				t.Errorf("answered %d %s, error %v", r.status, r.raw, err)
			case err == nil:
				status, contains, _ := strings.Cut(c.answer, " ")
				if fmt.Sprint(r.status) != status || !strings.Contains(r.raw, contains) || r.header.Get("Retry-After") != c.retry {
					t.Errorf("answered %d %s (Retry-After %q), want %s (%q)", r.status, r.raw, r.header.Get("Retry-After"), c.answer, c.retry)
				}
			}
			if n := len(s.Pods()); n != c.pods {
				t.Errorf("%d pods afterwards, want %d", n, c.pods)
			}
			if s.Hits(id) != 1 {
				t.Errorf("the fault was hit %d times", s.Hits(id))
			}
			s.pod("c") // once was enough
		})
	}
}

func TestAFaultStrikesOnlyWhereItShould(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	unlucky, lucky := s.pod("unlucky"), s.pod("lucky")
	id := s.Inject(fault.Rule{Op: fake.CreateKey, About: "unlucky", Skip: 1, Times: 2, Fault: fake.Status(503)})
	s.as("").do("POST", unlucky+"/api-keys", "") // refused at the edge, so no match

	var statuses []int
	for range 4 {
		statuses = append(statuses, s.do("POST", unlucky+"/api-keys", "").status)
		s.want(200, "POST", lucky+"/api-keys", "")
		s.want(200, "GET", unlucky, "")
	}
	equal(t, statuses, []int{200, 503, 503, 200})
	if s.Hits(id) != 2 {
		t.Errorf("hits: %d", s.Hits(id))
	}

	s.Inject(fault.Rule{Op: fake.CreatePod, About: "next", Fault: fake.Status(500)})
	s.want(500, "POST", "/v0/pods", `{"client_id":"next"}`)
	s.want(500, "POST", "/v0/pods", `{"client_id":"next"}`) // for ever
	s.want(200, "POST", "/v0/pods", `{"client_id":"nextbutone"}`)
	s.ClearFaults()
	s.want(200, "POST", "/v0/pods", `{"client_id":"next"}`)
}

func TestOfSeveralFaultsTheFirstApplies(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	s.Inject(fault.Rule{Times: 1, Fault: fake.Status(429)})
	last := s.Inject(fault.Rule{Fault: fake.Status(503)})
	s.want(429, "GET", "/v0/pods", "")
	s.want(503, "GET", "/v0/pods", "")
	if !s.RemoveFault(last) || s.RemoveFault(last) {
		t.Error("RemoveFault does not tell whether there was such a fault")
	}
	s.want(200, "GET", "/v0/pods", "")
}

func TestAnswersMayHaveOtherMembers(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	s.newKey(pod, `{"name":"k"}`)
	s.Inject(fault.Rule{Op: fake.ListKeys, Fault: fault.Reshape(nil, map[string]any{"invented": map[string]any{"deep": true}, "used_at": nil, "next_page_token": nil}, "type", "updated_at")})
	list := s.want(200, "GET", pod+"/api-keys", "")
	key := list.items("api_keys")[0]
	for _, object := range []map[string]any{list.body, key} {
		equal(t, object["invented"], map[string]any{"deep": true})
		if _, present := object["next_page_token"]; !present {
			t.Error("null was left out")
		}
	}
	if key["type"] != nil || key["updated_at"] != nil || key["name"] != "k" || list.body["count"] != 1.0 {
		t.Errorf("answered %s", list.raw)
	}
}

func TestALateCreateLandsWhenItsTimeComes(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, fake.Config{Now: clock.Now})
	s.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.Later(time.Minute, fault.Drop())})
	_, err := s.send(testContext(t), "POST", "/v0/pods", `{"client_id":"c"}`)
	if err == nil {
		t.Fatal("it was answered")
	}
	state := s.State()
	if len(state.Pods) != 0 || state.Pending != 1 {
		t.Fatalf("at once: %d pods, %d pending", len(state.Pods), state.Pending)
	}

	// The caller tries again, and cleans up. Then the first request lands.
	pod := s.pod("c")
	s.want(204, "DELETE", pod, "")
	clock.advance(time.Minute)
	late, found := s.Pod("c")
	if !found || "/v0/pods/"+late.ID == pod {
		t.Errorf("after a minute: found %v, pod %s", found, late.ID)
	}
	if state := s.State(); state.Pending != 0 {
		t.Errorf("%d still pending", state.Pending)
	}
}

func TestALateCreateLandsWhenReleased(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, fake.Config{Now: clock.Now})
	pod := s.pod("c")
	id := s.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.Later(fault.UntilReleased, fake.Status(500))})
	s.want(500, "POST", pod+"/api-keys", "")
	s.want(500, "POST", pod+"/api-keys", "")
	s.Inject(fault.Rule{Op: fake.CreatePod, Fault: fault.Later(fault.UntilReleased, fake.Status(500))})
	s.want(500, "POST", "/v0/pods", "")
	clock.advance(1000 * time.Hour)
	if n := len(s.Pods()[0].Keys); n != 0 {
		t.Fatalf("%d keys before the release", n)
	}
	if !s.Release(id) || s.Release("no such fault") {
		t.Error("Release does not tell whether there is such a fault")
	}
	if n := len(s.Pods()[0].Keys); n != 2 {
		t.Errorf("%d keys after the release, want 2", n)
	}
	if state := s.State(); len(state.Pods) != 1 || state.Pending != 1 {
		t.Errorf("the release reached another fault's request: %d pods, %d pending", len(state.Pods), state.Pending)
	}
}

func TestARequestIsHeldUntilReleased(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	id := s.Inject(fault.Rule{Op: fake.CreatePod, Fault: fault.Hold(nil)})
	done := s.background(testContext(t), "POST", "/v0/pods", "")
	s.await(fake.CreatePod, 1)
	eventually(t, "it waits", func() bool { return s.State().Faults[0].Waiting == 1 })
	if n := len(s.Pods()); n != 0 {
		t.Errorf("%d pods while it is held", n)
	}
	s.Release(id)
	r := <-done
	if r.err != nil || r.status != 200 {
		t.Errorf("after the release: %d, %v", r.status, r.err)
	}
	if n := len(s.Pods()); n != 1 {
		t.Errorf("%d pods in the end", n)
	}
}

func TestAHeldRequestMeetsTheWorldAsItIsThen(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, fake.Config{Now: clock.Now, Switches: fake.Switches{InboxDeletion: time.Minute}})
	pod := s.pod("c")
	s.want(200, "POST", pod+"/inboxes", `{"username":"u"}`)
	s.want(202, "DELETE", pod+"/inboxes/u%40agentmail.to", "")
	id := s.Inject(fault.Rule{Op: fake.DeletePod, Fault: fault.Hold(nil)})
	done := s.background(testContext(t), "DELETE", pod, "")
	s.await(fake.DeletePod, 1)
	clock.advance(time.Minute)
	s.Release(id)
	if r := <-done; r.status != 204 {
		t.Errorf("answered %d %s, error %v", r.status, r.raw, r.err)
	}
}

func TestAHeldRequestTakesEffectThoughItsCallerHasLeft(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	id := s.Inject(fault.Rule{Op: fake.CreatePod, Fault: fault.Hold(nil)})
	ctx, leave := context.WithCancel(testContext(t))
	done := s.background(ctx, "POST", "/v0/pods", `{"client_id":"c"}`)
	s.await(fake.CreatePod, 1)
	leave()
	if r := <-done; r.err == nil {
		t.Fatal("it was answered")
	}
	eventually(t, "its leaving is noticed", func() bool { return s.State().Pending == 1 })
	if n := len(s.Pods()); n != 0 {
		t.Fatalf("%d pods before its time", n)
	}
	s.Release(id)
	if _, found := s.Pod("c"); !found {
		t.Error("it had no effect")
	}
}

func TestClosingEndsEveryDelay(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	s.Inject(fault.Rule{Op: fake.CreatePod, Fault: fault.Hold(nil)})
	s.Inject(fault.Rule{Op: fake.ListPods, Fault: fault.After(fault.For(time.Hour), nil)})
	first := s.background(testContext(t), "POST", "/v0/pods", "")
	second := s.background(testContext(t), "GET", "/v0/pods", "")
	s.await(fake.CreatePod, 1)
	s.await(fake.ListPods, 1)
	s.Close()
	s.Close()
	wantDropped(t, <-first)
	if r := <-second; r.err != nil || r.status != 200 {
		t.Errorf("what was done is answered %d, error %v", r.status, r.err)
	}
	if n := len(s.Pods()); n != 0 {
		t.Errorf("%d pods", n)
	}
}

func TestClearingTheFaultsLeavesNothingOutstanding(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	s.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.Later(time.Hour, fault.Drop())})
	s.Inject(fault.Rule{Op: fake.CreatePod, Fault: fault.Hold(nil)})
	_, err := s.send(testContext(t), "POST", "/v0/pods", "")
	if err == nil {
		t.Fatal("it was answered")
	}
	held := s.background(testContext(t), "POST", "/v0/pods", "")
	s.await(fake.CreatePod, 2)
	s.ClearFaults()
	if r := <-held; r.err != nil || r.status != 200 {
		t.Errorf("the held request: %d, %v", r.status, r.err)
	}
	state := s.State()
	if len(state.Pods) != 2 || state.Pending != 0 || len(state.Faults) != 0 {
		t.Errorf("%d pods, %d pending, %d faults", len(state.Pods), state.Pending, len(state.Faults))
	}
}

func TestResetDropsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, fake.Config{Now: clock.Now, Switches: fake.Switches{PageSize: 3}})
	s.pod("c")
	s.SetSwitches(fake.Switches{PageSize: 9})
	s.AcceptOrgKey("second", "")
	s.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.Later(time.Second, fault.Drop())})
	s.Inject(fault.Rule{Op: fake.CreatePod, Fault: fault.Hold(nil)})
	_, err := s.send(testContext(t), "POST", "/v0/pods", "")
	if err == nil {
		t.Fatal("it was answered")
	}
	held := s.background(testContext(t), "POST", "/v0/pods", "")
	s.await(fake.CreatePod, 3)
	s.Reset()
	wantDropped(t, <-held)
	clock.advance(time.Hour)
	state := s.State()
	if len(state.Pods)+len(state.Faults)+len(state.Requests)+state.Pending != 0 || len(state.DefaultPods) != 1 || s.Switches().PageSize != 3 {
		t.Errorf("after a reset: %+v, %+v", state, s.Switches())
	}
	s.want(200, "GET", "/v0/pods", "")
	s.as("second").want(403, "GET", "/v0/pods", "")
}
