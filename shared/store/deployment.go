package store

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Deployment is what sets a table apart from others whose services work in the same organisations.
type Deployment struct {
	// ID is the deployment's, for ever; "" before something was made.
	ID string
	// Organization is the one in which this deployment makes things at the provider; "" before
	// something was made there.
	Organization string
}

const deploymentPK = "DEPLOYMENT"

var deploymentKey = Key{deploymentPK, "ID"}

func organizationKey(provider string) Key { return Key{deploymentPK, "ORG#" + provider} }

// Deployment reads what is known of the deployment at a provider, consistently.
func (s *Store) Deployment(ctx context.Context, provider string) (Deployment, error) {
	items, err := s.read(ctx, "#pk, #sk, #owner, #org_id", deploymentKey, organizationKey(provider))
	if err != nil {
		return Deployment{}, fmt.Errorf("reading the deployment's id: %w", err)
	}
	id := reader{item: items[deploymentKey]}
	org := reader{item: items[organizationKey(provider)]}
	d := Deployment{ID: id.textOrEmpty(attrOwner), Organization: org.textOrEmpty(attrOrgID)}
	if id.bad || org.bad {
		return Deployment{}, fmt.Errorf("reading the deployment's id: %w", ErrUndecodable)
	}
	return d, nil
}

// NameDeployment gives the deployment its id. It returns ErrStale if it has one.
func (s *Store) NameDeployment(ctx context.Context, id string) error {
	return s.setOnce(ctx, deploymentKey, attrOwner, id)
}

// PinOrganization notes in which organisation the deployment makes things at the provider. It
// returns ErrStale if one is noted.
func (s *Store) PinOrganization(ctx context.Context, provider, org string) error {
	return s.setOnce(ctx, organizationKey(provider), attrOrgID, org)
}

func (s *Store) setOnce(ctx context.Context, key Key, attribute, value string) error {
	err := s.update(ctx, key, "SET #"+attribute+" = :value", "attribute_not_exists(#pk)", args{":value": &types.AttributeValueMemberS{Value: value}})
	return outcome(err, ErrStale, "noting the deployment")
}

// RepinOrganization notes another organisation in place of the one that was noted. It returns
// ErrStale if that is not was. Safe to repeat.
func (s *Store) RepinOrganization(ctx context.Context, provider, was, org string) error {
	values := args{}
	condition := "#org_id = " + values.str("was", was)
	err := s.update(ctx, organizationKey(provider), "SET #org_id = "+values.str("org", org), condition, values)
	return outcome(err, ErrStale, "noting another organisation")
}
