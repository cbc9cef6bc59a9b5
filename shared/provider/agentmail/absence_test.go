package agentmail_test

import (
	"net/http"
	"strconv"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

func odd(o fake.Oddities) fake.Switches { return fake.Switches{Oddities: o} }

// looks are all that a provider does that may come to the conclusion that something is not there.
var looks = map[string]func(*mail, credential.Secret, credential.Resource) error{
	"sweep": func(m *mail, org credential.Secret, r credential.Resource) error {
		return m.provider.Sweep(m.t.Context(), org, attempt(3, r, true))
	},
	"inspect": func(m *mail, org credential.Secret, r credential.Resource) error {
		_, err := m.provider.Inspect(m.t.Context(), org, alice, r)
		return err
	},
	"deprovision": func(m *mail, org credential.Secret, r credential.Resource) error {
		return m.provider.Deprovision(m.t.Context(), org, attempt(3, r, false))
	},
}

func TestAPodThatIsNotFoundByItsIDAndListedIsNotGone(t *testing.T) {
	t.Parallel()
	for name, look := range looks {
		m := start(t)
		g := m.ready()
		m.SetSwitches(odd(fake.Oddities{MissingPods: true}))
		wantClass(t, look(m, orgKey, g.Resource), managed.Transient)
		if m.sent(listPods) != 1 {
			t.Errorf("%s: the pods were listed %d times", name, m.sent(listPods))
		}
		m.SetSwitches(fake.Switches{})
		pod, ok := m.Pod(alice)
		if !ok || len(pod.Keys) != 1 {
			t.Errorf("%s left %+v", name, pod)
		}
	}
}

func TestAPodWhoseListIsNotFoundIsNotGone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sweep", "inspect"} {
		m := start(t)
		g := m.ready()
		m.SetSwitches(odd(fake.Oddities{MissingLists: true}))
		wantClass(t, looks[name](m, orgKey, g.Resource), managed.Transient)
	}
}

func TestTheSearchThroughTheListOfPodsEnds(t *testing.T) {
	t.Parallel()
	for name, look := range looks {
		m := start(t)
		g := m.ready()
		for i := range 10 {
			m.SeedPod(fake.Pod{ClientID: strconv.Itoa(i)})
		}
		switches := odd(fake.Oddities{MissingPods: true})
		switches.PageSize = 1
		m.SetSwitches(switches)
		wantClass(t, look(m, orgKey, g.Resource), managed.Gone)
		if m.sent(listPods) != 10 {
			t.Errorf("%s: %d pages were read", name, m.sent(listPods))
		}
	}
}

// An empty list may have been cut short: what it does not show is a suspicion, on which nothing is
// removed.
func TestAnEmptyListOfKeysRemovesNothing(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: "alice-agpt-managed.1"}}})
	m.SetSwitches(odd(fake.Oddities{EmptyLists: true}))
	a := attempt(3, g.Resource, true)
	wantClass(t, m.provider.Sweep(t.Context(), orgKey, a), managed.Gone)
	pod, _ := m.Pod(alice)
	if a.Settled() || len(pod.Keys) != 2 {
		t.Errorf("settled: %t, %+v", a.Settled(), pod.Keys)
	}
}

// A key that a list shows, and whose deletion says that it is not there, may be there.
func TestAKeyThatIsListedAndNotFoundIsNotDeleted(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: "alice-agpt-managed.2"}}})
	m.Inject(fault.Rule{Op: fake.DeleteKey, Fault: fake.Status(404)})
	a := attempt(3, g.Resource, true)
	wantClass(t, m.provider.Sweep(t.Context(), orgKey, a), managed.Transient)
	if a.Settled() {
		t.Error("it settled")
	}
	wantClass(t, m.provider.Discard(t.Context(), orgKey, g.Resource), managed.Transient)
}

func TestAnotherOrganizationsKeyIsForeign(t *testing.T) {
	t.Parallel()
	for _, look := range looks {
		m := start(t)
		g := m.ready()
		wantClass(t, look(m, foreignOrgKey, g.Resource), managed.Foreign)
	}
}

