package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

func (s suite) named(t *testing.T) {
	p := s.bench(t).Provider
	if !credential.ValidProvider(p.Name()) || p.Title() == "" {
		t.Errorf("name %q, title %q", p.Name(), p.Title())
	}
}

func (s suite) provisions(t *testing.T) {
	b := s.bench(t)
	a := b.attempt(1, credential.Resource{}, false)
	g := b.mustProvision(a)
	b.wantOne(examinee, g, 1)
	if !a.Settled() || a.Resource().ID != g.Resource.ID || a.Resource().OrgID != g.Resource.OrgID {
		t.Errorf("the attempt is settled: %t, and found %+v, but %+v was granted", a.Settled(), a.Resource(), g.Resource)
	}
}

func (s suite) keepsUsersApart(t *testing.T) {
	b := s.bench(t)
	users := []string{
		"ann", "Ann", "~ann", "ann.1", "ann-1", "ann/1", "ann 1", "..", "%2e", "?#&=", "\u00fcml\u00e4ut", "\u202e\u0000\n",
		strings.Repeat("x", credential.MaxUserIDLength), strings.Repeat("x", credential.MaxUserIDLength-1) + "y",
		strings.Repeat("\U0001f510", credential.MaxUserIDLength), b.KeyName("ann", 1),
	}
	grants := map[string]managed.Grant{}
	for _, user := range users {
		grants[user] = b.mustProvision(b.attemptFor(user, 1, credential.Resource{}, false))
	}
	for i, user := range users {
		for _, still := range users[i:] {
			b.wantOne(still, grants[still], 1)
		}
		b.must(b.deprovision(t.Context(), b.attemptFor(user, 2, credential.Resource{}, true)))
		b.wantNothing(user)
	}
}

func (s suite) concurrent(t *testing.T) {
	b := s.bench(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			user := fmt.Sprintf("user-2.%d", i)
			g, err := b.provision(t.Context(), b.attemptFor(user, 1, credential.Resource{}, false))
			err = errors.Join(err, b.sweep(t.Context(), b.attemptFor(user, 2, g.Resource, true)))
			b.wantOne(user, g, 1)
			err = errors.Join(err, b.deprovision(t.Context(), b.attemptFor(user, 3, g.Resource, false)))
			again := b.deprovision(t.Context(), b.attemptFor(user, 4, g.Resource, false))
			if class(again) != managed.Gone {
				t.Errorf("what is deleted is deleted again: %v", again)
			}
			if err != nil {
				t.Error(err)
			}
			b.wantNothing(user)
		})
	}
	all.Wait()
}

func (s suite) provisionsAfterTrouble(t *testing.T) {
	for _, w := range troubles {
		for _, lost := range []int64{0, 1} { // attempts before, whose workers died before they could commit
			t.Run(fmt.Sprintf("%s, in attempt %d", w.name, lost+1), func(t *testing.T) {
				t.Parallel()
				eachOf(t, func(nth int) bool {
					b := s.bench(t)
					for n := range lost {
						b.mustProvision(b.attempt(n+1, credential.Resource{}, n > 0))
					}
					a := b.attempt(lost+1, credential.Resource{}, lost > 0)
					var g managed.Grant
					struck, err := b.suffer(nth, w, func(ctx context.Context) (err error) {
						g, err = b.provision(ctx, a)
						return err
					})
					if struck {
						b.wantRecovery(a, g, err, w.fatal)
					}
					return struck
				})
			})
		}
	}
}

// wantRecovery checks what an attempt in trouble has left, if it granted a key, and then what the
// next attempt makes of it.
func (b *bench) wantRecovery(a *managed.Attempt, g managed.Grant, err error, died bool) {
	b.t.Helper()
	next := b.after(a, credential.Resource{}, died)
	if err != nil && a.Settled() && slices.ContainsFunc(b.ours(examinee), func(k Key) bool { return k.Name != b.KeyName(examinee, a.Number) }) {
		b.t.Errorf("a take-over that failed is settled, and the key of a lower attempt is left: %v", err)
	}
	if err == nil && !died {
		if !a.Settled() {
			swept := b.after(a, g.Resource, true)
			b.must(b.sweep(context.Background(), swept))
			if !swept.Settled() {
				b.t.Error("a sweep did not settle")
			}
		}
		b.wantOne(examinee, g, a.Number)
		next = b.attempt(a.Number+2, credential.Resource{}, true) // its commit was lost
	}
	inherited := next.Inherited()
	g = b.mustProvision(next)
	b.wantOne(examinee, g, next.Number)
	if inherited && next.Settled() {
		b.t.Error("a take-over has accounted for keys that a replica may not have shown it")
	}
	swept := b.attempt(next.Number+1, g.Resource, !next.Settled())
	b.must(b.sweep(context.Background(), swept))
	b.wantOne(examinee, g, next.Number)
	if !swept.Settled() {
		b.t.Error("a sweep did not settle")
	}
}

