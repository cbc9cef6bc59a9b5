package managed_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// The runbook's steps, while users come, have their keys replaced and checked, and leave, at
// several processes that know the org key from before.
func TestAnOrgKeyIsRenewedAndNothingFailsForAUser(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{
		"and withdrawn when nothing uses it": 5*time.Minute + time.Second,
		"and withdrawn at once":              0,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			processes := []*managed.Engine{w.Engine(), w.Engine(), w.Engine()}
			var before []string
			step := func(name string) {
				t.Helper()
				before = usedBy(t, w, processes, name, before)
			}
			step("before")
			fresh := "am_us_" + strings.Repeat("e", 64)
			w.Mail.AcceptOrgKey(fresh, fake.OrganizationID)
			step("both-valid")
			w.SetOrgKeys(fmt.Sprintf(`{%q:%q}`, managedtest.Provider, fresh))
			step("put-in")
			w.Clock.Advance(wait)
			if wait > 0 {
				w.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
					if c.Header.Get("Authorization") == "Bearer "+fake.OrgKey {
						t.Errorf("the old org key is used: %s", c.Op)
					}
					return nil
				})
				step("known-to-all")
			}
			w.Mail.RejectOrgKey(fake.OrgKey)
			step("withdrawn")
			w.Converge()
			for _, user := range before {
				w.CheckExactlyOne(user)
			}
			for _, said := range []string{"OrgKeyRejected", "ProvisioningFailed", "RevocationFailed", "SweepsStuck"} {
				if strings.Contains(w.Logs(), said) {
					t.Errorf("%s is counted:\n%s", said, w.Logs())
				}
			}
		})
	}
}

// usedBy has a new user come to each process, at once, and has keys of the last step's users
// replaced and checked; the user who has been there for longest leaves. It returns who lives then.
func usedBy(t *testing.T, w *managedtest.World, processes []*managed.Engine, step string, before []string) []string {
	t.Helper()
	var come errgroup.Group
	var users []string
	for n, e := range processes {
		user := fmt.Sprintf("%s-%d", step, n)
		users = append(users, user)
		come.Go(func() error {
			l, err := e.List(t.Context(), user, "")
			if err == nil && !has(l, user) {
				err = fmt.Errorf("the list of %s is %+v", user, l)
			}
			return err
		})
	}
	err := come.Wait()
	if err != nil {
		t.Fatalf("%s: %v\n%s", step, err, w.Logs())
	}
	w.Clock.Advance(time.Millisecond)
	old := map[string]credential.Secret{}
	for n, user := range before[:min(len(before), len(processes))] { // those of the last step
		old[user] = w.Key(user)
		switch n {
		case 0:
			rotate(t, w, user, time.Hour)
		case 1:
			w.Report(user)
		}
	}
	w.Clock.Advance(time.Millisecond)
	for _, e := range processes {
		reconcile(t, e)
	}
	for user, key := range old {
		if s := slot(t, w, user); s.State != store.Ready || s.Rotates || !works(w, key) || !works(w, w.Key(user)) {
			t.Errorf("%s: the slot of %s is %+v", step, user, s)
		}
	}
	if len(before) == 0 {
		return users
	}
	gone := before[len(before)-1]
	remove(t, processes[0], gone)
	for n := range 2 {
		w.Clock.Advance(managed.LastLook)
		reconcile(t, processes[1+n])
	}
	w.CheckNothingLeft(gone)
	return append(users, before[:len(before)-1]...)
}
