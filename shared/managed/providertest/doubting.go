package providertest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

func (s suite) doubtsAnAbsence(t *testing.T) {
	b := s.bench(t)
	if b.Hide == nil {
		t.Skip("there is one path alone to what was made")
	}
	g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
	show := b.Hide()
	for name, look := range map[string]func() error{
		"sweep": func() error { return b.sweep(t.Context(), b.attempt(2, g.Resource, false)) },
		"inspect": func() error {
			_, err := b.Provider.Inspect(t.Context(), b.OrgKey, examinee, g.Resource)
			return b.checked(err)
		},
		"discard":     func() error { return b.discard(t.Context(), g.Resource) },
		"deprovision": func() error { return b.deprovision(t.Context(), b.attempt(2, g.Resource, false)) },
	} {
		err := look()
		listed := b.Flat && name == "sweep" && err == nil         // that goes by the list
		inContainer := !b.Flat && name == "discard" && err == nil // the next take-over finds the key in there
		if class(err) != managed.Transient && !listed && !inContainer {
			t.Errorf("%s: got %v", name, err)
		}
	}
	show()
	b.wantOne(examinee, g, 1)
}

func (s suite) leavesWhatIsNotTheUsers(t *testing.T) {
	b := s.bench(t)
	g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
	b.fill()
	for _, inherited := range []bool{false, true} {
		err := b.deprovision(t.Context(), b.attemptFor("somebody-else", 2, g.Resource, inherited))
		if class(err) != managed.Mismatch {
			t.Errorf("got %v", err)
		}
		b.wantOne(examinee, g, 1)
	}
}

// doubtsASuccess has the third party delete nothing, and answer with a success all the same: by a
// page of what stands before it, or in its own words.
func (s suite) doubtsASuccess(t *testing.T) {
	page := fault.Respond(http.StatusOK, nil, []byte("<html>We are back soon</html>"))
	for name, pretend := range map[string]func(*bench) (obey func()){
		"a page": func(b *bench) func() {
			b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
				if c.Method == http.MethodDelete {
					return page
				}
				return nil
			})
			return func() { b.Proxy.SetHook(nil) }
		},
		"its own words": func(b *bench) func() { return b.Keep() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range beginnings[:3] {
				b := s.bench(t)
				if name != "a page" && b.Keep == nil {
					t.Skip("a success has nothing to say")
				}
				a := c.prepare(b)
				stored := a.Resource()
				obey := pretend(b)
				err := b.deprovision(t.Context(), a)
				if err == nil || class(err) == managed.Gone {
					t.Errorf("%s: nothing was deleted: %v", c.name, err)
				}
				if stored.KeyID != "" && b.discard(t.Context(), stored) == nil {
					t.Errorf("%s: the key was not discarded", c.name)
				}
				obey()
				b.wantDeleted(a, stored, err, false)
			}
		})
	}
}

// deletesTheRest refuses one deletion for good: what else there is goes, the stored key before all.
func (s suite) deletesTheRest(t *testing.T) {
	for _, status := range []int{http.StatusUnprocessableEntity, http.StatusInternalServerError} {
		refused := fault.Respond(status, nil, []byte(`{"code":"refused"}`))
		eachOf(t, func(nth int) bool {
			b := s.bench(t)
			stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
			b.fill()
			mine := b.Plant(examinee, "made by the user")
			b.Proxy.Reset()
			var deletions []string
			b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
				if c.Method != http.MethodDelete {
					return nil
				}
				deletion := c.Op + string(c.Body)
				if !slices.Contains(deletions, deletion) {
					deletions = append(deletions, deletion)
				}
				if len(deletions) >= nth && deletions[nth-1] == deletion {
					return refused
				}
				return nil
			})
			a := b.attempt(2, stored, false)
			err := b.deprovision(context.Background(), a)
			b.Proxy.SetHook(nil)
			if len(deletions) < nth {
				return false
			}
			if nth == 1 && !strings.Contains(deletions[0], stored.KeyID) {
				t.Errorf("the first deletion was %s, not the stored key's", deletions[0])
			}
			for _, key := range []string{stored.KeyID, mine} {
				if b.Flat && key == mine {
					continue
				}
				if b.lists(key) && !strings.Contains(deletions[nth-1], key) {
					t.Errorf("%d for %s kept the key %s alive: %v", status, deletions[nth-1], key, err)
				}
			}
			b.wantDeleted(a, stored, err, false)
			return true
		})
	}
}

func (s suite) deletesWithoutALookup(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusInternalServerError} {
		b := s.bench(t)
		stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
		b.fill()
		b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
			if b.Creates(c) != Nothing {
				return fault.Respond(status, nil, []byte(`{"code":"limit_exceeded"}`))
			}
			return nil
		})
		a := b.attempt(2, stored, true)
		err := b.deprovision(t.Context(), a)
		b.wantNothing(examinee)
		if err != nil && !a.Inherited() {
			t.Errorf("nobody has looked for more, and it counts as found: %v", err)
		}
		b.Proxy.SetHook(nil)
		b.wantDeleted(a, stored, err, false)
	}
}

