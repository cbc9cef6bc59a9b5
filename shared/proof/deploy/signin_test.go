package deploy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const password = "Correct-horse-7-battery"

// user makes a user as README.md says, and returns their sub. The password that Cognito sends by
// mail, and the user's own in its place, are one here.
func (s *stack) user(email string) (sub string) {
	s.t.Helper()
	pool := s.output("UserPoolId")
	made := s.aws("", "cognito-idp", "admin-create-user", "--user-pool-id", pool, "--username", email, "--desired-delivery-mediums", "EMAIL",
		"--user-attributes", "Name=email,Value="+email, "Name=email_verified,Value=true")
	s.aws("", "cognito-idp", "admin-set-user-password", "--user-pool-id", pool, "--username", email, "--password", password, "--permanent")
	for _, a := range made["User"].(object)["Attributes"].([]any) {
		if a.(object)["Name"] == "sub" {
			sub = a.(object)["Value"].(string)
		}
	}
	return sub
}

// hasUser tells whether the pool knows a user.
func (s *stack) hasUser(email string) bool {
	return !s.refused("UserNotFoundException", "cognito-idp", "admin-get-user", "--user-pool-id", s.output("UserPoolId"), "--username", email)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)

// signIn signs a user in at Cognito's login pages, as the page does, and returns an access token.
func (s *stack) signIn(email, callback string) string {
	s.t.Helper()
	verifier := rand.Text() + rand.Text()
	hash := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {s.output("UserPoolClientId")}, "redirect_uri": {callback}, "scope": {"openid email"},
		"state": {"some"}, "code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(hash[:])},
	}
	pages := s.output("ManagedLoginUrl")
	_, form := s.browse(http.MethodGet, pages+"/oauth2/authorize?"+query.Encode(), nil)
	fields := url.Values{"username": {email}, "password": {password}}
	for _, field := range hidden.FindAllStringSubmatch(form, -1) {
		fields.Set(field[1], strings.ReplaceAll(field[2], "&amp;", "&"))
	}
	to, page := s.browse(http.MethodPost, pages+"/login", fields)
	back, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, callback) || back.Query().Get("code") == "" {
		s.t.Fatalf("the login pages lead to %q: %s", to, page)
	}
	_, answer := s.browse(http.MethodPost, pages+"/oauth2/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": query["client_id"], "redirect_uri": {callback},
		"code": {back.Query().Get("code")}, "code_verifier": {verifier},
	})
	token, ok := s.decode(answer)["access_token"].(string)
	if !ok {
		s.t.Fatalf("there is no token: %s", answer)
	}
	return token
}

// browse sends a form, and returns where the answer leads and what it says.
func (s *stack) browse(method, at string, form url.Values) (to, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, at, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, body := s.send(r)
	return answer.Header.Get("Location"), body
}
