package functions_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

// operate gives a command and expects that it is carried out.
func operate[T any](t *testing.T, s *service, event string) T {
	t.Helper()
	a := s.call("POST", "/local/operate", "", event)
	a.want(t, http.StatusOK, "")
	return decode[T](t, a.body)
}

func TestAReportedKeyIsCheckedAndMadeAnewIfItHasGone(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	type resolved struct {
		ID      string `json:"id"`
		APIKey  string `json:"api_key"`
		Attempt int    `json:"attempt"`
	}
	before := decode[resolved](t, s.resolve(alice, agentmail.Name, "").body)
	report := func(body string) answer { return s.call("POST", "/local/resolve", "", body) }
	report(`{"sub":"`+alice+`","provider":"agent_mail","rejected_attempt":7}`).want(t, http.StatusConflict, "")
	report(`{"sub":"`+bob+`","provider":"agent_mail","rejected_attempt":1}`).want(t, http.StatusNotFound, "")

	s.list(s.token(bob))
	bobs := decode[resolved](t, s.resolve(bob, agentmail.Name, "").body)
	report(`{"sub":"`+bob+`","provider":"agent_mail","rejected_attempt":1}`).want(t, http.StatusAccepted, "")
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	if now := decode[resolved](t, s.resolve(bob, agentmail.Name, "").body); now != bobs {
		t.Errorf("a key was replaced that was only looked for: %d, then %d", bobs.Attempt, now.Attempt)
	}
	again := report(`{"sub":"` + bob + `","provider":"agent_mail","rejected_attempt":1}`)
	if again.status != http.StatusTooManyRequests || !strings.Contains(again.body, "report it again after "+strconv.Itoa(time.Now().UTC().Year())[:2]) {
		t.Errorf("a second report is answered with %d %s", again.status, again.body)
	}
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	bobsNew := decode[resolved](t, s.resolve(bob, agentmail.Name, "").body)
	for _, key := range []resolved{bobs, bobsNew} {
		_, _, accepted := s.AgentMail.Identify(key.APIKey)
		if !accepted || key.ID != bobs.ID {
			t.Errorf("of the key that was reported and is there, and the one in its place, %d works: %t", key.Attempt, accepted)
		}
	}
	if bobsNew.APIKey == bobs.APIKey {
		t.Error("a key that was reported and is there was not replaced")
	}

	s.removeKey(before.APIKey)
	report(`{"sub":"`+alice+`","provider":"agent_mail","rejected_attempt":1}`).want(t, http.StatusAccepted, "")
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	if now := decode[resolved](t, s.resolve(alice, agentmail.Name, "").body); now != before {
		t.Errorf("one look replaced it: %d, then %d", before.Attempt, now.Attempt)
	}
	s.reconcileLater(alice)
	now := decode[resolved](t, s.resolve(alice, agentmail.Name, "").body)
	_, _, accepted := s.AgentMail.Identify(now.APIKey)
	if now.ID != before.ID || now.APIKey == before.APIKey || !accepted {
		t.Errorf("it is accepted: %t, attempt %d, then %d", accepted, before.Attempt, now.Attempt)
	}
	report(`{"sub":"`+alice+`","provider":"agent_mail","rejected_attempt":1}`).want(t, http.StatusConflict, "")

	s.call("DELETE", "/account", s.token(alice), "").want(t, http.StatusNoContent, "")
	report(`{"sub":"`+alice+`","provider":"agent_mail","rejected_attempt":3}`).want(t, http.StatusGone, "")
}

