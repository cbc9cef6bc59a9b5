// Package openrouter provisions OpenRouter (https://openrouter.ai/docs): for each user an API key
// in a workspace of the platform's account, with a spending limit. The org key is a management key.
//
// OpenRouter has no idempotency and no unique names, and lists keys by offset alone. So package
// flat does the work, and this one has the calls.
package openrouter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/rest"
)

// Name is the provider's name in the API.
const Name = "open_router"

// DefaultBaseURL is OpenRouter's API.
const DefaultBaseURL = "https://openrouter.ai"

// Settings say how OpenRouter is used. As JSON they are what MANAGED_PROVIDERS holds for it.
type Settings struct {
	// BaseURL is the API's origin; "" means DefaultBaseURL.
	BaseURL string `json:"base_url"`
	// Limit is what a key may spend, in US dollars: per LimitReset, or, where that is "", in all.
	// More than 0: without a limit one user can spend all that the account has.
	Limit float64 `json:"limit"`
	// LimitReset is when a key may spend its limit again: "daily", "weekly" or "monthly", at
	// midnight UTC; "" for never.
	LimitReset string `json:"limit_reset"`
	// Workspace is the id of the workspace that keys are made in. It has to be there.
	Workspace string `json:"workspace"`
	// Rate is how many calls a second a process may send on average; 0 means that it finds out by
	// itself.
	Rate float64 `json:"rate"`
	// Transport carries the calls; nil means connections of its own.
	Transport http.RoundTripper `json:"-"`
}

// Provider is OpenRouter as a managed.Provider.
type Provider struct {
	*flat.Provider
	api *api
}

var (
	_ managed.Provider = (*Provider)(nil)
	_ managed.Expiring = (*Provider)(nil)
)

// New returns the provider, or an error if the settings cannot work.
func New(s Settings) (*Provider, error) {
	if s.BaseURL == "" {
		s.BaseURL = DefaultBaseURL
	}
	client, err := rest.New(rest.Config{BaseURL: s.BaseURL, Transport: s.Transport})
	switch {
	case err != nil:
		return nil, fmt.Errorf("base_url: %w", err)
	case !(s.Limit > 0 && s.Limit <= 1_000_000):
		return nil, errors.New("limit has to be how many US dollars a key may spend, more than 0 and at most 1000000")
	case s.Workspace == "":
		return nil, errors.New("workspace has to be the id of the workspace that keys are made in")
	case !slices.Contains([]string{"", "daily", "weekly", "monthly"}, s.LimitReset):
		return nil, errors.New(`limit_reset has to be "daily", "weekly" or "monthly", or left out`)
	case !(s.Rate == 0 || s.Rate >= 0.1 && s.Rate <= 10_000):
		return nil, errors.New("rate has to be a number of calls a second from 0.1 to 10000")
	}
	a := &api{client: client, settings: s}
	return &Provider{Provider: flat.New(a, s.Rate), api: a}, nil
}

// OrgKeyExpires implements managed.Expiring.
func (p *Provider) OrgKeyExpires(ctx context.Context, org credential.Secret) (time.Time, error) {
	var answer struct {
		Data *struct {
			ExpiresAt *time.Time `json:"expires_at"`
		} `json:"data"`
	}
	err := p.api.client.Get(ctx, org, root+"/key", &answer)
	if err == nil && answer.Data == nil {
		err = rest.ErrAnswer
	}
	if err != nil || answer.Data.ExpiresAt == nil {
		return time.Time{}, rest.Classify(err)
	}
	return *answer.Data.ExpiresAt, nil
}

// root is where the API's paths begin.
const root = "/api/v1"

func keyPath(hash string) string { return root + "/keys/" + url.PathEscape(hash) }

// api is OpenRouter as a flat.Author.
type api struct {
	client   *rest.Client
	settings Settings
}

var (
	_ flat.Author     = (*api)(nil)
	_ flat.Succeeding = (*api)(nil)
)

// Name implements flat.Author.
func (a *api) Name() string { return Name }

// Title implements flat.Author.
func (a *api) Title() string { return "OpenRouter (managed by AutoGPT)" }

// listed is a key as OpenRouter shows it. Its hash is its id, and tells nothing of the key.
type listed struct {
	Hash        string     `json:"hash"`
	Name        string     `json:"name"`
	WorkspaceID string     `json:"workspace_id"`
	CreatedAt   time.Time  `json:"created_at"`
	ExpiresAt   *time.Time `json:"expires_at"`
	Disabled    bool       `json:"disabled"`
	// LimitRemaining is how many dollars it may still spend, until LimitReset where that is not "";
	// nil without a limit.
	LimitRemaining *float64 `json:"limit_remaining"`
	LimitReset     string   `json:"limit_reset"`
}

