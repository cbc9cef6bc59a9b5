package managed_test

import (
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/managed"
)

// The tests beside this one hold the clock themselves. What is deployed goes by the wall clock.
func TestTheEngineGoesByTheWallClock(t *testing.T) {
	t.Parallel()
	e, err := managed.New(managed.Config{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(e.Now().String(), " m=") {
		t.Errorf("the engine's clock says %v, with a monotonic reading", e.Now())
	}
}
