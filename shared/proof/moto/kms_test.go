package moto

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/uuid"

	"managed-credentials/shared/local/standin"
)

const (
	apiEncrypt = "https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html"
	apiDecrypt = "https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html"
)

// keyring is a KMS with two keys, the first of which has an alias.
type keyring struct {
	t          *testing.T
	client     *awskms.Client
	key, other string // their ids
	arn        string // of the first
	alias      string
	disable    func(id string) error
}

// encrypt encrypts "secret" for ada under the first key.
func (k *keyring) encrypt() []byte {
	k.t.Helper()
	out, err := k.client.Encrypt(k.t.Context(), &awskms.EncryptInput{KeyId: &k.key, Plaintext: []byte("secret"), EncryptionContext: ada})
	if err != nil {
		k.t.Fatal(err)
	}
	return out.CiphertextBlob
}

func (k *keyring) tryEncrypt(in *awskms.EncryptInput) string {
	if in.Plaintext == nil {
		in.Plaintext = []byte("x")
	}
	_, err := k.client.Encrypt(k.t.Context(), in)
	return answerOf("encrypted", err)
}

func (k *keyring) decrypt(in *awskms.DecryptInput) string {
	out, err := k.client.Decrypt(k.t.Context(), in)
	if err != nil {
		return answerOf("", err)
	}
	return fmt.Sprintf("%s, by its own key: %t", out.Plaintext, *out.KeyId == k.arn)
}

// open decrypts with the context of ada.
func (k *keyring) open(ciphertext []byte) string {
	return k.decrypt(&awskms.DecryptInput{CiphertextBlob: ciphertext, EncryptionContext: ada})
}

var ada = map[string]string{"user": "ada", "provider": "agent_mail"}

const (
	opened            = "secret, by its own key: true"
	invalidCiphertext = "InvalidCiphertextException 400"
)

