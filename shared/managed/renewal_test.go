package managed_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// quarter is the age that keys are allowed in these tests.
const quarter = 90 * 24 * time.Hour

// aging is an engine that allows keys an age.
func aging(w *managedtest.World, age time.Duration) *managed.Engine {
	return w.EngineWith(func(c *managed.Config) { c.MaxKeyAge = age })
}

// ageWalk is one invocation by the schedule, and returns where its walk for old keys stands; nil
// if there was none.
func ageWalk(t *testing.T, e *managed.Engine) *managed.RotationRun {
	t.Helper()
	all, err := e.RotationsDue(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, the rotations stand at %+v", err, all)
	}
	return all[0].Aged
}

func TestKeysAreReplacedBeforeTheyAreTooOldAndNotAllAtOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 24
	old := map[string]credential.Secret{}
	for i := range users {
		user := fmt.Sprintf("user-%03d", i)
		list(t, w.Engine(), user)
		old[user] = w.Key(user)
	}
	e, begun, most := aging(w, quarter), w.Clock.Now(), 0
	for day := 62; day < 90; day += 3 {
		w.Clock.Advance(begun.Add(time.Duration(day) * 24 * time.Hour).Sub(w.Clock.Now()))
		run := ageWalk(t, e)
		if run.EndedAt.IsZero() || run.Stopped != "" || run.Asked != run.Left || run.Overlap != "24h0m0s" {
			t.Fatalf("on day %d it stands at %+v", day, run)
		}
		most = max(most, run.Asked)
		if run.Asked == 0 {
			continue
		}
		reconcile(t, e)
		for user, key := range old {
			if slot(t, w, user).Committed == 1 {
				continue
			}
			delete(old, user)
			age := w.Clock.Now().Sub(begun)
			if age < quarter*7/10 {
				t.Errorf("the key of %s was replaced after %v", user, age)
			}
			checkServe(t, w, user, w.Key(user), key)
		}
	}
	if len(old) != 0 {
		t.Errorf("%d keys are about to be too old: %v", len(old), old)
	}
	if most > users/3 {
		t.Errorf("of %d keys %d were replaced at once", users, most)
	}
	if !strings.Contains(w.Logs(), `"KeysTooOld":1`) {
		t.Error("they are not counted")
	}
	w.Converge()
	w.CheckExactlyOne("user-000")
}

func TestAWalkForOldKeysIsBegunOnceADayAndLeavesYoungOnesAlone(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	before := slot(t, w, alice)
	e := aging(w, quarter)
	first := ageWalk(t, e)
	if first == nil || first.EndedAt.IsZero() || first.Asked+first.Left != 0 {
		t.Fatalf("it stands at %+v", first)
	}
	w.Clock.Advance(23 * time.Hour)
	if run := ageWalk(t, e); !run.BegunAt.Equal(first.BegunAt) {
		t.Errorf("a second one was begun %v after the first", run.BegunAt.Sub(first.BegunAt))
	}
	w.Clock.Advance(time.Hour)
	if run := ageWalk(t, e); run.BegunAt.Equal(first.BegunAt) {
		t.Error("none was begun after a day")
	}
	if now := slot(t, w, alice); now != before {
		t.Errorf("the slot is %+v, and was %+v", now, before)
	}
}

func TestOldKeysAreLeftAloneWhereNobodyWantsThemReplaced(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*managed.Config){
		"no age is set":       func(c *managed.Config) { c.MaxKeyAge = 0 },
		"the provider is off": func(c *managed.Config) { c.Modes = map[string]managed.Mode{managedtest.Provider: managed.Off} },
		"another key would not do what this one does": func(c *managed.Config) { c.Providers = []managed.Provider{irreplaceable{c.Providers[0]}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			w.Clock.Advance(2 * quarter)
			before := w.Dump()
			e := w.EngineWith(func(c *managed.Config) { c.MaxKeyAge = quarter; change(c) })
			if run := ageWalk(t, e); run != nil || w.Dump() != before {
				t.Errorf("a walk stands at %+v", run)
			}
		})
	}
}

// irreplaceable is a provider at which another key would open something else.
type irreplaceable struct{ managed.Provider }

func (irreplaceable) Irreplaceable() string { return "another key would open something else" }

