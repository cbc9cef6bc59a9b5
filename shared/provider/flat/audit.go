package flat

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// cursor is how far all lists were read: up to a place in one organisation's.
type cursor struct {
	Organization string `json:"organization"`
	Place        string `json:"place"`
}

// Enumerate implements managed.Provider. A holding is what one page has of a user's keys, with
// these keys: a user whose keys are on two pages has two.
func (p *Provider) Enumerate(ctx context.Context, org credential.Secret, from string) ([]managed.Holding, string, error) {
	holdings, next, err := p.enumerate(ctx, org, from)
	if err != nil {
		return nil, "", rest.Classify(fmt.Errorf("listing the keys: %w", err))
	}
	return holdings, next, nil
}

func (p *Provider) enumerate(ctx context.Context, org credential.Secret, from string) ([]managed.Holding, string, error) {
	owned, err := p.owns(ctx, org)
	if err != nil {
		return nil, "", err
	}
	at := cursor{Organization: owned[0]}
	if from != "" {
		err = json.Unmarshal([]byte(from), &at)
	}
	nth := slices.Index(owned, at.Organization)
	if err != nil || nth < 0 {
		return nil, "", rest.ErrCursor
	}
	place, err := rest.ParsePlace(at.Place)
	if err != nil {
		return nil, "", err
	}
	keys, next, err := p.author.List(org, at.Organization)(ctx, place.Token)
	if err == nil {
		place, err = place.Advance(next, len(keys))
	}
	if err != nil {
		return nil, "", err
	}
	holdings, err := holdingsOf(keys)
	at.Place = place.String()
	if at.Place == "" && nth+1 == len(owned) {
		return holdings, "", err
	}
	if at.Place == "" {
		at.Organization = owned[nth+1]
	}
	text, _ := json.Marshal(at) // texts always marshal
	return holdings, string(text), err
}

// holdingsOf are the keys of ours among these, by user and deployment.
func holdingsOf(keys []Key) ([]managed.Holding, error) {
	var all []managed.Holding
	for _, key := range keys {
		n, ok := parseName(key.Name)
		if !ok {
			continue
		}
		if key.ID == "" || key.CreatedAt.IsZero() {
			return nil, rest.ErrAnswer
		}
		same := func(h managed.Holding) bool {
			return h.Resource.ID == n.container && h.Resource.OrgID == key.Organization && h.Deployment == n.deployment
		}
		i := slices.IndexFunc(all, same)
		if i < 0 {
			i = len(all)
			all = append(all, managed.Holding{
				User:       userOf(n.container),
				Resource:   credential.Resource{ID: n.container, OrgID: key.Organization},
				Deployment: n.deployment,
			})
		}
		all[i].Keys = append(all[i].Keys, held(key, n))
	}
	return all, nil
}

func held(key Key, n named) managed.HeldKey {
	return managed.HeldKey{ID: key.ID, Attempt: n.attempt, Deployment: n.deployment, CreatedAt: key.CreatedAt}
}

// Inspect implements managed.Provider. It reads the list only where the key that r names is not
// found by its id, or r names none.
func (p *Provider) Inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]managed.HeldKey, error) {
	keys, err := p.inspect(ctx, org, user, r)
	return keys, rest.Classify(err)
}

func (p *Provider) inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]managed.HeldKey, error) {
	if r.KeyID != "" {
		key, err := p.author.Get(ctx, org, r.OrgID, r.KeyID)
		if err == nil && key.ID != r.KeyID {
			err = rest.ErrAnswer
		}
		if err == nil { // whatever its name is now
			n, _ := parseName(key.Name)
			return []managed.HeldKey{held(key, n)}, nil
		}
		if !rest.IsGone(err) {
			return nil, fmt.Errorf("looking at the key: %w", err)
		}
	}
	keys, err := p.list(ctx, org)
	if err == nil {
		err = p.prove(ctx, org, r, "")
	}
	switch {
	case err != nil:
		return nil, err
	case r.KeyID != "" && has(keys, r.KeyID):
		return nil, errListed
	}
	var found []managed.HeldKey
	for _, key := range keys {
		n, ok := parseName(key.Name)
		if !ok || n.container != Container(user) {
			continue
		}
		if key.CreatedAt.IsZero() {
			return nil, fmt.Errorf("listing the keys: %w", rest.ErrAnswer)
		}
		found = append(found, held(key, n))
	}
	if len(found) == 0 {
		lag, err := p.lag(ctx, org)
		if err != nil {
			return nil, err
		}
		return nil, &managed.Error{Class: managed.Gone, Age: lag.Age, Err: fmt.Errorf("no key has the name of %s", r.ID)}
	}
	return found, nil
}
