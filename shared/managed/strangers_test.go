package managed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
)

// members is a user pool with these users; nil for one that is down.
type members map[string]bool

func (m members) Has(_ context.Context, sub string) (bool, error) {
	if m == nil {
		return false, errors.New("the user pool is down")
	}
	return m[sub], nil
}

// knowing has audits look for the users in the pool.
func knowing(pool members) func(*managed.Config) {
	return func(c *managed.Config) { c.Members, c.UnknownAfter = pool, 24*time.Hour }
}

// look is an audit that also looks for the users in a pool, and says whom it does not find.
func look(t *testing.T, w *managedtest.World, pool members) string {
	t.Helper()
	e := w.EngineWith(knowing(pool))
	r, err := e.Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider, Repair: 100, By: "the tests"})
	if err != nil || r.Stopped != "" {
		t.Fatalf("%v, the report is %+v", err, r)
	}
	var all []string
	for _, f := range r.Findings {
		if f.Kind != managed.UnknownUser || f.Remedy != "" || f.Resource == "" {
			t.Errorf("it finds %+v", f)
		}
		all = append(all, f.User)
	}
	return strings.Join(all, ", ")
}

func TestAUserWhomThePoolDoesNotKnowIsReportedAtASecondLook(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	both, bobAlone := members{alice: true, bob: true}, members{bob: true}
	for _, step := range []struct {
		after time.Duration
		pool  members
		want  string
	}{
		{time.Hour, both, ""},
		{time.Hour, bobAlone, ""},
		{24*time.Hour - time.Millisecond, bobAlone, ""},
		{time.Millisecond, bobAlone, alice},
		{time.Hour, bobAlone, alice},
		{time.Hour, both, ""}, // found again: what was noted does not count any more
		{time.Hour, bobAlone, ""},
		{25 * time.Hour, bobAlone, alice},
	} {
		w.Clock.Advance(step.after)
		if got := look(t, w, step.pool); got != step.want {
			t.Errorf("the pool of %v does not know %q, want %q", step.pool, got, step.want)
		}
	}
	w.CheckExactlyOne(alice) // reported, and nothing else
	remove(t, w.Engine(), alice)
	if got := look(t, w, bobAlone); got != "" {
		t.Errorf("it reports %s, who was deleted", got)
	}
}

func TestAPoolThatIsDownMakesNobodyUnknown(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	before := w.Dump()
	e := w.EngineWith(knowing(members(nil)))
	r, err := e.Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider})
	if err != nil || !strings.Contains(r.Stopped, "the user pool is down") || w.Dump() != before {
		t.Errorf("%v, the report is %+v, the table:\n%s", err, r, w.Dump())
	}
}

// repairs is an audit with as many repairs, which deletes whom the pool does not know. It also says
// whose deletions it asked for.
func repairs(t *testing.T, w *managedtest.World, pool members, n int) (managed.AuditReport, []string) {
	t.Helper()
	var deleted []string
	e := w.EngineWith(func(c *managed.Config) {
		knowing(pool)(c)
		c.DeleteUnknown = func(ctx context.Context, user string) error {
			if !strings.Contains(w.Logs(), `"remedy":"delete"`) {
				t.Error("the deletion is not on record")
			}
			deleted = append(deleted, user)
			_, _, err := w.Engine().DeleteAccount(ctx, user, "")
			return err
		}
	})
	r, err := e.Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider, Repair: n, By: "the tests"})
	if err != nil {
		t.Fatal(err)
	}
	return r, deleted
}

func TestARepairDeletesWhomThePoolDoesNotKnowAtTwoLooks(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for _, user := range []string{alice, bob, "carol"} {
		list(t, w.Engine(), user)
	}
	pool := members{bob: true}
	for _, step := range []struct {
		after   time.Duration
		repair  int
		deletes int
	}{
		{0, 9, 0}, {time.Hour, 9, 0}, {24 * time.Hour, 0, 0}, {0, 1, 1}, {0, 9, 1}, {0, 9, 0},
	} {
		w.Clock.Advance(step.after)
		r, deleted := repairs(t, w, pool, step.repair)
		if len(deleted) != step.deletes || r.Repaired != step.deletes {
			t.Errorf("with repair %d it deletes %v: %+v", step.repair, deleted, r)
		}
	}
	w.CheckExactlyOne(bob)
	w.Converge()
	for _, user := range []string{alice, "carol"} {
		w.CheckNothingLeft(user)
	}
}

func TestAPoolThatKnowsNobodyHasNobodyDeleted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for n := range 11 {
		list(t, w.Engine(), fmt.Sprint("user", n))
	}
	repairs(t, w, members{}, 100)
	w.Clock.Advance(25 * time.Hour)
	r, deleted := repairs(t, w, members{}, 100)
	if len(deleted) != 0 || !strings.Contains(r.Stopped, "right pool") || r.Next == "" {
		t.Errorf("it deletes %v: %+v", deleted, r)
	}
}
