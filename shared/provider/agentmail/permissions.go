package agentmail

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// defaultPermissions are what a managed key may do unless the configuration says otherwise: all
// that AgentMail gives a key that is made without any, less the making of keys, which would outlive
// it. AgentMail has no way to say that: with a list, a key has only what is true in it. So the list
// is data, of the names in PyPI's agentmail 2.0.18.
//
//go:embed permissions.json
var defaultPermissions []byte

var permissionForm = regexp.MustCompile(`^[a-z][a-z_]{0,63}$`)

// parsePermissions reads what a managed key may do: a JSON object of names and whether it has them,
// null for AgentMail's own default, "" for ours.
func parsePermissions(text string) (map[string]bool, error) {
	if text == "" {
		text = string(defaultPermissions)
	}
	var permissions map[string]bool
	err := json.Unmarshal([]byte(text), &permissions)
	if err != nil {
		return nil, errors.New(`AGENTMAIL_PERMISSIONS has to be a JSON object such as {"inbox_read":true}, or null for all that AgentMail gives a key by itself`)
	}
	for name := range permissions {
		if !permissionForm.MatchString(name) {
			return nil, fmt.Errorf("AGENTMAIL_PERMISSIONS: %q cannot be the name of a permission", name)
		}
	}
	return permissions, nil
}

// outdated reports whether a key may do something else than what is configured now. What AgentMail
// gives a key by itself cannot be given to one that has a list, so where that is configured no key
// is.
func (p *Provider) outdated(key listedKey) bool {
	return p.permissions != nil && (key.Permissions == nil || !maps.Equal(granted(key.Permissions), granted(p.permissions)))
}

// updateKey gives the stored key the permissions that are configured now, if the list shows others.
// Where AgentMail knows no such call it keeps what it has.
func (p *Provider) updateKey(ctx context.Context, org credential.Secret, r credential.Resource, keys []listedKey) error {
	i := slices.IndexFunc(keys, func(key listedKey) bool { return key.ID == r.KeyID })
	if !p.outdated(keys[i]) {
		return nil
	}
	request := map[string]map[string]bool{"permissions": p.permissions}
	err := p.client.Do(ctx, func(ctx context.Context) error {
		_, err := p.client.Send(ctx, org, http.MethodPatch, keysPath(r.ID)+"/"+url.PathEscape(r.KeyID), request, nil)
		return err
	})
	if err != nil && !rest.IsGone(err) {
		return refusedPermissions(fmt.Errorf("giving the key its permissions: %w", err))
	}
	return nil
}

// granted are the permissions that are true. What is false is the same as what is not there.
func granted(permissions map[string]bool) map[string]bool {
	only := maps.Clone(permissions)
	maps.DeleteFunc(only, func(_ string, is bool) bool { return !is })
	return only
}

// refusedPermissions gives its class to an answer that the permissions cannot be given as they are
// configured: one of them is called otherwise now, or the org key does not have it itself. That is
// no user's trouble. It stops what would be made, for everybody, and nothing else.
func refusedPermissions(err error) error {
	var refusal *rest.Refusal
	if !errors.As(err, &refusal) || refusal.Member != "permissions" && refusal.Code != "permission_escalation" {
		return err
	}
	return &managed.Error{Class: managed.Quota, Err: fmt.Errorf("%w: AGENTMAIL_PERMISSIONS, what a managed key may do: %w", managed.ErrSettings, err)}
}
