package managedtest

import (
	"testing"

	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
)

// AgentMail is AgentMail as a provider of any name. Under a name other than Provider it goes for a
// third party of its own: its pods' client_ids begin with that name and a dot.
func AgentMail(t testing.TB, url, name string) managed.Provider {
	t.Helper()
	return PacedAgentMail(t, url, name, 0)
}

// PacedAgentMail is AgentMail with a rate that is set, in calls a second.
func PacedAgentMail(t testing.TB, url, name string, rate float64) managed.Provider {
	t.Helper()
	p, err := agentmail.New(agentmail.Config{BaseURL: url, ClientIDPrefix: clientIDPrefix(name), Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	return named{p, name, rate}
}

// adopter is a provider with whose third party another service has made something, too.
type adopter struct{ named }

// Adopts implements managed.Adopter.
func (adopter) Adopts() bool { return true }

// named is a provider under another name.
type named struct {
	*agentmail.Provider
	name string
	rate float64
}

func (n named) Name() string { return n.name }

// Rate implements managed.Paced.
func (n named) Rate() float64 { return n.rate }
