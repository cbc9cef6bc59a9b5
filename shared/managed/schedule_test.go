package managed_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// auditJob is the key of the job of AgentMail's audits.
var auditJob = store.Key{PK: "JOB", SK: "AUDIT#" + managedtest.Provider}

// daily is an engine that audits once a day.
func daily(w *managedtest.World) *managed.Engine {
	return w.EngineWith(func(c *managed.Config) { c.AuditEvery = 24 * time.Hour })
}

// scheduled is one invocation by the schedule, five minutes after the last one.
func scheduled(t *testing.T, w *managedtest.World) managed.AuditStatus {
	t.Helper()
	w.Clock.Advance(5 * time.Minute)
	all, err := daily(w).AuditsDue(t.Context())
	if err != nil || len(all) != 1 || all[0].Provider != managedtest.Provider {
		t.Fatalf("%v, the audits stand at %+v", err, all)
	}
	return all[0].AuditStatus
}

// findings are what a run has found, by kind.
func findings(r *managed.AuditRun) string {
	if r == nil {
		return "no run"
	}
	return strings.TrimPrefix(fmt.Sprint(r.Findings), "map") // fmt sorts
}

// counted is how many the metrics say were found of a kind, and how many of these count in all.
func counted(t *testing.T, w *managedtest.World, kind managed.FindingKind) (n, inAll int) {
	t.Helper()
	for line := range strings.Lines(w.Logs()) {
		var m struct {
			AuditFindings int                 `json:"AuditFindings"`
			Kind          managed.FindingKind `json:"kind"`
		}
		err := json.Unmarshal([]byte(line), &m)
		if err != nil || m.Kind != kind || m.AuditFindings == 0 {
			continue
		}
		n += m.AuditFindings
		if strings.Contains(line, `"Dimensions":[["kind"],[]]`) {
			inAll += m.AuditFindings
		}
	}
	return n, inAll
}

func TestAScheduledAuditGoesOnOverInvocationsUntilItIsComplete(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 130 // more than a page at AgentMail, and of the table
	for i := range users {
		w.Mail.SeedPod(fake.Pod{ClientID: fmt.Sprintf("left-%03d", i)})
		list(t, w.Engine(), fmt.Sprintf("user-%03d", i))
	}
	w.RemoveKey("user-007")
	w.Clock.Advance(time.Millisecond)
	before := w.Dump()
	begun, calls := w.Clock.Now().Add(5*time.Minute), 0
	var last managed.AuditStatus
	for last.Complete == nil {
		calls++
		// Each invocation is interrupted at its second page.
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		second := func(op string) func(c *fault.Call) fault.Fault {
			return func(c *fault.Call) fault.Fault {
				if c.Op == op {
					seen++
					if seen == 2 {
						cancel()
					}
				}
				return nil
			}
		}
		w.AgentMail.SetHook(second("GET /v0/pods"))
		w.DynamoDB.SetHook(second("Scan"))
		w.Clock.Advance(5 * time.Minute)
		all, err := daily(w).AuditsDue(ctx)
		cancel()
		if err != nil || calls > 20 {
			t.Fatalf("%v after %d calls: %+v", err, calls, all)
		}
		status := all[0].AuditStatus
		if run := status.UnderWay; run != nil && (!run.BegunAt.Equal(begun) || run.Stopped == "") {
			t.Errorf("under way is %+v", run)
		}
		last = status
	}
	run := last.Complete
	want := fmt.Sprintf("[missing_key:1 unclaimed:%d]", users)
	if calls < 4 || last.UnderWay != nil || run.Resources != 2*users || run.Slots != users || findings(run) != want || run.Stopped != "" {
		t.Errorf("after %d calls it stands at %+v", calls, run)
	}
	if !run.BegunAt.Equal(begun) || !run.EndedAt.Equal(w.Clock.Now()) {
		t.Errorf("begun at %v, it says from %v to %v", begun, run.BegunAt, run.EndedAt)
	}
	if n, inAll := counted(t, w, managed.Unclaimed); n != users || inAll != 0 {
		t.Errorf("%d unclaimed pods are counted, %d of them in all", n, inAll)
	}
	if n, inAll := counted(t, w, managed.MissingKey); n != 1 || inAll != 1 {
		t.Errorf("%d missing keys are counted, %d of them in all", n, inAll)
	}
	if strings.Count(w.Logs(), `"AuditsCompleted":1`) != 1 || !strings.Contains(w.Logs(), `"kind":"missing_key","count":1,"user":"user-007"`) {
		t.Errorf("the log is\n%s", w.Logs())
	}
	if w.Dump() != before {
		t.Error("it changed the table")
	}
}

