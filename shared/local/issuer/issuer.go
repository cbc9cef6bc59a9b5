// Package issuer stands in for the tokens of an Amazon Cognito user pool: it signs them, and
// verifies them by the rules of the JWT authorizer of an API Gateway HTTP API.
//
// The signatures are real, by a key that is made when the issuer is and exists in this process
// alone: no token of it is worth anything elsewhere, and none that it did not sign passes. What
// tokens claim is up to whoever asks for them.
package issuer

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// lifetime is how long a token is valid: Cognito's default.
const lifetime = time.Hour

// Config says for which pool tokens are issued.
type Config struct {
	// UserPoolID is the pool, such as "us-east-1_local"; the part before the underscore is its
	// region.
	UserPoolID string
	// ClientID is the app client: the audience.
	ClientID string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Issuer signs and verifies tokens. It is safe for concurrent use.
type Issuer struct {
	url, client string
	now         func() time.Time
	key         *rsa.PrivateKey
	keyID       string
}

// New returns an issuer with a key of its own.
func New(cfg Config) (*Issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generating the signing key: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Issuer{url: URL(cfg.UserPoolID), client: cfg.ClientID, now: cfg.Now, key: key, keyID: uuid.NewString()}, nil
}

// URL is the `iss` claim of a pool's tokens.
func URL(userPoolID string) string {
	region, _, _ := strings.Cut(userPoolID, "_")
	return "https://cognito-idp." + region + ".amazonaws.com/" + userPoolID
}

// AccessToken returns a valid access token of a user: what the API is to be called with.
func (i *Issuer) AccessToken(sub, username string) (string, error) {
	return i.Sign(i.AccessClaims(sub, username))
}

// AccessClaims is what Cognito puts into an access token. A test changes what it wants wrong and
// has it signed. See
// https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html.
func (i *Issuer) AccessClaims(sub, username string) jwt.MapClaims {
	c := i.claims(sub, "access")
	c["client_id"] = i.client
	c["scope"] = "openid email"
	c["username"] = username
	c["version"] = 2
	return c
}

// IDClaims is what Cognito puts into an ID token. Such a token passes the authorizer, too: that it
// is none for calling the API is for the functions to notice. See
// https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-id-token.html.
func (i *Issuer) IDClaims(sub, username string) jwt.MapClaims {
	c := i.claims(sub, "id")
	c["aud"] = i.client
	c["cognito:username"] = username
	c["email"] = username + "@example.com"
	c["email_verified"] = true
	return c
}

func (i *Issuer) claims(sub, use string) jwt.MapClaims {
	now := i.now().Unix()
	return jwt.MapClaims{
		"auth_time":  now,
		"event_id":   uuid.NewString(),
		"exp":        now + int64(lifetime/time.Second),
		"iat":        now,
		"iss":        i.url,
		"jti":        uuid.NewString(),
		"origin_jti": uuid.NewString(),
		"sub":        sub,
		"token_use":  use,
	}
}

// Sign makes a token of any claims.
func (i *Issuer) Sign(claims jwt.MapClaims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = i.keyID
	signed, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("signing token: %w", err)
	}
	return signed, nil
}

// Verify returns the claims of a token that the authorizer would let pass: signed by this issuer,
// in its name, for its client, and valid now. The client is looked for in `aud` and, only where
// there is no `aud`, in `client_id`. The error says what is wrong, and holds nothing of the token.
// See https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html.
func (i *Issuer) Verify(token string) (map[string]any, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, i.publicKey,
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithIssuer(i.url),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithTimeFunc(i.now),
	)
	if err != nil {
		return nil, fmt.Errorf("verifying token: %w", err)
	}
	audience, err := claims.GetAudience()
	if err != nil {
		return nil, fmt.Errorf("verifying token: %w", err)
	}
	_, hasAudience := claims["aud"]
	if !hasAudience {
		client, _ := claims["client_id"].(string)
		audience = jwt.ClaimStrings{client}
	}
	if !slices.Contains(audience, i.client) {
		return nil, errors.New("verifying token: it does not have a valid audience")
	}
	return claims, nil
}

func (i *Issuer) publicKey(*jwt.Token) (any, error) { return &i.key.PublicKey, nil }
