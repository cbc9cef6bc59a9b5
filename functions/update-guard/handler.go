package main

import (
	"context"
	"log/slog"
	"net/http"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
)

// function is update-guard.
type function struct {
	table  *store.Store
	sealer *seal.Sealer
	// system are the titles of the system credentials on offer, by provider.
	system map[string]string
	// sealOpen: the secret vouches for the fields that are stored beside it in the clear.
	sealOpen bool
}

func newHandler(log *slog.Logger, f function) *gateway.Handler {
	return gateway.NewHandler(log, map[string]gateway.Route{"PUT /{provider}/credentials/{id}": f.update})
}

func (f function) update(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.Guard(r, f.system)
	if err != nil {
		return gateway.Response{}, err
	}
	change, err := credential.ParseChange(r.Body)
	if err != nil {
		return gateway.Response{}, err
	}
	change.Match = r.Match
	var sealed []byte
	if change.Material != nil {
		material := *change.Material
		err = material.CheckExpiry(clock.Now())
		if err != nil {
			return gateway.Response{}, err
		}
		if f.sealOpen {
			material = material.WithOpen(change.Open)
		}
		sealed, err = f.sealer.Seal(ctx, r.User, r.Provider, r.ID, material)
		if err != nil {
			return gateway.Response{}, err
		}
	}
	m, err := f.table.Update(ctx, r.User, r.Provider, r.ID, change, sealed)
	if err != nil {
		return gateway.Response{}, err
	}
	return gateway.Show(http.StatusOK, m), nil
}
