package agentmail_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestAPodIsEmptiedOfWhateverItHolds(t *testing.T) {
	t.Parallel()
	holdings := map[string]fake.Pod{
		"nothing":         {},
		"bearer keys":     {Keys: []fake.Key{{Name: "alice-agpt-managed"}, {Name: "mine"}, {Name: ""}}},
		"a public key":    {Keys: []fake.Key{{Name: "signing", Type: "public_key"}}},
		"inboxes":         {Inboxes: []fake.Inbox{{Address: "a+b@agentmail.to"}, {Address: "a/b?c#d%e@agentmail.to"}}},
		"a dying inbox":   {Inboxes: []fake.Inbox{{Address: "a@agentmail.to", Deleting: true}}},
		"domains":         {Domains: []string{"one.example", "two.example"}},
		"webhooks":        {Webhooks: []string{"https://hooks.example/1", "https://hooks.example/2"}},
		"a bit of it all": {Keys: []fake.Key{{Name: "k"}}, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}, Domains: []string{"one.example"}, Webhooks: []string{"https://hooks.example/1"}},
	}
	for name, holds := range holdings {
		for _, webhooksBlock := range []bool{true, false} {
			t.Run(name+", webhooks block: "+strconv.FormatBool(webhooksBlock), func(t *testing.T) {
				t.Parallel()
				m := start(t)
				m.SetSwitches(fake.Switches{WebhooksDoNotBlock: !webhooksBlock})
				g := m.ready()
				pod := holds
				pod.ClientID = alice
				m.SeedPod(pod)
				m.mustDeprovision(attempt(2, g.Resource, false))
				m.wantNoPods()
			})
		}
	}
}

// A key that still works can make more of everything else. The first pod's deletion is refused for
// what is in it.
func TestKeysGoFirstAndThePodLast(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.subject().Fill(alice)
	m.mustDeprovision(attempt(2, g.Resource, false))
	var order []string
	for _, c := range m.proxy.Calls() {
		switch {
		case c.Method != http.MethodDelete:
		case deleteKey(c):
			order = append(order, "key")
		case deletePod(c):
			order = append(order, "pod")
		default:
			order = append(order, "other")
		}
	}
	last := len(order) - 1
	for i, what := range order {
		if (what == "key") != (i == 0) || (what == "pod") != (i == 1 || i == last) {
			t.Fatalf("deleted in the order %v", order)
		}
	}
}

// Most pods hold nothing but our key, and a mass deletion is made of them.
func TestAPodThatHoldsOurKeyAloneIsRemovedByThreeCalls(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.proxy.Reset()
	m.mustDeprovision(attempt(2, g.Resource, false))
	m.wantNoPods()
	pod := "/v0/pods/" + g.Resource.ID
	var got []string
	for _, c := range m.proxy.Calls() {
		got = append(got, c.Op)
	}
	want := []string{"GET " + pod, "DELETE " + pod + "/api-keys/" + g.Resource.KeyID, "DELETE " + pod}
	if !slices.Equal(got, want) {
		t.Errorf("the calls are %v", got)
	}
}

func TestAPublicKeyBesideOursIsTolerated(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: "signing", Type: "public_key"}}})
	g = m.mustProvision(attempt(2, g.Resource, true))
	err := m.provider.Sweep(t.Context(), orgKey, attempt(3, g.Resource, true))
	pod, _ := m.Pod(alice)
	if err != nil || len(pod.Keys) != 2 {
		t.Errorf("%v: %+v", err, pod.Keys)
	}
}

func TestAnInboxThatTakesAWhileIsNotYet(t *testing.T) {
	t.Parallel()
	for _, hidden := range []bool{false, true} {
		m := start(t)
		m.SetSwitches(fake.Switches{InboxDeletion: time.Minute, HideDeletingInboxes: hidden})
		g := m.ready()
		m.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}, {Address: "b@agentmail.to"}}})
		for n := range int64(2) {
			wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(2+n, g.Resource, false)), managed.NotYet)
		}
		m.clock.Advance(time.Minute)
		m.mustDeprovision(attempt(4, g.Resource, false))
		m.wantNoPods()
	}
}