// Both segments of the table are read at once, and an audit that was interrupted goes on in each of
// them from where it stood.
func TestAnAuditTakesTheTableApartAndGoesOnInEachSegment(t *testing.T) {
	t.Parallel()
	const users = 240 // more than a page in each segment
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, users)
	e := w.EngineWith(func(c *managed.Config) { c.AuditEvery, c.AuditSegments = 24*time.Hour, 2 })
	var mu sync.Mutex
	var read []string
	both := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op != "Scan" {
			return nil
		}
		var in struct{ Segment, TotalSegments int }
		err := json.Unmarshal(c.Body, &in)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		read = append(read, fmt.Sprintf("%d of %d", in.Segment, in.TotalSegments))
		n := len(read)
		mu.Unlock()
		switch n {
		case 2:
			close(both)
		case 3: // the first of the second pages
			cancel()
		}
		select {
		case <-both:
		case <-time.After(30 * time.Second):
			t.Error("one segment is read after the other")
		}
		return nil
	})
	w.AgentMail.Reset()
	all, err := e.AuditsDue(ctx)
	if err != nil || all[0].UnderWay == nil || all[0].UnderWay.Slots == 0 || all[0].UnderWay.Slots >= users {
		t.Fatalf("%v, interrupted it stands at %+v", err, all)
	}
	all, err = e.AuditsDue(t.Context())
	if err != nil || all[0].Complete == nil || all[0].Complete.Slots != users || len(all[0].Complete.Findings) > 0 {
		t.Fatalf("%v, it stands at %+v", err, all)
	}
	slices.Sort(read[:2])
	if !slices.Equal(read[:2], []string{"0 of 2", "1 of 2"}) {
		t.Errorf("it reads %v", read)
	}
	looks := map[string]int{}
	for _, c := range w.AgentMail.Calls() {
		if c.Op != "GET /v0/pods" {
			looks[c.URL.Path]++
		}
	}
	for path, n := range looks {
		if n != 1 {
			t.Errorf("%s is looked at %d times", path, n)
		}
	}
	if len(looks) != users {
		t.Errorf("it looked at %d of %d slots", len(looks), users)
	}
}

// The version before knows no segments, and walks the table as one.
func TestAnAuditThatTheVersionBeforeBeganGoesOn(t *testing.T) {
	t.Parallel()
	const users = 130
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, users)
	_, _, half, err := w.Store.Scan(t.Context(), store.Segment{}, store.Key{})
	if err != nil || half == (store.Key{}) {
		t.Fatalf("%v, the table is at its end after %v", err, half)
	}
	text, err := json.Marshal(map[string]any{"Table": true, "After": half, "Slots": 7})
	if err != nil {
		t.Fatal(err)
	}
	e := w.EngineWith(func(c *managed.Config) { c.AuditSegments = 3 })
	report, err := e.Audit(t.Context(), managed.AuditRequest{Provider: managedtest.Provider, Cursor: base64.RawURLEncoding.EncodeToString(text)})
	if err != nil || report.Next != "" || report.Resources != 0 || report.Slots == 0 || report.Slots >= users {
		t.Errorf("%v, of %d slots the rest is %+v", err, users, report)
	}
}

