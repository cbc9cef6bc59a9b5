package managed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// audit runs an audit to its end, in one call, and expects that it gets there.
func audit(t *testing.T, w *managedtest.World, repair bool) managed.AuditReport {
	t.Helper()
	request := managed.AuditRequest{Provider: managedtest.Provider, By: "the tests"}
	if repair {
		request.Repair = 100
	}
	report, err := w.Engine().Audit(t.Context(), request)
	if err != nil || report.Next != "" || report.Stopped != "" {
		t.Fatalf("%v, the report is %+v", err, report)
	}
	return report
}

// found is what a report says of a user.
func found(r managed.AuditReport, user string) string {
	var all []string
	for _, f := range r.Findings {
		if f.User == user && f.Error == "" {
			all = append(all, strings.TrimSpace(fmt.Sprint(f.Kind, " ", f.Remedy)))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// longAgo makes everything that exists older than any lease.
func longAgo(w *managedtest.World) { w.Clock.Advance(2 * time.Minute) }

func TestAnAuditOfWhatIsAsItShouldBeFindsNothing(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for _, user := range []string{alice, "~", "ümlaut", strings.Repeat("x", credential.MaxUserIDLength)} {
		list(t, w.Engine(), user)
	}
	w.Mail.SeedPod(fake.Pod{Name: "somebody else's, without client_id"})
	list(t, w.Engine(), bob)
	remove(t, w.Engine(), bob)
	w.Converge()
	longAgo(w)
	r := audit(t, w, false)
	if len(r.Findings) != 0 || r.Resources != 4 || r.Slots != 4 {
		t.Errorf("the report is %+v", r)
	}
}

func TestAnAuditChangesNothingUnlessItIsAsked(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.RemoveKey(alice)
	remove(t, w.Engine(), bob)
	w.Mail.SeedPod(fake.Pod{ClientID: bob})
	w.Converge()
	before := w.Dump()
	r := audit(t, w, false)
	if found(r, alice) != "missing_key check" || found(r, bob) != "left_behind revoke" {
		t.Errorf("the report is %+v", r)
	}
	if w.Dump() != before {
		t.Errorf("the table was changed:\n%s\nbefore:\n%s", w.Dump(), before)
	}
}

func TestWhatADeletedUserLeftBehindIsRevoked(t *testing.T) {
	t.Parallel()
	for _, user := range []string{alice, "~hashed"} {
		w := managedtest.New(t, managedtest.Options{})
		list(t, w.Engine(), user)
		pod := w.Mail.Pods()[0]
		remove(t, w.Engine(), user)
		w.Converge()
		// A create that took effect after A1's time.
		w.Mail.SeedPod(fake.Pod{ClientID: pod.ClientID, Name: pod.Name, Keys: []fake.Key{{Name: user + "-agpt-managed.1"}}})
		r := audit(t, w, true)
		if found(r, user) != "left_behind revoke" {
			t.Errorf("the report is %+v", r)
		}
		if !strings.Contains(w.Logs(), `"message":"repair","audit":true,"by":"the tests"`) {
			t.Errorf("the repair is not on record:\n%s", w.Logs())
		}
		w.Converge()
		w.CheckNothingLeft(user)
		if r := audit(t, w, true); len(r.Findings) != 0 {
			t.Errorf("afterwards it finds %+v", r)
		}
	}
}

func TestNothingIsRepairedWithoutARecord(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	w.RemoveKey(alice)
	remove(t, w.Engine(), bob)
	w.Converge()
	w.Mail.SeedPod(fake.Pod{ClientID: bob, Name: bob + "-pod"})
	before := w.Dump()
	r, err := w.EngineWith(deaf).Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider, By: "the tests", Repair: 100})
	if err != nil || len(r.Findings) != 2 {
		t.Fatalf("%v, the report is %+v", err, r)
	}
	for _, f := range r.Findings {
		if !strings.Contains(f.Error, "writing the audit line") {
			t.Errorf("the finding is %+v", f)
		}
	}
	if w.Dump() != before {
		t.Errorf("the table was\n%s\nand is\n%s", before, w.Dump())
	}
}

func TestAPodWithNeitherSlotNorTombstoneMayBeSomebodysWhoHasNotComeYet(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Name: alice + "-pod"})
	w.Mail.SeedPod(fake.Pod{ClientID: "~" + strings.Repeat("a", 52), Name: "renamed"})
	r := audit(t, w, true)
	if found(r, alice) != "unclaimed" || found(r, "") != "unattributed" {
		t.Errorf("the report is %+v", r)
	}
	w.Converge()
	if len(w.Mail.Pods()) != 2 {
		t.Errorf("there are the pods %+v", w.Mail.Pods())
	}
	list(t, w.Engine(), alice)
	w.CheckExactlyOne(alice)
}

