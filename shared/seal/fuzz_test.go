package seal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/credential"
)

// FuzzOpen opens what somebody may have put where a ciphertext belongs, and then what somebody may
// have encrypted in its place.
func FuzzOpen(f *testing.F) {
	s := start(f)
	genuine := s.sealed(f)
	plain, err := apiKey().Reveal()
	if err != nil {
		f.Fatal(err)
	}
	for _, stored := range [][]byte{
		nil, genuine, genuine[:len(genuine)-1], append(bytes.Clone(genuine), 0), bytes.Replace(genuine, []byte(keyID), []byte(otherKeyID), 1),
		plain, []byte(`{"type":"api_key"}`), []byte(`{"type":"api_key","api_key":""}`), []byte(`{"type":"oauth2","access_token":"` + secret + `"}`),
		[]byte(`{"type":"api_key","api_key":"` + secret + `","more":1}`), []byte(secret), []byte("null"),
		[]byte(`{"type":"api_key","api_key":"` + secret + `","open_sha256":"` + strings.Repeat("0", 64) + `"}`), make([]byte, 6145),
	} {
		f.Add(stored)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		m, err := s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, stored)
		if bytes.Equal(stored, genuine) {
			if err != nil {
				t.Fatalf("the genuine ciphertext: %v", err)
			}
		} else {
			wantNothing(t, "no ciphertext of this place", m, err)
		}

		out, err := s.client.Encrypt(t.Context(), &awskms.EncryptInput{
			KeyId:             aws.String(keyID),
			Plaintext:         stored,
			EncryptionContext: map[string]string{"user": user, "provider": provider, "credential": id},
		})
		if err != nil {
			return // nobody can have encrypted it: it is empty, or too long
		}
		m, err = s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, out.CiphertextBlob)
		if err != nil {
			wantNothing(t, "no material", m, err)
			return
		}
		again, err := m.Reveal()
		if err != nil || m.Type() != credential.APIKey {
			t.Errorf("what was opened is a %q that cannot be sealed: %v", m.Type(), err)
		}
		_, err = credential.ParseMaterial(credential.APIKey, again)
		if err != nil {
			t.Errorf("what was opened reads back as %v", err)
		}
	})
}
