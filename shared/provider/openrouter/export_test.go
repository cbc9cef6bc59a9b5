package openrouter

import (
	"time"

	"managed-credentials/shared/provider/flat"
)

// Hurry makes the provider's own pauses before repeats short. A Retry-After counts as before.
func Hurry(p *Provider) { p.api.client.Pause = time.Millisecond }

// Author is the provider's.
func Author(p *Provider) flat.Author { return p.api }