func TestKeysBesideTheStoredOne(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.0"}, {Name: alice + "-agpt-managed"}, {Name: "hers"}}})
	if r := audit(t, w, true); len(r.Findings) != 0 {
		t.Errorf("keys that may have just been made: %+v", r)
	}
	longAgo(w)
	if r := audit(t, w, true); found(r, alice) != "surplus_key check" {
		t.Errorf("the report is %+v", r)
	}
	w.Converge()
	pod, _ := w.Mail.Pod(alice)
	if len(pod.Keys) != 3 {
		t.Errorf("the keys are %+v", pod.Keys)
	}
	w.Mail.SeedPod(fake.Pod{ClientID: alice, Keys: []fake.Key{{Name: alice + "-agpt-managed.77"}}})
	longAgo(w)
	if r := audit(t, w, true); found(r, alice) != "surplus_key" {
		t.Errorf("a key of an attempt that the table does not know of: %+v", r)
	}
}

func TestAnAuditLeavesAloneWhatIsBeingWorkedOn(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	w.RemoveKey(alice)
	s := slot(t, w, alice)
	_, err := w.Store.Claim(t.Context(), []store.Slot{s}, store.Ready, w.Clock.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	w.Mail.SeedPod(fake.Pod{ClientID: bob})
	list(t, w.Engine(), bob)
	_, err = w.Store.Bury(t.Context(), bob, "")
	if err != nil {
		t.Fatal(err)
	}
	if r := audit(t, w, true); len(r.Findings) != 0 {
		t.Errorf("the report is %+v", r)
	}
}

// What is claimed, committed or deleted between the look at the third party and the table is no
// finding.
func TestAnAuditAsksTheTableAgainBeforeItSaysAnything(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*managedtest.World){
		"made anew": func(w *managedtest.World) {
			w.Report(alice)
			w.Clock.Advance(time.Millisecond)
			_, _ = w.Engine().Reconcile(context.Background())
		},
		"deleted": func(w *managedtest.World) { _, _ = w.Store.Bury(context.Background(), alice, "") },
	} {
		w := managedtest.New(t, managedtest.Options{})
		list(t, w.Engine(), alice)
		w.RemoveKey(alice)
		inject(t, w.DynamoDB, "Scan", 1, then(func() { w.DynamoDB.SetHook(nil); meanwhile(w) }))
		if r := audit(t, w, true); len(r.Findings) != 0 {
			t.Errorf("%s: the report is %+v", name, r)
		}
	}
}

func TestAnAuditGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 130 // more than a page at AgentMail, and of the table
	for i := range users {
		w.Mail.SeedPod(fake.Pod{ClientID: fmt.Sprintf("left-%03d", i)})
		list(t, w.Engine(), fmt.Sprintf("user-%03d", i))
	}
	w.SetItem(store.SlotKey("user-007", managedtest.Provider), map[string]types.AttributeValue{"v": &types.AttributeValueMemberN{Value: "2"}})
	whole := audit(t, w, false)
	var parts managed.AuditReport
	calls := 0
	for {
		calls++
		// Each call is interrupted at its second page.
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		w.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op == "GET /v0/pods" {
				seen++
				if seen == 2 {
					cancel()
				}
			}
			return nil
		})
		w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op == "Scan" {
				seen++
				if seen == 2 {
					cancel()
				}
			}
			return nil
		})
		r, err := w.Engine().Audit(ctx, managed.AuditRequest{Provider: managedtest.Provider, Cursor: parts.Next})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		parts.Resources, parts.Slots, parts.Next = parts.Resources+r.Resources, parts.Slots+r.Slots, r.Next
		parts.Findings = append(parts.Findings, r.Findings...)
		if r.Next == "" {
			break
		}
		if r.Stopped == "" || calls > 20 {
			t.Fatalf("the report is %+v", r)
		}
	}
	if calls < 4 || parts.Resources != whole.Resources || parts.Slots != whole.Slots || len(parts.Findings) != len(whole.Findings) {
		t.Errorf("in %d calls: %d %d %d, at once: %d %d %d", calls, parts.Resources, parts.Slots, len(parts.Findings),
			whole.Resources, whole.Slots, len(whole.Findings))
	}
	if whole.Resources != 2*users || whole.Slots != users-1 || found(whole, "left-000") != "unclaimed" || found(whole, "user-007") != "undecodable" {
		t.Errorf("the report is %+v", whole)
	}
}

