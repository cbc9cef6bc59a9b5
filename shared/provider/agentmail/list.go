package agentmail

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/rest"
)

// pages are those of a list of AgentMail's, which names its items member.
func pages[T any](c *rest.Client, org credential.Secret, path, member string) rest.Page[T] {
	return func(ctx context.Context, token string) (items []T, next string, err error) {
		query := url.Values{"limit": {"100"}}
		if token != "" {
			query.Set("page_token", token)
		}
		var answer map[string]json.RawMessage
		err = c.Get(ctx, org, path+"?"+query.Encode(), &answer)
		if err != nil {
			return nil, "", err
		}
		err = json.Unmarshal(answer[member], &items)
		if err == nil && answer["next_page_token"] != nil {
			err = json.Unmarshal(answer["next_page_token"], &next)
		}
		if err != nil { // also if there is no list: that is not an empty one
			return nil, "", fmt.Errorf("GET %s: %w", path, rest.ErrAnswer)
		}
		return items, next, nil
	}
}
