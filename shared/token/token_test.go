package token_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"managed-credentials/shared/token"
)

const audience = "the-api"

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// issuer is an OpenID Connect issuer with some keys.
type issuer struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	keys  []jwkset.JWKMarshal
	asked int
	// instead answers in place of the issuer, if it is not nil.
	instead http.HandlerFunc
	now     time.Time
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, now: noon}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	document := any(map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys"})
	if r.URL.Path == "/keys" {
		document = map[string]any{"keys": i.keys}
	} else {
		i.asked++
	}
	if i.instead != nil {
		i.instead(w, r)
		return
	}
	err := json.NewEncoder(w).Encode(document)
	if err != nil {
		i.t.Error(err)
	}
}

// publish has the issuer publish a key; algorithm may be "".
func (i *issuer) publish(id string, public any, algorithm jwkset.ALG) {
	i.t.Helper()
	k, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{ALG: algorithm, KID: id, USE: jwkset.UseSig}})
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k.Marshal())
}

func (i *issuer) set(instead http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.instead = instead
}

func (i *issuer) wait(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
}

func (i *issuer) times() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func (i *issuer) verifier(userClaim string) *token.Verifier {
	i.t.Helper()
	v, err := token.New(token.Config{Issuer: i.url, Audience: audience, UserClaim: userClaim, Now: func() time.Time {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.now
	}})
	if err != nil {
		i.t.Fatal(err)
	}
	return v
}

func (i *issuer) claims() jwt.MapClaims {
	return jwt.MapClaims{"iss": i.url, "aud": audience, "sub": "alice", "exp": noon.Add(time.Hour).Unix(), "iat": noon.Unix()}
}

// sign signs claims; a change may be nil.
func (i *issuer) sign(method jwt.SigningMethod, id string, private any, change func(jwt.MapClaims)) string {
	i.t.Helper()
	claims := i.claims()
	if change != nil {
		change(claims)
	}
	unsigned := jwt.NewWithClaims(method, claims)
	unsigned.Header["kid"] = id
	signed, err := unsigned.SignedString(private)
	if err != nil {
		i.t.Fatal(err)
	}
	return signed
}

func curve(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edwards(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantUser(t *testing.T, v *token.Verifier, name, raw string) {
	t.Helper()
	user, err := v.User(t.Context(), raw)
	if err != nil || user != "alice" {
		t.Errorf("%s: got %q, %v", name, user, err)
	}
}

func wantRefused(t *testing.T, v *token.Verifier, name, raw string) {
	t.Helper()
	user, err := v.User(t.Context(), raw)
	if user != "" || !errors.Is(err, token.ErrRefused) || errors.Is(err, token.ErrExpired) {
		t.Errorf("%s: got %q, %v", name, user, err)
	}
	if err != nil && raw != "" && strings.Contains(err.Error(), raw) {
		t.Errorf("%s: the error holds the token: %v", name, err)
	}
}

func TestEveryKindOfKeySignsForAUser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method    jwt.SigningMethod
		key       crypto.Signer
		algorithm jwkset.ALG
	}{
		{jwt.SigningMethodES256, curve(t, elliptic.P256()), ""},
		{jwt.SigningMethodES384, curve(t, elliptic.P384()), "ES384"},
		{jwt.SigningMethodES512, curve(t, elliptic.P521()), ""},
		{jwt.SigningMethodEdDSA, edwards(t), ""},
		{jwt.SigningMethodEdDSA, edwards(t), "EdDSA"},
		{jwt.SigningMethodRS256, rsaKey(t), ""},
		{jwt.SigningMethodPS384, rsaKey(t), "PS384"},
	} {
		i := newIssuer(t)
		i.publish("k", c.key.Public(), c.algorithm)
		wantUser(t, i.verifier(""), fmt.Sprint(c.method.Alg(), " ", c.algorithm), i.sign(c.method, "k", c.key, nil))
	}
}

