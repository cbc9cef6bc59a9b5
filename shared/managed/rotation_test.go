package managed_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/provider/openrouter"
	"managed-credentials/shared/store"
)

// rotate asks for another key for the user, and expects no error.
func rotate(t *testing.T, w *managedtest.World, user string, overlap time.Duration) {
	t.Helper()
	err := w.Engine().Rotate(t.Context(), order(user, overlap))
	if err != nil {
		t.Fatalf("asking for a rotation: %v", err)
	}
	w.Clock.Advance(time.Millisecond)
}

func order(user string, overlap time.Duration) managed.Rotation {
	return managed.Rotation{User: user, Provider: managedtest.Provider, Overlap: overlap, Order: managed.Order{By: "the operator", Reason: "a drill"}}
}

// works reports whether AgentMail accepts a key.
func works(w *managedtest.World, key credential.Secret) bool {
	_, _, ok := w.Mail.Identify(key.Reveal())
	return ok
}

// checkServe fails the test unless these and no others of the user's keys work, of which the first
// is stored.
func checkServe(t *testing.T, w *managedtest.World, user string, keys ...credential.Secret) {
	t.Helper()
	pod, _ := w.Mail.Pod(user)
	for i, key := range keys {
		if !works(w, key) {
			t.Fatalf("key %d of %d does not work: %+v\n%s", i+1, len(keys), pod, w.Logs())
		}
	}
	if len(pod.Keys) != len(keys) || w.Key(user) != keys[0] {
		t.Fatalf("of %d keys the slot does not store the first: %+v, %+v\n%s", len(keys), pod, slot(t, w, user), w.Logs())
	}
}

// inOverlap is a world in which alice has two keys: that of before serves for an hour more.
func inOverlap(t *testing.T) *managedtest.World {
	t.Helper()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	rotate(t, w, alice, time.Hour)
	reconcile(t, w.Engine())
	return w
}

func TestARotatedKeyServesBesideTheNewOneUntilItsOverlapIsOver(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	rotate(t, w, alice, time.Hour)
	if l := list(t, w.Engine(), alice); !has(l, alice) || w.Key(alice) != old {
		t.Error("until there is another one, the key is not listed")
	}
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), old)
	s := slot(t, w, alice)
	if s.Retiring.Attempt != 1 || !s.Retiring.At.Equal(s.DueAt) || !s.Settled() || s.Rotates || w.Key(alice) == old {
		t.Errorf("the slot is %+v", s)
	}
	if !strings.Contains(w.Logs(), `"message":"rotation","audit":true,"by":"the operator","reason":"a drill"`) {
		t.Errorf("it is not on record:\n%s", w.Logs())
	}
	longAgo(w)
	if r := audit(t, w, false); len(r.Findings) != 0 {
		t.Errorf("an audit finds %+v", r.Findings)
	}
	w.Report(alice) // a check in between keeps both, and the time
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), old)
	if now := slot(t, w, alice); now.Retiring != s.Retiring || !now.DueAt.Equal(s.DueAt) {
		t.Errorf("after a check the slot is %+v", now)
	}
	w.Clock.Advance(time.Hour)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice))
	if s := slot(t, w, alice); s.Retiring != (store.Retiring{}) || !s.DueAt.IsZero() {
		t.Errorf("after the overlap the slot is %+v", s)
	}
	w.CheckExactlyOne(alice)
}

func TestARotationThatFailsLeavesTheKeyAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*managedtest.World, string){
		"no key": func(w *managedtest.World, _ string) {
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Status(500)})
		},
		"a lost answer": func(w *managedtest.World, _ string) {
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.Drop()})
		},
		"no list": func(w *managedtest.World, _ string) {
			w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Times: 5, Fault: fake.Status(403)})
		},
		"no KMS": func(w *managedtest.World, _ string) {
			w.KMS.SetHook(func(c *fault.Call) fault.Fault {
				if c.Op == "Encrypt" {
					return fault.AWSError(400, "DisabledException", "switched off")
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			old := w.Key(alice)
			rotate(t, w, alice, time.Hour)
			spoil(w, alice)
			reconcile(t, w.Engine())
			s := slot(t, w, alice)
			if s.State != store.Ready || !s.Rotates || s.DueAt.IsZero() || w.Key(alice) != old || !works(w, old) {
				t.Errorf("the slot is %+v", s)
			}
			if l := list(t, w.Engine(), alice); !has(l, alice) || stands(t, l) != managed.StandingReady {
				t.Errorf("the list is %+v", l)
			}
			w.Converge()
			w.CheckExactlyOne(alice)
			if w.Key(alice) == old {
				t.Error("the key was never replaced")
			}
		})
	}
}

