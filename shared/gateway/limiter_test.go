package gateway

import (
	"strconv"
	"testing"
	"time"
)

func TestAUsersBucketEmptiesAndFills(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(), time.Unix(1_800_000_000, 0)
	taken := func(user string) int {
		n := 0
		for l.take(user, now) {
			n++
		}
		return n
	}
	if n := taken("alice"); n != userBurst {
		t.Errorf("at one moment %d requests pass", n)
	}
	if n := taken("bob"); n != userBurst {
		t.Errorf("beside another user's %d requests pass", n)
	}
	now = now.Add(2 * time.Second)
	if n := taken("alice"); n != 2*userRate {
		t.Errorf("after two seconds %d more pass", n)
	}
	now = now.Add(-time.Hour) // a clock that is set back
	if taken("alice") != 0 {
		t.Error("a clock that is set back fills a bucket")
	}
	now = now.Add(2 * time.Hour)
	if n := taken("alice"); n != userBurst {
		t.Errorf("a bucket that is full again holds %d", n)
	}
}

func TestTheLimitersMemoryIsBounded(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(), time.Unix(1_800_000_000, 0)
	for i := range 3 * usersKnown {
		if !l.take(strconv.Itoa(i), now) {
			t.Fatal("a first request is refused")
		}
		if len(l.fullAt) > usersKnown {
			t.Fatalf("%d users are known", len(l.fullAt))
		}
	}
}
