package agentmail_test

import (
	"net/http"
	"strconv"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail/fake"
)

// A row that names another pod destroys nothing of it.
func TestAStoredPodThatIsSomebodyElsesIsLeftAlone(t *testing.T) {
	t.Parallel()
	m := start(t)
	bobs := m.mustProvision(attemptFor("bob", 1, credential.Resource{}, false)).Resource
	unmarked := m.SeedPod(fake.Pod{Name: "alice-pod", Keys: []fake.Key{{Name: "alice-agpt-managed.1"}}})
	for name, r := range map[string]credential.Resource{
		"bob's":                  bobs,
		"one without a mark":     {ID: unmarked.ID, OrgID: unmarked.OrganizationID},
		"the organisation's own": {ID: fake.OrganizationID, OrgID: fake.OrganizationID},
	} {
		for _, inherited := range []bool{false, true} {
			m.proxy.Reset()
			a := attempt(2, r, inherited)
			wantClass(t, m.provider.Deprovision(t.Context(), orgKey, a), managed.Mismatch)
			for _, c := range m.proxy.Calls() {
				if c.Method != http.MethodGet {
					t.Errorf("%s: %s was sent", name, c.Op)
				}
			}
		}
	}
}

// Whatever becomes of one child: the managed key and all siblings go.
func TestOneChildThatRefusesKeepsNoSiblingAlive(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]managed.Class{403: managed.Permanent, 409: managed.NotYet, 422: managed.Permanent, 500: managed.Transient} {
		for _, kind := range []string{"key", "inbox", "domain", "webhook"} {
			t.Run(kind+" "+strconv.Itoa(status), func(t *testing.T) {
				t.Parallel()
				m := start(t)
				g := m.ready()
				pod := m.SeedPod(fake.Pod{
					ClientID: alice, Keys: []fake.Key{{Name: "mine"}, {Name: "signing", Type: "public_key"}},
					Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}, {Address: "b@agentmail.to"}},
					Domains: []string{"a.example", "b.example"}, Webhooks: []string{"https://hooks.example/a", "https://hooks.example/b"},
				})
				stubborn := map[string]string{"key": pod.Keys[2].ID, "inbox": "b@agentmail.to", "domain": "b.example", "webhook": m.webhookID(pod.ID)}[kind]
				refused := fake.Switches{Oddities: fake.Oddities{RefusedDeletions: map[string]int{stubborn: status}}}
				m.SetSwitches(refused)
				err := m.provider.Deprovision(t.Context(), orgKey, attempt(2, g.Resource, false))
				classed := wantClass(t, err, class)
				if class == managed.NotYet && classed.Left != 2 { // it, and the pod
					t.Errorf("%d are left", classed.Left)
				}
				pod, _ = m.Pod(alice)
				if len(pod.Keys)+len(pod.Inboxes)+len(pod.Domains)+len(pod.Webhooks) != 1 {
					t.Errorf("left: %+v", pod)
				}
				m.SetSwitches(fake.Switches{})
				m.mustDeprovision(attempt(3, g.Resource, false))
				m.wantNoPods()
			})
		}
	}
}

// webhookID is the id of the pod's newest webhook.
func (m *mail) webhookID(podID string) string {
	for _, w := range m.Webhooks(podID) {
		return w
	}
	return ""
}

// A page that says that the service is being maintained is no deletion.
func TestOnlyTheDocumentedAnswerIsADeletion(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 201, 202, 203, 206} {
		m := start(t)
		g := m.ready()
		m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: "alice-agpt-managed.2"}}})
		m.SetSwitches(odd(fake.Oddities{DeletionStatus: status}))
		wantClass(t, m.provider.Deprovision(t.Context(), orgKey, attempt(2, g.Resource, false)), managed.Transient)
		wantClass(t, m.provider.Discard(t.Context(), orgKey, g.Resource), managed.Transient)
		a := attempt(3, g.Resource, true)
		wantClass(t, m.provider.Sweep(t.Context(), orgKey, a), managed.Transient)
		if a.Settled() {
			t.Error("a sweep settled")
		}
		m.SetSwitches(fake.Switches{})
		m.mustDeprovision(attempt(4, g.Resource, false))
		m.wantNoPods()
	}
}