// No published type of AgentMail's promises organization_id.
func TestAPodWithoutAnOrganizationIsOfTheOrgKeys(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.SetSwitches(odd(fake.Oddities{NoOrganizationID: true}))
	g := m.mustProvision(attempt(1, credential.Resource{}, false))
	if g.Resource.OrgID != fake.OrganizationID {
		t.Errorf("granted %+v", g.Resource)
	}
	page, _, err := m.provider.Enumerate(t.Context(), orgKey, "")
	if err != nil || len(page) != 1 || page[0].Resource.OrgID != fake.OrganizationID {
		t.Errorf("%v: enumerated %+v", err, page)
	}
	m.mustDeprovision(attempt(2, g.Resource, true))
	if m.sent(authMe) != 1 {
		t.Errorf("it was asked %d times whose the org key is", m.sent(authMe))
	}
	own := credential.Resource{ID: fake.OrganizationID, OrgID: otherOrganization}
	wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(3, own, false)), managed.Mismatch)
}

// Where nobody can say whose the pod is, it is made all the same, and the slot does not name it.
func TestAPodWhoseOrganizationCannotBeAskedForIsNotSettled(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.SetSwitches(odd(fake.Oddities{NoOrganizationID: true}))
	m.Inject(fault.Rule{Op: fake.AuthMe, Fault: fake.Status(503)})
	a := attempt(1, credential.Resource{}, false)
	_, err := m.provider.Provision(t.Context(), orgKey, a)
	wantClass(t, err, managed.Transient)
	if a.Settled() || len(m.Pods()) != 1 {
		t.Errorf("settled: %t, there are %+v", a.Settled(), m.Pods())
	}
}

// A list that goes round is an error at once, and not after all the time there is.
func TestAListThatGoesRound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ look, list string }{
		"a sweep": {"sweep", "keys"}, "an inspection": {"inspect", "keys"},
	} {
		m := start(t)
		g := m.ready()
		m.SetSwitches(odd(fake.Oddities{RoundLists: true}))
		wantClass(t, looks[c.look](m, orgKey, g.Resource), managed.Transient)
		if n := len(m.proxy.Calls()); n > 3 {
			t.Errorf("%s sent %d calls", name, n)
		}
	}
}

func TestPageAfterEmptyPageIsAnError(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	n := 0
	for {
		n++
		m.Inject(fault.Rule{Op: fake.ListKeys, Times: 1, Fault: fault.RespondJSON(http.StatusOK, `{"api_keys":[],"next_page_token":"`+strconv.Itoa(n)+`"}`)})
		if n == 100 {
			break
		}
	}
	wantClass(t, looks["sweep"](m, orgKey, g.Resource), managed.Transient)
	if m.sent(listKeys) > 10 {
		t.Errorf("%d pages were read", m.sent(listKeys))
	}
}

// What was listed until then is dealt with.
func TestAPodWithListsThatGoRoundIsEmptied(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.subject().Fill(alice)
	m.SetSwitches(odd(fake.Oddities{RoundLists: true}))
	m.mustDeprovision(attempt(2, g.Resource, false))
	m.wantNoPods()
}

func TestAnAuditOfAListThatGoesRoundEnds(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 3, 100} {
		m := start(t)
		for i := range 12 {
			m.SeedPod(fake.Pod{ClientID: strconv.Itoa(i)})
		}
		switches := odd(fake.Oddities{RoundLists: true})
		switches.PageSize = size
		m.SetSwitches(switches)
		found := map[string]bool{}
		var err error
		pages := 0
		for cursor := ""; err == nil; pages++ {
			var page []managed.Holding
			page, cursor, err = m.provider.Enumerate(t.Context(), orgKey, cursor)
			for _, h := range page {
				found[h.User] = true
			}
			if cursor == "" || pages > 100 {
				break
			}
		}
		wantClass(t, err, managed.Transient)
		if size < 100 && len(found) != 12 {
			t.Errorf("%d of 12 pods were found", len(found))
		}
	}
	_, _, err := newProvider(t, agentmail.Config{}).Enumerate(t.Context(), orgKey, "no cursor")
	wantClass(t, err, managed.Permanent)
}
