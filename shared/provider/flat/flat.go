// Package flat makes a managed.Provider of a third party whose keys have names in one list. That is
// most of them: OpenRouter, say. An [Author] writes the five calls that the third party has, and
// all that the engine's contract asks for follows.
//
// Such a third party has nothing that holds a user's keys, so the name does: the part of it that
// stands for the user is a virtual container (Resource.ID). Names are never unique there, creates
// never idempotent, and a lookup is a walk through the whole list.
//
// Deployments that share an organisation share nothing else: a key whose name carries the id of
// another one is not there for this one.
package flat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// Author is a third party whose keys have names in one list. Its errors are those of package rest,
// or have their class. It is safe for concurrent use.
type Author interface {
	// Name is the provider's name in the API, and Title what a user sees of the credential.
	Name() string
	Title() string

	// Owns returns the ids of the organisations that the org key opens, the one in which Create
	// makes keys first. There is at least one. It proves that a key of an organisation is gone,
	// where the third party answers "not found" for everybody else's, too. It changes nothing.
	Owns(ctx context.Context, org credential.Secret) ([]string, error)

	// Create makes a key of this name. It is sent once: each call makes another.
	Create(ctx context.Context, org credential.Secret, name string) (Made, error)

	// Get returns the key with this id in an organisation; an error that rest.IsGone knows if there
	// is none.
	Get(ctx context.Context, org credential.Secret, organization, id string) (Key, error)

	// List is the list of an organisation's keys, those that do not work at present included.
	List(org credential.Secret, organization string) rest.Page[Key]

	// Delete deletes the key with this id. nil is the answer that the third party documents for
	// that, and nothing else is. If there is no such key, the error is one that rest.IsGone knows.
	Delete(ctx context.Context, org credential.Secret, organization, id string) error
}

// Keyed is an author whose "keys" are accounts, which have names, and what opens anything are
// further keys in a list of their own. An account may lose them, and they might outlive it.
type Keyed interface {
	// Openers is the list of an organisation's keys.
	Openers(org credential.Secret, organization string) rest.Page[Opener]

	// Close deletes one of them, as Author.Delete does.
	Close(ctx context.Context, org credential.Secret, organization, id string) error
}

// Opener is a key of an account.
type Opener struct {
	ID string
	// Account and Name are the account's.
	Account, Name string
	// Expired: it opens nothing any more.
	Expired bool
}

// Lagging is an author whose list, and whose Get, may show how things were a while ago. A key's id
// is its name there: no two have the same, and Delete goes by how things are now.
type Lagging interface {
	// Lag tells of the list. It changes nothing.
	Lag(ctx context.Context, org credential.Secret) (Lag, error)
}

// Lag is how far a list is behind.
type Lag struct {
	// Age is how old the list may be; 0 if it shows how things are now.
	Age time.Duration
	// At is the time that it shows, by the clock of CreatedAt.
	At time.Time
}

// Key is a key as the third party lists it.
type Key struct {
	ID, Name string
	// Organization is the id of the one that the key is in.
	Organization string
	CreatedAt    time.Time
	// Filled: something would go with the key that cannot be made again. Only the end of an account
	// is a reason to delete it.
	Filled bool
	// Unusable: it opens nothing at present, because it is disabled or has spent what it may.
	Unusable bool
	// Left is what it may still spend, in the third party's own unit, where that is never renewed;
	// nil where it is, or nothing limits it.
	Left *float64
}

// Succeeding is an Author whose keys have something that one which replaces another has to take
// over, such as what is left of a limit: else each replacement would lift it.
type Succeeding interface {
	// CreateAfter is Create for a key that replaces old, which is there.
	CreateAfter(ctx context.Context, org credential.Secret, name string, old Key) (Made, error)
}

// Made is a key that has just been made. Where the third party does not say in which organisation,
// it is the first of those that the org key opens.
type Made struct {
	Key
	Secret credential.Secret
	// ExpiresAt is when the third party lets the key expire; zero if it does not.
	ExpiresAt time.Time
}

