// Package agentmail provisions AgentMail (https://docs.agentmail.to): for each user a pod of the
// platform's organisation, and an API key scoped to that pod.
//
// A pod is idempotent by its client_id, so the repeated POST is also the lookup. A key is not: each
// POST makes another, so a POST for a key is never repeated, and keys carry the number of the
// attempt in their names. A pod cannot be deleted while it holds anything, and inboxes go on being
// deleted for a while after the answer.
package agentmail

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
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
	"managed-credentials/shared/provider/rest"
)

// Name is the provider's name in the API.
const Name = "agent_mail"

// DefaultBaseURL is AgentMail's API.
const DefaultBaseURL = "https://api.agentmail.to"

// Config says how AgentMail is used.
type Config struct {
	// BaseURL is the API's origin; "" means DefaultBaseURL.
	BaseURL string
	// ClientIDPrefix goes before each pod's client_id, to keep deployments apart that share an
	// organisation.
	ClientIDPrefix string
	// Rate is how many calls a second a process may send on average; 0 means that it finds out by
	// itself.
	Rate float64
	// Adopts says that users may have pods that another service made: a deletion asks for them.
	Adopts bool
	// Permissions are what a managed key may do: a JSON object of names and whether it has them,
	// null for what AgentMail gives a key by itself; "" for that less the making of keys.
	Permissions string
	// Transport carries the calls; nil means connections of its own.
	Transport http.RoundTripper
}

// Provider is AgentMail as a managed.Provider.
type Provider struct {
	client      *rest.Client
	prefix      string
	rate        float64
	adopts      bool
	permissions map[string]bool // nil: what AgentMail gives a key by itself

	mu sync.Mutex
	// seen and seenOrg are the org key that was last asked whose it is, and the answer.
	seen    credential.Secret
	seenOrg string
	// maker and makerOrg are the org key that made or found the last pod, and the pod's
	// organisation.
	maker    credential.Secret
	makerOrg string
}

var (
	_ managed.Provider  = (*Provider)(nil)
	_ managed.Paced     = (*Provider)(nil)
	_ managed.Disarmer  = (*Provider)(nil)
	_ managed.Adopter   = (*Provider)(nil)
	_ managed.Organized = (*Provider)(nil)
	_ managed.Staying   = (*Provider)(nil)
)

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
	client, err := rest.New(rest.Config{BaseURL: c.BaseURL, Explain: explain, Transport: c.Transport})
	if err != nil {
		return nil, fmt.Errorf("AGENTMAIL_BASE_URL: %w", err)
	}
	permissions, err := parsePermissions(c.Permissions)
	if err != nil {
		return nil, err
	}
	return &Provider{client: client, prefix: c.ClientIDPrefix, rate: c.Rate, adopts: c.Adopts, permissions: permissions}, nil
}

// Name implements managed.Provider.
func (p *Provider) Name() string { return Name }

// Title implements managed.Provider with AutoGPT's title.
func (p *Provider) Title() string { return "AgentMail (managed by AutoGPT)" }

// Stays implements managed.Staying.
func (p *Provider) Stays() string {
	return "A revoked key may go on working for some minutes. Mail that was sent stays with those who got it."
}

// Adopts implements managed.Adopter.
func (p *Provider) Adopts() bool { return p.adopts }

// Rate implements managed.Paced.
func (p *Provider) Rate() float64 { return p.rate }

// clientID is the pod's tag for a user: the user id itself, as AutoGPT has it, where AgentMail
// accepts that; else '~' and a hash of it. A user id that begins with '~' is hashed, too, so that
// nobody can name themselves after somebody's hash.
func (p *Provider) clientID(user string) string {
	plain := p.prefix + user
	if clientIDForm.MatchString(plain) && len(plain) <= maxClientID && !strings.HasPrefix(user, "~") {
		return plain
	}
	sum := sha256.Sum256([]byte(user))
	return p.prefix + "~" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// podName is the one that AutoGPT gives, and after it the id of the deployment that makes the pod.
func podName(user, deployment string) string {
	if deployment == "" {
		return user + "-pod"
	}
	return user + "-pod." + deployment
}

// markOf is the id of the deployment that made a pod of that name; "" if it carries none.
func markOf(name, user string) string {
	id, marked := strings.CutPrefix(name, podName(user, "")+".")
	if !marked || !deploymentForm.MatchString(id) {
		return ""
	}
	return id
}

var deploymentForm = regexp.MustCompile(`^[a-z2-7]{8}$`)

// keyPrefix is what the names of keys of ours begin with; the deployment's id and the attempt's
// number follow. AutoGPT's own key has no dot and no number: it is in use elsewhere.
func keyPrefix(user string) string { return user + "-agpt-managed." }

func keyName(a *managed.Attempt) string {
	number := strconv.FormatInt(a.Number, 10)
	if a.Deployment == "" {
		return keyPrefix(a.User) + number
	}
	return keyPrefix(a.User) + a.Deployment + "." + number
}

// parseKeyName reads the id of the deployment, "" if there is none, and the number of the attempt
// that the name of a key such as ours carries.
func parseKeyName(name, user string) (deployment string, attempt int64, ok bool) {
	number, ok := strings.CutPrefix(name, keyPrefix(user))
	if !ok {
		return "", 0, false
	}
	id, rest, marked := strings.Cut(number, ".")
	if marked && deploymentForm.MatchString(id) {
		deployment, number = id, rest
	}
	attempt, err := strconv.ParseInt(number, 10, 64)
	return deployment, attempt, err == nil
}

// attemptOf is the number of the attempt that a key's name carries, if it is one of ours: with this
// deployment's id, or with none.
func attemptOf(name string, a *managed.Attempt) (attempt int64, ours bool) {
	deployment, attempt, ok := parseKeyName(name, a.User)
	return attempt, ok && !isOthers(deployment, a)
}

// isOthers reports whether an id is that of another deployment.
func isOthers(deployment string, a *managed.Attempt) bool {
	return deployment != "" && deployment != a.Deployment
}

// haveOthers reports whether any of the keys is one of another deployment.
func haveOthers(keys []listedKey, a *managed.Attempt) bool {
	return slices.ContainsFunc(keys, func(key listedKey) bool {
		deployment, _, _ := parseKeyName(key.Name, a.User)
		return isOthers(deployment, a)
	})
}

// errShared: what is left of the pod is not ours to touch.
var errShared = &managed.Error{Class: managed.Mismatch, Err: errors.New("the pod is one of another deployment in this organisation, or holds keys of one: it is neither adopted nor removed")}

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
	// ExpiresAt is that of the org key, if it has one: AgentMail gives it to all that a key makes.
	ExpiresAt string `json:"expires_at"`
}