func (k listed) key() flat.Key {
	spent := k.LimitRemaining != nil && *k.LimitRemaining <= 0
	key := flat.Key{ID: k.Hash, Name: k.Name, Organization: k.WorkspaceID, CreatedAt: k.CreatedAt, Unusable: k.Disabled || spent}
	if k.LimitReset == "" {
		key.Left = k.LimitRemaining
	}
	return key
}

type workspace struct {
	ID string `json:"id"`
}

// Owns implements flat.Author: an account is known by its workspaces, which its management keys
// see, all of them. So a key in one of them is gone if such a key does not find it.
func (a *api) Owns(ctx context.Context, org credential.Secret) ([]string, error) {
	all, err := rest.All(ctx, rest.Offsets(func(ctx context.Context, offset int) ([]workspace, error) {
		return list[workspace](ctx, a.client, org, "/workspaces", url.Values{"offset": {strconv.Itoa(offset)}})
	}, func(w workspace) string { return w.ID }))
	if err != nil {
		return nil, err
	}
	ids := []string{a.settings.Workspace}
	for _, w := range all {
		if !slices.Contains(ids, w.ID) {
			ids = append(ids, w.ID)
		}
	}
	if !slices.Contains(all, workspace{a.settings.Workspace}) { // of another account
		ids = ids[1:]
	}
	return ids, nil
}

// Create implements flat.Author.
func (a *api) Create(ctx context.Context, org credential.Secret, name string) (flat.Made, error) {
	return a.create(ctx, org, name, a.settings.Limit)
}

// CreateAfter implements flat.Succeeding: a limit that is never renewed is not lifted by another
// key. While both serve, a user can spend what is left twice.
func (a *api) CreateAfter(ctx context.Context, org credential.Secret, name string, old flat.Key) (flat.Made, error) {
	limit := a.settings.Limit
	if a.settings.LimitReset == "" && old.Left != nil {
		limit = min(limit, *old.Left)
	}
	return a.create(ctx, org, name, limit)
}

func (a *api) create(ctx context.Context, org credential.Secret, name string, limit float64) (flat.Made, error) {
	request := struct {
		Name        string  `json:"name"`
		Limit       float64 `json:"limit"`
		LimitReset  string  `json:"limit_reset,omitzero"`
		WorkspaceID string  `json:"workspace_id"`
	}{name, limit, a.settings.LimitReset, a.settings.Workspace}
	var answer struct {
		Key  string `json:"key"`
		Data listed `json:"data"`
	}
	status, err := a.client.Send(ctx, org, http.MethodPost, root+"/keys", request, &answer)
	if err == nil && (status != http.StatusCreated || !strings.HasPrefix(answer.Key, "sk-or-")) {
		err = rest.ErrAnswer
	}
	if err != nil {
		return flat.Made{}, err
	}
	made := flat.Made{Key: answer.Data.key(), Secret: credential.NewSecret(answer.Key)}
	if answer.Data.ExpiresAt != nil {
		made.ExpiresAt = *answer.Data.ExpiresAt
	}
	return made, nil
}

// Get implements flat.Author.
func (a *api) Get(ctx context.Context, org credential.Secret, _, id string) (flat.Key, error) {
	var answer struct {
		Data listed `json:"data"`
	}
	err := a.client.Get(ctx, org, keyPath(id), &answer)
	if err == nil && answer.Data.Hash != id {
		err = rest.ErrAnswer
	}
	return answer.Data.key(), err
}

// List implements flat.Author.
func (a *api) List(org credential.Secret, organization string) rest.Page[flat.Key] {
	return rest.Offsets(func(ctx context.Context, offset int) ([]flat.Key, error) {
		keys, err := list[listed](ctx, a.client, org, "/keys", url.Values{
			"workspace_id": {organization}, "include_disabled": {"true"}, "offset": {strconv.Itoa(offset)},
		})
		var all []flat.Key
		for _, key := range keys {
			all = append(all, key.key())
		}
		return all, err
	}, func(key flat.Key) string { return key.ID })
}

// Delete implements flat.Author.
func (a *api) Delete(ctx context.Context, org credential.Secret, _, id string) error {
	var answer struct {
		Deleted bool `json:"deleted"`
	}
	err := a.client.Remove(ctx, org, keyPath(id), &answer, http.StatusOK)
	if err == nil && !answer.Deleted {
		err = fmt.Errorf("DELETE %s says that nothing was deleted: %w", keyPath(id), rest.ErrAnswer)
	}
	return err
}

// list reads what a list has from an offset on. Without its member it is no list, which is not the
// same as an empty one.
func list[T any](ctx context.Context, c *rest.Client, org credential.Secret, path string, query url.Values) ([]T, error) {
	var answer struct {
		Data []T `json:"data"`
	}
	err := c.Get(ctx, org, root+path+"?"+query.Encode(), &answer)
	if err == nil && answer.Data == nil {
		err = fmt.Errorf("GET %s: %w", path, rest.ErrAnswer)
	}
	return answer.Data, err
}
