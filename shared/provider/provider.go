// Package provider is the one list of the third parties at which managed credentials are made. To
// add one, write its package beside agentmail and name it here.
package provider

import (
	"managed-credentials/shared/config"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
)

// All returns every provider that the platform knows, configured from the environment. Whether one
// is available is decided later: by whether the org keys secret holds a key for it.
func All(env *config.Env) ([]managed.Provider, error) {
	agentMail, err := agentmail.New(agentmail.Config{
		BaseURL:        env.Optional("AGENTMAIL_BASE_URL"),
		ClientIDPrefix: env.Optional("AGENTMAIL_CLIENT_ID_PREFIX"),
		Permissions:    env.Optional("AGENTMAIL_PERMISSIONS"),
		Rate:           env.AgentMailRate(),
		Adopts:         env.AgentMailAdopts(),
	})
	if err != nil {
		return nil, err
	}
	return []managed.Provider{agentMail}, nil
}
