package managed_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/ayrshare"
	"managed-credentials/shared/provider/ayrshare/fake"
	"managed-credentials/shared/provider/flat/flattest"
)

// withLists is a world whose only provider is Ayrshare, whose lists are renewed every five minutes,
// right after one was.
func withLists(t *testing.T) (*managedtest.World, *fake.Server, *fault.Proxy) {
	t.Helper()
	var clock *managedtest.Clock
	const every = 5 * time.Minute
	shares := fake.New(fake.Config{Now: func() time.Time { return clock.Now() }, Switches: fake.Switches{ListsLag: fault.Duration(every)}})
	proxy, url := flattest.Serve(t, shares)
	w := managedtest.New(t, managedtest.Options{Providers: func(string) []managed.Provider {
		p, err := ayrshare.New(ayrshare.Settings{BaseURL: url, Rate: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return []managed.Provider{p}
	}})
	clock = w.Clock
	now := clock.Now()
	clock.Advance(now.Truncate(every).Add(every + time.Second).Sub(now))
	w.SetOrgKeys(`{"ayrshare":"` + fake.APIKey + `"}`)
	return w, shares, proxy
}

// Two looks at one and the same list are one look.
func TestADeletionIsNotBelievedByAListFromBeforeIt(t *testing.T) {
	t.Parallel()
	w, shares, proxy := withLists(t)
	inject(t, proxy, "POST /api/profiles", 1, fault.LoseAnswer())
	list(t, w.Engine(), alice)
	if len(shares.Profiles()) != 1 {
		t.Fatalf("there are %+v", shares.Profiles())
	}
	remove(t, w.Engine(), alice)
	w.Clock.Advance(w.NextDue().Sub(w.Clock.Now()) + time.Millisecond)
	for range 2 { // both looks go by the list from before the profile
		reconcile(t, w.Engine())
		w.Clock.Advance(managed.LastLook + time.Millisecond)
	}
	w.Converge()
	if left := shares.Profiles(); len(left) > 0 {
		t.Errorf("the deletion is done, and %+v are left", left)
	}
}

// A profile that is too new for the list is not made anew, whoever reports its key.
func TestAKeyIsNotMissedByAListFromBeforeIt(t *testing.T) {
	t.Parallel()
	w, shares, _ := withLists(t)
	list(t, w.Engine(), alice)
	made := shares.Profiles()
	_, err := w.Engine().Audit(t.Context(), managed.AuditRequest{Provider: ayrshare.Name, Repair: 9})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.Clock.Advance(managed.LastLook + time.Millisecond)
		reconcile(t, w.Engine())
	}
	w.Converge()
	if now := shares.Profiles(); len(now) != 1 || now[0].RefID != made[0].RefID {
		t.Errorf("made %+v, and there are %+v", made, now)
	}
}

// Another profile would be one without the user's networks.
func TestAProfileIsNotRotated(t *testing.T) {
	t.Parallel()
	w, shares, _ := withLists(t)
	list(t, w.Engine(), alice)
	for _, overlap := range []time.Duration{0, time.Hour} {
		err := w.Engine().Rotate(t.Context(), managed.Rotation{User: alice, Provider: ayrshare.Name, Overlap: overlap, Order: managed.Order{By: "me", Reason: "to try it"}})
		var conflict *credential.ConflictError
		if !errors.As(err, &conflict) || !strings.Contains(conflict.Detail, "networks") {
			t.Errorf("got %v", err)
		}
	}
	_, err := w.Engine().RotateAll(t.Context(), managed.RotationOfAll{Provider: ayrshare.Name, Overlap: time.Hour, Order: managed.Order{By: "me", Reason: "to try it"}})
	var conflict *credential.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(conflict.Detail, "networks") {
		t.Errorf("all of them: got %v", err)
	}
	allowed := w.EngineWith(func(c *managed.Config) { c.Replace = map[string]time.Duration{ayrshare.Name: 0} })
	r, err := allowed.Replace(t.Context(), alice, ayrshare.Name)
	if err != nil || r.Refused != managed.ReplaceNever || r.Standing.Replaceable {
		t.Errorf("by its user: %v %+v", err, r)
	}
	w.Converge()
	if now := shares.Profiles(); len(now) != 1 || strings.Contains(w.Logs(), `"rotation`) {
		t.Errorf("there are %+v", now)
	}
}