// One item that is already being deleted does not keep the others.
func TestWhatIsBeingDeletedDoesNotHoldUpTheRest(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.subject().Fill(alice)
	m.strike(is(http.MethodDelete, `/v0/pods/[^/]+/inboxes/[^/]+`), -1, answer(http.StatusConflict, `{"code":"resource_deleting"}`))
	wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(2, g.Resource, false)), managed.NotYet)
	pod, _ := m.Pod(alice)
	if len(pod.Inboxes) == 0 || len(pod.Domains) > 0 || len(pod.Webhooks) > 0 {
		t.Errorf("%+v", pod)
	}
	m.proxy.SetHook(nil)
	m.mustDeprovision(attempt(3, g.Resource, false))
	m.wantNoPods()
}

// A revoked key works for some more minutes, and may make an inbox meanwhile.
func TestAKeyThatOutlivesItsRevocation(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.SetSwitches(fake.Switches{KeyOutlives: 5 * time.Minute})
	g := m.ready()
	m.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if deletePod(c) && c.Nth <= 2 { // before the pod is looked through, and after that
			m.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: fmt.Sprintf("late-%d@agentmail.to", c.Nth)}}})
		}
		return nil
	})
	wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(2, g.Resource, false)), managed.NotYet)
	m.mustDeprovision(attempt(3, g.Resource, false))
	m.wantNoPods()
	_, _, accepted := m.Identify(g.Key.Reveal())
	if !accepted {
		t.Error("the key did not outlive its revocation: this test proves nothing")
	}
}

func TestADyingPod(t *testing.T) {
	t.Parallel()
	for _, conflicts := range []bool{false, true} {
		t.Run("conflicts: "+strconv.FormatBool(conflicts), func(t *testing.T) {
			t.Parallel()
			m := start(t)
			g := m.ready()
			m.SetSwitches(fake.Switches{PodLingers: time.Minute, DyingPodConflicts: conflicts})
			m.mustDeprovision(attempt(2, g.Resource, false))

			// It is still what its client_id stands for.
			a := attempt(3, credential.Resource{}, true)
			_, err := m.provider.Provision(t.Context(), orgKey, a)
			class := managed.Transient
			if conflicts {
				class = managed.NotYet
			}
			wantClass(t, err, class)
			if a.Resource().ID != g.Resource.ID {
				t.Fatalf("found %+v, not the dying pod: this test proves nothing", a.Resource())
			}
			for _, d := range []*managed.Attempt{attempt(4, g.Resource, false), attempt(5, credential.Resource{}, true)} {
				want := managed.Gone
				if conflicts {
					want = managed.NotYet
				}
				wantClass(t, m.provider.Deprovision(t.Context(), orgKey, d), want)
			}
			m.clock.Advance(time.Minute)
			fresh := m.mustProvision(attempt(6, a.Resource(), !a.Settled()))
			pod, _ := m.Pod(alice)
			if fresh.Resource.ID == g.Resource.ID || len(pod.Keys) != 1 {
				t.Errorf("granted %+v, there is %+v", fresh.Resource, pod)
			}
			m.mustDeprovision(attempt(7, fresh.Resource, false))
			m.wantNoPods()
		})
	}
}

// The slot names an older pod than the one there is.
func TestBothPodsGo(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.SetSwitches(fake.Switches{InboxDeletion: time.Minute})
	m.ready()
	m.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	older := m.SeedPod(fake.Pod{Name: "an older one", Keys: []fake.Key{{Name: "k"}}})
	m.Inject(fault.Rule{Op: fake.GetPod, Times: 1, Fault: fault.Reshape(nil, map[string]any{"client_id": alice})})
	a := attempt(2, credential.Resource{ID: older.ID, OrgID: older.OrganizationID}, true)
	wantClass(t, m.provider.Deprovision(t.Context(), orgKey, a), managed.NotYet)
	m.clock.Advance(time.Minute)
	m.mustDeprovision(attempt(3, a.Resource(), !a.Settled()))
	m.wantNoPods()
}

func TestA404OfAListDoesNotMakeThePodGone(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"api-keys", "inboxes", "domains", "webhooks"} {
		m := start(t)
		g := m.ready()
		m.strike(is(http.MethodGet, "/v0/pods/[^/]+/"+list), -1, answer(http.StatusNotFound, `{"code":"not_found","message":"Route not found"}`))
		err := m.provider.Deprovision(t.Context(), orgKey, attempt(2, g.Resource, false))
		if err != nil { // the stored key goes by its own id
			t.Errorf("%s: %v", list, err)
		}
		m.wantNoPods()
	}
}

