package managed

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// Pending is something of a deleted account that is still to go.
type Pending struct {
	// Provider is whose it is; UserPool for the user themselves.
	Provider string
	State    store.State
	// RetryAt is when it is tried again.
	RetryAt time.Time
}

// UserPool is the Provider of a Pending that stands for the user in the user pool.
const UserPool = "user_pool"

// width is how many slots or items are worked on at once.
const width = 8

// DeleteAccount deletes the user's account: the tombstone first, from which on nothing of the user can be made, listed or released;
// then all that was made for them at third parties, their own credentials, and, if a username is given, that user in the user pool.
// It does what it can in the time that ctx leaves and the work under one claim may take, and returns what is left, which reconcile goes on with.
//
// An error means that the tombstone may not stand, or that nobody could see what is left. Safe to repeat, and to run twice at once.
func (e *Engine) DeleteAccount(ctx context.Context, user, username string) ([]Pending, error) {
	if e.Users == nil {
		username = ""
	}
	buried, err := e.Store.Bury(ctx, user, username)
	if err != nil {
		return nil, err
	}
	if buried {
		e.Metrics.Count(telemetry.AccountsDeleted, "", 1)
	}
	work, cancel := context.WithTimeout(ctx, e.workTime())
	defer cancel()
	err = e.clear(work, user, e.markAndRevoke)
	if err != nil {
		return nil, err
	}
	e.removeUser(work, user)
	return e.remaining(ctx, user)
}

// bury goes on with an account whose tombstone stands. It makes no call to a third party: each slot is marked, and then due by itself,
// so that a third party that is slow holds up nothing but its own revocations.
func (e *Engine) bury(ctx context.Context, user string) error {
	work, cancel := context.WithTimeout(ctx, e.workTime())
	defer cancel()
	err := e.clear(work, user, e.Store.MarkRevoking)
	if err != nil {
		return err
	}
	e.removeUser(work, user)
	_, err = e.remaining(ctx, user)
	return err
}

// clear deletes the user's own credentials, and does end to each slot.
func (e *Engine) clear(ctx context.Context, user string, end func(context.Context, store.Key) error) error {
	account, err := e.Store.Account(ctx, user)
	if err != nil {
		return err
	}
	e.noteUnreadable(ctx, account.Unreadable)
	var own, slots []store.Key
	for _, m := range account.Own {
		own = append(own, store.CredentialKey(user, m.Provider, m.ID))
	}
	for _, key := range account.Unreadable {
		if key.IsSlot() {
			slots = append(slots, key)
		} else {
			own = append(own, key)
		}
	}
	for _, slot := range account.Slots {
		slots = append(slots, slot.Key())
	}
	var work errgroup.Group
	work.SetLimit(width)
	for _, key := range slots {
		work.Go(func() error { return e.logged(ctx, "revoking", key, end(ctx, key)) })
	}
	for _, key := range own {
		work.Go(func() error { return e.logged(ctx, "deleting", key, e.Store.DeleteOwn(ctx, key)) })
	}
	_ = work.Wait() // what failed was logged, and is still there to be found
	return nil
}

// logged reports a failure that leaves its work due.
func (e *Engine) logged(ctx context.Context, doing string, key store.Key, err error) error {
	if err != nil {
		e.Log.WarnContext(ctx, doing+" failed, it stays due", "pk", key.PK, "sk", key.SK, "error", err)
	}
	return err
}

// markAndRevoke marks a slot of a deleted account and revokes it if it is due.
func (e *Engine) markAndRevoke(ctx context.Context, key store.Key) error {
	err := e.Store.MarkRevoking(ctx, key)
	if err != nil {
		return err
	}
	slots, err := e.Store.Slots(ctx, key.User(), key.Provider())
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) {
		return err
	}
	slot, ok := slots[key.Provider()]
	if !ok || !slot.Dead() || slot.DueAt.After(e.Now()) {
		return nil
	}
	return e.revoke(ctx, slot)
}

// removeUser removes the account's user from the user pool, if one is noted on the tombstone.
func (e *Engine) removeUser(ctx context.Context, user string) {
	t, err := e.Store.Tombstone(ctx, user)
	if err == nil && t.Username != "" && e.Users != nil {
		err = e.Users.Remove(ctx, t.Username, user)
		if err == nil {
			err = e.Store.UsernameGone(ctx, t)
		}
	}
	if err != nil {
		e.Log.WarnContext(ctx, "removing the user from the user pool failed, it stays due", "user", user, "error", err)
	}
}

// remaining is what is left of a deleted account, by a consistent read. With nothing left the tombstone is laid to rest, or is due for
// a last look; else it is due again.
func (e *Engine) remaining(ctx context.Context, user string) ([]Pending, error) {
	ctx, cancel := writing(ctx)
	defer cancel()
	account, err := e.Store.Account(ctx, user)
	if err != nil {
		return nil, err
	}
	t, err := e.Store.Tombstone(ctx, user)
	if err != nil {
		return nil, err
	}
	pending := e.pending(account, t)
	if len(pending) == 0 && len(account.Slots) == 0 {
		return nil, e.rest(ctx, t)
	}
	if e.Now().Sub(t.CreatedAt) > overdue {
		e.Metrics.Count(telemetry.DeletionsOverdue, "", 1)
		e.Log.ErrorContext(ctx, "something is left of an account that was deleted long ago", "user", user, "pending", pending)
	}
	t.Tries++
	soonest := e.Now().Add(backoff(t.Tries))
	return pending, e.Store.PostponeTombstone(ctx, t, soonest)
}

// overdue is how long after its deletion something may be left of an account before an operator should know.
const overdue = 24 * time.Hour

// LastLook is how long apart two looks are that may be believed when both find nothing, clocks that may be ±5 s apart included: a
// third party's replica may lag, and a transaction that came just before a tombstone may have taken effect for the tombstone's part, and
// not yet for the item that it made.
const LastLook = store.SkewMargin + 5*time.Second

// rest lays the tombstone of an account of which nothing is left to rest, or has reconcile look once more where it is too young for that.
func (e *Engine) rest(ctx context.Context, t store.Tombstone) error {
	look := t.CreatedAt.Add(LastLook)
	if e.Now().Before(look) {
		return e.Store.PostponeTombstone(ctx, t, look)
	}
	return e.Store.Rest(ctx, t.User)
}

func (e *Engine) pending(account store.Account, t store.Tombstone) []Pending {
	soon := e.Now().Add(backoffBase)
	var all []Pending
	for _, slot := range account.Slots {
		if slot.Revoked() { // only the last look is left
			continue
		}
		all = append(all, Pending{slot.Provider, store.Revoking, slot.DueAt})
		if slot.State == store.Parked {
			all[len(all)-1].State = store.Parked
		}
	}
	for _, m := range account.Own {
		all = append(all, Pending{m.Provider, deleting, soon})
	}
	for _, key := range account.Unreadable {
		all = append(all, Pending{key.Provider(), deleting, soon})
	}
	if t.Username != "" {
		all = append(all, Pending{UserPool, deleting, soon})
	}
	return all
}

// deleting is the state of a Pending that is no slot's.
const deleting store.State = "deleting"
