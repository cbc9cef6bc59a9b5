package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/store"
)

// function is list-with-provision.
type function struct {
	engine *managed.Engine
	table  *store.Store
	// system are the titles of the system credentials on offer, by provider.
	system map[string]string
}

func newHandler(log *slog.Logger, f function) *gateway.Handler {
	return gateway.NewHandler(log, map[string]gateway.Route{
		"GET /credentials":                 f.listAll,
		"GET /{provider}/credentials":      f.listOne,
		"GET /{provider}/credentials/{id}": f.get,
		"PUT /{provider}/managed":          f.want,
		"DELETE /{provider}/managed":       f.retract,
	})
}

func (f function) listAll(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	return f.list(ctx, r.User, "")
}

func (f function) listOne(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.CheckProvider(r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	return f.list(ctx, r.User, r.Provider)
}

// list answers with the user's stored credentials first, then the system's.
func (f function) list(ctx context.Context, user, only string) (gateway.Response, error) {
	listing, err := f.engine.List(ctx, user, only)
	if err != nil {
		return gateway.Response{}, err
	}
	all := listing.Credentials
	for _, provider := range slices.Sorted(maps.Keys(f.system)) {
		if only == "" || only == provider {
			all = append(all, credential.System(provider, f.system[provider]))
		}
	}
	if all == nil {
		all = []credential.Metadata{}
	}
	response := gateway.Response{Status: http.StatusOK, Body: all}
	if len(listing.Standings) > 0 {
		response.Header = map[string]string{"managed-credentials": standings(listing.Standings)}
	}
	return response, nil
}

// standings is the header Managed-Credentials: a dictionary of tokens in the sense of RFC 9651,
// with a time in Unix seconds, and whether the user may have it removed, as parameters.
func standings(all []managed.Standing) string {
	members := make([]string, len(all))
	for i, s := range all {
		members[i] = s.Provider + "=" + string(s.State)
		if !s.RetryAt.IsZero() {
			members[i] += fmt.Sprintf(";retry_at=%d", s.RetryAt.Unix())
		}
		if s.Removable {
			members[i] += ";removable"
		}
	}
	return strings.Join(members, ", ")
}

// get answers with one credential's metadata. It never provisions.
func (f function) get(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	if !credential.ValidProvider(r.Provider) || !credential.ValidID(r.ID) {
		return gateway.Response{}, credential.ErrNotFound
	}
	m, err := f.table.Get(ctx, r.User, r.Provider, r.ID)
	if err == nil && m.Managed && !f.engine.Gives(m.Provider) {
		err = credential.ErrNotFound
	}
	if errors.Is(err, credential.ErrNotFound) && r.ID == credential.SystemID(r.Provider) {
		title, ok := f.system[r.Provider]
		if ok {
			m, err = credential.System(r.Provider, title), nil
		}
	}
	if err != nil {
		return gateway.Response{}, err
	}
	return gateway.Show(http.StatusOK, f.engine.Titled(m)), nil
}

// want has the user's managed credential at a provider made, because they ask for it. It answers
// with the credential, or with how it stands and when to ask again.
func (f function) want(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.CheckProvider(r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	listing, err := f.engine.Want(ctx, r.User, r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	for _, m := range listing.Credentials {
		if m.Managed {
			return gateway.Show(http.StatusOK, m), nil
		}
	}
	standing := listing.Standings[0]               // of the one provider
	if standing.State == managed.StandingOffered { // they have had it removed a moment ago
		return stands(http.StatusTooManyRequests, standing), nil
	}
	return stands(http.StatusAccepted, standing), nil
}

// retract has the user's managed credential at a provider removed, with all that is in its
// resource.
func (f function) retract(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.CheckProvider(r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	standing, err := f.engine.Retract(ctx, r.User, r.Provider)
	switch {
	case err != nil:
		return gateway.Response{}, err
	case standing.State == managed.StandingOffered:
		return gateway.Response{Status: http.StatusNoContent}, nil
	case standing.State == managed.StandingProvisioning:
		return stands(http.StatusConflict, standing), nil
	}
	return stands(http.StatusAccepted, standing), nil
}

// standing is how one managed credential stands, as the API shows it.
type standing struct {
	Provider string                `json:"provider"`
	State    managed.StandingState `json:"state"`
	RetryAt  *int64                `json:"retry_at"`
	// Detail is for who shows errors as they come.
	Detail string `json:"detail"`
}

// waits are how long a client waits until it asks again, and what it may show meanwhile, where
// nothing says until when.
var waits = map[managed.StandingState]struct {
	wait   time.Duration
	detail string
}{
	managed.StandingProvisioning: {2 * time.Second, "It is being set up."},
	managed.StandingFailed:       {time.Minute, "It could not be set up yet, and is tried again."},
	managed.StandingUnavailable:  {time.Minute, "It cannot be set up at present."},
	managed.StandingOffered:      {time.Minute, "It was removed a short while ago. Please wait before you set it up again."},
	managed.StandingRetracting:   {30 * time.Second, "It is being removed."},
}

// stands answers with how a managed credential stands, and when to ask again.
func stands(status int, s managed.Standing) gateway.Response {
	of := waits[s.State]
	body := standing{Provider: s.Provider, State: s.State, Detail: of.detail}
	if !s.RetryAt.IsZero() {
		at := s.RetryAt.Unix()
		body.RetryAt = &at
		of.wait = max(time.Second, clock.Until(s.RetryAt).Round(time.Second))
	}
	return gateway.Response{Status: status, Body: body, Header: map[string]string{
		"managed-credentials": standings([]managed.Standing{s}),
		"retry-after":         strconv.Itoa(int(of.wait / time.Second)),
	}}
}
