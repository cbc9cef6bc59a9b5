package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"managed-credentials/shared/local/fault"
)

// State is what a Server holds. It contains no secret.
type State struct {
	// Pods are all pods but the Default ones, oldest first, without those that were deleted.
	Pods []Pod `json:"pods"`
	// DefaultPods are the organisations' Default Pods. Nothing of ours belongs into them.
	DefaultPods []Pod `json:"default_pods"`
	// Requests counts the requests that arrived, whatever became of them.
	Requests map[Operation]int `json:"requests"`
	// Faults are the rules in force, spent ones included.
	Faults []fault.State `json:"faults"`
	// Pending is how much is still to happen: late effects, deletions under way, revoked keys that
	// still work.
	Pending int `json:"pending"`
}

// Pod is a pod and what it holds, to look at and to seed.
type Pod struct {
	ID             string   `json:"pod_id"`
	OrganizationID string   `json:"organization_id"`
	ClientID       string   `json:"client_id"`
	Name           string   `json:"name"`
	Keys           []Key    `json:"keys"`
	Inboxes        []Inbox  `json:"inboxes"`
	Domains        []string `json:"domains"`  // by name
	Webhooks       []string `json:"webhooks"` // by URL
}

// Key is a key of a pod, as AgentMail lists it.
type Key struct {
	ID     string `json:"api_key_id"`
	Name   string `json:"name"`
	Prefix string `json:"prefix"`
	Type   string `json:"type"` // "bearer", or "public_key" for the second family
	// Permissions are what it may do; null: everything but what has to be opted into.
	Permissions map[string]bool `json:"permissions"`
	ExpiresAt   time.Time       `json:"expires_at,omitzero"`
}

// Inbox is an inbox of a pod.
type Inbox struct {
	Address  string `json:"inbox_id"`
	Deleting bool   `json:"deleting"` // its DELETE was answered, and it still holds the pod
	Paused   bool   `json:"paused"`
}

// Request is one entry of the log.
type Request struct {
	Operation Operation
	// PodID is the pod that the path named, if there was such a pod.
	PodID string
	// Status is what was answered. Zero: nothing, or nothing yet.
	Status int
}

// maxRequests bounds the log of a fake that runs for days.
const maxRequests = 10_000

// record counts a request, logs it and tells those who wait for it. Caller holds the lock.
func (s *Server) record(c *call) {
	c.entry = &Request{Operation: c.route.operation}
	if s.podByID[c.pod] != nil {
		c.entry.PodID = c.pod
	}
	if len(s.requests) == maxRequests {
		s.requests = slices.Delete(s.requests, 0, maxRequests/2)
	}
	s.requests = append(s.requests, c.entry)
	s.arrivals[c.route.operation]++
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// State returns what the Server holds at this moment.
func (s *Server) State() State {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	state := State{
		Pods:        []Pod{},
		DefaultPods: []Pod{},
		Requests:    maps.Clone(s.arrivals),
		Faults:      s.States(),
		Pending:     len(s.scheduled) + s.Rules.Pending(),
	}
	for _, p := range s.pods {
		switch {
		case p.isDefault():
			state.DefaultPods = append(state.DefaultPods, p.state())
		case !p.dying:
			state.Pods = append(state.Pods, p.state())
		}
	}
	return state
}

func (p *pod) state() Pod {
	state := Pod{
		ID: p.id, OrganizationID: p.organization, ClientID: p.clientID, Name: p.name,
		Keys: []Key{}, Inboxes: []Inbox{}, Domains: []string{}, Webhooks: []string{},
	}
	for _, k := range p.keys {
		state.Keys = append(state.Keys, Key{ID: k.id, Name: k.name, Prefix: k.prefix, Type: k.family, Permissions: k.permissions, ExpiresAt: k.expires})
	}
	for _, i := range p.inboxes {
		state.Inboxes = append(state.Inboxes, Inbox{Address: i.address, Deleting: i.deleting, Paused: i.paused})
	}
	for _, d := range p.domains {
		state.Domains = append(state.Domains, d.name)
	}
	for _, w := range p.webhooks {
		state.Webhooks = append(state.Webhooks, w.url)
	}
	return state
}

// Pods returns all pods but the Default ones, oldest first.
func (s *Server) Pods() []Pod { return s.State().Pods }

// Pod returns the configured organisation's pod with a client_id, if it has one.
func (s *Server) Pod(clientID string) (Pod, bool) {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	p := s.podByClientID(s.config.OrganizationID, clientID)
	if p == nil || p.dying {
		return Pod{}, false
	}
	return p.state(), true
}

// Count tells how many requests for an operation have arrived, whatever became of them.
func (s *Server) Count(operation Operation) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrivals[operation]
}

// Requests returns the log in order of arrival. Of a long one the newest thousands are kept.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := make([]Request, len(s.requests))
	for i, r := range s.requests {
		log[i] = *r
	}
	return log
}

// Await waits until at least n requests for an operation have arrived, and says so if they do not
// before ctx ends. A request that a fault delays has arrived. A Reset starts the count over.
func (s *Server) Await(ctx context.Context, operation Operation, n int) error {
	for {
		s.mu.Lock()
		count, arrived := s.arrivals[operation], s.arrived
		s.mu.Unlock()
		if count >= n {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return fmt.Errorf("awaiting %d requests for %s, %d have arrived: %w", n, operation, count, ctx.Err())
		}
	}
}

// SeedPod adds what p lists to the pod with p.ClientID, which it makes if the organisation has
// none; without a client_id it always makes one. IDs, prefixes and what else is not told are made
// up, a key of no Type is a bearer key, and an inbox that is Deleting stays so for
// Switches.InboxDeletion. It returns the whole pod. Secrets are not among it: a test that needs one
// creates the key through the API.
func (s *Server) SeedPod(p Pod) Pod {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	if p.OrganizationID == "" {
		p.OrganizationID = s.config.OrganizationID
	}
	if p.Name == "" {
		p.Name = "My Pod"
	}
	target := s.podByClientID(p.OrganizationID, p.ClientID)
	if target == nil {
		target = &pod{stamp: s.stamp(), id: newID(), organization: p.OrganizationID, clientID: p.ClientID, name: p.Name}
		s.addPod(target)
	}
	for _, k := range p.Keys {
		s.seedKey(target, k)
	}
	for _, i := range p.Inboxes {
		seeded := &inbox{address: i.Address, displayName: "AgentMail"}
		s.addInbox(target, seeded)
		if i.Deleting {
			s.beginDeletion(target, seeded)
		}
	}
	for _, name := range p.Domains {
		s.addDomain(target, &domain{name: name})
	}
	for _, url := range p.Webhooks {
		s.addWebhook(target, &webhook{url: url})
	}
	return target.state()
}

func (s *Server) seedKey(p *pod, k Key) {
	if k.Type == publicKey {
		p.keys = append(p.keys, &apiKey{
			stamp: s.stamp(), id: newID(), name: k.Name, family: publicKey, pod: p,
			permissions: map[string]bool{"app_connect": true}, createdBy: newID(),
		})
		return
	}
	s.addKey(p, &apiKey{name: k.Name, permissions: k.Permissions, expires: k.ExpiresAt})
}

// Webhooks are the ids of a pod's webhooks, oldest first.
func (s *Server) Webhooks(podID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	p := s.podByID[podID]
	if p == nil {
		return nil
	}
	for _, w := range p.webhooks {
		ids = append(ids, w.id)
	}
	return ids
}
