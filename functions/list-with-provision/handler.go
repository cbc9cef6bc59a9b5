package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

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
// with a time as a parameter in Unix seconds.
func standings(all []managed.Standing) string {
	members := make([]string, len(all))
	for i, s := range all {
		members[i] = s.Provider + "=" + string(s.State)
		if s.State == managed.StandingFailed {
			members[i] += fmt.Sprintf(";retry_at=%d", s.RetryAt.Unix())
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
