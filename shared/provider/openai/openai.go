// Package openai provisions OpenAI's API (https://platform.openai.com/docs): for each user a
// service account, with one key, in a project of the platform's organisation. The org key is an
// admin key.
//
// OpenAI has no idempotency and promises no unique names. A service account's name is all that
// tells whose it is, so package flat does the work: what it calls a key is the account here, which
// comes with its key and goes with it.
package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/rest"
)

// Name is the provider's name in the API.
const Name = "openai"

// DefaultBaseURL is OpenAI's API.
const DefaultBaseURL = "https://api.openai.com"

// Settings say how OpenAI is used. As JSON they are what MANAGED_PROVIDERS holds for it.
type Settings struct {
	// BaseURL is the API's origin; "" means DefaultBaseURL.
	BaseURL string `json:"base_url"`
	// Project is the id of the project that service accounts are made in. It has to be there.
	Project string `json:"project"`
	// FormerProjects are the ids of those that they were made in before: what is there goes on
	// working, and is found and revoked.
	FormerProjects []string `json:"former_projects"`
	// ExpiresInSeconds is how long a key lives, at most a year; 0 for ever. An organisation's
	// policy can demand it.
	ExpiresInSeconds int `json:"expires_in_seconds"`
	// Rate is how many calls a second a process may send on average; 0 means that it finds out by
	// itself.
	Rate float64 `json:"rate"`
	// Transport carries the calls; nil means connections of its own.
	Transport http.RoundTripper `json:"-"`
}

const (
	// longestLife is the longest time after which OpenAI lets a key expire, in seconds.
	longestLife = 31_536_000
	// perPage is the most that OpenAI lists at once.
	perPage = "100"
)

// Provider is OpenAI as a managed.Provider.
type Provider struct {
	*flat.Provider
	api *api
}

var _ managed.Provider = (*Provider)(nil)

// projectForm is what is taken for a project's id.
var projectForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// New returns the provider, or an error if the settings cannot work.
func New(s Settings) (*Provider, error) {
	if s.BaseURL == "" {
		s.BaseURL = DefaultBaseURL
	}
	client, err := rest.New(rest.Config{BaseURL: s.BaseURL, Transport: s.Transport, Explain: explain})
	noProject := func(id string) bool { return !projectForm.MatchString(id) }
	switch {
	case err != nil:
		return nil, fmt.Errorf("base_url: %w", err)
	case noProject(s.Project):
		return nil, errors.New("project has to be the id of the project that service accounts are made in")
	case slices.ContainsFunc(s.FormerProjects, noProject) || slices.Contains(s.FormerProjects, s.Project):
		return nil, errors.New("former_projects has to be the ids of other projects")
	case s.ExpiresInSeconds < 0 || s.ExpiresInSeconds > longestLife:
		return nil, fmt.Errorf("expires_in_seconds has to be from 1 to %d, or left out", longestLife)
	case !(s.Rate == 0 || s.Rate >= 0.1 && s.Rate <= 10_000):
		return nil, errors.New("rate has to be a number of calls a second from 0.1 to 10000")
	}
	a := &api{client: client, settings: s}
	return &Provider{Provider: flat.New(a, s.Rate), api: a}, nil
}

// codeForm is what OpenAI's codes look like.
var codeForm = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// requestForm is what OpenAI's names of calls look like.
var requestForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// explain reads an answer that is no success: {"error":{"message","type","param","code"}}.
func explain(_ int, header http.Header, answer []byte) rest.Explanation {
	var body struct {
		Error struct {
			Type string `json:"type"`
			Code string `json:"code"`
		} `json:"error"`
	}
	_ = json.Unmarshal(answer, &body) // what stands before OpenAI has no code
	var e rest.Explanation
	for _, code := range []string{body.Error.Code, body.Error.Type} {
		if e.Code == "" && codeForm.MatchString(code) {
			e.Code = code
		}
	}
	if e.Code == "insufficient_quota" {
		e.Class = managed.Quota
	}
	if id := header.Get("x-request-id"); requestForm.MatchString(id) {
		e.RequestID = id
	}
	return e
}

// projects is where the API's paths begin.
const projects = "/v1/organization/projects/"

