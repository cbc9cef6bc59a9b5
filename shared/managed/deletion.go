package managed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// width is how many slots or items are worked on at once.
const width = 8

// DeleteAccount deletes the user's account: the tombstone first, from which on nothing of the user
// can be made, listed or released; then all that was made for them at third parties, their own
// credentials, and, if a username is given, that user in the user pool. It does what it can in the
// time that ctx leaves and the work under one claim may take, and returns what is left, which
// reconcile goes on with. Of an account with very much left it names a part.
//
// known says whether the table knew anything of the user: a slot, a credential or a tombstone. Who
// never listed here is not known, and neither is a user id that is nobody's.
//
// An error means that the tombstone may not stand, or that nobody could see what is left. Safe to
// repeat, and to run twice at once: a repeat neither lengthens the pauses between the tries nor
// ignores them.
func (e *Engine) DeleteAccount(ctx context.Context, user, username string) (left []Pending, known bool, err error) {
	if e.cfg.Users == nil {
		username = ""
	}
	buried, err := e.cfg.Store.Bury(ctx, user, username, e.adopters()...)
	if err != nil {
		return nil, false, err
	}
	if buried {
		e.cfg.Metrics.Count(telemetry.AccountsDeleted, "", 1)
	}
	first, err := e.cfg.Store.Remains(ctx, user, nil)
	if err != nil {
		return nil, false, err
	}
	known = !buried || len(first.Slots) > 0 || len(first.Own) > 0
	if first.Empty() {
		return nil, known, e.rest(ctx, first)
	}
	work, cancel := context.WithTimeout(ctx, e.workTime())
	defer cancel()
	_, err = e.advance(work, first, max(first.Tombstone.Tries, 1), func(ctx context.Context, slot store.Slot) error {
		return e.markAndRevoke(ctx, slot.Key())
	})
	if err != nil {
		return nil, false, err
	}
	left, err = e.remaining(ctx, user)
	return left, known, err
}

// burialTime is how long reconcile works on one account before others have their turn.
const burialTime = 5 * time.Second

// bury goes on with an account whose tombstone is due. It makes no call to a third party: each slot
// is marked, and then due by itself, so that a third party that is slow holds up nothing but its
// own revocations. Of an account that is suspended it has the keys revoked, if these are due.
func (e *Engine) bury(ctx context.Context, user string) error {
	first, err := e.cfg.Store.Remains(ctx, user, nil)
	switch {
	case err != nil:
		return err
	case !first.SuspensionDueAt.IsZero() && !first.SuspensionDueAt.After(e.cfg.Now()):
		return e.endKeys(ctx, user, first.SuspensionDueAt)
	case !e.isDue(first.Tombstone):
		return nil // the index was behind
	case first.Empty():
		return e.rest(ctx, first)
	}
	work, cancel := context.WithTimeout(ctx, min(burialTime, e.workTime()))
	defer cancel()
	more, err := e.advance(work, first, first.Tombstone.Tries+1, func(ctx context.Context, slot store.Slot) error {
		if slot.Dead() {
			return nil // it is due by itself
		}
		return e.cfg.Store.MarkRevoking(ctx, slot.Key(), e.heldUntil())
	})
	if err != nil || !more {
		return err
	}
	ending, done := writing(ctx)
	defer done()
	return e.cfg.Store.PostponeTombstone(ending, first.Tombstone, e.cfg.Now().Add(backoffBase)) // it did not fail
}

// advance does what it can of an account's deletion before ctx ends: it puts the account off until
// its next pass, has the third parties asked that have to be, deletes the user's own credentials
// and does end to each slot, and has the user removed from the user pool. tries is how many passes
// there have been, with this one. An account that is not due is not put off, and its user pool is
// not asked again. It reports whether it got on and there is more to do.
func (e *Engine) advance(ctx context.Context, first store.Remains, tries int, end func(context.Context, store.Slot) error) (more bool, err error) {
	due := e.isDue(first.Tombstone)
	if due {
		err = e.postpone(ctx, first, tries)
		if err != nil {
			return false, err
		}
	}
	first, err = e.ask(ctx, first)
	if err != nil {
		return false, err
	}
	more = e.clear(ctx, first, end)
	if due {
		ending, done := writing(ctx)
		defer done()
		e.removeUser(ending, first.Tombstone)
	}
	return more, nil
}