// A key of which nobody noted when it was made is no older than its slot.
func TestAKeyOfUnknownAgeIsAsOldAsItsSlot(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 2)
	w.Clock.Advance(2 * quarter)
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	for _, user := range []string{alice, bob} {
		w.SetItem(store.SlotKey(user, managedtest.Provider), map[string]types.AttributeValue{"committed_at": nil})
	}
	w.SetItem(store.SlotKey(bob, managedtest.Provider), map[string]types.AttributeValue{"created_at": nil})
	w.Clock.Advance(time.Hour)
	if run := ageWalk(t, aging(w, quarter)); run.Asked != 3 {
		t.Errorf("it stands at %+v", run)
	}
	if slot(t, w, alice).Rotates || !slot(t, w, bob).Rotates {
		t.Errorf("the slots are %+v and %+v", slot(t, w, alice), slot(t, w, bob))
	}
}

func TestAnOldKeyIsNotAskedForTwice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		busy        func(*testing.T, *managedtest.World)
		asked, left int
	}{
		"a claim is at work on it": {func(t *testing.T, w *managedtest.World) {
			s := slot(t, w, alice)
			_, err := w.Store.Claim(context.Background(), []store.Slot{s}, s.State, w.Clock.Now().Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
		}, 0, 1},
		"an operator has asked, with a longer overlap": {func(t *testing.T, w *managedtest.World) {
			rotate(t, w, alice, managed.LongestOverlap)
		}, 0, 1},
		"the version before has dropped the wish": {func(t *testing.T, w *managedtest.World) {
			rotate(t, w, alice, time.Hour)
			w.SetItem(store.SlotKey(alice, managedtest.Provider), map[string]types.AttributeValue{"due_at": nil, "due_shard": nil})
		}, 1, 1},
		"the key before it still serves": {func(t *testing.T, w *managedtest.World) {
			rotate(t, w, alice, managed.LongestOverlap)
			reconcile(t, w.Engine())
			w.Clock.Advance(25 * 24 * time.Hour)
		}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			w.Clock.Advance(quarter)
			c.busy(t, w)
			before := slot(t, w, alice)
			run := ageWalk(t, aging(w, 24*time.Hour))
			if run.Asked != c.asked || run.Left != c.left {
				t.Errorf("it stands at %+v", run)
			}
			if now := slot(t, w, alice); c.asked == 0 && now != before {
				t.Errorf("the slot is %+v, and was %+v", now, before)
			}
		})
	}
}

// After a leak nobody waits for a walk that has time.
func TestARotationOfAllKeysComesBeforeAWalkForOldOnes(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SeedOwn("somebody", "github", 120, "") // more than a page of the table
	old := map[string]credential.Secret{}
	for _, user := range many(t, w, 3) {
		old[user] = w.Key(user)
	}
	w.Clock.Advance(quarter)
	e := w.EngineWith(func(c *managed.Config) { c.MaxKeyAge, c.MostAskedDue = quarter, 1 })
	run := ageWalk(t, e)
	if run == nil || !run.EndedAt.IsZero() || run.Asked == 0 {
		t.Fatalf("after a page it stands at %+v", run)
	}
	w.Clock.Advance(time.Millisecond)
	rotateAll(t, w, 0)
	if run := ageWalk(t, e); run != nil {
		t.Errorf("beside the rotation of all keys it stands at %+v", run)
	}
	untilRotated(t, w)
	for user, key := range old {
		if works(w, key) {
			t.Errorf("the key of %s from before works still", user)
		}
	}
	w.Clock.Advance(time.Minute)
	if run := ageWalk(t, e); run == nil || run.Asked != 0 {
		t.Errorf("of keys that are new it stands at %+v", run)
	}
}

// Whoever is suspended gets the new key when they are enabled.
func TestASuspendedUsersOldKeyIsReplacedOnceTheyAreEnabled(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	suspend(t, w, alice)
	w.Clock.Advance(quarter)
	e := aging(w, quarter)
	ageWalk(t, e)
	w.Clock.Advance(time.Millisecond)
	reconcile(t, e)
	if s := slot(t, w, alice); !s.Rotates || s.Committed != 1 || !works(w, old) {
		t.Errorf("the slot is %+v", s)
	}
	enable(t, w, alice)
	reconcile(t, e)
	checkServe(t, w, alice, w.Key(alice), old)
	w.Converge()
	w.CheckExactlyOne(alice)
}