// How long nobody has looked is told with each invocation, also where none gets to its end.
func TestTheAgeOfTheLastCompleteAuditIsTold(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	tells := func(age string) {
		t.Helper()
		if !strings.Contains(w.Logs(), `"AuditAge":`+age+",") {
			t.Errorf("it does not tell that the age is %s s", age)
		}
	}
	w.AgentMail.SetHook(func(*fault.Call) fault.Fault { return fault.Respond(500, nil, nil) })
	scheduled(t, w)
	tells("0")
	scheduled(t, w)
	tells("300") // of the first, which is under way
	w.Heal()
	scheduled(t, w)
	tells("600")
	w.AgentMail.SetHook(func(*fault.Call) fault.Fault { return fault.Respond(500, nil, nil) })
	w.Clock.Advance(30 * time.Hour)
	scheduled(t, w) // the next one begins, and does not get on
	tells("108900")
}

func TestAnAuditIsDueOnceInItsTime(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	all, err := w.Engine().AuditsDue(t.Context())
	if err != nil || all[0].Complete != nil {
		t.Errorf("without a schedule: %v, %+v", err, all)
	}
	first := scheduled(t, w).Complete
	if first == nil {
		t.Fatal("the first invocation does not audit")
	}
	w.Clock.Advance(24*time.Hour - 10*time.Minute)
	if again := scheduled(t, w); !again.Complete.BegunAt.Equal(first.BegunAt) || again.UnderWay != nil {
		t.Errorf("within a day it stands at %+v", again)
	}
	if again := scheduled(t, w); !again.Complete.BegunAt.Equal(first.BegunAt.Add(24 * time.Hour)) {
		t.Errorf("after a day it stands at %+v", again.Complete)
	}
	if strings.Contains(w.Logs(), "AuditsOverdue") {
		t.Error("one that ended is overdue")
	}
	w.Clock.Advance(24 * time.Hour)
	w.AgentMail.SetHook(func(*fault.Call) fault.Fault { return fault.Respond(500, nil, nil) })
	scheduled(t, w)
	w.Clock.Advance(24*time.Hour - 5*time.Minute)
	scheduled(t, w)
	if strings.Contains(w.Logs(), "AuditsOverdue") {
		t.Error("it is overdue too early")
	}
	scheduled(t, w)
	if strings.Count(w.Logs(), `"AuditsOverdue":1`) != 1 {
		t.Error("one that does not end is not overdue")
	}
}

func TestTwoRunsOfAScheduledAuditNeverGoAtOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	inject(t, w.DynamoDB, "Scan", 1, then(func() {
		w.DynamoDB.SetHook(nil)
		w.AgentMail.Reset()
		all, err := daily(w).AuditsDue(context.Background())
		if err != nil || all[0].Complete != nil || len(w.AgentMail.Calls()) > 0 {
			t.Errorf("beside another one: %v, %+v, AgentMail got %v", err, all, w.AgentMail.Calls())
		}
	}))
	if s := scheduled(t, w); s.Complete == nil {
		t.Errorf("it stands at %+v", s)
	}
}