// adopters are the providers at which users may have what the table knows nothing of.
func (e *Engine) adopters() []string {
	var all []string
	for _, p := range e.cfg.Providers {
		a, ok := p.(Adopter)
		if ok && a.Adopts() {
			all = append(all, p.Name())
		}
	}
	return all
}

// ask puts in a slot for each provider that the account's tombstone says has to be asked, where
// there is none: revoking, and naming nothing, so that the third party is asked for what the user
// has there. It returns what then is left of the account.
func (e *Engine) ask(ctx context.Context, first store.Remains) (store.Remains, error) {
	if first.Tombstone.Asks == "" {
		return first, nil
	}
	for _, name := range strings.Fields(first.Tombstone.Asks) {
		p := e.byName[name]
		if p == nil { // an older setting
			continue
		}
		err := e.cfg.Store.Reopen(ctx, store.Slot{User: first.User, Provider: name, Title: p.Title(), HeldUntil: e.heldUntil()})
		if err != nil && !errors.Is(err, store.ErrStale) { // there is one
			return store.Remains{}, err
		}
	}
	err := e.cfg.Store.Asked(ctx, first.User)
	if err != nil {
		return store.Remains{}, err
	}
	return e.cfg.Store.Remains(ctx, first.User, nil)
}

func (e *Engine) isDue(t store.Tombstone) bool {
	return !t.DueAt.IsZero() && !t.DueAt.After(e.cfg.Now())
}

// postpone says when the account comes again, and counts it if it is overdue: both before any work
// on it, so that an account that fails, or ends the process, neither comes first for ever nor goes
// unseen.
func (e *Engine) postpone(ctx context.Context, first store.Remains, tries int) error {
	t := first.Tombstone
	if e.cfg.Now().Sub(t.CreatedAt) > overdue+e.cfg.Holdback {
		e.cfg.Metrics.Count(telemetry.DeletionsOverdue, "", 1)
		e.cfg.Log.ErrorContext(ctx, "an account was deleted long ago, and something of it is left", "user", t.User, "pending", e.pending(first))
	}
	t.Tries = tries
	at := e.cfg.Now().Add(backoff(tries))
	wait := e.slotsDue(first)
	if wait.After(at) {
		at = wait
	}
	return e.cfg.Store.PostponeTombstone(ctx, t, at)
}

// longestRest is how long an account at most waits with a revocation that failed: less than the
// period of the alarm on what is overdue, which is not to end in between.
const longestRest = 50 * time.Minute

// slotsDue is when the first slot is due by itself of an account of which nothing else is left;
// zero if that is now. Before then there is nothing to see: a revocation that waits, for hours
// where it is parked and for days where it is held back, has its account wait with it.
func (e *Engine) slotsDue(page store.Remains) time.Time {
	if page.Next != nil || len(page.Own) > 0 || page.Tombstone.Username != "" {
		return time.Time{}
	}
	var first time.Time
	for _, slot := range page.Slots {
		if !slot.Dead() || slot.DueAt.IsZero() {
			return time.Time{}
		}
		due := slot.DueAt
		rest := e.cfg.Now().Add(longestRest)
		if slot.Reason != store.ReasonHeldBack && due.After(rest) {
			due = rest
		}
		if first.IsZero() || due.Before(first) {
			first = due
		}
	}
	return first
}

// clear deletes the user's own credentials, and does end to each slot, page by page for as long as
// ctx lasts. What fails is logged, and is still there to be found. It reports whether it got on and
// there is more to do.
func (e *Engine) clear(ctx context.Context, page store.Remains, end func(context.Context, store.Slot) error) bool {
	if page.Next != nil { // a key that works goes first, however much stands before its slot
		e.clearPage(ctx, store.Remains{Slots: e.expectedSlots(page.User)}, end)
	}
	for gotOn := false; ; gotOn = true {
		if !e.clearPage(ctx, page, end) {
			return gotOn
		}
		if page.Next == nil {
			return false
		}
		next, err := e.cfg.Store.Remains(ctx, page.User, page.Next)
		if err != nil {
			e.cfg.Log.WarnContext(ctx, "the deletion of the account did not finish, and stays due", "user", page.User, "error", err)
			return true
		}
		page = next
	}
}

