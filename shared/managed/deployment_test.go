package managed_test

import (
	"errors"
	"strings"
	"testing"

	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// keyIDs are the keys that the user's only pod holds.
func keyIDs(t *testing.T, w *managedtest.World, user string) string {
	t.Helper()
	pod, ok := w.Mail.Pod(user)
	if !ok {
		t.Fatal("there is no pod")
	}
	var ids []string
	for _, key := range pod.Keys {
		ids = append(ids, key.ID)
	}
	return pod.ID + " " + strings.Join(ids, " ")
}

func slotOf(t *testing.T, w *managedtest.World, user string) store.Slot {
	t.Helper()
	slot, _, err := w.Slot(user, managedtest.Provider)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func TestTwoDeployments_NeitherAdoptsNorDeletesWhatTheOtherHas(t *testing.T) {
	t.Parallel()
	production := managedtest.New(t, managedtest.Options{})
	staging := managedtest.New(t, managedtest.Options{Beside: production})
	list(t, production.Engine(), alice)
	had := keyIDs(t, production, alice)

	list(t, staging.Engine(), alice)
	if slot := slotOf(t, staging, alice); slot.State != store.Failed || slot.Reason != string(managed.Mismatch) || slot.Resource.ID != "" {
		t.Errorf("staging's slot is %+v", slot)
	}
	audit, err := staging.Engine().Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider})
	if err != nil || len(audit.Findings) != 1 || audit.Findings[0].Kind != managed.OtherDeployment || audit.Findings[0].Remedy != "" {
		t.Errorf("staging's audit finds %+v, %v", audit.Findings, err)
	}
	_, _, err = staging.Engine().DeleteAccount(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	staging.Converge()
	if slot := slotOf(t, staging, alice); slot.State != store.Absent {
		t.Errorf("the deletion in staging leaves %+v", slot)
	}
	if now := keyIDs(t, production, alice); now != had {
		t.Errorf("production had %s, and now %s", had, now)
	}
	audit, err = staging.Engine().Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider, Repair: 9, By: "me"})
	if err != nil || len(audit.Findings) != 0 {
		t.Errorf("after the deletion staging's audit finds %+v, %v", audit.Findings, err)
	}
	production.Report(alice)
	production.Converge()
	production.CheckExactlyOne(alice)
}

// Both had adopted the pod before either knew of deployments.
func TestTwoDeployments_APodThatBothHaveKeysInIsLeftToTheOther(t *testing.T) {
	t.Parallel()
	production := managedtest.New(t, managedtest.Options{})
	staging := managedtest.New(t, managedtest.Options{Beside: production})
	seeded := production.Mail.SeedPod(fake.Pod{ClientID: alice, Name: alice + "-pod", Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	list(t, staging.Engine(), alice)
	ours := slotOf(t, staging, alice).Resource
	if ours.ID != seeded.ID {
		t.Fatalf("a pod without a mark is not adopted: %+v", slotOf(t, staging, alice))
	}
	production.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.aaaa2222.1"}}})

	staging.Report(alice)
	staging.Converge()
	if pod, _ := production.Mail.Pod(alice); len(pod.Keys) != 2 {
		t.Fatalf("a sweep leaves %v", pod.Keys)
	}
	_, _, err := staging.Engine().DeleteAccount(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	pod, ok := production.Mail.Pod(alice)
	if !ok || len(pod.Inboxes) != 1 || len(pod.Keys) != 1 || pod.Keys[0].Name != alice+"-agpt-managed.aaaa2222.1" {
		t.Errorf("the deletion leaves %+v", pod)
	}
	parked, _, err := staging.Engine().Parked(t.Context())
	if err != nil || len(parked) != 1 || parked[0].Reason != string(managed.Mismatch) || parked[0].Resource != seeded.ID {
		t.Errorf("parked are %+v, %v", parked, err)
	}
}

func TestAPodWithKeysOfAnotherDeploymentIsNotAdopted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Name: alice + "-pod", Keys: []fake.Key{{Name: alice + "-agpt-managed.aaaa2222.1"}}})
	had := keyIDs(t, w, alice)
	list(t, w.Engine(), alice)
	if slot := slotOf(t, w, alice); slot.Reason != string(managed.Mismatch) || slot.Resource.ID != "" {
		t.Errorf("the slot is %+v", slot)
	}
	if now := keyIDs(t, w, alice); now != had {
		t.Errorf("the pod had %s, and now %s", had, now)
	}
}

func TestAnOrgKeyOfAnotherOrganisationMakesNothingUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	const other, otherOrg = "am_us_other", "0b8f6a52-0000-4000-8000-000000000001"
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	key := w.Key(alice)
	w.Mail.AcceptOrgKey(other, otherOrg)
	w.SetOrgKeys(`{"agent_mail":"` + other + `"}`)

	e, before := w.Engine(), len(w.Mail.Pods())
	list(t, e, bob)
	if slot := slotOf(t, w, bob); slot.State != store.Failed || slot.Reason != string(managed.Foreign) {
		t.Errorf("the slot is %+v", slot)
	}
	_, _, err := e.DeleteAccount(t.Context(), bob, "") // looks for what may be there, by a call that could make it
	if err != nil {
		t.Fatal(err)
	}
	if after := len(w.Mail.Pods()); after != before {
		t.Errorf("there were %d pods, and now %d", before, after)
	}
	if !strings.Contains(w.Logs(), `"OrgKeyRejected"`) {
		t.Error("nothing is counted")
	}
	if l := list(t, e, alice); len(l.Credentials) != 1 || w.Key(alice) != key {
		t.Errorf("what was made before is listed as %+v", l)
	}
	statuses, _, err := e.ProviderStatuses(t.Context())
	if err != nil || len(statuses) != 1 || !statuses[0].Differs || statuses[0].Organization != fake.OrganizationID ||
		statuses[0].KeyOrganization != otherOrg || len(statuses[0].DeploymentID) != 8 {
		t.Errorf("the status is %+v, %v", statuses, err)
	}
	err = e.AcceptOrganization(t.Context(), managedtest.Provider, fake.OrganizationID, managed.Order{By: "me", Reason: "why"})
	if !errors.Is(err, managed.ErrNotTheKeys) {
		t.Errorf("an organisation that is not the key's: %v", err)
	}
	err = w.Engine().AcceptOrganization(t.Context(), managedtest.Provider, otherOrg, managed.Order{By: "me", Reason: "we moved"})
	if err != nil {
		t.Fatal(err)
	}
	list(t, e, "carol")
	if slot := slotOf(t, w, "carol"); slot.State != store.Ready || slot.Resource.OrgID != otherOrg {
		t.Errorf("after it was accepted the slot is %+v", slot)
	}
	if !strings.Contains(w.Logs(), `"audit":true`) {
		t.Error("the acceptance is not on record")
	}
}

func TestTwoProcessesAgreeOnTheDeploymentsID(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Unnamed: true})
	first, second := w.Engine(), w.Engine()
	list(t, first, alice)
	list(t, second, bob)
	a, _ := w.Mail.Pod(alice)
	b, _ := w.Mail.Pod(bob)
	mark := strings.TrimPrefix(a.Name, alice+"-pod.")
	if len(mark) != 8 || b.Name != bob+"-pod."+mark || b.Keys[0].Name != bob+"-agpt-managed."+mark+".1" {
		t.Errorf("the pods are %q and %q, a key %q", a.Name, b.Name, b.Keys[0].Name)
	}
}
