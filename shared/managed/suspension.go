package managed

import (
	"context"
	"errors"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// A suspended user is disabled and not deleted. Nothing of theirs is listed, handed out, made or
// changed, and nothing is removed either: reconcile puts off what is due of theirs until they are
// enabled, when all goes on where it stood, under the same ids. Only a deletion of the account
// overtakes a suspension.

// isRefused reports whether the table was read, and says that nothing is done for the user: they
// are deleted or suspended.
func isRefused(err error) bool {
	return errors.Is(err, credential.ErrAccountDeleted) || errors.Is(err, credential.ErrAccountSuspended)
}

// ErrSuspensionOff: a version that does not know suspension would take it for a deletion.
var ErrSuspensionOff error = &credential.ConflictError{Detail: "Suspension is off: turn it on (SUSPENSION) once every function runs a version that knows it"}

// ErrDisabledInPool: it is not for an operator to enable them.
var ErrDisabledInPool error = &credential.ConflictError{Detail: "The user is disabled in the user pool, and is suspended until they are enabled there"}

// Suspend has a user suspended by an operator, from the moment that it returns. It is on record in
// the audit log before. It returns ErrSuspensionOff or ErrAccountDeleted. Safe to repeat.
func (e *Engine) Suspend(ctx context.Context, user string, o Order) error {
	if !e.cfg.Suspends {
		return ErrSuspensionOff
	}
	err := telemetry.Audit(ctx, e.cfg.Log, "suspension", "by", o.By, "reason", o.Reason, "user", user)
	if err != nil {
		return err
	}
	return e.cfg.Store.Suspend(ctx, user, store.ByOperator, o.By, o.Reason)
}

// Enable ends an operator's suspension of a user, and has all go on that waited for it. It is on
// record in the audit log before. It returns ErrAccountDeleted, or ErrDisabledInPool if the user
// stays suspended for that. Safe to repeat, also where it is not known what became of an earlier
// one: who is not suspended has what waits made due.
func (e *Engine) Enable(ctx context.Context, user string, o Order) error {
	err := telemetry.Audit(ctx, e.cfg.Log, "suspension ended", "by", o.By, "reason", o.Reason, "user", user)
	if err != nil {
		return err
	}
	still, err := e.cfg.Store.Enable(ctx, user, store.ByOperator)
	if err != nil {
		return err
	}
	if still != "" {
		return ErrDisabledInPool
	}
	return e.resumeWork(ctx, user)
}

// resumeWork makes due at once what waited for the user to be enabled.
func (e *Engine) resumeWork(ctx context.Context, user string) error {
	var names []string
	for _, p := range e.cfg.Providers {
		names = append(names, p.Name())
	}
	slots, err := e.cfg.Store.Slots(ctx, user, names...)
	if err != nil {
		return err
	}
	for _, name := range names {
		slot := slots[name]
		if slot.Reason != store.ReasonSuspended {
			continue
		}
		err := e.cfg.Store.Postpone(ctx, slot, store.Wait{State: slot.State, Reason: store.ReasonEnabled, DueAt: e.cfg.Now()})
		if err != nil && !errors.Is(err, store.ErrStale) { // it is being worked on
			return err
		}
	}
	return nil
}

// postponeSuspended has a suspended user's slot wait, however long that takes.
func (e *Engine) postponeSuspended(ctx context.Context, slot store.Slot) error {
	err := e.cfg.Store.PostponeSuspended(ctx, slot, e.cfg.Now().Add(jittered(parkedRetry)))
	if errors.Is(err, store.ErrStale) { // they were enabled, or somebody works on it: it stays due
		return nil
	}
	return err
}
