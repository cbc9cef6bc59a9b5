package fake

import (
	"slices"
	"strings"
)

// An inbox can have keys of its own. The list of its pod's keys does not show them, and they go
// only when they are deleted.

// inboxOf is the inbox that a path names, if the caller's key reaches it.
func (s *Server) inboxOf(c *call) (*inbox, error) {
	for _, p := range s.pods {
		at := slices.IndexFunc(p.inboxes, func(i *inbox) bool { return i.address == strings.ToLower(c.item) })
		if at >= 0 && c.caller.reaches(p) && !p.dying {
			return p.inboxes[at], nil
		}
	}
	return nil, refuse("not_found", "Inbox not found")
}

// createInboxKey makes another key each time, as createKey does.
func (s *Server) createInboxKey(c *call) (any, error) {
	i, err := s.inboxOf(c)
	if err != nil {
		return nil, err
	}
	k := &apiKey{name: "API Key", expires: c.caller.expires, permissions: c.caller.permissions}
	secret := s.addKey(i.pod, k)
	i.pod.keys = without(i.pod.keys, k)
	i.keys = append(i.keys, k)
	return map[string]any{
		"organization_id": i.pod.organization, "pod_id": i.pod.id, "inbox_id": i.address, "api_key_id": k.id, "api_key": secret,
		"prefix": k.prefix, "name": k.name, "created_at": timestamp(k.created),
	}, nil
}

func (s *Server) listInboxKeys(c *call) (any, error) {
	i, err := s.inboxOf(c)
	if err != nil {
		return nil, err
	}
	return list(s, c, "api_keys", i.keys, 0)
}

func (s *Server) deleteInboxKey(c *call) (any, error) {
	i, err := s.inboxOf(c)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(i.keys, func(k *apiKey) bool { return k.id == c.key })
	if at < 0 {
		return nil, refuse("not_found", "API key not found")
	}
	hash := i.keys[at].hash
	i.keys = slices.Delete(i.keys, at, at+1)
	s.after(s.switches.KeyOutlives, func() { delete(s.credentials, hash) })
	return nil, nil
}
