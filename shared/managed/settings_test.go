package managed_test

import (
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

// A permission that the third party does not know is the organisation's trouble: one alarm, and
// deletions go on.
func TestSettingsThatAreRefusedAreCountedAndStopNoDeletion(t *testing.T) {
	t.Parallel()
	permissions := ""
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		p, err := agentmail.New(agentmail.Config{BaseURL: url, Permissions: permissions})
		if err != nil {
			t.Fatal(err)
		}
		return []managed.Provider{p}
	}})
	list(t, w.Engine(), "bob")
	permissions = `{"provider_connect":true}`
	list(t, w.Engine(), alice)
	if s := slot(t, w, alice); s.Reason != string(managed.Quota) || !strings.Contains(w.Logs(), `"SettingsRefused":1`) {
		t.Errorf("the slot is %+v", s)
	}
	remove(t, w.Engine(), "bob")
	w.CheckNoPod("bob")
	permissions = ""
	w.Converge()
	w.CheckNothingLeft("bob")
	w.CheckExactlyOne(alice)
}

// The setting is changed by a deployment; old keys have what it said when they were made.
func TestOldKeysAreGivenThePermissionsThatAreConfiguredNow(t *testing.T) {
	t.Parallel()
	permissions := ""
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		p, err := agentmail.New(agentmail.Config{BaseURL: url, Permissions: permissions})
		if err != nil {
			t.Fatal(err)
		}
		return []managed.Provider{p}
	}})
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	permissions = `{"inbox_read":true}`
	list(t, w.Engine(), "bob")
	if r := audit(t, w, false); found(r, alice) != "permissions_differ check" || found(r, "bob") != "" {
		t.Errorf("the report is %+v", r)
	}
	audit(t, w, true)
	w.Converge()
	pod, _ := w.Mail.Pod(alice)
	if got := pod.Keys[0].Permissions; !got["inbox_read"] || got["inbox_create"] {
		t.Errorf("the key has %v", got)
	}
	if w.Key(alice) != key || creates(w) != 2 {
		t.Error("the key was replaced")
	}
	w.CheckExactlyOne(alice)
	if r := audit(t, w, true); len(r.Findings) != 0 {
		t.Errorf("afterwards it finds %+v", r)
	}
}

func TestAnOrgKeyThatExpiresIsToldAMonthAhead(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * time.Hour
	w := managedtest.New(t, managedtest.Options{})
	e := w.Engine()
	told := func() int { return strings.Count(w.Logs(), `"OrgKeyExpiring":1`) }
	e.WatchOrgKeys(t.Context())
	w.Mail.ExpireOrgKey(fake.OrgKey, w.Clock.Now().Add(month+90*time.Minute))
	w.Clock.Advance(time.Hour)
	e.WatchOrgKeys(t.Context())
	if told() > 0 {
		t.Error("it was told too early")
	}
	w.Clock.Advance(time.Hour)
	for range 2 { // once an hour
		e.WatchOrgKeys(t.Context())
	}
	if told() != 1 {
		t.Errorf("it was told %d times\n%s", told(), w.Logs())
	}
}
