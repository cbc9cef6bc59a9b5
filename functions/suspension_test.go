package functions_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/provider/agentmail"
)

func TestWhoIsSuspendedGets403EverywhereAndEverythingBackOnceEnabled(t *testing.T) {
	t.Parallel()
	s := start(t, removable)
	token := s.token(alice)
	listed := s.list(token)
	own := s.create(token, "github", `{"type":"api_key","api_key":"not-a-real-key"}`)
	before := s.resolve(alice, agentmail.Name, "").body
	order := func(command string) string {
		return `{"command":"` + command + `","user_id":"` + strings.ToUpper(alice) + `","by":"somebody@example.com","reason":"a drill"}`
	}
	operate[map[string]bool](t, s, order("suspend"))
	operate[map[string]bool](t, s, order("suspend"))

	const suspended = `{"detail":"This account is suspended."}`
	path := "/github/credentials/" + own.ID
	for _, c := range [][3]string{
		{"GET", "/credentials", ""},
		{"GET", "/agent_mail/credentials", ""},
		{"GET", path, ""},
		{"GET", "/agent_mail/credentials/" + credential.ManagedID(agentmail.Name, alice), ""},
		{"POST", "/github/credentials", `{"type":"api_key","api_key":"another"}`},
		{"PUT", path, `{"title":"another"}`},
		{"PUT", path, `{"type":"api_key","api_key":"another"}`},
		{"DELETE", path, ""},
		{"PUT", "/agent_mail/managed", ""},
		{"POST", "/agent_mail/managed/replace", ""},
	} {
		s.call(c[0], c[1], token, c[2]).want(t, http.StatusForbidden, suspended)
	}
	for _, r := range [][2]string{{agentmail.Name, ""}, {"github", own.ID}, {"openai", credential.SystemID("openai")}} {
		a := s.resolve(alice, r[0], r[1])
		a.want(t, http.StatusForbidden, "")
		if !strings.Contains(a.body, `"detail":"The account is suspended"`) {
			t.Errorf("%s is refused with %s", r[0], a.body)
		}
	}
	report := `{"sub":"` + alice + `","provider":"agent_mail","rejected_attempt":1}`
	s.call("POST", "/local/resolve", "", report).want(t, http.StatusForbidden, `{"detail":"The account is suspended"}`)
	s.call("POST", "/local/operate", "", `{"command":"rotate","user_id":"`+alice+`","provider":"agent_mail","by":"me","reason":"a drill"}`).
		want(t, http.StatusForbidden, "")
	s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	if n := len(s.AgentMail.Pods()); n != 1 {
		t.Errorf("there are %d pods", n)
	}

	operate[map[string]bool](t, s, order("enable"))
	operate[map[string]bool](t, s, order("enable"))
	if now := s.list(token); len(now) != len(listed)+1 || s.resolve(alice, agentmail.Name, "").body != before {
		t.Errorf("the list is %+v", now)
	}
	s.call("GET", path, token, "").want(t, http.StatusOK, "")
	for _, message := range []string{"suspension", "suspension ended"} {
		if !s.logs(`"message":"` + message + `","audit":true,"by":"somebody@example.com","reason":"a drill","user":"` + alice + `"`) {
			t.Errorf("%s is not on record", message)
		}
	}

	operate[map[string]bool](t, s, order("suspend"))
	s.call("DELETE", "/account", token, "").want(t, http.StatusNoContent, "")
	s.call("GET", "/credentials", token, "").want(t, http.StatusUnauthorized, `{"detail":"This account has been deleted."}`)
	s.call("POST", "/local/operate", "", order("suspend")).want(t, http.StatusGone, "")
	s.call("POST", "/local/operate", "", order("enable")).want(t, http.StatusGone, "")
	if n := len(s.AgentMail.Pods()); n != 0 {
		t.Errorf("%d pods are left", n)
	}
}

func TestTheKeysOfASuspendedUserGoWhereTheOwnerSaysSoAndTheirMailStays(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"SUSPENDED_KEYS_LIVE": "168h"})
	token := s.token(alice)
	s.list(token)
	key := func() string {
		t.Helper()
		return decode[struct {
			APIKey string `json:"api_key"`
		}](t, s.resolve(alice, agentmail.Name, "").body).APIKey
	}
	works := func(key string) bool {
		_, _, accepted := s.AgentMail.Identify(key)
		return accepted
	}
	before := key()
	pod, _ := s.AgentMail.Pod(alice)
	order := func(command string) string {
		return `{"command":"` + command + `","user_id":"` + alice + `","by":"me","reason":"a drill"}`
	}
	operate[map[string]bool](t, s, order("suspend"))
	stacktest.LaterBy(t, s.Stack, alice, 167*time.Hour)
	s.reconcileLater()
	if !works(before) {
		t.Error("the key went before its time")
	}
	stacktest.LaterBy(t, s.Stack, alice, 2*time.Hour)
	s.reconcileLater()
	s.reconcileLater(alice)
	if works(before) {
		t.Error("the key works still")
	}
	operate[map[string]bool](t, s, order("enable"))
	s.list(token)
	now, _ := s.AgentMail.Pod(alice)
	if after := key(); after == before || !works(after) || now.ID != pod.ID || len(now.Keys) != 1 {
		t.Errorf("after that the pod is %+v", now)
	}
}

