package fake

import (
	"regexp"
	"time"

	"managed-credentials/shared/local/thirdparty"
)

// Local is an OpenAI for this machine.
func Local(now func() time.Time) thirdparty.Fake {
	s := New(Config{Now: now})
	return thirdparty.Fake{
		Title: "OpenAI", Handler: s, OrgKey: AdminKey,
		Settings: func(url string) map[string]any { return map[string]any{"base_url": url, "project": Project} },
		Secrets:  regexp.MustCompile(`sk-svcacct-[0-9a-z]{48}`),
		Keys: func() []thirdparty.Key {
			var keys []thirdparty.Key
			for _, a := range s.Accounts() {
				keys = append(keys, thirdparty.Key{ID: a.ID, Holder: a.Name})
			}
			return keys
		},
		Identify: s.Identify,
		Drop:     s.Drop,
		AcceptOrgKey: func(key string, another bool) {
			if another {
				s.AcceptAdminKey(key, "org-another", "proj_another")
				return
			}
			s.AcceptAdminKey(key, Organization)
		},
		RejectOrgKey: s.RejectAdminKey,
	}
}
