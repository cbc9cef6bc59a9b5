package managed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// closing is the order that the tests give.
var closing = managed.DrainOrder{Provider: managedtest.Provider, Order: managed.Order{By: "the operator", Reason: "the contract ends"}}

// drain begins to drain the provider, and expects no error.
func drain(t *testing.T, w *managedtest.World) {
	t.Helper()
	s, err := in(w, managed.Draining).Drain(t.Context(), closing)
	if err != nil || s.UnderWay == nil {
		t.Fatalf("%v, it stands at %+v", err, s)
	}
}

// drainsOn is one invocation by the schedule, five minutes after the last one, of an engine that
// asks for so many at once; 0 for as many as it likes.
func drainsOn(t *testing.T, w *managedtest.World, most int) managed.DrainStatus {
	t.Helper()
	w.Clock.Advance(5 * time.Minute)
	e := w.EngineWith(func(c *managed.Config) {
		c.Modes = map[string]managed.Mode{managedtest.Provider: managed.Draining}
		c.MostAskedDue = most
	})
	all, err := e.DrainsDue(t.Context())
	if err != nil || len(all) != 1 || all[0].Provider != managedtest.Provider {
		t.Fatalf("%v, the drainings stand at %+v\n%s", err, all, w.Logs())
	}
	w.Clock.Advance(time.Millisecond)
	return all[0]
}

// rounds are two rounds of reconcile, of which the second one looks for the last time.
func rounds(t *testing.T, w *managedtest.World) {
	t.Helper()
	reconcile(t, in(w, managed.Draining))
	w.Clock.Advance(managed.LastLook + time.Millisecond)
	reconcile(t, in(w, managed.Draining))
}

// untilDrained lets the schedule and reconcile go on until the draining has ended.
func untilDrained(t *testing.T, w *managedtest.World, most int) *managed.DrainRun {
	t.Helper()
	for range 15 {
		s := drainsOn(t, w, most)
		if s.UnderWay == nil {
			return s.Ended
		}
		rounds(t, w)
	}
	t.Fatalf("it does not end:\n%s\n%s", w.Dump(), w.Logs())
	return nil
}

func TestAProviderIsDrainedAndServesUntilThen(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 3)
	list(t, w.Engine(), bob)
	remove(t, w.Engine(), bob)
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Status(400)})
	list(t, w.Engine(), alice) // hers has failed
	w.Mail.ClearFaults()
	// The mode alone destroys nothing, and nobody new gets one.
	e := in(w, managed.Draining)
	w.Clock.Advance(time.Minute)
	if l := list(t, e, "newcomer"); len(l.Standings) != 0 {
		t.Errorf("who is new stands at %+v", l)
	}
	drainsOn(t, w, 0)
	rounds(t, w)
	checkServe(t, w, "user-0", w.Key("user-0"))
	drain(t, w)
	s := drainsOn(t, w, 0)
	if r := s.UnderWay; r == nil || r.Asked != 4 || r.Passes != 1 || *r.Found != (managed.DrainCount{Left: 4}) || r.AtLeast != "3m0s" || r.Finding != (managed.DrainCount{}) {
		t.Fatalf("after a pass it stands at %+v %+v", r, r.Found)
	}
	if !has(list(t, e, "user-0"), "user-0") {
		t.Error("it is not listed before it is removed")
	}
	reconcile(t, e)
	if l := list(t, e, "user-0"); has(l, "user-0") || stands(t, l) != managed.StandingRetracting {
		t.Errorf("while it is removed: %+v", l)
	}
	s = drainsOn(t, w, 0)
	if r := s.UnderWay; r == nil || r.Asked != 4 || *r.Found != (managed.DrainCount{Removing: 4}) || r.AtLeast != "" {
		t.Fatalf("while they are removed it stands at %+v %+v", r, r.Found)
	}
	r := untilDrained(t, w, 0)
	if r.Asked != 4 || *r.Found != (managed.DrainCount{Removed: 4}) || r.Stopped != "" || r.By != "the operator" || !r.EndedAt.After(r.BegunAt) {
		t.Errorf("in the end it stands at %+v %+v", r, r.Found)
	}
	for _, user := range []string{"user-0", "user-1", "user-2", alice} {
		w.CheckNoPod(user)
		if s := slot(t, w, user); s.State != store.Off || s.RetractedBy != store.ByDraining || !s.Settled() {
			t.Errorf("%s: %+v", user, s)
		}
	}
	if !strings.Contains(w.Logs(), `"message":"draining","audit":true,"by":"the operator","reason":"the contract ends"`) {
		t.Error("it is not on record")
	}
	if n := strings.Count(w.Logs(), `"DrainingsEnded":1`); n != 1 {
		t.Errorf("its end is counted %d times", n)
	}
	if l := list(t, e, "user-0"); len(l.Standings) != 0 || len(l.Credentials) != 0 {
		t.Errorf("afterwards: %+v", l)
	}
	before := w.Dump()
	drainsOn(t, w, 0)
	if w.Dump() != before {
		t.Error("one that has ended goes on")
	}
	// Who lists gets one again, once it is for everybody.
	if !has(list(t, w.Engine(), "user-0"), "user-0") {
		t.Error("it is not made again")
	}
	w.CheckExactlyOne("user-0")
}

