package managed

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// Config is what an engine works with.
type Config struct {
	Store *store.Store
	// Providers are all that the platform knows, available or not.
	Providers []Provider
	// Modes say for whom each provider's credential is made; Auto for one that is not in it.
	Modes map[string]Mode
	// Titles are what users see of a provider's credential, in place of what the provider calls it.
	Titles map[string]string
	// OptOut are the providers whose credential users may have removed.
	OptOut map[string]bool
	// Replace are the providers whose key users may have replaced, with how long the one that they
	// have then serves on beside the new one.
	Replace map[string]time.Duration
	// Faults are the providers whose settings cannot work, with what is wrong: they make nothing,
	// and what is to be revoked there waits. None of them is among Providers.
	Faults map[string]error
	// OrgKeys gives the keys with which the platform makes and revokes things at the third parties.
	OrgKeys OrgKeys
	// Seal encrypts what is stored. nil where nothing is provisioned.
	Seal Sealer
	// Users is the user pool, from which the users of deleted accounts are removed, and whose
	// disabled users are suspended; nil if there is no pool.
	Users Users
	// Members is the user pool in which audits look for the users; nil if there is no pool.
	// UnknownAfter is how far apart two looks have to be that do not find a user.
	Members      Members
	UnknownAfter time.Duration
	// DeleteUnknown has the account of a user deleted whom the pool does not know: the remedy that
	// a repair carries out. It is repeated for an account whose deletion has begun. nil where such
	// users are reported alone.
	DeleteUnknown func(ctx context.Context, user string) error
	// Lease is how long a claim holds. Outside calls are made in its first half only.
	Lease time.Duration
	// Budget is how long a list may spend on provisioning: with a second to spare within half of
	// the lease. 0 where nothing is listed.
	Budget time.Duration
	// Holdback is how long after a deletion what cannot be made again is kept, at most MaxHoldback;
	// 0 for not at all.
	Holdback time.Duration
	// GoneFloor and GoneShare bound what an audit believes: it stops where more slots than
	// GoneFloor, and more than the share GoneShare (0 to 1) of all that it looked at, name what
	// seems to be gone, or belong to users who would be deleted.
	GoneFloor int
	GoneShare float64
	// AuditEvery is how long after one audit has begun the next one is due; 0 for none but those
	// that are asked for.
	AuditEvery time.Duration
	// AuditSegments is into how many segments an audit takes the table apart, each of which it looks
	// at beside the others, eight slots at once; 0 means one.
	AuditSegments int
	// MaxKeyAge is how old a key may become before another one is made, some hours at least; 0 for
	// as old as it likes.
	MaxKeyAge time.Duration
	// MostAskedDue is how many slots of a provider may be due, of users who live, for a walk over
	// all of them to ask for more work; 0 means 1,500, what reconcile does in about three minutes.
	MostAskedDue int
	// Suspends: users may be suspended, because no version is at work that would take that for a
	// deletion.
	Suspends bool
	// SuspendedKeysLive is how long after their suspension a user's keys are revoked; 0 for never.
	// What else is in their resources stays.
	SuspendedKeysLive time.Duration
	// Now is the clock; nil means clock.Now.
	Now func() time.Time
	// Wait waits for a third party's pace, or until it may be asked again, by the clock Now. An
	// error means that it did not. nil means a timer.
	Wait func(ctx context.Context, d time.Duration) error
	// Log and Metrics are how the engine is seen.
	Log     *slog.Logger
	Metrics *telemetry.Metrics
}

// OrgKeys gives the organisation's keys.
type OrgKeys interface {
	// Key returns the provider's org key, or orgkey.ErrNone if it has none: then it is not
	// available.
	Key(ctx context.Context, provider string) (credential.Secret, error)
	// Refresh returns the key that took the place of a rejected one, fetched anew; the same one if
	// none did.
	Refresh(ctx context.Context, provider string, rejected credential.Secret) (credential.Secret, error)
}

// Fielded is a Provider whose org key is more than one text. The org key that its methods get is a
// JSON object of these fields, each with a text that is not empty.
type Fielded interface {
	OrgKeyFields() []string
}

// Sealer encrypts a credential's material for one user's item.
type Sealer interface {
	Seal(ctx context.Context, user, provider, id string, m credential.Material) ([]byte, error)
}

// Users is the user pool.
type Users interface {
	// Remove removes the user with this name and sub. One who has gone already is no error.
	Remove(ctx context.Context, username, sub string) error
	// Enabled reports whether there is a user with this sub now, and whether they are enabled.
	Enabled(ctx context.Context, sub string) (enabled, exists bool, err error)
}

// Engine provisions and revokes. It is safe for concurrent use.
type Engine struct {
	cfg    Config
	byName map[string]Provider
	health map[string]*health
	expiry expiryLooks
	// deployments is what this process knows of its own deployment.
	deployments deployments
	// sealer stands before KMS. It opens at one failure: that belongs to no slot, and each costs
	// the third party a key.
	sealer circuit
}

// New checks the configuration and returns an engine.
func New(c Config) (*Engine, error) {
	if c.Now == nil {
		c.Now = clock.Now
	}
	if c.Budget+time.Second > c.Lease/2 {
		return nil, fmt.Errorf("the budget of a list (%v), with 1s added, has to be at most half of the lease (%v)", c.Budget, c.Lease)
	}
	if c.Wait == nil {
		c.Wait = sleep
	}
	e := &Engine{cfg: c, byName: map[string]Provider{}, health: map[string]*health{}, sealer: circuit{most: 1}}
	for _, p := range c.Providers {
		if !credential.ValidProvider(p.Name()) || e.byName[p.Name()] != nil {
			return nil, fmt.Errorf("the provider name %q is malformed or given twice", p.Name())
		}
		e.byName[p.Name()] = p
		e.health[p.Name()] = newHealth(p)
	}
	return e, nil
}