func TestAnAuditStopsWhereItHasNoTimeForAPage(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := w.Engine().Audit(ctx, managed.AuditRequest{Provider: managedtest.Provider})
	if err != nil || r.Next == "" || r.Stopped != "" || len(w.Mail.Requests()) != 0 {
		t.Errorf("%v, the report is %+v", err, r)
	}
}

func TestATroubledThirdPartyIsNoFinding(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	aliceKeys := "GET /v0/pods/" + slot(t, w, alice).Resource.ID + "/api-keys"
	w.AgentMail.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == aliceKeys {
			return fault.Respond(500, nil, nil)
		}
		return nil
	})
	r := audit(t, w, true)
	if len(r.Findings) != 1 || r.Findings[0].Kind != managed.NotInspected || r.Findings[0].User != alice {
		t.Errorf("one pod fails: %+v", r)
	}
	w.AgentMail.SetHook(func(*fault.Call) fault.Fault { return fault.Respond(500, nil, nil) })
	r, err := w.Engine().Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider})
	if err != nil || r.Stopped == "" || r.Next == "" || len(r.Findings) != 0 {
		t.Errorf("all fail: %v %+v", err, r)
	}
}

func TestARequestThatNoAuditCanFollow(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	_, err := w.Engine().Audit(t.Context(), managed.AuditRequest{Provider: "nobody"})
	if !errors.Is(err, credential.ErrNoProvider) {
		t.Error(err)
	}
	_, err = w.Engine().Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider, Cursor: "elsewhere"})
	if !errors.Is(err, managed.ErrCursor) {
		t.Error(err)
	}
}

// many lists users until so many have a credential, and returns their names.
func many(t *testing.T, w *managedtest.World, n int) []string {
	t.Helper()
	e := w.Engine()
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf("user-%d", i)
		list(t, e, users[i])
	}
	longAgo(w)
	return users
}

func TestAnAuditStopsWhereMoreIsGoneThanCanBeExplained(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	users := many(t, w, 14)
	w.Mail.Inject(fault.Rule{Op: fake.ListKeys, Fault: fault.RespondJSON(200, `{"count":0,"api_keys":[]}`)})
	request := managed.AuditRequest{Provider: managedtest.Provider, Repair: 5, By: "the tests"}
	r, err := w.Engine().Audit(t.Context(), request)
	if err != nil || !strings.Contains(r.Stopped, "14 slots") || r.Repaired != 0 || len(r.Findings) != 14 {
		t.Errorf("%v, the report is %+v", err, r)
	}
	for _, user := range users {
		if !slot(t, w, user).DueAt.IsZero() {
			t.Errorf("%s was made due all the same", user)
		}
	}
	request.Cursor, request.Repair = r.Next, 14 // an operator who has looked
	r, err = w.Engine().Audit(t.Context(), request)
	if err != nil || r.Stopped != "" || r.Repaired != 14 || r.Next != "" {
		t.Errorf("%v, the report is %+v", err, r)
	}
	w.Converge()
	for _, user := range users {
		w.CheckExactlyOne(user)
	}
}

func TestAnAuditRepairsNoMoreThanItWasAskedTo(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	users := many(t, w, 3)
	for _, user := range users {
		w.RemoveKey(user)
	}
	request := managed.AuditRequest{Provider: managedtest.Provider, Repair: 2, By: "the tests"}
	r, err := w.Engine().Audit(t.Context(), request)
	if err != nil || r.Repaired != 2 || r.Next == "" || !strings.Contains(r.Stopped, "higher number") {
		t.Errorf("%v, the report is %+v", err, r)
	}
	due := 0
	for _, user := range users {
		if !slot(t, w, user).DueAt.IsZero() {
			due++
		}
	}
	if due != 2 {
		t.Errorf("%d slots were made due", due)
	}
	request.Cursor, request.Repair = r.Next, 3
	r, err = w.Engine().Audit(t.Context(), request)
	if err != nil || r.Repaired != 1 || r.Next != "" || r.Stopped != "" {
		t.Errorf("then %v, the report is %+v", err, r)
	}
	w.Converge()
	for _, user := range users {
		w.CheckExactlyOne(user)
	}
}
