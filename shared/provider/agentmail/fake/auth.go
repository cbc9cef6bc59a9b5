package fake

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// identity is who calls.
type identity struct {
	organization string
	pod          string // empty: a key of the whole organisation
	key          string
	expires      time.Time       // zero: never
	permissions  map[string]bool // nil: everything within the scope
}

// reaches tells whether a pod is within the caller's scope.
func (i identity) reaches(p *pod) bool {
	return p.organization == i.organization && (i.pod == "" || i.pod == p.id)
}

// credential is a secret that opens something. The secret itself is not kept.
type credential struct {
	identity
	apiKey *apiKey // nil: the organisation's
}

type secretHash [sha256.Size]byte

func hashOf(secret string) secretHash { return sha256.Sum256([]byte(secret)) }

// prefixLength is how much of a secret AgentMail goes on showing.
const prefixLength = 12

// newSecret returns a key as AgentMail mints them.
func newSecret() string {
	random := make([]byte, 32)
	rand.Read(random)
	return "am_us_" + hex.EncodeToString(random)
}

// authenticate is the edge: it knows who calls, or refuses. Caller holds the lock.
func (s *Server) authenticate(header string) (identity, *answer) {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		a := edge(http.StatusUnauthorized)
		return identity{}, &a
	}
	c, code := s.lookUp(secret)
	if c == nil {
		a := edge(http.StatusForbidden)
		if s.switches.CodedKeyErrors {
			a = answerTo(refuse(code, ""))
		}
		return identity{}, &a
	}
	if c.apiKey != nil {
		c.apiKey.used = s.now()
	}
	return c.identity, nil
}

// lookUp returns what a secret opens, or the code that says why it opens nothing. Caller holds the
// lock.
func (s *Server) lookUp(secret string) (*credential, string) {
	c := s.credentials[hashOf(secret)]
	switch {
	case c == nil:
		return nil, "unknown_api_key"
	case !c.expires.IsZero() && !s.now().Before(c.expires.Add(s.switches.KeyOutlives)):
		return nil, "api_key_expired"
	}
	return c, ""
}

// AcceptOrgKey makes a key open a whole organisation, empty meaning the configured one, from now
// on. A key that was accepted already changes hands: what it could see before is 404 to it, and GET
// /v0/auth/me names the other organisation. Which keys are accepted otherwise does not change.
func (s *Server) AcceptOrgKey(key, organizationID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if organizationID == "" {
		organizationID = s.config.OrganizationID
	}
	s.acceptOrgKey(key, organizationID)
}

func (s *Server) acceptOrgKey(key, organizationID string) {
	if s.podByID[organizationID] == nil {
		s.addPod(&pod{stamp: s.stamp(), id: organizationID, organization: organizationID, name: "Default Pod"})
	}
	s.credentials[hashOf(key)] = &credential{identity: identity{organization: organizationID, key: newID()}}
}

// ExpireOrgKey gives an organisation's key a time at which it ends. What it makes from now on ends
// with it, for good.
func (s *Server) ExpireOrgKey(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.credentials[hashOf(key)]
	if c != nil && c.apiKey == nil {
		c.expires = at
	}
}

// RejectOrgKey makes an organisation's key unknown, as when it was revoked or rotated away. It is
// no error if it was not accepted anyway.
func (s *Server) RejectOrgKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.credentials[hashOf(key)]
	if c != nil && c.apiKey == nil {
		delete(s.credentials, hashOf(key))
	}
}

// Identify tells which key of which pod a secret is, if AgentMail would accept it now. The ids of
// an organisation's key are its own and an empty pod. It counts as no use of the key.
func (s *Server) Identify(secret string) (podID, keyID string, accepted bool) {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	c, _ := s.lookUp(secret)
	if c == nil {
		return "", "", false
	}
	return c.pod, c.key, true
}

// getOrgKey answers what a list would show of the key of an organisation, which only knows its own.
func (s *Server) getOrgKey(c *call) (any, error) {
	if c.caller.pod != "" || c.item != c.caller.key {
		return nil, refuse("not_found", "API key not found")
	}
	return struct {
		APIKeyID  string    `json:"api_key_id"`
		Type      string    `json:"type"`
		Name      string    `json:"name"`
		ExpiresAt timestamp `json:"expires_at,omitzero"`
	}{c.item, bearer, "The organisation's", timestamp(c.caller.expires)}, nil
}

// authMe answers who the caller is.
func (s *Server) authMe(c *call) (any, error) {
	me := struct {
		ScopeType      string `json:"scope_type"`
		ScopeID        string `json:"scope_id"`
		OrganizationID string `json:"organization_id"`
		PodID          string `json:"pod_id,omitempty"`
		APIKeyID       string `json:"api_key_id"`
	}{"organization", c.caller.organization, c.caller.organization, "", c.caller.key}
	if c.caller.pod != "" {
		me.ScopeType, me.ScopeID, me.PodID = "pod", c.caller.pod, c.caller.pod
	}
	return me, nil
}
