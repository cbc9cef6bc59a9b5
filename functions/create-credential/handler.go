package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"regexp"

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
	id, request, err := once(r)
	if err != nil {
		return gateway.Response{}, err
	}
	m := credential.Metadata{
		ID:       id,
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
	work.Go(func() error { return f.table.CheckRoom(wctx, r.User, f.most, request) })
	work.Go(func() error {
		var err error
		sealed, err = f.sealer.Seal(wctx, r.User, m.Provider, m.ID, material)
		return err
	})
	err = work.Wait()
	if err != nil {
		return gateway.Response{}, err
	}
	m, err = f.table.CreateOnce(ctx, r.User, m, request, sealed)
	if err != nil {
		return gateway.Response{}, err
	}
	return gateway.Show(http.StatusCreated, m), nil
}

// idempotencyKey is long enough that nobody tries all of them.
var idempotencyKey = regexp.MustCompile(`^[!-~]{16,255}$`)

// once is the id of what the request makes, and what stands for the request in the table: without
// an Idempotency-Key a fresh id, and nothing. The body holds a secret, which may be short: its hash
// is keyed with what the table does not hold.
func once(r gateway.Request) (id, request string, err error) {
	if r.IdempotencyKey == nil {
		return credential.NewID(), "", nil
	}
	key := *r.IdempotencyKey
	if !idempotencyKey.MatchString(key) {
		return "", "", &credential.FieldError{Field: "Idempotency-Key", Problem: "must have 16 to 255 visible ASCII characters: take a UUID"}
	}
	sum := hmac.New(sha256.New, []byte(key))
	_, _ = sum.Write(r.Body)
	return credential.RepeatedID(r.User, r.Provider, key), hex.EncodeToString(sum.Sum(nil)), nil
}
