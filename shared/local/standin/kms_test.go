package standin_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/local/standin"
)

// What KMS and Secrets Manager promise beside this, package moto holds the stand-ins and another
// pair of eyes to.

const keyID = "11111111-2222-3333-4444-555555555555"

// startKMS starts a KMS of one key, and a stock client for it.
func startKMS(t *testing.T) *awskms.Client {
	t.Helper()
	web := httptest.NewServer(standin.NewKMS(standin.Key{ID: keyID}))
	t.Cleanup(web.Close)
	return awskms.New(awskms.Options{
		Region:       standin.Region,
		BaseEndpoint: aws.String(web.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

func encrypt(t *testing.T, client *awskms.Client) []byte {
	t.Helper()
	out, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(keyID), Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	return out.CiphertextBlob
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestAnotherServersCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	sealed := encrypt(t, startKMS(t))
	_, err := startKMS(t).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	wantCode(t, err, "InvalidCiphertextException")
}

func TestAKeyThatIsNoLongerThereDeniesAccess(t *testing.T) {
	t.Parallel()
	client := startKMS(t)
	sealed := bytes.Replace(encrypt(t, client), []byte(keyID), []byte(strings.Repeat("0", len(keyID))), 1)
	_, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	wantCode(t, err, "AccessDeniedException")
}
