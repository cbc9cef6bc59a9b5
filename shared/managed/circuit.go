package managed

import (
	"sync"
	"time"
)

// circuit is a circuit breaker, in the memory of this process: what fails for several different
// slots in a row is left alone for a while, so that an outage costs neither every user the budget
// nor the third party a key per attempt. A failure of one slot, however often it comes, is that
// slot's. After the while one probe at a time is let through; a success closes the circuit, and a
// failure opens it for longer.
type circuit struct {
	// most is how many different slots in a row may fail before the circuit opens, the last one
	// included.
	most int

	mu sync.Mutex
	// failing are the users whose slots have failed since the last success.
	failing map[string]bool
	// openings counts how often the circuit has opened since the last success; 0 while it is
	// closed.
	openings int
	until    time.Time
	probe    *pass
	// ended is closed when the probe's outcome is known.
	ended chan struct{}
}

const (
	slotsThatFail = 3
	firstOpening  = 2 * time.Second
	longestOpen   = time.Minute
)

// enter lets p through, or says when to ask again: at a time, or once a probe has ended.
func (c *circuit) enter(p *pass, now time.Time) (at time.Time, ended <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.openings == 0 || c.probe == p:
		return time.Time{}, nil
	case now.Before(c.until):
		return c.until, nil
	case c.probe != nil:
		return now.Add(firstOpening), c.ended
	}
	c.probe, c.ended = p, make(chan struct{})
	return time.Time{}, nil
}

// leave ends p's probing, whatever came of it.
func (c *circuit) leave(p *pass) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endProbe(p)
}

// endProbe ends the probe if it is p, and tells whether it was. The lock is held.
func (c *circuit) endProbe(p *pass) bool {
	if c.probe != p || p == nil {
		return false
	}
	c.probe = nil
	close(c.ended)
	return true
}

// succeeded notes that what the circuit stands before does its work.
func (c *circuit) succeeded(p *pass) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing, c.openings = nil, 0
	c.endProbe(p)
}

// failed notes that p failed for its slot, and reports whether that opened the circuit. It then
// stays open for wait at least.
func (c *circuit) failed(p *pass, now time.Time, wait time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	probed := c.endProbe(p)
	if c.openings > 0 && !probed {
		return false // it was sent before the circuit opened
	}
	if c.failing == nil {
		c.failing = map[string]bool{}
	}
	c.failing[p.user] = true
	if !probed && len(c.failing) < c.most {
		return false
	}
	pause := firstOpening
	for i := 0; i < c.openings && pause < longestOpen; i++ {
		pause *= 2
	}
	c.openings++
	c.until = now.Add(max(jittered(min(pause, longestOpen)), wait))
	return true
}
