// Package ayrshare provisions Ayrshare (https://www.ayrshare.com/docs): for each user a profile of
// the platform's account, to which they link their social networks, and its profile key.
//
// A profile's key is told once, and a profile's title is unique. A title carries the attempt that
// makes the profile, so that what is deleted by its title is never another attempt's, and package
// flat does the work. Lists of profiles are a few minutes old ([flat.Lagging]); deletions and the
// check for uniqueness are not.
package ayrshare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/rest"
)

// Name is the provider's name in the API.
const Name = "ayrshare"

// DefaultBaseURL is Ayrshare's API.
const DefaultBaseURL = "https://api.ayrshare.com"

// Settings say how Ayrshare is used. As JSON they are what MANAGED_PROVIDERS holds for it.
type Settings struct {
	// BaseURL is the API's origin; "" means DefaultBaseURL.
	BaseURL string `json:"base_url"`
	// DisableSocial are the networks that users cannot link, by Ayrshare's names.
	DisableSocial []string `json:"disable_social"`
	// TopHeader is what the page says above that on which users link their networks; "" for
	// nothing.
	TopHeader string `json:"top_header"`
	// Rate is how many calls a second a process may send on average; 0 means defaultRate.
	Rate float64 `json:"rate"`
	// Transport carries the calls; nil means connections of its own.
	Transport http.RoundTripper `json:"-"`
}

const (
	// defaultRate is what Ayrshare takes of all processes together: 300 calls in five minutes. To
	// find out by trying would be held against the account, which is suspended for it.
	defaultRate = 1.0
	// perPage is how many profiles are read at once. A page has to fit into an answer.
	perPage = 1000
	// longestLag is how old a list is that does not say it: it is renewed every five minutes.
	longestLag = 5 * time.Minute
	// overdue is how much later than it said a list may be renewed.
	overdue = time.Minute
)

// Provider is Ayrshare as a managed.Provider.
type Provider struct {
	*flat.Provider
	api *api
}

var (
	_ managed.Provider      = (*Provider)(nil)
	_ managed.Staying       = (*Provider)(nil)
	_ managed.Irreplaceable = (*Provider)(nil)
)

// New returns the provider, or an error if the settings cannot work.
func New(s Settings) (*Provider, error) {
	if s.BaseURL == "" {
		s.BaseURL = DefaultBaseURL
	}
	if s.Rate == 0 {
		s.Rate = defaultRate
	}
	client, err := rest.New(rest.Config{BaseURL: s.BaseURL, Transport: s.Transport, Explain: explain})
	switch {
	case err != nil:
		return nil, fmt.Errorf("base_url: %w", err)
	case !(s.Rate >= 0.01 && s.Rate <= 10_000):
		return nil, errors.New("rate has to be a number of calls a second from 0.01 to 10000")
	}
	a := &api{client: client, settings: s}
	return &Provider{Provider: flat.New(a, s.Rate), api: a}, nil
}

// Stays implements managed.Staying.
func (p *Provider) Stays() string {
	return "What was published stays on the networks. A user's own networks may go on listing Ayrshare among the applications that have access, until the user removes it there."
}

// Irreplaceable implements managed.Irreplaceable.
func (p *Provider) Irreplaceable() string {
	return "Another profile would have none of the networks that the user has linked: the key of an Ayrshare profile is not replaced"
}

