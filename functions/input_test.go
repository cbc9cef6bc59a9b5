package functions_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/issuer"
	"managed-credentials/shared/provider/agentmail"
)

func TestWhoIsNotSignedInGets401(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sign := func(change func(map[string]any)) string {
		claims := s.Issuer.AccessClaims(alice, alice)
		change(claims)
		token, err := s.Issuer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	elsewhere, err := issuer.New(issuer.Config{UserPoolID: s.UserPoolID, ClientID: "local"})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := elsewhere.AccessToken(alice, alice)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.Issuer.Sign(s.Issuer.IDClaims(alice, alice))
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"none":               "",
		"garbage":            "a.b.c",
		"expired":            sign(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }),
		"another issuer":     sign(func(c map[string]any) { c["iss"] = "https://example.com" }),
		"another audience":   sign(func(c map[string]any) { c["client_id"] = "somebody-elses" }),
		"another's key":      forged,
		"an ID token":        id,
		"no subject":         sign(func(c map[string]any) { delete(c, "sub") }),
		"an empty subject":   sign(func(c map[string]any) { c["sub"] = "" }),
		"a client's own":     sign(func(c map[string]any) { delete(c, "username"); c["sub"] = c["client_id"] }),
		"no username":        sign(func(c map[string]any) { delete(c, "username") }),
		"a subject in parts": sign(func(c map[string]any) { c["sub"] = alice + "\n" }),
		"a subject too long": sign(func(c map[string]any) { c["sub"] = strings.Repeat("x", 257) }),
	} {
		for _, route := range []string{
			"GET /credentials", "GET /github/credentials", "GET /github/credentials/" + credential.SystemID("github"),
			"POST /github/credentials", "PUT /github/credentials/" + credential.NewID(), "DELETE /github/credentials/" + credential.NewID(),
			"DELETE /account",
		} {
			method, path, _ := strings.Cut(route, " ")
			a := s.call(method, path, token, "")
			if a.status != http.StatusUnauthorized || a.body != `{"message":"Unauthorized"}` {
				t.Errorf("%s with %s: %d %s", route, name, a.status, a.body)
			}
		}
	}
	if left := s.items(alice); len(left) != 0 || len(s.AgentMail.Pods()) != 0 {
		t.Errorf("something was done: %v", left)
	}
}

func TestBadBodiesGet4xxThatNamesTheField(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	mine := s.create(token, "github", `{"type":"api_key","api_key":"mine"}`)
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{``, 422, "body"},
		{`{`, 422, "body"},
		{`{"type":"api_key","api_key":"x"`, 422, "body"},
		{`[]`, 422, "body"},
		{`null`, 422, "body"},
		{`"api_key"`, 422, "body"},
		{"{\"type\":\"api_key\",\"api_key\":\"\xff\xfe\"}", 422, "body"},
		{`{"type":"api_key","api_key":"\ud800"}`, 422, "api_key"},
		{`{"type":"ssh_key","api_key":"x"}`, 422, "type"},
		{`{"type":7,"api_key":"x"}`, 422, "type"},
		{`{"type":"api_key"}`, 422, "api_key"},
		{`{"type":"api_key","api_key":""}`, 422, "api_key"},
		{`{"type":"api_key","api_key":7}`, 422, "api_key"},
		{`{"type":"api_key","api_key":"x","expires_at":"soon"}`, 422, "expires_at"},
		{`{"type":"api_key","api_key":"x","title":7}`, 422, "title"},
		{`{"type":"api_key","api_key":"x","title":"` + strings.Repeat("t", 257) + `"}`, 422, "title"},
		{`{"type":"oauth2","access_token":"x","scopes":"repo"}`, 422, "scopes"},
		{`{"type":"oauth2","refresh_token":"x"}`, 422, "access_token"},
		{`{"type":"user_password","username":"al"}`, 422, "password"},
		{`{"type":"user_password","password":"x"}`, 422, "username"},
		{`{"type":"host_scoped","host":"example.com"}`, 422, "headers"},
		{`{"type":"host_scoped","headers":{"a":"b"}}`, 422, "host"},
		{`{"type":"host_scoped","host":"example.com","headers":{"a":7}}`, 422, "headers"},
		{`{"type":"api_key","api_key":"x","autogpt_managed":true}`, 403, "managed"},
		{`{"type":"api_key","api_key":"x","autogpt_managed":"yes"}`, 422, "autogpt_managed"},
		{`{"type":"api_key","api_key":"x","expiresAt":1}`, 422, "expiresAt: is not a field of type api_key: expires_at is probably meant"},
		{`{"type":"api_key","api_key":"x","Autogpt_Managed":true}`, 422, "autogpt_managed is probably meant"},
		{`{"type":"api_key","api_key":"x","expires_at":1700000000}`, 422, "expires_at: is in the past"},
		{`{"type":"api_key","api_key":"x","expires_at":1893456000000}`, 422, "not in milliseconds"},
		{`{"type":"api_key","api_key":"abc\u200bd"}`, 422, "api_key: character 4 is a zero-width space"},
		{`{"type":"api_key","api_key":"Bearer x"}`, 422, "api_key: begins with"},
		{`{"type":"api_key","api_key":"x","title":"\u2060"}`, 422, "title"},
		{`{"type":"host_scoped","host":"https://example.com","headers":{"a":"b"}}`, 422, "host: must be a host name"},
		{`{"type":"host_scoped","host":"example.com","headers":{"a b":"b"}}`, 422, "headers: must have names"},
		{`{"type":"host_scoped","host":"example.com","headers":{"a":" "}}`, 422, "headers: must have a value"},
		{`{"type":"host_scoped","host":"example.com","headers":{"a":"b","A":"c"}}`, 422, "headers: must not have one name twice"},
		{`{"type":"api_key","api_key":"` + strings.Repeat("k", 4096) + `"}`, 413, "4,096"},
		{`{"type":"api_key","api_key":"` + strings.Repeat("k", 64<<10) + `"}`, 413, "64 KB"},
	} {
		for _, route := range []string{"POST /github/credentials", "PUT /github/credentials/" + mine.ID} {
			method, path, _ := strings.Cut(route, " ")
			if method == "PUT" && c.body == `{"type":"api_key"}` {
				continue // said below: it changes nothing
			}
			a := s.call(method, path, token, c.body)
			detail := decode[map[string]string](t, a.body)["detail"]
			if a.status != c.status || !strings.Contains(detail, c.says) {
				t.Errorf("%s %.80s: %d %s", method, c.body, a.status, a.body)
			}
		}
	}
	s.call("PUT", "/github/credentials/"+mine.ID, token, `{}`).want(t, 422, "")
	s.call("PUT", "/github/credentials/"+mine.ID, token, `{"type":"oauth2","title":"x"}`).want(t, 422, "")
	s.call("PUT", "/github/credentials/"+mine.ID, token, `{"access_token":"x"}`).want(t, 422, "")
	if a := s.resolve(alice, "github", mine.ID); !strings.Contains(a.body, `"api_key":"mine"`) {
		t.Errorf("a refused change changed it: %s", a.body)
	}
	if got := s.items(alice); len(got) != 1 {
		t.Errorf("the table has %v", got)
	}
}

