package ayrshare_test

import (
	"net/http"
	"regexp"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/ayrshare"
	"managed-credentials/shared/provider/ayrshare/fake"
	"managed-credentials/shared/provider/flat/flattest"
)

func TestItConforms(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject { return start(t).subject() })
}

// Small pages, other people's profiles, unusual statuses, and errors that are no JSON. A list that
// lags has tests of its own.
func TestItConformsWithAnAwkwardAyrshare(t *testing.T) {
	t.Parallel()
	providertest.Conform(t, func(t *testing.T) providertest.Subject {
		s := start(t)
		s.SetSwitches(fake.Switches{PageSize: 7, PlainErrors: true, AbsentStatus: http.StatusBadRequest, DuplicateStatus: http.StatusOK})
		for _, title := range []string{"User 1-ab12", "User 2-cd34", "Acme", "managed-credentials", "managed-credentials/ann"} {
			s.Seed(fake.Account, title)
			s.Seed(otherAccount, title)
		}
		return s.subject()
	})
}

const (
	otherKey     = "EEEEEEE-EEEEEEE-EEEEEEE-EEEEEEE"
	otherAccount = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
)

var (
	orgKey     = credential.NewSecret(fake.APIKey)
	foreignKey = credential.NewSecret(otherKey)
	secretForm = regexp.MustCompile(`[0-9A-Z]{7}(-[0-9A-Z]{7}){3}`)
)

// service is Ayrshare behind a proxy, and the provider that uses it.
type service struct {
	*fake.Server
	t        *testing.T
	clock    *providertest.Clock
	proxy    *fault.Proxy
	url      string // of the proxy
	provider *ayrshare.Provider
}

func start(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, clock: providertest.NewClock()}
	s.Server = fake.New(fake.Config{Now: s.clock.Now})
	s.AcceptAPIKey(otherKey, otherAccount)
	s.proxy, s.url = flattest.Serve(t, s.Server)
	s.provider = newProvider(t, ayrshare.Settings{BaseURL: s.url})
	return s
}

func newProvider(t *testing.T, s ayrshare.Settings) *ayrshare.Provider {
	t.Helper()
	p, err := ayrshare.New(s)
	if err != nil {
		t.Fatal(err)
	}
	ayrshare.Hurry(p)
	return p
}

func (s *service) subject() providertest.Subject {
	return flattest.Subject(providertest.Subject{
		Provider: s.provider, Proxy: s.proxy, OrgKey: orgKey, ForeignOrgKey: foreignKey, Secrets: secretForm, Unique: true,
		Identify: s.Identify,
		Plant:    func(_, name string) string { return s.Seed(fake.Account, name).Title },
		Reject:   func() { s.RejectAPIKey(fake.APIKey) },
		Hide: func() func() {
			switches := s.Switches()
			switches.HideTitles = true
			s.SetSwitches(switches)
			return func() { switches.HideTitles = false; s.SetSwitches(switches) }
		},
		Keep: func() func() {
			switches := s.Switches()
			switches.DeletesNothing = true
			s.SetSwitches(switches)
			return func() { switches.DeletesNothing = false; s.SetSwitches(switches) }
		},
		Disable: s.Suspend,
		Drop:    s.Drop,
	}, func() []providertest.Key {
		var keys []providertest.Key
		for _, p := range s.Profiles() {
			keys = append(keys, providertest.Key{ID: p.Title, Name: p.Title})
		}
		return keys
	})
}
