package main

import (
	"context"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
)

// function is create-credential.
type function struct {
	table  *store.Store
	sealer *seal.Sealer
	// sealOpen: the secret vouches for the fields that are stored beside it in the clear.
	sealOpen bool
	// most is how many credentials of their own a user may have.
	most int
}

func newHandler(log *slog.Logger, f function) *gateway.Handler {
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
	err = wanted.Material.CheckExpiry(clock.Now())
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

		ExpiresAt: wanted.Material.ExpiresAt(),
		Hint:      wanted.Material.Hint(),
		Stored:    wanted.Material.Stored(),
	}
	material := wanted.Material
	if f.sealOpen {
		material = material.WithOpen(wanted.Open)
	}
	var sealed []byte
	work, wctx := errgroup.WithContext(ctx)
	work.Go(func() error { return f.table.CheckRoom(wctx, r.User, f.most) })
	work.Go(func() error {
		var err error
		sealed, err = f.sealer.Seal(wctx, r.User, m.Provider, m.ID, material)
		return err
	})
	err = work.Wait()
	if err != nil {
		return gateway.Response{}, err
	}
	m, err = f.table.Create(ctx, r.User, m, sealed)
	if err != nil {
		return gateway.Response{}, err
	}
	return gateway.Response{Status: http.StatusCreated, Body: m}, nil
}
