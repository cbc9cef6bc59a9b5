package fake

import (
	"slices"
	"time"
)

const (
	bearer    = "bearer"
	publicKey = "public_key"
)

// apiKey is a pod's key: a bearer key, or one of the second family that this project only has to
// tolerate.
type apiKey struct {
	stamp
	id, name, prefix string
	family           string
	hash             secretHash // of a bearer key's secret
	createdBy        string     // of a public key: the bearer key that registered it
	pod              *pod
	permissions      map[string]bool // nil: everything within the pod
	expires          time.Time       // zero: never
	used             time.Time       // zero: never
}

func (k *apiKey) view() any {
	view := struct {
		OrganizationID string          `json:"organization_id"`
		PodID          string          `json:"pod_id"`
		APIKeyID       string          `json:"api_key_id"`
		Type           string          `json:"type"`
		Prefix         string          `json:"prefix,omitempty"`
		Name           string          `json:"name"`
		Status         string          `json:"status,omitempty"`
		CreatedBy      *creator        `json:"created_by,omitempty"`
		Permissions    map[string]bool `json:"permissions,omitzero"`
		UsedAt         timestamp       `json:"used_at,omitzero"`
		ExpiresAt      timestamp       `json:"expires_at,omitzero"`
		UpdatedAt      timestamp       `json:"updated_at"`
		CreatedAt      timestamp       `json:"created_at"`
	}{
		OrganizationID: k.pod.organization,
		PodID:          k.pod.id,
		APIKeyID:       k.id,
		Type:           k.family,
		Prefix:         k.prefix,
		Name:           k.name,
		Permissions:    k.permissions,
		UsedAt:         timestamp(k.used),
		ExpiresAt:      timestamp(k.expires),
		UpdatedAt:      timestamp(k.updated),
		CreatedAt:      timestamp(k.created),
	}
	if k.family == publicKey {
		view.Status = "active"
		view.CreatedBy = &creator{APIKeyID: k.createdBy}
	}
	return view
}

// creator is the bearer key that registered a public key.
type creator struct {
	APIKeyID string `json:"api_key_id"`
}

// createKey makes another key each time: there is no idempotency, and the secret is never told
// again.
func (s *Server) createKey(c *call) (any, error) {
	p := c.target
	in := struct {
		Name        string          `json:"name"`
		Permissions map[string]bool `json:"permissions"`
		ExpiresAt   *string         `json:"expires_at"`
	}{Name: "API Key"}
	err := decode(c.body, &in)
	if err != nil {
		return nil, err
	}
	err = checkPermissions(in.Permissions)
	if err != nil {
		return nil, err
	}
	k := &apiKey{name: in.Name, permissions: in.Permissions, expires: c.caller.expires} // it ends with the key that makes it
	if in.ExpiresAt != nil {
		k.expires, err = time.Parse(time.RFC3339, *in.ExpiresAt)
		if err != nil {
			return nil, invalid("invalid_format", "Invalid ISO datetime", "expires_at")
		}
	}
	if !c.caller.expires.IsZero() && k.expires.After(c.caller.expires) {
		return nil, refuse("forbidden", "A key cannot make one that outlives it")
	}
	if escalates(c.caller.permissions, k.permissions) {
		return nil, refuse("permission_escalation", "")
	}
	secret := s.addKey(p, k)
	return struct {
		OrganizationID string          `json:"organization_id"`
		PodID          string          `json:"pod_id"`
		APIKeyID       string          `json:"api_key_id"`
		APIKey         string          `json:"api_key"`
		Prefix         string          `json:"prefix"`
		Name           string          `json:"name"`
		Permissions    map[string]bool `json:"permissions,omitzero"`
		ExpiresAt      timestamp       `json:"expires_at,omitzero"`
		CreatedAt      timestamp       `json:"created_at"`
	}{p.organization, p.id, k.id, secret, k.prefix, k.name, k.permissions, timestamp(k.expires), timestamp(k.created)}, nil
}

// addKey gives a new bearer key its identity and its secret, which it returns.
func (s *Server) addKey(p *pod, k *apiKey) string {
	secret := newSecret()
	k.stamp, k.id, k.family, k.pod = s.stamp(), newID(), bearer, p
	k.prefix, k.hash = secret[:prefixLength], hashOf(secret)
	p.keys = append(p.keys, k)
	s.credentials[k.hash] = &credential{
		identity: identity{organization: p.organization, pod: p.id, key: k.id, permissions: k.permissions, expires: k.expires},
		apiKey:   k,
	}
	return secret
}

// escalates tells whether a key with permissions mine asks for more than these. Nil is everything.
func escalates(mine, asked map[string]bool) bool {
	if mine == nil {
		return false
	}
	for permission, granted := range asked {
		if granted && !mine[permission] {
			return true
		}
	}
	return asked == nil
}

// listKeys has neither an order to choose nor an echo of the limit, unlike the other lists.
func (s *Server) listKeys(c *call) (any, error) {
	return list(s, c, "api_keys", c.target.keys, 0)
}

// updateKey changes a key's name, its permissions, or both. Nothing else of a key can be changed.
func (s *Server) updateKey(c *call) (any, error) {
	var in struct {
		Name        *string          `json:"name"`
		Permissions *map[string]bool `json:"permissions"`
	}
	err := decode(c.body, &in)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.target.keys, func(k *apiKey) bool { return k.id == c.item })
	if i < 0 {
		return nil, refuse("not_found", "API key not found")
	}
	k := c.target.keys[i]
	if in.Permissions != nil {
		err = checkPermissions(*in.Permissions)
		if err != nil {
			return nil, err
		}
		if escalates(c.caller.permissions, *in.Permissions) {
			return nil, refuse("permission_escalation", "")
		}
		k.permissions = *in.Permissions
		if k.family == bearer {
			s.credentials[k.hash].permissions = k.permissions
		}
	}
	if in.Name != nil {
		k.name = *in.Name
	}
	k.updated = s.now()
	return k.view(), nil
}

func (s *Server) deleteKey(c *call) (any, error) {
	p := c.target
	i := slices.IndexFunc(p.keys, func(k *apiKey) bool { return k.id == c.item })
	if i < 0 {
		return nil, refuse("not_found", "API key not found")
	}
	hash := p.keys[i].hash
	p.keys = slices.Delete(p.keys, i, i+1)
	s.after(s.switches.KeyOutlives, func() { delete(s.credentials, hash) })
	return nil, nil
}
