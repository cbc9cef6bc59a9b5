// Package agentmail provisions AgentMail (https://docs.agentmail.to): for each user a pod of the platform's organisation, and an API
// key scoped to that pod.
//
// A pod is idempotent by its client_id, so the repeated POST is also the lookup. A key is not: each POST makes another, so a POST for
// a key is never repeated, and keys carry the number of the attempt in their names. A pod cannot be deleted while it holds anything,
// and inboxes go on being deleted for a while after the answer.
package agentmail

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

// Name is the provider's name in the API.
const Name = "agent_mail"

// DefaultBaseURL is AgentMail's API.
const DefaultBaseURL = "https://api.agentmail.to"

// Config says how AgentMail is used.
type Config struct {
	// BaseURL is the API's origin; "" means DefaultBaseURL.
	BaseURL string
	// ClientIDPrefix goes before each pod's client_id, to keep deployments apart that share an organisation.
	ClientIDPrefix string
}

// Provider is AgentMail as a managed.Provider.
type Provider struct {
	client *client
	prefix string

	mu sync.Mutex
	// seen and seenOrg are the org key that was last asked whose it is, and the answer.
	seen    credential.Secret
	seenOrg string
}

var _ managed.Provider = (*Provider)(nil)

// maxClientID is how long a client_id may be.
const maxClientID = 256

var clientIDForm = regexp.MustCompile(`^[A-Za-z0-9._~-]*$`)

// New returns the provider, or an error if the configuration cannot work.
func New(c Config) (*Provider, error) {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	if !clientIDForm.MatchString(c.ClientIDPrefix) || len(c.ClientIDPrefix) > maxClientID/2 {
		return nil, fmt.Errorf("AGENTMAIL_CLIENT_ID_PREFIX may have letters, digits, '-', '.', '_' and '~', and %d of them at most", maxClientID/2)
	}
	client, err := newClient(c.BaseURL)
	if err != nil {
		return nil, err
	}
	return &Provider{client: client, prefix: c.ClientIDPrefix}, nil
}

// Name implements managed.Provider.
func (p *Provider) Name() string { return Name }

// Title implements managed.Provider with AutoGPT's title.
func (p *Provider) Title() string { return "AgentMail (managed by AutoGPT)" }

// OnDemand implements managed.Provider: pods cost nothing, so lists provision them.
func (p *Provider) OnDemand() bool { return false }

// clientID is the pod's tag for a user: the user id itself, as AutoGPT has it, where AgentMail accepts that; else '~' and a hash of it.
// A user id that begins with '~' is hashed, too, so that nobody can name themselves after somebody's hash.
func (p *Provider) clientID(user string) string {
	plain := p.prefix + user
	if clientIDForm.MatchString(plain) && len(plain) <= maxClientID && !strings.HasPrefix(user, "~") {
		return plain
	}
	sum := sha256.Sum256([]byte(user))
	return p.prefix + "~" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// podName is the one that AutoGPT gives, so that the pods it has are adopted as they are.
func podName(user string) string { return user + "-pod" }

// keyPrefix is what the names of keys of ours begin with; the attempt's number follows. AutoGPT's own key has no dot and no number: it
// is in use elsewhere.
func keyPrefix(user string) string { return user + "-agpt-managed." }

func keyName(user string, attempt int64) string {
	return keyPrefix(user) + strconv.FormatInt(attempt, 10)
}

// attemptOf is the number of the attempt that a key's name carries, if it is one of ours.
func attemptOf(name, user string) (attempt int64, ours bool) {
	number, ours := strings.CutPrefix(name, keyPrefix(user))
	if !ours {
		return 0, false
	}
	attempt, err := strconv.ParseInt(number, 10, 64)
	return attempt, err == nil
}

type pod struct {
	PodID          string `json:"pod_id"`
	Name           string `json:"name"`
	ClientID       string `json:"client_id"`
	OrganizationID string `json:"organization_id"`
}

type createdKey struct {
	ID     string `json:"api_key_id"`
	PodID  string `json:"pod_id"`
	APIKey string `json:"api_key"`
}

type listedKey struct {
	ID        string `json:"api_key_id"`
	Name      string `json:"name"`
	CreatedAt string `json:"created_at"`
}

// Provision implements managed.Provider.
func (p *Provider) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	grant, err := p.provision(ctx, org, a)
	return grant, classify(err)
}

func (p *Provider) provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	pod, err := p.pod(ctx, org, a)
	if err != nil {
		return managed.Grant{}, err
	}
	a.Found(pod.PodID, pod.OrganizationID)
	if a.Number > 1 {
		keys, err := list[listedKey](ctx, p.client, org, keysPath(pod.PodID), "api_keys")
		if err == nil {
			err = p.removeLower(ctx, org, a, keys)
		}
		if err != nil {
			return managed.Grant{}, fmt.Errorf("removing the keys of earlier attempts: %w", err)
		}
	}
	a.Accounted()
	key, err := p.createKey(ctx, org, a)
	if err != nil {
		return managed.Grant{}, err
	}
	return managed.Grant{
		Resource: credential.Resource{ID: pod.PodID, KeyID: key.ID, OrgID: pod.OrganizationID},
		Key:      credential.NewSecret(key.APIKey),
	}, nil
}

