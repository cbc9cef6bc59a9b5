// Package token verifies the access tokens of an OpenID Connect issuer: JSON Web Tokens, by the
// keys that the issuer publishes. It is for issuers whose signatures API Gateway's own authorizer
// does not know, such as ES256 and EdDSA.
package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
)

// ErrRefused is in the chain of every error that the token is to blame for. Any other error says
// that the issuer's keys cannot be had.
var ErrRefused = errors.New("the token is refused")

// ErrExpired is in the chain beside ErrRefused if nothing is wrong with a token but that its time
// is over.
var ErrExpired = errors.New("the token has expired")

// Tolerance is how far the issuer's clock and this one may be apart.
const Tolerance = 60 * time.Second

// Config says whose tokens are taken.
type Config struct {
	// Issuer is the `iss` of the tokens, to the letter: an https URL. On a loopback address http
	// will do.
	Issuer string
	// Audience has to be among the `aud` of a token.
	Audience string
	// UserClaim is the claim that holds the user id. Empty means "sub".
	UserClaim string
	// Now is the clock. Nil means the wall clock.
	Now func() time.Time
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg  Config
	keys *keySet
}

// New returns a verifier. It asks the issuer for nothing yet.
func New(cfg Config) (*Verifier, error) {
	switch {
	case !validIssuer(cfg.Issuer):
		return nil, errors.New("JWT_ISSUER has to be an https URL without query and fragment, such as https://auth.example.com")
	case !printable.MatchString(cfg.Audience):
		return nil, errors.New("JWT_AUDIENCE has to be the audience that the tokens are for, without blanks")
	}
	if cfg.UserClaim == "" {
		cfg.UserClaim = "sub"
	}
	if !printable.MatchString(cfg.UserClaim) {
		return nil, errors.New("JWT_USER_CLAIM has to be the name of a claim, without blanks, such as sub")
	}
	if cfg.Now == nil {
		cfg.Now = clock.Now
	}
	return &Verifier{cfg: cfg, keys: newKeySet(cfg.Issuer, cfg.Now)}, nil
}

var printable = regexp.MustCompile(`^[!-~]+$`)

func validIssuer(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && u.Host != "" && u.User == nil && !strings.ContainsAny(issuer, "?#") && secure(u)
}

// secure reports whether what comes from there is the host's own.
func secure(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && ip != nil && ip.IsLoopback()
}

// User returns the id of the user whom a token is for.
func (v *Verifier) User(ctx context.Context, raw string) (string, error) {
	claims := jwt.MapClaims{}
	// What keeps the keys from being had is no fault of the token's, so it is kept out of the
	// parser's error.
	var unavailable error
	_, err := jwt.ParseWithClaims(raw, claims,
		func(t *jwt.Token) (any, error) {
			id, _ := t.Header["kid"].(string)
			key, err := v.keys.find(ctx, id)
			if err != nil {
				unavailable = err
				return nil, err
			}
			if !slices.Contains(algorithms(key), t.Method.Alg()) {
				return nil, errors.New("the algorithm is not the key's")
			}
			return key.public, nil
		},
		jwt.WithValidMethods(allAlgorithms),
		jwt.WithIssuer(v.cfg.Issuer),
		jwt.WithAudience(v.cfg.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(Tolerance),
		jwt.WithTimeFunc(v.cfg.Now),
	)
	switch {
	case unavailable != nil && !errors.Is(unavailable, ErrRefused):
		return "", unavailable
	case errors.Is(err, jwt.ErrTokenExpired) && !otherwiseWrong(err):
		return "", fmt.Errorf("%w: %w", ErrRefused, ErrExpired)
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	user, _ := claims[v.cfg.UserClaim].(string)
	if !credential.ValidUserID(user) {
		return "", fmt.Errorf("%w: its claim %s is no user id", ErrRefused, v.cfg.UserClaim)
	}
	return user, nil
}

// otherwiseWrong reports whether more is wrong with a token than that it has expired.
func otherwiseWrong(err error) bool {
	for _, wrong := range []error{
		jwt.ErrTokenSignatureInvalid, jwt.ErrTokenInvalidIssuer, jwt.ErrTokenInvalidAudience, jwt.ErrTokenNotValidYet,
		jwt.ErrTokenRequiredClaimMissing,
	} {
		if errors.Is(err, wrong) {
			return true
		}
	}
	return false
}

// allAlgorithms are those by which an issuer signs with a key that it keeps to itself. "none" is
// not among them, nor is any by which whoever can verify can also sign.
var allAlgorithms = []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// algorithms are those that a key is for. The key says so, never the token: by its `alg`, or by its
// type.
func algorithms(k key) []string {
	var fits []string
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		fits = map[int][]string{256: {"ES256"}, 384: {"ES384"}, 521: {"ES512"}}[public.Curve.Params().BitSize]
	case ed25519.PublicKey:
		fits = []string{"EdDSA"}
	case *rsa.PublicKey:
		fits = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		if k.algorithm == "" {
			fits = []string{"RS256"}
		}
	}
	if k.algorithm != "" && k.algorithm != "Ed25519" {
		fits = slices.DeleteFunc(slices.Clone(fits), func(a string) bool { return a != k.algorithm })
	}
	return fits
}

// client asks issuers. It follows no redirect: an issuer's keys are where its discovery document
// says. It keeps no connection, which Lambda would freeze.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	Timeout:       3 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
