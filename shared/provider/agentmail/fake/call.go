package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"managed-credentials/shared/local/fault"
)

// Operation names a method and a path of AgentMail's.
type Operation = string

// The operations that the fake serves. Any other method or path is UnknownRoute and answered with
// 404, never 405.
const (
	AuthMe        Operation = "auth_me"
	CreatePod     Operation = "create_pod"
	ListPods      Operation = "list_pods"
	GetPod        Operation = "get_pod"
	DeletePod     Operation = "delete_pod"
	CreateKey     Operation = "create_key"
	ListKeys      Operation = "list_keys"
	UpdateKey     Operation = "update_key"
	DeleteKey     Operation = "delete_key"
	GetOrgKey     Operation = "get_org_key"
	CreateInbox   Operation = "create_inbox"
	ListInboxes   Operation = "list_inboxes"
	UpdateInbox   Operation = "update_inbox"
	DeleteInbox   Operation = "delete_inbox"
	CreateDomain  Operation = "create_domain"
	ListDomains   Operation = "list_domains"
	DeleteDomain  Operation = "delete_domain"
	CreateWebhook Operation = "create_webhook"
	ListWebhooks  Operation = "list_webhooks"
	DeleteWebhook Operation = "delete_webhook"
	UnknownRoute  Operation = "unknown_route"

	CreateInboxKey Operation = "create_inbox_key"
	ListInboxKeys  Operation = "list_inbox_keys"
	DeleteInboxKey Operation = "delete_inbox_key"
)

// route says how one operation is reached, which permission a restricted key needs for it, and how
// it is answered.
type route struct {
	method, path string
	operation    Operation
	permission   string
	status       int
	serve        func(*Server, *call) (any, error)
}

var routes = []route{
	{"GET", "/v0/auth/me", AuthMe, "", 200, (*Server).authMe},
	{"POST", "/v0/pods", CreatePod, "pod_create", 200, (*Server).createPod},
	{"GET", "/v0/pods", ListPods, "pod_read", 200, (*Server).listPods},
	{"GET", "/v0/pods/{pod}", GetPod, "pod_read", 200, (*Server).getPod},
	{"DELETE", "/v0/pods/{pod}", DeletePod, "pod_delete", 204, (*Server).deletePod},
	{"POST", "/v0/pods/{pod}/api-keys", CreateKey, "api_key_create", 200, (*Server).createKey},
	{"GET", "/v0/pods/{pod}/api-keys", ListKeys, "api_key_read", 200, (*Server).listKeys},
	{"PATCH", "/v0/pods/{pod}/api-keys/{item}", UpdateKey, "api_key_update", 200, (*Server).updateKey},
	{"GET", "/v0/api-keys/{item}", GetOrgKey, "api_key_read", 200, (*Server).getOrgKey},
	{"DELETE", "/v0/pods/{pod}/api-keys/{item}", DeleteKey, "api_key_delete", 204, (*Server).deleteKey},
	{"POST", "/v0/pods/{pod}/inboxes", CreateInbox, "inbox_create", 200, (*Server).createInbox},
	{"GET", "/v0/pods/{pod}/inboxes", ListInboxes, "inbox_read", 200, (*Server).listInboxes},
	{"POST", "/v0/inboxes/{item}/api-keys", CreateInboxKey, "api_key_create", 200, (*Server).createInboxKey},
	{"GET", "/v0/inboxes/{item}/api-keys", ListInboxKeys, "api_key_read", 200, (*Server).listInboxKeys},
	{"DELETE", "/v0/inboxes/{item}/api-keys/{key}", DeleteInboxKey, "api_key_delete", 204, (*Server).deleteInboxKey},
	{"PATCH", "/v0/pods/{pod}/inboxes/{item}", UpdateInbox, "inbox_update", 200, (*Server).updateInbox},
	{"DELETE", "/v0/pods/{pod}/inboxes/{item}", DeleteInbox, "inbox_delete", 202, (*Server).deleteInbox},
	{"POST", "/v0/pods/{pod}/domains", CreateDomain, "domain_create", 200, (*Server).createDomain},
	{"GET", "/v0/pods/{pod}/domains", ListDomains, "domain_read", 200, (*Server).listDomains},
	{"DELETE", "/v0/pods/{pod}/domains/{item}", DeleteDomain, "domain_delete", 204, (*Server).deleteDomain},
	{"POST", "/v0/pods/{pod}/webhooks", CreateWebhook, "webhook_create", 200, (*Server).createWebhook},
	{"GET", "/v0/pods/{pod}/webhooks", ListWebhooks, "webhook_read", 200, (*Server).listWebhooks},
	{"DELETE", "/v0/pods/{pod}/webhooks/{item}", DeleteWebhook, "webhook_delete", 204, (*Server).deleteWebhook},
}

