package providertest

import (
	"context"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

func (s suite) discards(t *testing.T) {
	b := s.bench(t)
	made := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
	foreign := b.plantForeign()
	for range 2 {
		b.must(b.discard(t.Context(), made))
		if b.lists(made.KeyID) {
			t.Error("the key is still there")
		}
		b.wantListed(foreign)
	}
}

func (s suite) sweeps(t *testing.T) {
	b := s.bench(t)
	g := b.mustProvision(b.attempt(2, credential.Resource{}, false))
	foreign := b.plantForeign()
	for _, n := range []int64{1, 3, 5} {
		b.Plant(examinee, b.KeyName(examinee, n))
	}
	if !b.Unique {
		b.Plant(examinee, b.KeyName(examinee, 1)) // two of one name
	}
	higher := credential.Resource{ID: g.Resource.ID, KeyID: foreign[b.KeyName(examinee, 9)], OrgID: g.Resource.OrgID}
	for range 2 {
		a := b.attempt(7, g.Resource, true)
		b.must(b.sweep(t.Context(), a))
		if !a.Settled() {
			t.Error("a sweep did not settle")
		}
		b.wantListed(foreign)
		b.must(b.discard(t.Context(), higher))
		b.wantOne(examinee, g, 2)
		delete(foreign, b.KeyName(examinee, 9))
	}
}

func (s suite) sweepsAfterTrouble(t *testing.T) {
	for _, w := range troubles {
		if w.late {
			continue // a sweep creates nothing
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			eachOf(t, func(nth int) bool {
				b := s.bench(t)
				g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
				b.Plant(examinee, b.KeyName(examinee, 2))
				b.Plant(examinee, b.KeyName(examinee, 3))
				a := b.attempt(4, g.Resource, true)
				struck, err := b.suffer(nth, w, func(ctx context.Context) error { return b.sweep(ctx, a) })
				if !struck {
					return false
				}
				if err != nil && a.Settled() {
					t.Errorf("a sweep that failed settled: %v", err)
				}
				if err != nil || w.fatal {
					b.must(b.sweep(t.Context(), b.attempt(5, g.Resource, true)))
				}
				b.wantOne(examinee, g, 1)
				return true
			})
		})
	}
}

func (s suite) deprovisions(t *testing.T) {
	for _, c := range beginnings {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := s.bench(t)
			a := c.prepare(b)
			nothing := len(b.ours(examinee)) == 0
			err := b.deprovision(t.Context(), a)
			if !nothing || class(err) != managed.Gone { // a lookup may be a create, and remove what it made
				b.must(err)
			}
			b.wantNothing(examinee)
			if !a.Settled() {
				t.Error("it did not settle")
			}
			for range 2 {
				a = b.attempt(a.Number+1, a.Resource(), false)
				err := b.deprovision(t.Context(), a)
				if class(err) != managed.Gone || !a.Settled() {
					t.Errorf("once more: %v, settled: %t", err, a.Settled())
				}
				b.wantNothing(examinee)
			}
		})
	}
}

// beginnings are the states that a deletion may find.
var beginnings = []struct {
	name    string
	prepare func(*bench) *managed.Attempt
}{
	{"ready", func(b *bench) *managed.Attempt {
		stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
		b.Plant(examinee, "made by the user")
		b.fill()
		return b.attempt(2, stored, false)
	}},
	{"ready, not settled", func(b *bench) *managed.Attempt {
		stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
		return b.attempt(2, stored, true)
	}},
	{"made, commit lost", func(b *bench) *managed.Attempt {
		b.mustProvision(b.attempt(1, credential.Resource{}, false))
		b.fill()
		return b.attempt(2, credential.Resource{}, true)
	}},
	{"nothing made", func(b *bench) *managed.Attempt { return b.attempt(1, credential.Resource{}, false) }},
}

func (s suite) deprovisionsAfterTrouble(t *testing.T) {
	for _, w := range troubles {
		for _, c := range beginnings {
			t.Run(c.name+", "+w.name, func(t *testing.T) {
				t.Parallel()
				calls := each(func(nth int) bool {
					b := s.bench(t)
					a := c.prepare(b)
					stored := a.Resource()
					struck, err := b.suffer(nth, w, func(ctx context.Context) error { return b.deprovision(ctx, a) })
					if struck {
						b.wantDeleted(a, stored, err, w.fatal)
					}
					return struck
				})
				if calls == 0 && w.strikes == nil {
					t.Error("there was no call")
				}
			})
		}
	}
}

// wantDeleted goes on after a pass over a slot that stored this, as the engine does, and checks
// that it comes to an end with nothing left.
func (b *bench) wantDeleted(a *managed.Attempt, stored credential.Resource, err error, died bool) {
	b.t.Helper()
	for passes := 1; err != nil && class(err) != managed.Gone || died || !a.Settled(); passes++ {
		if passes == 4 {
			b.t.Fatalf("it does not come to an end: %v (settled: %t)", err, a.Settled())
		}
		if err == nil || class(err) == managed.Gone || died { // as was stored before, and open
			a = b.after(a, stored, true)
		} else {
			a = b.after(a, stored, false)
			stored = a.Resource()
		}
		died = false
		err = b.deprovision(context.Background(), a)
	}
	b.wantNothing(examinee)
}

func (s suite) saysNotYet(t *testing.T) {
	b := s.bench(t)
	if b.Linger == nil {
		t.Skip("the third party deletes at once")
	}
	finish := b.Linger()
	stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
	b.fill()
	for n := range int64(2) {
		a := b.attempt(2+n, stored, false)
		err := b.deprovision(t.Context(), a)
		if class(err) != managed.NotYet || !a.Settled() {
			t.Errorf("got %v, settled %t", err, a.Settled())
		}
	}
	finish()
	b.must(b.deprovision(t.Context(), b.attempt(4, stored, false)))
	b.wantNothing(examinee)
}

func (s suite) wantsProof(t *testing.T) {
	b := s.bench(t)
	g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
	failed := g.Resource
	failed.KeyID = ""
	b.Proxy.Reset()
	for name, do := range map[string]func(org credential.Secret) error{
		"provision": func(org credential.Secret) error {
			_, err := b.Provider.Provision(t.Context(), org, b.attempt(2, failed, false))
			return err
		},
		"sweep": func(org credential.Secret) error {
			return b.Provider.Sweep(t.Context(), org, b.attempt(2, g.Resource, true))
		},
		"discard": func(org credential.Secret) error { return b.Provider.Discard(t.Context(), org, g.Resource) },
		"inspect": func(org credential.Secret) error {
			_, err := b.Provider.Inspect(t.Context(), org, examinee, g.Resource)
			return err
		},
		"deprovision": func(org credential.Secret) error {
			return b.Provider.Deprovision(t.Context(), org, b.attempt(2, g.Resource, false))
		},
		"deprovision, not settled": func(org credential.Secret) error {
			return b.Provider.Deprovision(t.Context(), org, b.attempt(2, g.Resource, true))
		},
	} {
		err := b.checked(do(b.ForeignOrgKey))
		if class(err) != managed.Foreign {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if b.created() > 0 {
		t.Error("a create was sent")
	}
	b.wantOne(examinee, g, 1)
	b.must(b.deprovision(t.Context(), b.attempt(3, g.Resource, false)))
	b.wantNothing(examinee)
}
