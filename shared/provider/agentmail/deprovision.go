package agentmail

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// Deprovision implements managed.Provider.
func (p *Provider) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	r := removal{Provider: p, org: org}
	there, err := r.look(ctx, a)
	if err == nil {
		r.remove(ctx, a, there)
	}
	r.note(err)
	return r.verdict(ctx)
}

// Disarm implements managed.Disarmer: mail cannot be made again.
func (p *Provider) Disarm(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	r := removal{Provider: p, org: org}
	there, err := r.look(ctx, a)
	if err == nil && (a.Inherited() || a.Resource().ID == "") {
		var found pod
		found, err = r.pod(ctx, org, a)
		if err == nil {
			var ours bool
			ours, err = r.claims(ctx, a, found)
			there = there || ours
		}
	}
	if there {
		r.empty(ctx, a.Resource(), families[:1])
		r.keysOfInboxes(ctx, a.Resource())
	}
	r.note(err)
	r.deleted = r.removed > 0
	return r.verdict(ctx)
}

// removal is one pass over what was made for a user. What goes wrong with one thing keeps it from
// nothing else.
type removal struct {
	*Provider
	org credential.Secret

	// removed counts the children that are gone, or going, because of this pass, and left those
	// that are there still, as far as it knows.
	removed, left int
	// deleted and absent say that it deleted a pod, and that one was not there to delete.
	deleted, absent bool
	// limited: AgentMail wants no more calls for now. accepted: it took the org key for the pod's
	// own deletion, whatever it said before.
	limited, accepted bool
	errs              []*managed.Error
}

// look looks at the pod that the slot names, and reports whether it is there. One that is somebody
// else's by its own mark, or the organisation's own, is a Mismatch. So is one that is another
// deployment's, once our own keys in it are gone.
func (r *removal) look(ctx context.Context, a *managed.Attempt) (bool, error) {
	if a.Resource().ID == "" {
		return false, nil
	}
	found, err := r.find(ctx, r.org, a.Resource())
	var classed *managed.Error
	switch {
	case errors.As(err, &classed) && classed.Class == managed.Gone:
		r.absent = true
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at the pod: %w", err)
	case found.ClientID != r.clientID(a.User) || found.PodID == found.OrganizationID || found.PodID == a.Resource().OrgID:
		return false, &managed.Error{Class: managed.Mismatch, Err: errors.New("the pod that the slot names does not have this user's client_id, or is the organisation's own: it is left alone")}
	}
	shared, err := r.shared(ctx, a, found)
	if err == nil && shared {
		err = errShared
	}
	return err == nil, err
}

// shared reports whether the pod is one of another deployment, or holds keys of one. Then only our
// own keys in it are deleted, and without an error all of them are gone. A pod that this deployment
// made is nobody else's: no other one adopts it.
func (r *removal) shared(ctx context.Context, a *managed.Attempt, found pod) (bool, error) {
	mark := markOf(found.Name, a.User)
	if a.Deployment == "" || mark == a.Deployment {
		return false, nil
	}
	at := credential.Resource{ID: found.PodID, OrgID: found.OrganizationID}
	if a.Resource().ID == at.ID {
		at.KeyID = a.Resource().KeyID
	}
	r.empty(ctx, at, nil) // the stored key, whatever becomes of the list
	keys, err := r.keys(ctx, r.org, at)
	var classed *managed.Error
	if errors.As(err, &classed) && classed.Class == managed.Gone {
		err = &managed.Error{Class: managed.Transient, Err: fmt.Errorf("the pod went away meanwhile: %w", classed.Err)}
	}
	if err != nil {
		return true, err
	}
	if !isOthers(mark, a) && !haveOthers(keys, a) {
		return false, nil
	}
	for _, key := range keys {
		_, ours := attemptOf(key.Name, a)
		if ours && key.ID != at.KeyID {
			r.child(ctx, keysPath(at.ID), key.ID, []int{http.StatusNoContent})
		}
	}
	if len(r.errs) > 0 || r.left > 0 {
		return true, &managed.Error{Class: managed.Transient, Err: errors.New("some of this deployment's keys are still in a pod that another deployment uses, too")}
	}
	return true, nil
}

// claims has the slot name the pod that a lookup has found, and reports whether it is ours alone.
// In one that is shared and that the slot does not name, nothing is the user's once our keys are
// gone.
func (r *removal) claims(ctx context.Context, a *managed.Attempt, found pod) (bool, error) {
	shared, err := r.shared(ctx, a, found)
	switch {
	case err != nil:
		return false, err
	case shared && found.PodID == a.Resource().ID:
		return false, errShared
	case shared:
		a.Accounted()
		r.deleted = r.deleted || r.removed > 0
		r.absent = !r.deleted
		return false, nil
	}
	a.Found(found.PodID, found.OrganizationID)
	a.Accounted()
	return true, nil
}