// removeKey deletes a key at AgentMail, with itself.
func (s *service) removeKey(key string) {
	s.t.Helper()
	podID, keyID, _ := s.AgentMail.Identify(key)
	req, err := http.NewRequest(http.MethodDelete, s.AgentMailURL+"/v0/pods/"+podID+"/api-keys/"+keyID, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fake.OrgKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusNoContent {
		s.t.Fatalf("%v %v", err, res)
	}
	res.Body.Close()
}

func TestAnExecutorLearnsUntilWhenAReplacedKeyServes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	type resolved struct {
		ID       string `json:"id"`
		APIKey   string `json:"api_key"`
		Attempt  int    `json:"attempt"`
		Retiring int    `json:"retiring_attempt"`
		RetireAt int64  `json:"retire_at"`
	}
	resolve := func() resolved { return decode[resolved](t, s.resolve(alice, agentmail.Name, "").body) }
	before := resolve()
	rotate := `{"command":"rotate","user_id":"` + alice + `","provider":"agent_mail","overlap":"1h","by":"somebody@example.com","reason":"a drill"}`
	if r := operate[map[string]bool](t, s, rotate); !r["rotating"] {
		t.Errorf("the answer is %v", r)
	}
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	now := resolve()
	left := time.Until(time.Unix(now.RetireAt, 0))
	if now.ID != before.ID || now.APIKey == before.APIKey || now.Retiring != before.Attempt || left > time.Hour || left < 50*time.Minute {
		t.Errorf("attempt %d is resolved, after %d; attempt %d serves for %v", now.Attempt, before.Attempt, now.Retiring, left)
	}
	for _, key := range []string{before.APIKey, now.APIKey} {
		if _, _, accepted := s.AgentMail.Identify(key); !accepted {
			t.Error("in the overlap one of the keys is not accepted")
		}
	}
	old := `{"sub":"` + alice + `","provider":"agent_mail","rejected_attempt":` + strconv.Itoa(before.Attempt) + `}`
	s.call("POST", "/local/resolve", "", old).want(t, http.StatusConflict, "")

	operate[map[string]bool](t, s, strings.Replace(rotate, "1h", "0s", 1))
	s.reconcileLater(alice)
	s.reconcileLater(alice)
	last := resolve()
	pod, _ := s.AgentMail.Pod(alice)
	if last.Attempt <= now.Attempt || last.Retiring != 0 || last.RetireAt != 0 || len(pod.Keys) != 1 {
		t.Errorf("attempt %d is resolved, %d retires, and there are %d keys", last.Attempt, last.Retiring, len(pod.Keys))
	}
}

func TestAnAuditRepairsWhatItIsAskedTo(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	s.list(s.token(bob))
	s.removeKey(decode[map[string]any](t, s.resolve(alice, agentmail.Name, "").body)["api_key"].(string))
	s.call("DELETE", "/account", s.token(bob), "").want(t, http.StatusNoContent, "")
	s.reconcileLater(bob)
	s.AgentMail.SeedPod(fake.Pod{ClientID: bob, Name: bob + "-pod"})
	for _, event := range []string{
		`{"command":"audit","provider":"agent_mail"}`,
		`{"command":"audit","provider":"agent_mail","repair":10,"by":"somebody@example.com"}`,
	} {
		r := operate[managed.AuditReport](t, s, event)
		if len(r.Findings) != 2 || r.Findings[0].Kind != managed.LeftBehind || r.Findings[1].Kind != managed.MissingKey || r.Next != "" {
			t.Errorf("%s: %+v", event, r)
		}
	}
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	s.reconcileLater(alice, bob)
	if pods := s.AgentMail.Pods(); len(pods) != 1 || pods[0].ClientID != alice || len(pods[0].Keys) != 1 {
		t.Errorf("the pods are %+v", pods)
	}
	if r := operate[managed.AuditReport](t, s, `{"command":"audit","provider":"agent_mail"}`); len(r.Findings) != 0 || r.Resources != 1 || r.Slots != 1 {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestTheScheduleHasAuditsGoOn(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"AUDIT_UNKNOWN_AFTER": "1ns", "AUDIT_DELETES_UNKNOWN": "true", "AUDIT_EVERY": "1ms"})
	s.list(s.token(alice))
	s.list(s.token(bob))
	s.removeKey(decode[map[string]any](t, s.resolve(alice, agentmail.Name, "").body)["api_key"].(string))
	s.Cognito.AddUser(standin.User{Username: bob, Sub: "another"}) // in place of bob: the event of his deletion is lost
	type audits struct {
		Audits []managed.ScheduledAudit `json:"audits"`
	}
	for _, want := range []map[managed.FindingKind]int{
		{managed.MissingKey: 1},
		{managed.MissingKey: 1, managed.UnknownUser: 1}, // at the second look
	} {
		all := operate[audits](t, s, `{"command":"audit_due"}`).Audits
		if len(all) == 0 || all[0].Provider != agentmail.Name || all[0].UnderWay != nil || all[0].Complete == nil || !maps.Equal(all[0].Complete.Findings, want) {
			t.Errorf("the audits stand at %+v, want the findings %v", all, want)
		}
	}
	shown := operate[struct {
		Providers []managed.ProviderStatus `json:"providers"`
	}](t, s, `{"command":"providers"}`).Providers
	if len(shown) == 0 || shown[0].Provider != agentmail.Name || shown[0].Audit.Complete == nil || shown[0].Audit.Complete.Slots != 2 {
		t.Errorf("the providers are %+v", shown)
	}
	if !s.logs(`"kind":"unknown_user","count":1,"user":"` + bob + `"`) {
		t.Error("the log does not say who is unknown")
	}
	if pods := s.AgentMail.Pods(); len(pods) != 2 { // nothing is repaired
		t.Errorf("the pods are %+v", pods)
	}
}

func TestARepairDeletesWhomThePoolDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"AUDIT_DELETES_UNKNOWN": "true", "AUDIT_UNKNOWN_AFTER": "1ns"})
	s.list(s.token(alice))
	s.list(s.token(bob))
	s.Cognito.AddUser(standin.User{Username: alice, Sub: "another"}) // in place of alice: the event of her deletion is lost
	for _, want := range []managed.Remedy{"", managed.Delete, ""} {
		r := operate[managed.AuditReport](t, s, `{"command":"audit","provider":"agent_mail","repair":1,"by":"somebody@example.com"}`)
		var got managed.Remedy
		if len(r.Findings) == 1 && r.Findings[0].User == alice {
			got = r.Findings[0].Remedy
		}
		if got != want || len(r.Findings) > 1 || r.Next != "" {
			t.Errorf("want the remedy %q: %+v", want, r)
		}
	}
	if pods := s.AgentMail.Pods(); len(pods) != 1 || pods[0].ClientID != bob {
		t.Errorf("the pods are %+v", pods)
	}
}

func TestParkedRevocationsAreListedAndForced(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	// user-cleanup has not been invoked before, so it cannot have the org key in memory.
	s.Secrets.MarkDeleted("managed-credentials/org-keys/agent_mail")
	s.Secrets.Put("managed-credentials/org-keys", `{}`)
	s.call("DELETE", "/account", s.token(alice), "").want(t, http.StatusAccepted, "")
	type list struct {
		Parked []managed.ParkedRevocation `json:"parked"`
		More   bool                       `json:"more"`
	}
	force := `{"command":"force","user_id":"` + alice + `","provider":"agent_mail","by":"somebody@example.com","reason":"removed by hand"}`
	if got := operate[list](t, s, `{"command":"parked"}`); len(got.Parked) != 1 || got.Parked[0].User != alice {
		t.Errorf("parked: %+v", got)
	}
	operate[map[string]bool](t, s, force)
	if got := operate[list](t, s, `{"command":"parked"}`); len(got.Parked) != 0 {
		t.Errorf("parked: %+v", got)
	}
	s.call("POST", "/local/operate", "", force).want(t, http.StatusConflict, "")
	if !s.logs(`"message":"revocation forced","audit":true,"by":"somebody@example.com"`) {
		t.Error("it is not on record")
	}
}