// expiring has AgentMail let the org key end at that time, and with it what it makes from now on.
func expiring(w *managedtest.World, at time.Time) { w.Mail.ExpireOrgKey(fake.OrgKey, at) }

// retires is until when the key before the stored one serves; zero if there is none.
func retires(t *testing.T, w *managedtest.World) time.Time {
	t.Helper()
	return slot(t, w, alice).Retiring.At
}

func TestAKeyThatExpiresIsReplacedAheadOfThat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		life, ahead, overlap time.Duration
		late                 bool
	}{
		"an hour":          {time.Hour, 15 * time.Minute, 15 * time.Minute, false},
		"a day":            {24 * time.Hour, 6 * time.Hour, 6 * time.Hour, false},
		"a year":           {365 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, false},
		"after it expired": {time.Hour, 15 * time.Minute, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			ends := w.Clock.Now().Add(c.life)
			expiring(w, ends)
			list(t, w.Engine(), alice)
			old, due := w.Key(alice), slot(t, w, alice).DueAt
			if due.Before(ends.Add(-c.ahead)) || due.After(ends.Add(-c.ahead/2)) {
				t.Fatalf("it is due %v before it expires", ends.Sub(due))
			}
			w.Clock.Advance(due.Sub(w.Clock.Now()) - time.Millisecond)
			if r := reconcile(t, w.Engine()); r.Done != 0 {
				t.Error("it is worked on before its time")
			}
			if r := audit(t, w, false); r.Slots != 1 || len(r.Findings) != 0 {
				t.Errorf("an audit of a slot that waits: %+v", r)
			}
			if c.late {
				w.Clock.Advance(ends.Add(time.Minute).Sub(w.Clock.Now()))
			}
			expiring(w, w.Clock.Now().Add(1000*24*time.Hour))
			w.Clock.Advance(time.Millisecond)
			now := w.Clock.Now()
			reconcile(t, w.Engine())
			fresh := slot(t, w, alice)
			if fresh.Committed == 1 || !fresh.ExpiresAt.After(ends) || w.Key(alice) == old {
				t.Fatalf("the slot is %+v\n%s", fresh, w.Logs())
			}
			if until := retires(t, w); until.Sub(now) > c.overlap || !c.late && (until.Sub(now) < c.overlap/2 || until.After(ends)) {
				t.Errorf("the key before it serves for %v", until.Sub(now))
			}
			if !c.late {
				checkServe(t, w, alice, w.Key(alice), old)
			}
			w.Clock.Advance(c.overlap + time.Millisecond)
			reconcile(t, w.Engine())
			checkServe(t, w, alice, w.Key(alice))
			if due := slot(t, w, alice).DueAt; due.Before(fresh.ExpiresAt.Add(-7*24*time.Hour)) || due.After(fresh.ExpiresAt) {
				t.Errorf("the next one is due %v before it expires", fresh.ExpiresAt.Sub(due))
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

// An org key that expires takes all that it makes with it. Another key is of use only once there is
// another org key.
func TestAKeyThatExpiresWithItsOrgKeyIsNotReplacedAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	ends := w.Clock.Now().Add(90 * 24 * time.Hour)
	expiring(w, ends)
	list(t, w.Engine(), alice)
	last := time.Time{}
	for range 30 {
		s := slot(t, w, alice)
		if s.DueAt.IsZero() || !s.DueAt.Before(ends) { // what is left is for another org key
			break
		}
		w.Clock.Advance(s.DueAt.Sub(w.Clock.Now()) + time.Millisecond)
		reconcile(t, w.Engine())
		now := slot(t, w, alice)
		if now.Committed != s.Committed {
			if !last.IsZero() && w.Clock.Now().Sub(last) < 15*time.Minute {
				t.Errorf("the next key comes %v after the last one", w.Clock.Now().Sub(last))
			}
			last = w.Clock.Now()
		}
	}
	if n, left := creates(w), ends.Sub(w.Clock.Now()); n < 3 || n > 10 || left > time.Hour {
		t.Errorf("%d keys were made until %v before the end, and the slot is %+v", n, left, slot(t, w, alice))
	}
}

// Of an overlap that is longer than the new key lives nothing would be left to replace it in.
func TestAKeyRetiresBeforeTheNextOneIsReplaced(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	expiring(w, w.Clock.Now().Add(time.Hour))
	list(t, w.Engine(), alice)
	rotate(t, w, alice, 24*time.Hour)
	reconcile(t, w.Engine())
	s := slot(t, w, alice)
	if left := s.ExpiresAt.Sub(s.Retiring.At); left < 7*time.Minute || left > 15*time.Minute {
		t.Errorf("the key before it retires %v before the new one expires", left)
	}
	w.Clock.Advance(s.DueAt.Sub(w.Clock.Now()) + time.Millisecond)
	expiring(w, w.Clock.Now().Add(time.Hour))
	reconcile(t, w.Engine()) // which removes the one
	reconcile(t, w.Engine()) // and makes the other
	if now := slot(t, w, alice); now.Committed == s.Committed || !now.ExpiresAt.After(s.ExpiresAt) {
		t.Errorf("the slot is %+v", now)
	}
}

func TestAKeyThatExpiresIsLeftAloneWhereItCannotBeReplaced(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*managed.Config){
		"another key would not do what this one does": func(c *managed.Config) { c.Providers = []managed.Provider{irreplaceable{c.Providers[0]}} },
		"the provider is off":                         func(c *managed.Config) { c.Modes = map[string]managed.Mode{managedtest.Provider: managed.Off} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			expiring(w, w.Clock.Now().Add(time.Hour))
			list(t, w.Engine(), alice)
			w.Clock.Advance(55 * time.Minute)
			for range 2 {
				reconcile(t, w.EngineWith(change))
			}
			if s := slot(t, w, alice); s.Committed != 1 || !s.DueAt.IsZero() {
				t.Errorf("the slot is %+v", s)
			}
			if creates(w) != 1 {
				t.Errorf("%d keys were made", creates(w))
			}
		})
	}
	w := managedtest.New(t, managedtest.Options{})
	expiring(w, w.Clock.Now().Add(29*time.Minute))
	list(t, w.Engine(), alice)
	if s := slot(t, w, alice); !s.DueAt.IsZero() {
		t.Errorf("a key that lives for minutes waits: %+v", s)
	}
}