// remove empties what the slot names, then looks for more if there may be more, and deletes the
// pods last: a repeated POST finds a pod that is still there, and would make another one after it.
// What comes of that POST keeps nothing else from being deleted.
func (r *removal) remove(ctx context.Context, a *managed.Attempt, there bool) {
	stored := a.Resource()
	if stored.ID != "" && !a.Inherited() {
		if there && !r.removeBare(ctx, stored) {
			r.emptyOf(ctx, stored, families)
			r.deletePod(ctx, stored)
		}
		return
	}
	if there {
		r.empty(ctx, stored, families)
	}
	found, err := r.pod(ctx, r.org, a)
	done := !there || found.PodID != stored.ID && r.deletePod(ctx, stored)
	r.note(err)
	if err != nil || !done && found.PodID != stored.ID {
		return // the slot goes on naming the stored one
	}
	more := credential.Resource{ID: found.PodID, OrgID: found.OrganizationID}
	ours, err := r.claims(ctx, a, found)
	r.note(err)
	if !ours {
		return
	}
	r.absent = false // the POST is one more path to what the slot names, and it has led to this one
	if done {
		r.empty(ctx, more, families)
	}
	r.deletePod(ctx, more)
}

// removeBare deletes the stored key, and then the pod if it holds nothing else, as is true of most:
// AgentMail refuses to delete one that does, so that nobody has to look at what is in it first. It
// reports whether the pass is done: if not, everything is to be looked for.
func (r *removal) removeBare(ctx context.Context, pod credential.Resource) bool {
	r.deleteKey(ctx, pod)
	if len(r.errs) > 0 {
		return false
	}
	err := r.client.Remove(ctx, r.org, podPath(pod.ID), nil, http.StatusNoContent)
	if holdsMore(err) {
		return false
	}
	if !r.podDeleted(ctx, pod, err) {
		r.emptyOf(ctx, pod, families) // what works in it goes, whatever is wrong with the pod
	}
	return true
}

// family is one kind of what a pod can hold.
type family struct {
	path, list, id string
	done           []int
	// haveKeys: each can have keys of its own, which the pod's list of keys does not show.
	haveKeys bool
}

// families are what a pod can hold, and how AgentMail says that one of them is deleted. Keys come
// first: one that still works can make more of everything else.
var families = []family{
	{path: "/api-keys", list: "api_keys", id: "api_key_id", done: []int{http.StatusNoContent}},
	{path: "/inboxes", list: "inboxes", id: "inbox_id", done: []int{http.StatusAccepted, http.StatusNoContent}, haveKeys: true},
	{path: "/domains", list: "domains", id: "domain_id", done: []int{http.StatusNoContent}},
	{path: "/webhooks", list: "webhooks", id: "webhook_id", done: []int{http.StatusNoContent}},
}

// pagesAtOnce is how many pages of a list are read before what they list is deleted. A pass over a
// long list has to get somewhere.
const pagesAtOnce = 10

// empty deletes all of the given families that the pod holds, the stored key first.
func (r *removal) empty(ctx context.Context, pod credential.Resource, families []family) {
	r.deleteKey(ctx, pod)
	r.emptyOf(ctx, pod, families)
}

// deleteKey deletes the stored key.
func (r *removal) deleteKey(ctx context.Context, pod credential.Resource) {
	if pod.KeyID == "" {
		return
	}
	err := r.client.Remove(ctx, r.org, keysPath(pod.ID)+"/"+url.PathEscape(pod.KeyID), nil, http.StatusNoContent)
	if err == nil {
		r.removed++
	} else if !rest.IsGone(err) { // the list has it, too, if it is there
		r.note(fmt.Errorf("deleting the stored key: %w", err))
	}
}

// emptyOf deletes all of the given families that the pod holds.
func (r *removal) emptyOf(ctx context.Context, pod credential.Resource, families []family) {
	for _, f := range families {
		path := podPath(pod.ID) + f.path
		items := rest.NewWalk(pages[map[string]any](r.client, r.org, path, f.list))
		for !items.Ended && !r.over(ctx) {
			listed, err := items.Pages(ctx, pagesAtOnce)
			if !rest.IsGone(err) { // not found may be the list alone: the pod's own deletion tells
				r.note(err)
			}
			for _, item := range listed {
				id, _ := item[f.id].(string)
				if f.haveKeys && id != "" {
					r.inboxKeys(ctx, id)
				}
				r.child(ctx, path, id, f.done)
			}
		}
	}
}