var kmsCases = []struct {
	name string
	do   func(k *keyring) string
	want string
	moto difference
}{
	{
		name: "what was encrypted is decrypted",
		do:   func(k *keyring) string { return k.open(k.encrypt()) },
		want: opened,
	},
	{
		name: "the key may be named by its id",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{KeyId: &k.key, CiphertextBlob: k.encrypt(), EncryptionContext: ada})
		},
		want: opened,
	},
	{
		name: "the key may be named by its ARN",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{KeyId: &k.arn, CiphertextBlob: k.encrypt(), EncryptionContext: ada})
		},
		want: opened,
	},
	{
		name: "the key may be named by an alias",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{KeyId: &k.alias, CiphertextBlob: k.encrypt(), EncryptionContext: ada})
		},
		want: opened,
	},
	{
		name: "the key may be named by an alias's ARN",
		do: func(k *keyring) string {
			arn := strings.Replace(k.arn, "key/"+k.key, k.alias, 1)
			return k.decrypt(&awskms.DecryptInput{KeyId: &arn, CiphertextBlob: k.encrypt(), EncryptionContext: ada})
		},
		want: opened,
	},
	{
		name: "both answers name the algorithm",
		do: func(k *keyring) string {
			sealed, err := k.client.Encrypt(k.t.Context(), &awskms.EncryptInput{KeyId: &k.key, Plaintext: []byte("x")})
			if err != nil {
				return answerOf("", err)
			}
			out, err := k.client.Decrypt(k.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			if err != nil {
				return answerOf("", err)
			}
			return fmt.Sprintf("%s, %s", sealed.EncryptionAlgorithm, out.EncryptionAlgorithm)
		},
		want: "SYMMETRIC_DEFAULT, SYMMETRIC_DEFAULT",
		moto: difference{", ", apiEncrypt + "#API_Encrypt_ResponseSyntax"},
	},
	{
		name: "the same plaintext gives another ciphertext each time",
		do:   func(k *keyring) string { return fmt.Sprint(bytes.Equal(k.encrypt(), k.encrypt())) },
		want: "false",
	},
	{
		name: "no context does not decrypt",
		do:   func(k *keyring) string { return k.decrypt(&awskms.DecryptInput{CiphertextBlob: k.encrypt()}) },
		want: invalidCiphertext,
	},
	{
		name: "another value in the context does not decrypt",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{CiphertextBlob: k.encrypt(), EncryptionContext: map[string]string{"user": "eve", "provider": "agent_mail"}})
		},
		want: invalidCiphertext,
	},
	{
		name: "a part of the context does not decrypt",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{CiphertextBlob: k.encrypt(), EncryptionContext: map[string]string{"user": "ada"}})
		},
		want: invalidCiphertext,
	},
	{
		name: "the context's names are case-sensitive",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{CiphertextBlob: k.encrypt(), EncryptionContext: map[string]string{"User": "ada", "provider": "agent_mail"}})
		},
		want: invalidCiphertext,
	},
	{
		name: "a flipped bit does not decrypt",
		do: func(k *keyring) string {
			ciphertext := k.encrypt()
			ciphertext[len(ciphertext)-1] ^= 1
			return k.open(ciphertext)
		},
		want: invalidCiphertext,
	},
	{
		name: "a ciphertext that was cut does not decrypt",
		do: func(k *keyring) string {
			ciphertext := k.encrypt()
			return k.open(ciphertext[:len(ciphertext)-1])
		},
		want: invalidCiphertext,
	},
	{
		name: "what is no ciphertext does not decrypt",
		do:   func(k *keyring) string { return k.open([]byte("plain")) },
		want: invalidCiphertext,
	},
	{
		name: "a ciphertext has at most 6144 bytes",
		do:   func(k *keyring) string { return k.open(make([]byte, 6145)) },
		want: "ValidationException 400",
		moto: difference{"AccessDeniedException 400", apiDecrypt + "#KMS-Decrypt-request-CiphertextBlob"},
	},
	{
		name: "another key than the ciphertext's is refused",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{KeyId: &k.other, CiphertextBlob: k.encrypt(), EncryptionContext: ada})
		},
		want: "IncorrectKeyException 400",
		moto: difference{"AccessDeniedException 400", apiDecrypt + "#API_Decrypt_Errors"},
	},
	{
		name: "a key that does not exist is not found",
		do: func(k *keyring) string {
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: aws.String(uuid.NewString())})
		},
		want: "NotFoundException 400",
	},
	{
		name: "an alias that does not exist is not found",
		do: func(k *keyring) string {
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: aws.String("alias/nobodys")})
		},
		want: "NotFoundException 400",
	},
	{
		name: "a key to decrypt with that does not exist is not found",
		do: func(k *keyring) string {
			return k.decrypt(&awskms.DecryptInput{KeyId: aws.String("alias/nobodys"), CiphertextBlob: k.encrypt(), EncryptionContext: ada})
		},
		want: "NotFoundException 400",
	},
	{
		name: "a disabled key does not encrypt",
		do: func(k *keyring) string {
			err := k.disable(k.key)
			if err != nil {
				k.t.Fatal(err)
			}
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: &k.key})
		},
		want: "DisabledException 400",
		moto: difference{"encrypted", apiEncrypt + "#API_Encrypt_Errors"},
	},
	{
		name: "a disabled key does not decrypt",
		do: func(k *keyring) string {
			ciphertext := k.encrypt()
			err := k.disable(k.key)
			if err != nil {
				k.t.Fatal(err)
			}
			return k.open(ciphertext)
		},
		want: "DisabledException 400",
		moto: difference{opened, apiDecrypt + "#API_Decrypt_Errors"},
	},
	{
		name: "a plaintext of 4096 bytes is encrypted",
		do: func(k *keyring) string {
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: &k.key, Plaintext: make([]byte, 4096)})
		},
		want: "encrypted",
	},
	{
		name: "a plaintext of more is not",
		do: func(k *keyring) string {
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: &k.key, Plaintext: make([]byte, 4097)})
		},
		want: "ValidationException 400",
	},
	{
		name: "nor is none",
		do: func(k *keyring) string {
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: &k.key, Plaintext: []byte{}})
		},
		want: "ValidationException 400",
	},
	{
		name: "an asymmetric algorithm does not fit a symmetric key",
		do: func(k *keyring) string {
			return k.tryEncrypt(&awskms.EncryptInput{KeyId: &k.key, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256})
		},
		want: "InvalidKeyUsageException 400",
		moto: difference{"encrypted", apiEncrypt + "#API_Encrypt_Errors"},
	},
}

func TestKMS(t *testing.T) {
	url := startMoto(t)
	for _, c := range kmsCases {
		t.Run(c.name, func(t *testing.T) {
			c.moto.check(t, false, c.do(standInKMS(t)), c.want)
			if url != "" {
				c.moto.check(t, true, c.do(motoKMS(t, url)), c.want)
			}
		})
	}
}

func kmsClient(url string) *awskms.Client {
	return awskms.New(awskms.Options{
		Region:       region,
		BaseEndpoint: &url,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	})
}

func standInKMS(t *testing.T) *keyring {
	t.Helper()
	k := &keyring{t: t, key: uuid.NewString(), other: uuid.NewString(), alias: "alias/credentials"}
	server := standin.NewKMS(standin.Key{ID: k.key, Aliases: []string{k.alias}}, standin.Key{ID: k.other})
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	k.client = kmsClient(web.URL)
	k.arn = "arn:aws:kms:" + region + ":" + standin.Account + ":key/" + k.key
	k.disable = func(id string) error { return server.SetEnabled(id, false) }
	return k
}

func motoKMS(t *testing.T, url string) *keyring {
	t.Helper()
	k := &keyring{t: t, client: kmsClient(url), alias: "alias/" + uuid.NewString()}
	made, err := k.client.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.client.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	k.key, k.arn, k.other = *made.KeyMetadata.KeyId, *made.KeyMetadata.Arn, *other.KeyMetadata.KeyId
	_, err = k.client.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: &k.alias, TargetKeyId: &k.key})
	if err != nil {
		t.Fatal(err)
	}
	k.disable = func(id string) error {
		_, err := k.client.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &id})
		return err
	}
	return k
}