// The invocation that claimed the job says nothing any more, or only when another one has gone on.
func TestAScheduledAuditThatDiedIsTakenOver(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	job, err := w.Store.Job(t.Context(), auditJob.SK)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := w.Store.ClaimJob(t.Context(), job, w.Clock.Now().Add(5*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if s := scheduled(t, w); s.Complete != nil { // clocks may be apart
		t.Errorf("it is taken over while its lease may hold: %+v", s)
	}
	if s := scheduled(t, w); s.Complete == nil {
		t.Errorf("it is not taken over: %+v", s)
	}
	dead.Cursor = "of long ago"
	err = w.Store.EndJob(t.Context(), dead)
	if !errors.Is(err, store.ErrLost) {
		t.Errorf("the one that was given up: %v", err)
	}
}

func TestAScheduledAuditThatFindsMoreGoneThanCanBeExplainedWaits(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	many(t, w, 14)
	lost := fault.Rule{Op: fake.ListKeys, Fault: fault.RespondJSON(200, `{"count":0,"api_keys":[]}`)}
	w.Mail.Inject(lost)
	for n := range 61 { // longer than one that is in vain
		s := scheduled(t, w)
		if s.UnderWay == nil || s.UnderWay.Resources != 14 || !strings.Contains(s.UnderWay.Stopped, "14 slots") ||
			findings(s.UnderWay) != fmt.Sprintf("[implausible:%d]", n+1) {
			t.Fatalf("it stands at %+v", s.UnderWay)
		}
	}
	if n, inAll := counted(t, w, managed.Implausible); n != 61 || inAll != 61 {
		t.Errorf("it is counted %d times, %d of them in all", n, inAll)
	}
	w.Heal()
	if s := scheduled(t, w); s.Complete == nil || s.Complete.Slots != 14 || findings(s.Complete) != "[implausible:61]" {
		t.Errorf("afterwards it stands at %+v", s)
	}
}

// A third party may forget a page token, and another version may write cursors otherwise.
func TestAnAuditWhosePlaceIsNotKnownAnyMoreBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]struct {
		text        string
		invocations int
	}{
		"of the third party": {base64.RawURLEncoding.EncodeToString([]byte(`{"Resources":"` +
			base64.RawURLEncoding.EncodeToString([]byte(`{"token":"forgotten"}`)) + `","Slots":3}`)), 61}, // the first one writes it in full
		"of another version": {"2:forgotten", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			list(t, w.Engine(), alice)
			w.AgentMail.SetHook(func(*fault.Call) fault.Fault { return fault.Respond(500, nil, nil) })
			begun := scheduled(t, w).UnderWay.BegunAt
			w.AgentMail.SetHook(nil)
			w.SetItem(auditJob, map[string]types.AttributeValue{"cursor": &types.AttributeValueMemberS{Value: cursor.text}})
			for range cursor.invocations {
				if s := scheduled(t, w); s.Complete != nil || s.UnderWay.Stopped == "" {
					t.Fatalf("it stands at %+v", s)
				}
			}
			s := scheduled(t, w)
			if s.Complete == nil || !s.Complete.BegunAt.Equal(begun) || s.Complete.Resources != 1 || s.Complete.Slots != 1 {
				t.Errorf("it stands at %+v", s)
			}
		})
	}
}

func TestWhatAScheduledAuditStandsAtIsShown(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	complete := scheduled(t, w).Complete
	all, _, err := w.Engine().ProviderStatuses(t.Context())
	if err != nil || len(all) != 1 || all[0].Audit.Complete == nil || !all[0].Audit.Complete.EndedAt.Equal(complete.EndedAt) ||
		!strings.Contains(all[0].Stays, "Mail that was sent") {
		t.Errorf("%v, the providers are %+v", err, all)
	}
	w.SetItem(auditJob, map[string]types.AttributeValue{"progress": &types.AttributeValueMemberS{Value: "of another version"}})
	if s := scheduled(t, w); s.Complete == nil {
		t.Errorf("what cannot be read keeps it from being audited: %+v", s)
	}
}

func TestAScheduleThatCannotReachTheTableFails(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"BatchGetItem", "UpdateItem"} {
		w := managedtest.New(t, managedtest.Options{})
		w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
			if c.Op == op {
				return fault.Respond(500, nil, nil)
			}
			return nil
		})
		_, err := daily(w).AuditsDue(t.Context())
		if err == nil {
			t.Errorf("%s fails, and nobody learns of it", op)
		}
	}
}

func TestAProviderThatMakesNothingNewNeedsNoOrgKeyToBeAudited(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	key := `{"` + managedtest.Provider + `":"` + fake.OrgKey + `"}`
	for _, mode := range []managed.Mode{managed.Frozen, managed.Off, managed.Auto} {
		e := w.EngineWith(func(c *managed.Config) {
			c.AuditEvery, c.Modes = 24*time.Hour, map[string]managed.Mode{managedtest.Provider: mode}
		})
		w.SetOrgKeys(`{}`)
		w.Clock.Advance(25 * time.Hour)
		for range 2 {
			_, err := e.AuditsDue(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w.Clock.Advance(25 * time.Hour)
		}
		if offers := mode == managed.Auto; strings.Contains(w.Logs(), "an audit is not complete") != offers {
			t.Errorf("%s: it is missed: %t", mode, !offers)
		}
		w.SetOrgKeys(key)
		all, err := e.AuditsDue(t.Context())
		if err != nil || all[0].Complete == nil {
			t.Errorf("%s: with its key the audit stands at %+v, %v", mode, all, err)
		}
	}
}
