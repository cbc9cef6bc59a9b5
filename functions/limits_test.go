package functions_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/store"
)

func TestAUserHasOnlySoManyCredentialsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"MAX_CREDENTIALS": "2"})
	token := s.token(alice)
	s.list(token) // the managed one does not count
	const body = `{"type":"api_key","api_key":"mine"}`
	first := s.create(token, "github", body)
	s.create(token, "openai", body)
	refused := s.call("POST", "/github/credentials", token, body)
	refused.want(t, http.StatusConflict, `{"detail":"There are 2 credentials of your own already, as many as an account may have: delete one first."}`)
	if n := len(s.list(token)); n != 4 { // the managed and the system one beside them
		t.Errorf("the list has %d", n)
	}
	s.call("PUT", "/github/credentials/"+first.ID, token, `{"title":"Mine"}`).want(t, http.StatusOK, "")
	s.call("DELETE", "/github/credentials/"+first.ID, token, "").want(t, http.StatusOK, "")
	s.create(token, "github", body)
	s.create(s.token(bob), "github", body)
	s.call("DELETE", "/account", token, "")
	s.call("POST", "/github/credentials", token, body).want(t, http.StatusUnauthorized, "")
}

func TestTheCleartextOfACredentialIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	body := func(scopes int) string {
		return `{"type":"oauth2","access_token":"mine","scopes":["` + strings.Repeat("s", scopes) + `"]}`
	}
	mine := s.create(token, "github", body(3000))
	for _, a := range []answer{
		s.call("POST", "/github/credentials", token, body(4000)),
		s.call("PUT", "/github/credentials/"+mine.ID, token, body(4000)),
	} {
		a.want(t, http.StatusRequestEntityTooLarge, `{"detail":"The username and scopes together exceed 3,072 bytes: `+
			`all of a credential that is not secret, its title included, may have 4 KB."}`)
	}
	a := s.call("PUT", "/github/credentials/"+mine.ID, token, `{"title":"`+strings.Repeat("t", 256)+`"}`)
	if a.status != http.StatusOK || decode[credential.Metadata](t, a.body).ID != mine.ID {
		t.Errorf("the answer is %d %s", a.status, a.body)
	}
}

// Each report of a key that works costs the third party a look.
func TestTheSameKeyIsReportedAgainOnlyAfterAPauseThatDoubles(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	report := func() answer {
		return s.call("POST", "/local/resolve", "", `{"sub":"`+alice+`","provider":"agent_mail","rejected_attempt":1}`)
	}
	table := store.New(s.DynamoDB, s.Table, nil)
	for i, pause := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
		for range i {
			s.later(alice)
		}
		before := time.Now()
		report().want(t, http.StatusAccepted, "")
		slots, err := table.Slots(t.Context(), alice, agentmail.Name)
		if err != nil {
			t.Fatal(err)
		}
		slot := slots[agentmail.Name]
		if slot.ReportPause != pause || slot.ReportFrom.Before(before.Add(pause-time.Second)) {
			t.Errorf("after a pause that should be %v the slot is %+v", pause, slot)
		}
		report().want(t, http.StatusTooManyRequests,
			`{"detail":"The key was reported before, and what became of it has been looked at: report it again after `+
				slot.ReportFrom.UTC().Format(time.RFC3339)+`"}`)
		s.call("POST", "/local/reconcile", "", "").want(t, http.StatusOK, "")
	}
}