// pod makes the user's pod, or finds the one that is there: the same call. Because it is idempotent it is repeated, each time as a
// create of its own, whose outcome stays unknown if its answer was lost.
func (p *Provider) pod(ctx context.Context, org credential.Secret, a *managed.Attempt) (pod, error) {
	if a.Resource.OrgID != "" { // or the user would get a second pod, in another organisation
		err := p.proveOwner(ctx, org, a.Resource)
		if err != nil {
			return pod{}, err
		}
	}
	clientID := p.clientID(a.User)
	request := map[string]string{"name": podName(a.User), "client_id": clientID}
	var found pod
	err := p.client.do(ctx, func(ctx context.Context) error {
		return a.Create(ctx, func(ctx context.Context) (managed.Outcome, error) {
			found = pod{}
			err := p.client.once(ctx, org, http.MethodPost, "/v0/pods", request, &found)
			if err == nil && (found.ClientID != clientID || found.PodID == "" || found.OrganizationID == "" || found.PodID == found.OrganizationID) {
				err = &managed.Error{Class: managed.Permanent, Err: errors.New("AgentMail answered with a pod that is not this user's: it is left alone")}
			}
			return outcome(err), err
		})
	})
	if err != nil {
		return pod{}, fmt.Errorf("making or finding the pod: %w", err)
	}
	return found, nil
}

// createKey makes the attempt's key. Never repeated: after an unknown outcome the next attempt removes what it may have made.
func (p *Provider) createKey(ctx context.Context, org credential.Secret, a *managed.Attempt) (createdKey, error) {
	request := map[string]string{"name": keyName(a.User, a.Number)}
	var key createdKey
	err := a.Create(ctx, func(ctx context.Context) (managed.Outcome, error) {
		err := p.client.once(ctx, org, http.MethodPost, keysPath(a.Resource.ID), request, &key)
		switch {
		case err != nil:
		case key.PodID != a.Resource.ID:
			err = &managed.Error{Class: managed.Permanent, Err: errors.New("AgentMail answered with a key of another pod: it is left alone")}
		case key.ID == "" || !strings.HasPrefix(key.APIKey, "am_"):
			err = errAnswer
		}
		return outcome(err), err
	})
	if err != nil {
		return createdKey{}, fmt.Errorf("making the key: %w", err)
	}
	return key, nil
}

// Sweep implements managed.Provider.
func (p *Provider) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	keys, err := p.keys(ctx, org, a.Resource)
	if err == nil {
		err = p.removeLower(ctx, org, a, keys)
	}
	if err != nil {
		return classify(err)
	}
	a.Accounted()
	has := func(id string) bool {
		return slices.ContainsFunc(keys, func(key listedKey) bool { return key.ID == id })
	}
	switch {
	case has(a.Resource.KeyID):
		return nil
	case has(""): // that may be the one
		return classify(fmt.Errorf("listing the pod's keys: %w", errAnswer))
	default:
		return &managed.Error{Class: managed.Gone, Err: errors.New("the pod has no such key any more")}
	}
}

// keys lists all keys in the pod. Gone means that there is no such pod any more, with proof.
func (p *Provider) keys(ctx context.Context, org credential.Secret, r credential.Resource) ([]listedKey, error) {
	keys, err := list[listedKey](ctx, p.client, org, keysPath(r.ID), "api_keys")
	if isGone(err) {
		unproven := p.proveOwner(ctx, org, r)
		if unproven != nil {
			return nil, unproven
		}
		err = &managed.Error{Class: managed.Gone, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the pod's keys: %w", err)
	}
	return keys, nil
}

// removeLower removes those keys that are of lower attempts, but the stored one.
func (p *Provider) removeLower(ctx context.Context, org credential.Secret, a *managed.Attempt, keys []listedKey) error {
	for _, key := range keys {
		attempt, ours := attemptOf(key.Name, a.User)
		if !ours || attempt >= a.Number || key.ID != "" && key.ID == a.Resource.KeyID {
			continue
		}
		if key.ID == "" { // the path without it would be answered with 404, which reads as done
			return fmt.Errorf("listing the pod's keys: %w", errAnswer)
		}
		err := p.client.remove(ctx, org, keysPath(a.Resource.ID)+"/"+url.PathEscape(key.ID))
		if err != nil {
			return fmt.Errorf("deleting a key of an earlier attempt: %w", err)
		}
	}
	return nil
}

// Discard implements managed.Provider.
func (p *Provider) Discard(ctx context.Context, org credential.Secret, r credential.Resource) error {
	return classify(p.client.remove(ctx, org, keysPath(r.ID)+"/"+url.PathEscape(r.KeyID)))
}

// Deprovision implements managed.Provider.
func (p *Provider) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return classify(p.deprovision(ctx, org, a))
}

