package providertest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

func (s suite) sweepsWhatHasGone(t *testing.T) {
	for name, lose := range map[string]func(*bench, credential.Resource){
		"the key": func(b *bench, r credential.Resource) { b.must(b.discard(context.Background(), r)) },
		"the resource": func(b *bench, r credential.Resource) {
			b.must(b.deprovision(context.Background(), b.attempt(2, r, false)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := s.bench(t)
			g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
			lose(b, g.Resource)
			if name == "the key" {
				b.Plant(examinee, b.KeyName(examinee, 2))
			}
			left := b.ours(examinee)
			for range 2 {
				a := b.attempt(3, g.Resource, true)
				err := b.sweep(t.Context(), a)
				if class(err) != managed.Gone || a.Settled() {
					t.Errorf("got %v, settled: %t", err, a.Settled())
				}
			}
			if !slices.Equal(b.ours(examinee), left) {
				t.Errorf("of the keys %v are left %v", left, b.ours(examinee))
			}
			gone := g.Resource
			gone.KeyID = ""
			b.wantOne(examinee, b.mustProvision(b.attempt(4, gone, true)), 4)
		})
	}
}

func (s suite) enumerates(t *testing.T) {
	b := s.bench(t)
	users := []string{examinee, "~hashed", "\u00fcml\u00e4ut", b.KeyName(examinee, 1)} // the last one is the neighbor
	resources := map[string]credential.Resource{}
	for _, user := range users {
		a := b.attemptFor(user, 1, credential.Resource{}, false)
		if user != users[3] {
			b.mustProvision(a)
		}
		resources[b.Resources(user)[0]] = credential.Resource{}
	}
	b.Plant(examinee, b.KeyName(examinee, 3))
	b.Plant(examinee, "made by the user")
	b.Proxy.Reset()
	var found []string
	for cursor, more := "", true; more; more = cursor != "" {
		page, next, err := b.Provider.Enumerate(t.Context(), b.OrgKey, cursor)
		b.must(b.checked(err))
		for _, h := range page {
			found = append(found, h.User)
			resources[h.Resource.ID] = h.Resource
		}
		cursor = next
	}
	slices.Sort(users)
	slices.Sort(found)
	if !slices.Equal(found, users) || len(resources) != len(users) {
		t.Errorf("found resources of %q, want %q; in all %v", found, users, slices.Collect(maps.Keys(resources)))
	}
	keys, err := b.Provider.Inspect(t.Context(), b.OrgKey, examinee, resources[b.Resources(examinee)[0]])
	b.must(b.checked(err))
	b.wantInspected(keys)
	for _, c := range b.Proxy.Calls() {
		if c.Method != http.MethodGet && c.Method != http.MethodHead {
			t.Errorf("%s was sent", c.Op)
		}
	}
}

// wantInspected checks that these are the keys of ours in the examinee's resource.
func (b *bench) wantInspected(keys []managed.HeldKey) {
	b.t.Helper()
	var got []Key
	for _, key := range keys {
		got = append(got, Key{Resource: b.Resources(examinee)[0], ID: key.ID, Name: b.KeyName(examinee, key.Attempt)})
		if key.CreatedAt.IsZero() {
			b.t.Error("nobody can tell how old a key is")
		}
	}
	for _, key := range b.ours(examinee) {
		if !slices.Contains(got, key) {
			b.t.Errorf("the key %v was not found", key)
		}
	}
	if len(got) != 2 {
		b.t.Errorf("the keys are %v", got)
	}
}

// thawing is the context of a process that was frozen: Err knows that the time is over, and no
// timer has said so yet.
type thawing struct {
	context.Context
	over atomic.Bool
}

func (c *thawing) Err() error {
	if c.over.Load() {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

func (s suite) looksAtTheClock(t *testing.T) {
	s.eachOperation(t, func(t *testing.T, op operation, nth int) bool {
		b := s.bench(t)
		do := op.prepare(b)
		ctx := &thawing{Context: t.Context()}
		var sent atomic.Int32
		b.Proxy.SetHook(func(*fault.Call) fault.Fault {
			if int(sent.Add(1)) == nth {
				ctx.over.Store(true)
			}
			return nil
		})
		_ = do(ctx)
		b.Proxy.SetHook(nil)
		if int(sent.Load()) > nth {
			t.Errorf("after call %d another one was sent", nth)
		}
		return int(sent.Load()) >= nth
	})
}
