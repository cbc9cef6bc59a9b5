// Package managed is the engine of managed credentials: it makes the missing ones, and revokes what
// was made for a deleted account, so that every user has exactly one scoped key and none is left
// behind, through crashes, races, retries and outages.
//
// What the engine needs of a third party, and what it promises it in turn, is the interface
// [Provider]. The table and its transitions are package store's.
//
// # Words
//
// Each of these means one thing, here and in package store.
//
// The slot:
//
//   - A slot is the item of a user's managed credential at one provider: its lock, its state and the
//     credential in one. One that has no item yet is absent.
//   - Its resource is what was made for the user at the third party, such as a pod, and its key is
//     the one key of ours in it that is stored.
//   - A slot is due when there is work to do for it. What is postponed is due later. Each slot that
//     is or will be due stands in the table's index for that, and nothing else does.
//   - A slot is settled when nothing that was sent under it can still take effect, and nothing exists
//     that it does not name.
//
// The claim:
//
//   - A claim is a worker's right to work on a slot. It comes before any call that could make
//     something, holds for a lease, and ends early by a commit or a release. Outside calls are sent
//     in the first half of the lease alone.
//   - Its attempt is its number, which belongs to it for ever and stands in the names of its keys,
//     and also the claim as the provider sees it ([Attempt]).
//   - A take-over is a claim whose attempt is above the first: a lower one may have left something.
//   - A claim is lost when another one has been written since. Whoever lost it writes nothing more,
//     and discards the key that they made themselves.
//   - A pass is one piece of work for one slot, from before its claim to the claim's end.
//
// What a pass does:
//
//   - To provision is to make the resource and the key. To commit is to store that key, which ends
//     the claim. To release is to end it without.
//   - To sweep is to look for a ready slot's key, and to remove every other key of ours beside it,
//     but one that is retiring.
//   - To rotate is to make another key beside the stored one and to store that. The one before is
//     retiring: it serves on for the overlap, and the sweep after that removes it.
//   - To discard is to delete a key that one has just made oneself and that is not stored.
//   - To revoke is to remove all that was made for a user at the third party. A revocation that
//     cannot be done as things are is parked: it is tried every few hours, and an operator is told.
//     What a deletion holds back stays for a while after the keys are revoked.
//   - A suspicion is a look that did not find what the slot names. A second look, [LastLook] later,
//     confirms it. The last look is the one after a deletion.
//
// The account:
//
//   - A tombstone says that an account was deleted. It stays for ever, and rests when nothing else
//     of the account is left.
//   - To bury is to write it. From then on the slots of the account are dead: revoking, or parked.
//   - What is pending is what is still left of a deleted account.
//
// The rest:
//
//   - The org key is the organisation's own at a third party, with which keys are made and revoked.
//   - The deployment is one table and the functions that work on it. Several may share an
//     organisation, so keys carry the deployment's id in their names.
//   - A round is one invocation of reconcile, and a lane what it does at one provider.
//   - A job is work that is longer than an invocation, such as an audit, with the place at which the
//     next one goes on.
package managed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// Provider is one third party at which the platform makes a resource, and a key scoped to it, for
// each user.
//
// The engine calls a provider only under a claim of the user's slot, with a context that ends
// within the first half of the claim's lease. A provider has to return soon after its context has
// ended, and must not go on in the background. It calls Sending right before each call that it
// sends, which holds it to the pace and returns the context's Err: that goes by the clock, which
// Done does not in a process that was frozen. It calls SlowDown when a call was refused because
// there are too many. Every call that could create something goes through Attempt.Create: also one
// that is meant as a lookup.
//
// Deployments may share an organisation. A key whose name carries the id of another one is never
// deleted. A resource that holds such a key, or carries another's id itself, is neither adopted nor
// removed: the class is Mismatch, and a revocation deletes our own keys there first. Where the slot
// does not name that resource, nothing of the user's is there once these are gone. What carries no
// id is ours. Where there is no resource but what the names of keys say, deployments share nothing,
// and each takes the others' keys for nobody's.
//
// Where Attempt.Resource names something, an org key of another organisation creates nothing and
// proves nothing gone: that is Foreign.
//
// An absence is a suspicion. One look may have met a replica that lags, or a list that was cut
// short, so a provider says Gone only for what it has looked for by every path that there is (by
// its id, and in the list), and the engine acts on it only when a later claim, at least LastLook
// after, has seen the same. Where the third party shows how things were a while ago, the error says
// how long (Error.Age), and that much later still is the look that counts.
//
// Errors are classified with *Error; one without a class counts as transient. They are logged, so
// they must not carry a secret. Providers are safe for concurrent use.
type Provider interface {
	// Name is the provider's name in the API, of the form that credential.ValidProvider accepts.
	Name() string

	// Title is what a user sees of the credential.
	Title() string

	// Provision makes the user's resource and one key, named after the attempt. An attempt above
	// the first is a take-over: it first removes every key of ours that a lower one may have left,
	// but those that Attempt.Keeps. What it does not find there may be there all the same, so it
	// accounts for nothing: that is for the sweep, whose list has the key that is made now. A key
	// that it made but cannot return is left for the next attempt. After an unknown outcome it
	// sends no create again, unless that is idempotent. Where Attempt.Resource names a key, the new
	// one is to replace it: the old one is removed by a later sweep, once the new one is stored.
	Provision(ctx context.Context, org credential.Secret, a *Attempt) (Grant, error)

	// Sweep removes every key of ours from the user's resource but those that Attempt.Keeps. Where
	// its list has the stored key, which is younger than what lower attempts may have left, it
	// calls Attempt.Accounted then. What the stored key may do is brought up to date, where the
	// third party can change that. If the key, or the resource itself, is not there, the class is
	// Gone, and nothing was removed. If it is there and the third party says that it does not work,
	// the class is Unusable, and all the rest was done. Safe to repeat.
	Sweep(ctx context.Context, org credential.Secret, a *Attempt) error

	// Discard deletes the one key that r names, which the caller has just made. One that is gone
	// already, for an org key of its organisation, is no error.
	Discard(ctx context.Context, org credential.Secret, r credential.Resource) error

	// Deprovision removes all that was made for the user. It first looks at what Attempt.Resource
	// names: if that is there and is not this user's, or is the organisation's own, the class is
	// Mismatch, and nothing is touched. Then the stored key goes, by its own id; then every child,
	// whatever becomes of the others, their errors collected; then the resource. Only where
	// Attempt.Resource names nothing, or there may be more (Attempt.Inherited), does it look for
	// more, after what the slot names has been emptied, and then calls Attempt.Accounted.
	//
	// nil means that all of it was there and has been removed, by the answer that the third party
	// documents for that; what it cannot delete at all does not count (Staying). Gone means that
	// nothing was there to remove, for an org key of the organisation that the resource belongs to.
	// Any other success is no proof: an error, so that it is looked at again. What the third party
	// goes on deleting by itself, and a pass that ran out of time after it removed something, are
	// NotYet, with what is left (Error.Left). Safe to repeat.
	Deprovision(ctx context.Context, org credential.Secret, a *Attempt) error

	// Enumerate returns a page of the resources that the third party lists and that could have been
	// made here, from the cursor on, and the next cursor; "" is the start, and the end. A page may
	// be empty and not the last. It changes nothing.
	Enumerate(ctx context.Context, org credential.Secret, cursor string) (page []Holding, next string, err error)

	// Inspect returns all keys in the user's resource that have names such as ours, those of other
	// deployments, too. Where holdings come with their keys, the one that r names is enough, if it
	// is there. If the resource is not there any more, the class is Gone. It changes nothing.
	Inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]HeldKey, error)
}

