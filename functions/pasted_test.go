package functions_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

// What people really paste: the files are made up, and of the forms and lengths of real ones.
func TestWhatPeoplePasteReachesTheExecutorByteForByte(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	file := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "shared", "credential", "testdata", "pasted", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []map[string]string{
		{"type": "api_key", "api_key": file("private-key.pem")},
		{"type": "api_key", "api_key": strings.ReplaceAll(file("private-key.pem"), "\n", "\r\n")},
		{"type": "api_key", "api_key": file("id_ed25519")},
		{"type": "api_key", "api_key": file("service-account.json")},
		{"type": "user_password", "username": "robot", "password": file("private-key.pem")},
		{"type": "user_password", "username": "ada", "password": " correct horse\t"},
		{"type": "oauth2", "access_token": file("token-of-25-groups"), "refresh_token": file("refresh-token")},
	} {
		body, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		a := s.call("POST", "/github/credentials", token, string(body))
		a.want(t, http.StatusCreated, "")
		got := decode[map[string]any](t, s.resolve(alice, "github", decode[credential.Metadata](t, a.body).ID).body)
		for name, want := range c {
			if got[name] != want {
				t.Errorf("%s is resolved as %q, and was %q", name, got[name], want)
			}
		}
	}
}

func TestAMalformedProvidersSlugIsSaid(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	for name, meant := range map[string]string{"GitHub": "github", "google-drive": "google_drive", "open%20ai": "openai"} {
		s.call("POST", "/"+name+"/credentials", token, `{"type":"api_key","api_key":"x"}`).
			want(t, http.StatusUnprocessableEntity, `{"detail":"provider: must match [a-z0-9_]{1,64}; `+meant+` is probably meant"}`)
	}
	s.call("GET", "/%F0%9F%98%80/credentials", token, "").want(t, http.StatusUnprocessableEntity, `{"detail":"provider: must match [a-z0-9_]{1,64}"}`)
}
