package agentmail_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestItConforms(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject { return start(t).subject() })
}

// Small pages, keys that outlive their revocation, deletions that hide what they have not finished.
func TestItConformsWithAnAwkwardAgentMail(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject {
		m := start(t)
		m.SetSwitches(fake.Switches{
			PageSize: 1, KeyOutlives: time.Hour, CodedKeyErrors: true, HideDeletingInboxes: true, WebhooksDoNotBlock: true,
		})
		return m.subject()
	})
}

func TestItIsWhatAutoGPTCallsIt(t *testing.T) {
	t.Parallel()
	p := newProvider(t, agentmail.Config{})
	if p.Name() != "agent_mail" || p.Title() != "AgentMail (managed by AutoGPT)" {
		t.Errorf("%q, %q", p.Name(), p.Title())
	}
}

const (
	otherOrgKey       = "am_us_eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	otherOrganization = "7d1c1a52-93a4-4f1f-8a8e-0c6f5d1b2a34"
)

// mail is AgentMail behind a proxy, and the provider that uses it.
type mail struct {
	*fake.Server
	t        *testing.T
	clock    *providertest.Clock
	proxy    *fault.Proxy
	url      string // of the proxy
	direct   string // past the proxy
	provider *agentmail.Provider
}

func start(t *testing.T) *mail {
	t.Helper()
	m := &mail{t: t, clock: providertest.NewClock()}
	m.Server = fake.New(fake.Config{Now: m.clock.Now})
	m.AcceptOrgKey(otherOrgKey, otherOrganization)
	m.direct = m.serve(m.Server)
	m.proxy = fault.New(m.direct)
	m.url = m.serve(m.proxy)
	m.provider = newProvider(t, agentmail.Config{BaseURL: m.url})
	return m
}

// serve starts a server, which stops after AgentMail has let go of what it delays.
func (m *mail) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	m.t.Cleanup(func() { m.Close(); server.Close() })
	return server.URL
}

func newProvider(t *testing.T, c agentmail.Config) *agentmail.Provider {
	t.Helper()
	p, err := agentmail.New(c)
	if err != nil {
		t.Fatal(err)
	}
	agentmail.Hurry(p)
	return p
}

var (
	orgKey        = credential.NewSecret(fake.OrgKey)
	foreignOrgKey = credential.NewSecret(otherOrgKey)
	secretForm    = regexp.MustCompile(`am_[a-z]{2}_[0-9a-f]{64}`)
)

func (m *mail) subject() providertest.Subject {
	return providertest.Subject{
		Provider:      m.provider,
		Proxy:         m.proxy,
		OrgKey:        orgKey,
		ForeignOrgKey: foreignOrgKey,
		Secrets:       secretForm,
		Creates: func(c *fault.Call) providertest.Creation {
			switch {
			case c.Op == "POST /v0/pods":
				return providertest.Same
			case c.Method == "POST":
				return providertest.Another
			}
			return providertest.Nothing
		},
		KeyName: func(user string, attempt int64) string {
			return user + "-agpt-managed." + strconv.FormatInt(attempt, 10)
		},
		Resources: func(user string) []string {
			var ids []string
			for _, pod := range m.podsOf(user) {
				ids = append(ids, pod.ID)
			}
			return ids
		},
		Keys: func() []providertest.Key {
			var keys []providertest.Key
			for _, pod := range m.Pods() {
				for _, k := range pod.Keys {
					keys = append(keys, providertest.Key{Resource: pod.ID, ID: k.ID, Name: k.Name})
				}
			}
			return keys
		},
		Identify: func(secret string) (string, bool) {
			_, id, accepted := m.Identify(secret)
			return id, accepted
		},
		Plant: func(user, name string) string {
			pod := m.SeedPod(fake.Pod{ClientID: m.podsOf(user)[0].ClientID, Keys: []fake.Key{{Name: name}}})
			return pod.Keys[len(pod.Keys)-1].ID
		},
		Reject: func() { m.RejectOrgKey(fake.OrgKey) },
		Fill: func(user string) {
			m.SeedPod(fake.Pod{
				ClientID: m.podsOf(user)[0].ClientID,
				Inboxes:  []fake.Inbox{{Address: uuid.NewString() + "@agentmail.to"}, {Address: uuid.NewString() + "@agentmail.to"}},
				Domains:  []string{uuid.NewString() + ".example"},
				Webhooks: []string{"https://hooks.example/" + uuid.NewString()},
			})
		},
		Linger: func() func() {
			switches := m.Switches()
			switches.InboxDeletion = time.Hour
			m.SetSwitches(switches)
			return func() { m.clock.Advance(time.Hour) }
		},
		Hide: func() func() {
			switches := m.Switches()
			switches.MissingPods = true
			m.SetSwitches(switches)
			return func() { switches.MissingPods = false; m.SetSwitches(switches) }
		},
	}
}

