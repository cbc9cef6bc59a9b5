package fault

import (
	"context"
	"testing"
)

// The release may come between a client's leaving and the server's noticing it. Nothing outside can
// bring that about for certain.
func TestARequestReleasedWhileItsClientLeftTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	r := NewRules(nil)
	c, done := &Call{}, 0
	r.Enter(c, func(context.Context, *Call) (*Answer, error) { done++; return nil, nil })
	r.ClearFaults()
	r.postpone(c, UntilReleased, nil)
	if done != 1 || r.Pending() != 0 {
		t.Errorf("done %d times, %d pending", done, r.Pending())
	}
}
