package fake

import (
	"regexp"
	"time"

	"managed-credentials/shared/local/thirdparty"
)

// Local is an Ayrshare for this machine. Its profiles are what costs there, so users ask for
// theirs.
func Local(now func() time.Time) thirdparty.Fake {
	s := New(Config{Now: now})
	return thirdparty.Fake{
		Title: "Ayrshare", Handler: s, OrgKey: APIKey, Mode: "on_demand",
		Settings: func(url string) map[string]any { return map[string]any{"base_url": url, "rate": 1000} },
		Secrets:  regexp.MustCompile(`[0-9A-Z]{7}(-[0-9A-Z]{7}){3}`),
		Keys: func() []thirdparty.Key {
			var keys []thirdparty.Key
			for _, p := range s.Profiles() {
				keys = append(keys, thirdparty.Key{ID: p.Title, Holder: p.Title})
			}
			return keys
		},
		Identify: s.Identify,
		Drop:     s.Drop,
		AcceptOrgKey: func(key string, another bool) {
			account := Account
			if another {
				account = "another account's primary profile"
			}
			s.AcceptAPIKey(key, account)
		},
		RejectOrgKey: s.RejectAPIKey,
	}
}
