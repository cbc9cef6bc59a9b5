package managed

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// ErrOrganization, in a provider's error, says that the org key is not of the organisation in which
// this deployment makes things. Only an operator's word, or another key, ends it.
var ErrOrganization = errors.New("the org key belongs to another organisation than the one that this deployment uses: " +
	"put back a key of that one, or accept the other")

// Organized is a Provider that can tell whose an org key is.
type Organized interface {
	// Organization is the organisation that the org key opens. It changes nothing.
	Organization(ctx context.Context, org credential.Secret) (string, error)
}

// deployments is what this process knows of its own deployment, by provider.
type deployments struct {
	mu    sync.Mutex
	known map[string]store.Deployment
}

// deploymentIDLength is how many of the 26 capitals and 6 digits of base32 an id has: 40 bits.
const deploymentIDLength = 8

// deployment is this deployment's id, made at first use, and where it makes things at the provider.
// What does not change any more is read once in a process.
func (e *Engine) deployment(ctx context.Context, provider string) (store.Deployment, error) {
	e.deployments.mu.Lock()
	d, ok := e.deployments.known[provider]
	e.deployments.mu.Unlock()
	if ok {
		return d, nil
	}
	d, err := e.cfg.Store.Deployment(ctx, provider)
	if err == nil && d.ID == "" {
		d.ID = strings.ToLower(rand.Text()[:deploymentIDLength])
		err = e.cfg.Store.NameDeployment(ctx, d.ID)
		if errors.Is(err, store.ErrStale) { // another process was faster
			d, err = e.cfg.Store.Deployment(ctx, provider)
		}
	}
	if err != nil {
		return store.Deployment{}, err
	}
	if d.Organization != "" {
		e.deployments.know(provider, d)
	}
	return d, nil
}

func (d *deployments) know(provider string, known store.Deployment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[string]store.Deployment{}
	}
	d.known[provider] = known
}

func (d *deployments) forget(provider string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, provider)
}

// under makes an outside call under the claim: for this deployment, and in its organisation.
func (c *claim) under(ctx context.Context, do func(ctx context.Context, org credential.Secret) error) error {
	provider := c.slot.Provider
	d, err := c.e.deployment(ctx, provider)
	if err != nil {
		return err
	}
	c.attempt.Deployment, c.attempt.Organization = d.ID, d.Organization
	err = c.e.call(ctx, c.provider, c.slot.User, do)
	if errors.Is(err, ErrOrganization) {
		c.e.deployments.forget(provider) // an operator may have accepted the other one
		c.e.cfg.Metrics.Count(telemetry.OrgKeyRejected, provider, 1)
		c.log.ErrorContext(ctx, "the org key is of another organisation: nothing is made there until an operator accepts it",
			"organization", d.Organization, "error", err)
	}
	return err
}

// pin notes the organisation in which something was made, if it is the first.
func (c *claim) pin(ctx context.Context, org string) {
	if c.attempt.Organization != "" || org == "" {
		return
	}
	wctx, cancel := writing(ctx)
	defer cancel()
	err := c.e.cfg.Store.PinOrganization(wctx, c.slot.Provider, org)
	if err == nil {
		c.e.deployments.know(c.slot.Provider, store.Deployment{ID: c.attempt.Deployment, Organization: org})
	} else if !errors.Is(err, store.ErrStale) { // the next one that is made notes it
		c.log.WarnContext(ctx, "the organisation could not be noted yet", "error", err)
	}
}

// ErrNotTheKeys: the organisation is not that of the org key, or nothing was made in any yet.
var ErrNotTheKeys error = &credential.ConflictError{
	Detail: "The org key is not of that organisation, or nothing has been made in another one yet",
}

// AcceptOrganization has things made in another organisation from now on: the one that the org key
// is of, as the operator has seen and says. It is on record in the audit log before. What was
// made in the one before needs a key of that one to be revoked.
//
// It returns credential.ErrNoProvider or ErrNotTheKeys. Safe to repeat.
func (e *Engine) AcceptOrganization(ctx context.Context, provider, organization string, o Order) error {
	p := e.byName[provider]
	if p == nil {
		return credential.ErrNoProvider
	}
	s, err := e.whereItMakes(ctx, p)
	if err != nil {
		return err
	}
	if s.Organization == "" || s.KeyOrganization != organization {
		return ErrNotTheKeys
	}
	err = telemetry.Audit(ctx, e.cfg.Log, "organization accepted", "by", o.By, "reason", o.Reason, "provider", provider,
		"was", s.Organization, "organization", organization)
	if err != nil {
		return err
	}
	err = e.cfg.Store.RepinOrganization(ctx, provider, s.Organization, organization)
	e.deployments.forget(provider)
	return err
}