// keysOfInboxes deletes the keys of all the pod's inboxes, and leaves the inboxes.
func (r *removal) keysOfInboxes(ctx context.Context, pod credential.Resource) {
	inboxes := rest.NewWalk(pages[map[string]any](r.client, r.org, podPath(pod.ID)+"/inboxes", "inboxes"))
	for !inboxes.Ended && !r.over(ctx) {
		listed, err := inboxes.Next(ctx)
		if !rest.IsGone(err) {
			r.note(err)
		}
		for _, item := range listed {
			id, _ := item["inbox_id"].(string)
			if id != "" {
				r.inboxKeys(ctx, id)
			}
		}
	}
}

// inboxKeys deletes the keys of one inbox. The inbox itself goes on being deleted for a while, and
// they might go on working.
func (r *removal) inboxKeys(ctx context.Context, inbox string) {
	path := "/v0/inboxes/" + url.PathEscape(inbox) + "/api-keys"
	keys := rest.NewWalk(pages[listedKey](r.client, r.org, path, "api_keys"))
	for !keys.Ended && !r.over(ctx) {
		listed, err := keys.Next(ctx)
		if !rest.IsGone(err) {
			r.note(err)
		}
		for _, key := range listed {
			r.child(ctx, path, key.ID, []int{http.StatusNoContent})
		}
	}
}

// child deletes one of a list. Where it is not found, or being deleted already, the pod's own
// deletion tells whether it is gone.
func (r *removal) child(ctx context.Context, list, id string, done []int) {
	if id == "" || r.over(ctx) {
		r.left++
		return
	}
	err := r.client.Remove(ctx, r.org, list+"/"+url.PathEscape(id), nil, done...)
	switch {
	case err == nil:
		r.removed++
	case rest.IsGone(err):
	case isDeleting(err):
		r.left++
	default:
		r.left++
		r.note(err)
	}
}

// over reports whether no child is to be deleted any more in this pass.
func (r *removal) over(ctx context.Context) bool { return r.limited || ctx.Err() != nil }

// deletePod deletes an emptied pod, and reports whether it is gone.
func (r *removal) deletePod(ctx context.Context, pod credential.Resource) bool {
	return r.podDeleted(ctx, pod, r.client.Remove(ctx, r.org, podPath(pod.ID), nil, http.StatusNoContent))
}

// podDeleted takes the answer to a pod's deletion, and reports whether it is gone.
func (r *removal) podDeleted(ctx context.Context, pod credential.Resource, err error) bool {
	if err == nil {
		r.deleted = true
		r.errs = nil // it held nothing any more, whatever was said of that
		return true
	}
	if rest.IsGone(err) {
		missing := err
		_, err = r.find(ctx, r.org, pod)
		var classed *managed.Error
		if errors.As(err, &classed) && classed.Class == managed.Gone {
			r.absent = true
			return true
		}
		if err == nil {
			err = &managed.Error{Class: managed.Transient, Err: fmt.Errorf("the pod is still there, but its deletion says that it is not: %w", missing)}
		}
	}
	r.note(fmt.Errorf("deleting the pod: %w", err))
	r.accepted = r.errs[len(r.errs)-1].Class == managed.NotYet
	return false
}

// note keeps what went wrong for the verdict.
func (r *removal) note(err error) {
	var classed *managed.Error
	if !errors.As(rest.Classify(err), &classed) {
		return
	}
	r.errs = append(r.errs, &managed.Error{Class: classed.Class, RetryAfter: classed.RetryAfter, Err: err})
	r.limited = r.limited || isLimited(err)
}

// maxQuoted is how many of a pass's errors are told.
const maxQuoted = 5

// verdict is what came of the pass.
func (r *removal) verdict(ctx context.Context) error {
	if len(r.errs) == 0 {
		if r.absent || !r.deleted {
			return &managed.Error{Class: managed.Gone, Err: errors.New("there is no such pod")}
		}
		return nil
	}
	for _, err := range r.errs {
		if err.Class == managed.Rejected && r.accepted { // it is that child which cannot be deleted
			err.Class = managed.Permanent
		}
	}
	worst := rest.Worst(r.errs)
	v := &managed.Error{Class: worst.Class, RetryAfter: worst.RetryAfter}
	if worst.Class == managed.Transient && r.removed > 0 && ctx.Err() != nil {
		v.Class = managed.NotYet // it got somewhere, and the next pass goes on
	}
	if v.Class == managed.NotYet {
		v.Left = r.left + 1
	}
	var told []error
	for _, err := range r.errs[:min(len(r.errs), maxQuoted)] {
		told = append(told, err.Err)
	}
	if len(r.errs) > maxQuoted {
		told = append(told, fmt.Errorf("and %d more", len(r.errs)-maxQuoted))
	}
	v.Err = errors.Join(told...)
	return v
}