// A lookup is a create, which a full organisation refuses: what the slot names goes all the same.
func TestALookupThatFailsKeepsNothingAlive(t *testing.T) {
	t.Parallel()
	for class, f := range map[managed.Class]fault.Fault{
		managed.Quota:     answer(403, `{"code":"limit_exceeded"}`),
		managed.Transient: answer(500, `{"code":"internal_error"}`),
	} {
		m := start(t)
		g := m.ready()
		m.subject().Fill(alice)
		m.strike(createPod, -1, f)
		a := attempt(2, g.Resource, true)
		wantClass(t, m.provider.Deprovision(t.Context(), orgKey, a), class)
		m.wantNoPods()
		if !a.Inherited() {
			t.Error("what a lower attempt may have left counts as found")
		}
		m.proxy.SetHook(nil)
		m.mustDeprovision(attempt(3, a.Resource(), true))
		m.wantNoPods()
	}
}

// A pod that holds more than one pass can delete gets smaller in each.
func TestEachPassOverAFullPodGetsSomewhere(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	pod := fake.Pod{ClientID: alice}
	for i := range 900 {
		pod.Inboxes = append(pod.Inboxes, fake.Inbox{Address: strconv.Itoa(i) + "@agentmail.to"})
	}
	m.SeedPod(pod)
	m.SetSwitches(fake.Switches{PageSize: 100})
	left := 1000
	for n := int64(2); ; n++ {
		ctx, cancel := contextFor(t)
		m.proxy.Reset()
		m.proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Seq == 300 {
				cancel()
			}
			return nil
		})
		err := m.provider.Deprovision(ctx, orgKey, attempt(n, g.Resource, false))
		cancel()
		if err == nil {
			break
		}
		classed := wantClass(t, err, managed.NotYet)
		if classed.Left >= left || n == 10 {
			t.Fatalf("pass %d: %d are left, after %d", n, classed.Left, left)
		}
		left = classed.Left
	}
	m.wantNoPods()
}

// A key that may make keys leaves some with an inbox, which the pod's list does not show and which
// go only when they are deleted.
func TestTheKeysOfAnInboxGoWithIt(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a+b@agentmail.to"}}})
	res := m.call(orgKey, http.MethodPost, "/v0/inboxes/a+b@agentmail.to/api-keys", "")
	secret, _ := res["api_key"].(string)
	pod, _ := m.Pod(alice)
	_, _, accepted := m.Identify(secret)
	if len(pod.Keys) != 1 || !accepted {
		t.Fatalf("accepted: %t, the pod has %+v", accepted, pod.Keys)
	}
	m.mustDeprovision(attempt(2, g.Resource, false))
	m.wantNoPods()
	_, _, accepted = m.Identify(secret)
	if accepted {
		t.Error("the inbox's key still works")
	}
}

func TestTheKeysOfAnInboxGoBeforeItsMail(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	m.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a+b@agentmail.to"}}})
	res := m.call(orgKey, http.MethodPost, "/v0/inboxes/a+b@agentmail.to/api-keys", "")
	secret, _ := res["api_key"].(string)
	a := attempt(2, g.Resource, false)
	err := m.provider.Disarm(t.Context(), orgKey, a)
	if err != nil {
		t.Error(err)
	}
	pod, _ := m.Pod(alice)
	_, _, accepted := m.Identify(secret)
	if accepted || len(pod.Keys) != 0 || len(pod.Inboxes) != 1 || pod.Inboxes[0].Deleting {
		t.Errorf("the inbox's key works: %t, the pod has %+v", accepted, pod)
	}
}
