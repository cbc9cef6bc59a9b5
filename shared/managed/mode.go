package managed

import (
	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// Mode says for whom a provider's credential is made. That is the owner's choice, not the
// provider's. Deletions revoke in every mode.
type Mode string

// The modes.
const (
	// Auto: a list makes it for whoever has none.
	Auto Mode = "auto"
	// OnDemand: it is made for whoever asks for it.
	OnDemand Mode = "on_demand"
	// Frozen: those who have it keep it, also if it has to be made anew. Nobody else gets it.
	Frozen Mode = "frozen"
	// Draining: as Frozen, and an operator may have removed what all users have there (Drain).
	Draining Mode = "draining"
	// Off: what users have there is neither shown nor handed out, and nothing is made.
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

// Gives reports whether what users have at the provider is shown to them and handed out: it is one
// that there is, and it is not off. One whose settings cannot work makes nothing, and what is there
// serves on.
func (e *Engine) Gives(provider string) bool {
	known := e.byName[provider] != nil || e.cfg.Faults[provider] != nil
	return known && e.mode(provider) != Off
}

// offers reports whether users who have no credential there may have one made.
func (e *Engine) offers(provider string) bool {
	mode := e.mode(provider)
	return mode == Auto || mode == OnDemand
}

// keeps reports whether a list is to make the provider's credential, or to see that it is there,
// for the user whose slot this is.
func (e *Engine) keeps(provider string, slot store.Slot) bool {
	has := slot.State != store.Absent && slot.State != store.Off
	switch e.mode(provider) {
	case Auto:
		return has || slot.RetractedBy != store.ByUser
	case OnDemand, Frozen:
		return has || slot.Disarmed()
	case Draining:
		return has
	default:
		return false
	}
}
