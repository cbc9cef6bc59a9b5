package fake

import (
	"regexp"
	"slices"
	"time"
)

// pod holds everything of one tenant.
type pod struct {
	stamp
	id, organization, clientID, name string

	dying    bool // deleted, yet still what its client_id stands for
	keys     []*apiKey
	inboxes  []*inbox
	domains  []*domain
	webhooks []*webhook
}

func (p *pod) isDefault() bool { return p.id == p.organization }

// timestamp is written as AgentMail writes it. A zero one is left out by omitzero.
type timestamp time.Time

func (t timestamp) IsZero() bool { return time.Time(t).IsZero() }

func (t timestamp) MarshalText() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z")), nil
}

func (p *pod) view() any {
	return struct {
		OrganizationID string    `json:"organization_id"`
		PodID          string    `json:"pod_id"`
		Name           string    `json:"name"`
		ClientID       string    `json:"client_id,omitempty"`
		UpdatedAt      timestamp `json:"updated_at"`
		CreatedAt      timestamp `json:"created_at"`
	}{p.organization, p.id, p.name, p.clientID, timestamp(p.updated), timestamp(p.created)}
}

// clientIDs are the client_ids that AgentMail accepts.
var clientIDs = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,256}$`)

func checkClientID(id *string) error {
	if id != nil && !clientIDs.MatchString(*id) {
		return invalid("invalid_format", "Must be 1 to 256 of A-Z a-z 0-9 - . _ ~", "client_id")
	}
	return nil
}

// createPod makes a pod, or returns the one that has the client_id; the two answers look alike, and
// the repeat's name is ignored.
func (s *Server) createPod(c *call) (any, error) {
	if c.caller.pod != "" {
		return nil, refuse("forbidden", "")
	}
	in := struct {
		Name     string  `json:"name"`
		ClientID *string `json:"client_id"`
	}{Name: "My Pod"}
	err := decode(c.body, &in)
	if err != nil {
		return nil, err
	}
	err = checkClientID(in.ClientID)
	if err != nil {
		return nil, err
	}
	made := &pod{id: newID(), organization: c.caller.organization, name: in.Name}
	if in.ClientID != nil {
		existing := s.podByClientID(c.caller.organization, *in.ClientID)
		if existing != nil {
			return existing.view(), nil
		}
		made.clientID = *in.ClientID
	}
	made.stamp = s.stamp()
	s.addPod(made)
	return made.view(), nil
}

func (s *Server) addPod(p *pod) {
	s.pods = append(s.pods, p)
	s.podByID[p.id] = p
}

// podByClientID returns the pod that a client_id stands for, a dying one included, or nil.
func (s *Server) podByClientID(organization, clientID string) *pod {
	i := slices.IndexFunc(s.pods, func(p *pod) bool { return p.organization == organization && p.clientID == clientID })
	if clientID == "" || i < 0 {
		return nil
	}
	return s.pods[i]
}

// listPods gives an organisation's key all its pods, and a pod's key its own.
func (s *Server) listPods(c *call) (any, error) {
	var visible []*pod
	for _, p := range s.pods {
		if c.caller.reaches(p) && !p.dying {
			visible = append(visible, p)
		}
	}
	return list(s, c, "pods", visible, sorted|limitEchoed)
}

// podOf returns the pod in a request's path. What is out of the key's reach is not told apart from
// what does not exist.
func (s *Server) podOf(c *call) (*pod, error) {
	p := s.podByID[c.pod]
	switch {
	case p == nil || !c.caller.reaches(p):
		return nil, refuse("not_found", "Pod not found")
	case p.dying && s.switches.DyingPodConflicts:
		return nil, refuse("resource_deleting", "Pod is being deleted")
	case p.dying:
		return nil, refuse("not_found", "Pod not found")
	}
	return p, nil
}

func (s *Server) getPod(c *call) (any, error) {
	return c.target.view(), nil
}

// deletePod refuses while the pod holds anything. Nothing cascades.
func (s *Server) deletePod(c *call) (any, error) {
	p := c.target
	blocker := ""
	switch {
	case p.isDefault():
		blocker = "Cannot delete default pod"
	case len(p.inboxes) > 0:
		blocker = "Cannot delete pod with existing inboxes" // as recorded; the others are ours
	case len(p.keys) > 0:
		blocker = "Cannot delete pod with existing API keys"
	case len(p.domains) > 0:
		blocker = "Cannot delete pod with existing domains"
	case len(p.webhooks) > 0 && !s.switches.WebhooksDoNotBlock:
		blocker = "Cannot delete pod with existing webhooks"
	}
	if blocker != "" {
		return nil, refuse("cannot_delete", "Cannot delete Pod: "+blocker)
	}
	p.dying = true
	s.after(s.switches.PodLingers, func() {
		delete(s.podByID, p.id)
		s.pods = without(s.pods, p)
	})
	return nil, nil
}

func without[T comparable](all []T, one T) []T {
	i := slices.Index(all, one)
	return slices.Delete(all, i, i+1)
}
