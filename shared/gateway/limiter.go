package gateway

import (
	"sync"
	"time"
)

// How much one user may ask of one process: far more than a page does, or a script of many requests
// at once. A refusal only costs less than an answer would. What one user may ask of the service as
// a whole is limited before it, by API Gateway and, where that is wanted, by a rate rule in front
// of it.
const (
	userRate  = 50   // requests per second
	userBurst = 1000 // requests at one moment
)

// usersKnown bounds the limiter's memory. A process that meets more users forgets them all, which
// is in their favour.
const usersKnown = 10_000

// limiter is a token bucket for each user. It is safe for concurrent use.
type limiter struct {
	mu sync.Mutex
	// fullAt is when a user's bucket will be full again.
	fullAt map[string]time.Time
}

func newLimiter() *limiter { return &limiter{fullAt: map[string]time.Time{}} }

// take takes a token for a request of the user at the time now, and reports whether there was one.
func (l *limiter) take(user string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	full, ok := l.fullAt[user]
	if !ok && len(l.fullAt) >= usersKnown {
		clear(l.fullAt)
	}
	if full.Before(now) {
		full = now
	}
	full = full.Add(time.Second / userRate)
	if full.Sub(now) > userBurst*time.Second/userRate {
		return false
	}
	l.fullAt[user] = full
	return true
}