// expectedSlots are those that the user has if they ever listed. What is done to one that is absent
// does nothing.
func (e *Engine) expectedSlots(user string) []store.Slot {
	var all []store.Slot
	for _, p := range e.cfg.Providers {
		all = append(all, store.Slot{User: user, Provider: p.Name()})
	}
	return all
}

// clearPage reports whether the page's own credentials are deleted.
func (e *Engine) clearPage(ctx context.Context, page store.Remains, end func(context.Context, store.Slot) error) bool {
	var slots, own errgroup.Group
	slots.SetLimit(width)
	own.SetLimit(width)
	for batch := range slices.Chunk(page.Own, store.DeleteBatch) {
		own.Go(func() error { return e.cfg.Store.DeleteOwn(ctx, batch...) })
	}
	for _, slot := range page.Slots {
		slots.Go(func() error { return e.logged(ctx, "revoking", slot.Key(), end(ctx, slot)) })
	}
	err := own.Wait()
	if err != nil {
		e.cfg.Log.WarnContext(ctx, "the account's own credentials could not be deleted, and stay due", "user", page.User, "error", err)
	}
	_ = slots.Wait() // each failure was logged
	return err == nil
}

// logged reports a failure that leaves its work due.
func (e *Engine) logged(ctx context.Context, doing string, key store.Key, err error) error {
	if err != nil {
		e.cfg.Log.WarnContext(ctx, doing+" failed, and stays due", "pk", key.PK, "sk", key.SK, "error", err)
	}
	return err
}

// markAndRevoke marks a slot of a deleted account and revokes it if it is due.
func (e *Engine) markAndRevoke(ctx context.Context, key store.Key) error {
	err := e.cfg.Store.MarkRevoking(ctx, key, e.heldUntil())
	if err != nil {
		return err
	}
	slots, err := e.cfg.Store.Slots(ctx, key.User(), key.Provider())
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) {
		return err
	}
	slot, ok := slots[key.Provider()]
	if !ok {
		e.noteUnreadable(ctx, []store.Key{key})
		return nil
	}
	if !slot.Dead() || slot.DueAt.After(e.cfg.Now()) {
		return nil
	}
	return e.revoke(ctx, slot)
}

// removeUser removes the account's user from the user pool, if one is noted on the tombstone.
func (e *Engine) removeUser(ctx context.Context, t store.Tombstone) {
	if t.Username == "" || e.cfg.Users == nil {
		return
	}
	err := e.cfg.Users.Remove(ctx, t.Username, t.User)
	if err == nil {
		e.cfg.Metrics.Count(telemetry.PoolUsersRemoved, "", 1)
		err = e.cfg.Store.UsernameGone(ctx, t)
	}
	if err != nil {
		e.cfg.Log.WarnContext(ctx, "the user could not be removed from the user pool, and stays due", "user", t.User, "error", err)
	}
}

// remaining is what is left of a deleted account, by a consistent read. With nothing left the
// tombstone is laid to rest, or is due for a last look.
func (e *Engine) remaining(ctx context.Context, user string) ([]Pending, error) {
	ctx, cancel := writing(ctx)
	defer cancel()
	first, err := e.cfg.Store.Remains(ctx, user, nil)
	if err != nil {
		return nil, err
	}
	if first.Empty() {
		return nil, e.rest(ctx, first)
	}
	return e.pending(first), nil
}

// overdue is how long after its deletion something may be left of an account before an operator
// should know.
const overdue = 24 * time.Hour

// LastLook is how long apart two looks are that may be believed when both find nothing, clocks that
// may be ±5 s apart included: a third party's replica may lag, and a transaction that came just
// before a tombstone may have taken effect for the tombstone's part, and not yet for the item that
// it made.
const LastLook = store.SkewMargin + 5*time.Second

// rest lays the tombstone of an account of which nothing is left to rest, or has reconcile look
// once more where the look came too early for that.
func (e *Engine) rest(ctx context.Context, empty store.Remains) error {
	look := empty.Tombstone.CreatedAt.Add(LastLook)
	if empty.ReadAt.Before(look) {
		return e.cfg.Store.PostponeTombstone(ctx, empty.Tombstone, look)
	}
	return e.cfg.Store.Rest(ctx, empty.User)
}