// patterns are the routes' paths, in their parts.
var patterns = func() (all [][]string) {
	for _, r := range routes {
		all = append(all, strings.Split(r.path, "/"))
	}
	return all
}()

// match finds the route of a request, and the ids in its path. It splits the path before it is
// unescaped, for an id may hold an escaped slash.
func match(method, escapedPath string) (found route, ids pathIDs) {
	segments := strings.Split(escapedPath, "/")
	for i, r := range routes {
		pattern := patterns[i]
		if r.method != method || len(pattern) != len(segments) {
			continue
		}
		ids, ok := pathIDs{}, true
		for i, p := range pattern {
			text, err := url.PathUnescape(segments[i])
			switch {
			case err != nil, text == "" && p != "":
				ok = false
			case p == "{pod}":
				ids.pod = text
			case p == "{item}":
				ids.item = text
			case p == "{key}":
				ids.key = text
			case p != text:
				ok = false
			}
		}
		if ok {
			return r, ids
		}
	}
	return route{operation: UnknownRoute}, pathIDs{}
}

// pathIDs are the ids in a path.
type pathIDs struct{ pod, item, key string }

// call is one request on its way through the fake.
type call struct {
	world   *world // in which it arrived
	route   route
	caller  identity
	pod     string // as in the path
	target  *pod   // that one, found once the call is carried out; nil where the path names none
	item    string // as in the path
	key     string // as in the path, of an inbox
	query   url.Values
	body    []byte
	refusal *answer     // by the edge, or because there is no such route
	met     *fault.Call // with the fault that it runs into
	entry   *Request
}

// arrive does what happens to a request before any fault: it is counted, authenticated and routed.
func (s *Server) arrive(r *http.Request, body []byte) *call {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()

	c := &call{world: s.world, query: r.URL.Query(), body: bytes.TrimSpace(body)}
	route, ids := match(r.Method, r.URL.EscapedPath())
	c.route, c.pod, c.item, c.key = route, ids.pod, ids.item, ids.key
	s.record(c)

	caller, refusal := s.authenticate(r.Header.Get("Authorization"))
	switch {
	case refusal != nil:
		c.refusal = refusal
	case s.limited():
		c.refusal = tooMany()
	case c.route.operation == UnknownRoute:
		a := answerTo(refuse("not_found", "Route not found"))
		c.refusal = &a
	default:
		c.caller = caller
		c.met = &fault.Call{Op: route.operation, About: s.clientIDOf(c), Method: r.Method, URL: r.URL, Header: r.Header, Body: body}
		perform := func(context.Context, *fault.Call) (*fault.Answer, error) { return s.perform(c), nil }
		s.Enter(c.met, fault.Reshape(perform, nil, s.oddShape(c)...))
	}
	return c
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

// carryOut takes a request through its fault, if it has one, and to its effect.
func (s *Server) carryOut(ctx context.Context, c *call) *fault.Answer {
	if c.refusal != nil {
		return c.refusal.encode()
	}
	return c.met.Meet(ctx)
}

// perform is the effect, and the answer that AgentMail gives to it: none, if there was a Reset.
func (s *Server) perform(c *call) *fault.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.world != s.world {
		return nil
	}
	s.settle()
	return s.take(c).encode()
}

// take carries a request out. Caller holds the lock.
func (s *Server) take(c *call) answer {
	if !c.caller.may(c.route.permission) {
		return answerTo(refuse("missing_permission", ""))
	}
	odd, is := s.odd(c)
	if is {
		return odd
	}
	if c.pod != "" {
		target, err := s.podOf(c)
		if err != nil {
			return answerTo(err)
		}
		c.target = target
	}
	body, err := c.route.serve(s, c)
	if err != nil {
		return answerTo(err)
	}
	return answer{status: c.route.status, body: body}
}

// answer is what goes back to the caller.
type answer struct {
	status     int
	body       any    // sent as JSON; nil: no body
	verbatim   string // sent instead of body
	retryAfter string
}

// encode is the answer as it is sent.
func (a answer) encode() *fault.Answer {
	sent := &fault.Answer{Status: a.status, Header: http.Header{}, Body: []byte(a.verbatim)}
	if a.retryAfter != "" {
		sent.Header.Set("Retry-After", a.retryAfter)
	}
	if a.verbatim == "" && a.body != nil {
		encoded, err := json.Marshal(a.body)
		if err != nil {
			panic(err) // a bug here: bodies are our own types
		}
		sent.Body = encoded
	}
	if len(sent.Body) > 0 {
		sent.Header.Set("Content-Type", "application/json")
	}
	return sent
}
