// Package seal encrypts each credential's material with KMS, bound to its place: the encryption
// context names the user, the provider and the credential, so that a ciphertext that was moved to
// another item does not decrypt.
package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"managed-credentials/shared/credential"
)

// ErrDecrypt: the ciphertext is not one that was sealed for this place. The answer to it is an
// error, never an empty secret.
var ErrDecrypt = errors.New("the ciphertext does not decrypt")

// Sealer seals and opens with one KMS key. It is safe for concurrent use.
type Sealer struct {
	kms   API
	keyID string
}

// New returns a sealer that uses the given key.
func New(api API, keyID string) *Sealer { return &Sealer{kms: api, keyID: keyID} }

// Seal encrypts m for the credential with the given id. It returns credential.ErrTooLarge, without
// a call, for more than credential.MaxMaterial bytes. Safe to repeat.
func (s *Sealer) Seal(ctx context.Context, user, provider, id string, m credential.Material) ([]byte, error) {
	plain, err := m.Reveal()
	if err != nil {
		return nil, err
	}
	out, err := s.kms.Encrypt(ctx, &kms.EncryptInput{
		KeyId:             &s.keyID,
		Plaintext:         plain,
		EncryptionContext: place(user, provider, id),
	})
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return out.CiphertextBlob, nil
}

// Open decrypts what was sealed for the credential with the given id and type. It returns
// ErrDecrypt if the ciphertext is not that, and credential.ErrOpenChanged if it was sealed with
// other open fields than those that are stored beside it. Safe to repeat.
func (s *Sealer) Open(ctx context.Context, user, provider, id string, t credential.Type, open credential.Open, ciphertext []byte) (credential.Material, error) {
	out, err := s.kms.Decrypt(ctx, &kms.DecryptInput{
		KeyId:             &s.keyID,
		CiphertextBlob:    ciphertext,
		EncryptionContext: place(user, provider, id),
	})
	var invalid *types.InvalidCiphertextException
	var other *types.IncorrectKeyException
	if errors.As(err, &invalid) || errors.As(err, &other) {
		return credential.Material{}, ErrDecrypt
	}
	if err != nil {
		return credential.Material{}, fmt.Errorf("decrypting: %w", err)
	}
	m, err := credential.ParseMaterial(t, out.Plaintext)
	if err != nil {
		return credential.Material{}, err
	}
	err = m.CheckOpen(open)
	if err != nil {
		return credential.Material{}, err
	}
	return m, nil
}

func place(user, provider, id string) map[string]string {
	return map[string]string{"user": user, "provider": provider, "credential": id}
}

// API is what the sealer needs of KMS.
type API interface {
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
}
