package fake

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// UntilReleased, as one of a Fault's durations, lasts until [Server.Release].
const UntilReleased time.Duration = math.MaxInt64

// Fault is a rule by which requests go wrong. Its first members say which requests, the others what
// happens to them, in this order: Before, then either Instead or the effect, then After, then Then.
// With none of these set, the rule only counts.
//
// Of several rules that match, the one that was injected first applies, alone. Requests that the
// edge refuses, and those that no route serves, run into no fault. A connection that dies on a
// caller may make its HTTP client repeat the request by itself: Go's does so for GET and HEAD, for
// whatever carries an Idempotency-Key, and for nothing else that was sent.
type Fault struct {
	// Operation is the operation that goes wrong. Empty: any.
	Operation Operation `json:"operation"`
	// ClientID narrows it to requests about the pod with this client_id, its creation included.
	// Empty: any pod.
	ClientID string `json:"client_id"`
	// Skip is how many matching requests pass unharmed first.
	Skip int `json:"skip"`
	// Times is how often the rule applies. Zero: until it is removed.
	Times int `json:"times"`

	// Before is how long the request waits before it takes effect. It does take effect when its
	// caller has left by then.
	Before time.Duration `json:"-"`
	// Instead is answered in place of carrying the request out, which then has no effect. Nil: the
	// request is carried out.
	Instead *Answer `json:"instead"`
	// Late lets a request that got Instead take effect after all, this much later by Config.Now.
	// Alone, it stands for a dropped connection as well. Zero: never.
	Late time.Duration `json:"-"`
	// After is how long the answer waits after the effect.
	After time.Duration `json:"-"`
	// Then changes the answer that follows the effect. Nil: the true answer.
	Then *Answer `json:"then"`
}

// Answer says what a caller gets in place of the true answer. The first of Drop, Body, and Status
// or Code that is set decides; with none of them it is the true answer, or an empty object where
// there is none. Set and Omit then change it, errors included.
type Answer struct {
	// Drop closes the connection without any answer.
	Drop bool `json:"drop"`
	// Body is sent exactly as it is, whatever it is, with Status or else the true answer's.
	Body string `json:"body"`
	// Status is the HTTP status. Below 400 it goes with the true body; 401 and 403 without Code are
	// the edge's; else the body is the API's error. Zero: the one that belongs to Code.
	Status int `json:"status"`
	// Code is the error's code. Empty: the usual one for Status.
	Code string `json:"code"`
	// RetryAfter is the Retry-After header. Empty: "1" with status 429, none with others.
	RetryAfter string `json:"retry_after"`
	// Set gives members to the answer's object and to each object of its list: known ones another
	// value, nil meaning null, or unknown ones.
	Set map[string]any `json:"set"`
	// Omit leaves members out of the same objects.
	Omit []string `json:"omit"`
}

// replace gives the answer in place of the true one.
func (a Answer) replace(answered answer) answer {
	if a.Drop {
		return dropped
	}
	if a.Code != "" || a.Status >= 400 {
		answered = a.refusal()
	}
	if a.Status != 0 {
		answered.status = a.Status
	}
	if a.RetryAfter != "" {
		answered.retryAfter = a.RetryAfter
	}
	if a.Body != "" {
		answered.verbatim = &a.Body
	}
	answered.body = reshape(answered.body, a.Set, a.Omit)
	return answered
}

// refusal is the error that Status and Code stand for.
func (a Answer) refusal() answer {
	code := a.Code
	if code == "" {
		code = statusCodes[a.Status]
	}
	if code == "" {
		return edge(a.Status)
	}
	refused := answerTo(refuse(code, ""))
	if refused.status == 0 {
		refused.status = http.StatusInternalServerError // for a code that is not documented
	}
	if refused.status == http.StatusTooManyRequests {
		refused.retryAfter = "1"
	}
	return refused
}

// reshape returns a body as plain JSON with members set and left out. No body stays none.
func reshape(body any, set map[string]any, omit []string) any {
	if body == nil || len(set) == 0 && len(omit) == 0 {
		return body
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // a bug here: bodies are our own types
	}
	var object map[string]any
	err = json.Unmarshal(encoded, &object)
	if err != nil {
		panic(err) // likewise: they are all objects
	}
	objects := []map[string]any{object}
	for _, member := range object {
		items, _ := member.([]any)
		for _, item := range items {
			o, isObject := item.(map[string]any)
			if isObject {
				objects = append(objects, o)
			}
		}
	}
	for _, o := range objects {
		maps.Copy(o, set)
		for _, name := range omit {
			delete(o, name)
		}
	}
	return object
}