func TestWithoutAnOverlapTheOldKeyGoesAtOnce(t *testing.T) {
	t.Parallel()
	w := inOverlap(t)
	second := w.Key(alice)
	err := w.Engine().Rotate(t.Context(), order(alice, time.Minute))
	if !errors.Is(err, managed.ErrRetiring) {
		t.Errorf("with two keys there, a third one: %v", err)
	}
	rotate(t, w, alice, 0) // one that has leaked: neither of the two is to stay
	reconcile(t, w.Engine())
	third := w.Key(alice)
	checkServe(t, w, alice, third, second)
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, third)
	w.CheckExactlyOne(alice)
}

// Who asked has a clock that is ahead, so that the key seems to serve still when the slot is worked
// on: what it names as retiring must not be overwritten while it is there.
func TestARetiringKeyIsNotForgottenByAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	w := inOverlap(t)
	second := w.Key(alice)
	ahead := w.EngineAt(func() time.Time { return w.Clock.Now().Add(5 * time.Second) })
	err := ahead.Rotate(t.Context(), order(alice, 0))
	if err != nil {
		t.Fatal(err)
	}
	w.Report(alice) // by somebody whose clock is not
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), second)
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestADeletionInTheOverlapLeavesNeitherKey(t *testing.T) {
	t.Parallel()
	w := inOverlap(t)
	remove(t, w.Engine(), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestADeletionInTheOverlapLeavesNeitherKeyWhereThereIsNoContainer(t *testing.T) {
	t.Parallel()
	w, router, _ := withOpenRouter(t)
	list(t, w.Engine(), alice)
	r := order(alice, time.Hour)
	r.Provider = openrouter.Name
	err := w.Engine().Rotate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	if keys := keysOf(router, alice); len(keys) != 2 {
		t.Fatalf("in the overlap the keys are %v", keys)
	}
	remove(t, w.Engine(), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
	if keys := keysOf(router, alice); len(keys) != 0 {
		t.Errorf("I2: the keys %v are left", keys)
	}
}

// The slot's resource names one key, and there are two.
func TestADeletionInTheOverlapHasTheProviderLookForMore(t *testing.T) {
	t.Parallel()
	p := &party{}
	w := partyWorld(t, p, false)
	list(t, w.Engine(), alice)
	rotate(t, w, alice, time.Hour)
	p.sweep = func(context.Context, *managed.Attempt) error { return nil }
	reconcile(t, w.Engine())
	if slot(t, w, alice).Retiring.KeyID == "" {
		t.Fatalf("the slot is %+v", slot(t, w, alice))
	}
	looked := false
	p.revoke = func(_ context.Context, a *managed.Attempt) error {
		looked = looked || a.Inherited()
		a.Accounted()
		return nil
	}
	remove(t, w.Engine(), alice)
	if !looked || slot(t, w, alice).Retiring.KeyID != "" {
		t.Errorf("it was to look for more: %t; the slot is %+v", looked, slot(t, w, alice))
	}
}

func TestAKeyThatGoesInTheOverlapIsMadeAnewAndTheRetiringOneGivenUp(t *testing.T) {
	t.Parallel()
	w := inOverlap(t)
	w.RemoveKey(alice)
	w.Report(alice)
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	w.Clock.Advance(managed.LastLook)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice))
	w.Converge()
	w.CheckExactlyOne(alice)
}

// Who has read the slot before the rotation was asked for would overlook it.
func TestARotationIsNotOverlookedByWhoReadTheSlotBefore(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	old := w.Key(alice)
	w.Report(alice)
	w.Clock.Advance(time.Millisecond)
	inject(t, w.DynamoDB, transact, 1, first(func() { rotate(t, w, alice, time.Hour) }))
	reconcile(t, w.Engine())
	w.DynamoDB.SetHook(nil)
	if s := slot(t, w, alice); !s.Rotates || s.DueAt.IsZero() || s.Owner != "" {
		t.Errorf("the slot is %+v", s)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
	if w.Key(alice) == old {
		t.Error("the key was never replaced")
	}
}

func TestFenced_AKeyThatTheSlotNamesAsRetiringIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	rotate(t, w, alice, time.Second)
	var second credential.Secret
	// The commit takes effect, its answer is lost, and before the repeat the overlap has ended and
	// another rotation is done: the slot stores another key, and names mine as retiring.
	inject(t, w.DynamoDB, update, 1, func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		_, err := c.Forward(ctx)
		if err != nil {
			return nil, err
		}
		w.DynamoDB.SetHook(nil)
		second = w.Key(alice)
		w.Clock.Advance(time.Second)
		reconcile(t, w.Engine())
		rotate(t, w, alice, time.Hour)
		reconcile(t, w.Engine())
		return fault.Drop()(ctx, c)
	})
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), second)
	if !strings.Contains(w.Logs(), "the claim was lost") {
		t.Errorf("it never learnt that it had lost its claim:\n%s", w.Logs())
	}
}

