package providertest

import (
	"context"
	"net/http"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

// keepsRetiring: during a rotation's overlap a user has two keys.
func (s suite) keepsRetiring(t *testing.T) {
	for name, end := range map[string]func(*bench, managed.Grant){
		"it is over": func(b *bench, now managed.Grant) {
			b.must(b.sweep(t.Context(), b.attempt(4, now.Resource, true)))
			b.wantOne(examinee, now, 2)
		},
		"the account is deleted": func(b *bench, now managed.Grant) {
			b.must(b.deprovision(t.Context(), b.attempt(4, now.Resource, true)))
			b.wantNothing(examinee)
		},
	} {
		b := s.bench(t)
		old := b.mustProvision(b.attempt(1, credential.Resource{}, false))
		now := b.mustProvision(b.attempt(2, old.Resource, false))
		for range 2 {
			a := managed.NewAttempt(managed.Terms{
				User: examinee, Number: 3, Stored: now.Resource, Retiring: old.Resource.KeyID, Inherited: true,
				Now: b.clock.Now, Cutoff: b.clock.Now().Add(half),
			})
			b.must(b.sweep(t.Context(), a))
			if !a.Settled() {
				t.Errorf("until %s: a sweep did not settle", name)
			}
			b.wantWorking(now)
			b.wantWorking(old)
		}
		end(b, now)
	}
}

// wantWorking checks that what was granted is there, and opens what it did.
func (b *bench) wantWorking(g managed.Grant) {
	b.t.Helper()
	id, accepted := b.Identify(g.Key.Reveal())
	if !b.lists(g.Resource.KeyID) || id != g.Resource.KeyID || !accepted {
		b.t.Errorf("the key %s is listed: %t, accepted: %t", g.Resource.KeyID, b.lists(g.Resource.KeyID), accepted)
	}
}

// leavesOtherDeployments has another deployment that knows the same user do all that it can.
func (s suite) leavesOtherDeployments(t *testing.T) {
	b := s.bench(t)
	of := func(deployment string, number int64, stored credential.Resource, inherited bool) *managed.Attempt {
		a := b.attempt(number, stored, inherited)
		a.Deployment = deployment
		return a
	}
	const ours, theirs = "aaaaaaa2", "bbbbbbb3"
	others := len(b.Keys())
	mine := b.mustProvision(of(ours, 1, credential.Resource{}, false))
	var made credential.Resource
	for n := range int64(2) { // the second is a take-over, of a slot that names nothing
		g, err := b.provision(t.Context(), of(theirs, 2+n, credential.Resource{}, n > 0))
		if err != nil && class(err) != managed.Mismatch {
			t.Errorf("the other deployment makes one, too: %v", err)
		}
		made = g.Resource
		b.wantWorking(mine)
	}
	if made.KeyID != "" {
		b.must(b.sweep(t.Context(), of(theirs, 4, made, true)))
		b.wantWorking(mine)
	}
	for n := range int64(2) {
		err := b.deprovision(t.Context(), of(theirs, 5+n, made, true))
		if err != nil && class(err) != managed.Mismatch && class(err) != managed.Gone {
			t.Errorf("the other deployment removes its own: %v", err)
		}
		b.wantWorking(mine)
	}
	b.must(b.deprovision(t.Context(), of(ours, 7, mine.Resource, true)))
	if len(b.Resources(examinee)) > 0 || len(b.Keys()) != others {
		t.Errorf("of both deployments are left %v and %v", b.Resources(examinee), b.Keys())
	}
}

// staysInItsOrganisation: a deployment makes things in one organisation, whatever an org key opens.
func (s suite) staysInItsOrganisation(t *testing.T) {
	b := s.bench(t)
	home := b.neighbor.Resource.OrgID
	for name, c := range map[string]struct {
		org    credential.Secret
		pinned string
	}{
		"our org key, and another organisation": {b.OrgKey, home + "x"},
		"another org key, and our organisation": {b.ForeignOrgKey, home},
	} {
		pinned := func(number int64, inherited bool) *managed.Attempt {
			a := b.attempt(number, credential.Resource{}, inherited)
			a.Organization = c.pinned
			return a
		}
		_, err := b.Provider.Provision(t.Context(), c.org, pinned(1, false))
		if class(b.checked(err)) != managed.Foreign {
			t.Errorf("%s: provision: %v", name, err)
		}
		err = b.Provider.Deprovision(t.Context(), c.org, pinned(2, true))
		if class(b.checked(err)) != managed.Foreign {
			t.Errorf("%s: deprovision: %v", name, err)
		}
	}
	if b.created() > 0 {
		t.Error("a create was sent")
	}
	a := b.attempt(3, credential.Resource{}, true)
	a.Organization = home
	b.wantOne(examinee, b.mustProvision(a), 3)
}

// wantsMembers answers every read with a JSON object that has nothing in it.
func (s suite) wantsMembers(t *testing.T) {
	b := s.bench(t)
	if !b.Flat {
		t.Skip("an empty list may have no member")
	}
	g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
	b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Method != http.MethodGet {
			return nil
		}
		return fault.RespondJSON(http.StatusOK, "{}")
	})
	for name, read := range map[string]func(context.Context) error{
		"sweep": func(ctx context.Context) error { return b.sweep(ctx, b.attempt(2, g.Resource, true)) },
		"inspect": func(ctx context.Context) error {
			_, err := b.Provider.Inspect(ctx, b.OrgKey, examinee, g.Resource)
			return err
		},
		"audit": func(ctx context.Context) error {
			_, _, err := b.Provider.Enumerate(ctx, b.OrgKey, "")
			return err
		},
		"deprovision": func(ctx context.Context) error {
			return b.deprovision(ctx, b.attempt(2, credential.Resource{}, true))
		},
	} {
		err := read(t.Context())
		if err == nil || class(b.checked(err)) == managed.Gone {
			t.Errorf("%s takes it for an empty list: %v", name, err)
		}
	}
	b.Proxy.SetHook(nil)
	b.wantOne(examinee, g, 1)
}
