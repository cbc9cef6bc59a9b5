// Package orgkey gives the platform's own keys for third parties, which stand in Secrets Manager as one JSON object
// {provider name: key}. They are fetched on first need and kept in memory for a while; they are never in the environment of a deployed
// function.
package orgkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
)

// ErrNone: the secret holds no key for that provider.
var ErrNone = errors.New("no key is configured")

const (
	// ttl is how long fetched keys are used before they are fetched again.
	ttl = 5 * time.Minute
	// faultMemory is how long a fetch that failed is not tried again: a list must not pay for it each time.
	faultMemory = 5 * time.Second
	// fetchTime is how long one fetch may take.
	fetchTime = 2 * time.Second
)

// Keys are the keys in one secret. It is safe for concurrent use.
type Keys struct {
	api      API
	secretID string
	now      func() time.Time

	mu        sync.Mutex
	keys      map[string]credential.Secret
	fetchedAt time.Time
	fault     error
	faultAt   time.Time
}

// New returns the keys of the secret with the given name or ARN. now is the clock; nil means clock.Now.
func New(api API, secretID string, now func() time.Time) *Keys {
	if now == nil {
		now = clock.Now
	}
	return &Keys{api: api, secretID: secretID, now: now}
}

// Key returns the provider's key, or ErrNone if the secret holds none for it. Keys that cannot be fetched again are used
// on: the third party says by itself when one is no longer good. Safe to repeat.
func (k *Keys) Key(ctx context.Context, provider string) (credential.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || k.now().Sub(k.fetchedAt) >= ttl {
		err := k.fetch(ctx)
		if err != nil && k.keys == nil {
			return credential.Secret{}, err
		}
	}
	return k.key(provider)
}

// Refresh returns the key that took the place of a rejected one, fetched anew unless that has happened since; the same one if none
// did. Safe to repeat.
func (k *Keys) Refresh(ctx context.Context, provider string, rejected credential.Secret) (credential.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || k.keys[provider] == rejected {
		err := k.fetch(ctx)
		if err != nil {
			return credential.Secret{}, err
		}
	}
	return k.key(provider)
}

func (k *Keys) key(provider string) (credential.Secret, error) {
	key := k.keys[provider]
	if key.Empty() {
		return credential.Secret{}, ErrNone
	}
	return key, nil
}

// fetch replaces the keys. A fault is remembered for a short while.
func (k *Keys) fetch(ctx context.Context) error {
	if k.fault != nil && k.now().Sub(k.faultAt) < faultMemory {
		return k.fault
	}
	keys, err := k.get(ctx)
	k.fault = err
	if err != nil {
		k.faultAt = k.now()
		return err
	}
	k.keys, k.fetchedAt = keys, k.now()
	return nil
}

func (k *Keys) get(ctx context.Context) (map[string]credential.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	out, err := k.api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId:     &k.secretID,
		VersionStage: aws.String("AWSCURRENT"),
	})
	if err != nil {
		return nil, fmt.Errorf("getting the secret %s: %w", k.secretID, err)
	}
	var texts map[string]string
	err = json.Unmarshal([]byte(aws.ToString(out.SecretString)), &texts)
	if err != nil || texts == nil { // the error itself may quote a key
		return nil, fmt.Errorf("the secret %s: %w", k.secretID, errShape)
	}
	keys := make(map[string]credential.Secret, len(texts))
	for provider, text := range texts {
		keys[provider] = credential.NewSecret(text)
	}
	return keys, nil
}

var errShape = errors.New("is not a JSON object of provider names and keys")

// API is what is needed of Secrets Manager.
type API interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}
