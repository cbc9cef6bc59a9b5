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
	return e.suspend(ctx, user, store.ByOperator, o)
}

func (e *Engine) suspend(ctx context.Context, user string, by store.Suspender, o Order) error {
	if !e.cfg.Suspends {
		return ErrSuspensionOff
	}
	err := telemetry.Audit(ctx, e.cfg.Log, "suspension", "by", o.By, "reason", o.Reason, "user", user)
	if err != nil {
		return err
	}
	s := store.Suspension{By: by, OrderedBy: o.By, Reason: o.Reason}
	if e.cfg.SuspendedKeysLive > 0 {
		s.KeysEnd = e.cfg.Now().Add(e.cfg.SuspendedKeysLive)
	}
	return e.cfg.Store.Suspend(ctx, user, s)
}

// Enable ends an operator's suspension of a user, and has all go on that waited for it. It is on
// record in the audit log before. It returns ErrAccountDeleted, or ErrDisabledInPool if the user
// stays suspended for that. Safe to repeat, also where it is not known what became of an earlier
// one: who is not suspended has what waits made due.
func (e *Engine) Enable(ctx context.Context, user string, o Order) error {
	still, err := e.enable(ctx, user, store.ByOperator, o)
	if err != nil {
		return err
	}
	if still != "" {
		return ErrDisabledInPool
	}
	return nil
}

func (e *Engine) enable(ctx context.Context, user string, by store.Suspender, o Order) (still store.Suspender, err error) {
	err = telemetry.Audit(ctx, e.cfg.Log, "suspension ended", "by", o.By, "reason", o.Reason, "user", user)
	if err != nil {
		return "", err
	}
	still, err = e.cfg.Store.Enable(ctx, user, by)
	if err != nil || still != "" {
		return still, err
	}
	return "", e.resumeWork(ctx, user)
}

// FollowPool has Cognito's suspension of the user stand exactly if the user is disabled in the user
// pool, which it reports: as that is now, whatever the event says that leads here. So events may
// come twice, late and in the wrong order. It returns ErrSuspensionOff where a disabled user cannot
// be suspended. Of a user who is not in the pool, or whose account is deleted, nothing is changed.
// Safe to repeat; and after any other error it has to be, because nothing else would put right what
// was written.
//
// Two that look at once may write in the other order. So whoever has written looks again, until
// what it wrote is what it sees. Whoever writes last has then seen the pool as it was written,
// after which every change has an event of its own.
func (e *Engine) FollowPool(ctx context.Context, user string) (bool, error) {
	var written *bool
	for range mostLooks {
		enabled, exists, err := e.cfg.Users.Enabled(ctx, user)
		if err != nil {
			return false, err
		}
		if !exists || written != nil && *written == enabled {
			return exists && !enabled, nil
		}
		err = e.writeAsInPool(ctx, user, enabled)
		if errors.Is(err, credential.ErrAccountDeleted) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		written = &enabled
	}
	return false, errRestless
}

// mostLooks is how often FollowPool looks before it leaves the rest to a repeat.
const mostLooks = 5

// errRestless: somebody disables and enables the user again and again.
var errRestless = errors.New("what the user pool says of the user does not stay the same")

func (e *Engine) writeAsInPool(ctx context.Context, user string, enabled bool) error {
	if !enabled {
		return e.suspend(ctx, user, store.ByCognito, Order{By: string(store.ByCognito), Reason: "disabled in the user pool"})
	}
	_, err := e.enable(ctx, user, store.ByCognito, Order{By: string(store.ByCognito), Reason: "enabled in the user pool"})
	if errors.Is(err, credential.ErrAccountSuspended) { // again, before the work went on: the next look sees why
		return nil
	}
	return err
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
