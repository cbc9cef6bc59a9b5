package clock_test

import (
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/clock"
)

// Package time shows a monotonic reading as "m=±…", and compares by it only where both times have
// one.
func TestTheClockCarriesNoMonotonicReading(t *testing.T) {
	t.Parallel()
	if !strings.Contains(time.Now().String(), " m=") {
		t.Fatal("package time does not show monotonic readings any more: this test says nothing")
	}
	now := clock.Now()
	if strings.Contains(now.String(), " m=") {
		t.Errorf("the clock says %v", now)
	}
}

func TestATimeIsAwaitedByTheWallClock(t *testing.T) {
	t.Parallel()
	monotonic := time.Now().Add(time.Hour)
	got := clock.Until(monotonic)
	if got > time.Hour || got < 59*time.Minute {
		t.Errorf("it is %v until a time in an hour", got)
	}
}
