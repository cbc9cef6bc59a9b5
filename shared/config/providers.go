package config

import (
	"encoding/json"

	"managed-credentials/shared/credential"
)

// ManagedProviders is what MANAGED_PROVIDERS says.
type ManagedProviders struct {
	// Named is what it has for each provider that it names, and Twice are the names that it has
	// more than once.
	Named map[string]json.RawMessage
	Twice map[string]bool
	// Err is why nothing of it can be read.
	Err error
}

// agentMailAlone is what MANAGED_PROVIDERS is if it is empty.
const agentMailAlone = `{"agent_mail":{"mode":"auto"}}`

// ManagedProviders reads MANAGED_PROVIDERS: a JSON object of providers, each with its mode and its
// other settings.
func (e *Env) ManagedProviders() ManagedProviders {
	text := e.lookup("MANAGED_PROVIDERS")
	if text == "" {
		text = agentMailAlone
	}
	all := ManagedProviders{Named: map[string]json.RawMessage{}, Twice: map[string]bool{}}
	all.Err = credential.Members([]byte(text), func(name string, value json.RawMessage) {
		_, all.Twice[name] = all.Named[name]
		all.Named[name] = value
	})
	return all
}

// Off reports whether the provider is off, so that what users have there is not handed out: that is
// its mode, or it is not named. Of a setting that cannot be read this is not known, and then nobody
// loses the key that they have.
func (m ManagedProviders) Off(provider string) bool {
	if m.Err != nil {
		return false
	}
	var general struct {
		Mode string `json:"mode"`
	}
	value, named := m.Named[provider]
	return !named || json.Unmarshal(value, &general) == nil && general.Mode == "off"
}