func (p *Provider) deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	stored := a.Resource
	if stored.ID != "" && !a.Inherited() {
		return p.removePod(ctx, org, stored)
	}
	found, err := p.pod(ctx, org, a)
	if err != nil {
		return err
	}
	if stored.ID != "" && stored.ID != found.PodID {
		err = p.removePod(ctx, org, stored)
		var classed *managed.Error
		if err != nil && !(errors.As(err, &classed) && classed.Class == managed.Gone) {
			return err
		}
	}
	a.Found(found.PodID, found.OrganizationID)
	a.Accounted()
	return p.removePod(ctx, org, a.Resource)
}

// removePod empties the pod, keys first, and deletes it. While something in it is still being deleted the class is managed.NotYet.
func (p *Provider) removePod(ctx context.Context, org credential.Secret, r credential.Resource) error {
	path := podPath(r.ID)
	for _, kind := range []struct{ path, list, id string }{
		{"/api-keys", "api_keys", "api_key_id"},
		{"/inboxes", "inboxes", "inbox_id"},
		{"/domains", "domains", "domain_id"},
		{"/webhooks", "webhooks", "webhook_id"},
	} {
		err := p.empty(ctx, org, path+kind.path, kind.list, kind.id)
		if err != nil && !isGone(err) { // what is not found may be the list alone: the pod's own deletion tells
			return fmt.Errorf("emptying the pod: %w", err)
		}
	}
	err := p.client.do(ctx, func(ctx context.Context) error { return p.client.once(ctx, org, http.MethodDelete, path, nil, nil) })
	if isGone(err) {
		unproven := p.proveOwner(ctx, org, r)
		if unproven != nil {
			return unproven
		}
		return &managed.Error{Class: managed.Gone, Err: err}
	}
	if err != nil {
		return fmt.Errorf("deleting the pod: %w", err)
	}
	return nil
}

// empty deletes every member of a list in the pod.
func (p *Provider) empty(ctx context.Context, org credential.Secret, path, member, idName string) error {
	items, err := list[map[string]any](ctx, p.client, org, path, member)
	if err != nil {
		return err
	}
	for _, item := range items {
		id, _ := item[idName].(string)
		if id == "" {
			continue
		}
		err = p.client.remove(ctx, org, path+"/"+url.PathEscape(id))
		if err != nil && !isDeleting(err) {
			return err
		}
	}
	return nil
}

func isDeleting(err error) bool {
	var answered *apiError
	return errors.As(err, &answered) && answered.code == "resource_deleting"
}

// proveOwner makes sure that the org key is one of the organisation that the pod belongs to. Any other, and the key of a single pod, gets
// "not found" for it, too.
func (p *Provider) proveOwner(ctx context.Context, org credential.Secret, r credential.Resource) error {
	owner, err := p.organization(ctx, org)
	if err != nil {
		return fmt.Errorf("asking whose the org key is: %w", err)
	}
	if owner == "" || owner != r.OrgID {
		return &managed.Error{Class: managed.Rejected, Err: errors.New("the org key is not one of the organisation that the pod belongs to")}
	}
	return nil
}

// organization is the one that the org key opens as a whole, or "". It is asked for once per key.
func (p *Provider) organization(ctx context.Context, org credential.Secret) (string, error) {
	p.mu.Lock()
	seen, owner := p.seen, p.seenOrg
	p.mu.Unlock()
	if seen == org && owner != "" {
		return owner, nil
	}
	var me struct {
		ScopeType      string `json:"scope_type"`
		OrganizationID string `json:"organization_id"`
	}
	err := p.client.get(ctx, org, "/v0/auth/me", &me)
	if err != nil {
		return "", err
	}
	if me.ScopeType != "organization" {
		me.OrganizationID = ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.seenOrg = org, me.OrganizationID
	return me.OrganizationID, nil
}

func podPath(podID string) string { return "/v0/pods/" + url.PathEscape(podID) }

func keysPath(podID string) string { return podPath(podID) + "/api-keys" }

// list reads a list to its last page.
func list[T any](ctx context.Context, c *client, org credential.Secret, path, member string) ([]T, error) {
	var all []T
	token := ""
	for {
		items, next, err := page[T](ctx, c, org, path, member, token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		token = next
	}
}

// page reads the page of a list that token stands for, and returns the token of the next; "" is the first, and after the last. A page
// may be empty and still not be the last.
func page[T any](ctx context.Context, c *client, org credential.Secret, path, member, token string) (items []T, next string, err error) {
	query := url.Values{"limit": {"100"}}
	if token != "" {
		query.Set("page_token", token)
	}
	var answer map[string]json.RawMessage
	err = c.get(ctx, org, path+"?"+query.Encode(), &answer)
	if err != nil {
		return nil, "", err
	}
	err = json.Unmarshal(answer[member], &items)
	if err == nil && answer["next_page_token"] != nil {
		err = json.Unmarshal(answer["next_page_token"], &next)
	}
	if err != nil { // also if there is no list: that is not an empty one
		return nil, "", fmt.Errorf("GET %s: %w", path, errAnswer)
	}
	return items, next, nil
}
