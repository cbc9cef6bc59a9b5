package openrouter_test

import (
	"regexp"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/flat/flattest"
	"managed-credentials/shared/provider/openrouter"
	"managed-credentials/shared/provider/openrouter/fake"
)

func TestItConforms(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject { return start(t).subject() })
}

// Small pages, several workspaces, other people's keys, and errors that are no JSON.
func TestItConformsWithAnAwkwardOpenRouter(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject {
		r := start(t)
		r.SetSwitches(fake.Switches{PageSize: 7, PlainErrors: true, Curt: true})
		r.AcceptManagementKey(fake.ManagementKey, fake.Account, "w-2")
		for _, workspace := range []string{fake.Workspace, "w-2", otherWorkspace} {
			for range 5 {
				r.Seed(fake.Key{Name: "somebody's", Workspace: workspace})
			}
		}
		return r.subject()
	})
}

const (
	otherKey       = "sk-or-v1-eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	otherAccount   = "org_0000000000"
	otherWorkspace = "9d4c2b1a-0000-4000-8000-000000000000"
)

var (
	orgKey     = credential.NewSecret(fake.ManagementKey)
	foreignKey = credential.NewSecret(otherKey)
	secretForm = regexp.MustCompile(`sk-or-v1-[0-9a-f]{64}`)
)

// router is OpenRouter behind a proxy, and the provider that uses it.
type router struct {
	*fake.Server
	t        *testing.T
	clock    *providertest.Clock
	proxy    *fault.Proxy
	url      string // of the proxy
	provider *openrouter.Provider
}

func start(t *testing.T) *router {
	t.Helper()
	r := &router{t: t, clock: providertest.NewClock()}
	r.Server = fake.New(fake.Config{Now: r.clock.Now})
	r.AcceptManagementKey(otherKey, otherAccount, otherWorkspace)
	r.proxy, r.url = flattest.Serve(t, r.Server)
	r.provider = newProvider(t, openrouter.Settings{BaseURL: r.url, Limit: 5, LimitReset: "monthly", Workspace: fake.Workspace})
	return r
}

func newProvider(t *testing.T, s openrouter.Settings) *openrouter.Provider {
	t.Helper()
	p, err := openrouter.New(s)
	if err != nil {
		t.Fatal(err)
	}
	openrouter.Hurry(p)
	return p
}

func (r *router) subject() providertest.Subject {
	return flattest.Subject(providertest.Subject{
		Provider: r.provider, Proxy: r.proxy, OrgKey: orgKey, ForeignOrgKey: foreignKey, Secrets: secretForm,
		Identify: r.Identify,
		Plant:    func(_, name string) string { return r.Seed(fake.Key{Name: name}).Hash },
		Reject:   func() { r.RejectManagementKey(fake.ManagementKey) },
		Hide: func() func() {
			switches := r.Switches()
			switches.HideKeys = true
			r.SetSwitches(switches)
			return func() { switches.HideKeys = false; r.SetSwitches(switches) }
		},
		Keep: func() func() {
			switches := r.Switches()
			switches.DeletedFalse = true
			r.SetSwitches(switches)
			return func() { switches.DeletedFalse = false; r.SetSwitches(switches) }
		},
		Drop:    r.Drop,
		Disable: func(id string) { r.Change(id, func(k *fake.Key) { k.Disabled = true }) },
	}, func() []providertest.Key {
		var keys []providertest.Key
		for _, k := range r.Keys() {
			keys = append(keys, providertest.Key{ID: k.Hash, Name: k.Name})
		}
		return keys
	})
}
