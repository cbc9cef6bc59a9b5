package agentmail

import (
	"context"
	"fmt"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

// Enumerate implements managed.Provider with the organisation's list of pods. Pods without our prefix are somebody else's, and so is the
// organisation's default pod.
func (p *Provider) Enumerate(ctx context.Context, org credential.Secret, cursor string) ([]managed.Holding, string, error) {
	pods, next, err := page[pod](ctx, p.client, org, "/v0/pods", "pods", cursor)
	if err != nil {
		return nil, "", classify(fmt.Errorf("listing the pods: %w", err))
	}
	var holdings []managed.Holding
	for _, pod := range pods {
		if pod.ClientID == "" || !strings.HasPrefix(pod.ClientID, p.prefix) || pod.PodID == pod.OrganizationID {
			continue
		}
		if pod.PodID == "" || pod.OrganizationID == "" {
			return nil, "", classify(fmt.Errorf("listing the pods: %w", errAnswer))
		}
		holdings = append(holdings, managed.Holding{
			User:     p.userOf(pod),
			Resource: credential.Resource{ID: pod.PodID, OrgID: pod.OrganizationID},
		})
	}
	return holdings, next, nil
}

// userOf is the user whose pod it is: the one of whom we would make the pod's client_id. A hash cannot be turned back, but the name that
// we give a pod has the user id, too.
func (p *Provider) userOf(pod pod) string {
	named := strings.TrimSuffix(pod.Name, podName(""))
	for _, user := range []string{strings.TrimPrefix(pod.ClientID, p.prefix), named} {
		if credential.ValidUserID(user) && p.clientID(user) == pod.ClientID {
			return user
		}
	}
	return ""
}

// Inspect implements managed.Provider.
func (p *Provider) Inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]managed.HeldKey, error) {
	listed, err := p.keys(ctx, org, r)
	if err != nil {
		return nil, classify(err)
	}
	var keys []managed.HeldKey
	for _, key := range listed {
		attempt, ours := attemptOf(key.Name, user)
		if !ours {
			continue
		}
		createdAt, err := time.Parse(time.RFC3339, key.CreatedAt)
		if err != nil || key.ID == "" {
			return nil, classify(fmt.Errorf("listing the pod's keys: %w", errAnswer))
		}
		keys = append(keys, managed.HeldKey{ID: key.ID, Attempt: attempt, CreatedAt: createdAt})
	}
	return keys, nil
}
