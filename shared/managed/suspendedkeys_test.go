package managed_test

import (
	"context"
	"errors"
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

// keysLive is how long a suspended user's keys live on in these tests.
const keysLive = 24 * time.Hour

// ending is a world in which the keys of suspended users are revoked in the end, and alice has an
// inbox in her pod.
func ending(t *testing.T) *managedtest.World {
	t.Helper()
	w := managedtest.New(t, managedtest.Options{SuspendedKeysLive: keysLive, OptOut: true})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	list(t, w.Engine(), alice)
	return w
}

// ended has alice suspended until her keys are revoked, and checks that nothing else is.
func ended(t *testing.T, w *managedtest.World) {
	t.Helper()
	suspend(t, w, alice)
	end(t, w)
}

// end is ended of alice who is suspended.
func end(t *testing.T, w *managedtest.World) {
	t.Helper()
	w.Converge()
	pod, there := w.Mail.Pod(alice)
	if !there || len(pod.Keys) != 0 || len(pod.Inboxes) != 1 {
		t.Fatalf("the pod has %+v\n%s", pod, w.Logs())
	}
	if s := slot(t, w, alice); !s.Disarmed() || s.Resource.ID == "" || s.Resource.KeyID != "" || s.Reason == store.ReasonSuspended {
		t.Fatalf("the slot is %+v", s)
	}
}

// again checks that alice has one key in the pod that she had.
func again(t *testing.T, w *managedtest.World, e *managed.Engine) {
	t.Helper()
	before, _ := w.Mail.Pod(alice)
	l := list(t, e, alice)
	w.Clock.Advance(time.Millisecond)
	now, _ := w.Mail.Pod(alice)
	if !has(l, alice) || now.ID != before.ID || len(now.Inboxes) != 1 || !works(w, w.Key(alice)) {
		t.Errorf("the list is %+v, and the pod has %+v\n%s", l, now, w.Logs())
	}
	w.Converge()
	w.CheckExactlyOne(alice)
}

func TestTheKeysOfASuspendedUserAreRevokedInTheEndAndNothingElse(t *testing.T) {
	t.Parallel()
	w := ending(t)
	key := w.Key(alice)
	suspend(t, w, alice)
	w.Clock.Advance(keysLive - time.Minute)
	reconcile(t, w.Engine())
	if !works(w, key) {
		t.Error("the key went before its time")
	}
	suspend(t, w, alice) // once more, which does not lengthen it
	w.Clock.Advance(2 * time.Minute)
	end(t, w)
	_, err := w.Engine().List(t.Context(), alice, "")
	if !errors.Is(err, credential.ErrAccountSuspended) {
		t.Errorf("the list: %v", err)
	}
	enable(t, w, alice)
	again(t, w, w.Engine())
	if w.Key(alice) == key {
		t.Error("it is the key that was revoked")
	}
}

// Whatever is under way, the keys go.
func TestWhateverIsUnderWayTheKeysOfASuspendedUserGo(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T, *managedtest.World){
		"a check": func(_ *testing.T, w *managedtest.World) { w.Report(alice) },
		"a rotation": func(t *testing.T, w *managedtest.World) {
			err := w.Engine().Rotate(t.Context(), order(alice, time.Hour))
			if err != nil {
				t.Fatal(err)
			}
		},
		"an overlap": func(t *testing.T, w *managedtest.World) {
			err := w.Engine().Rotate(t.Context(), order(alice, 720*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			reconcile(t, w.Engine())
			if pod, _ := w.Mail.Pod(alice); len(pod.Keys) != 2 {
				t.Fatalf("the pod has %+v", pod)
			}
		},
		"a create whose answer is lost": func(t *testing.T, w *managedtest.World) {
			w.RemoveKey(alice)
			w.Report(alice)
			reconcile(t, w.Engine())
			w.Clock.Advance(managed.LastLook + time.Millisecond)
			w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.LoseAnswer()})
			reconcile(t, w.Engine())
		},
		"a third party in trouble": func(_ *testing.T, w *managedtest.World) {
			w.Mail.Inject(fault.Rule{Op: fake.DeleteKey, Times: 3, Fault: fake.Status(500)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ending(t)
			begin(t, w)
			suspend(t, w, alice)
			w.Clock.Advance(keysLive)
			for range 6 {
				reconcile(t, w.Engine())
				w.Clock.Advance(time.Minute)
			}
			end(t, w)
			enable(t, w, alice)
			again(t, w, w.Engine())
		})
	}
}

// Who is enabled keeps their key, unless it is being revoked already: then that ends, and they get
// another one.
func TestWhoIsEnabledHasOneKeyHoweverFarItsRevocationIs(t *testing.T) {
	t.Parallel()
	for name, until := range map[string]func(*testing.T, *managedtest.World){
		"not yet":   func(*testing.T, *managedtest.World) {},
		"just then": func(_ *testing.T, w *managedtest.World) { w.Clock.Advance(keysLive) },
		"marked":    func(t *testing.T, w *managedtest.World) { w.Clock.Advance(keysLive); reconcile(t, w.Engine()) },
		"under way": func(t *testing.T, w *managedtest.World) {
			w.Clock.Advance(keysLive)
			reconcile(t, w.Engine())
			reconcile(t, w.Engine())
		},
		"looking": func(t *testing.T, w *managedtest.World) {
			w.Clock.Advance(keysLive)
			reconcile(t, w.Engine())
			w.Clock.Advance(time.Minute)
			reconcile(t, w.Engine())
		},
		"it is over": ended,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ending(t)
			key := w.Key(alice)
			suspend(t, w, alice)
			until(t, w)
			enable(t, w, alice)
			kept := works(w, key)
			w.Converge()
			again(t, w, w.Engine())
			if works(w, key) != kept && name != "marked" {
				t.Errorf("the key of before worked: %v, and works: %v", kept, works(w, key))
			}
		})
	}
}

