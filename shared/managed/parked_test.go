package managed_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// parkedWorld is one in which the revocation of alice's credential is parked: AgentMail's org key has been taken away.
func parkedWorld(t *testing.T) *managedtest.World {
	t.Helper()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	w.SetOrgKeys(`{}`)
	remove(t, w.Engine(), alice)
	return w
}

func TestParkedRevocationsAreListed(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	all, more, err := w.Engine().Parked(t.Context())
	if err != nil || more || len(all) != 1 {
		t.Fatalf("%v %v %+v", err, more, all)
	}
	s := slot(t, w, alice)
	want := managed.ParkedRevocation{User: alice, Provider: managedtest.Provider, Resource: s.Resource.ID,
		Reason: "no org key is configured", RetryAt: s.DueAt}
	if all[0] != want {
		t.Errorf("got %+v, want %+v", all[0], want)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	all, more, err = w.Engine().Parked(short)
	if err != nil || !more || len(all) > 0 {
		t.Errorf("without time for all: %v %v %+v", err, more, all)
	}
}

func TestAParkedRevocationIsForcedOnRecord(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	err := w.Engine().Force(t.Context(), alice, managedtest.Provider, "Ops", "removed in the console")
	if err != nil {
		t.Fatal(err)
	}
	if s := slot(t, w, alice); s.State != store.Absent {
		t.Errorf("the slot is %+v", s)
	}
	for _, want := range []string{`"audit":true,"by":"Ops","reason":"removed in the console","user":"alice"`, `"RevocationsForced":1`} {
		if !strings.Contains(w.Logs(), want) {
			t.Errorf("%s is not in\n%s", want, w.Logs())
		}
	}
	w.Converge()
	if !w.NextDue().IsZero() {
		t.Error("there is still work due")
	}
}

// deaf is a log that can be written to no more.
func deaf(e *managed.Engine) *managed.Engine {
	e.Log = telemetry.Logger(full{}, slog.LevelDebug)
	return e
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestNothingIsForcedWithoutARecord(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	before := w.Dump()
	err := deaf(w.Engine()).Force(t.Context(), alice, managedtest.Provider, "Ops", "removed in the console")
	if err == nil || !strings.Contains(err.Error(), "writing the audit line") {
		t.Errorf("it was forced: %v", err)
	}
	if w.Dump() != before || strings.Contains(w.Logs(), `"RevocationsForced":1`) {
		t.Errorf("the table was\n%s\nand is\n%s", before, w.Dump())
	}
}

func TestOnlyWhatIsParkedIsForced(t *testing.T) {
	t.Parallel()
	w := parkedWorld(t)
	for _, user := range []string{bob, "nobody"} {
		err := w.Engine().Force(t.Context(), user, managedtest.Provider, "Ops", "by mistake")
		if !errors.Is(err, managed.ErrNotParked) {
			t.Errorf("%s: %v", user, err)
		}
	}
	s := slot(t, w, alice)
	claimed, err := w.Store.ClaimDead(t.Context(), s, w.Clock.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	err = w.Engine().Force(t.Context(), alice, managedtest.Provider, "Ops", "while somebody works on it")
	if !errors.Is(err, managed.ErrNotParked) || slot(t, w, alice).Owner != claimed.Owner {
		t.Errorf("%v, the slot is %+v", err, slot(t, w, alice))
	}
	err = w.Store.Release(t.Context(), claimed, store.Release{State: store.Revoking, Settled: true, DueAt: w.Clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Engine().Force(t.Context(), alice, managedtest.Provider, "Ops", "not parked yet")
	if !errors.Is(err, managed.ErrNotParked) {
		t.Error(err)
	}
	if !strings.Contains(w.Dump(), "sk=CRED#agent_mail#"+credential.ManagedID(managedtest.Provider, bob)) || strings.Contains(w.Logs(), "revocation forced") {
		t.Errorf("something was forced:\n%s", w.Dump())
	}
}
