package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	// fresh is how long the issuer's keys are good without asking again. What the issuer no longer
	// publishes is taken for so long.
	fresh = 15 * time.Minute
	// pause lies between two times of asking, whatever the reason: tokens with made-up key ids must
	// not have it ask at each call.
	pause = 30 * time.Second
	// firstPause is what lies between them as long as there are no keys at all.
	firstPause = time.Second
	// maxDocument is the most that an issuer's document may have, in bytes.
	maxDocument = 256 << 10
)

// key is one that an issuer signs with.
type key struct {
	public any
	// algorithm is what the issuer says that the key is for, "" if it does not say.
	algorithm string
}

// keySet are the keys of an issuer, fetched when they are needed.
type keySet struct {
	issuer string
	now    func() time.Time

	mu      sync.Mutex
	keys    map[string]key
	fetched time.Time // when keys came, zero if they never did
	asked   time.Time // when they were last asked for, with whatever outcome
	err     error     // that of asking last
}

func newKeySet(issuer string, now func() time.Time) *keySet { return &keySet{issuer: issuer, now: now} }

// find returns the key of that id. An id that the issuer does not know is a token's fault:
// ErrRefused. An issuer that does not answer is nobody's; until it does, the keys that it published
// before are good.
func (s *keySet) find(ctx context.Context, id string) (key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.keys[id]
	now := s.now()
	stale := now.Sub(s.fetched) >= fresh
	wait := pause
	if s.fetched.IsZero() {
		wait = firstPause
	}
	if (!known || stale) && now.Sub(s.asked) >= wait {
		s.asked = now
		keys, err := fetch(ctx, s.issuer)
		s.err = err
		if err == nil {
			s.keys, s.fetched = keys, now
		}
	}
	k, ok := s.keys[id]
	switch {
	case ok:
		return k, nil
	case s.err != nil:
		return key{}, fmt.Errorf("fetching the keys of %s: %w", s.issuer, s.err)
	default:
		return key{}, fmt.Errorf("%w: the issuer publishes no key of that id", ErrRefused)
	}
}

// fetch asks an issuer where its keys are, and for the keys
// (https://openid.net/specs/openid-connect-discovery-1_0.html).
func fetch(ctx context.Context, issuer string) (map[string]key, error) {
	var about struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	err := get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &about)
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(about.JWKSURI)
	if err != nil || about.Issuer != issuer || !secure(at) {
		return nil, errors.New("the discovery document names another issuer, or no https URL of the keys")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	err = get(ctx, about.JWKSURI, &set)
	if err != nil {
		return nil, err
	}
	keys := map[string]key{}
	for _, raw := range set.Keys {
		// A key of a kind that is not known here is for others, or for later.
		k, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil || k.Marshal().USE == jwkset.UseEnc {
			continue
		}
		keys[k.Marshal().KID] = key{k.Key(), k.Marshal().ALG.String()}
	}
	return keys, nil
}

func get(ctx context.Context, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", address, answer.StatusCode)
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, maxDocument)).Decode(into)
	if err != nil {
		return fmt.Errorf("reading %s: %w", address, err)
	}
	return nil
}