type listedKey struct {
	ID        string `json:"api_key_id"`
	Name      string `json:"name"`
	CreatedAt string `json:"created_at"`
	// Permissions are null where the key has what AgentMail gives by itself.
	Permissions map[string]bool `json:"permissions"`
}

// Provision implements managed.Provider.
func (p *Provider) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	grant, err := p.provision(ctx, org, a)
	return grant, rest.Classify(err)
}

func (p *Provider) provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	pod, err := p.pod(ctx, org, a)
	if err != nil {
		return managed.Grant{}, err
	}
	mark, stored := markOf(pod.Name, a.User), a.Resource()
	if isOthers(mark, a) {
		return managed.Grant{}, errShared
	}
	a.Found(pod.PodID, pod.OrganizationID)
	adopted := a.Deployment != "" && mark == ""
	if a.Number > 1 || adopted {
		keys, err := rest.All(ctx, p.listOfKeys(org, pod.PodID))
		if err == nil && haveOthers(keys, a) {
			a.Found(stored.ID, stored.OrgID)
			return managed.Grant{}, errShared
		}
		if err == nil {
			err = p.removeLower(ctx, org, a, keys)
		}
		if err != nil {
			return managed.Grant{}, fmt.Errorf("removing the keys of earlier attempts: %w", err)
		}
	}
	key, err := p.createKey(ctx, org, a)
	if err != nil {
		return managed.Grant{}, err
	}
	return managed.Grant{
		Resource: credential.Resource{ID: pod.PodID, KeyID: key.ID, OrgID: pod.OrganizationID},
		Key:      credential.NewSecret(key.APIKey),
		// One that cannot be read is none: the key is there all the same.
		ExpiresAt: parseTime(key.ExpiresAt),
	}, nil
}

// pod makes the user's pod, or finds the one that is there: the same call. Because it is idempotent
// it is repeated, each time as a create of its own, whose outcome stays unknown if its answer was
// lost.
func (p *Provider) pod(ctx context.Context, org credential.Secret, a *managed.Attempt) (pod, error) {
	err := p.proveMaker(ctx, org, a)
	if err != nil {
		return pod{}, err
	}
	if a.Resource().OrgID != "" { // or the user would get a second pod, in another organisation
		err := p.proveOwner(ctx, org, a.Resource())
		if err != nil {
			return pod{}, err
		}
	}
	clientID := p.clientID(a.User)
	request := map[string]string{"name": podName(a.User, a.Deployment), "client_id": clientID}
	var found pod
	err = p.client.Do(ctx, func(ctx context.Context) error {
		return a.Create(ctx, func(ctx context.Context) (managed.Outcome, error) {
			found = pod{}
			_, err := p.client.Send(ctx, org, http.MethodPost, "/v0/pods", request, &found)
			if err != nil {
				return rest.Outcome(err), err
			}
			if found.ClientID == clientID && found.PodID != "" {
				err = p.complete(ctx, org, &found)
			}
			if err == nil && (found.ClientID != clientID || found.PodID == "" || found.PodID == found.OrganizationID) {
				err = &managed.Error{Class: managed.Permanent, Err: errors.New("AgentMail answered with a pod that is not this user's: it is left alone")}
			}
			if err != nil { // it was made, and the slot cannot name it
				return managed.Unknown, err
			}
			p.madeIn(org, found.OrganizationID)
			return managed.Known, nil
		})
	})
	if err != nil {
		return pod{}, fmt.Errorf("making or finding the pod: %w", err)
	}
	return found, nil
}

