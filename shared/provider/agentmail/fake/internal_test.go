package fake

import "testing"

// The release may come between a caller's leaving and the server's noticing it. Nothing outside can
// bring that about for certain.
func TestARequestReleasedWhileItsCallerLeftTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	released := make(chan struct{})
	close(released)
	r, _ := match("POST", "/v0/pods")
	s.postpone(&call{
		world:   s.world,
		route:   r,
		caller:  identity{organization: OrganizationID},
		release: released,
	}, UntilReleased)
	if n := len(s.Pods()); n != 1 {
		t.Errorf("%d pods, want 1", n)
	}
}
