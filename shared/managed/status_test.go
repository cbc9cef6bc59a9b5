package managed_test

import (
	"errors"
	"maps"
	"net/http"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/store"
)

// status is how the world's one provider stands, of those that an engine shows.
func status(t *testing.T, e *managed.Engine) managed.ProviderStatus {
	t.Helper()
	all, more, err := e.ProviderStatuses(t.Context())
	if err != nil || more || len(all) != 1 || all[0].Provider != managedtest.Provider {
		t.Fatalf("%v, %t, the providers are %+v", err, more, all)
	}
	return all[0]
}

func TestAnOperatorSeesHowAProviderStands(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	s := status(t, in(w, managed.Frozen))
	if s.Mode != managed.Frozen || !s.OrgKey || s.KeyOrganization == "" || s.Slots != nil || s.LastFailure != nil || s.Waiting.Due+s.Waiting.Later != 0 {
		t.Errorf("before anything was made it is %+v", s)
	}
	list(t, w.Engine(), alice)
	w.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
		if c.Method == http.MethodPost {
			return fault.Respond(http.StatusForbidden, nil, []byte(`{"name":"ForbiddenError","message":"not this"}`))
		}
		return nil
	})
	list(t, w.Engine(), bob)
	if s := status(t, w.Engine()); s.Waiting.Later != 1 || s.Waiting.Due != 0 || s.LastFailure != nil {
		t.Errorf("what one list could not make is %+v", s)
	}
	w.Clock.Advance(w.NextDue().Sub(w.Clock.Now()) + time.Millisecond)
	at := w.Clock.Now()
	if s := status(t, w.Engine()); s.Waiting.Due != 1 || s.Waiting.Later != 0 {
		t.Errorf("what is due is %+v", s.Waiting)
	}
	_, err := w.Engine().Reconcile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s = status(t, w.Engine())
	if s.LastFailure == nil || !s.LastFailure.At.Equal(at) || s.LastFailure.Error == "" || s.Waiting.Reasons[string(s.LastFailure.Class)] != 1 {
		t.Errorf("after reconcile failed it is %+v, last failure %+v", s, s.LastFailure)
	}
	failed := *s.LastFailure
	w.AgentMail.SetHook(nil)
	w.Converge()
	scheduled(t, w)
	s = status(t, w.Engine())
	if !maps.Equal(s.Slots, map[store.State]int{store.Ready: 2}) || s.Waiting.Due+s.Waiting.Later != 0 || *s.LastFailure != failed {
		t.Errorf("once all is made it is %+v, last failure %+v", s, s.LastFailure)
	}
}

func TestAnOperatorSeesWhatIsParkedAndThatThereIsNoOrgKey(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.SetOrgKeys(`{}`)
	remove(t, w.Engine(), alice)
	_, err := w.Engine().Reconcile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := status(t, w.Engine())
	if s.OrgKey || s.Error == "" || s.KeyOrganization != "" || s.Waiting.Parked != 1 || s.Waiting.Reasons[store.ReasonNoKey] != 1 {
		t.Errorf("without an org key it is %+v", s)
	}
}

func TestAnOperatorSeesAProviderThatCannotWorkAndOneThatIsNoMore(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	remove(t, w.Engine(), alice)
	for want, e := range map[string]*managed.Engine{
		"the setting is wrong": w.EngineWith(func(c *managed.Config) {
			c.Providers, c.Faults = nil, map[string]error{managedtest.Provider: errors.New("the setting is wrong")}
		}),
		store.ReasonNoProvider: w.EngineWith(func(c *managed.Config) { c.Providers = nil }),
	} {
		s := status(t, e)
		if s.Error != want || s.Waiting.Due+s.Waiting.Later != 1 {
			t.Errorf("%s: it is %+v", want, s)
		}
	}
}
