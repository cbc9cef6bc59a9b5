// Package login stands in for the managed login of an Amazon Cognito user pool: the pages on which
// users sign in, and the token endpoint, with the authorization code grant, PKCE, refresh tokens
// and their revocation. Its page asks for a name and no password.
//
// What it answers is taken from
// https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-userpools-server-contract-reference.html
// and the pages below it. It knows one app client, which has no secret, and neither other identity
// providers nor rotation of refresh tokens.
package login

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"managed-credentials/shared/local/respond"
)

// Config says what the app client is and where its tokens come from.
type Config struct {
	// ClientID is the one app client.
	ClientID string
	// CallbackURL is where the client's users may be sent back to, after signing in and out. It is
	// compared to the letter.
	CallbackURL string
	// AccessClaims and IDClaims are what the tokens of a user say, and Sign makes the tokens.
	AccessClaims, IDClaims func(sub, username string) jwt.MapClaims
	Sign                   func(jwt.MapClaims) (string, error)
	// SignedIn, if set, is called with each user who signs in on the page.
	SignedIn func(sub string)
}

const (
	// codeLifetime is how long a code can be exchanged.
	codeLifetime = 5 * time.Minute
	session      = "cognito"
)

// Server serves the login pages and the token endpoint. It is safe for concurrent use.
type Server struct {
	cfg Config
	mux *http.ServeMux

	mu       sync.Mutex
	codes    map[string]grant
	refresh  map[string]string // the user of each refresh token
	sessions map[string]string // the user of each browser that has signed in
}

// grant is what a code stands for.
type grant struct {
	sub, redirectURI, challenge string
	until                       time.Time
}

// New returns a server that nobody has signed in at.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, mux: http.NewServeMux(), codes: map[string]grant{}, refresh: map[string]string{}, sessions: map[string]string{}}
	s.mux.HandleFunc("GET /oauth2/authorize", s.authorize)
	s.mux.HandleFunc("GET /login", s.loginPage)
	s.mux.HandleFunc("POST /login", s.login)
	s.mux.HandleFunc("GET /logout", s.logout)
	s.mux.HandleFunc("POST /oauth2/token", s.token)
	s.mux.HandleFunc("POST /oauth2/revoke", s.revoke)
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// authorize sends a browser that has signed in straight back, and others to the page. A client or
// callback that it does not know is an error on the spot; other errors are the callback's to show.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case q.Get("client_id") != s.cfg.ClientID || q.Get("redirect_uri") != s.cfg.CallbackURL:
		http.Error(w, "redirect_mismatch", http.StatusBadRequest)
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		s.sendBack(w, r, q, url.Values{"error": {"invalid_request"}})
	default:
		sub := s.user(r)
		if sub == "" || q.Get("prompt") == "login" {
			http.Redirect(w, r, "/login?"+r.URL.RawQuery, http.StatusFound)
			return
		}
		s.sendBack(w, r, q, url.Values{"code": {s.newCode(sub, q)}})
	}
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in</title>
<form method="post" action="{{.}}"><label>User name <input name="username" required autofocus></label> <button>Sign in</button></form>
`))

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, "/login?"+r.URL.RawQuery) // The client has gone if this fails.
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	sub := r.PostFormValue("username")
	if sub == "" || q.Get("client_id") != s.cfg.ClientID || q.Get("redirect_uri") != s.cfg.CallbackURL {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	if s.cfg.SignedIn != nil {
		s.cfg.SignedIn(sub)
	}
	id := rand.Text()
	s.mu.Lock()
	s.sessions[id] = sub
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: session, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	s.sendBack(w, r, q, url.Values{"code": {s.newCode(sub, q)}})
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != s.cfg.ClientID || q.Get("logout_uri") != s.cfg.CallbackURL {
		http.Error(w, "redirect_mismatch", http.StatusBadRequest)
		return
	}
	cookie, err := r.Cookie(session)
	if err == nil {
		s.mu.Lock()
		delete(s.sessions, cookie.Value)
		s.mu.Unlock()
	}
	http.Redirect(w, r, s.cfg.CallbackURL, http.StatusFound)
}

// user is who has signed in in this browser, or "".
func (s *Server) user(r *http.Request) string {
	cookie, err := r.Cookie(session)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[cookie.Value]
}

func (s *Server) newCode(sub string, q url.Values) string {
	code := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = grant{sub, q.Get("redirect_uri"), q.Get("code_challenge"), time.Now().Add(codeLifetime)}
	return code
}

// sendBack redirects to the callback, with the state that the client gave.
func (s *Server) sendBack(w http.ResponseWriter, r *http.Request, q, answer url.Values) {
	answer.Set("state", q.Get("state"))
	http.Redirect(w, r, s.cfg.CallbackURL+"?"+answer.Encode(), http.StatusFound)
}

// token exchanges a code, once, or a refresh token. As on AWS a page of any origin may call it: a
// client without secret runs in one.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if r.PostFormValue("client_id") != s.cfg.ClientID {
		refuse(w, "invalid_client")
		return
	}
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		sub, ok := s.redeem(r)
		if !ok {
			refuse(w, "invalid_grant")
			return
		}
		refresh := rand.Text()
		s.mu.Lock()
		s.refresh[refresh] = sub
		s.mu.Unlock()
		s.issue(w, sub, refresh)
	case "refresh_token":
		s.mu.Lock()
		sub, ok := s.refresh[r.PostFormValue("refresh_token")]
		s.mu.Unlock()
		if !ok {
			refuse(w, "invalid_grant")
			return
		}
		s.issue(w, sub, "")
	default:
		refuse(w, "unsupported_grant_type")
	}
}

// redeem uses a code up and returns its user, if the verifier and the callback are those that it
// was made for.
func (s *Server) redeem(r *http.Request) (sub string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := r.PostFormValue("code")
	g, ok := s.codes[code]
	delete(s.codes, code)
	hash := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	return g.sub, ok && g.challenge == base64.RawURLEncoding.EncodeToString(hash[:]) &&
		g.redirectURI == r.PostFormValue("redirect_uri") && time.Now().Before(g.until)
}

// issue answers with tokens. A refresh token of "" is left out, as it is when one was used.
func (s *Server) issue(w http.ResponseWriter, sub, refresh string) {
	claims := s.cfg.AccessClaims(sub, sub)
	access, err := s.cfg.Sign(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	id, err := s.cfg.Sign(s.cfg.IDClaims(sub, sub))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	tokens := map[string]any{
		"access_token": access, "id_token": id, "token_type": "Bearer", "expires_in": claims["exp"].(int64) - claims["iat"].(int64),
	}
	if refresh != "" {
		tokens["refresh_token"] = refresh
	}
	w.Header().Set("Cache-Control", "no-store")
	respond.JSON(w, http.StatusOK, tokens)
}

// revoke makes a refresh token worthless. One that it does not know is no error.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	s.mu.Lock()
	delete(s.refresh, r.PostFormValue("token"))
	s.mu.Unlock()
}

func refuse(w http.ResponseWriter, code string) {
	w.Header().Set("Cache-Control", "no-store")
	respond.JSON(w, http.StatusBadRequest, map[string]string{"error": code})
}
