package kms_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/local/kms"
)

const (
	keyID    = "11111111-2222-3333-4444-555555555555"
	otherID  = "99999999-8888-7777-6666-555555555555"
	alias    = "alias/credentials"
	arnStart = "arn:aws:kms:eu-west-1:123456789012:"
	keyARN   = arnStart + "key/" + keyID
)

var owner = map[string]string{"user": "ada", "provider": "agent_mail"}

func start(t *testing.T) (*kms.Server, *awskms.Client) {
	t.Helper()
	server := kms.New(kms.Config{
		Region:  "eu-west-1",
		Account: "123456789012",
		Keys:    []kms.Key{{ID: keyID, Aliases: []string{alias}}, {ID: otherID}},
	})
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	return server, awskms.New(awskms.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(web.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

func encrypt(t *testing.T, client *awskms.Client, plaintext []byte, context map[string]string) []byte {
	t.Helper()
	out, err := client.Encrypt(t.Context(), &awskms.EncryptInput{
		KeyId: aws.String(keyID), Plaintext: plaintext, EncryptionContext: context,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.CiphertextBlob
}

func TestDecryptGivesBackWhatWasEncryptedUnderAnyNameOfTheKey(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	for _, name := range []string{keyID, keyARN, alias, arnStart + alias} {
		sealed, err := client.Encrypt(t.Context(), &awskms.EncryptInput{
			KeyId: aws.String(name), Plaintext: []byte("secret"), EncryptionContext: owner,
		})
		if err != nil {
			t.Fatalf("encrypting under %s: %v", name, err)
		}
		if *sealed.KeyId != keyARN || sealed.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			t.Errorf("encrypting under %s used %s, %s", name, *sealed.KeyId, sealed.EncryptionAlgorithm)
		}
		if bytes.Contains(sealed.CiphertextBlob, []byte("secret")) {
			t.Error("the plaintext shows in the ciphertext")
		}
		opened, err := client.Decrypt(t.Context(), &awskms.DecryptInput{
			KeyId: aws.String(name), CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: owner,
		})
		if err != nil {
			t.Fatalf("decrypting under %s: %v", name, err)
		}
		if string(opened.Plaintext) != "secret" || *opened.KeyId != keyARN ||
			opened.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			t.Errorf("decrypting under %s gave %q, %s, %s", name, opened.Plaintext, *opened.KeyId, opened.EncryptionAlgorithm)
		}
	}
}

func TestDecryptNeedsNoKeyID(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	opened, err := client.Decrypt(t.Context(), &awskms.DecryptInput{
		CiphertextBlob: encrypt(t, client, []byte("secret"), nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(opened.Plaintext) != "secret" {
		t.Errorf("got %q", opened.Plaintext)
	}
}

func TestTheSamePlaintextNeverGivesTheSameCiphertext(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	if bytes.Equal(encrypt(t, client, []byte("secret"), owner), encrypt(t, client, []byte("secret"), owner)) {
		t.Error("two equal ciphertexts")
	}
}

func TestACiphertextOpensOnlyUnderItsOwnContext(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	for name, context := range map[string]map[string]string{
		"none":             nil,
		"other value":      {"user": "eve", "provider": "agent_mail"},
		"part":             {"user": "ada"},
		"more":             {"user": "ada", "provider": "agent_mail", "x": ""},
		"other letters":    {"User": "ada", "provider": "agent_mail"},
		"swapped":          {"user": "agent_mail", "provider": "ada"},
		"run together":     {"user": "adaprovideragent_mail"},
		"one field longer": {"user": "ada", "provideragent": "_mail"},
		"lengths imitated": {"provider": "agent_mail\x04userada"},
	} {
		_, err := client.Decrypt(t.Context(), &awskms.DecryptInput{
			CiphertextBlob: encrypt(t, client, []byte("secret"), owner), EncryptionContext: context,
		})
		var invalid *types.InvalidCiphertextException
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if invalid.Message != nil {
			t.Errorf("%s: message %q, AWS sends none", name, *invalid.Message)
		}
	}
}

func TestADamagedCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	whole := encrypt(t, client, []byte("secret"), owner)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	otherKey := bytes.Replace(whole, []byte(keyID), []byte(otherID), 1)
	for name, blob := range map[string][]byte{
		"flipped bit":          flipped,
		"other key's id":       otherKey,
		"cut":                  whole[:len(whole)-1],
		"no sealed part":       whole[:len(keyID)+1],
		"shorter than its id":  whole[:len(keyID)],
		"length without an id": {200},
		"endless length":       bytes.Repeat([]byte{0xff}, 12),
	} {
		_, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: blob, EncryptionContext: owner})
		var invalid *types.InvalidCiphertextException
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAnotherServersCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	_, first := start(t)
	_, second := start(t)
	_, err := second.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: encrypt(t, first, []byte("secret"), nil)})
	var invalid *types.InvalidCiphertextException
	if !errors.As(err, &invalid) {
		t.Errorf("got %v", err)
	}
}

func TestDecryptUnderAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := client.Decrypt(t.Context(), &awskms.DecryptInput{
		KeyId: aws.String(otherID), CiphertextBlob: encrypt(t, client, []byte("secret"), nil),
	})
	var incorrect *types.IncorrectKeyException
	if !errors.As(err, &incorrect) {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownKeyIsNotFound(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	for name, want := range map[string]string{
		"nobody":                  "Key '" + arnStart + "key/nobody' does not exist",
		arnStart + "key/nobody":   "Key '" + arnStart + "key/nobody' does not exist",
		"alias/nobody":            "Alias " + arnStart + "alias/nobody is not found.",
		arnStart + "alias/nobody": "Alias " + arnStart + "alias/nobody is not found.",
		"arn:aws:kms:us-east-1:123456789012:key/" + keyID: "Invalid arn",
	} {
		_, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(name), Plaintext: []byte("x")})
		var notFound *types.NotFoundException
		if !errors.As(err, &notFound) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if notFound.ErrorMessage() != want {
			t.Errorf("%s: message %q, want %q", name, notFound.ErrorMessage(), want)
		}
	}
}

func TestAKeyThatIsNoLongerThereDeniesAccess(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	blob := bytes.Replace(encrypt(t, client, []byte("secret"), nil), []byte(keyID), []byte(strings.Repeat("0", len(keyID))), 1)
	_, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: blob})
	wantCode(t, err, "AccessDeniedException")
}

