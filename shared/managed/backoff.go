package managed

import (
	"context"
	"time"

	"managed-credentials/shared/jitter"
)

// How long to wait before the next try, by the number of tries that failed.
const (
	backoffBase     = 2 * time.Second
	backoffCap      = 15 * time.Minute
	slowRetry       = time.Hour
	parkedRetry     = 6 * time.Hour
	notYetRetry     = 10 * time.Second
	triesUntilPark  = 12
	longestWaitSaid = 15 * time.Minute // of a Retry-After
)

// backoff is an exponential pause with jitter, for the n-th failure, n ≥ 1.
func backoff(n int) time.Duration {
	d := backoffBase
	for i := 1; i < n && d < backoffCap; i++ {
		d *= 2
	}
	return jittered(min(d, backoffCap))
}

// jittered is d less up to a half.
func jittered(d time.Duration) time.Duration { return d/2 + jitter.Below(d/2) }

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAt is when to try again after the n-th failure.
func (e *Engine) retryAt(n int, err *Error) time.Time {
	pause := backoff(n)
	switch err.Class {
	case NotYet:
		pause = notYetRetry
	case Permanent, Mismatch:
		pause = jittered(slowRetry)
	case Transient, Rejected, Quota, Gone, Unusable, Foreign, RateLimited:
	}
	return e.cfg.Now().Add(max(pause, min(err.RetryAfter, longestWaitSaid)))
}
