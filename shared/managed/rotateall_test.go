package managed_test

import (
	"context"
	"errors"
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

// rotationJob is the key of the job of AgentMail's rotations.
var rotationJob = store.Key{PK: "JOB", SK: "ROTATION#" + managedtest.Provider}

// rotateAll begins a rotation of all keys, and expects no error.
func rotateAll(t *testing.T, w *managedtest.World, overlap time.Duration) {
	t.Helper()
	s, err := w.Engine().RotateAll(t.Context(), allOf(overlap))
	if err != nil || s.UnderWay == nil {
		t.Fatalf("%v, it stands at %+v", err, s)
	}
}

func allOf(overlap time.Duration) managed.RotationOfAll {
	return managed.RotationOfAll{Provider: managedtest.Provider, Overlap: overlap, Order: managed.Order{By: "the operator", Reason: "a leak"}}
}

// rotations is one invocation by the schedule, five minutes after the last one, of an engine that
// asks for so many at once; 0 for as many as it likes.
func rotations(t *testing.T, w *managedtest.World, most int) managed.RotationStatus {
	t.Helper()
	w.Clock.Advance(5 * time.Minute)
	e := w.EngineWith(func(c *managed.Config) { c.MostAskedDue = most })
	all, err := e.RotationsDue(t.Context())
	if err != nil || len(all) != 1 || all[0].Provider != managedtest.Provider {
		t.Fatalf("%v, the rotations stand at %+v\n%s", err, all, w.Logs())
	}
	w.Clock.Advance(time.Millisecond)
	return all[0]
}

// untilRotated lets the schedule and reconcile go on until the rotation has ended.
func untilRotated(t *testing.T, w *managedtest.World) *managed.RotationRun {
	t.Helper()
	for range 10 {
		s := rotations(t, w, 0)
		if s.UnderWay == nil {
			return s.Ended
		}
		reconcile(t, w.Engine())
	}
	t.Fatalf("it does not end:\n%s\n%s", w.Dump(), w.Logs())
	return nil
}

func TestAllKeysOfAProviderAreReplaced(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 110 // more than a page of the table
	old := map[string]credential.Secret{}
	for i := range users {
		user := fmt.Sprintf("user-%03d", i)
		list(t, w.Engine(), user)
		old[user] = w.Key(user)
	}
	remove(t, w.Engine(), "user-001")
	w.Clock.Advance(time.Millisecond)
	rotateAll(t, w, 0)
	all, err := w.Engine().RotationsDue(t.Context())
	if err != nil || all[0].UnderWay.Asked != 0 || slot(t, w, "user-000").Rotates {
		t.Error("it asks while clocks that are apart may take what it makes for a key from before")
	}
	s := rotations(t, w, 0)
	if r := s.UnderWay; r == nil || r.Asked != users-1 || r.Passes != 1 || r.Left != users-1 || r.Met != 0 || r.Stopped != "" {
		t.Fatalf("after a pass it stands at %+v", r)
	}
	list(t, w.Engine(), alice) // who comes now has a new key
	reconcile(t, w.Engine())
	s = rotations(t, w, 0)
	if r := s.UnderWay; r == nil || r.Asked != users-1 || r.Left != users-1 {
		t.Fatalf("while the old keys serve it stands at %+v", r)
	}
	reconcile(t, w.Engine())
	s = rotations(t, w, 0)
	if r := s.Ended; s.UnderWay != nil || r.Asked != users-1 || r.Passes != 3 || r.Left != 0 || r.By != "the operator" || !r.EndedAt.After(r.BegunAt) {
		t.Errorf("in the end it stands at %+v", s)
	}
	delete(old, "user-001")
	for user, key := range old {
		if works(w, key) {
			t.Fatalf("the old key of %s works still", user)
		}
		checkServe(t, w, user, w.Key(user))
	}
	if slot(t, w, alice).Attempt != 1 {
		t.Error("a key from after the beginning was replaced")
	}
	if n := strings.Count(w.Logs(), `"RotationsOfAllEnded":1`); n != 1 {
		t.Errorf("its end is counted %d times", n)
	}
	if !strings.Contains(w.Logs(), `"message":"rotation of all keys","audit":true,"by":"the operator","reason":"a leak"`) {
		t.Error("it is not on record")
	}
	before := w.Dump()
	rotations(t, w, 0)
	if w.Dump() != before {
		t.Error("one that has ended goes on")
	}
	w.Converge()
	w.CheckNothingLeft("user-001")
}

func TestAWalkAsksForNoMoreThanIsDoneSoon(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 110 // more than a page of the table
	for i := range users {
		list(t, w.Engine(), fmt.Sprintf("user-%03d", i))
	}
	w.Clock.Advance(time.Millisecond)
	rotateAll(t, w, time.Hour)
	first := rotations(t, w, 60).UnderWay
	if first.Asked < 60 || first.Asked == users || first.Met != first.Asked || first.Passes != 0 {
		t.Fatalf("the first page has more than there is room for, and it stands at %+v", first)
	}
	if r := rotations(t, w, 60).UnderWay; r.Asked != first.Asked {
		t.Fatalf("while these are due it asks for more: %+v", r)
	}
	w.AgentMail.SetHook(func(c *fault.Call) fault.Fault { // which a third party in trouble holds up
		if strings.HasSuffix(c.Op, "/api-keys") {
			return fault.Respond(500, nil, nil)
		}
		return nil
	})
	reconcile(t, w.Engine())
	w.AgentMail.SetHook(nil)
	for range 20 {
		s := rotations(t, w, 60)
		if s.UnderWay == nil {
			if s.Ended.Asked != users {
				t.Errorf("it has asked for %d of %d", s.Ended.Asked, users)
			}
			return
		}
		reconcile(t, w.Engine())
	}
	t.Fatal("it does not end")
}

func TestOneRotationOfAllKeysAtATime(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	e := w.Engine()
	unknown := allOf(0)
	unknown.Provider = "nobody"
	_, err := e.RotateAll(t.Context(), unknown)
	if !errors.Is(err, credential.ErrNoProvider) {
		t.Errorf("of nobody: %v", err)
	}
	_, err = w.EngineWith(deaf).RotateAll(t.Context(), allOf(0))
	if all, _ := e.Rotations(t.Context()); err == nil || len(all) != 1 || all[0].UnderWay != nil {
		t.Errorf("it is not on record, and was begun: %v, %+v", err, all)
	}
	_, err = e.EndRotation(t.Context(), managedtest.Provider, managed.Order{By: "me", Reason: "no"})
	if !errors.Is(err, managed.ErrNoRotation) {
		t.Errorf("ended before there was one: %v", err)
	}
	rotateAll(t, w, 8*time.Hour)
	begun := w.Clock.Now().UTC().Format(time.RFC3339)
	_, err = e.RotateAll(t.Context(), allOf(0))
	var conflict *credential.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(conflict.Detail, "since "+begun+", for the operator (a leak), with an overlap of 8h0m0s") {
		t.Errorf("a second one beside it: %v", err)
	}
	s, err := e.EndRotation(t.Context(), managedtest.Provider, managed.Order{By: "me", Reason: "the wrong overlap"})
	if err != nil || s.UnderWay != nil || s.Ended.Stopped != "ended by me: the wrong overlap" {
		t.Errorf("ended: %v, it stands at %+v", err, s)
	}
	rotateAll(t, w, 0)
	untilRotated(t, w)
	w.Converge()
	w.CheckExactlyOne(alice)
}

// Two who begin one at once, of whom both have seen that there is none.
func TestOfTwoRotationsOfAllKeysThatBeginAtOnceOneDoes(t *testing.T) {
	t.Parallel()
	for _, before := range []struct {
		op  string
		nth int
	}{{update, 1}, {batchGet, 2}} { // its claim of the job, and its look at what it claims
		w := managedtest.New(t, managedtest.Options{})
		var inner error
		inject(t, w.DynamoDB, before.op, before.nth, first(func() {
			w.DynamoDB.SetHook(nil)
			_, inner = w.Engine().RotateAll(context.Background(), allOf(time.Hour))
		}))
		_, err := w.Engine().RotateAll(t.Context(), allOf(0))
		var conflict *credential.ConflictError
		if inner != nil || !errors.As(err, &conflict) {
			t.Errorf("before %s, the first: %v, the second: %v", before.op, inner, err)
		}
		all, err := w.Engine().Rotations(t.Context())
		if err != nil || all[0].UnderWay.Overlap != "1h0m0s" {
			t.Errorf("before %s: %v, it stands at %+v", before.op, err, all)
		}
	}
}

func TestWhatIsBeingWorkedOnIsReplacedLater(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]func(*testing.T, *managedtest.World){
		// Whose claim is from before and has not ended: its key may be stored when the walk has
		// passed.
		"a first key under way": func(t *testing.T, w *managedtest.World) {
			inject(t, w.KMS, "Encrypt", 1, first(func() {
				w.Clock.Advance(time.Millisecond)
				rotateAll(t, w, 0)
				w.Clock.Advance(store.SkewMargin + time.Millisecond)
				passes(t, w, 1)
			}))
			list(t, w.Engine(), alice)
		},
		"what was sent may still take effect": func(t *testing.T, w *managedtest.World) {
			w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.LoseAnswer()})
			list(t, w.Engine(), alice)
			w.Clock.Advance(time.Millisecond)
			rotateAll(t, w, 0)
			w.Clock.Advance(store.SkewMargin + time.Millisecond)
			passes(t, w, 1)
		},
		"somebody is faster": func(t *testing.T, w *managedtest.World) {
			list(t, w.Engine(), alice)
			w.Clock.Advance(time.Millisecond)
			rotateAll(t, w, 0)
			w.Clock.Advance(store.SkewMargin + time.Millisecond)
			inject(t, w.DynamoDB, update, 2, first(func() { // the walk's
				w.DynamoDB.SetHook(nil)
				s := slot(t, w, alice)
				_, err := w.Store.Claim(context.Background(), []store.Slot{s}, s.State, w.Clock.Now().Add(time.Minute))
				if err != nil {
					t.Error(err)
				}
			}))
			passes(t, w, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			busy(t, w)
			old := w.Key(alice)
			s := slot(t, w, alice)
			if s.Rotates {
				t.Fatalf("the slot is %+v", s)
			}
			untilRotated(t, w)
			if works(w, old) {
				t.Error("the key from before works still")
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

// passes has the walk go on now, and expects that it has met so many keys from before.
func passes(t *testing.T, w *managedtest.World, left int) {
	t.Helper()
	all, err := w.Engine().RotationsDue(context.Background())
	if err != nil || all[0].UnderWay == nil || all[0].UnderWay.Left != left {
		t.Errorf("%v, it stands at %+v", err, all)
	}
}

// A wish from before the leak was known would have the leaked key serve on.
func TestARotationOfAllKeysEndsALongerOverlap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after   func(*testing.T, *managedtest.World)
		attempt int64 // of which each wish takes one, and each claim
	}{
		"that was asked for": {func(*testing.T, *managedtest.World) {}, 4},
		"that has begun":     {func(t *testing.T, w *managedtest.World) { reconcile(t, w.Engine()) }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			old := w.Key(alice)
			rotate(t, w, alice, 24*time.Hour)
			rotateAll(t, w, 0)
			w.Clock.Advance(time.Millisecond)
			c.after(t, w)
			untilRotated(t, w)
			if works(w, old) {
				t.Errorf("the key from before works still, and the slot is %+v", slot(t, w, alice))
			}
			if n := slot(t, w, alice).Committed; n != c.attempt {
				t.Errorf("the key is that of attempt %d, want %d", n, c.attempt)
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

func TestAWalkThatDiedIsTakenOverAndAsksNobodyTwice(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 3)
	w.Clock.Advance(time.Millisecond)
	rotateAll(t, w, 0)
	job, err := w.Store.Job(t.Context(), rotationJob.SK)
	if err != nil {
		t.Fatal(err)
	}
	// It has asked all, and notes it when another one has gone on.
	w.Clock.Advance(time.Minute)
	inject(t, w.DynamoDB, update, 5, first(func() {
		w.DynamoDB.SetHook(nil)
		if s := rotations(t, w, 0); s.UnderWay == nil || s.UnderWay.Asked != 0 || s.UnderWay.Left != 3 {
			t.Errorf("the one that takes over stands at %+v", s.UnderWay)
		}
		reconcile(t, w.Engine())
	}))
	_, err = w.Engine().RotationsDue(t.Context())
	if !errors.Is(err, store.ErrLost) {
		t.Errorf("the one that was given up: %v", err)
	}
	now, err := w.Store.Job(t.Context(), job.Name)
	if err != nil || now.Attempt != job.Attempt+2 {
		t.Errorf("%v, the job is %+v", err, now)
	}
	untilRotated(t, w)
	for _, key := range w.Mail.Pods() {
		if n := slot(t, w, key.ClientID).Committed; n != 3 { // made by the first claim, asked for by the second, and made by the third
			t.Errorf("%s was asked %d times", key.ClientID, n)
		}
	}
}

func TestAWalkThatCannotReadTheTableSaysSo(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Clock.Advance(time.Millisecond)
	rotateAll(t, w, 0)
	for _, op := range []string{"Scan", "Query"} {
		w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op == op {
				return fault.Respond(500, nil, nil)
			}
			return nil
		})
		if r := rotations(t, w, 0).UnderWay; r == nil || r.Stopped == "" || r.Passes != 0 {
			t.Errorf("%s fails, and it stands at %+v", op, r)
		}
	}
	w.DynamoDB.SetHook(nil)
	if r := untilRotated(t, w); r.Stopped != "" || r.Asked != 1 {
		t.Errorf("in the end it stands at %+v", r)
	}
}

func TestAWalkBeginsItsPassAnewWhereItsPlaceIsNotKnown(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 3)
	rotateAll(t, w, 0)
	w.SetItem(rotationJob, map[string]types.AttributeValue{"cursor": &types.AttributeValueMemberS{Value: "2:of another version"}})
	if r := rotations(t, w, 0).UnderWay; r == nil || r.Asked != 3 || r.Left != 3 {
		t.Errorf("it stands at %+v", r)
	}
}

// The version before knows of no wish: its sweep takes the slot out of the index.
func TestAWishThatWasDroppedIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Clock.Advance(time.Millisecond)
	rotateAll(t, w, 0)
	rotations(t, w, 0)
	w.SetItem(store.SlotKey(alice, managedtest.Provider), map[string]types.AttributeValue{"due_at": nil, "due_shard": nil})
	if r := rotations(t, w, 0).UnderWay; r == nil || r.Asked != 2 {
		t.Errorf("it stands at %+v", r)
	}
	untilRotated(t, w)
	w.Converge()
	w.CheckExactlyOne(alice)
}