func TestADisabledKeyNeitherEncryptsNorDecryptsUntilItIsEnabled(t *testing.T) {
	t.Parallel()
	server, client := start(t)
	sealed := encrypt(t, client, []byte("secret"), nil)

	err := server.SetEnabled(alias, false)
	if err != nil {
		t.Fatal(err)
	}
	_, encryptErr := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(keyID), Plaintext: []byte("x")})
	_, decryptErr := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	for _, err := range []error{encryptErr, decryptErr} {
		var disabled *types.DisabledException
		if !errors.As(err, &disabled) {
			t.Errorf("got %v", err)
		}
	}

	err = server.SetEnabled(keyID, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	if err != nil {
		t.Errorf("after enabling: %v", err)
	}
	err = server.SetEnabled("nobody", true)
	if err == nil {
		t.Error("an unknown key was enabled")
	}
}

func TestLengthsOutsideTheLimitsAreRefusedAsAWSWordsIt(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	longest := bytes.Repeat([]byte("x"), 4096)
	opened, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: encrypt(t, client, longest, owner), EncryptionContext: owner})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(opened.Plaintext, longest) {
		t.Error("the longest plaintext did not come back")
	}

	const text = "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length "
	for _, tc := range []struct {
		plaintext []byte
		want      string
	}{
		{[]byte{}, text + "greater than or equal to 1"},
		{append(longest, 'x'), text + "less than or equal to 4096"},
	} {
		_, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(keyID), Plaintext: tc.plaintext})
		refusal := wantCode(t, err, "ValidationException")
		if refusal != nil && refusal.ErrorMessage() != tc.want {
			t.Errorf("message %q, want %q", refusal.ErrorMessage(), tc.want)
		}
	}
	_, err = client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: make([]byte, 6145)})
	wantCode(t, err, "ValidationException")
}

func TestAnAsymmetricAlgorithmDoesNotFitTheKey(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := client.Encrypt(t.Context(), &awskms.EncryptInput{
		KeyId: aws.String(keyID), Plaintext: []byte("x"), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
	})
	var usage *types.InvalidKeyUsageException
	if !errors.As(err, &usage) {
		t.Errorf("got %v", err)
	}
}

func TestAnyOtherOperationIsUnknown(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	_, err := client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String(keyID)})
	wantCode(t, err, "UnknownOperationException")
}

func wantCode(t *testing.T, err error, code string) smithy.APIError {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
		return nil
	}
	return api
}