// A claim that works while its user is suspended for so long finds that it is lost.
func TestAWorkerIsOvertakenByTheEndOfASuspendedUsersKeys(t *testing.T) {
	t.Parallel()
	w := ending(t)
	w.Report(alice)
	w.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
		if !strings.HasSuffix(c.URL.Path, "/api-keys") {
			return nil
		}
		w.AgentMail.SetHook(nil)
		err := w.Store.Suspend(context.Background(), alice, store.Suspension{By: store.ByOperator, KeysEnd: w.Clock.Now()})
		if err != nil {
			t.Error(err)
		}
		reconcile(t, w.Engine())
		return nil
	})
	reconcile(t, w.Engine())
	w.Clock.Advance(2 * time.Minute)
	end(t, w)
}

func TestADeletionFindsWhatASuspensionLeft(t *testing.T) {
	t.Parallel()
	w := ending(t)
	ended(t, w)
	remove(t, w.Engine(), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

// What its user gives up goes, also what a suspension has left.
func TestWhatASuspensionLeftCanBeGivenUp(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T, *managedtest.World){
		"before": func(t *testing.T, w *managedtest.World) {
			retract(t, w)
			suspend(t, w, alice)
			w.Converge()
		},
		"while the keys go": func(t *testing.T, w *managedtest.World) {
			suspend(t, w, alice)
			w.Clock.Advance(keysLive)
			reconcile(t, w.Engine())
			enable(t, w, alice)
			retract(t, w)
		},
		"after that": func(t *testing.T, w *managedtest.World) {
			ended(t, w)
			enable(t, w, alice)
			retract(t, w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ending(t)
			begin(t, w)
			w.Converge()
			if s := slot(t, w, alice); s.State != store.Off || s.RetractedBy != store.ByUser {
				t.Errorf("the slot is %+v", s)
			}
			w.CheckNoPod(alice)
		})
	}
}

func retract(t *testing.T, w *managedtest.World) {
	t.Helper()
	s, err := w.Engine().Retract(t.Context(), alice, managedtest.Provider)
	if err != nil || s.State != managed.StandingRetracting {
		t.Fatalf("it stands at %+v, %v", s, err)
	}
	w.Clock.Advance(time.Millisecond)
}

// Nothing is revoked under a worker that goes by another wish.
func TestWhatIsWorkedOnIsNotGivenUp(t *testing.T) {
	t.Parallel()
	w := ending(t)
	suspend(t, w, alice)
	w.Clock.Advance(keysLive)
	reconcile(t, w.Engine())
	enable(t, w, alice)
	var s managed.Standing
	w.AgentMail.SetHook(func(*fault.Call) fault.Fault {
		w.AgentMail.SetHook(nil)
		var err error
		s, err = w.Engine().Retract(context.Background(), alice, managedtest.Provider)
		if err != nil {
			t.Error(err)
		}
		return nil
	})
	reconcile(t, w.Engine())
	if s.State != managed.StandingProvisioning {
		t.Errorf("it stands at %+v", s)
	}
	w.Converge()
	again(t, w, w.Engine())
}

// What was read before the user gave it up is not claimed after that: only keys would go.
func TestWhatIsGivenUpBetweenALookAndItsClaimGoesWhole(t *testing.T) {
	t.Parallel()
	w := ending(t)
	suspend(t, w, alice)
	w.Clock.Advance(keysLive)
	reconcile(t, w.Engine())
	enable(t, w, alice)
	reconcile(t, w.Engine())
	w.Clock.Advance(managed.LastLook + time.Millisecond) // the last look at the keys is due
	given := false
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "UpdateItem" && !given { // the claim
			given = true
			retract(t, w)
		}
		return nil
	})
	reconcile(t, w.Engine())
	w.Converge()
	if s := slot(t, w, alice); !given || s.State != store.Off || s.RetractedBy != store.ByUser {
		t.Errorf("the slot is %+v", s)
	}
	w.CheckNoPod(alice)
}

