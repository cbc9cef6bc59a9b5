package agentmail

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// find looks for the pod that r names by every path that there is: by its id, and in the
// organisation's list. Gone means that none leads to it, for an org key of its organisation.
func (p *Provider) find(ctx context.Context, org credential.Secret, r credential.Resource) (pod, error) {
	var found pod
	missing := p.client.Get(ctx, org, podPath(r.ID), &found)
	if missing == nil && found.PodID != r.ID {
		missing = rest.ErrAnswer
	}
	if missing == nil {
		missing = p.complete(ctx, org, &found)
	}
	if !rest.IsGone(missing) {
		return found, missing
	}
	err := p.proveOwner(ctx, org, r)
	if err == nil {
		err = p.notListed(ctx, org, r.ID)
	}
	if err != nil {
		return pod{}, err
	}
	return pod{}, &managed.Error{Class: managed.Gone, Err: missing}
}

// pagesOfPods is how far the organisation's list, newest first, is searched for a pod that is not
// found by its id.
const pagesOfPods = 10

// notListed fails if the organisation's list has the pod.
func (p *Provider) notListed(ctx context.Context, org credential.Secret, podID string) error {
	pods, err := rest.NewWalk(p.pods(org)).Pages(ctx, pagesOfPods)
	if err != nil {
		return fmt.Errorf("looking for the pod in the list: %w", err)
	}
	if slices.ContainsFunc(pods, func(pod pod) bool { return pod.PodID == podID }) {
		return &managed.Error{Class: managed.Transient, Err: errors.New("the pod is listed, but it is not found by its id")}
	}
	return nil
}

// complete adds the organisation to a pod that came without: no published type promises it.
func (p *Provider) complete(ctx context.Context, org credential.Secret, found *pod) error {
	if found.OrganizationID != "" {
		return nil
	}
	owner, err := p.organization(ctx, org)
	found.OrganizationID = owner
	return err
}

// proveOwner makes sure that the org key is one of the organisation that the pod belongs to. Any
// other, and the key of a single pod, gets "not found" for it, too.
func (p *Provider) proveOwner(ctx context.Context, org credential.Secret, r credential.Resource) error {
	owner, err := p.organization(ctx, org)
	if err != nil {
		return err
	}
	if owner != r.OrgID {
		return &managed.Error{Class: managed.Foreign, Err: errors.New("the pod belongs to another organisation than the org key")}
	}
	return nil
}

// organization is the one that the org key opens as a whole. It is asked for once per key.
func (p *Provider) organization(ctx context.Context, org credential.Secret) (string, error) {
	p.mu.Lock()
	seen, owner := p.seen, p.seenOrg
	p.mu.Unlock()
	if seen == org && owner != "" {
		return owner, nil
	}
	var me struct {
		ScopeType      string `json:"scope_type"`
		OrganizationID string `json:"organization_id"`
	}
	err := p.client.Get(ctx, org, "/v0/auth/me", &me)
	if err != nil {
		return "", rest.Classify(fmt.Errorf("asking whose the org key is: %w", err))
	}
	if me.ScopeType != "organization" || me.OrganizationID == "" {
		return "", &managed.Error{Class: managed.Rejected, Err: errors.New("the org key does not open the whole organisation: put the organisation's own key into its secret")}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.seenOrg = org, me.OrganizationID
	return me.OrganizationID, nil
}

// madeIn remembers in which organisation an org key has made something. That spares the question,
// and proves nothing gone.
func (p *Provider) madeIn(org credential.Secret, owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.maker, p.makerOrg = org, owner
}

// proveMaker makes sure that the org key is one of the organisation in which this deployment makes
// things, if there is one.
func (p *Provider) proveMaker(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	p.mu.Lock()
	known := p.maker == org && p.makerOrg == a.Organization
	p.mu.Unlock()
	if a.Organization == "" || known {
		return nil
	}
	owner, err := p.organization(ctx, org)
	if err == nil && owner != a.Organization {
		err = &managed.Error{Class: managed.Foreign, Err: managed.ErrOrganization}
	}
	return err
}

// Organization implements managed.Organized.
func (p *Provider) Organization(ctx context.Context, org credential.Secret) (string, error) {
	return p.organization(ctx, org)
}
