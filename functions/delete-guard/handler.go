package main

import (
	"context"
	"log/slog"
	"net/http"

	"managed-credentials/shared/gateway"
	"managed-credentials/shared/store"
)

// function is delete-guard.
type function struct {
	table *store.Store
	// system are the titles of the system credentials on offer, by provider.
	system map[string]string
}

func newHandler(log *slog.Logger, f function) *gateway.Handler {
	return gateway.NewHandler(log, map[string]gateway.Route{"DELETE /{provider}/credentials/{id}": f.delete})
}

// deleted is the answer. Revoked is always null: a user's own credential is only forgotten here,
// not revoked at the third party.
type deleted struct {
	Deleted bool  `json:"deleted"`
	Revoked *bool `json:"revoked"`
}

func (f function) delete(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	err := gateway.Guard(r, f.system)
	if err != nil {
		return gateway.Response{}, err
	}
	err = f.table.Delete(ctx, r.User, r.Provider, r.ID, r.Match...)
	if err != nil {
		return gateway.Response{}, err
	}
	return gateway.Response{Status: http.StatusOK, Body: deleted{Deleted: true}}, nil
}