// The stored key serves while the third party makes no other, and the tries become rarer.
func TestAKeyThatCannotBeReplacedYetIsTriedAgainAndServes(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	ends := w.Clock.Now().Add(24 * time.Hour)
	expiring(w, ends)
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	w.Clock.Advance(slot(t, w, alice).DueAt.Sub(w.Clock.Now()) + time.Millisecond)
	expiring(w, ends.Add(24*time.Hour))
	rule := w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fake.Code("limit_exceeded")})
	for tries := range 4 {
		reconcile(t, w.Engine())
		s := slot(t, w, alice)
		if s.State != store.Ready || s.Committed != 1 || s.Tries != tries+1 || !s.DueAt.After(w.Clock.Now()) {
			t.Fatalf("after %d tries the slot is %+v", tries+1, s)
		}
		checkServe(t, w, alice, old)
		w.Clock.Advance(s.DueAt.Sub(w.Clock.Now()) + time.Millisecond)
	}
	w.Mail.RemoveFault(rule)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), old)
	w.Converge()
	w.CheckExactlyOne(alice)
}

// What a suspended user has is worked on once they are enabled.
func TestASuspendedUsersKeyThatExpiresIsReplacedOnceTheyAreEnabled(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	expiring(w, w.Clock.Now().Add(24*time.Hour))
	list(t, w.Engine(), alice)
	due := slot(t, w, alice).DueAt
	suspend(t, w, alice)
	w.Clock.Advance(due.Sub(w.Clock.Now()) + time.Millisecond)
	expiring(w, w.Clock.Now().Add(1000*24*time.Hour))
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); s.Committed != 1 || creates(w) != 1 {
		t.Errorf("the slot is %+v", s)
	}
	enable(t, w, alice)
	reconcile(t, w.Engine())
	if s := slot(t, w, alice); s.Committed == 1 {
		t.Errorf("the slot is %+v", s)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}