// knowsDisabledKeys: that a key does not work is the organisation's doing, or what it has spent. It
// is no reason to make another.
func (s suite) knowsDisabledKeys(t *testing.T) {
	b := s.bench(t)
	if b.Disable == nil {
		t.Skip("a key that is there works")
	}
	stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
	lower := b.Plant(examinee, b.KeyName(examinee, 2))
	b.Disable(stored.KeyID)
	b.Disable(lower)
	a := b.attempt(3, stored, true)
	err := b.sweep(t.Context(), a)
	if class(err) != managed.Unusable || !a.Settled() {
		t.Errorf("a sweep of a key that does not work: %v, settled: %t", err, a.Settled())
	}
	if !b.lists(stored.KeyID) || b.lists(lower) {
		t.Errorf("after a sweep the keys are %v", b.ours(examinee))
	}
	keys, err := b.Provider.Inspect(t.Context(), b.OrgKey, examinee, stored)
	if err != nil || len(keys) != 1 || keys[0].ID != stored.KeyID {
		t.Errorf("an audit sees %v: %v", keys, b.checked(err))
	}
	b.Disable(b.Plant(examinee, b.KeyName(examinee, 2)))
	b.must(b.deprovision(t.Context(), b.attempt(4, stored, true)))
	b.wantNothing(examinee)
}

// worksAlone: what proves that something is gone must not be that something else is there.
func (s suite) worksAlone(t *testing.T) {
	b := s.bench(t)
	neighbor := b.KeyName(examinee, 1)
	b.must(b.deprovision(t.Context(), b.attemptFor(neighbor, 2, credential.Resource{}, true)))
	g := b.mustProvision(b.attempt(1, credential.Resource{}, false))
	b.must(b.deprovision(t.Context(), b.attempt(2, g.Resource, false)))
	for n, a := range []*managed.Attempt{b.attempt(3, g.Resource, false), b.attempt(4, g.Resource, true), b.attempt(5, credential.Resource{}, true)} {
		lookup := a.Inherited() // which may be a create, and remove what it made
		err := b.deprovision(t.Context(), a)
		if class(err) != managed.Gone && (err != nil || !lookup) || !a.Settled() {
			t.Errorf("look %d at an organisation that has nothing: %v, settled: %t", n+1, err, a.Settled())
		}
	}
	err := b.sweep(t.Context(), b.attempt(6, g.Resource, true))
	_, inspected := b.Provider.Inspect(t.Context(), b.OrgKey, examinee, g.Resource)
	if class(err) != managed.Gone || class(b.checked(inspected)) != managed.Gone {
		t.Errorf("a sweep there: %v; an audit: %v", err, inspected)
	}
	b.neighbor = b.mustProvision(b.attemptFor(neighbor, 1, credential.Resource{}, false))
}

// readsShiftingLists deletes keys, and adds some, after each page that is read.
func (s suite) readsShiftingLists(t *testing.T) {
	for name, do := range map[string]func(*bench, credential.Resource) error{
		"sweep":       func(b *bench, r credential.Resource) error { return b.sweep(t.Context(), b.attempt(5, r, true)) },
		"deprovision": func(b *bench, r credential.Resource) error { return b.deprovision(t.Context(), b.attempt(5, r, true)) },
		"audit":       func(b *bench, _ credential.Resource) error { return b.audited() },
	} {
		for _, dropped := range []int{1, 4, 9} {
			b := s.bench(t)
			if b.Drop == nil {
				t.Skip("lists do not shift")
			}
			stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
			var others []string
			for n := range 60 {
				others = append(others, b.Plant(examinee, "somebody else's"))
				if n%20 == 10 {
					b.Plant(examinee, b.KeyName(examinee, int64(2+n/20)))
				}
			}
			b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
				if c.Method != http.MethodGet {
					return nil
				}
				return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
					answer, err := c.Forward(ctx)
					if len(others) > dropped {
						for _, id := range others[len(others)-dropped:] {
							b.Drop(id)
						}
						others = others[:len(others)-dropped]
						b.Plant(examinee, "somebody else's, too")
					}
					return answer, err
				}
			})
			b.must(do(b, stored))
			b.Proxy.SetHook(nil)
			left := b.ours(examinee)
			want := map[string]int{"sweep": 1, "deprovision": 0, "audit": 4}[name]
			if len(left) != want || want > 0 && !b.lists(stored.KeyID) {
				t.Errorf("%s, while %d keys go with each page, leaves %v", name, dropped, left)
			}
		}
	}
}

// audited walks through all that is listed, and fails if a key of the examinee's is not there.
func (b *bench) audited() error {
	found := map[string]bool{}
	for cursor, more := "", true; more; more = cursor != "" {
		page, next, err := b.Provider.Enumerate(context.Background(), b.OrgKey, cursor)
		if err != nil {
			return b.checked(err)
		}
		for _, h := range page {
			for _, key := range h.Keys {
				found[key.ID] = true
			}
		}
		cursor = next
	}
	for _, key := range b.ours(examinee) {
		if !found[key.ID] {
			return fmt.Errorf("an audit does not see the key %v", key)
		}
	}
	return nil
}
