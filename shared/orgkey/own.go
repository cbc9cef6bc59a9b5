package orgkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/credential"
)

// OwnConfig says where the keys are.
type OwnConfig struct {
	// Prefix is what the name of each provider's own secret begins with; the provider's name is the
	// rest. On AWS it is the beginning of an ARN, which is what roles go by also where there is no
	// such secret.
	Prefix string
	// Shared is the secret with the keys of the providers that have none of their own.
	Shared string
	// Fields are those of a provider whose key is a JSON object of texts, by the provider's name.
	// The key of any other is one text.
	Fields map[string][]string
	// Now is the clock; nil means clock.Now.
	Now func() time.Time
}

// Own are the keys of which each provider has a secret of its own, so that retyping one loses no
// other. Who has none has its entry in the shared one. It is safe for concurrent use.
type Own struct {
	api    API
	c      OwnConfig
	shared *Keys

	mu  sync.Mutex
	own map[string]*Keys
}

// NewOwn returns the keys that c says.
func NewOwn(api API, c OwnConfig) *Own {
	return &Own{api: api, c: c, shared: New(api, c.Shared, c.Now), own: map[string]*Keys{}}
}

// Key is that of Keys. What the provider's own secret holds wins, also if it can be no key.
func (o *Own) Key(ctx context.Context, provider string) (credential.Secret, error) {
	key, err := o.of(provider).Key(ctx, provider)
	if !fallsBack(err) {
		return key, err
	}
	key, sharedErr := o.shared.Key(ctx, provider)
	return key, saying(sharedErr, err)
}

// Refresh is that of Keys. A key that took the place of a shared one may stand in the provider's
// own secret by now.
func (o *Own) Refresh(ctx context.Context, provider string, rejected credential.Secret) (credential.Secret, error) {
	key, err := o.of(provider).Refresh(ctx, provider, rejected)
	if !fallsBack(err) {
		return key, err
	}
	key, sharedErr := o.shared.Refresh(ctx, provider, rejected)
	return key, saying(sharedErr, err)
}

// of is the provider's own secret.
func (o *Own) of(provider string) *Keys {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, ok := o.own[provider]
	if !ok {
		k = New(o.api, o.c.Prefix+provider, o.c.Now)
		k.optional = true
		k.entries = func(text string) (map[string]entry, error) {
			return map[string]entry{provider: k.readOwn(text, o.c.Fields[provider])}, nil
		}
		o.own[provider] = k
	}
	return k
}

// fallsBack reports whether the shared secret is asked: the provider has no key of its own, or its
// secret may not be read, as long as a role that was just changed is not known everywhere.
func fallsBack(err error) bool {
	var refused smithy.APIError
	return errors.Is(err, ErrNone) || errors.As(err, &refused) && refused.ErrorCode() == "AccessDeniedException"
}

// saying is the error of both secrets: where the shared one just has no key, the own one's says why
// there is none.
func saying(shared, own error) error {
	if errors.Is(shared, ErrNone) {
		return own
	}
	return shared
}

// isMissing reports whether there is no such secret, or it is marked for deletion.
func isMissing(err error) bool {
	var missing *types.ResourceNotFoundException
	var marked *types.InvalidRequestException
	return errors.As(err, &missing) || errors.As(err, &marked)
}

// readOwn reads a provider's own secret: the key itself, or a JSON object of the fields that it
// consists of.
func (k *Keys) readOwn(text string, fields []string) entry {
	text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
	var problem string
	switch {
	case text == "":
		return entry{}
	case len(fields) > 0:
		text, problem = object(text, fields)
	case strings.HasPrefix(text, "{"):
		problem = "is a JSON object: put the key there by itself"
	case strings.ContainsFunc(text, isNoHeader):
		problem = "has a character that no key has, such as a line break in its middle: copy the key again"
	}
	if problem != "" {
		return entry{fault: fmt.Errorf("the secret %s %w: it %s", k.secretID, ErrUnusable, problem)}
	}
	return entry{key: credential.NewSecret(text)}
}

// object is a JSON object of exactly these fields, each a text that is not empty, or what is wrong
// with it.
func object(text string, fields []string) (string, string) {
	values := map[string]string{}
	ok := true
	err := credential.Members([]byte(text), func(name string, value json.RawMessage) {
		var field string
		bad := json.Unmarshal(value, &field) != nil || field == "" || values[name] != "" || !slices.Contains(fields, name)
		ok = ok && !bad
		values[name] = field
	})
	if err != nil || !ok || len(values) != len(fields) {
		return "", fmt.Sprintf("has to be a JSON object of the texts %q and nothing else", fields)
	}
	whole, _ := json.Marshal(values) // texts always marshal
	return string(whole), ""
}