func TestADrainingAsksForNoMoreThanIsDoneSoon(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 110 // more than a page of the table
	for i := range users {
		list(t, w.Engine(), fmt.Sprintf("user-%03d", i))
	}
	drain(t, w)
	first := drainsOn(t, w, 60).UnderWay
	if first.Asked < 60 || first.Asked == users || first.Finding.Left != first.Asked || first.Passes != 0 || first.Found != nil {
		t.Fatalf("the first page has more than there is room for, and it stands at %+v", first)
	}
	if r := drainsOn(t, w, 60).UnderWay; r.Asked != first.Asked {
		t.Fatalf("while these are due it asks for more: %+v", r)
	}
	rounds(t, w)
	if r := untilDrained(t, w, 60); r.Asked != users || r.Found.Removed != users {
		t.Errorf("in the end it stands at %+v %+v", r, r.Found)
	}
}

func TestADrainingIsOrderedAndOneAtATime(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	e := in(w, managed.Draining)
	unknown := closing
	unknown.Provider = "nobody"
	_, err := e.Drain(t.Context(), unknown)
	if !errors.Is(err, credential.ErrNoProvider) {
		t.Errorf("of nobody: %v", err)
	}
	for _, mode := range []managed.Mode{managed.Auto, managed.OnDemand, managed.Frozen, managed.Off} {
		_, err := in(w, mode).Drain(t.Context(), closing)
		if !errors.Is(err, managed.ErrNotDraining) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	_, err = w.EngineWith(func(c *managed.Config) {
		deaf(c)
		c.Modes = map[string]managed.Mode{managedtest.Provider: managed.Draining}
	}).Drain(t.Context(), closing)
	if s := drainsOn(t, w, 0); err == nil || s.UnderWay != nil || s.Ended != nil {
		t.Errorf("it is not on record, and was begun: %v, %+v", err, s)
	}
	_, err = e.EndDrain(t.Context(), closing)
	if !errors.Is(err, managed.ErrNoDraining) {
		t.Errorf("ended before there was one: %v", err)
	}
	drain(t, w)
	_, err = e.Drain(t.Context(), closing)
	var conflict *credential.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(conflict.Detail, ", for the operator (the contract ends)") {
		t.Errorf("a second one beside it: %v", err)
	}
	s, err := e.EndDrain(t.Context(), closing)
	if err != nil || s.UnderWay != nil || s.Ended.Stopped != "ended by the operator: the contract ends" {
		t.Errorf("ended: %v, it stands at %+v", err, s)
	}
	drainsOn(t, w, 0)
	rounds(t, w)
	w.CheckExactlyOne(alice)
}

// Two who begin one at once, of whom both have seen that there is none.
func TestOfTwoDrainingsThatBeginAtOnceOneDoes(t *testing.T) {
	t.Parallel()
	for _, before := range []struct {
		op  string
		nth int
	}{{update, 1}, {batchGet, 2}} { // its claim of the job, and its look at what it claims
		w := managedtest.New(t, managedtest.Options{})
		list(t, w.Engine(), alice)
		other := closing
		other.By = "somebody else"
		var inner error
		inject(t, w.DynamoDB, before.op, before.nth, first(func() {
			w.DynamoDB.SetHook(nil)
			_, inner = in(w, managed.Draining).Drain(context.Background(), other)
		}))
		_, err := in(w, managed.Draining).Drain(t.Context(), closing)
		var conflict *credential.ConflictError
		if inner != nil || !errors.As(err, &conflict) {
			t.Errorf("before %s, the first: %v, the second: %v", before.op, inner, err)
		}
		if s := drainsOn(t, w, 0); s.UnderWay == nil || s.UnderWay.By != "somebody else" {
			t.Errorf("before %s: it stands at %+v", before.op, s)
		}
	}
}

// Should the mode come back, nobody has asked for it again.
func TestAnotherModeEndsADraining(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 2)
	drain(t, w)
	drainsOn(t, w, 0)
	reconcile(t, w.Engine()) // whose mode is auto: what is asked for is not done
	w.CheckExactlyOne("user-0")
	all, err := w.Engine().DrainsDue(t.Context())
	if err != nil || all[0].UnderWay != nil || all[0].Ended.Stopped != "the mode is auto" {
		t.Fatalf("%v, it stands at %+v", err, all)
	}
	w.Converge()
	drainsOn(t, w, 0)
	rounds(t, w)
	w.CheckExactlyOne("user-0")
	w.CheckExactlyOne("user-1")
}

