package standin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Limits of the API in bytes: https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
// and API_Decrypt.html.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
)

const symmetricDefault = "SYMMETRIC_DEFAULT"

// Key names one key. A request may give the id, the key's ARN, an alias or the alias's ARN.
type Key struct {
	// ID is the key id; AWS uses UUIDs.
	ID string
	// Aliases begin with "alias/".
	Aliases []string
}

// KMS stands in for AWS Key Management Service: Encrypt and Decrypt with symmetric keys.
//
// The cryptography is real: AES-256-GCM under a key that exists only in this process, with the
// encryption context as authenticated data. What was encrypted with one context, or by another
// server, therefore does not decrypt, as on AWS. Grants, policies and key rotation do not exist
// here. It is an http.Handler, safe for concurrent use.
type KMS struct {
	api   service
	names map[string]*key // by "key/<id>" and "alias/<name>"
}

type key struct {
	id, arn  string
	aead     cipher.AEAD
	disabled atomic.Bool
}

// kmsARN is what the ARN of each key begins with.
const kmsARN = "arn:aws:kms:" + Region + ":" + Account + ":"

// NewKMS makes a server with these keys, all enabled, each with new random key material.
func NewKMS(keys ...Key) *KMS {
	s := &KMS{names: map[string]*key{}}
	for _, k := range keys {
		made := &key{id: k.ID, arn: kmsARN + "key/" + k.ID, aead: newAEAD()}
		s.names["key/"+k.ID] = made
		for _, alias := range k.Aliases {
			s.names[alias] = made
		}
	}
	s.api = service{target: "TrentService", operations: map[string]operation{
		"Encrypt": op(s.encrypt),
		"Decrypt": op(s.decrypt),
	}}
	return s
}

func (s *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, r) }

// SetEnabled enables or disables a key, named in any of the ways that a request may name it. A
// disabled key answers DisabledException. It returns an error if there is no such key.
func (s *KMS) SetEnabled(keyID string, enabled bool) error {
	k, err := s.find(keyID)
	if err != nil {
		return fmt.Errorf("finding key: %w", err)
	}
	k.disabled.Store(!enabled)
	return nil
}

type encryptInput struct {
	KeyID               string            `json:"KeyId"`
	Plaintext           []byte            `json:"Plaintext"`
	EncryptionContext   map[string]string `json:"EncryptionContext"`
	EncryptionAlgorithm string            `json:"EncryptionAlgorithm"`
}

type encryptOutput struct {
	CiphertextBlob      []byte `json:"CiphertextBlob"`
	KeyARN              string `json:"KeyId"`
	EncryptionAlgorithm string `json:"EncryptionAlgorithm"`
}

func (s *KMS) encrypt(in encryptInput) (any, error) {
	err := checkLength("plaintext", in.Plaintext, maxPlaintext)
	if err != nil {
		return nil, err
	}
	k, err := s.find(in.KeyID)
	if err != nil {
		return nil, err
	}
	err = k.checkUsable(in.EncryptionAlgorithm)
	if err != nil {
		return nil, err
	}
	sealed := k.aead.Seal(appendField(nil, k.id), nil, in.Plaintext, authenticated(in.EncryptionContext))
	return encryptOutput{CiphertextBlob: sealed, KeyARN: k.arn, EncryptionAlgorithm: symmetricDefault}, nil
}

type decryptInput struct {
	KeyID               string            `json:"KeyId"`
	CiphertextBlob      []byte            `json:"CiphertextBlob"`
	EncryptionContext   map[string]string `json:"EncryptionContext"`
	EncryptionAlgorithm string            `json:"EncryptionAlgorithm"`
}

type decryptOutput struct {
	Plaintext           []byte `json:"Plaintext"`
	KeyARN              string `json:"KeyId"`
	EncryptionAlgorithm string `json:"EncryptionAlgorithm"`
}

func (s *KMS) decrypt(in decryptInput) (any, error) {
	// AWS sends no message with this one, and the same for every cause.
	invalid := &refusal{Code: "InvalidCiphertextException"}

	err := checkLength("ciphertextBlob", in.CiphertextBlob, maxCiphertext)
	if err != nil {
		return nil, err
	}
	id, sealed, ok := cutField(in.CiphertextBlob)
	if !ok {
		return nil, invalid
	}
	k, ok := s.names["key/"+id]
	if !ok {
		return nil, refuse("AccessDeniedException",
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	}
	if in.KeyID != "" {
		wanted, err := s.find(in.KeyID)
		if err != nil {
			return nil, err
		}
		if wanted != k {
			return nil, refuse("IncorrectKeyException",
				"The key ID in the request does not identify a CMK that can perform this operation.")
		}
	}
	err = k.checkUsable(in.EncryptionAlgorithm)
	if err != nil {
		return nil, err
	}
	plaintext, err := k.aead.Open(nil, nil, sealed, authenticated(in.EncryptionContext))
	if err != nil {
		return nil, invalid
	}
	return decryptOutput{Plaintext: plaintext, KeyARN: k.arn, EncryptionAlgorithm: symmetricDefault}, nil
}

// find returns the key that a request means, or NotFoundException.
func (s *KMS) find(keyID string) (*key, error) {
	name, ours := strings.CutPrefix(keyID, kmsARN)
	switch {
	case ours:
	case strings.HasPrefix(keyID, "arn:"):
		return nil, refuse("NotFoundException", "Invalid arn")
	case !strings.HasPrefix(keyID, "alias/"):
		name = "key/" + keyID
	}
	k, ok := s.names[name]
	if ok {
		return k, nil
	}
	if strings.HasPrefix(name, "alias/") {
		return nil, refuse("NotFoundException", "Alias %s%s is not found.", kmsARN, name)
	}
	return nil, refuse("NotFoundException", "Key '%s%s' does not exist", kmsARN, name)
}

func (k *key) checkUsable(algorithm string) error {
	if k.disabled.Load() {
		return refuse("DisabledException", "%s is disabled.", k.arn)
	}
	if algorithm != "" && algorithm != symmetricDefault {
		return refuse("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", algorithm, symmetricDefault)
	}
	return nil
}

func checkLength(field string, value []byte, longest int) error {
	const text = "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length %s than or equal to %d"
	switch {
	case len(value) == 0:
		return refuse("ValidationException", text, field, "greater", 1)
	case len(value) > longest:
		return refuse("ValidationException", text, field, "less", longest)
	}
	return nil
}

func newAEAD() cipher.AEAD {
	material := make([]byte, 32)
	_, _ = rand.Read(material) // It never fails.
	block, err := aes.NewCipher(material)
	if err != nil {
		panic(err) // A key of 32 bytes is always accepted.
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants.
	}
	return aead
}

// authenticated writes an encryption context so that equal contexts, and no others, give equal
// bytes, in whatever order they came.
func authenticated(context map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(context)) {
		b = appendField(b, name)
		b = appendField(b, context[name])
	}
	return b
}

// appendField writes a string with its length before it, so that no two lists of strings look the
// same.
func appendField(b []byte, field string) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

func cutField(b []byte) (field string, rest []byte, ok bool) {
	r := bytes.NewReader(b)
	length, err := binary.ReadUvarint(r)
	if err != nil || length > uint64(r.Len()) {
		return "", nil, false
	}
	rest = b[len(b)-r.Len():]
	return string(rest[:length]), rest[length:], true
}