// Provider is an Author as a managed.Provider.
type Provider struct {
	author Author
	rate   float64

	mu sync.Mutex
	// seen and owned are the org key that was last asked what it opens, and the answer.
	seen  credential.Secret
	owned []string
}

var (
	_ managed.Provider  = (*Provider)(nil)
	_ managed.Organized = (*Provider)(nil)
	_ managed.Paced     = (*Provider)(nil)
)

// New returns the author's provider. rate is how many calls a second one process may send on
// average; 0 means that it finds out by itself.
func New(author Author, rate float64) *Provider { return &Provider{author: author, rate: rate} }

// Name implements managed.Provider.
func (p *Provider) Name() string { return p.author.Name() }

// Title implements managed.Provider.
func (p *Provider) Title() string { return p.author.Title() }

// Rate implements managed.Paced.
func (p *Provider) Rate() float64 { return p.rate }

// Organization implements managed.Organized.
func (p *Provider) Organization(ctx context.Context, org credential.Secret) (string, error) {
	owned, err := p.owns(ctx, org)
	if err != nil {
		return "", rest.Classify(err)
	}
	return owned[0], nil
}

// owns is what the org key opens. It is asked for once per key.
func (p *Provider) owns(ctx context.Context, org credential.Secret) ([]string, error) {
	p.mu.Lock()
	seen, owned := p.seen, p.owned
	p.mu.Unlock()
	if seen == org && owned != nil {
		return owned, nil
	}
	owned, err := p.author.Owns(ctx, org)
	if err == nil && (len(owned) == 0 || slices.Contains(owned, "")) {
		err = rest.ErrAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("asking whose the org key is: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.owned = org, owned
	return owned, nil
}

// prove makes sure that the org key opens the organisation that the slot names, or, where it names
// none, the one in which this deployment makes things. Any other one's list says nothing.
func (p *Provider) prove(ctx context.Context, org credential.Secret, r credential.Resource, pinned string) error {
	owned, err := p.owns(ctx, org)
	switch {
	case err != nil:
		return err
	case r.OrgID != "" && !slices.Contains(owned, r.OrgID):
		return &managed.Error{Class: managed.Foreign, Err: errors.New("the key belongs to another organisation than the org key")}
	case r.OrgID == "" && pinned != "" && !slices.Contains(owned, pinned):
		return &managed.Error{Class: managed.Foreign, Err: managed.ErrOrganization}
	}
	return nil
}

// Provision implements managed.Provider.
func (p *Provider) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	grant, err := p.provision(ctx, org, a)
	return grant, rest.Classify(err)
}

func (p *Provider) provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	owned, err := p.owns(ctx, org)
	if err == nil && a.Organization != "" && a.Organization != owned[0] {
		err = &managed.Error{Class: managed.Foreign, Err: managed.ErrOrganization}
	}
	if err == nil {
		err = p.prove(ctx, org, a.Resource(), "")
	}
	if err != nil {
		return managed.Grant{}, err
	}
	send := func(ctx context.Context, name string) (Made, error) { return p.author.Create(ctx, org, name) }
	if a.Number > 1 {
		keys, err := p.list(ctx, org)
		successor, ok := p.author.(Succeeding)
		if old := index(keys, a.Resource().KeyID); ok && old >= 0 {
			stored := keys[old]
			send = func(ctx context.Context, name string) (Made, error) {
				return successor.CreateAfter(ctx, org, name, stored)
			}
		}
		if err == nil {
			err = p.removeLower(ctx, org, a, keys)
		}
		if err != nil && !isNotYet(err) { // what an old list shows keeps nobody waiting
			return managed.Grant{}, fmt.Errorf("removing the keys of earlier attempts: %w", err)
		}
	}
	made, err := p.create(ctx, a, owned[0], send)
	if err != nil {
		return managed.Grant{}, fmt.Errorf("making the key: %w", err)
	}
	return managed.Grant{
		Resource:  credential.Resource{ID: Container(a.User), KeyID: made.ID, OrgID: made.Organization},
		Key:       made.Secret,
		ExpiresAt: made.ExpiresAt,
	}, nil
}

