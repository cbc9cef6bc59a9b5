// Package byhand makes and removes a user's key at AgentMail by hand, for the good case alone. It is
// what the bench puts beside the service.
package byhand

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"managed-credentials/shared/credential"
)

// Provider is AgentMail's name in the table.
const Provider = "agent_mail"

// Maker makes and removes keys. It is safe for concurrent use.
type Maker struct {
	KMS *kms.Client
	// KeyID is the KMS key's.
	KeyID string
	// URL is AgentMail's origin, and OrgKey a key of the organisation.
	URL, OrgKey string
	HTTP        *http.Client
}

// Made is what was made for a user, with the key sealed as the service seals it.
type Made struct {
	PodID, KeyID string
	Sealed       []byte
}

// Make makes a pod and a key in it, and seals the key.
func (m Maker) Make(ctx context.Context, user string) (Made, error) {
	var pod struct {
		ID string `json:"pod_id"`
	}
	err := m.call(ctx, http.MethodPost, "/v0/pods", map[string]string{"name": user, "client_id": user}, &pod)
	if err != nil {
		return Made{}, err
	}
	var key struct {
		ID  string `json:"api_key_id"`
		Key string `json:"api_key"`
	}
	err = m.call(ctx, http.MethodPost, "/v0/pods/"+pod.ID+"/api-keys", map[string]string{"name": user + "-key"}, &key)
	if err != nil {
		return Made{}, err
	}
	sealed, err := m.KMS.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &m.KeyID, Plaintext: []byte(key.Key),
		EncryptionContext: map[string]string{"user": user, "provider": Provider, "credential": credential.ManagedID(Provider, user)},
	})
	if err != nil {
		return Made{}, err
	}
	return Made{pod.ID, key.ID, sealed.CiphertextBlob}, nil
}

// Remove removes the key, and the pod.
func (m Maker) Remove(ctx context.Context, podID, keyID string) error {
	err := m.call(ctx, http.MethodDelete, "/v0/pods/"+podID+"/api-keys/"+keyID, nil, nil)
	if err != nil {
		return err
	}
	return m.call(ctx, http.MethodDelete, "/v0/pods/"+podID, nil, nil)
}

func (m Maker) call(ctx context.Context, method, path string, body, answer any) error {
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		sent = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, m.URL+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+m.OrgKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, got)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}
