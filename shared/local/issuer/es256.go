package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// ES256 stands in for an OpenID Connect issuer that is not Cognito: it signs with a curve, which
// API Gateway's own authorizer does not know, and publishes its key. It is an http.Handler.
type ES256 struct {
	url, audience string
	key           *ecdsa.PrivateKey
	keyID         string
	mux           *http.ServeMux
}

// NewES256 returns an issuer with a key of its own. It has to be served at url, by which it is
// called.
func NewES256(url, audience string) (*ES256, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the signing key: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	i := &ES256{url: url, audience: audience, key: key, keyID: uuid.NewString(), mux: http.NewServeMux()}
	i.publish("/.well-known/openid-configuration", map[string]any{"issuer": url, "jwks_uri": url + "/keys"})
	encode, half := base64.RawURLEncoding.EncodeToString, len(point)/2
	i.publish("/keys", map[string]any{"keys": []any{map[string]string{ // the point is a byte 4, x and y
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": i.keyID, "x": encode(point[1 : half+1]), "y": encode(point[half+1:]),
	}}})
	return i, nil
}

func (i *ES256) publish(path string, document any) {
	text, _ := json.Marshal(document) // texts always marshal
	i.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // The client has gone if this fails.
	})
}

func (i *ES256) ServeHTTP(w http.ResponseWriter, r *http.Request) { i.mux.ServeHTTP(w, r) }

// Claims is what an access token of a user has here. A test changes what it wants wrong and has it
// signed.
func (i *ES256) Claims(sub string) jwt.MapClaims {
	now := time.Now()
	return jwt.MapClaims{
		"iss": i.url, "aud": i.audience, "sub": sub, "iat": now.Unix(), "exp": now.Add(lifetime).Unix(), "jti": uuid.NewString(),
	}
}

// AccessToken returns a valid access token of a user.
func (i *ES256) AccessToken(sub string) (string, error) { return i.Sign(i.Claims(sub)) }

// Sign makes a token of any claims.
func (i *ES256) Sign(claims jwt.MapClaims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = i.keyID
	signed, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("signing token: %w", err)
	}
	return signed, nil
}