// Whoever had one has one made again, also where nobody else gets one.
func TestWhoeverWasSuspendedHasTheirKeyMadeAgainInEveryModeThatKeeps(t *testing.T) {
	t.Parallel()
	for _, mode := range []managed.Mode{managed.OnDemand, managed.Frozen} {
		w := ending(t)
		ended(t, w)
		enable(t, w, alice)
		again(t, w, in(w, mode))
	}
}

// A draining removes what a suspension has left, once the user is enabled.
func TestADrainingRemovesWhatASuspensionLeft(t *testing.T) {
	t.Parallel()
	w := ending(t)
	ended(t, w)
	drain(t, w)
	drainsOn(t, w, 0)
	rounds(t, w)
	s := drainsOn(t, w, 0)
	if s.UnderWay == nil || s.UnderWay.Found == nil || s.UnderWay.Found.Suspended != 1 || s.UnderWay.Found.Removed != 0 {
		t.Errorf("it stands at %+v", s)
	}
	enable(t, w, alice)
	if l := list(t, in(w, managed.Draining), alice); has(l, alice) {
		t.Errorf("the list is %+v", l)
	}
	run := untilDrained(t, w, 0)
	if run == nil || run.Found.Removed != 1 {
		t.Errorf("it ends with %+v", run)
	}
	w.CheckNoPod(alice)
}

// Where the key does not go without all that is in its resource, it stays.
func TestAKeyThatIsItsResourceOutlivesASuspension(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{
		SuspendedKeysLive: keysLive,
		Providers: func(url string) []managed.Provider {
			return []managed.Provider{irreplaceable{managedtest.AgentMail(t, url, managedtest.Provider)}}
		},
	})
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	suspend(t, w, alice)
	w.Converge()
	if s := slot(t, w, alice); s.State != store.Ready || !works(w, key) {
		t.Errorf("the slot is %+v", s)
	}
}

// The owner may think better of it.
func TestWhereNoTimeIsSetAnyMoreTheKeysLiveOn(t *testing.T) {
	t.Parallel()
	w := ending(t)
	key := w.Key(alice)
	suspend(t, w, alice)
	w.Clock.Advance(keysLive)
	reconcile(t, w.EngineWith(func(c *managed.Config) { c.SuspendedKeysLive = 0 }))
	w.Converge()
	if s := slot(t, w, alice); s.State != store.Ready || !works(w, key) {
		t.Errorf("the slot is %+v", s)
	}
}

// A slot that cannot be read, or whose provider's settings are wrong, is for later.
func TestWhatCannotBeRevokedYetIsRevokedLater(t *testing.T) {
	t.Parallel()
	w := ending(t)
	key := w.Key(alice)
	suspend(t, w, alice)
	w.Clock.Advance(keysLive)
	reconcile(t, w.EngineWith(func(c *managed.Config) {
		c.Providers, c.Faults = nil, map[string]error{managedtest.Provider: errors.New("a setting is wrong")}
	}))
	if !works(w, key) {
		t.Fatal("the key is gone")
	}
	end(t, w)
}

// What stays of a user whose keys were revoked is nothing that an audit finds.
func TestAnAuditKnowsWhatASuspensionLeft(t *testing.T) {
	t.Parallel()
	w := ending(t)
	ended(t, w)
	enable(t, w, alice)
	longAgo(w)
	r := audit(t, w, true)
	if len(r.Findings) != 0 {
		t.Errorf("it finds %+v", r.Findings)
	}
}
