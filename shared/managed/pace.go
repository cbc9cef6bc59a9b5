package managed

import "time"

// Paced is a Provider whose settings may hold a rate.
type Paced interface {
	// Rate is how many calls a second one process may send on average; 0 means that it is to find
	// out by itself.
	Rate() float64
}

// pace holds this process's calls to what one third party takes. Where no rate is set, nothing is
// held back until the third party asks for fewer calls. From then on the rate is what has got
// through: between two refusals a third party with a bucket of tokens has let through just what it
// allows. It grows by a little with each call, and is lowered by 30 % at most.
type pace struct {
	// most is the rate that is set, in calls a second; 0 if none is.
	most float64
	// rate is the one in force, in calls a second; 0 while none is known.
	rate float64
	// tokens are the calls that may be sent now, as of at. They are fewer than none while calls
	// have been let through ahead of time.
	tokens float64
	at     time.Time
	// until is when the third party, which asked for fewer calls, may be called again.
	until time.Time

	// sent counts the calls, and seen is how many had been sent when the rate was last lowered:
	// refusals of these say nothing new.
	sent, seen int64
	// passed counts the calls that got through since then, or in the second that began then.
	passed  int64
	since   time.Time
	before  int64 // got through in the second before that
	settled bool  // the rate was measured between two refusals
}

const (
	lowestRate    = 1.0  // calls a second
	firstRate     = 5.0  // at least, when the first refusal came
	firstShare    = 0.5  // of what had got through in a second then: much of it may have been a reserve
	mostLowered   = 0.7  // of the rate, at one refusal
	belowMeasured = 0.95 // of what got through
	growth        = 0.01 // of a call a second, with each call: 1 % a second
	searching     = 0.1  // the same, until the rate was measured
	// quiet is how long without a refusal shows that the rate is too low.
	quiet = 10 * time.Second
)

func newPace(most float64) *pace { return &pace{most: most, rate: most, tokens: 1} }

// burst is how many calls may be sent at once.
func (p *pace) burst() float64 { return max(1, p.rate/10) }

// refill brings the tokens up to date.
func (p *pace) refill(now time.Time) {
	passed := now.Sub(p.at).Seconds()
	if passed > 0 {
		p.tokens = min(p.burst(), p.tokens+passed*p.rate)
		p.at = now
	}
}

// take takes n calls if they may be sent now, and says how long to wait if not.
func (p *pace) take(now time.Time, n float64) time.Duration {
	wait := p.until.Sub(now)
	if wait > 0 {
		return wait
	}
	if p.rate == 0 {
		return 0
	}
	p.refill(now)
	missing := min(n, p.burst()) - p.tokens
	if missing > 1e-9 {
		return max(time.Duration(missing/p.rate*float64(time.Second)), time.Millisecond)
	}
	p.tokens -= n
	return 0
}

// give returns calls that were taken and not sent.
func (p *pace) give(n float64) { p.tokens = min(p.burst(), p.tokens+n) }

// call notes that a call is sent, and returns its number.
func (p *pace) call(now time.Time) int64 {
	if p.rate == 0 && now.Sub(p.since) >= time.Second {
		p.before, p.passed, p.since = p.passed, 0, now
	}
	p.sent++
	p.passed++
	if p.rate > 0 && p.rate != p.most {
		step := growth
		if !p.settled || now.Sub(p.since) > quiet {
			step = searching
		}
		p.rate += step
		if p.most > 0 {
			p.rate = min(p.rate, p.most)
		}
	}
	return p.sent
}

// refused notes that the third party asked for fewer calls when it got the call of that number, and
// for none before wait is over.
func (p *pace) refused(now time.Time, number int64, wait time.Duration) {
	p.passed--
	p.until = later(p.until, now.Add(min(wait, longestWaitSaid)))
	if number <= p.seen {
		return
	}
	switch {
	case p.rate == 0:
		p.rate = max(firstRate, firstShare*float64(max(p.passed, p.before)))
	default:
		measured := belowMeasured * float64(p.passed) / max(now.Sub(p.since).Seconds(), 1)
		p.rate = max(lowestRate, mostLowered*p.rate, min(measured, p.rate*0.9))
		p.settled = true
	}
	p.seen, p.passed, p.since = p.sent, 0, p.until
	p.tokens, p.at = min(p.tokens, 0), now
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
