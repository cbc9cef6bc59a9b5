package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// function is resolve-credential.
type function struct {
	table  *store.Store
	sealer *seal.Sealer
	// system are the titles of the system credentials on offer, by provider, and systemKeys their
	// keys.
	system     map[string]string
	systemKeys *orgkey.Keys
	// providers say whose managed credentials are handed out.
	providers config.ManagedProviders
	log       *slog.Logger
	metrics   *telemetry.Metrics
}

// request is the event. Without CredentialID the user's managed credential at the provider is
// meant.
type request struct {
	UserID       string `json:"user_id"`
	Provider     string `json:"provider"`
	CredentialID string `json:"credential_id"`
	// RejectedAttempt makes the request a report: the third party rejected the managed key that was
	// handed out with this number.
	RejectedAttempt int64 `json:"rejected_attempt"`
}

func (f *function) resolve(ctx context.Context, event []byte) (any, error) {
	var r request
	err := credential.Decode("event", event, &r)
	if err != nil {
		return nil, err
	}
	r.UserID, err = credential.UserID(r.UserID)
	if err != nil {
		return nil, err
	}
	if !credential.ValidProvider(r.Provider) {
		return nil, &credential.FieldError{Field: "provider", Problem: "must match [a-z0-9_]{1,64}"}
	}
	if r.RejectedAttempt != 0 {
		return f.report(ctx, r)
	}
	if r.CredentialID == "" {
		r.CredentialID = credential.ManagedID(r.Provider, r.UserID)
	}
	if !credential.ValidID(r.CredentialID) {
		return nil, credential.ErrNotFound
	}
	c, material, err := f.open(ctx, r)
	if err != nil {
		return nil, err
	}
	if expires := material.ExpiresAt(); !c.Managed && expires != nil && *expires <= clock.Now().Unix() {
		return nil, errExpired
	}
	err = telemetry.Audit(ctx, f.log, "secret released",
		"user", r.UserID, "provider", c.Provider, "credential", c.ID, "managed", c.Managed, "system", c.System, "attempt", c.Attempt, "open_proven", material.OpenProven())
	if err != nil {
		return nil, err
	}
	f.noteUse(ctx, r.UserID, c)
	return answer(c, material), nil
}

// usePatience is how long an executor is kept waiting, once a day and credential, for the day to be
// noted on which it was used.
const usePatience = 500 * time.Millisecond

// noteUse notes the day on which a user's credential is handed out. That it cannot be noted is
// counted, and no reason to hand out nothing.
func (f *function) noteUse(ctx context.Context, user string, c store.Sealed) {
	if c.System {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, usePatience)
	defer cancel()
	err := f.table.NoteUse(ctx, user, c)
	if err != nil {
		f.metrics.Count(telemetry.UsesNotNoted, "", 1)
		f.log.WarnContext(ctx, "the day of the use could not be noted", "user", user, "provider", c.Provider, "credential", c.ID, "error", err)
	}
}

// errExpired: nothing of the credential can be used any more, by what its user said of it. A
// managed key's expiry is the service's own business: whoever gets it reports it if it is refused.
var errExpired = &credential.ConflictError{Detail: "The credential has expired: its user has to replace it"}

// errReplaced: the reported key is not the one that is stored and at rest now.
var errReplaced = &credential.ConflictError{Detail: "The credential has been replaced since, or is being worked on: resolve it again"}

// A report of a key that works costs the third party a look, and at times another key: each has a
// pause after it that is twice as long as the last one.
const (
	firstPause   = 10 * time.Minute
	longestPause = 24 * time.Hour
)