// The key says by which algorithm a token is verified, never the token.
func TestAnAlgorithmThatIsNotTheKeysIsRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	ec, rs, ps := curve(t, elliptic.P256()), rsaKey(t), rsaKey(t)
	i.publish("ec", &ec.PublicKey, "")
	i.publish("rs", &rs.PublicKey, "")
	i.publish("ps", &ps.PublicKey, "PS256")
	i.publish("other", &ec.PublicKey, "ES384")
	secret, err := x509.MarshalPKIXPublicKey(&rs.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	v := i.verifier("")
	for name, raw := range map[string]string{
		"none":                              i.sign(jwt.SigningMethodNone, "ec", jwt.UnsafeAllowNoneSignatureType, nil),
		"none without a key id":             i.sign(jwt.SigningMethodNone, "", jwt.UnsafeAllowNoneSignatureType, nil),
		"HMAC by the public key":            i.sign(jwt.SigningMethodHS256, "rs", secret, nil),
		"RSA by a curve's id":               i.sign(jwt.SigningMethodRS256, "ec", rs, nil),
		"a curve by RSA's id":               i.sign(jwt.SigningMethodES256, "rs", ec, nil),
		"PS256 of a key that says nothing":  i.sign(jwt.SigningMethodPS256, "rs", rs, nil),
		"RS256 of a key that is for PS256":  i.sign(jwt.SigningMethodRS256, "ps", ps, nil),
		"ES256 of a key that is for ES384":  i.sign(jwt.SigningMethodES256, "other", ec, nil),
		"another's key under the issuer's":  i.sign(jwt.SigningMethodES256, "ec", curve(t, elliptic.P256()), nil),
		"a key that the issuer has not got": i.sign(jwt.SigningMethodES256, "mine", curve(t, elliptic.P256()), nil),
		"nothing":                           "",
		"no token":                          "not-a-token",
		"three empty parts":                 "..",
	} {
		wantRefused(t, v, name, raw)
	}
	wantUser(t, v, "the key's own algorithm", i.sign(jwt.SigningMethodES256, "ec", ec, nil))
}

func TestOnlyTokensForThisAPIPass(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	v := i.verifier("")
	for name, change := range map[string]func(jwt.MapClaims){
		"another issuer":          func(c jwt.MapClaims) { c["iss"] = "https://example.com" },
		"the issuer with a slash": func(c jwt.MapClaims) { c["iss"] = i.url + "/" },
		"no issuer":               func(c jwt.MapClaims) { delete(c, "iss") },
		"another audience":        func(c jwt.MapClaims) { c["aud"] = "another-api" },
		"no audience":             func(c jwt.MapClaims) { delete(c, "aud") },
		"no end":                  func(c jwt.MapClaims) { delete(c, "exp") },
		"not yet":                 func(c jwt.MapClaims) { c["nbf"] = noon.Add(token.Tolerance + time.Second).Unix() },
		"no user":                 func(c jwt.MapClaims) { delete(c, "sub") },
		"an empty user":           func(c jwt.MapClaims) { c["sub"] = "" },
		"a number as user":        func(c jwt.MapClaims) { c["sub"] = 5 },
		"a user with a blank":     func(c jwt.MapClaims) { c["sub"] = "al ice" },
		"expired and another's": func(c jwt.MapClaims) {
			c["exp"], c["aud"] = noon.Add(-time.Hour).Unix(), "another-api"
		},
	} {
		wantRefused(t, v, name, i.sign(jwt.SigningMethodES256, "k", k, change))
	}
	wantUser(t, v, "one of several audiences", i.sign(jwt.SigningMethodES256, "k", k, func(c jwt.MapClaims) { c["aud"] = []string{"x", audience} }))
}

func TestTheUsersClaimIsASetting(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	wantUser(t, i.verifier("https://example.com/uid"), "a claim of its own", i.sign(jwt.SigningMethodES256, "k", k, func(c jwt.MapClaims) {
		c["sub"], c["https://example.com/uid"] = "mallory", "alice"
	}))
	wantRefused(t, i.verifier("uid"), "no such claim", i.sign(jwt.SigningMethodES256, "k", k, nil))
}

func TestClocksMayBeAMinuteApart(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	v := i.verifier("")
	ends := func(at time.Time) string {
		return i.sign(jwt.SigningMethodES256, "k", k, func(c jwt.MapClaims) { c["exp"] = at.Unix() })
	}
	wantUser(t, v, "59 s over", ends(noon.Add(-59*time.Second)))
	_, err := v.User(t.Context(), ends(noon.Add(-61*time.Second)))
	if !errors.Is(err, token.ErrExpired) || !errors.Is(err, token.ErrRefused) {
		t.Errorf("61 s over: %v", err)
	}
	wantUser(t, v, "valid in 59 s", i.sign(jwt.SigningMethodES256, "k", k, func(c jwt.MapClaims) { c["nbf"] = noon.Add(59 * time.Second).Unix() }))
}

