package flat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// Deprovision implements managed.Provider. The list is read where the slot does not name a key, or
// not all of them, and where the one that it names is not found by its id.
func (p *Provider) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	r := removal{Provider: p, org: org}
	there, err := r.look(ctx, a)
	if err != nil {
		return rest.Classify(err)
	}
	if there {
		r.stored(ctx, a)
	}
	if a.Inherited() || r.removed+len(r.errs) == 0 {
		r.others(ctx, a)
	}
	return r.verdict(ctx)
}

// removal is one pass over what was made for a user. What goes wrong with one key keeps no other
// one alive.
type removal struct {
	*Provider
	org           credential.Secret
	removed, left int
	age           time.Duration // of the list that was read
	errs          []*managed.Error
}

// look looks at the key that the slot names, and reports whether it is there. One that does not
// have this user's name is a Mismatch. Where the answer may be an old one, a key that is not found
// may be there, and its id is its name.
func (r *removal) look(ctx context.Context, a *managed.Attempt) (bool, error) {
	if a.Resource().KeyID == "" {
		return false, nil
	}
	key, err := r.author.Get(ctx, r.org, a.Resource().OrgID, a.Resource().KeyID)
	_, lagging := r.author.(Lagging)
	if lagging && rest.IsGone(err) {
		key, err = Key{ID: a.Resource().KeyID, Name: a.Resource().KeyID}, r.prove(ctx, r.org, a.Resource(), "")
	}
	switch {
	case rest.IsGone(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at the key: %w", err)
	}
	_, ours := attemptOf(key.Name, a)
	if key.ID != a.Resource().KeyID || !ours {
		return false, &managed.Error{Class: managed.Mismatch, Err: errors.New("the key that the slot names does not have this user's name: it is left alone")}
	}
	return true, nil
}

// stored deletes the key that the slot names. One that has gone meanwhile is looked for in the
// list.
func (r *removal) stored(ctx context.Context, a *managed.Attempt) {
	err := r.author.Delete(ctx, r.org, a.Resource().OrgID, a.Resource().KeyID)
	if err == nil {
		r.removed++
	} else if !rest.IsGone(err) {
		r.note(fmt.Errorf("deleting the stored key: %w", err))
	}
}

// others deletes every key in the list that has this user's name. What was listed before the list
// broke off goes, too.
func (r *removal) others(ctx context.Context, a *managed.Attempt) {
	err := r.prove(ctx, r.org, a.Resource(), a.Organization)
	if err != nil {
		r.note(err)
		return
	}
	lag, err := r.lag(ctx, r.org)
	r.note(err)
	r.age = lag.Age
	keys, err := r.list(ctx, r.org)
	r.note(err)
	for _, key := range keys {
		_, ours := attemptOf(key.Name, a)
		if ours {
			r.delete(ctx, func() error { return r.author.Delete(ctx, r.org, key.Organization, key.ID) })
		}
	}
	keyed, ok := r.author.(Keyed)
	if ok {
		r.openers(ctx, a, keyed, keys)
	}
	if len(r.errs) == 0 {
		a.Accounted()
	}
}

// openers deletes what opens this user's accounts, and has outlived them: those are not listed.
func (r *removal) openers(ctx context.Context, a *managed.Attempt, keyed Keyed, accounts []Key) {
	owned, err := r.owns(ctx, r.org)
	r.note(err)
	for _, organization := range owned {
		openers, err := rest.All(ctx, keyed.Openers(r.org, organization))
		r.note(err)
		for _, o := range openers {
			_, ours := attemptOf(o.Name, a)
			if ours && !has(accounts, o.Account) {
				r.delete(ctx, func() error { return keyed.Close(ctx, r.org, organization, o.ID) })
			}
		}
	}
}

// delete deletes one thing that was listed.
func (r *removal) delete(ctx context.Context, send func() error) {
	err := ctx.Err()
	if err == nil {
		err = send()
	}
	if rest.IsGone(err) && r.age > 0 {
		err = outdated(r.age)
	} else if rest.IsGone(err) {
		err = errListed
	}
	if err == nil {
		r.removed++
	} else {
		r.left++
		r.note(err)
	}
}

// note keeps what went wrong for the verdict.
func (r *removal) note(err error) {
	var classed *managed.Error
	if errors.As(rest.Classify(err), &classed) {
		r.errs = append(r.errs, &managed.Error{Class: classed.Class, RetryAfter: classed.RetryAfter, Left: classed.Left, Err: err})
	}
}

// verdict is what came of the pass.
func (r *removal) verdict(ctx context.Context) error {
	switch {
	case len(r.errs) == 0 && r.removed == 0:
		return &managed.Error{Class: managed.Gone, Age: r.age, Err: errors.New("there is no key with this user's name")}
	case len(r.errs) == 0:
		return nil
	}
	worst := *rest.Worst(r.errs)
	if worst.Class == managed.Transient && r.removed > 0 && ctx.Err() != nil { // it got somewhere, and the next pass goes on
		worst.Class, worst.Left = managed.NotYet, r.left+1
	}
	return &worst
}
