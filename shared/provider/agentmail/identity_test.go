package agentmail_test

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

// hashed is the client_id of a user whose id cannot be one.
func hashed(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "~" + strings.ToLower(strings.TrimRight(base32.StdEncoding.EncodeToString(sum[:]), "="))
}

// What is written here must not change: pods that exist would not be found again.
func TestThePodsClientIDIsTheUserIDWhereItCanBe(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ prefix, user, want string }{
		{"", "alice", "alice"},
		{"", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "3fa85f64-5717-4562-b3fc-2c963f66afa6"},
		{"", "A.b_c-d~9", "A.b_c-d~9"},
		{"", long, long},
		{"", "\u00fcn\u00ef", "~5f22kkmu3ch4pr57c3cuo544nuhdzwku6o62zortfsefrjp7jvma"},
		{"", "a b", hashed("a b")},
		{"", "a/b", hashed("a/b")},
		{"", "alice\n", hashed("alice\n")},
		{"", "~alice", hashed("~alice")},
		{"", hashed("a b"), hashed(hashed("a b"))},
		{"staging-", "alice", "staging-alice"},
		{"staging-", "~alice", "staging-" + hashed("~alice")},
		{"staging-", "a b", "staging-" + hashed("a b")},
		{"1234", long[:252], "1234" + long[:252]},
		{"1234", long[:253], "1234" + hashed(long[:253])},
		{"~", "alice", "~alice"},
	} {
		m := start(t)
		m.provider = newProvider(t, agentmail.Config{BaseURL: m.url, ClientIDPrefix: c.prefix})
		g := m.mustProvision(attemptFor(c.user, 1, credential.Resource{}, false))
		pod, ok := m.Pod(c.want)
		if !ok || pod.ID != g.Resource.ID {
			t.Errorf("prefix %q, user %q: there is no pod %q: %+v", c.prefix, c.user, c.want, m.Pods())
			continue
		}
		if pod.Name != c.user+"-pod" || pod.Keys[0].Name != c.user+"-agpt-managed.1" {
			t.Errorf("user %q: the pod's name is %q, its key's %q", c.user, pod.Name, pod.Keys[0].Name)
		}
	}
}

func TestNoTwoUsersShareAPod(t *testing.T) {
	t.Parallel()
	m := start(t)
	prefixes := rapid.SampledFrom([]string{"", "a", "~", "a~", strings.Repeat("p", 128)})
	rapid.Check(t, func(t *rapid.T) {
		prefix := prefixes.Draw(t, "prefix")
		p, err := agentmail.New(agentmail.Config{BaseURL: m.direct, ClientIDPrefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		one := userIDs().Draw(t, "one")
		another := rapid.OneOf(
			userIDs(),
			rapid.SampledFrom([]string{hashed(one), prefix + one, prefix + hashed(one), "~" + one, one + "~", strings.TrimPrefix(one, "~")}),
		).Filter(func(id string) bool { return credential.ValidUserID(id) && id != one }).Draw(t, "another")
		pods := map[string]bool{}
		for _, user := range []string{one, another, one} {
			g, err := p.Provision(t.Context(), orgKey, attemptFor(user, 1, credential.Resource{}, false))
			if err != nil {
				t.Fatal(err)
			}
			pods[g.Resource.ID] = true
		}
		if len(pods) != 2 {
			t.Fatalf("%q and %q have %d pods", one, another, len(pods))
		}
	})
}

// userIDs are short and long ones, of characters that can be in a client_id and of others.
func userIDs() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("ab~.")), 1, 4, -1),
		rapid.StringOfN(rapid.SampledFrom([]rune("a~")), 250, credential.MaxUserIDLength, -1),
		rapid.Map(rapid.StringN(1, 8, -1), hashed),
		rapid.StringN(1, credential.MaxUserIDLength, -1),
	).Filter(credential.ValidUserID)
}

// AutoGPT's own key is in use elsewhere.
func TestAPodOfAutoGPTsIsAdoptedAndItsKeyLeftAlone(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.SeedPod(fake.Pod{ClientID: "bob", Name: "bob-pod", Keys: []fake.Key{{Name: "bob-agpt-managed"}}})
	pod := m.SeedPod(fake.Pod{ClientID: alice, Name: "a name of its own", Keys: []fake.Key{{Name: "alice-agpt-managed"}}})
	untouched := func(doing string, ours ...string) {
		t.Helper()
		now, _ := m.Pod(alice)
		var names []string
		for _, k := range now.Keys {
			names = append(names, k.Name)
		}
		if now.ID != pod.ID || !slices.Equal(names, append([]string{"alice-agpt-managed"}, ours...)) || now.Keys[0].ID != pod.Keys[0].ID {
			t.Errorf("after %s: %+v", doing, now)
		}
	}
	m.mustProvision(attempt(1, credential.Resource{}, false))
	untouched("provisioning", "alice-agpt-managed.1")
	g := m.mustProvision(attempt(2, credential.Resource{}, true))
	untouched("taking over", "alice-agpt-managed.2")
	err := m.provider.Sweep(t.Context(), orgKey, attempt(3, g.Resource, true))
	if err != nil {
		t.Error(err)
	}
	untouched("sweeping", "alice-agpt-managed.2")
	err = m.provider.Discard(t.Context(), orgKey, g.Resource)
	if err != nil {
		t.Error(err)
	}
	untouched("discarding")
	m.mustDeprovision(attempt(4, g.Resource, false))
	if len(m.podsOf(alice)) > 0 || len(m.Pods()) != 1 || len(m.Pods()[0].Keys) != 1 {
		t.Errorf("after deprovisioning: %+v", m.Pods())
	}
}

// A key is ours by its whole name.
func TestOnlyKeysWithANumberAreOurs(t *testing.T) {
	t.Parallel()
	m := start(t)
	g := m.ready()
	names := []string{"alice-agpt-managed.", "alice-agpt-managed.x", "alice-agpt-managed.1x", "alice-agpt-managed.0x1", "alice-agpt-managed.99999999999999999999", "lice-agpt-managed.1", "alice.1", "1"}
	for _, name := range names {
		m.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: name}}})
	}
	err := m.provider.Sweep(t.Context(), orgKey, attempt(5, g.Resource, true))
	pod, _ := m.Pod(alice)
	if err != nil || len(pod.Keys) != 1+len(names) {
		t.Errorf("%v: %+v", err, pod.Keys)
	}
}

func TestDeploymentsThatShareAnOrganizationAreKeptApart(t *testing.T) {
	t.Parallel()
	m := start(t)
	production := m.ready()
	staging := newProvider(t, agentmail.Config{BaseURL: m.url, ClientIDPrefix: "staging-"})
	g, err := staging.Provision(t.Context(), orgKey, attempt(1, credential.Resource{}, false))
	if err != nil || g.Resource.ID == production.Resource.ID {
		t.Fatalf("%v: %+v", err, g)
	}
	err = staging.Deprovision(t.Context(), orgKey, attempt(2, credential.Resource{}, true))
	if err != nil {
		t.Error(err)
	}
	pods := m.Pods()
	if len(pods) != 1 || pods[0].ID != production.Resource.ID || len(pods[0].Keys) != 1 {
		t.Errorf("%+v", pods)
	}
}