func TestKeysAreKeptAndANewOneIsFound(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	first, second := curve(t, elliptic.P256()), curve(t, elliptic.P256())
	i.publish("first", &first.PublicKey, "")
	v := i.verifier("")
	for range 3 {
		wantUser(t, v, "the first key", i.sign(jwt.SigningMethodES256, "first", first, nil))
	}
	if i.times() != 1 {
		t.Errorf("the issuer was asked %d times", i.times())
	}
	i.publish("second", &second.PublicKey, "")
	i.wait(30 * time.Second)
	wantUser(t, v, "a key that the issuer has now", i.sign(jwt.SigningMethodES256, "second", second, nil))
	if i.times() != 2 {
		t.Errorf("the issuer was asked %d times", i.times())
	}
}

// Whoever sends tokens with ids that they made up does not make the issuer be asked at each of
// them.
func TestMadeUpKeyIDsHaveTheIssuerAskedOnceInAWhile(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k, strange := curve(t, elliptic.P256()), curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	v := i.verifier("")
	for n := range 100 {
		wantRefused(t, v, "a made-up id", i.sign(jwt.SigningMethodES256, fmt.Sprint("made-up-", n), strange, nil))
	}
	wantUser(t, v, "a user among them", i.sign(jwt.SigningMethodES256, "k", k, nil))
	if i.times() != 1 {
		t.Errorf("the issuer was asked %d times", i.times())
	}
}

func TestAKeyThatTheIssuerWithdrawsIsRefusedAfterAQuarterOfAnHour(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	v := i.verifier("")
	raw := i.sign(jwt.SigningMethodES256, "k", k, nil)
	wantUser(t, v, "before", raw)
	i.mu.Lock()
	i.keys = nil
	i.mu.Unlock()
	i.wait(15 * time.Minute)
	wantRefused(t, v, "after", raw)
}

// An issuer that is down locks nobody out whose key is known.
func TestAnIssuerThatDoesNotAnswerIsNoTokensFault(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	v := i.verifier("")
	raw := i.sign(jwt.SigningMethodES256, "k", k, nil)
	wantUser(t, v, "before", raw)
	for name, instead := range map[string]http.HandlerFunc{
		"a fault": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"another issuer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"issuer":"x","jwks_uri":"https://x/"}`))
		},
		"keys in the clear": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://keys.example.com/"}`, i.url)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com/", http.StatusFound)
		},
	} {
		i.set(instead)
		i.wait(15 * time.Minute)
		wantUser(t, v, name, i.sign(jwt.SigningMethodES256, "k", k, func(c jwt.MapClaims) { c["exp"] = noon.Add(100 * time.Hour).Unix() }))
		_, err := i.verifier("").User(t.Context(), raw)
		if err == nil || errors.Is(err, token.ErrRefused) {
			t.Errorf("%s, and no keys yet: %v", name, err)
		}
	}
}

// A process that starts while the issuer is down takes its first token a second after it is up.
func TestTheFirstKeysAreWaitedForASecond(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	i.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	v := i.verifier("")
	raw := i.sign(jwt.SigningMethodES256, "k", k, nil)
	for range 3 {
		_, err := v.User(t.Context(), raw)
		if err == nil || errors.Is(err, token.ErrRefused) {
			t.Errorf("the issuer is down: %v", err)
		}
	}
	if i.times() != 1 {
		t.Errorf("the issuer was asked %d times within a second", i.times())
	}
	i.set(nil)
	i.wait(time.Second)
	wantUser(t, v, "the issuer is up", raw)
}

func TestCancelledCallsSayNothingAboutTheToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	k := curve(t, elliptic.P256())
	i.publish("k", &k.PublicKey, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := i.verifier("").User(ctx, i.sign(jwt.SigningMethodES256, "k", k, nil))
	if !errors.Is(err, context.Canceled) || errors.Is(err, token.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestAnIssuerHasToBeSecure(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "auth.example.com", "http://auth.example.com", "https://", "https://user@auth.example.com", "https://auth.example.com?x", "ftp://127.0.0.1",
	} {
		_, err := token.New(token.Config{Issuer: bad, Audience: audience})
		if err == nil || !strings.Contains(err.Error(), "JWT_ISSUER") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	_, err := token.New(token.Config{Issuer: "https://auth.example.com/tenant"})
	if err == nil || !strings.Contains(err.Error(), "JWT_AUDIENCE") {
		t.Errorf("no audience: %v", err)
	}
}
