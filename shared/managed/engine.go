package managed

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/jitter"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// Config is what an engine works with.
type Config struct {
	Store *store.Store
	// Providers are all that the platform knows, available or not.
	Providers []Provider
	// OrgKeys gives the keys with which the platform makes and revokes things at the third parties.
	OrgKeys OrgKeys
	// Seal encrypts what is stored. nil where nothing is provisioned.
	Seal Sealer
	// Users removes the user of a deleted account from the user pool; nil if there is no pool.
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

// Sealer encrypts a credential's material for one user's item.
type Sealer interface {
	Seal(ctx context.Context, user, provider, id string, m credential.Material) ([]byte, error)
}

// Users is the user pool.
type Users interface {
	// Remove removes the user with this name and sub. One who has gone already is no error.
	Remove(ctx context.Context, username, sub string) error
}

// Engine provisions and revokes. It is safe for concurrent use.
type Engine struct {
	Config
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
		return nil, fmt.Errorf("PROVISION_BUDGET (%v) with 1s added has to be at most half of LEASE (%v)", c.Budget, c.Lease)
	}
	if c.Wait == nil {
		c.Wait = sleep
	}
	e := &Engine{Config: c, byName: map[string]Provider{}, health: map[string]*health{}, sealer: circuit{most: 1}}
	for _, p := range c.Providers {
		if !credential.ValidProvider(p.Name()) || e.byName[p.Name()] != nil {
			return nil, fmt.Errorf("the provider name %q is malformed or given twice", p.Name())
		}
		e.byName[p.Name()] = p
		e.health[p.Name()] = newHealth(p)
	}
	return e, nil
}

// writeTime is how long a write to the table may take that ends a claim, after the time for outside
// calls is over.
const writeTime = 3 * time.Second

// writing is a context for the write that ends a claim: not bound to the time for outside calls.
func writing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTime)
}

// attempt describes a claim to a provider. was is the slot before it was claimed, and claimedAt a
// time before the claim was sent.
func (e *Engine) attempt(slot, was store.Slot, claimedAt time.Time) *Attempt {
	return NewAttempt(slot.User, slot.Attempt, slot.Resource, !was.Settled(), e.Now, claimedAt.Add(e.Lease/2))
}

// longestWork bounds the outside calls under one claim, however long the lease: an invocation has
// to have time for them.
const longestWork = 25 * time.Second

// workTime is how long the outside calls under one claim may take.
func (e *Engine) workTime() time.Duration { return min(e.Lease/2, longestWork) }

// outside is a context for outside calls under an attempt: it ends with the lease's first half, or
// earlier with ctx.
func (e *Engine) outside(ctx context.Context, a *Attempt) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, min(a.cutoff.Sub(e.Now()), longestWork))
	return clocked{ctx, a}, cancel
}

// clocked is a context whose Err goes by the attempt's clock, too: in a process that was frozen, a
// timer alone lets through what somebody else has claimed meanwhile.
type clocked struct {
	context.Context
	attempt *Attempt
}

// Err implements context.Context.
func (c clocked) Err() error {
	if c.attempt.over() {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

// How long to wait before the next try, by the number of tries that failed.
const (
	backoffBase     = 2 * time.Second
	backoffCap      = 15 * time.Minute
	slowRetry       = time.Hour
	parkedRetry     = 6 * time.Hour
	notYetRetry     = 10 * time.Second
	triesUntilPark  = 12
	longestWaitSaid = 15 * time.Minute // of a Retry-After
)

// backoff is an exponential pause with jitter, for the n-th failure, n ≥ 1.
func backoff(n int) time.Duration {
	d := backoffBase
	for i := 1; i < n && d < backoffCap; i++ {
		d *= 2
	}
	return jittered(min(d, backoffCap))
}

// jittered is d less up to a half.
func jittered(d time.Duration) time.Duration { return d/2 + jitter.Below(d/2) }

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAt is when to try again after the n-th failure.
func (e *Engine) retryAt(n int, err *Error) time.Time {
	pause := backoff(n)
	switch err.Class {
	case NotYet:
		pause = notYetRetry
	case Permanent, Mismatch:
		pause = jittered(slowRetry)
	case Transient, Rejected, Quota, Gone, Foreign, RateLimited:
	}
	return e.Now().Add(max(pause, min(err.RetryAfter, longestWaitSaid)))
}