func TestSuspensionIsRefusedWhereItIsOffOrNobodyAsks(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"SUSPENSION": ""})
	s.list(s.token(alice))
	order := func(by, reason string) string {
		return `{"command":"suspend","user_id":"` + alice + `","by":"` + by + `","reason":"` + reason + `"}`
	}
	s.call("POST", "/local/operate", "", order("me", "a drill")).want(t, http.StatusConflict, "")
	s.call("POST", "/local/operate", "", order("", "a drill")).want(t, http.StatusUnprocessableEntity, "")
	s.call("POST", "/local/operate", "", order("me", "")).want(t, http.StatusUnprocessableEntity, "")
	s.list(s.token(alice))
}

func TestWhoIsDisabledInCognitoGets403UntilTheyAreEnabledThere(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"USER_POOL_ID": "us-east-1_Example01"})
	token := s.token(alice)
	before := s.resolve(alice, agentmail.Name, "")
	for before.status != http.StatusOK { // on a busy machine it takes more than one list
		s.list(token)
		before = s.resolve(alice, agentmail.Name, "")
		time.Sleep(100 * time.Millisecond)
	}
	refused := func(doing string) {
		t.Helper()
		s.call("GET", "/credentials", token, "").want(t, http.StatusForbidden, `{"detail":"This account is suspended."}`)
		if a := s.resolve(alice, agentmail.Name, ""); a.status != http.StatusForbidden {
			t.Errorf("%s: resolving is answered with %d", doing, a.status)
		}
	}
	served := func(doing string) {
		t.Helper()
		s.list(token)
		if now := s.resolve(alice, agentmail.Name, "").body; now != before.body {
			t.Errorf("%s: an executor gets %s", doing, now)
		}
	}
	const user = `{"sub":"` + alice + `"}`
	for range 2 {
		s.call("POST", "/local/disable-user", "", user).want(t, http.StatusOK, `{"pending":[],"disabled":true}`)
		refused("once disabled")
	}
	for range 2 {
		s.call("POST", "/local/enable-user", "", user).want(t, http.StatusOK, `{"pending":[],"disabled":false}`)
		served("once enabled")
	}
	s.call("POST", "/local/disable-user", "", `{"sub":"nobody"}`).want(t, http.StatusNotFound, `{"detail":"User does not exist."}`)

	// The events come late, twice and in the wrong order: what counts is what the pool says.
	events := map[string][]byte{}
	for _, name := range []string{"admin-disable-user", "admin-enable-user"} {
		event, err := os.ReadFile("user-cleanup/events/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		events[name] = event
	}
	for _, enabled := range []bool{false, true, false, true} {
		s.Cognito.Switch(alice, enabled)
		for _, name := range []string{"admin-enable-user", "admin-disable-user", "admin-enable-user", "admin-enable-user", "admin-disable-user"} {
			_, err := s.Host.Invoke(t.Context(), "user-cleanup", events[name])
			if err != nil {
				t.Fatal(err)
			}
			if enabled {
				served("after " + name)
			} else {
				refused("after " + name)
			}
		}
	}

	// An operator and Cognito do not lift each other's suspension.
	order := `","user_id":"` + alice + `","by":"me","reason":"a drill"}`
	operate[map[string]bool](t, s, `{"command":"suspend`+order)
	s.call("POST", "/local/enable-user", "", user).want(t, http.StatusOK, "")
	refused("by an operator")
	s.call("POST", "/local/disable-user", "", user).want(t, http.StatusOK, "")
	s.call("POST", "/local/operate", "", `{"command":"enable`+order).want(t, http.StatusConflict, "")
	refused("by Cognito")
	s.call("POST", "/local/enable-user", "", user).want(t, http.StatusOK, "")
	served("enabled by both")

	// A look that fails is for whoever sent the event to repeat.
	s.Cognito.Switch(alice, false)
	s.Faults.Cognito.SetHook(func(*fault.Call) fault.Fault { return fault.AWSError(400, "NotAuthorizedException", "no") })
	_, err := s.Host.Invoke(t.Context(), "user-cleanup", events["admin-disable-user"])
	if err == nil {
		t.Error("a look that failed is no error")
	}
	s.Faults.Cognito.SetHook(nil)
	_, err = s.Host.Invoke(t.Context(), "user-cleanup", events["admin-disable-user"])
	if err != nil {
		t.Error(err)
	}
	refused("by the repeat")
	s.call("POST", "/local/delete-user", "", user).want(t, http.StatusOK, "")
	s.call("GET", "/credentials", token, "").want(t, http.StatusUnauthorized, `{"detail":"This account has been deleted."}`)
}

// Without a sub in the event it is whoever has the name, and where suspension is off nobody.
func TestAnEventWithANameAloneIsAboutWhoeverHasItNow(t *testing.T) {
	t.Parallel()
	event, err := os.ReadFile("user-cleanup/events/admin-disable-user-name-only.json")
	if err != nil {
		t.Fatal(err)
	}
	for suspension, want := range map[string]string{"true": `{"pending":[],"disabled":true}`, "": `{"ignored":"suspension is off","pending":[]}`} {
		s := start(t, map[string]string{"USER_POOL_ID": "us-east-1_Example01", "SUSPENSION": suspension})
		token, err := s.Issuer.AccessToken(alice, "someone@example.com")
		if err != nil {
			t.Fatal(err)
		}
		s.list(token)
		s.list(s.token(bob))
		s.Cognito.AddUser(standin.User{Username: "someone@example.com", Sub: alice})
		s.Cognito.Switch("someone@example.com", false)
		out, err := s.Host.Invoke(t.Context(), "user-cleanup", event)
		if err != nil || string(out) != want {
			t.Errorf("%q: %s, %v", suspension, out, err)
		}
		s.list(s.token(bob))
		status := http.StatusOK
		if suspension == "true" {
			status = http.StatusForbidden
		}
		s.call("GET", "/credentials", token, "").want(t, status, "")
	}
}
