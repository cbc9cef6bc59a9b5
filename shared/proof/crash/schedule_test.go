package crash_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/store"
)

// TestNoRandomScheduleDoes lets several users list, leave, and lose their keys, in any order and at
// once, with faults and jumps of the clock in between.
//
//	go test ./shared/proof/crash -run RandomSchedule -rapid.seed=…    again what failed
func TestNoRandomScheduleDoes(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	users := []string{alice, bob, carol}
	plain := &scenario{budget: time.Second}
	schedules, steps := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		r := newRun(t, w, plain)
		defer r.close()
		gone := map[string]bool{}
		step := func() func() {
			user := rapid.SampledFrom(users).Draw(rt, "user")
			switch rapid.SampledFrom([]string{"list", "list", "list", "remove", "reconcile", "reconcile", "lose"}).Draw(rt, "does") {
			case "list":
				return func() { r.process().list(user) }
			case "remove":
				gone[user] = true
				return func() { r.process().remove(user) }
			case "lose":
				return func() { r.revoked(user) }
			default:
				return func() { r.process().reconcile() }
			}
		}
		n := rapid.IntRange(1, 10).Draw(rt, "steps")
		for range n {
			r.expect(rt)
			jump := rapid.SampledFrom([]time.Duration{0, 0, time.Second, 3 * time.Second, 29 * time.Second, 61 * time.Second, 71 * time.Second}).Draw(rt, "jump")
			r.advance(jump)
			one := step()
			if rapid.IntRange(0, 3).Draw(rt, "at once") == 0 {
				atOnce(one, step())
			} else {
				one()
			}
			steps++
		}
		schedules++
		end := *plain
		end.after = audited // what was lost and could not be reported
		for _, user := range users {
			if gone[user] {
				end.deleted = append(end.deleted, user)
			} else {
				end.users = append(end.users, user)
			}
		}
		r.finish(&end)
		err := r.verdict()
		if err != nil {
			rt.Fatal(err)
		}
	})
	fmt.Printf("random schedules: %d, of %d steps\n", schedules, steps)
}

// revoked has the user's stored key revoked by hand, and reported.
func (r *run) revoked(user string) {
	slot, gone, err := r.w.Slot(user, agent)
	if err != nil || gone || slot.State != store.Ready || slot.Owner != "" {
		return
	}
	r.w.RemoveKey(user)
	_ = r.w.Store.Postpone(context.Background(), slot, store.Wait{State: slot.State, Reason: store.ReasonReported, DueAt: r.w.Clock.Now()}) // refused if somebody took it meanwhile
}

// expect plans a fault, or none, for one of the calls to come.
func (r *run) expect(rt *rapid.T) {
	in := rapid.IntRange(0, 14).Draw(rt, "calls until the fault")
	m := rapid.SampledFrom(modes).Draw(rt, "fault")
	if in == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan = append(r.plan, strike{place{nth: len(r.calls) + in}, m})
}
