package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/seal"
)

const (
	keyID      = "11111111-2222-3333-4444-555555555555"
	otherKeyID = "99999999-8888-7777-6666-555555555555"

	user     = "ada"
	provider = "github"
	id       = "fab6152b-b3a1-5188-98f1-63f310fccc0f"

	secret = "sk-live-4815162342"
)

// setup is KMS behind a proxy.
type setup struct {
	kms    *standin.KMS
	proxy  *fault.Proxy
	client *awskms.Client
	*seal.Sealer
}

func start(t testing.TB) *setup {
	t.Helper()
	s := &setup{kms: standin.NewKMS(standin.Key{ID: keyID}, standin.Key{ID: otherKeyID})}
	target := httptest.NewServer(s.kms)
	t.Cleanup(target.Close)
	s.proxy = fault.New(target.URL)
	server := httptest.NewServer(s.proxy)
	t.Cleanup(server.Close)
	s.client = awskms.New(awskms.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	})
	s.Sealer = seal.New(s.client, keyID)
	return s
}

func material(t *testing.T, body string) credential.Material {
	t.Helper()
	wanted, err := credential.ParseNew([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return wanted.Material
}

func apiKey() credential.Material { return credential.APIKeyMaterial(credential.NewSecret(secret)) }

// sealed is the ciphertext of an api_key credential in its place.
func (s *setup) sealed(t testing.TB) []byte {
	t.Helper()
	ciphertext, err := s.Seal(t.Context(), user, provider, id, apiKey())
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

// wantNothing checks that an error came alone and without the secret.
func wantNothing(t *testing.T, name string, m credential.Material, err error) {
	t.Helper()
	if err == nil || m.Type() != "" || len(m.Fields()) != 0 {
		t.Errorf("%s: got a material of type %q, %v", name, m.Type(), err)
		return
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
		t.Errorf("%s: the error shows the secret: %v", name, err)
	}
}

func TestWhatIsSealedOpensInItsPlace(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, body := range []string{
		`{"type":"api_key","api_key":"` + secret + `","expires_at":4102444800}`,
		`{"type":"oauth2","access_token":"at","refresh_token":"rt"}`,
		`{"type":"user_password","username":"ada","password":"pw"}`,
		`{"type":"host_scoped","host":"example.com","headers":{"X-Key":"h"}}`,
	} {
		m := material(t, body)
		ciphertext, err := s.Seal(t.Context(), user, provider, id, m)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(ciphertext, []byte(secret)) {
			t.Errorf("the ciphertext of %s shows the secret", body)
		}
		opened, err := s.Open(t.Context(), user, provider, id, m.Type(), credential.Open{}, ciphertext)
		if err != nil || opened.Type() != m.Type() || !maps.EqualFunc(opened.Fields(), m.Fields(), slices.Equal[json.RawMessage]) {
			t.Errorf("%s opened as %s of type %s, %v", body, opened.Fields(), opened.Type(), err)
		}
	}
}

// A version that reads both forms comes before one that writes the new.
func TestBothFormsOpenAndTheNewOneOnlyBesideItsHost(t *testing.T) {
	t.Parallel()
	s := start(t)
	host, other := "example.com", "evil.example"
	m := material(t, `{"type":"host_scoped","host":"example.com","headers":{"X-Key":"`+secret+`"}}`)
	for name, form := range map[string]struct {
		sealed credential.Material
		bound  bool
	}{"before": {m, false}, "new": {m.WithOpen(credential.Open{Host: &host}), true}} {
		ciphertext, err := s.Seal(t.Context(), user, provider, id, form.sealed)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := s.Open(t.Context(), user, provider, id, credential.HostScoped, credential.Open{Host: &host}, ciphertext)
		if err != nil || opened.OpenProven() != form.bound {
			t.Errorf("%s: opened with its host: %v, proven: %v", name, err, opened.OpenProven())
		}
		opened, err = s.Open(t.Context(), user, provider, id, credential.HostScoped, credential.Open{Host: &other}, ciphertext)
		if !form.bound {
			if err != nil || opened.OpenProven() {
				t.Errorf("%s: opened with another host: %v, proven: %v", name, err, opened.OpenProven())
			}
			continue
		}
		wantNothing(t, name, opened, err)
		if !errors.Is(err, credential.ErrOpenChanged) {
			t.Errorf("%s: opened with another host: %v", name, err)
		}
	}
}

func TestTheEncryptionContextNamesThePlace(t *testing.T) {
	t.Parallel()
	s := start(t)
	_, err := s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, s.sealed(t))
	if err != nil {
		t.Fatal(err)
	}
	calls := s.proxy.Calls()
	if len(calls) != 2 {
		t.Fatalf("there were %d calls", len(calls))
	}
	for _, call := range calls {
		var request struct {
			KeyID             string `json:"KeyId"`
			EncryptionContext map[string]string
		}
		err := json.Unmarshal(call.Body, &request)
		want := map[string]string{"user": user, "provider": provider, "credential": id}
		if err != nil || request.KeyID != keyID || !maps.Equal(request.EncryptionContext, want) {
			t.Errorf("%s had the key %s and the context %v, %v", call.Op, request.KeyID, request.EncryptionContext, err)
		}
	}
}

func TestACiphertextInAnotherPlaceDoesNotDecrypt(t *testing.T) {
	t.Parallel()
	s := start(t)
	ciphertext := s.sealed(t)
	for name, place := range map[string][3]string{
		"another user":       {"bob", provider, id},
		"another provider":   {user, "agent_mail", id},
		"another credential": {user, provider, "bf4df6f8-3e0f-595d-8bdc-15d8efec3ba5"},
		"swapped":            {provider, user, id},
		"nobody":             {"", "", ""},
	} {
		m, err := s.Open(t.Context(), place[0], place[1], place[2], credential.APIKey, credential.Open{}, ciphertext)
		wantNothing(t, name, m, err)
		if !errors.Is(err, seal.ErrDecrypt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABrokenCiphertextDoesNotDecrypt(t *testing.T) {
	t.Parallel()
	s := start(t)
	ciphertext := s.sealed(t)
	altered := slices.Clone(ciphertext)
	altered[len(altered)-1]++
	other, err := seal.New(s.client, otherKeyID).Seal(t.Context(), user, provider, id, apiKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]byte{
		"altered":           altered,
		"cut":               ciphertext[:len(ciphertext)-1],
		"never encrypted":   []byte(`{"api_key":"` + secret + `","type":"api_key"}`),
		"under another key": other,
	} {
		m, err := s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, broken)
		wantNothing(t, name, m, err)
		if !errors.Is(err, seal.ErrDecrypt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, nil)
	wantNothing(t, "no ciphertext", m, err)
}

func TestAMaterialOfAnotherTypeIsAnError(t *testing.T) {
	t.Parallel()
	s := start(t)
	ciphertext := s.sealed(t)
	for _, typ := range []credential.Type{credential.OAuth2, credential.UserPassword, credential.HostScoped, ""} {
		m, err := s.Open(t.Context(), user, provider, id, typ, credential.Open{}, ciphertext)
		wantNothing(t, string(typ), m, err)
	}
}

func TestAPlaintextThatIsNoMaterialIsAnErrorWithoutIt(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, plain := range []string{secret, `"` + secret + `"`, `{"type":"api_key"}`, `{"type":"api_key","api_key":["` + secret + `"]}`,
		`{"type":"api_key","api_key":"` + secret + `","` + secret + `":1}`, `{"type":"api_key","api_key":"` + secret} {
		out, err := s.client.Encrypt(t.Context(), &awskms.EncryptInput{
			KeyId: aws.String(keyID), Plaintext: []byte(plain),
			EncryptionContext: map[string]string{"user": user, "provider": provider, "credential": id},
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, out.CiphertextBlob)
		wantNothing(t, plain, m, err)
	}
}

func TestWhatCannotBeSealedCostsNoCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	ciphertext, err := s.Seal(t.Context(), user, provider, id, credential.APIKeyMaterial(credential.NewSecret(strings.Repeat(secret, 300))))
	if !errors.Is(err, credential.ErrTooLarge) || ciphertext != nil {
		t.Errorf("too large: got %d bytes, %v", len(ciphertext), err)
	}
	ciphertext, err = s.Seal(t.Context(), user, provider, id, credential.Material{})
	if err == nil || ciphertext != nil {
		t.Errorf("nothing: got %d bytes, %v", len(ciphertext), err)
	}
	if len(s.proxy.Calls()) != 0 {
		t.Errorf("there were %d calls", len(s.proxy.Calls()))
	}
}

// An outage must not be taken for a ciphertext that is of no use any more.
func TestAKMSInTroubleIsAFaultAndNotErrDecrypt(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(*setup){
		"out of reach": func(s *setup) { s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.Drop() }) },
		"throttled":    func(s *setup) { s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.Throttled() }) },
		"failing": func(s *setup) {
			s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.AWSError(500, "KMSInternalException", "") })
		},
		"not allowed": func(s *setup) {
			s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.AWSError(400, "AccessDeniedException", "no") })
		},
		"a disabled key": func(s *setup) {
			err := s.kms.SetEnabled(keyID, false)
			if err != nil {
				t.Error(err)
			}
		},
	} {
		s := start(t)
		sealed := s.sealed(t)
		trouble(s)
		m, err := s.Open(t.Context(), user, provider, id, credential.APIKey, credential.Open{}, sealed)
		wantNothing(t, name, m, err)
		if errors.Is(err, seal.ErrDecrypt) {
			t.Errorf("%s: decrypting: %v", name, err)
		}
		ciphertext, err := s.Seal(t.Context(), user, provider, id, apiKey())
		wantNothing(t, name, credential.Material{}, err)
		if ciphertext != nil {
			t.Errorf("%s: encrypting gave %d bytes", name, len(ciphertext))
		}
	}
}