func path(project, list, id string) string {
	p := projects + url.PathEscape(project) + "/" + list
	if id != "" {
		p += "/" + url.PathEscape(id)
	}
	return p
}

// The lists of a project.
const (
	accounts = "service_accounts"
	keys     = "api_keys"
)

// api is OpenAI as a flat.Author.
type api struct {
	client   *rest.Client
	settings Settings
}

var (
	_ flat.Author = (*api)(nil)
	_ flat.Keyed  = (*api)(nil)
)

// Name implements flat.Author.
func (a *api) Name() string { return Name }

// Title implements flat.Author.
func (a *api) Title() string { return "OpenAI (managed by AutoGPT)" }

// account is a service account as OpenAI shows it.
type account struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	CreatedAt int64  `json:"created_at"`
}

func (c account) key(project string) flat.Key {
	k := flat.Key{ID: c.ID, Name: c.Name, Organization: project}
	if c.CreatedAt > 0 {
		k.CreatedAt = time.Unix(c.CreatedAt, 0)
	}
	return k
}

// isArchived reports whether a project is there, and archived: then nothing is in it any more, and
// calls about it are refused with 400.
func (a *api) isArchived(ctx context.Context, org credential.Secret, project string, err error) bool {
	var refusal *rest.Refusal
	if !errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest {
		return false
	}
	found, err := a.project(ctx, org, project)
	return err == nil && found.Status == "archived"
}

type project struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (a *api) project(ctx context.Context, org credential.Secret, id string) (project, error) {
	var found project
	err := a.client.Get(ctx, org, projects+url.PathEscape(id), &found)
	if err == nil && found.ID != id {
		err = fmt.Errorf("looking at a project: %w", rest.ErrAnswer)
	}
	return found, err
}

// gone is what says that something was not found.
func gone(what string) error {
	return &rest.Refusal{Method: http.MethodGet, Path: what, Status: http.StatusNotFound}
}

// Owns implements flat.Author: an organisation is known by its projects, which its admin keys see,
// also those that are archived. Ours are the projects of the settings.
func (a *api) Owns(ctx context.Context, org credential.Secret) ([]string, error) {
	var owned []string
	for _, id := range append([]string{a.settings.Project}, a.settings.FormerProjects...) {
		_, err := a.project(ctx, org, id)
		switch {
		case err == nil:
			owned = append(owned, id)
		case !rest.IsGone(err):
			return nil, err
		case id == a.settings.Project:
			return nil, &managed.Error{Class: managed.Foreign, Err: errors.New("the organisation of the org key does not have the project of the settings")}
		}
	}
	return owned, nil
}

// Create implements flat.Author.
func (a *api) Create(ctx context.Context, org credential.Secret, name string) (flat.Made, error) {
	request := struct {
		Name             string `json:"name"`
		ExpiresInSeconds int    `json:"expires_in_seconds,omitzero"`
	}{name, a.settings.ExpiresInSeconds}
	var answer struct {
		account
		APIKey struct {
			Value     string `json:"value"`
			ExpiresAt int64  `json:"expires_at"`
		} `json:"api_key"`
	}
	_, err := a.client.Send(ctx, org, http.MethodPost, path(a.settings.Project, accounts, ""), request, &answer)
	if err == nil && !strings.HasPrefix(answer.APIKey.Value, "sk-") {
		err = rest.ErrAnswer
	}
	if err != nil {
		return flat.Made{}, err
	}
	made := flat.Made{Key: answer.key(a.settings.Project), Secret: credential.NewSecret(answer.APIKey.Value)}
	if answer.APIKey.ExpiresAt > 0 {
		made.ExpiresAt = time.Unix(answer.APIKey.ExpiresAt, 0)
	}
	return made, nil
}

// Get implements flat.Author.
func (a *api) Get(ctx context.Context, org credential.Secret, project, id string) (flat.Key, error) {
	var found account
	err := a.client.Get(ctx, org, path(project, accounts, id), &found)
	if a.isArchived(ctx, org, project, err) {
		err = gone(accounts)
	}
	if err == nil && found.ID != id {
		err = rest.ErrAnswer
	}
	return found.key(project), err
}

