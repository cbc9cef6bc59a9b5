// Package fake is the part of OpenAI's administration that manages projects, service accounts and
// their keys, as a server in memory: organisations behind the same paths, bodies and errors as the
// real service, closely enough that OpenAI's official SDK works against it unchanged (see the
// sdktest package beside it).
//
// What OpenAI does is taken from its published API definition and the types of its SDK (autumn
// 2026); [Switches] choose where these leave room. A key's secret is in the answer that created it
// and nowhere else.
//
// It goes wrong by a [fault.Rule], whose Op is a route such as "DELETE
// /v1/organization/projects/{project}/service_accounts/{id}". Over HTTP, GET /_fake/state shows
// what there is, and faults are under /_fake/faults: [fault.Rules.Control].
package fake

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"managed-credentials/shared/local/fault"
)

// AdminKey is an admin key of Organization, and opens nothing but a fake. Project is the id of a
// project there.
const (
	AdminKey     = "sk-admin-ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	Organization = "org-2f6b1c5e8d"
	Project      = "proj_5b0a3a529d2f4f53"
)

// Config is how a Server starts out.
type Config struct {
	// Now is the time by which timestamps are given. It is called with a lock held and must not
	// call the Server. Nil: time.Now.
	Now func() time.Time
	// Switches is how OpenAI behaves where that is uncertain or varies.
	Switches Switches
}

// Switches choose between behaviours that OpenAI is known, or has to be assumed, to have. All may
// be changed while serving.
type Switches struct {
	// PageSize is how many a page has at most, whatever is asked for. Zero: as many as is asked
	// for.
	PageSize int
	// HideAccounts answers every call about one account with 404, as a replica that lags does. The
	// list has it.
	HideAccounts bool
	// ListHides leaves these accounts, by their ids, out of lists.
	ListHides []string
	// ListsLag is how old lists are.
	ListsLag time.Duration
	// LostCursors refuses to go on after what has been deleted meanwhile.
	LostCursors bool
	// DeletedFalse answers deletions with 200 and "deleted":false, and deletes nothing.
	DeletedFalse bool
	// KeysOutlive has a deleted account's keys go on working, and be listed.
	KeysOutlive bool
	// KeysStay refuses to delete a service account's key by itself.
	KeysStay bool
	// LongestLife is an organisation's policy: how many seconds a key may live at most, and has to
	// be made with. Zero: there is none.
	LongestLife int64
	// PlainErrors answers with errors that are no JSON, as what stands before OpenAI does.
	PlainErrors bool
	// CallsPerSecond is how many calls are taken in a second; the others are answered with 429 and,
	// unless Curt, Retry-After: 1. Zero: any number.
	CallsPerSecond int
	Curt           bool
}

// Account is a service account as the fake keeps it.
type Account struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Project   string    `json:"project"`
	CreatedAt time.Time `json:"created_at"`

	role    string
	deleted time.Time // zero for never
}

// Key is a service account's key as the fake keeps it.
type Key struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Account   string    `json:"account"`
	CreatedAt time.Time `json:"created_at"`
	// ExpiresAt is zero for never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`

	secret  string
	deleted time.Time
}

// project is a project as the fake keeps it.
type project struct {
	id, organization  string
	created, archived time.Time
}

// Server is an OpenAI. It is an http.Handler, safe for any number of concurrent requests, made by
// New.
type Server struct {
	*fault.Rules

	api http.Handler
	now func() time.Time

	mu       sync.Mutex
	switches Switches
	admins   map[string]string // the organisations of the admin keys
	projects []project
	accounts []Account // the newest last; those that were deleted, too
	keys     []Key
	second   time.Time
	taken    int
}

// New returns a server with one organisation, which has one project.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{Rules: fault.NewRules(c.Now), now: c.Now, switches: c.Switches, admins: map[string]string{}}
	s.AcceptAdminKey(AdminKey, Organization, Project)
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

// AcceptAdminKey accepts a key from now on, of an organisation with these projects beside those
// that it has.
func (s *Server) AcceptAdminKey(key, organization string, projects ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admins[key] = organization
	for _, id := range projects {
		s.projects = append(s.projects, project{id: id, organization: organization, created: s.now()})
	}
}

// RejectAdminKey accepts a key no longer.
func (s *Server) RejectAdminKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.admins, key)
}

// Archive archives a project: nothing is in it any more.
func (s *Server) Archive(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.archive(id)
}

func (s *Server) archive(id string) {
	i := slices.IndexFunc(s.projects, func(p project) bool { return p.id == id })
	s.projects[i].archived = s.now()
	for _, a := range s.accounts {
		if a.Project == id && a.deleted.IsZero() {
			s.deleteAccount(a.ID)
		}
	}
}

// Accounts are all service accounts, the newest first.
func (s *Server) Accounts() []Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	accounts := slices.DeleteFunc(slices.Clone(s.accounts), func(a Account) bool { return !a.deleted.IsZero() })
	slices.Reverse(accounts)
	return accounts
}

// Keys are all service accounts' keys, the newest first.
func (s *Server) Keys() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.DeleteFunc(slices.Clone(s.keys), func(k Key) bool { return !k.deleted.IsZero() })
	slices.Reverse(keys)
	return keys
}

// Seed adds an account of that name to a project, the newest, with a key, and returns its id.
func (s *Server) Seed(project, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.addAccount(Account{Name: name, Project: project, role: "member"})
	s.addKey(Key{Name: defaultKeyName, Account: a.ID})
	return a.ID
}

func (s *Server) addAccount(a Account) Account {
	a.ID, a.CreatedAt = "svc_acct_"+random(24), s.now().UTC()
	s.accounts = append(s.accounts, a)
	return a
}

func (s *Server) addKey(k Key) Key {
	k.ID, k.secret, k.CreatedAt = "key_"+random(16), "sk-svcacct-"+random(48), s.now().UTC()
	s.keys = append(s.keys, k)
	return k
}

// Drop deletes an account, and its keys with it.
func (s *Server) Drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteAccount(id)
}

// DropKeys deletes an account's keys, and not the account.
func (s *Server) DropKeys(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteKeys(account)
}

func (s *Server) deleteAccount(id string) {
	s.accounts[s.account(id)].deleted = s.now()
	if !s.switches.KeysOutlive {
		s.deleteKeys(id)
	}
}

func (s *Server) deleteKeys(account string) {
	for i := range s.keys {
		if s.keys[i].Account == account && s.keys[i].deleted.IsZero() {
			s.keys[i].deleted = s.now()
		}
	}
}

// Identify returns the id of the account whose key a secret is, and whether it opens anything.
func (s *Server) Identify(secret string) (account string, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.keys, func(k Key) bool { return k.secret == secret })
	if i < 0 {
		return "", false
	}
	k := s.keys[i]
	return k.Account, k.deleted.IsZero() && (k.ExpiresAt.IsZero() || k.ExpiresAt.After(s.now()))
}

// account is where the account with this id is, be it deleted; -1 if there never was one.
func (s *Server) account(id string) int {
	return slices.IndexFunc(s.accounts, func(a Account) bool { return a.ID == id })
}

// random is a random text of so many letters and digits.
func random(n int) string {
	return strings.ToLower(rand.Text() + rand.Text())[:n]
}
