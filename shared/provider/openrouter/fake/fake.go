// Package fake is OpenRouter's management of API keys as a server in memory: accounts with their
// workspaces and keys, behind the same paths, bodies and errors as the real service, closely enough
// that OpenRouter's official SDK works against it unchanged (see the sdktest package beside it).
//
// What OpenRouter does is taken from its published API definition and documentation (autumn 2026);
// [Switches] choose where these leave room. A key's secret is in the answer that created it and
// nowhere else.
//
// It goes wrong by a [fault.Rule], whose Op is a route such as "DELETE /api/v1/keys/{hash}". Over
// HTTP, GET /_fake/state shows what there is, and faults are under /_fake/faults:
// [fault.Rules.Control].
package fake

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"managed-credentials/shared/local/fault"
)

// ManagementKey is a management key of Account, and opens nothing but a fake. Workspace is the id
// of the account's default workspace.
const (
	ManagementKey = "sk-or-v1-ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	Account       = "org_2f6b1c5e8d"
	Workspace     = "5b0a3a52-9d2f-4f53-9a0f-7e6c1a2b3c4d"
)

// Config is how a Server starts out.
type Config struct {
	// ManagementKey is the one that is accepted at first. Empty: the constant of the same name.
	ManagementKey string
	// Now is the time by which timestamps are given. It is called with a lock held and must not
	// call the Server. Nil: time.Now.
	Now func() time.Time
	// Switches is how OpenRouter behaves where that is uncertain or varies.
	Switches Switches
}

// Switches choose between behaviours that OpenRouter is known, or has to be assumed, to have. All
// may be changed while serving.
type Switches struct {
	// PageSize is how many keys a page has. Zero: 100.
	PageSize int
	// HideKeys answers every call about one key with 404, as a replica that lags does. The list has
	// it.
	HideKeys bool
	// ListHides leaves these keys, by their hashes, out of lists.
	ListHides []string
	// DeletedFalse answers deletions with 200 and "deleted":false, and deletes nothing.
	DeletedFalse bool
	// PlainErrors answers with errors that are no JSON, as what stands before OpenRouter does.
	PlainErrors bool
	// CallsPerSecond is how many calls are taken in a second; the others are answered with 429 and,
	// unless Curt, Retry-After: 1. Zero: any number.
	CallsPerSecond int
	Curt           bool
}

// Key is a key as the fake keeps it.
type Key struct {
	Hash      string    `json:"hash"`
	Name      string    `json:"name"`
	Workspace string    `json:"workspace_id"`
	Disabled  bool      `json:"disabled"`
	Limit     *float64  `json:"limit"`
	Reset     *string   `json:"limit_reset"`
	Usage     float64   `json:"usage"`
	CreatedAt time.Time `json:"created_at"`
	// UpdatedAt and ExpiresAt are zero for never.
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`

	secret      string
	includeBYOK bool
}

// Server is an OpenRouter. It is an http.Handler, safe for any number of concurrent requests, made
// by New.
type Server struct {
	*fault.Rules

	api http.Handler
	now func() time.Time

	mu       sync.Mutex
	switches Switches
	// accounts are those of the management keys, and workspaces the ids of an account's.
	accounts   map[string]string
	workspaces map[string][]string
	keys       []Key // the newest first
	expires    map[string]time.Time
	second     time.Time
	taken      int
}

// New returns a server with one account, which has one workspace.
func New(c Config) *Server {
	if c.ManagementKey == "" {
		c.ManagementKey = ManagementKey
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{
		Rules: fault.NewRules(c.Now), now: c.Now, switches: c.Switches,
		accounts: map[string]string{}, workspaces: map[string][]string{}, expires: map[string]time.Time{},
	}
	s.accounts[c.ManagementKey] = Account
	s.workspaces[Account] = []string{Workspace}
	s.api = s.Front(s.routes(), func(status int, _ string) fault.Fault { return Status(status) })
	return s
}

// Switches are those in force.
func (s *Server) Switches() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches
}

// SetSwitches has all switches take effect at once.
func (s *Server) SetSwitches(switches Switches) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.switches = switches
}

// AcceptManagementKey accepts a key from now on, of an account with these workspaces beside those
// that it has.
func (s *Server) AcceptManagementKey(key, account string, workspaces ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[key] = account
	s.workspaces[account] = append(s.workspaces[account], workspaces...)
}

// RejectManagementKey accepts a key no longer.
func (s *Server) RejectManagementKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accounts, key)
}

// ExpireManagementKey says when a management key expires. It goes on working.
func (s *Server) ExpireManagementKey(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires[key] = at
}

// Keys are all keys, the newest first.
func (s *Server) Keys() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys)
}

// Seed adds a key, the newest. What it does not say gets a value.
func (s *Server) Seed(k Key) Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(k)
}

func (s *Server) add(k Key) Key {
	k.Hash, k.secret, k.CreatedAt = random(), "sk-or-v1-"+random(), s.now().UTC()
	if k.Workspace == "" {
		k.Workspace = Workspace
	}
	s.keys = slices.Insert(s.keys, 0, k)
	return k
}

// Change changes the key with this hash, and reports whether there is one.
func (s *Server) Change(hash string, change func(*Key)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(hash)
	if i >= 0 {
		change(&s.keys[i])
	}
	return i >= 0
}

// Drop deletes the key with this hash.
func (s *Server) Drop(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(k Key) bool { return k.Hash == hash })
}

// Identify returns the hash of the key that a secret is, and whether it opens anything.
func (s *Server) Identify(secret string) (hash string, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.keys, func(k Key) bool { return k.secret == secret })
	if i < 0 {
		return "", false
	}
	return s.keys[i].Hash, s.works(s.keys[i])
}

func (s *Server) works(k Key) bool {
	spent := k.Limit != nil && k.Usage >= *k.Limit
	return !k.Disabled && !spent && (k.ExpiresAt.IsZero() || k.ExpiresAt.After(s.now()))
}

func (s *Server) find(hash string) int {
	return slices.IndexFunc(s.keys, func(k Key) bool { return k.Hash == hash })
}

// random is 32 random bytes in hexadecimal digits.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
