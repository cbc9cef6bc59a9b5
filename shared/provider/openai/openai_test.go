package openai_test

import (
	"regexp"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/flat/flattest"
	"managed-credentials/shared/provider/openai"
	"managed-credentials/shared/provider/openai/fake"
)

func TestItConforms(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject { return start(t).subject() })
}

// Small pages, several projects, other people's accounts, a policy, and errors that are no JSON.
func TestItConformsWithAnAwkwardOpenAI(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject {
		o := start(t)
		o.SetSwitches(fake.Switches{PageSize: 7, PlainErrors: true, Curt: true, LongestLife: 3600})
		o.AcceptAdminKey(fake.AdminKey, fake.Organization, former)
		o.provider = newProvider(t, openai.Settings{BaseURL: o.url, Project: fake.Project, FormerProjects: []string{former}, ExpiresInSeconds: 3600})
		for _, project := range []string{fake.Project, former, otherProject} {
			for range 5 {
				o.Seed(project, "somebody's")
			}
		}
		return o.subject()
	})
}

const (
	otherKey     = "sk-admin-eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	otherProject = "proj_other"
	former       = "proj_former"
)

var (
	orgKey     = credential.NewSecret(fake.AdminKey)
	foreignKey = credential.NewSecret(otherKey)
	secretForm = regexp.MustCompile(`sk-svcacct-[0-9a-z]{48}`)
)

// service is OpenAI behind a proxy, and the provider that uses it.
type service struct {
	*fake.Server
	t        *testing.T
	clock    *providertest.Clock
	proxy    *fault.Proxy
	url      string // of the proxy
	provider *openai.Provider
}

func start(t *testing.T) *service {
	t.Helper()
	o := &service{t: t, clock: providertest.NewClock()}
	o.Server = fake.New(fake.Config{Now: o.clock.Now})
	o.AcceptAdminKey(otherKey, "org-other", otherProject)
	o.proxy, o.url = flattest.Serve(t, o.Server)
	o.provider = newProvider(t, openai.Settings{BaseURL: o.url, Project: fake.Project})
	return o
}

func newProvider(t *testing.T, s openai.Settings) *openai.Provider {
	t.Helper()
	p, err := openai.New(s)
	if err != nil {
		t.Fatal(err)
	}
	openai.Hurry(p)
	return p
}

func (o *service) subject() providertest.Subject {
	return flattest.Subject(providertest.Subject{
		Provider: o.provider, Proxy: o.proxy, OrgKey: orgKey, ForeignOrgKey: foreignKey, Secrets: secretForm,
		Identify: o.Identify,
		Plant:    func(_, name string) string { return o.Seed(fake.Project, name) },
		Reject:   func() { o.RejectAdminKey(fake.AdminKey) },
		Hide: func() func() {
			switches := o.Switches()
			switches.HideAccounts = true
			o.SetSwitches(switches)
			return func() { switches.HideAccounts = false; o.SetSwitches(switches) }
		},
		Keep: func() func() {
			switches := o.Switches()
			switches.DeletedFalse = true
			o.SetSwitches(switches)
			return func() { switches.DeletedFalse = false; o.SetSwitches(switches) }
		},
		Drop: o.Drop,
	}, func() []providertest.Key {
		var keys []providertest.Key
		for _, a := range o.Accounts() {
			keys = append(keys, providertest.Key{ID: a.ID, Name: a.Name})
		}
		return keys
	})
}