func TestASuspendedUsersIsRemovedOnceTheyAreEnabled(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 2)
	suspend(t, w, "user-0")
	drain(t, w)
	for range 3 {
		drainsOn(t, w, 0)
		rounds(t, w)
	}
	r := drainsOn(t, w, 0).UnderWay
	if r == nil || *r.Found != (managed.DrainCount{Removed: 1, Suspended: 1}) || r.Asked != 2 {
		t.Fatalf("it stands at %+v %+v", r, r.Found)
	}
	enable(t, w, "user-0")
	w.CheckExactlyOne("user-0")
	if r := untilDrained(t, w, 0); *r.Found != (managed.DrainCount{Removed: 2}) {
		t.Errorf("in the end it stands at %+v", r.Found)
	}
	w.CheckNoPod("user-0")
}

// A draining has not ended while anything of a deleted account is there: without its provider
// nobody could revoke that.
func TestADrainingWaitsForDeletions(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.DeletePod, Fault: fake.Status(400)})
	remove(t, w.Engine(), alice)
	drain(t, w)
	if r := drainsOn(t, w, 0).UnderWay; r == nil || r.Found.Deleted != 1 || r.Asked != 0 {
		t.Fatalf("it stands at %+v", r)
	}
	w.Mail.ClearFaults()
	w.Converge()
	if r := untilDrained(t, w, 0); *r.Found != (managed.DrainCount{}) {
		t.Errorf("in the end it stands at %+v", r.Found)
	}
	w.CheckNothingLeft(alice)
}

func TestADeletionOvertakesADraining(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*managedtest.World) (*fault.Proxy, string){
		"before it is marked":  func(w *managedtest.World) (*fault.Proxy, string) { return w.DynamoDB, transact },
		"before it is claimed": func(w *managedtest.World) (*fault.Proxy, string) { return w.DynamoDB, update },
		"before it is removed": func(w *managedtest.World) (*fault.Proxy, string) { return w.AgentMail, "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			drain(t, w)
			drainsOn(t, w, 0)
			proxy, op := before(w)
			struck := false
			proxy.SetHook(func(c *fault.Call) fault.Fault {
				if struck || !strings.HasPrefix(c.Op, op) {
					return nil
				}
				struck = true
				return first(func() {
					proxy.SetHook(nil)
					remove(t, w.Engine(), alice)
				})
			})
			reconcile(t, in(w, managed.Draining))
			if !struck {
				t.Error("the moment has not come")
			}
			w.Converge()
			w.CheckNothingLeft(alice)
			untilDrained(t, w, 0)
		})
	}
}

func TestADrainingThatDiedIsTakenOverAndAsksNobodyTwice(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 3)
	drain(t, w)
	// It has asked all, and notes it when another one has gone on.
	w.Clock.Advance(time.Minute)
	inject(t, w.DynamoDB, update, 5, first(func() {
		w.DynamoDB.SetHook(nil)
		if s := drainsOn(t, w, 0); s.UnderWay == nil || s.UnderWay.Asked != 0 || s.UnderWay.Found.Left != 3 {
			t.Errorf("the one that takes over stands at %+v", s.UnderWay)
		}
	}))
	_, err := in(w, managed.Draining).DrainsDue(t.Context())
	if !errors.Is(err, store.ErrLost) {
		t.Errorf("the one that was given up: %v", err)
	}
	if r := untilDrained(t, w, 0); r.Found.Removed != 3 {
		t.Errorf("in the end it stands at %+v", r.Found)
	}
}

func TestADrainingThatCannotReadTheTableSaysSo(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	drain(t, w)
	inject(t, w.DynamoDB, "Scan", 0, fault.Respond(500, nil, nil))
	if r := drainsOn(t, w, 0).UnderWay; r == nil || r.Stopped == "" || r.Passes != 0 {
		t.Errorf("it stands at %+v", r)
	}
	w.DynamoDB.SetHook(nil)
	if r := untilDrained(t, w, 0); r.Stopped != "" || r.Asked != 1 {
		t.Errorf("in the end it stands at %+v", r)
	}
}
