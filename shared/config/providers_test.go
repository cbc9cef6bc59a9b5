package config_test

import (
	"testing"

	"managed-credentials/shared/config"
)

func TestWhichProvidersAreOff(t *testing.T) {
	t.Parallel()
	for setting, off := range map[string]map[string]bool{
		"": {"agent_mail": false, "open_router": true},
		`{"agent_mail":{"mode":"off"},"open_router":{"mode":"frozen","limit":1}}`: {"agent_mail": true, "open_router": false, "openai": true},
		`{}`: {"agent_mail": true},
		// What is mistyped costs nobody the key that they have.
		`{"agent_mail":{"mode":"of"},"open_router":7}`: {"agent_mail": false, "open_router": false, "openai": true},
		`{"agent_mail"`: {"agent_mail": false, "openai": false},
	} {
		providers := config.From(func(string) string { return setting }).ManagedProviders()
		for name, want := range off {
			if providers.Off(name) != want {
				t.Errorf("%s: %s is off: %t", setting, name, !want)
			}
		}
	}
}