// report has reconcile look whether the managed key is still there: a caller was refused with it.
// What is gone is made anew under the same id. What is there is replaced, unless it was a short
// while ago, and serves on beside the new one: so nobody can do harm by it.
func (f *function) report(ctx context.Context, r request) (gateway.Status, error) {
	slots, err := f.table.Slots(ctx, r.UserID, r.Provider)
	if err != nil {
		return gateway.Status{}, err
	}
	slot := slots[r.Provider]
	if slot.State == store.Absent || f.providers.Off(r.Provider) {
		return gateway.Status{}, credential.ErrNotFound
	}
	if slot.State != store.Ready || slot.Owner != "" || slot.Committed != r.RejectedAttempt {
		return gateway.Status{}, errReplaced
	}
	if clock.Now().Before(slot.ReportFrom) {
		return gateway.Status{Status: http.StatusTooManyRequests,
			Detail: "The key was reported before, and what became of it has been looked at: report it again after " + slot.ReportFrom.UTC().Format(time.RFC3339)}, nil
	}
	f.log.WarnContext(ctx, "a managed key was reported as rejected", "user", r.UserID, "provider", r.Provider, "attempt", r.RejectedAttempt)
	err = f.table.Report(ctx, slot, min(max(2*slot.ReportPause, firstPause), longestPause))
	if errors.Is(err, store.ErrStale) {
		return gateway.Status{}, errReplaced
	}
	return gateway.Status{Status: http.StatusAccepted, Detail: "The credential is being checked: resolve it again in a minute"}, err
}

// open reads and decrypts what the request names.
func (f *function) open(ctx context.Context, r request) (store.Sealed, credential.Material, error) {
	title, ok := f.system[r.Provider]
	if ok && r.CredentialID == credential.SystemID(r.Provider) {
		m, material, err := f.openSystem(ctx, r, title)
		return store.Sealed{Metadata: m}, material, err
	}
	sealed, err := f.table.Sealed(ctx, r.UserID, r.Provider, r.CredentialID)
	if err == nil && sealed.Managed && f.providers.Off(r.Provider) {
		err = credential.ErrNotFound
	}
	if err != nil {
		return store.Sealed{}, credential.Material{}, err
	}
	material, err := f.sealer.Open(ctx, r.UserID, r.Provider, r.CredentialID, sealed.Type, sealed.Open(), sealed.Ciphertext)
	if errors.Is(err, credential.ErrOpenChanged) {
		f.metrics.Count(telemetry.OpenFieldsChanged, "", 1)
		err = fmt.Errorf("opening %s of %s for user %s: %w", r.CredentialID, r.Provider, r.UserID, err)
	}
	return sealed, material, err
}

// openSystem reads the platform's own key, unless the user's account was deleted.
func (f *function) openSystem(ctx context.Context, r request, title string) (credential.Metadata, credential.Material, error) {
	_, err := f.table.Slots(ctx, r.UserID)
	if err != nil {
		return credential.Metadata{}, credential.Material{}, err
	}
	key, err := f.systemKeys.Key(ctx, r.Provider)
	if errors.Is(err, orgkey.ErrNone) {
		return credential.Metadata{}, credential.Material{}, credential.ErrNotUsable
	}
	return credential.System(r.Provider, title), credential.APIKeyMaterial(key), err
}

// answer is the credential with its secret fields, under the API's names, and a managed key's
// number, by which it can be reported. One that is known not to work says so. Whoever holds the key
// before that one learns until when it serves.
func answer(c store.Sealed, material credential.Material) map[string]any {
	all := map[string]any{"id": c.ID, "provider": c.Provider, "type": c.Type}
	for name, value := range material.Fields() {
		all[name] = value
	}
	if c.Attempt != 0 {
		all["attempt"] = c.Attempt
	}
	if c.KeyFails {
		all["unusable"] = true
	}
	if clock.Now().Before(c.Retiring.At) {
		all["retiring_attempt"], all["retire_at"] = c.Retiring.Attempt, c.Retiring.At.Unix()
	}
	if c.Type == credential.OAuth2 {
		all["username"], all["scopes"] = c.Username, c.Scopes
	}
	if c.Type == credential.HostScoped {
		all["host"] = c.Host
	}
	return all
}
