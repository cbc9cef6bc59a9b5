package managed_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/openrouter"
	"managed-credentials/shared/provider/openrouter/fake"
)

// withOpenRouter is a world whose only provider is OpenRouter, behind a proxy.
func withOpenRouter(t *testing.T) (*managedtest.World, *fake.Server, *fault.Proxy) {
	t.Helper()
	var clock *managedtest.Clock
	router := fake.New(fake.Config{Now: func() time.Time { return clock.Now() }})
	direct := httptest.NewServer(router)
	proxy := fault.New(direct.URL)
	proxied := httptest.NewServer(proxy)
	t.Cleanup(func() { proxied.Close(); direct.Close() })
	w := managedtest.New(t, managedtest.Options{Providers: func(string) []managed.Provider {
		p, err := openrouter.New(openrouter.Settings{BaseURL: proxied.URL, Limit: 5, Workspace: fake.Workspace})
		if err != nil {
			t.Fatal(err)
		}
		return []managed.Provider{p}
	}})
	clock = w.Clock
	w.SetOrgKeys(`{"open_router":"` + fake.ManagementKey + `"}`)
	return w, router, proxy
}

// keysOf are the names of the user's keys.
func keysOf(router *fake.Server, user string) []string {
	var names []string
	for _, k := range router.Keys() {
		if strings.HasPrefix(k.Name, "managed-credentials/"+flat.Container(user)+"/") {
			names = append(names, k.Name)
		}
	}
	return names
}

func TestAnAuditOfKeysInOneListFindsWhatIsTooMany(t *testing.T) {
	t.Parallel()
	w, router, proxy := withOpenRouter(t)
	for _, user := range []string{alice, bob} {
		if l := list(t, w.Engine(), user); len(l.Credentials) != 1 || len(keysOf(router, user)) != 1 {
			t.Fatalf("%s has %+v, and the keys %v", user, l, keysOf(router, user))
		}
	}
	remove(t, w.Engine(), bob)
	w.Converge()
	router.Seed(fake.Key{Name: flat.KeyName(alice, w.DeploymentID, 0)})
	router.Seed(fake.Key{Name: flat.KeyName(bob, w.DeploymentID, 1)})
	router.Seed(fake.Key{Name: flat.KeyName(alice, "zzzz2345", 1)}) // another deployment's
	longAgo(w)
	proxy.Reset()
	request := managed.AuditRequest{Provider: openrouter.Name, Repair: 9}
	report, err := w.Engine().Audit(t.Context(), request)
	if err != nil || found(report, alice) != "surplus_key check" || found(report, bob) != "left_behind revoke" {
		t.Errorf("%v: %+v", err, report)
	}
	lists := 0
	for _, c := range proxy.Calls() {
		if strings.HasPrefix(c.Op, "GET /api/v1/keys") && c.URL.Path == "/api/v1/keys" {
			lists++
		}
	}
	if lists > 2 { // the second page shows that there is none
		t.Errorf("the list was read %d times", lists)
	}
	w.Converge()
	if len(keysOf(router, alice)) != 2 || len(keysOf(router, bob)) != 0 {
		t.Errorf("after the repair there are %v and %v", keysOf(router, alice), keysOf(router, bob))
	}
	longAgo(w)
	report, err = w.Engine().Audit(t.Context(), request)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
	remove(t, w.Engine(), alice)
	w.Converge()
	if left := keysOf(router, alice); len(left) != 1 || !strings.Contains(left[0], "zzzz2345") {
		t.Errorf("after the deletion there are %v", left)
	}
}
