package providertest

import (
	"sync/atomic"
	"time"

	"managed-credentials/shared/clock"
)

// Clock is a clock that stands still until it is moved. It is safe for concurrent use.
type Clock struct {
	start time.Time
	moved atomic.Int64
}

// NewClock returns a clock that shows the present time.
func NewClock() *Clock { return &Clock{start: clock.Now()} }

// Now is the clock's time.
func (c *Clock) Now() time.Time { return c.start.Add(time.Duration(c.moved.Load())) }

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.moved.Add(int64(d)) }
