package ayrshare

import "time"

// Hurry makes the provider's own pauses before repeats short. A Retry-After counts as before.
func Hurry(p *Provider) { p.api.client.Pause = time.Millisecond }
