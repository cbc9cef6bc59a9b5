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
		"POST /{provider}/managed/replace": f.replace,
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

// standings is the header Managed-Credentials: a dictionary of tokens in the sense of RFC 9651. As
// parameters it has times in Unix seconds, whether the user may have it removed, for how many
// seconds the key serves on that they have replaced, and whether that is under way.
func standings(all []managed.Standing) string {
	members := make([]string, len(all))
	for i, s := range all {
		members[i] = s.Provider + "=" + string(s.State)
		if !s.RetryAt.IsZero() && s.State != managed.StandingReady {
			members[i] += fmt.Sprintf(";retry_at=%d", s.RetryAt.Unix())
		}
		if s.Unusable {
			members[i] += ";unusable"
		}
		if s.Removable {
			members[i] += ";removable"
		}
		if s.Replaceable {
			members[i] += fmt.Sprintf(";replaceable=%d", int(s.Overlap.Seconds()))
		}
		if s.Replacing {
			members[i] += ";replacing"
		}
		if !s.RetireAt.IsZero() {
			members[i] += fmt.Sprintf(";retire_at=%d", s.RetireAt.Unix())
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
		return stands(http.StatusTooManyRequests, standing, waits[standing.State]), nil
	}
	return stands(http.StatusAccepted, standing, waits[standing.State]), nil
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
		return stands(http.StatusConflict, standing, waits[standing.State]), nil
	}
	return stands(http.StatusAccepted, standing, waits[standing.State]), nil
}

// replace has the key of the user's managed credential at a provider replaced.
func (f function) replace(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.CheckProvider(r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	replacement, err := f.engine.Replace(ctx, r.User, r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	status := http.StatusConflict
	switch replacement.Refused {
	case "":
		status = http.StatusAccepted
	case managed.ReplaceTooSoon:
		status = http.StatusTooManyRequests
	default:
	}
	of := replaces[replacement.Refused]
	if replacement.Standing.State != managed.StandingReady {
		of = waits[replacement.Standing.State]
	}
	return stands(status, replacement.Standing, of), nil
}

// replaces are what a client is told of a wish for another key.
var replaces = map[managed.ReplaceRefusal]told{
	"":                      {30 * time.Second, "Another key is being made. The one that you have works until then."},
	managed.ReplaceNever:    {0, "This key cannot be replaced: another one would not open what this one does. You need do nothing."},
	managed.ReplaceNotReady: {10 * time.Second, "This key is being looked at just now. Please try again in a moment."},
	managed.ReplaceUnderWay: {30 * time.Second, "This key is being replaced already. Please wait a minute or two until that is done."},
	managed.ReplaceRetiring: {time.Minute, "This key was replaced a short while ago, and the one before it still works. Please wait until that has ended."},
	managed.ReplaceTooSoon:  {time.Minute, "This key was made for you a short while ago. Please wait before you have it replaced again."},
}

// standing is how one managed credential stands, as the API shows it.
type standing struct {
	Provider string                `json:"provider"`
	State    managed.StandingState `json:"state"`
	RetryAt  *int64                `json:"retry_at"`
	// Detail is for who shows errors as they come.
	Detail string `json:"detail"`
}

// told is how long a client waits until it asks again, where nothing says until when, and what it
// may show meanwhile. 0 is for ever.
type told struct {
	wait   time.Duration
	detail string
}

// waits are what a client is told of a managed credential that it waits for.
var waits = map[managed.StandingState]told{
	managed.StandingProvisioning: {2 * time.Second, "It is being set up."},
	managed.StandingFailed:       {time.Minute, "It could not be set up yet, and is tried again."},
	managed.StandingUnavailable:  {time.Minute, "It cannot be set up at present."},
	managed.StandingOffered:      {time.Minute, "It was removed a short while ago. Please wait before you set it up again."},
	managed.StandingRetracting:   {30 * time.Second, "It is being removed."},
}

// stands answers with how a managed credential stands, and when to ask again.
func stands(status int, s managed.Standing, of told) gateway.Response {
	body := standing{Provider: s.Provider, State: s.State, Detail: of.detail}
	if !s.RetryAt.IsZero() {
		at := s.RetryAt.Unix()
		body.RetryAt = &at
		of.wait = max(time.Second, clock.Until(s.RetryAt).Round(time.Second))
	}
	header := map[string]string{"managed-credentials": standings([]managed.Standing{s})}
	if of.wait > 0 {
		header["retry-after"] = strconv.Itoa(int(of.wait / time.Second))
	}
	return gateway.Response{Status: status, Body: body, Header: header}
}