// rule is an injected fault at work.
type rule struct {
	id      string
	fault   Fault
	seen    int           // requests that matched
	hits    int           // requests that it was applied to
	waiting int           // of these, those that are being delayed
	release chan struct{} // closed, and replaced, by Release
}

// Inject adds a fault and returns its id.
func (s *Server) Inject(f Fault) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Late > 0 && f.Instead == nil {
		f.Instead = &Answer{Drop: true}
	}
	s.faultIDs++
	r := &rule{id: "fault-" + strconv.Itoa(s.faultIDs), fault: f, release: make(chan struct{})}
	s.rules = append(s.rules, r)
	return r.id
}

// Release lets go of everything that a fault holds back at this moment, whatever its durations:
// delayed requests go on, and late effects happen. The fault stays in force for further requests.
// It tells whether there is such a fault.
func (s *Server) Release(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rule(id)
	if r != nil {
		s.letGo(r)
	}
	return r != nil
}

// RemoveFault is Release, and the end of the fault.
func (s *Server) RemoveFault(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rule(id)
	if r != nil {
		s.rules = without(s.rules, r)
		s.letGo(r)
	}
	return r != nil
}

// ClearFaults removes all faults as RemoveFault does. What AgentMail itself does slowly goes on
// taking its time.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := s.rules
	s.rules = nil
	for _, r := range rules {
		s.letGo(r)
	}
}

// Hits tells how many requests a fault was applied to; zero once it is removed. A test that means
// to have provoked something should ask.
func (s *Server) Hits(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rule(id)
	if r == nil {
		return 0
	}
	return r.hits
}

func (s *Server) rule(id string) *rule {
	i := slices.IndexFunc(s.rules, func(r *rule) bool { return r.id == id })
	if i < 0 {
		return nil
	}
	return s.rules[i]
}

// letGo is Release. Caller holds the lock.
func (s *Server) letGo(r *rule) {
	close(r.release)
	r.release = make(chan struct{})
	for i := 0; i < len(s.scheduled); {
		if s.scheduled[i].rule == r {
			s.occur(i)
			continue
		}
		i++
	}
}

// runInto finds the fault that a request runs into, if any. Caller holds the lock.
func (s *Server) runInto(c *call) {
	about := s.clientIDOf(c)
	for _, r := range s.rules {
		f := r.fault
		if f.Operation != "" && f.Operation != c.route.operation || f.ClientID != "" && f.ClientID != about {
			continue
		}
		if f.Times > 0 && r.hits == f.Times {
			continue
		}
		r.seen++
		if r.seen <= f.Skip {
			continue
		}
		r.hits++
		c.rule, c.fault, c.release = r, f, r.release
		return
	}
}

// clientIDOf returns the client_id of the pod that a request is about, or is to create.
func (s *Server) clientIDOf(c *call) string {
	p := s.podByID[c.pod]
	if p != nil {
		return p.clientID
	}
	var in struct {
		ClientID string `json:"client_id"`
	}
	if c.route.operation == CreatePod {
		_ = json.Unmarshal(c.body, &in) // a body that does not parse is about no pod
	}
	return in.ClientID
}

// outcome is how a wait ended.
type outcome int

const (
	waited outcome = iota // its time came, or it was released
	callerLeft
	serverClosed
)

// wait delays a request.
func (s *Server) wait(ctx context.Context, c *call, d time.Duration) outcome {
	if d <= 0 {
		return waited
	}
	s.countWaiting(c, 1)
	defer s.countWaiting(c, -1)
	var timer <-chan time.Time
	if d != UntilReleased {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-c.release:
	case <-ctx.Done():
		return callerLeft
	case <-s.closed:
		return serverClosed
	}
	return waited
}

func (s *Server) countWaiting(c *call, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.rule.waiting += by
}

// postpone lets a request take effect later, with nobody to answer.
func (s *Server) postpone(c *call, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.world != s.world {
		return
	}
	select {
	case <-c.release: // while its caller was leaving
		s.take(c)
		return
	default:
	}
	e := &event{held: d == UntilReleased, rule: c.rule, occur: func() { s.take(c) }}
	if !e.held {
		e.due = s.now().Add(d)
	}
	s.scheduled = append(s.scheduled, e)
}
