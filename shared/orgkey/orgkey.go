// Package orgkey gives the platform's own keys for third parties. They stand in Secrets Manager:
// each in a secret of its own ([Own]), or all in one, as a JSON object {provider name: key}
// ([Keys]). They are fetched on first need and kept in memory for a while; they are never in the
// environment of a deployed function.
//
// People type them. White space around a key is taken off, and what cannot be used makes nobody but
// its own provider go without.
package orgkey

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
)

// ErrNone: the secret holds no key for that provider.
var ErrNone = errors.New("no key is configured")

// ErrUnusable: the secret has an entry for that provider, and what is there can be no key. The
// error that wraps it names the entry and what to do, and never quotes the value.
var ErrUnusable = errors.New("cannot be used as a key")

const (
	// ttl is how long fetched keys are used before they are fetched again.
	ttl = 5 * time.Minute
	// noneMemory is how long a secret without the key that is asked for is not fetched again.
	noneMemory = 10 * time.Second
	// faultMemory is how long a fetch that failed is not tried again: a list must not pay for it
	// each time.
	faultMemory = 5 * time.Second
	// fetchTime is how long one fetch may take.
	fetchTime = 2 * time.Second
)

// Keys are the keys in one secret. It is safe for concurrent use.
type Keys struct {
	api      API
	secretID string
	now      func() time.Time
	// entries are what is in the secret's text.
	entries func(text string) (map[string]entry, error)
	// optional: a secret that is not there, or is marked for deletion, is one without a key. Nobody
	// then looks again sooner than for another key.
	optional bool

	mu        sync.Mutex
	keys      map[string]entry
	fetchedAt time.Time
	fault     error
	faultAt   time.Time
}

// entry is what the secret holds for one provider.
type entry struct {
	// key is the last one that could be used; empty if there was none.
	key credential.Secret
	// fault is why what the secret holds now cannot be used; nil if it can.
	fault error
}

// New returns the keys of the secret with the given name or ARN. now is the clock; nil means
// clock.Now.
func New(api API, secretID string, now func() time.Time) *Keys {
	if now == nil {
		now = clock.Now
	}
	k := &Keys{api: api, secretID: secretID, now: now}
	k.entries = k.shared
	return k
}

// Key returns the provider's key, ErrNone if the secret holds none for it, or ErrUnusable if it can
// be no key. A key that cannot be fetched again, or in whose place stands what can be none, is used
// on: the third party says by itself when it is no longer good. Safe to repeat.
func (k *Keys) Key(ctx context.Context, provider string) (credential.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.now().Sub(k.fetchedAt)
	if k.keys == nil || age >= ttl || age >= noneMemory && !k.optional && k.keys[provider].key.Empty() {
		err := k.fetch(ctx)
		if err != nil && k.keys == nil {
			return credential.Secret{}, err
		}
	}
	e := k.keys[provider]
	if e.key.Empty() {
		return credential.Secret{}, cmp.Or(e.fault, ErrNone)
	}
	return e.key, nil
}

// Refresh returns the key that took the place of a rejected one, fetched anew unless that has
// happened since; the same one if none did. It returns the errors of Key. Safe to repeat.
func (k *Keys) Refresh(ctx context.Context, provider string, rejected credential.Secret) (credential.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.keys[provider].key
	if k.keys == nil || known == rejected || k.optional && known.Empty() {
		err := k.fetch(ctx)
		if err != nil {
			return credential.Secret{}, err
		}
	}
	e := k.keys[provider]
	if e.key.Empty() || e.fault != nil && e.key == rejected {
		return credential.Secret{}, cmp.Or(e.fault, ErrNone)
	}
	return e.key, nil
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
	for provider, e := range keys {
		if e.fault != nil {
			keys[provider] = entry{k.keys[provider].key, e.fault}
		}
	}
	k.keys, k.fetchedAt = keys, k.now()
	return nil
}

func (k *Keys) get(ctx context.Context) (map[string]entry, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	out, err := k.api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId:     &k.secretID,
		VersionStage: aws.String("AWSCURRENT"),
	})
	if k.optional && isMissing(err) {
		return map[string]entry{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting the secret %s: %w", k.secretID, err)
	}
	return k.entries(aws.ToString(out.SecretString))
}

// shared reads the one secret that has the keys of all providers.
func (k *Keys) shared(text string) (map[string]entry, error) {
	keys := map[string]entry{}
	err := credential.Members([]byte(text), func(provider string, value json.RawMessage) {
		_, twice := keys[provider]
		keys[provider] = k.read(provider, value, twice)
	})
	if err != nil { // the error itself may quote a key
		return nil, fmt.Errorf("the secret %s: %w", k.secretID, errShape)
	}
	return keys, nil
}

var errShape = errors.New("is not a JSON object of provider names and keys")

// read reads what the secret holds for a provider. twice is whether that is not the first entry of
// the name.
func (k *Keys) read(provider string, value json.RawMessage, twice bool) entry {
	var text string
	err := json.Unmarshal(value, &text)
	text = strings.TrimSpace(text)
	var problem string
	switch {
	case twice:
		problem = "is there twice: leave the one that is meant"
	case err != nil:
		problem = "is no text: put the key there in double quotes"
	case strings.ContainsFunc(text, isNoHeader):
		problem = "has a character that no key has, such as a line break in its middle: copy the key again"
	default:
		return entry{key: credential.NewSecret(text)}
	}
	return entry{fault: fmt.Errorf("the entry %q of the secret %s %w: it %s", provider, k.secretID, ErrUnusable, problem)}
}

// isNoHeader reports whether a character cannot stand in a header's value, where keys are sent
// (https://www.rfc-editor.org/rfc/rfc9110#section-5.5).
func isNoHeader(r rune) bool { return r < ' ' || r > '~' }

// API is what is needed of Secrets Manager.
type API interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}
