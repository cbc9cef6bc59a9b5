package fake

import (
	"regexp"
	"time"

	"managed-credentials/shared/local/thirdparty"
)

// Local is an OpenRouter for this machine.
func Local(now func() time.Time) thirdparty.Fake {
	s := New(Config{Now: now})
	return thirdparty.Fake{
		Title: "OpenRouter", Handler: s, OrgKey: ManagementKey,
		Settings: func(url string) map[string]any {
			return map[string]any{"base_url": url, "limit": 5, "limit_reset": "monthly", "workspace": Workspace}
		},
		Secrets: regexp.MustCompile(`sk-or-v1-[0-9a-f]{64}`),
		Keys: func() []thirdparty.Key {
			var keys []thirdparty.Key
			for _, k := range s.Keys() {
				keys = append(keys, thirdparty.Key{ID: k.Hash, Holder: k.Name})
			}
			return keys
		},
		Identify: s.Identify,
		Drop:     s.Drop,
		AcceptOrgKey: func(key string, another bool) {
			if another {
				s.AcceptManagementKey(key, "org_another", "22222222-9d2f-4f53-9a0f-7e6c1a2b3c4d")
				return
			}
			s.AcceptManagementKey(key, Account)
		},
		RejectOrgKey: s.RejectManagementKey,
	}
}