// Adopter is a provider at which users may have a resource that the table knows nothing of, because
// another service made it.
type Adopter interface {
	// Adopts reports whether a deletion has to ask the third party for what the user has there,
	// though they have no slot.
	Adopts() bool
}

// Staying is a provider at which something stays when all that can be removed has been.
type Staying interface {
	// Stays is what stays there after a deletion, and for how long: a sentence for operators, and
	// for what a platform promises its users.
	Stays() string
}

// Holding is a resource as the third party lists it.
type Holding struct {
	// User is whose it is; "" if its marks do not tell.
	User string
	// Resource names it; no key.
	Resource credential.Resource
	// Deployment is the id that it carries; "" for none.
	Deployment string
	// Keys are those in it, as Inspect would return them, where the third party lists them with it;
	// nil if it does not. Further ones may come with another holding of the same resource.
	Keys []HeldKey
}

// HeldKey is a key of ours as the third party lists it.
type HeldKey struct {
	ID string
	// Attempt is the one that made it.
	Attempt int64
	// Deployment is the id that its name carries; "" for none.
	Deployment string
	// CreatedAt is when, by the third party's clock.
	CreatedAt time.Time
	// PermissionsDiffer: it may do something else than what is configured now, and a sweep that
	// keeps it would change that.
	PermissionsDiffer bool
}

// Grant is what a provider made.
type Grant struct {
	Resource credential.Resource
	Key      credential.Secret
	// ExpiresAt is when the third party lets the key expire; zero if it does not.
	ExpiresAt time.Time
}

// Attempt is one claim of a user's slot, as a provider sees it.
type Attempt struct {
	User string
	// Number is the attempt's, which belongs to this claim for ever. Keys carry it in their names.
	Number int64
	// Deployment is this deployment's id, of eight lower-case characters of base32. The names of
	// keys carry it, and what a new resource is called. "" marks nothing.
	Deployment string
	// Organization is the one in which this deployment makes things; "" if none is known. An org
	// key of any other makes nothing, and looks nothing up with a call that could: ErrOrganization,
	// of class Foreign.
	Organization string

	now    func() time.Time
	cutoff time.Time

	mu        sync.Mutex
	resource  credential.Resource
	retiring  string
	inherited bool
	unknown   bool
	found     bool
}

