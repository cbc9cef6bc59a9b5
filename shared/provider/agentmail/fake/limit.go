package fake

import "time"

// bucket is AgentMail's limit on calls as a bucket of tokens, by Config.Now:
// Switches.CallsPerSecond and Switches.Burst say how it fills.
type bucket struct {
	tokens float64
	at     time.Time
	// refused is how many calls found it empty.
	refused int
}

// limited reports whether a call comes too soon after others. Caller holds the lock.
func (s *Server) limited() bool {
	rate := s.switches.CallsPerSecond
	if rate <= 0 {
		return false
	}
	now, most := s.config.Now(), float64(max(1, s.switches.Burst))
	if s.bucket.at.IsZero() {
		s.bucket.tokens = most
	} else {
		s.bucket.tokens = min(most, s.bucket.tokens+rate*now.Sub(s.bucket.at).Seconds())
	}
	s.bucket.at = now
	if s.bucket.tokens < 1 {
		s.bucket.refused++
		return true
	}
	s.bucket.tokens--
	return false
}

// Limited is how many calls were refused because there were too many.
func (s *Server) Limited() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bucket.refused
}

// tooMany is the answer to a call that comes too soon.
func tooMany() *answer {
	a := answerTo(refuse("rate_limit_exceeded", ""))
	a.retryAfter = "1"
	return &a
}