// List implements flat.Author.
func (a *api) List(org credential.Secret, project string) rest.Page[flat.Key] {
	return func(ctx context.Context, after string) ([]flat.Key, string, error) {
		found, next, err := list[account](ctx, a, org, listing{project: project, name: accounts, after: after})
		var all []flat.Key
		for _, c := range found {
			all = append(all, c.key(project))
		}
		return all, next, err
	}
}

// Delete implements flat.Author.
func (a *api) Delete(ctx context.Context, org credential.Secret, project, id string) error {
	return a.remove(ctx, org, project, path(project, accounts, id))
}

// Openers implements flat.Keyed. Without owner_project_access some that work are left out.
func (a *api) Openers(org credential.Secret, project string) rest.Page[flat.Opener] {
	type key struct {
		ID        string `json:"id"`
		ExpiresAt int64  `json:"expires_at"`
		Owner     struct {
			ServiceAccount account `json:"service_account"`
		} `json:"owner"`
	}
	return func(ctx context.Context, after string) ([]flat.Opener, string, error) {
		found, next, err := list[key](ctx, a, org, listing{project: project, name: keys, after: after, query: url.Values{"owner_project_access": {"any"}}})
		var all []flat.Opener
		for _, k := range found {
			expired := k.ExpiresAt > 0 && k.ExpiresAt <= clock.Now().Unix()
			all = append(all, flat.Opener{ID: k.ID, Account: k.Owner.ServiceAccount.ID, Name: k.Owner.ServiceAccount.Name, Expired: expired})
		}
		return all, next, err
	}
}

// Close implements flat.Keyed.
func (a *api) Close(ctx context.Context, org credential.Secret, project, id string) error {
	return a.remove(ctx, org, project, path(project, keys, id))
}

// remove deletes what has this path in a project.
func (a *api) remove(ctx context.Context, org credential.Secret, project, path string) error {
	var answer struct {
		ID      string `json:"id"`
		Deleted bool   `json:"deleted"`
	}
	err := a.client.Remove(ctx, org, path, &answer, http.StatusOK)
	if a.isArchived(ctx, org, project, err) {
		return gone(path)
	}
	if err == nil && (!answer.Deleted || !strings.HasSuffix(path, "/"+url.PathEscape(answer.ID))) {
		err = fmt.Errorf("DELETE %s does not say that it was deleted: %w", path, rest.ErrAnswer)
	}
	return err
}

// listing is one page of a list.
type listing struct {
	project, name string
	query         url.Values
	// after is the id of the last one that was read; "" for the start.
	after string
}

// list reads a page of a list, and returns after which id the next one begins. Without its member
// it is no list, which is not the same as an empty one. A project that is archived has nothing.
func list[T any](ctx context.Context, a *api, org credential.Secret, l listing) ([]T, string, error) {
	query := url.Values{"limit": {perPage}}
	for name, values := range l.query {
		query[name] = values
	}
	if l.after != "" {
		query.Set("after", l.after)
	}
	var answer struct {
		Data    []T    `json:"data"`
		LastID  string `json:"last_id"`
		HasMore bool   `json:"has_more"`
	}
	err := a.client.Get(ctx, org, path(l.project, l.name, "")+"?"+query.Encode(), &answer)
	switch {
	case a.isArchived(ctx, org, l.project, err):
		return nil, "", nil
	case isLost(err, l.after):
		return nil, "", &managed.Error{Class: managed.Transient, Err: fmt.Errorf("the list has lost its place: %w", err)}
	case err != nil:
		return nil, "", err
	case answer.Data == nil || answer.HasMore && answer.LastID == "":
		return nil, "", fmt.Errorf("GET %s: %w", l.name, rest.ErrAnswer)
	case !answer.HasMore:
		answer.LastID = ""
	}
	return answer.Data, answer.LastID, nil
}

// isLost reports whether a page was refused because the one that it comes after has gone meanwhile.
func isLost(err error, after string) bool {
	var refusal *rest.Refusal
	return after != "" && errors.As(err, &refusal) && (refusal.Status == http.StatusBadRequest || refusal.Status == http.StatusNotFound)
}