// problem is what an answer says that is no success: {"action","status":"error","code","message"}.
type problem struct {
	Status  string `json:"status"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// titleExists is what Ayrshare says of a title that another profile has. There is no code for it.
const titleExists = "Profile title already exists."

// codeExists stands for it here.
const codeExists = "title_exists"

// explain reads an answer that is no success. What is refused because there are too many calls is
// not repeated: a thousand refusals in a day suspend the account.
func explain(status int, _ http.Header, answer []byte) rest.Explanation {
	var said problem
	_ = json.Unmarshal(answer, &said) // what stands before Ayrshare has no code
	e := rest.Explanation{Final: status == http.StatusTooManyRequests}
	if said.Code != 0 {
		e.Code = strconv.Itoa(said.Code)
	}
	if said.Message == titleExists {
		e.Code = codeExists
	}
	return e
}

// The API's paths.
const (
	profilesPath = "/api/profiles"
	userPath     = "/api/user"
)

// api is Ayrshare as a flat.Author. A key is a profile here, and its id is the title.
type api struct {
	client   *rest.Client
	settings Settings
}

var (
	_ flat.Author  = (*api)(nil)
	_ flat.Lagging = (*api)(nil)
)

// Name implements flat.Author.
func (a *api) Name() string { return Name }

// Title implements flat.Author.
func (a *api) Title() string { return "Ayrshare (managed by AutoGPT)" }

// Owns implements flat.Author. An account is known by its primary profile, which its API key shows.
func (a *api) Owns(ctx context.Context, org credential.Secret) ([]string, error) {
	var primary struct {
		RefID string `json:"refId"`
	}
	err := a.client.Get(ctx, org, userPath, &primary)
	if err == nil && primary.RefID == "" {
		err = fmt.Errorf("GET %s: %w", userPath, rest.ErrAnswer)
	}
	return []string{primary.RefID}, err
}

// errExists: this attempt's profile is there, and nobody has its key. The next attempt removes it.
var errExists = &managed.Error{Class: managed.Transient, Err: errors.New("there is a profile of this attempt already, whose key nobody has been told")}

// Create implements flat.Author.
func (a *api) Create(ctx context.Context, org credential.Secret, name string) (flat.Made, error) {
	request := struct {
		Title         string   `json:"title"`
		DisableSocial []string `json:"disableSocial,omitempty"`
		TopHeader     string   `json:"topHeader,omitempty"`
		// The title is not meant for users.
		HideTopHeader bool `json:"hideTopHeader,omitempty"`
	}{name, a.settings.DisableSocial, a.settings.TopHeader, a.settings.TopHeader == ""}
	var answer struct {
		problem
		Title      string `json:"title"`
		RefID      string `json:"refId"`
		ProfileKey string `json:"profileKey"`
	}
	status, err := a.client.Send(ctx, org, http.MethodPost, profilesPath, request, &answer)
	var refusal *rest.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Code == codeExists, err == nil && answer.Message == titleExists:
		err = errExists
	case err == nil && (status != http.StatusOK || answer.Status != "success" || answer.RefID == ""):
		err = fmt.Errorf("POST %s: %w", profilesPath, rest.ErrAnswer)
	}
	if err != nil {
		return flat.Made{}, err
	}
	return flat.Made{Key: flat.Key{ID: answer.Title, Name: answer.Title}, Secret: credential.NewSecret(answer.ProfileKey)}, nil
}

// moment is a time as Ayrshare writes it; zero if it cannot be read.
type moment struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (m *moment) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &m.Time) != nil {
		m.Time = time.Time{}
	}
	return nil
}

// profile is one as Ayrshare lists it.
type profile struct {
	Title          string   `json:"title"`
	CreatedUTC     moment   `json:"createdUTC"`
	ActiveAccounts []string `json:"activeSocialAccounts"`
	Suspended      bool     `json:"suspended"`
}

func (p profile) key(organization string) flat.Key {
	return flat.Key{ID: p.Title, Name: p.Title, Organization: organization, CreatedAt: p.CreatedUTC.Time, Filled: len(p.ActiveAccounts) > 0, Unusable: p.Suspended}
}

// page is a page of the list.
type page struct {
	Profiles    []profile `json:"profiles"`
	LastUpdated moment    `json:"lastUpdated"`
	NextUpdate  moment    `json:"nextUpdate"`
	Pagination  struct {
		HasMore    bool   `json:"hasMore"`
		NextCursor string `json:"nextCursor"`
	} `json:"pagination"`
}

// read reads a page of the list. Without its member it is no list, which is not the same as an
// empty one.
func (a *api) read(ctx context.Context, org credential.Secret, query url.Values) (page, error) {
	var found page
	err := a.client.Get(ctx, org, profilesPath+"?"+query.Encode(), &found)
	if err == nil && (found.Profiles == nil || found.Pagination.HasMore && found.Pagination.NextCursor == "") {
		err = fmt.Errorf("GET %s: %w", profilesPath, rest.ErrAnswer)
	}
	return found, err
}

// Get implements flat.Author.
func (a *api) Get(ctx context.Context, org credential.Secret, organization, id string) (flat.Key, error) {
	found, err := a.read(ctx, org, url.Values{"title": {id}})
	if err != nil {
		return flat.Key{}, err
	}
	for _, p := range found.Profiles {
		if p.Title == id {
			return p.key(organization), nil
		}
	}
	return flat.Key{}, gone(http.MethodGet)
}

// gone is what says that there is no such profile.
func gone(method string) error {
	return &rest.Refusal{Method: method, Path: profilesPath, Status: http.StatusNotFound}
}

// List implements flat.Author. What has no title is none of ours.
func (a *api) List(org credential.Secret, organization string) rest.Page[flat.Key] {
	return func(ctx context.Context, cursor string) ([]flat.Key, string, error) {
		query := url.Values{"limit": {strconv.Itoa(perPage)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		found, err := a.read(ctx, org, query)
		if err != nil {
			return nil, "", err
		}
		var keys []flat.Key
		for _, p := range found.Profiles {
			if p.Title != "" {
				keys = append(keys, p.key(organization))
			}
		}
		if !found.Pagination.HasMore {
			found.Pagination.NextCursor = ""
		}
		return keys, found.Pagination.NextCursor, nil
	}
}

// Lag implements flat.Lagging. A list tells when it was made, and when the next one is; until then
// it is no older than the time between the two.
func (a *api) Lag(ctx context.Context, org credential.Secret) (flat.Lag, error) {
	found, err := a.read(ctx, org, url.Values{"limit": {"1"}})
	last, next, now := found.LastUpdated.Time, found.NextUpdate.Time, clock.Now()
	switch {
	case err != nil:
		return flat.Lag{}, err
	case last.IsZero() || next.Before(last):
		return flat.Lag{Age: longestLag, At: now.Add(-longestLag)}, nil
	case next.After(last) && now.After(next.Add(overdue)):
		return flat.Lag{}, errors.New("the list should have been renewed by now")
	}
	return flat.Lag{Age: next.Sub(last), At: last}, nil
}

// Delete implements flat.Author. What Ayrshare answers about a profile that is not there is not
// documented: it is gone if it is refused, and not listed either. If it is listed, that may be an
// old list's doing.
func (a *api) Delete(ctx context.Context, org credential.Secret, organization, id string) error {
	refused := false
	err := a.client.Do(ctx, func(ctx context.Context) error {
		var answer struct {
			problem
			RefID string `json:"refId"`
		}
		status, err := a.client.Send(ctx, org, http.MethodDelete, profilesPath, map[string]string{"title": id}, &answer)
		var refusal *rest.Refusal
		refused = errors.As(err, &refusal) && refusal.Status == http.StatusBadRequest || err == nil && answer.Status == "error"
		if err == nil && (status != http.StatusOK || answer.Status != "success" || answer.RefID == "") {
			err = fmt.Errorf("DELETE %s does not say that it is done: %w", profilesPath, rest.ErrAnswer)
		}
		return err
	})
	if !refused {
		return err
	}
	_, missing := a.Get(ctx, org, organization, id)
	switch {
	case rest.IsGone(missing):
		return gone(http.MethodDelete)
	case missing != nil:
		return missing
	}
	lag, lagErr := a.Lag(ctx, org)
	switch {
	case lagErr != nil:
		return lagErr
	case lag.Age > 0:
		return &managed.Error{Class: managed.NotYet, RetryAfter: lag.Age, Left: 1, Err: fmt.Errorf("the profile is listed, and not deleted: %w", err)}
	}
	return err
}