func TestADeletionThatFailedForGoodIsRedriven(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, user := range []string{alice, bob} {
		s.list(s.token(user))
	}
	s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault { return fault.Throttled() })
	// Lambda's record of alice's event, EventBridge's event of bob's as it is, and one that nobody
	// can do anything with.
	s.Queues.Send(stack.DeadLetters, string(lambda.Undelivered("user-cleanup", []byte(`{"user_id":"`+alice+`"}`))))
	s.Queues.Send(stack.DeadLetters, `{"user_id":"`+bob+`"}`)
	s.Queues.Send(stack.DeadLetters, `{"user_id":""}`)
	type report struct {
		Done   int `json:"done"`
		Failed []struct {
			MessageID string `json:"message_id"`
			Reason    string `json:"reason"`
			Event     string `json:"event"`
		} `json:"failed"`
		More bool `json:"more"`
	}
	r := operate[report](t, s, `{"command":"redrive"}`)
	if r.Done != 0 || len(r.Failed) != 3 || r.More || len(s.Queues.Bodies(stack.DeadLetters)) != 3 {
		t.Errorf("while the table is down: %+v", r)
	}
	s.Faults.DynamoDB.SetHook(nil)
	s.Queues.Show(stack.DeadLetters)
	r = operate[report](t, s, `{"command":"redrive"}`)
	if r.Done != 2 || len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Reason, "does not say whose account") || r.Failed[0].Event != `{"user_id":""}` {
		t.Errorf("afterwards: %+v", r)
	}
	if got := s.Queues.Bodies(stack.DeadLetters); !slices.Equal(got, []string{`{"user_id":""}`}) {
		t.Errorf("left in the queue: %v", got)
	}
	if pods := s.AgentMail.Pods(); len(pods) != 0 {
		t.Errorf("the pods are %+v", pods)
	}
}

// Five at once, so that the queue of an outage is not gone through for hours.
func TestDeletionsAreRedrivenSideBySide(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const messages, sideBySide = 12, 5
	for i := range messages {
		s.Queues.Send(stack.DeadLetters, fmt.Sprintf(`{"user_id":"user-%d"}`, i))
	}
	var under, most atomic.Int32
	together := make(chan struct{})
	meet := sync.OnceFunc(func() { close(together) })
	s.Faults.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op != "PutItem" { // the tombstone
			return nil
		}
		return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			now := under.Add(1)
			defer under.Add(-1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			if now == sideBySide {
				meet()
			}
			select {
			case <-together:
			case <-time.After(2 * time.Second):
			}
			return c.Forward(ctx)
		}
	})
	r := operate[map[string]any](t, s, `{"command":"redrive"}`)
	if r["done"] != float64(messages) || len(s.Queues.Bodies(stack.DeadLetters)) != 0 {
		t.Errorf("redriven was %v", r)
	}
	if most.Load() != sideBySide {
		t.Errorf("%d deletions were under way at once", most.Load())
	}
}

func TestWhatOperateRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for event, want := range map[string]int{
		`{}`: 422, `{"command":"delete-everything"}`: 422, `{"command":7}`: 422,
		`{"command":"audit"}`:                                                                             422,
		`{"command":"audit","provider":"nobody"}`:                                                         404,
		`{"command":"audit","provider":"agent_mail","cursor":"made-up"}`:                                  422,
		`{"command":"audit","provider":"agent_mail","repair":10}`:                                         422,
		`{"command":"audit","provider":"agent_mail","repair":true,"by":"me"}`:                             422,
		`{"command":"audit","provider":"agent_mail","repair":-1,"by":"me"}`:                               422,
		`{"command":"force","user_id":"` + alice + `","provider":"agent_mail","by":"me"}`:                 422,
		`{"command":"force","user_id":"` + alice + `","provider":"agent_mail","by":"me","reason":"none"}`: 409,
	} {
		s.call("POST", "/local/operate", "", event).want(t, want, "")
	}
}

func TestMailThatIsHeldBackIsBroughtForward(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"DELETION_HOLDBACK": "72h"})
	s.list(s.token(alice))
	s.AgentMail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	a := s.call("DELETE", "/account", s.token(alice), "")
	a.want(t, http.StatusAccepted, "")
	if !strings.Contains(a.body, `"state":"held_back"`) {
		t.Errorf("the answer is %s", a.body)
	}
	s.reconcileLater(alice)
	if pods := s.AgentMail.Pods(); len(pods) != 1 || len(pods[0].Keys) != 0 || len(pods[0].Inboxes) != 1 {
		t.Errorf("the pods are %+v", pods)
	}
	event := `{"command":"end_holdback","user_id":"` + alice + `","by":"somebody@example.com","reason":"she wants it"}`
	if ended := operate[map[string]any](t, s, event); ended["ended"] != 1.0 || ended["more"] != false {
		t.Errorf("the answer is %v", ended)
	}
	s.reconcileLater(alice)
	if pods := s.AgentMail.Pods(); len(pods) != 0 {
		t.Errorf("the pods are %+v", pods)
	}
}
