package managedtest

import (
	"slices"
	"sync"
	"time"
)

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	events []event
}

// event is what is to happen at a time.
type event struct {
	at time.Time
	do func()
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on, and lets happen on the way what is to happen.
func (c *Clock) Advance(d time.Duration) {
	end := c.Now().Add(d)
	for {
		next := c.moveTowards(end)
		if next == nil {
			return
		}
		next()
	}
}

// moveTowards moves the clock to the next event, which it takes off the list and returns, or else
// to the end.
func (c *Clock) moveTowards(end time.Time) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := -1
	for i, e := range c.events {
		if !e.at.After(end) && (next < 0 || e.at.Before(c.events[next].at)) {
			next = i
		}
	}
	if next < 0 {
		if end.After(c.now) {
			c.now = end
		}
		return nil
	}
	e := c.events[next]
	c.events = slices.Delete(c.events, next, next+1)
	if e.at.After(c.now) {
		c.now = e.at
	}
	return e.do
}

// At has something done when the clock gets to that time.
func (c *Clock) At(at time.Time, do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event{at, do})
}

// forget drops what was to happen.
func (c *Clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = nil
}

// LastEvent is when the last thing is to happen; zero if nothing is.
func (c *Clock) LastEvent() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last time.Time
	for _, e := range c.events {
		if e.at.After(last) {
			last = e.at
		}
	}
	return last
}