// create makes the attempt's key by what sends that. Never repeated: after an unknown outcome the
// next attempt removes what it may have made. Whatever may exist, the slot names its organisation.
func (p *Provider) create(ctx context.Context, a *managed.Attempt, home string, send func(ctx context.Context, name string) (Made, error)) (Made, error) {
	name := KeyName(a.User, a.Deployment, a.Number)
	var made Made
	err := a.Create(ctx, func(ctx context.Context) (managed.Outcome, error) {
		var err error
		made, err = send(ctx, name)
		made.Organization = cmp.Or(made.Organization, home)
		switch {
		case err != nil:
		case made.Name != name || made.Organization != home:
			err = &managed.Error{Class: managed.Permanent, Err: errors.New("the third party answered with a key of another name or organisation: it is left alone")}
		case made.ID == "" || made.Secret.Empty():
			err = rest.ErrAnswer
		}
		outcome := rest.Outcome(err)
		if err == nil || outcome == managed.Unknown {
			a.Found(Container(a.User), home)
		}
		return outcome, err
	})
	if err != nil {
		return Made{}, err
	}
	return made, nil
}

// list is every key in every organisation that the org key opens, each once. With an error it
// returns what was listed until then.
func (p *Provider) list(ctx context.Context, org credential.Secret) ([]Key, error) {
	owned, err := p.owns(ctx, org)
	if err != nil {
		return nil, err
	}
	var all []Key
	seen := map[string]bool{}
	for _, organization := range owned {
		for w := rest.NewWalk(p.author.List(org, organization)); !w.Ended; {
			keys, err := w.Next(ctx)
			for _, key := range keys {
				if key.ID == "" { // its path would be the list's
					return all, fmt.Errorf("listing the keys: %w", rest.ErrAnswer)
				}
				if !seen[key.ID] {
					seen[key.ID] = true
					all = append(all, key)
				}
			}
			if err != nil {
				return all, fmt.Errorf("listing the keys: %w", err)
			}
		}
	}
	return all, nil
}

func has(keys []Key, id string) bool { return index(keys, id) >= 0 }

func index(keys []Key, id string) int {
	return slices.IndexFunc(keys, func(key Key) bool { return key.ID == id })
}

// removeLower removes this user's keys of lower attempts, but the stored one.
func (p *Provider) removeLower(ctx context.Context, org credential.Secret, a *managed.Attempt, keys []Key) error {
	for _, key := range keys {
		attempt, ours := attemptOf(key.Name, a)
		if !ours || attempt >= a.Number || a.Keeps(key.ID) {
			continue
		}
		if key.Filled {
			return errFilled
		}
		err := p.remove(ctx, org, key.Organization, key.ID)
		if err != nil {
			return fmt.Errorf("deleting a key of an earlier attempt: %w", err)
		}
	}
	return nil
}

// errFilled: to mend the user's key would destroy what cannot be made again.
var errFilled = &managed.Error{Class: managed.Permanent, Err: errors.New("a key of an earlier attempt holds what would go with it: it is left for an operator to look at")}

// remove deletes a key. One that is not found is no error, if the list does not have it either,
// shows how things are now, and the org key opens the key's organisation.
func (p *Provider) remove(ctx context.Context, org credential.Secret, organization, id string) error {
	err := p.author.Delete(ctx, org, organization, id)
	if !rest.IsGone(err) {
		return err
	}
	lag, lagErr := p.lag(ctx, org)
	if lagErr != nil || lag.Age > 0 {
		return cmp.Or(lagErr, outdated(lag.Age))
	}
	keys, listErr := p.list(ctx, org)
	switch {
	case listErr != nil:
		return listErr
	case has(keys, id):
		return errListed
	}
	return p.prove(ctx, org, credential.Resource{OrgID: organization}, "")
}

// errListed: one path leads to the key, and another one does not.
var errListed = &managed.Error{Class: managed.Transient, Err: errors.New("the key is listed, but it is not found by its id")}

