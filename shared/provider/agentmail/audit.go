package agentmail

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// Enumerate implements managed.Provider with the organisation's list of pods. Pods without our
// prefix are somebody else's, and so is the organisation's default pod.
func (p *Provider) Enumerate(ctx context.Context, org credential.Secret, cursor string) ([]managed.Holding, string, error) {
	holdings, next, err := p.enumerate(ctx, org, cursor)
	if err != nil {
		return nil, "", rest.Classify(fmt.Errorf("listing the pods: %w", err))
	}
	return holdings, next, nil
}

func (p *Provider) enumerate(ctx context.Context, org credential.Secret, cursor string) ([]managed.Holding, string, error) {
	at, err := rest.ParsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	pods, next, err := p.pods(org)(ctx, at.Token)
	if err != nil {
		return nil, "", err
	}
	at, err = at.Advance(next, len(pods))
	if err != nil {
		return nil, "", err
	}
	var holdings []managed.Holding
	for _, pod := range pods {
		if pod.ClientID == "" || !strings.HasPrefix(pod.ClientID, p.prefix) {
			continue
		}
		if pod.PodID == "" {
			return nil, "", rest.ErrAnswer
		}
		err = p.complete(ctx, org, &pod)
		if err != nil {
			return nil, "", err
		}
		if pod.PodID == pod.OrganizationID {
			continue
		}
		holdings = append(holdings, managed.Holding{
			User:     p.userOf(pod),
			Resource: credential.Resource{ID: pod.PodID, OrgID: pod.OrganizationID},
		})
		last := &holdings[len(holdings)-1]
		last.Deployment = markOf(pod.Name, last.User)
	}
	return holdings, at.String(), nil
}

// userOf is the user whose pod it is: the one of whom we would make the pod's client_id. A hash
// cannot be turned back, but the name that we give a pod has the user id, too.
func (p *Provider) userOf(pod pod) string {
	named := podNameTail.ReplaceAllString(pod.Name, "")
	for _, user := range []string{strings.TrimPrefix(pod.ClientID, p.prefix), named} {
		if credential.ValidUserID(user) && p.clientID(user) == pod.ClientID {
			return user
		}
	}
	return ""
}

// podNameTail is what follows the user in the name of a pod.
var podNameTail = regexp.MustCompile(`-pod(\.[a-z2-7]{8})?$`)

// Inspect implements managed.Provider.
func (p *Provider) Inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]managed.HeldKey, error) {
	listed, err := p.keys(ctx, org, r)
	if err != nil {
		return nil, rest.Classify(err)
	}
	var keys []managed.HeldKey
	for _, key := range listed {
		deployment, attempt, ok := parseKeyName(key.Name, user)
		if !ok {
			continue
		}
		createdAt, err := time.Parse(time.RFC3339, key.CreatedAt)
		if err != nil || key.ID == "" {
			return nil, rest.Classify(fmt.Errorf("listing the pod's keys: %w", rest.ErrAnswer))
		}
		keys = append(keys, managed.HeldKey{
			ID: key.ID, Attempt: attempt, Deployment: deployment, CreatedAt: createdAt, PermissionsDiffer: p.outdated(key),
		})
	}
	return keys, nil
}