// podsOf are the pods that carry the user's name.
func (m *mail) podsOf(user string) []fake.Pod {
	var pods []fake.Pod
	for _, pod := range m.Pods() {
		if pod.Name == user+"-pod" {
			pods = append(pods, pod)
		}
	}
	return pods
}

// alice is the user whom most tests are about.
const alice = "alice"

// attempt is one for alice, in good time.
func attempt(number int64, stored credential.Resource, inherited bool) *managed.Attempt {
	return attemptFor(alice, number, stored, inherited)
}

func attemptFor(user string, number int64, stored credential.Resource, inherited bool) *managed.Attempt {
	return managed.NewAttempt(managed.Terms{
		User: user, Number: number, Stored: stored, Inherited: inherited, Now: time.Now, Cutoff: time.Now().Add(time.Hour),
	})
}

func (m *mail) mustProvision(a *managed.Attempt) managed.Grant {
	m.t.Helper()
	g, err := m.provider.Provision(context.Background(), orgKey, a)
	if err != nil {
		m.t.Fatalf("provisioning: %v", err)
	}
	return g
}

// ready provisions alice and forgets the calls.
func (m *mail) ready() managed.Grant {
	m.t.Helper()
	g := m.mustProvision(attempt(1, credential.Resource{}, false))
	m.proxy.Reset()
	return g
}

func (m *mail) mustDeprovision(a *managed.Attempt) {
	m.t.Helper()
	err := m.provider.Deprovision(context.Background(), orgKey, a)
	if err != nil {
		m.t.Fatalf("deprovisioning: %v", err)
	}
}

// wantGone checks that a deletion finds nothing to delete.
func (m *mail) wantGone(a *managed.Attempt) {
	m.t.Helper()
	wantClass(m.t, m.provider.Deprovision(context.Background(), orgKey, a), managed.Gone)
}

// wantNoPods checks that nothing is left of anybody.
func (m *mail) wantNoPods() {
	m.t.Helper()
	if len(m.Pods()) > 0 {
		m.t.Errorf("pods are left: %+v", m.Pods())
	}
}

// the calls that the provider makes.
var (
	createPod = is(http.MethodPost, `/v0/pods`)
	getPod    = is(http.MethodGet, `/v0/pods/[^/]+`)
	listPods  = is(http.MethodGet, `/v0/pods`)
	deletePod = is(http.MethodDelete, `/v0/pods/[^/]+`)
	createKey = is(http.MethodPost, `/v0/pods/[^/]+/api-keys`)
	listKeys  = is(http.MethodGet, `/v0/pods/[^/]+/api-keys`)
	deleteKey = is(http.MethodDelete, `/v0/pods/[^/]+/api-keys/[^/]+`)
	authMe    = is(http.MethodGet, `/v0/auth/me`)
)

// is matches calls by method and path.
func is(method, path string) func(*fault.Call) bool {
	form := regexp.MustCompile("^" + path + "$")
	return func(c *fault.Call) bool { return c.Method == method && form.MatchString(c.URL.EscapedPath()) }
}

// strike lets the first n calls that match run into a fault; n < 0: all of them.
func (m *mail) strike(match func(*fault.Call) bool, n int, f fault.Fault) {
	m.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if !match(c) || n >= 0 && m.sent(match) > n {
			return nil
		}
		return f
	})
}

// sent is how many calls match.
func (m *mail) sent(match func(*fault.Call) bool) int {
	n := 0
	for _, c := range m.proxy.Calls() {
		if match(c) {
			n++
		}
	}
	return n
}

// answer gives a status and a body in place of the true answer.
func answer(status int, body string) fault.Fault { return fault.Respond(status, nil, []byte(body)) }

// wantClass checks an error's class, and returns the error.
func wantClass(t *testing.T, err error, class managed.Class) *managed.Error {
	t.Helper()
	var classed *managed.Error
	if !errors.As(err, &classed) {
		t.Fatalf("got %v, want the class %s", err, class)
	}
	if classed.Class != class {
		t.Errorf("got %v, want the class %s", err, class)
	}
	return classed
}
