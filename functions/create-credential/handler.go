package main

import (
	"context"
	"log/slog"
	"net/http"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
)

// function is create-credential.
type function struct {
	table  *store.Store
	sealer *seal.Sealer
}

func newHandler(log *slog.Logger, table *store.Store, sealer *seal.Sealer) *gateway.Handler {
	f := function{table: table, sealer: sealer}
	return gateway.NewHandler(log, map[string]gateway.Route{"POST /{provider}/credentials": f.create})
}

func (f function) create(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.CheckProvider(r.Provider)
	if err != nil {
		return gateway.Response{}, err
	}
	wanted, err := credential.ParseNew(r.Body)
	if err != nil {
		return gateway.Response{}, err
	}
	m := credential.Metadata{
		ID:       credential.NewID(),
		Provider: r.Provider,
		Type:     wanted.Material.Type(),
		Title:    wanted.Title,
		Scopes:   wanted.Open.Scopes,
		Username: wanted.Open.Username,
		Host:     wanted.Open.Host,
	}
	sealed, err := f.sealer.Seal(ctx, r.User, m.Provider, m.ID, wanted.Material)
	if err != nil {
		return gateway.Response{}, err
	}
	err = f.table.Create(ctx, r.User, m, sealed)
	if err != nil {
		return gateway.Response{}, err
	}
	return gateway.Response{Status: http.StatusCreated, Body: m}, nil
}
