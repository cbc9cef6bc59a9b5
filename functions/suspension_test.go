package functions_test

import (
	"net/http"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/agentmail"
)

func TestWhoIsSuspendedGets403EverywhereAndEverythingBackOnceEnabled(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
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
