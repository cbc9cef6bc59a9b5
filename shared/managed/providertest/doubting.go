package providertest

import (
	"context"
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
		"deprovision": func() error { return b.deprovision(t.Context(), b.attempt(2, g.Resource, false)) },
	} {
		err := look()
		if class(err) != managed.Transient {
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

func (s suite) doubtsASuccess(t *testing.T) {
	page := fault.Respond(http.StatusOK, nil, []byte("<html>We are back soon</html>"))
	for _, c := range beginnings[:3] {
		b := s.bench(t)
		a := c.prepare(b)
		stored := a.Resource()
		b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Method == http.MethodDelete {
				return page
			}
			return nil
		})
		err := b.deprovision(t.Context(), a)
		if err == nil || class(err) == managed.Gone {
			t.Errorf("%s: nothing was deleted: %v", c.name, err)
		}
		b.Proxy.SetHook(nil)
		b.wantDeleted(a, stored, err, false)
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
				if !slices.Contains(deletions, c.Op) {
					deletions = append(deletions, c.Op)
				}
				if len(deletions) >= nth && deletions[nth-1] == c.Op {
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