// lag is how far the author's list is behind.
func (p *Provider) lag(ctx context.Context, org credential.Secret) (Lag, error) {
	lagging, ok := p.author.(Lagging)
	if !ok {
		return Lag{}, nil
	}
	lag, err := lagging.Lag(ctx, org)
	if err != nil {
		return Lag{}, fmt.Errorf("asking how old the list is: %w", err)
	}
	return lag, nil
}

// outdated: the list has to be read again, so much later.
func outdated(wait time.Duration) error {
	return &managed.Error{Class: managed.NotYet, RetryAfter: wait, Left: 1, Err: errors.New("the list may be too old to tell")}
}

func isNotYet(err error) bool {
	var classed *managed.Error
	return errors.As(err, &classed) && classed.Class == managed.NotYet
}

// Sweep implements managed.Provider.
func (p *Provider) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return rest.Classify(p.sweep(ctx, org, a))
}

func (p *Provider) sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	keys, err := p.list(ctx, org)
	if err != nil {
		return err
	}
	if !has(keys, a.Resource().KeyID) {
		return p.notListed(ctx, org, a.Resource())
	}
	err = p.opens(ctx, org, a.Resource())
	if err != nil {
		return err
	}
	err = p.removeLower(ctx, org, a, keys)
	stored := keys[index(keys, a.Resource().KeyID)]
	if err == nil {
		err = p.isComplete(ctx, org, stored.CreatedAt)
	}
	if err != nil {
		return err
	}
	a.Accounted()
	if stored.Unusable {
		return &managed.Error{Class: managed.Unusable, Err: errors.New("the third party lists the key as one that does not work")}
	}
	return nil
}

// late is how long after a key was made that may take effect which lower attempts have sent: longer
// than half a lease.
const late = 5 * time.Minute

// isComplete makes sure that a list which has the stored key, made then, has all that lower
// attempts may have left. One that shows how things are now has it, since sweeps come when the
// lease is over.
func (p *Provider) isComplete(ctx context.Context, org credential.Secret, made time.Time) error {
	lag, err := p.lag(ctx, org)
	if err != nil || lag.Age == 0 || lag.At.Sub(made) >= late {
		return err
	}
	return outdated(late - lag.At.Sub(made) + lag.Age)
}

// opens makes sure that there is something which opens the stored account, where such a thing is
// listed by itself: Gone, if there is not.
func (p *Provider) opens(ctx context.Context, org credential.Secret, r credential.Resource) error {
	keyed, ok := p.author.(Keyed)
	if !ok {
		return nil
	}
	for w := rest.NewWalk(keyed.Openers(org, r.OrgID)); !w.Ended; {
		openers, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("listing the accounts' keys: %w", err)
		}
		if slices.ContainsFunc(openers, func(o Opener) bool { return o.Account == r.KeyID && !o.Expired }) {
			return nil
		}
	}
	return &managed.Error{Class: managed.Gone, Err: errors.New("the service account is there, but it has no key that works")}
}

// notListed is the error about a stored key that the list does not have: Gone, if it is not found
// by its id either, for an org key of its organisation.
func (p *Provider) notListed(ctx context.Context, org credential.Secret, r credential.Resource) error {
	_, err := p.author.Get(ctx, org, r.OrgID, r.KeyID)
	switch {
	case err == nil:
		return &managed.Error{Class: managed.Transient, Err: errors.New("the key is found by its id, but it is not listed")}
	case !rest.IsGone(err):
		return fmt.Errorf("looking at the key: %w", err)
	}
	proof := p.prove(ctx, org, r, "")
	if proof != nil {
		return proof
	}
	lag, lagErr := p.lag(ctx, org)
	if lagErr != nil {
		return lagErr
	}
	return &managed.Error{Class: managed.Gone, Age: lag.Age, Err: fmt.Errorf("the key is neither listed nor found: %w", err)}
}

// Discard implements managed.Provider.
func (p *Provider) Discard(ctx context.Context, org credential.Secret, r credential.Resource) error {
	return rest.Classify(p.remove(ctx, org, r.OrgID, r.KeyID))
}
