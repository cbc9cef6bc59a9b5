package managed_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
)

// replacing is an engine whose users may have their key replaced, with this overlap.
func replacing(w *managedtest.World, overlap time.Duration) *managed.Engine {
	return w.EngineWith(func(c *managed.Config) { c.Replace = map[string]time.Duration{managedtest.Provider: overlap} })
}

// replace is what becomes of the user's wish for another key.
func replace(t *testing.T, e *managed.Engine, user string) managed.Replacement {
	t.Helper()
	r, err := e.Replace(t.Context(), user, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// standing is how the user's credential stands in a list.
func standing(t *testing.T, e *managed.Engine, user string) managed.Standing {
	t.Helper()
	l := list(t, e, user)
	if len(l.Standings) != 1 {
		t.Fatalf("the list is %+v", l)
	}
	return l.Standings[0]
}

func TestAUserHasTheirKeyReplaced(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	e := replacing(w, time.Hour)
	if s := standing(t, e, alice); !s.Replaceable || s.Overlap != time.Hour || s.Replacing || !s.RetireAt.IsZero() {
		t.Errorf("before, it stands so: %+v", s)
	}
	old := w.Key(alice)
	if r := replace(t, e, alice); r.Refused != "" || !r.Standing.Replacing || r.Standing.State != managed.StandingReady {
		t.Fatalf("asked, it is %+v", r)
	}
	checkServe(t, w, alice, old)
	if s := standing(t, e, alice); s.State != managed.StandingReady || s.Replaceable || !s.Replacing {
		t.Errorf("while another key is made, it stands so: %+v", s)
	}
	if r := replace(t, e, alice); r.Refused != managed.ReplaceUnderWay {
		t.Errorf("asked again, it is %+v", r)
	}
	if n := slot(t, w, alice).Attempt; n != 2 {
		t.Errorf("two wishes were noted: the attempt is %d", n)
	}
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	checkServe(t, w, alice, w.Key(alice), old)
	retires := slot(t, w, alice).Retiring.At
	if s := standing(t, e, alice); s.Replaceable || s.Replacing || !s.RetireAt.Equal(retires) {
		t.Errorf("in the overlap, it stands so: %+v", s)
	}
	if r := replace(t, e, alice); r.Refused != managed.ReplaceRetiring || !r.Standing.RetryAt.Equal(retires) {
		t.Errorf("asked in the overlap, it is %+v", r)
	}
	w.Converge()
	w.CheckExactlyOne(alice)
	if s := standing(t, e, alice); !s.Replaceable || s.Replacing || !s.RetireAt.IsZero() {
		t.Errorf("afterwards, it stands so: %+v", s)
	}
	if works(w, old) || !strings.Contains(w.Logs(), `"message":"a user has their key replaced"`) {
		t.Errorf("the old key works still, or it is not logged:\n%s", w.Logs())
	}
}

// Whoever asks again and again costs the third party a key each time.
func TestReplacingAgainHasAPause(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	e := replacing(w, 0)
	list(t, e, alice)
	pause := 10 * time.Minute
	for range 3 {
		from := w.Clock.Now().Add(pause)
		if r := replace(t, e, alice); r.Refused != "" {
			t.Fatalf("after the pause it is %+v", r)
		}
		w.Clock.Advance(time.Millisecond)
		reconcile(t, w.Engine())
		made := creates(w)
		w.Clock.Advance(from.Sub(w.Clock.Now()) - time.Second)
		r := replace(t, e, alice)
		if r.Refused != managed.ReplaceTooSoon || r.Standing.RetryAt.After(from) || r.Standing.RetryAt.Before(w.Clock.Now()) {
			t.Fatalf("in the pause it is %+v", r)
		}
		reconcile(t, w.Engine())
		if creates(w) != made {
			t.Error("in the pause another key was made")
		}
		w.Clock.Advance(time.Second)
		pause *= 2
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

// What a user removes and makes again, and what they replace, have one pause together.
func TestReplacingAndMakingAgainHaveOnePause(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	replace(t, replacing(w, 0), alice)
	w.Clock.Advance(time.Millisecond)
	reconcile(t, w.Engine())
	_, err := optional(w, managed.Auto).Retract(t.Context(), alice, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	reconcile(t, w.Engine())
	w.Clock.Advance(managed.LastLook + time.Millisecond)
	reconcile(t, w.Engine())
	if l := want(t, optional(w, managed.Auto), alice); has(l, alice) || stands(t, l) != managed.StandingOffered {
		t.Errorf("in the pause it is %+v", l)
	}
}

func TestOnlyWhatTheOwnerLetsUsersReplaceIsReplaced(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	before := w.Dump()
	off := func(c *managed.Config) { c.Modes = map[string]managed.Mode{managedtest.Provider: managed.Off} }
	allowed := func(c *managed.Config) { c.Replace = map[string]time.Duration{managedtest.Provider: 0, "github": 0} }
	for name, c := range map[string]struct {
		engine         *managed.Engine
		user, provider string
		want           error
	}{
		"not allowed": {w.Engine(), alice, managedtest.Provider, credential.ErrNotOffered},
		"off": {w.EngineWith(func(c *managed.Config) {
			allowed(c)
			off(c)
		}), alice, managedtest.Provider, credential.ErrNotOffered},
		"no such provider": {w.EngineWith(allowed), alice, "github", credential.ErrNotOffered},
		"who has none":     {w.EngineWith(allowed), bob, managedtest.Provider, credential.ErrNotFound},
	} {
		_, err := c.engine.Replace(t.Context(), c.user, c.provider)
		if !errors.Is(err, c.want) || w.Dump() != before {
			t.Errorf("%s: %v\n%s", name, err, w.Dump())
		}
	}
	if s := standing(t, w.Engine(), alice); s.Replaceable {
		t.Errorf("it is offered: %+v", s)
	}
	remove(t, w.Engine(), alice)
	_, err := w.EngineWith(allowed).Replace(t.Context(), alice, managedtest.Provider)
	if !errors.Is(err, credential.ErrAccountDeleted) {
		t.Errorf("of a deleted account: %v", err)
	}
}

func TestASuspendedUsersKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	suspend(t, w, alice)
	before := w.Dump()
	_, err := replacing(w, 0).Replace(t.Context(), alice, managedtest.Provider)
	if !errors.Is(err, credential.ErrAccountSuspended) || w.Dump() != before {
		t.Errorf("%v\n%s", err, w.Dump())
	}
}

func TestWhatIsNotAtRestIsNotReplacedAndSaysHowItStands(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.AgentMail, createPd, 1, first(func() {
		r, err := replacing(w, 0).Replace(context.Background(), alice, managedtest.Provider)
		if err != nil || r.Refused != managed.ReplaceNotReady || r.Standing.State != managed.StandingProvisioning {
			t.Errorf("while it is made: %v %+v", err, r)
		}
	}))
	list(t, w.Engine(), alice)
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Status(http.StatusBadRequest)})
	list(t, w.Engine(), bob)
	if r := replace(t, replacing(w, 0), bob); r.Refused != managed.ReplaceNotReady || r.Standing.State != managed.StandingFailed || r.Standing.RetryAt.IsZero() {
		t.Errorf("what has failed: %+v", r)
	}
	_, err := optional(w, managed.Auto).Retract(t.Context(), alice, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	if r := replace(t, replacing(w, 0), alice); r.Refused != managed.ReplaceNotReady || r.Standing.State != managed.StandingRetracting {
		t.Errorf("what is being removed: %+v", r)
	}
}

// Of two wishes at the same moment one is noted, with one pause.
func TestOfTwoWishesForAnotherKeyOneIsNoted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	inject(t, w.DynamoDB, update, 1, first(func() {
		r, err := replacing(w, time.Hour).Replace(context.Background(), alice, managedtest.Provider)
		if err != nil || r.Refused != "" {
			t.Errorf("the first: %v %+v", err, r)
		}
	}))
	if r := replace(t, replacing(w, time.Hour), alice); r.Refused != "" || !r.Standing.Replacing {
		t.Errorf("the second is %+v", r)
	}
	if s := slot(t, w, alice); s.Attempt != 2 || s.AskPause != 10*time.Minute {
		t.Errorf("the slot is %+v", s)
	}
}
