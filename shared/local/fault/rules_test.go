package fault_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
)

// shop is a fake third party with one thing to do: it makes things, and lists what it has made.
type shop struct {
	*fault.Rules
	t   *testing.T
	url string
	now time.Time

	mu   sync.Mutex
	made []string
}

func (s *shop) stock() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.made)
}

func open(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.Rules = fault.NewRules(func() time.Time { return s.now })
	routes := http.NewServeMux()
	routes.HandleFunc("POST /things/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.made = append(s.made, r.PathValue("name"))
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"name":%q}`, r.PathValue("name"))
	})
	routes.HandleFunc("GET /things", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"things":[{"name":%q}]}`, strings.Join(s.stock(), " "))
	})
	server := httptest.NewServer(s.Front(routes, func(status int, code string) fault.Fault {
		return fault.RespondJSON(status, fmt.Sprintf(`{"code":%q}`, code))
	}))
	t.Cleanup(func() { s.Close(); server.Close() })
	s.url = server.URL
	return s
}

// send returns the status and the body; 0 if the connection was closed without an answer.
func (s *shop) send(method, path, body string) (status int, answer string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(read)
}

func (s *shop) want(status int, method, path, body string) (answer string) {
	s.t.Helper()
	got, answer := s.send(method, path, body)
	if got != status {
		s.t.Errorf("%s %s %s: answered %d %s, want %d", method, path, body, got, answer, status)
	}
	return answer
}

func (s *shop) has(want ...string) {
	s.t.Helper()
	if got := s.stock(); !slices.Equal(got, want) {
		s.t.Errorf("it has %v, want %v", got, want)
	}
}

const makeOp = "POST /things/{name}"

func TestARuleStrikesItsOperationAfterSomeAndForSomeTime(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := s.Inject(fault.Rule{Op: makeOp, Skip: 1, Times: 2, Fault: fault.Respond(http.StatusTeapot, nil, nil)})
	s.want(201, "POST", "/things/a", "")
	s.want(418, "POST", "/things/b", "")
	s.want(200, "GET", "/things", "")
	s.want(418, "POST", "/things/c", "")
	s.want(201, "POST", "/things/d", "")
	s.has("a", "d")
	if s.Hits(id) != 2 || s.Hits("none") != 0 {
		t.Errorf("%d hits", s.Hits(id))
	}
}

func TestWhatIsLateLandsByTheClockInItsOrder(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.Inject(fault.Rule{Op: makeOp, Times: 1, Fault: fault.Later(time.Minute, fault.Drop())})
	s.Inject(fault.Rule{Op: makeOp, Times: 1, Fault: fault.Later(time.Second, fault.Drop())})
	s.want(0, "POST", "/things/a", "")
	s.want(0, "POST", "/things/b", "")
	s.Settle()
	s.has()
	s.now = s.now.Add(time.Minute)
	s.want(201, "POST", "/things/c", "")
	s.has("b", "a", "c")
	if s.Pending() != 0 || s.Deliver() == nil {
		t.Error("something is still to land")
	}
}

func TestAProxyTakesRulesWhereItsHookHasNoFault(t *testing.T) {
	t.Parallel()
	s := open(t)
	p, url := proxy(t, s.url)
	s.url = url
	id := p.Inject(fault.Rule{Op: "POST /things/a", Fault: fault.Later(fault.UntilReleased, fault.Respond(500, nil, nil))})
	p.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "GET /things" {
			return fault.Drop()
		}
		return nil
	})
	s.want(500, "POST", "/things/a", "")
	s.want(0, "GET", "/things", "")
	s.has()
	if !p.Release(id) || !p.RemoveFault(id) || p.Release(id) {
		t.Error("it does not say which rules there are")
	}
	s.has("a")
	s.want(201, "POST", "/things/a", "")
}

func TestReshapedAnswersKeepTheRest(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.Inject(fault.Rule{Op: makeOp, Fault: fault.Reshape(nil, map[string]any{"new": nil}, "name")})
	s.Inject(fault.Rule{Times: 1, Fault: fault.Reshape(nil, map[string]any{"n": 1})})
	s.Inject(fault.Rule{Fault: fault.Reshape(fault.RespondJSON(200, "no object"), nil, "name")})
	for _, answer := range []struct{ got, want string }{
		{s.want(201, "POST", "/things/a", ""), `{"new":null}`},
		{s.want(200, "GET", "/things", ""), `{"n":1,"things":[{"n":1,"name":"a"}]}`},
	} {
		if answer.got != answer.want {
			t.Errorf("answered %s, want %s", answer.got, answer.want)
		}
	}
	s.want(502, "GET", "/things", "")
}

func TestFaultsAreControlledOverHTTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule   string
		status int
		answer string
		made   []string
	}{
		"dropped":          {`{"instead":{"drop":true}}`, 0, "", nil},
		"done and dropped": {`{"then":{"drop":true}}`, 0, "", []string{"a"}},
		"refused":          {`{"instead":{"status":503,"code":"full"}}`, 503, `{"code":"full"}`, nil},
		"done and refused": {`{"then":{"status":503}}`, 503, `{"code":""}`, []string{"a"}},
		"nonsense":         {`{"instead":{"body":"<html>"}}`, 200, "<html>", nil},
		"nothing of it":    {`{"instead":{}}`, 200, "{}", nil},
		"reshaped":         {`{"then":{"set":{"n":1},"omit":["name"]}}`, 201, `{"n":1}`, []string{"a"}},
		"slow":             {`{"before":"1ms","after":"1ms"}`, 201, `{"name":"a"}`, []string{"a"}},
		"late":             {`{"late":"1h"}`, 0, "", nil},
		"late and refused": {`{"late":"released","instead":{"status":500}}`, 500, `{"code":""}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			id := strings.Split(s.want(200, "POST", "/_fake/faults", strings.Replace(c.rule, "{", `{"operation":"`+makeOp+`","times":1,`, 1)), `"`)[3]
			status, answer := s.send("POST", "/things/a", "")
			if status != c.status || status != 0 && answer != c.answer {
				t.Errorf("answered %d %s, want %d %s", status, answer, c.status, c.answer)
			}
			s.has(c.made...)
			pending := s.Pending()
			s.want(204, "POST", "/_fake/faults/"+id+"/release", "")
			if landed := len(s.stock()) - len(c.made); landed != pending || s.Pending() != 0 {
				t.Errorf("%d landed at the release, of %d", landed, pending)
			}
			s.want(204, "DELETE", "/_fake/faults/"+id, "")
			s.want(404, "DELETE", "/_fake/faults/"+id, "")
			s.want(404, "POST", "/_fake/faults/"+id+"/release", "")
			s.want(204, "DELETE", "/_fake/faults", "")
		})
	}
}

func TestAFaultThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, rule := range []string{
		`{"operation":"POST /thing"}`, `{"operation":"make"}`, `{"operation":"GET /things/{name}"}`, `{"ops":"x"}`, `{"before":"soon"}`,
		`{"instead":{"status":42}}`, `{"instead":{"status":204}}`, `{"instead":{},"then":{}}`, ``,
	} {
		if !strings.Contains(s.want(400, "POST", "/_fake/faults", rule), `"message":`) {
			t.Errorf("%s: no reason given", rule)
		}
	}
	if len(s.States()) != 0 {
		t.Errorf("%d rules are in force", len(s.States()))
	}
}

func TestWhatIsHeldGoesOnAtTheReleaseWithOrWithoutItsClient(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := s.Inject(fault.Rule{Op: makeOp, Fault: fault.Hold(nil)})
	until := func(is func() bool) {
		for !is() && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	waits := func() bool { return s.States()[0].Waiting == 1 }
	ctx, leave := context.WithCancel(t.Context())
	left, stayed := make(chan struct{}), make(chan int)
	go func() {
		defer close(left)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/things/a", nil)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Error("it was answered")
		}
	}()
	until(waits)
	leave()
	<-left
	until(func() bool { return s.Pending() == 1 })
	go func() {
		status, _ := s.send("POST", "/things/b", "")
		stayed <- status
	}()
	until(waits)
	s.has()
	s.Release(id)
	if status := <-stayed; status != 201 {
		t.Errorf("answered %d", status)
	}
	if got := s.stock(); len(got) != 2 || s.Pending() != 0 {
		t.Errorf("it has %v", got)
	}
}
