package functions_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
)

// put stores an API key of the user's own behind the service's back, which may have expired long
// ago.
func (s *service) put(user, provider string, material credential.Material) credential.Metadata {
	s.t.Helper()
	sealer := seal.New(kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: &s.KMSURL, Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}), "alias/managed-credentials")
	m := credential.Metadata{
		ID: credential.NewID(), Provider: provider, Type: material.Type(),
		ExpiresAt: material.ExpiresAt(), Hint: material.Hint(), Stored: material.Stored(),
	}
	sealed, err := sealer.Seal(s.t.Context(), user, m.Provider, m.ID, material)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err = store.New(s.DynamoDB, s.Table, nil).Create(s.t.Context(), user, m, sealed)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func TestAnExpiredCredentialIsListedAndNotReleased(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	key := credential.APIKeyMaterial(credential.NewSecret("s3cret-of-24-characters-"))
	gone := s.put(alice, "github", key.Expiring(time.Now().Add(-time.Second)))
	good := s.put(alice, "github", key.Expiring(time.Now().Add(time.Hour)))
	for _, m := range []credential.Metadata{gone, good} {
		got := decode[credential.Metadata](t, s.call("GET", "/github/credentials/"+m.ID, token, "").body)
		if got.ExpiresAt == nil || *got.ExpiresAt != *m.ExpiresAt || aws.ToString(got.Hint) != "ers-" {
			t.Errorf("it is shown as %+v", got)
		}
	}
	s.resolve(alice, "github", gone.ID).want(t, http.StatusConflict, `{"status":409,"detail":"The credential has expired: its user has to replace it"}`)
	s.resolve(alice, "github", good.ID).want(t, http.StatusOK, "")
	s.call("PUT", "/github/credentials/"+gone.ID, token, `{"api_key":"s3cret","expires_at":null}`).want(t, http.StatusOK, "")
	s.resolve(alice, "github", gone.ID).want(t, http.StatusOK, "")
}
