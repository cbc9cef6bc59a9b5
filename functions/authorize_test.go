package functions_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/issuer"
)

// A platform whose issuer signs ES256 uses the service as one with Cognito does, from the first
// list to the account's end.
func TestAnIssuerThatIsNotCognitoSignsUsersIn(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token, err := s.ES256.AccessToken(alice)
	if err != nil {
		t.Fatal(err)
	}
	s.call("GET", "/credentials", token, "").want(t, http.StatusOK, "")
	if pods := s.AgentMail.Pods(); len(pods) != 1 || pods[0].ClientID != alice {
		t.Errorf("AgentMail has the pods %+v", pods)
	}
	mine := s.create(token, "github", `{"type":"api_key","api_key":"mine"}`)
	path := "/github/credentials/" + mine.ID
	s.call("PUT", path, token, `{"title":"Work"}`).want(t, http.StatusOK, "")
	s.call("DELETE", path, token, "").want(t, http.StatusOK, "")
	s.call("DELETE", "/account", token, "").want(t, http.StatusNoContent, "")
	s.call("GET", "/credentials", token, "").want(t, http.StatusUnauthorized, `{"detail":"This account has been deleted."}`)
	if pods := s.AgentMail.Pods(); len(pods) != 0 {
		t.Errorf("AgentMail has the pods %+v", pods)
	}
}

func TestATokenOfThatIssuerThatMayNotPassIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sign := func(change func(map[string]any)) string {
		claims := s.ES256.Claims(alice)
		change(claims)
		token, err := s.ES256.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	impostor, err := issuer.NewES256(s.IssuerURL, "local")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := impostor.AccessToken(alice)
	if err != nil {
		t.Fatal(err)
	}
	const forbidden, unauthorized = `{"message":"Forbidden"}`, `{"message":"Unauthorized"}`
	for name, c := range map[string]struct {
		token  string
		status int
		body   string
	}{
		"expired":          {sign(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }), 401, unauthorized},
		"forged":           {forged, 403, forbidden},
		"another audience": {sign(func(c map[string]any) { c["aud"] = "another-api" }), 403, forbidden},
		"nobody's":         {sign(func(c map[string]any) { delete(c, "sub") }), 403, forbidden},
	} {
		for _, route := range routes {
			a := s.call(route.method, route.path, c.token, "")
			if a.status != c.status || a.body != c.body {
				t.Errorf("%s %s with a token that is %s: %d %s", route.method, route.path, name, a.status, a.body)
			}
		}
	}
	if left := s.items(alice); len(left) != 0 || len(s.AgentMail.Pods()) != 0 {
		t.Errorf("something was done: %v", left)
	}
}

// Where there is no user pool, an event of somebody else's pool deletes nobody here; a direct call
// and a trigger do.
func TestWithoutAUserPoolAPlatformSaysWhoseAccountToDelete(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"USER_POOL_ID": ""})
	for event, deletes := range map[string]bool{
		"delete-user": false, "admin-delete-user": false, "admin-delete-user-username-only": false,
		"trigger-account-deletion": true, "direct": true,
	} {
		text, err := os.ReadFile("user-cleanup/events/" + event + ".json")
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Host.Invoke(t.Context(), "user-cleanup", text)
		ignored := strings.Contains(string(out), `"ignored":"there is no user pool"`)
		if err != nil || ignored == deletes || deletes && !strings.Contains(string(out), `"known":`) {
			t.Errorf("%s: %s, %v", event, out, err)
		}
	}
}