func TestOnlyAReadyCredentialAtRestIsRotated(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	e := w.Engine()
	refused := func(r managed.Rotation, want error) {
		t.Helper()
		err := e.Rotate(t.Context(), r)
		if !errors.Is(err, want) {
			t.Errorf("of %s at %s: %v, want %v", r.User, r.Provider, err, want)
		}
	}
	refused(order(alice, 0), credential.ErrNotFound)
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.Drop()})
	list(t, e, alice)
	refused(order(alice, 0), managed.ErrNotAtRest) // it is being set up
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.LoseAnswer()})
	list(t, e, bob)
	refused(order(bob, 0), managed.ErrNotAtRest) // what was sent may still take effect
	w.Converge()
	unknown := order(bob, 0)
	unknown.Provider = "nobody"
	refused(unknown, credential.ErrNoProvider)
	err := w.EngineWith(deaf).Rotate(t.Context(), order(bob, 0))
	if err == nil || slot(t, w, bob).Rotates {
		t.Errorf("it is not on record, and was asked for: %v", err)
	}
	remove(t, e, bob)
	refused(order(bob, 0), credential.ErrAccountDeleted)
}

// What docs/scale.md reckons with.
func TestARotationCostsWhatItMay(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	reconcile(t, w.Engine()) // after which the process knows its org key
	rotate(t, w, alice, time.Hour)
	for _, pass := range []struct {
		name         string
		table, third []string
	}{
		// What is read of the deployment, and asked about the org key, is once in a process.
		{"the new key", []string{batchGet, transact, batchGet, update}, []string{"GET api-keys", "GET me", "POST pods", "GET api-keys", "POST api-keys"}},
		{"the old one", []string{batchGet, transact, batchGet, update}, []string{"GET api-keys", "DELETE " + slot(t, w, alice).Resource.KeyID}},
	} {
		w.DynamoDB.Reset()
		w.AgentMail.Reset()
		reconcile(t, w.Engine())
		index := func(op string) bool { return op == query } // of all due work at once
		if got := slices.DeleteFunc(ops(w.DynamoDB), index); !slices.Equal(got, pass.table) {
			t.Errorf("%s: DynamoDB calls: %v", pass.name, got)
		}
		var third []string
		for _, op := range ops(w.AgentMail) {
			third = append(third, op[:strings.Index(op, " ")+1]+op[strings.LastIndex(op, "/")+1:])
		}
		if !slices.Equal(third, pass.third) {
			t.Errorf("%s: AgentMail calls: %v", pass.name, third)
		}
		w.Clock.Advance(time.Hour)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}
