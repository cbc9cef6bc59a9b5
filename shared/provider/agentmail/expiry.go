package agentmail

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

var _ managed.Expiring = (*Provider)(nil)

// OrgKeyExpires implements managed.Expiring: GET /v0/auth/me names the key, and the key says it.
func (p *Provider) OrgKeyExpires(ctx context.Context, org credential.Secret) (time.Time, error) {
	var me struct {
		APIKeyID  string `json:"api_key_id"`
		ExpiresAt string `json:"expires_at"`
	}
	err := p.client.Get(ctx, org, "/v0/auth/me", &me)
	if err == nil && me.ExpiresAt == "" && me.APIKeyID != "" {
		err = p.client.Get(ctx, org, "/v0/api-keys/"+url.PathEscape(me.APIKeyID), &me)
	}
	if err != nil && !rest.IsGone(err) { // a key that the API does not show
		return time.Time{}, rest.Classify(fmt.Errorf("asking when the org key expires: %w", err))
	}
	return parseTime(me.ExpiresAt), nil
}

// parseTime is a time of AgentMail's; zero if it is none.
func parseTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}