// Terms are those of a claim, from which its attempt is made.
type Terms struct {
	User   string
	Number int64
	// Stored is what the slot names when it is claimed.
	Stored credential.Resource
	// Retiring is the id of a key that another one has replaced and that serves on; "" for none.
	Retiring string
	// Inherited says whether a lower attempt may have left something that Stored does not name.
	Inherited bool
	// Creates are sent until Cutoff, by the clock Now.
	Now    func() time.Time
	Cutoff time.Time
}

// NewAttempt describes a claim to a provider. It is exported for the tests of providers.
func NewAttempt(t Terms) *Attempt {
	return &Attempt{User: t.User, Number: t.Number, resource: t.Stored, retiring: t.Retiring, inherited: t.Inherited, now: t.Now, cutoff: t.Cutoff}
}

// Keeps reports whether the key with that id stays where keys of lower attempts are removed: it is
// the stored one, or one that it has replaced and that still serves.
func (a *Attempt) Keeps(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return id != "" && (id == a.resource.KeyID || id == a.retiring)
}

// keepsStoredOnly has a key that serves on beside the stored one removed with the others.
func (a *Attempt) keepsStoredOnly() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retiring = ""
}

// Resource is what the slot has stored, and what was found since.
func (a *Attempt) Resource() credential.Resource {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.resource
}

// Outcome says what is known of a create after it was sent.
type Outcome int

const (
	// Unknown: it may still take effect, or have done so: the answer was lost, or was a 5xx.
	Unknown Outcome = iota
	// Known: it has taken effect, or never will.
	Known
)

// Create sends a call that can create something, unless the lease's first half is over by the
// clock: a context's deadline alone does not hold in a process that was frozen. Once an outcome of
// the attempt is unknown it stays so, whatever comes after it.
func (a *Attempt) Create(ctx context.Context, send func(context.Context) (Outcome, error)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.over() {
		return &Error{Class: Transient, Err: errors.New("the first half of the lease is over: nothing was sent")}
	}
	outcome := Unknown
	defer func() { // also when send panics
		a.mu.Lock()
		defer a.mu.Unlock()
		a.unknown = a.unknown || outcome != Known
	}()
	var err error
	outcome, err = send(ctx)
	return err
}

// leaves notes that something is there which the slot will not name.
func (a *Attempt) leaves() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unknown = true
}

// over reports whether the time for outside calls is over, by the clock.
func (a *Attempt) over() bool { return !a.now().Before(a.cutoff) }

// Inherited reports whether a lower attempt may have left something that the slot does not name:
// its outcome was never known.
func (a *Attempt) Inherited() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inherited
}

// Accounted notes that all that lower attempts may have left has been found: it was removed, or is
// named by Found.
func (a *Attempt) Accounted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inherited = false
}

// Found notes what is known to exist, so that the slot names it also when the attempt fails. Should
// it not be found any more in the same pass, that is a first look, whatever earlier ones saw.
func (a *Attempt) Found(id, orgID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resource.ID, a.resource.OrgID, a.found = id, orgID, true
}

// hasFound reports whether this pass knows of something that it found or made.
func (a *Attempt) hasFound() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.found
}

// Settled reports whether nothing sent under the slot can take effect any more, and nothing exists
// that it does not name.
func (a *Attempt) Settled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.inherited && !a.unknown
}

// Class sorts a provider's errors by what is to be done.
type Class string

const (
	// Transient: try again, with backoff.
	Transient Class = "transient"
	// Rejected: the org key is not accepted. It is fetched anew once; then an operator has to look.
	Rejected Class = "org_key_rejected"
	// Quota: the organisation may not have more of these.
	Quota Class = "quota"
	// Permanent: no repeat will help until something is changed.
	Permanent Class = "permanent"
	// NotYet: the third party has begun, and is not done. Not a failure.
	NotYet Class = "not_yet"
	// Gone: what the slot names is not there, by every path that there is. Not a failure of the
	// provider's.
	Gone Class = "gone"
	// Unusable: the stored key is there, and does not work: it is disabled, or has spent what it
	// may. Not a failure of the provider's, and no reason to make another one: that would undo what
	// somebody has decided, or lift a limit.
	Unusable Class = store.ReasonUnusable
	// Foreign: the org key is of another organisation than what the slot names. That is about this
	// slot, unless several different ones in a row say so.
	Foreign Class = "foreign"
	// RateLimited: the third party takes fewer calls. Not a failure: it is called less often, and
	// this is tried again.
	RateLimited Class = "rate_limited"
	// Mismatch: what the slot names is somebody else's by its own mark. It is left alone until an
	// operator has looked.
	Mismatch Class = "mismatch"
)

// Error is a provider's failure with its class.
type Error struct {
	Class Class
	// RetryAfter is how long to wait at least; 0 if the third party did not say.
	RetryAfter time.Duration
	// Left is how many things are still there, at a NotYet; one that does not shrink for an hour is
	// stuck.
	Left int
	// Age is how old that may be which a Gone goes by, such as a list that is renewed every few
	// minutes; 0 if it is how things are now.
	Age time.Duration
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Class, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// classified is err with its class; transient if it has none.
func classified(err error) *Error {
	var classed *Error
	if errors.As(err, &classed) {
		return classed
	}
	return &Error{Class: Transient, Err: err}
}