func TestA404IsProofOnlyUnderAnOrgKeyOfThePodsOrganization(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	podKey := m.mustProvision(attemptFor("bob", 1, credential.Resource{}, false)).Key
	for org, class := range map[credential.Secret]managed.Class{foreignOrgKey: managed.Foreign, podKey: managed.Rejected} {
		for _, a := range []*managed.Attempt{attempt(2, g.Resource, false), attempt(2, g.Resource, true)} {
			err := m.provider.Deprovision(t.Context(), org, a)
			wantClass(t, err, class)
		}
		_, err := m.provider.Provision(t.Context(), org, attempt(2, g.Resource, false))
		wantClass(t, err, class)
	}
	if len(m.Pods()) != 2 {
		t.Errorf("%+v", m.Pods())
	}
	m.mustDeprovision(attempt(3, g.Resource, false))
	if len(m.Pods()) != 1 {
		t.Errorf("%+v", m.Pods())
	}
}

func TestWithoutAnOrganizationNothingIsProven(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault.Fault{
		"no organization": answer(http.StatusOK, `{"scope_type":"organization"}`),
		"no scope":        answer(http.StatusOK, `{"organization_id":"`+fake.OrganizationID+`"}`),
		"another one":     answer(http.StatusOK, `{"scope_type":"organization","organization_id":"`+otherOrganization+`"}`),
		"rubbish":         answer(http.StatusOK, "<html></html>"),
		"unavailable":     answer(http.StatusServiceUnavailable, "{}"),
		"not found":       answer(http.StatusNotFound, "{}"),
	} {
		m := start(t)
		g := m.ready()
		m.mustDeprovision(attempt(2, g.Resource, false))
		m.strike(authMe, -1, f)
		err := m.provider.Deprovision(t.Context(), orgKey, attempt(3, g.Resource, false))
		var classed *managed.Error
		if !errors.As(err, &classed) || classed.Class == managed.Gone {
			t.Errorf("%s: %v", name, err)
		}
		if name != "another one" { // nothing was learnt, so it is asked again
			m.proxy.SetHook(nil)
			m.wantGone(attempt(4, g.Resource, false))
		}
	}
}

func TestWhoseTheOrgKeyIsIsAskedOncePerKey(t *testing.T) {
	t.Parallel()
	m := start(t)
	gone := func(provider *agentmail.Provider, org credential.Secret) {
		t.Helper()
		for range 3 {
			err := provider.Deprovision(t.Context(), org, attempt(2, credential.Resource{ID: "gone", OrgID: fake.OrganizationID}, false))
			want := managed.Gone
			if org != orgKey {
				want = managed.Foreign
			}
			wantClass(t, err, want)
		}
	}
	for i, org := range []credential.Secret{orgKey, foreignOrgKey, orgKey} {
		gone(m.provider, org)
		if m.sent(authMe) != i+1 {
			t.Errorf("asked %d times for %d keys", m.sent(authMe), i+1)
		}
	}
}

// A user whose time is up does not wait for the answer to somebody else's question.
func TestNobodyWaitsForAnotherUsersProof(t *testing.T) {
	t.Parallel()
	m := start(t)
	missing := credential.Resource{ID: "gone", OrgID: fake.OrganizationID}
	asked, release := make(chan struct{}, 2), make(chan struct{})
	m.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if !authMe(c) {
			return nil
		}
		asked <- struct{}{}
		return fault.Before(fault.Until(release), nil)
	})
	first := make(chan error, 1)
	go func() {
		first <- m.provider.Deprovision(context.Background(), orgKey, attempt(2, missing, false))
	}()
	<-asked
	ctx, cancel := contextFor(t)
	second := make(chan error, 1)
	go func() { second <- m.provider.Deprovision(ctx, orgKey, attemptFor("bob", 2, missing, false)) }()
	for deadline := time.Now().Add(patience); m.sent(getPod) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second never came to its proof")
		}
	}
	cancel()
	select {
	case err := <-second:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience):
		t.Error("the second waits on")
	}
	close(release)
	wantClass(t, <-first, managed.Gone)
}

// patience bounds what would otherwise hang.
const patience = 30 * time.Second

// A pod that is stored and settled is deleted by its id: a lookup would be a create.
func TestAStoredPodIsNotLookedUp(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.mustDeprovision(attempt(2, g.Resource, false))
	m.wantGone(attempt(3, g.Resource, false))
	if m.sent(createPod) > 0 {
		t.Error("it was looked up")
	}
}
