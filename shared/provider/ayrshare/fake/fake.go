// Package fake is the part of Ayrshare that manages user profiles, as a server in memory: accounts
// behind the same paths, bodies and errors as the real service, closely enough that Ayrshare's
// official client works against it unchanged (see the sdktest package beside it).
//
// What Ayrshare does is taken from its published documentation and that client (autumn 2026);
// [Switches] choose where these leave room. A profile's key is in the answer that created it and
// nowhere else.
//
// It goes wrong by a [fault.Rule], whose Op is a route such as "POST /api/profiles". Over HTTP, GET
// /_fake/state shows what there is, GET and PATCH /_fake/switches the switches, of which a list
// that lags is {"lists_lag":"5m"}, and faults are under /_fake/faults: [fault.Rules.Control].
package fake

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"managed-credentials/shared/local/fault"
)

// APIKey is the key of Account's primary profile, and opens nothing but a fake. Account is that
// profile's id.
const (
	APIKey  = "FFFFFFF-FFFFFFF-FFFFFFF-FFFFFFF"
	Account = "ffffffffffffffffffffffffffffffffffffffff"
)

// Config is how a Server starts out.
type Config struct {
	// Now is the time by which timestamps are given. It is called with a lock held and must not
	// call the Server. Nil: time.Now.
	Now func() time.Time
	// Switches is how Ayrshare behaves where that is uncertain or varies.
	Switches Switches
}

// Switches choose between behaviours that Ayrshare is known, or has to be assumed, to have. All may
// be changed while serving.
type Switches struct {
	// ListsLag is how often lists are renewed. In between they show what there was. Zero: they show
	// what there is.
	ListsLag fault.Duration `json:"lists_lag"`
	// PageSize is how many a page has at most, whatever is asked for. Zero: as many as is asked
	// for.
	PageSize int `json:"page_size"`
	// HideTitles finds no profile by its title, as a replica that lags does. The list has it.
	HideTitles bool `json:"hide_titles"`
	// AbsentStatus is what a deletion is answered with that finds no profile. Zero: 404.
	AbsentStatus int `json:"absent_status"`
	// DuplicateStatus is what a title that there is already is answered with. Zero: 400.
	DuplicateStatus int `json:"duplicate_status"`
	// DeletesNothing answers deletions with 200 and "status":"error", and deletes nothing.
	DeletesNothing bool `json:"deletes_nothing"`
	// PlainErrors answers with errors that are no JSON, as what stands before Ayrshare does.
	PlainErrors bool `json:"plain_errors"`
	// CallsPerWindow is how many calls are taken in five minutes; the others are answered with 429.
	// Zero: any number.
	CallsPerWindow int `json:"calls_per_window"`
}

// window is the time for which calls are counted.
const window = 5 * time.Minute

// Profile is a user profile as the fake keeps it.
type Profile struct {
	Title     string    `json:"title"`
	RefID     string    `json:"refId"`
	Account   string    `json:"account"`
	CreatedAt time.Time `json:"created_at"`
	// Networks are those that the user has linked.
	Networks  []string `json:"activeSocialAccounts"`
	Suspended bool     `json:"suspended"`

	seq     int
	secret  string
	deleted time.Time // zero for never
}

// Server is an Ayrshare. It is an http.Handler, safe for any number of concurrent requests, made by
// New.
type Server struct {
	*fault.Rules

	api http.Handler
	now func() time.Time

	mu       sync.Mutex
	switches Switches
	accounts map[string]string // the primary profiles' ids, by their keys
	profiles []Profile         // the newest last; those that were deleted, too
	since    time.Time
	taken    int
}

// New returns a server with one account.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{Rules: fault.NewRules(c.Now), now: c.Now, switches: c.Switches, accounts: map[string]string{APIKey: Account}}
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

// AcceptAPIKey accepts a key from now on, of the account with that primary profile.
func (s *Server) AcceptAPIKey(key, account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[key] = account
}

// RejectAPIKey accepts a key no longer.
func (s *Server) RejectAPIKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accounts, key)
}

// Profiles are all user profiles, the newest first.
func (s *Server) Profiles() []Profile {
	s.mu.Lock()
	defer s.mu.Unlock()
	profiles := slices.DeleteFunc(slices.Clone(s.profiles), func(p Profile) bool { return !p.deleted.IsZero() })
	slices.Reverse(profiles)
	return profiles
}

// Seed adds a profile of that title to an account, the newest.
func (s *Server) Seed(account, title string) Profile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(account, title)
}

func (s *Server) add(account, title string) Profile {
	id := sha256.Sum256([]byte(rand.Text()))
	p := Profile{Title: title, RefID: hex.EncodeToString(id[:])[:40], Account: account, CreatedAt: s.now().UTC(), seq: len(s.profiles) + 1, secret: newKey()}
	s.profiles = append(s.profiles, p)
	return p
}

// newKey is a random profile key.
func newKey() string {
	text := rand.Text() + rand.Text()
	return text[:7] + "-" + text[7:14] + "-" + text[14:21] + "-" + text[21:28]
}

// Link has the user of the profile with that title link a network.
func (s *Server) Link(title, network string) {
	s.change(title, func(p *Profile) { p.Networks = append(slices.Clone(p.Networks), network) })
}

// Suspend suspends the profile with that title: its key opens nothing.
func (s *Server) Suspend(title string) { s.change(title, func(p *Profile) { p.Suspended = true }) }

// Drop deletes the profile with that title.
func (s *Server) Drop(title string) { s.change(title, func(p *Profile) { p.deleted = s.now() }) }

func (s *Server) change(title string, do func(*Profile)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.profiles, func(p Profile) bool { return p.Title == title && p.deleted.IsZero() })
	if i >= 0 {
		do(&s.profiles[i])
	}
}

// find is where the profile of an account is which is so; -1 if there is none.
func (s *Server) find(account string, is func(Profile) bool) int {
	return slices.IndexFunc(s.profiles, func(p Profile) bool { return p.Account == account && p.deleted.IsZero() && is(p) })
}

// Identify returns the title of the profile whose key a secret is, and whether it opens anything.
func (s *Server) Identify(secret string) (title string, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.profiles, func(p Profile) bool { return p.secret == secret })
	if i < 0 {
		return "", false
	}
	return s.profiles[i].Title, s.profiles[i].deleted.IsZero() && !s.profiles[i].Suspended
}
