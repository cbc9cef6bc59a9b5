package managed

import (
	"strings"
	"testing"
	"time"
)

// The tests beside this one hold the clock themselves. What is deployed goes by the wall clock.
func TestTheEngineGoesByTheWallClock(t *testing.T) {
	t.Parallel()
	e, err := New(Config{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(e.cfg.Now().String(), " m=") {
		t.Errorf("the engine's clock says %v, with a monotonic reading", e.cfg.Now())
	}
}
