package managed

import "managed-credentials/shared/credential"

// Mode says for whom a provider's credential is made. That is the owner's choice, not the
// provider's. Deletions revoke in every mode.
type Mode string

// The modes.
const (
	// Auto: a list makes it for whoever has none.
	Auto Mode = "auto"
	// Frozen: those who have it keep it, also if it has to be made anew. Nobody else gets it.
	Frozen Mode = "frozen"
	// Off: lists do not show it, and make nothing.
	Off Mode = "off"
)

// mode is the provider's; Auto unless the configuration says otherwise.
func (e *Engine) mode(provider string) Mode {
	mode, ok := e.cfg.Modes[provider]
	if !ok {
		return Auto
	}
	return mode
}

// Titled returns a credential with the title that the owner gives those of its provider, if it is a
// managed one. What is stored is the provider's own title.
func (e *Engine) Titled(m credential.Metadata) credential.Metadata {
	title, ok := e.cfg.Titles[m.Provider]
	if ok && m.Managed {
		m.Title = &title
	}
	return m
}

// offers reports whether a list is to make the provider's credential, or to see that it is there,
// for a user who has a slot there, or none.
func (e *Engine) offers(provider string, has bool) bool {
	switch e.mode(provider) {
	case Auto:
		return true
	case Frozen:
		return has
	default:
		return false
	}
}