// A schema cannot say this, so that these come as events.
func TestABodyThatHasANameTwiceGets422(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for function, file := range map[string]string{"create-credential": "api-key.json", "update-guard": "secret.json"} {
		sample, err := os.ReadFile(filepath.Join(function, "events", file))
		if err != nil {
			t.Fatal(err)
		}
		for body, detail := range map[string]string{
			`{"type":"api_key","api_key":"x","api_key":"y"}`:                          "body: must not have a name twice",
			`{"type":"host_scoped","host":"example.com","headers":{"a":"b","a":"c"}}`: "headers: must be an object of at least one name, none of them twice, and its text value",
		} {
			event := decode[map[string]any](t, string(sample))
			event["body"] = body
			raw, err := json.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Host.Invoke(t.Context(), function, raw)
			answer := decode[struct {
				StatusCode int
				Body       string
			}](t, string(out))
			if err != nil || answer.StatusCode != 422 || decode[map[string]string](t, answer.Body)["detail"] != detail {
				t.Errorf("%s of %s: %s, %v", function, body, out, err)
			}
		}
	}
}

func TestWhatTheServiceDecidesIsIgnoredInABody(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	forged := credential.ManagedID(agentmail.Name, alice)
	m := s.create(token, "github", `{"id":"`+forged+`","provider":"agent_mail","metadata":{"pod_id":"x"},"autogpt_managed":false,"is_system":true,`+
		`"created_at":5,"hint":"x","stored":null,"last_used_on":"2026-11-30","type":"api_key","api_key":"x"}`)
	if m.ID == forged || m.Provider != "github" || m.Managed || m.System {
		t.Errorf("created: %+v", m)
	}
	s.call("DELETE", "/github/credentials/"+m.ID, token, "").want(t, http.StatusOK, "")
}

func TestMalformedNamesAndIDs(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	for _, id := range []string{"x", "a%23b", "%F0%9F%98%80", "a%20b", strings.Repeat("x", 10000), strings.ToUpper(credential.NewID()), "%2e%2e", credential.NewID()} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			a := s.call(method, "/github/credentials/"+id, token, `{"title":"x"}`)
			if a.status != http.StatusNotFound || a.body != `{"detail":"Credentials not found"}` {
				t.Errorf("%s %.40s: %d %s", method, id, a.status, a.body)
			}
		}
	}
	s.call("GET", "/github/credentials/a/b", token, "").want(t, http.StatusNotFound, `{"message":"Not Found"}`)
	for _, provider := range []string{"GitHub", "a%23b", "a%20b", "%F0%9F%98%80", strings.Repeat("x", 65)} {
		s.call("GET", "/"+provider+"/credentials", token, "").want(t, http.StatusUnprocessableEntity, "")
		s.call("POST", "/"+provider+"/credentials", token, `{"type":"api_key","api_key":"x"}`).want(t, http.StatusUnprocessableEntity, "")
		s.call("GET", "/"+provider+"/credentials/"+credential.NewID(), token, "").want(t, http.StatusNotFound, "")
	}
	s.call("GET", "/nowhere", token, "").want(t, http.StatusNotFound, `{"message":"Not Found"}`)
	if n := len(s.Faults.DynamoDB.Calls()); n > 3 { // one for each method with the last id, which is well-formed
		t.Errorf("%d calls to the table", n)
	}
}

