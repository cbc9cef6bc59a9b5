package managed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/telemetry"
)

// ErrSettings, in a provider's error, says that the third party refuses what this service is
// configured to ask for. It is no user's trouble, and only a change of the settings ends it.
var ErrSettings = errors.New("the third party refuses what is configured")

// Expiring is a Provider whose org keys may expire, and with them, at some third parties, every key
// that they made.
type Expiring interface {
	// OrgKeyExpires is when the third party lets the org key expire; zero if it does not.
	OrgKeyExpires(ctx context.Context, org credential.Secret) (time.Time, error)
}

const (
	// expiryNotice is how long ahead an operator is told that an org key expires.
	expiryNotice = 30 * 24 * time.Hour
	// expiryLook is how often a process looks.
	expiryLook = time.Hour
	// expiryPatience is how long a look may take.
	expiryPatience = 10 * time.Second
)

// noteSettings counts a failure that only a change of the settings ends.
func (e *Engine) noteSettings(ctx context.Context, provider string, err error) {
	if errors.Is(err, ErrSettings) {
		e.cfg.Metrics.Count(telemetry.SettingsRefused, provider, 1)
		e.cfg.Log.ErrorContext(ctx, "the third party refuses what is configured: change the setting, and it goes on by itself",
			"provider", provider, "error", err)
	}
}

// expiryLooks is when this process looks at the org keys again.
type expiryLooks struct {
	mu   sync.Mutex
	next time.Time
}

// due reports whether it is time to look, and if so, puts it off until the next time.
func (l *expiryLooks) due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		return false
	}
	l.next = now.Add(expiryLook)
	return true
}

// WatchOrgKeys counts the org keys that expire soon, and the providers whose settings cannot work,
// once an hour. It takes at most 10 s. Safe to repeat.
func (e *Engine) WatchOrgKeys(ctx context.Context) {
	now := e.cfg.Now()
	if !e.expiry.due(now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, expiryPatience)
	defer cancel()
	for provider, err := range e.cfg.Faults {
		e.noteSettings(ctx, provider, fmt.Errorf("%w: %w", ErrSettings, err))
	}
	for _, p := range e.cfg.Providers {
		expiring, ok := p.(Expiring)
		if !ok {
			continue
		}
		org, err := e.cfg.OrgKeys.Key(ctx, p.Name())
		if err != nil {
			continue // others count that
		}
		expires, err := expiring.OrgKeyExpires(ctx, org)
		if err != nil {
			e.cfg.Log.WarnContext(ctx, "whether the org key expires could not be found out", "provider", p.Name(), "error", err)
		} else if !expires.IsZero() && expires.Sub(now) < expiryNotice {
			e.cfg.Metrics.Count(telemetry.OrgKeyExpiring, p.Name(), 1)
			e.cfg.Log.ErrorContext(ctx, "the org key expires: make one that does not, and put it into its secret",
				"provider", p.Name(), "expires_at", expires)
		}
	}
}