func (s suite) takesOver(t *testing.T) {
	b := s.bench(t)
	stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
	foreign := b.plantForeign()
	b.mustProvision(b.attempt(3, stored, false))
	b.mustProvision(b.attempt(4, stored, true))
	ids := []string{}
	for _, k := range b.ours(examinee) {
		ids = append(ids, k.Name)
	}
	slices.Sort(ids)
	want := []string{b.KeyName(examinee, 1), b.KeyName(examinee, 4), b.KeyName(examinee, 9)}
	if !slices.Equal(ids, want) {
		t.Errorf("the keys are %v, want %v", ids, want)
	}
	b.wantListed(foreign)
}

// plantForeign makes keys beside the examinee's that no attempt below the ninth may delete, and
// returns their ids by their names.
func (b *bench) plantForeign() map[string]string {
	planted := map[string]string{}
	one := b.KeyName(examinee, 1)
	for _, name := range []string{
		b.KeyName(examinee, 9), b.KeyName("somebody-else", 1), b.KeyName(examinee+"2", 1), b.KeyName("x"+examinee, 1),
		one + "x", "x" + one, strings.TrimSuffix(one, "1"), examinee, "API Key", "1", "",
	} {
		planted[name] = b.Plant(examinee, name)
	}
	return planted
}

func (b *bench) wantListed(planted map[string]string) {
	b.t.Helper()
	for name, id := range planted {
		if !b.lists(id) {
			b.t.Errorf("the key named %q was deleted", name)
		}
	}
}

func (s suite) reportsOutcomes(t *testing.T) {
	refused := func(status int) fault.Fault { return fault.Respond(status, nil, []byte("{}")) }
	for _, c := range []struct {
		name  string
		fault func(*bench, func()) fault.Fault
		known bool
	}{
		{"lost", simply(fault.Drop()), false},
		{"answer lost", simply(fault.LoseAnswer()), false},
		{"given up", whileWaiting, false},
		{"cut short", simply(cutShort), false},
		{"500", simply(refused(http.StatusInternalServerError)), false},
		{"502", simply(refused(http.StatusBadGateway)), false},
		{"503, though done", simply(fault.Delivered(refused(http.StatusServiceUnavailable))), false},
		{"400", simply(refused(http.StatusBadRequest)), true},
		{"422", simply(refused(http.StatusUnprocessableEntity)), true},
		{"429", simply(refused(http.StatusTooManyRequests)), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := trouble{strikes: creating, fault: c.fault}
			try := func(do func(context.Context, *bench, *managed.Attempt) error) int {
				return each(func(nth int) bool {
					b := s.bench(t)
					a := b.attempt(1, credential.Resource{}, false)
					struck, err := b.suffer(nth, w, func(ctx context.Context) error { return do(ctx, b, a) })
					if struck && a.Settled() != c.known {
						t.Errorf("create %d ended so, yet settled is %t (error: %v)", nth, a.Settled(), err)
					}
					return struck
				})
			}
			n := try(func(ctx context.Context, b *bench, a *managed.Attempt) error {
				_, err := b.provision(ctx, a)
				return err
			})
			if n == 0 {
				t.Error("provision created nothing")
			}
			try(func(ctx context.Context, b *bench, a *managed.Attempt) error { return b.deprovision(ctx, a) })
		})
	}
}

func (s suite) stopsCreating(t *testing.T) {
	overdue := func(f fault.Fault) trouble {
		return trouble{fault: func(b *bench, _ func()) fault.Fault { b.clock.Advance(half); return f }}
	}
	for _, op := range operations {
		if !op.mayCreate {
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			b := s.bench(t)
			do := op.prepare(b)
			b.Proxy.Reset()
			b.clock.Advance(half)
			err := do(t.Context())
			if b.created() > 0 {
				t.Error("a create was sent after its time")
			}
			if err != nil && class(err) != managed.Transient {
				t.Errorf("got %v", err)
			}
			for _, f := range []fault.Fault{nil, fault.Respond(http.StatusServiceUnavailable, nil, nil)} {
				eachOf(t, func(nth int) bool {
					b := s.bench(t)
					struck, _ := b.suffer(nth, overdue(f), op.prepare(b))
					for _, c := range b.Proxy.Calls() {
						if c.Seq > nth && b.Creates(c) != Nothing {
							t.Errorf("%s was sent after its time", c.Op)
						}
					}
					return struck
				})
			}
		})
	}
}

func (s suite) createsNothingElse(t *testing.T) {
	for _, op := range operations {
		if op.mayCreate {
			continue
		}
		b := s.bench(t)
		do := op.prepare(b)
		b.Proxy.Reset()
		b.must(do(t.Context()))
		if b.created() > 0 {
			t.Errorf("%s sent a create", op.name)
		}
	}
}