func TestStrangeUserIDsAreOpaque(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	strange := []string{"a#b", "USER#a", "~a", "名前", "a+b/c?d=e", strings.Repeat("é", 256)}
	for i, user := range strange {
		token := s.token(user)
		if got := s.list(token); len(got) != 2 || !got[0].Managed {
			t.Errorf("%q: %+v", user, got)
		}
		if n := len(s.AgentMail.Pods()); n != i+1 {
			t.Errorf("after %q AgentMail has %d pods", user, n)
		}
		s.resolve(user, agentmail.Name, "").want(t, http.StatusOK, "")
	}
	for _, user := range strange[2:] {
		s.call("DELETE", "/account", s.token(user), "").want(t, http.StatusNoContent, "")
	}
	if n := len(s.AgentMail.Pods()); n != 2 {
		t.Errorf("AgentMail has %d pods", n)
	}
}

// Who is named by somebody else than their token is named as it was typed.
func TestAUserIDIsTakenAsItIsMeantOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	s.resolve(strings.ToUpper(alice), agentmail.Name, "").want(t, http.StatusOK, "")
	for _, id := range []string{" " + alice, alice + " ", alice + `\n`, alice + `\u200b`, alice + `\u0000`, "a b"} {
		a := s.call("POST", "/local/resolve", "", `{"sub":"`+id+`","provider":"agent_mail"}`)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "user_id: must be a text of 1 to 256 characters, without blanks") {
			t.Errorf("%q: %d %s", id, a.status, a.body)
		}
	}
}

// Which of two members counts would decide whose key is handed out.
func TestWhoseKeyIsHandedOutIsSaidOnceAndToTheLetter(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	s.list(s.token(bob))
	for event, want := range map[string]string{
		`{"user_id":"` + alice + `","user_id":"` + bob + `","provider":"agent_mail"}`:         `"status":422`,
		`{"user_id":"` + alice + `","provider":"agent_mail","provider":"agent_mail"}`:         `"status":422`,
		`{"USER_ID":"` + alice + `","provider":"agent_mail"}`:                                 `"status":422`,
		`{"user_id":"` + alice + `","provider":"agent_mail","User_Id":"` + bob + `"}`:         credential.ManagedID(agentmail.Name, alice),
		"\ufeff" + `{"user_id":"` + alice + `","provider":"agent_mail"}`:                      credential.ManagedID(agentmail.Name, alice),
		`{"user_id":"` + alice + `","provider":"agent_mail","credential_id":["` + bob + `"]}`: `"detail":"credential_id: must be a text"`,
	} {
		out, err := s.Host.Invoke(t.Context(), "resolve-credential", []byte(event))
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %s, %v", event, out, err)
		}
	}
	for _, event := range []string{
		`{"command":"parked","command":"audit"}`, `{"Command":"parked"}`, `{"command":"parked","by":"a","by":"b"}`,
		`{"command":"force","user_id":"a b","provider":"agent_mail","by":"a","reason":"b"}`,
	} {
		out, err := s.Host.Invoke(t.Context(), "operate", []byte(event))
		if err != nil || !strings.Contains(string(out), `"status":422`) {
			t.Errorf("%s: %s, %v", event, out, err)
		}
	}
}

func TestGarbageEventsAreAnsweredNotCrashedOn(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, function := range []string{"list-with-provision", "create-credential", "update-guard", "delete-guard"} {
		for _, event := range []string{`{}`, `[]`, `null`, `"x"`, `{"routeKey":7}`, `{"routeKey":"GET /elsewhere"}`} {
			out, err := s.Host.Invoke(t.Context(), function, []byte(event))
			if err != nil {
				t.Errorf("%s %s: %v", function, event, err)
				continue
			}
			status := decode[struct{ StatusCode int }](t, string(out)).StatusCode
			if status < 400 || status > 499 {
				t.Errorf("%s %s: %s", function, event, out)
			}
		}
	}
	for event, status := range map[string]int{
		`{}`: 422, `[]`: 422, `{"user_id":"a"}`: 422, `{"user_id":"a","provider":"A"}`: 422, `{"user_id":"","provider":"a"}`: 422,
		`{"user_id":7,"provider":"a"}`: 422, `{"user_id":"a","provider":"a","credential_id":"x"}`: 404, `{"user_id":"a","provider":"a"}`: 404,
		fmt.Sprintf(`{"user_id":%q,"provider":"a"}`, strings.Repeat("x", 257)): 422,
	} {
		out, err := s.Host.Invoke(t.Context(), "resolve-credential", []byte(event))
		if err != nil {
			t.Errorf("%s: %v", event, err)
			continue
		}
		if got := decode[struct{ Status int }](t, string(out)).Status; got != status {
			t.Errorf("%s: %s", event, out)
		}
	}
}
