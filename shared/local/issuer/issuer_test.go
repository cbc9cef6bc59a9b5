package issuer

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newIssuer(t *testing.T) *Issuer {
	t.Helper()
	i, err := New(Config{UserPoolID: "us-east-1_local", ClientID: "client", Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestAccessTokenIsVerifiedAndLooksLikeCognitos(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	token, err := i.AccessToken("alice", "alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	claims, err := i.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"sub": "alice", "username": "alice@example.com", "client_id": "client", "token_use": "access",
		"iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_local",
		"iat": float64(noon.Unix()), "exp": float64(noon.Add(time.Hour).Unix()),
	} {
		if claims[name] != want {
			t.Errorf("%s = %v, want %v", name, claims[name], want)
		}
	}
	for _, name := range []string{"jti", "scope"} {
		if claims[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	if _, has := claims["aud"]; has {
		t.Error("Cognito's access tokens have no aud")
	}
}

func TestVerifyKeepsTheAuthorizersRules(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	at := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	for name, c := range map[string]struct {
		claim  string
		value  any // nil takes the claim away
		passes bool
	}{
		"expired":                    {"exp", at(-time.Second), false},
		"expires this second":        {"exp", at(0), false},
		"never expires":              {"exp", nil, false},
		"issued later":               {"iat", at(time.Minute), false},
		"not valid yet":              {"nbf", at(time.Minute), false},
		"valid since":                {"nbf", at(-time.Minute), true},
		"another issuer":             {"iss", URL("us-east-1_other"), false},
		"no issuer":                  {"iss", nil, false},
		"another client":             {"client_id", "other", false},
		"no client":                  {"client_id", nil, false},
		"aud beside client_id":       {"aud", "other", false},
		"aud of several":             {"aud", []string{"other", "client"}, true},
		"aud of nobody":              {"aud", []string{}, false},
		"aud that is no string":      {"aud", 7, false},
		"other use, which is no aim": {"token_use", "id", true},
	} {
		claims := i.AccessClaims("alice", "alice")
		if c.value == nil {
			delete(claims, c.claim)
		} else {
			claims[c.claim] = c.value
		}
		token, err := i.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		_, err = i.Verify(token)
		if (err == nil) != c.passes {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func TestIDTokenPassesAsItDoesOnAWS(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	token, err := i.Sign(i.IDClaims("alice", "alice"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := i.Verify(token)
	if err != nil || claims["token_use"] != "id" {
		t.Fatalf("claims %v, err %v", claims, err)
	}
}

func TestTokenThatTheIssuerDidNotSignIsRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	genuine, err := i.AccessToken("alice", "alice")
	if err != nil {
		t.Fatal(err)
	}
	other, err := i.AccessToken("mallory", "mallory")
	if err != nil {
		t.Fatal(err)
	}
	stranger := newIssuer(t)
	stranger.keyID = i.keyID // As a forger would.
	forged, err := stranger.AccessToken("alice", "alice")
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, i.AccessClaims("alice", "alice")).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	parts, otherParts := strings.Split(genuine, "."), strings.Split(other, ".")
	for name, token := range map[string]string{
		"forged":           forged,
		"unsigned":         unsigned,
		"other claims":     parts[0] + "." + otherParts[1] + "." + parts[2],
		"without its end":  parts[0] + "." + parts[1] + ".",
		"none":             "",
		"no token at all":  "alice",
		"with a fourth":    genuine + ".x",
		"with white space": " " + genuine,
	} {
		_, err := i.Verify(token)
		if err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