// createKey makes the attempt's key. Never repeated: after an unknown outcome the next attempt
// removes what it may have made.
func (p *Provider) createKey(ctx context.Context, org credential.Secret, a *managed.Attempt) (createdKey, error) {
	request := struct {
		Name        string          `json:"name"`
		Permissions map[string]bool `json:"permissions,omitzero"`
	}{keyName(a), p.permissions}
	var key createdKey
	err := a.Create(ctx, func(ctx context.Context) (managed.Outcome, error) {
		_, err := p.client.Send(ctx, org, http.MethodPost, keysPath(a.Resource().ID), request, &key)
		switch {
		case err != nil:
		case key.PodID != a.Resource().ID:
			err = &managed.Error{Class: managed.Permanent, Err: errors.New("AgentMail answered with a key of another pod: it is left alone")}
		case key.ID == "" || !strings.HasPrefix(key.APIKey, "am_"):
			err = rest.ErrAnswer
		}
		return rest.Outcome(err), err
	})
	if err != nil {
		return createdKey{}, refusedPermissions(fmt.Errorf("making the key: %w", err))
	}
	return key, nil
}

// Sweep implements managed.Provider.
func (p *Provider) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return rest.Classify(p.sweep(ctx, org, a))
}

func (p *Provider) sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	keys, err := p.keys(ctx, org, a.Resource())
	if err != nil {
		return err
	}
	switch {
	case has(keys, a.Resource().KeyID):
	case has(keys, ""): // that may be the one
		return fmt.Errorf("listing the pod's keys: %w", rest.ErrAnswer)
	default:
		return &managed.Error{Class: managed.Gone, Err: errors.New("the pod's list of keys does not have the stored one")}
	}
	err = p.removeLower(ctx, org, a, keys)
	if err != nil {
		return err
	}
	a.Accounted()
	return p.updateKey(ctx, org, a.Resource(), keys)
}

// keys lists all keys in the pod. Gone means that there is no such pod any more, by every path that
// there is.
func (p *Provider) keys(ctx context.Context, org credential.Secret, r credential.Resource) ([]listedKey, error) {
	keys, err := rest.All(ctx, p.listOfKeys(org, r.ID))
	if rest.IsGone(err) {
		missing := err
		_, err = p.find(ctx, org, r)
		if err == nil {
			err = &managed.Error{Class: managed.Transient, Err: fmt.Errorf("the pod is there, but its keys are not: %w", missing)}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the pod's keys: %w", err)
	}
	return keys, nil
}

func has(keys []listedKey, id string) bool {
	return slices.ContainsFunc(keys, func(key listedKey) bool { return key.ID == id })
}

// removeLower removes those keys that are of lower attempts, but what the attempt keeps.
func (p *Provider) removeLower(ctx context.Context, org credential.Secret, a *managed.Attempt, keys []listedKey) error {
	for _, key := range keys {
		attempt, ours := attemptOf(key.Name, a)
		if !ours || attempt >= a.Number || a.Keeps(key.ID) {
			continue
		}
		if key.ID == "" { // the path without it would be answered with 404, which reads as done
			return fmt.Errorf("listing the pod's keys: %w", rest.ErrAnswer)
		}
		err := p.removeKey(ctx, org, credential.Resource{ID: a.Resource().ID, KeyID: key.ID, OrgID: a.Resource().OrgID})
		if err != nil {
			return fmt.Errorf("deleting a key of an earlier attempt: %w", err)
		}
	}
	return nil
}

// removeKey deletes a key. One that is not found is no error, if the pod's list does not have it
// either.
func (p *Provider) removeKey(ctx context.Context, org credential.Secret, r credential.Resource) error {
	err := p.client.Remove(ctx, org, keysPath(r.ID)+"/"+url.PathEscape(r.KeyID), nil, http.StatusNoContent)
	if !rest.IsGone(err) {
		return err
	}
	keys, listErr := rest.All(ctx, p.listOfKeys(org, r.ID))
	switch {
	case rest.IsGone(listErr):
		return p.proveOwner(ctx, org, r) // nor is the pod, which is for others to find out
	case listErr != nil:
		return listErr
	case has(keys, r.KeyID):
		return &managed.Error{Class: managed.Transient, Err: fmt.Errorf("the key is listed, but it is not found: %w", err)}
	}
	return nil
}

// Discard implements managed.Provider.
func (p *Provider) Discard(ctx context.Context, org credential.Secret, r credential.Resource) error {
	return rest.Classify(p.removeKey(ctx, org, r))
}

func podPath(podID string) string { return "/v0/pods/" + url.PathEscape(podID) }

func keysPath(podID string) string { return podPath(podID) + "/api-keys" }

func (p *Provider) pods(org credential.Secret) rest.Page[pod] {
	return pages[pod](p.client, org, "/v0/pods", "pods")
}

func (p *Provider) listOfKeys(org credential.Secret, podID string) rest.Page[listedKey] {
	return pages[listedKey](p.client, org, keysPath(podID), "api_keys")
}
