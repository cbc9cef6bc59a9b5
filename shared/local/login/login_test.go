package login_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"managed-credentials/shared/local/issuer"
	"managed-credentials/shared/local/login"
)

const (
	callback = "http://127.0.0.1:1/"
	// From RFC 7636, appendix B.
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// browser keeps cookies and follows no redirect, so that a test sees where it is sent.
type browser struct {
	*http.Client
	t      *testing.T
	url    string
	issuer *issuer.Issuer
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	tokens, err := issuer.New(issuer.Config{UserPoolID: "us-east-1_local", ClientID: "local"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(login.New(login.Config{
		ClientID: "local", CallbackURL: callback, AccessClaims: tokens.AccessClaims, IDClaims: tokens.IDClaims, Sign: tokens.Sign,
	}))
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &browser{client, t, server.URL, tokens}
}

func (b *browser) do(method, path string, form url.Values) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func query(change url.Values) string {
	q := url.Values{
		"response_type": {"code"}, "client_id": {"local"}, "redirect_uri": {callback}, "state": {"s1"},
		"code_challenge_method": {"S256"}, "code_challenge": {challenge},
	}
	for name, value := range change {
		q[name] = value
	}
	return q.Encode()
}

// code signs alice in and returns the code that the callback gets.
func (b *browser) code() string {
	b.t.Helper()
	res := b.do("POST", "/login?"+query(nil), url.Values{"username": {"alice"}})
	to, err := res.Location()
	if err != nil || !strings.HasPrefix(to.String(), callback+"?") || to.Query().Get("state") != "s1" {
		b.t.Fatalf("%v: sent to %v", err, to)
	}
	return to.Query().Get("code")
}

// exchange calls the token endpoint and returns the tokens, nil if it refuses.
func (b *browser) exchange(form url.Values) map[string]any {
	b.t.Helper()
	form.Set("client_id", "local")
	res := b.do("POST", "/oauth2/token", form)
	var body map[string]any
	err := json.NewDecoder(res.Body).Decode(&body)
	if err != nil {
		b.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return nil
	}
	return body
}

func exchangeForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier}}
}

func TestCodeWithItsVerifierGivesTokensOnce(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	code := b.code()
	tokens := b.exchange(exchangeForm(code))
	access, _ := tokens["access_token"].(string)
	claims, err := b.issuer.Verify(access)
	if err != nil || claims["sub"] != "alice" || claims["token_use"] != "access" || tokens["refresh_token"] == nil || tokens["id_token"] == nil {
		t.Fatalf("%v: %v", err, tokens)
	}
	if b.exchange(exchangeForm(code)) != nil {
		t.Fatal("the code gave tokens twice")
	}
}

func TestCodeOfAnotherIsWorthNothing(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	for name, value := range map[string]string{"code_verifier": "another", "redirect_uri": callback + "x", "code": "another"} {
		form := exchangeForm(b.code())
		form.Set(name, value)
		if b.exchange(form) != nil {
			t.Errorf("with another %s there are tokens", name)
		}
	}
}

func TestRefreshTokenGivesNewTokensUntilItIsRevoked(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	refresh := b.exchange(exchangeForm(b.code()))["refresh_token"].(string)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	tokens := b.exchange(form)
	if tokens["access_token"] == nil || tokens["refresh_token"] != nil {
		t.Fatalf("%v", tokens)
	}
	b.do("POST", "/oauth2/revoke", url.Values{"token": {refresh}, "client_id": {"local"}})
	if b.exchange(form) != nil {
		t.Fatal("a revoked token was refreshed")
	}
}

func TestBrowserThatSignedInIsSentStraightBackUntilItSignsOut(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	authorize := func() string {
		return b.do("GET", "/oauth2/authorize?"+query(nil), nil).Header.Get("Location")
	}
	if !strings.HasPrefix(authorize(), "/login?") {
		t.Fatal("nobody has signed in, and no page asks for it")
	}
	b.code()
	if !strings.HasPrefix(authorize(), callback+"?code=") {
		t.Fatal("the page asks once more")
	}
	out := b.do("GET", "/logout?"+url.Values{"client_id": {"local"}, "logout_uri": {callback}}.Encode(), nil)
	if out.Header.Get("Location") != callback || !strings.HasPrefix(authorize(), "/login?") {
		t.Fatal("the browser is still signed in")
	}
}

func TestThePageSendsItsFormToWhereItCameFrom(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	body, err := io.ReadAll(b.do("GET", "/login?"+query(nil), nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	want := html.EscapeString("/login?" + query(nil))
	if !strings.Contains(string(body), `action="`+want+`"`) {
		t.Fatalf("want the action %s in\n%s", want, body)
	}
}

func TestNobodyIsSentAnywhereElse(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	for name, q := range map[string]string{
		"another callback": query(url.Values{"redirect_uri": {"https://example.com/"}}),
		"another client":   query(url.Values{"client_id": {"x"}}),
	} {
		res := b.do("GET", "/oauth2/authorize?"+q, nil)
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
	without := b.do("GET", "/oauth2/authorize?"+query(url.Values{"code_challenge": {""}}), nil).Header.Get("Location")
	if !strings.HasPrefix(without, callback+"?error=invalid_request") {
		t.Errorf("without a challenge: %s", without)
	}
}
