// Package fake is AgentMail as a server in memory: pods, their API keys, inboxes, domains and
// webhooks, behind the same paths, bodies and error shapes as the real service, closely enough that
// AgentMail's official SDK works against it unchanged (see the sdktest package beside it).
//
// It serves three kinds of user. Go tests put a [Server] behind net/http/httptest, make it
// misbehave by a [fault.Rule] and look inside with [Server.State]. Black-box tests do the same
// over HTTP, under /_fake/. People run cmd/agentmail-fake and use curl.
//
//	srv := fake.New(fake.Config{})
//	ts := httptest.NewServer(srv)
//	t.Cleanup(func() { srv.Close(); ts.Close() }) // srv first: it lets go of what is being delayed
//
// What AgentMail does is taken from its published API definition and documentation (October 2026)
// and from recordings of the live service (August 2026). Where these leave room or contradict each
// other, [Switches] choose between the answers. Two things hold throughout: a key's secret is in
// the answer that created it and nowhere else, state, log and control answers included; and "now"
// is Config.Now for everything that AgentMail would finish later, while only the waits of a [Fault]
// take real time.
//
// # Control over HTTP
//
// AgentMail has no path that begins with /_fake/. Bodies are JSON; a duration is a string such as
// "1.5s".
//
//	GET    /_fake/state                what exists and what was called, see [State]
//	POST   /_fake/reset                back to how it started
//	…      /_fake/faults…              faults, see [fault.Rules.Control]; about is a client_id
//	GET    /_fake/switches             the [Switches]
//	PATCH  /_fake/switches             sets those that the body names
//	POST   /_fake/pods                 see [Server.SeedPod]
//	PUT    /_fake/org-keys             {"key","organization_id","expires_at"}, see [Server.AcceptOrgKey], [Server.ExpireOrgKey]
//	DELETE /_fake/org-keys             {"key"}, see [Server.RejectOrgKey]
package fake

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/fault"
)

// OrgKey is the organisation's key unless Config names another. It opens nothing but a fake.
const OrgKey = "am_us_ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

// OrganizationID is the organisation that OrgKey belongs to unless Config names another.
const OrganizationID = "0a9e4c7e-6a52-4b0f-9d3c-5f1e2b7a8c90"

// Config is how a Server starts out, and what Reset goes back to.
type Config struct {
	// OrgKey is the one organisation-wide key that is accepted at first. Empty: the constant of the
	// same name.
	OrgKey string
	// OrganizationID is the organisation that OrgKey belongs to, and also the id of its Default
	// Pod. Empty: the constant of the same name.
	OrganizationID string
	// Now is the time by which timestamps are given and slow things finish. It is called with a
	// lock held and must not call the Server. Nil: time.Now.
	Now func() time.Time
	// Switches is how AgentMail behaves where that is uncertain or varies. Its zero value is the
	// plain, quick AgentMail.
	Switches Switches
}

// Switches choose between behaviours that AgentMail is known, or has to be assumed, to have. All
// may be changed while serving.
type Switches struct {
	Oddities

	// PageSize is how many items a page has when the caller names no limit, and at most. Zero: 20.
	PageSize int `json:"page_size"`
	// EmptyPages puts an empty page that still carries a token before every page.
	EmptyPages bool `json:"empty_pages"`
	// InboxDeletion is how long an inbox goes on holding its pod after its DELETE was answered.
	// Zero: no longer than the answer.
	InboxDeletion time.Duration `json:"-"`
	// HideDeletingInboxes leaves such an inbox out of lists and answers a repeated DELETE with 404.
	// False: it is listed, and the repeat is 202.
	HideDeletingInboxes bool `json:"hide_deleting_inboxes"`
	// KeyOutlives is how long a key goes on working after it was revoked, or has expired. Zero: not
	// at all.
	KeyOutlives time.Duration `json:"-"`
	// PodLingers is how long a deleted pod is still what a POST with its client_id returns. Zero:
	// the client_id is free at once.
	PodLingers time.Duration `json:"-"`
	// DyingPodConflicts answers every other call about such a pod with 409 resource_deleting.
	// False: 404.
	DyingPodConflicts bool `json:"dying_pod_conflicts"`
	// WebhooksDoNotBlock lets a pod be deleted while it has webhooks, which go with it. False: 409
	// cannot_delete.
	WebhooksDoNotBlock bool `json:"webhooks_do_not_block"`
	// CodedKeyErrors answers a key that is not accepted as documented, with 401 and unknown_api_key
	// or api_key_expired. False: with the bare 403 that the live service was seen to give.
	CodedKeyErrors bool `json:"coded_key_errors"`
	// CallsPerSecond is how many calls are taken on average, and Burst how many at once; the others
	// are answered with 429 rate_limit_exceeded and Retry-After: 1. Zero: any number.
	CallsPerSecond float64 `json:"calls_per_second"`
	Burst          int     `json:"burst"`
}

const (
	defaultPageSize = 20
	maxBody         = 4 << 20 // more than AgentMail was seen to read whole
)

// Server is an AgentMail. It is an http.Handler, safe for any number of concurrent requests, made
// by New.
//
// Its faults go by an [Operation] and, as what a call is about, the client_id of a pod, its
// creation included. Requests that the edge refuses, and those that no route serves, run into none.
type Server struct {
	*fault.Rules

	config  Config
	control func() http.Handler

	mu sync.Mutex
	*world
}

// world is everything that Reset throws away. A request that was waiting during a Reset finds
// itself in another world, and is dropped.
type world struct {
	switches    Switches
	pods        []*pod // oldest first
	podByID     map[string]*pod
	addresses   map[string]bool // of all inboxes
	credentials map[secretHash]*credential
	sequence    int64 // orders things that were created within the same tick of the clock

	scheduled []*event

	bucket   bucket
	arrivals map[Operation]int
	requests []*Request
	arrived  chan struct{} // closed and replaced whenever a request arrives
}

// New returns a Server that holds nothing but the organisation's Default Pod.
func New(config Config) *Server {
	if config.OrgKey == "" {
		config.OrgKey = OrgKey
	}
	if config.OrganizationID == "" {
		config.OrganizationID = OrganizationID
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Server{Rules: fault.NewRules(config.Now), config: config}
	s.control = sync.OnceValue(s.controlHandler)
	s.Reset()
	return s
}

// Reset makes the Server as New did: no pods but the Default Pod, no faults, no counts, the
// configured switches and organisation key. Requests that are being delayed are dropped and what
// was still to happen is forgotten.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.world != nil {
		close(s.arrived)
	}
	s.world = &world{
		switches:    s.config.Switches,
		podByID:     map[string]*pod{},
		addresses:   map[string]bool{},
		credentials: map[secretHash]*credential{},
		arrivals:    map[Operation]int{},
		arrived:     make(chan struct{}),
	}
	s.acceptOrgKey(s.config.OrgKey, s.config.OrganizationID)
	s.Forget()
}

// Switches returns the switches as they are now.
func (s *Server) Switches() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches
}

// SetSwitches replaces all switches. It does not change what has begun already: a deletion under
// way keeps its length.
func (s *Server) SetSwitches(switches Switches) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.switches = switches
}

// ServeHTTP is AgentMail, and the control paths beside it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, fault.ControlPrefix) {
		s.control().ServeHTTP(w, r)
		return
	}
	// The whole body is read before anything waits: only then does net/http notice a caller who
	// leaves.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c := s.arrive(r, body)
	a := s.carryOut(r.Context(), c)
	s.finish(c, a)
	w.Header().Set("apigw-requestid", newRequestID())
	a.Write(w)
}

// finish completes the log's entry of a request, before its caller can know the outcome.
func (s *Server) finish(c *call, a *fault.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a != nil {
		c.entry.Status = a.Status
	}
}

// now is the time truncated to what AgentMail's timestamps carry.
func (s *Server) now() time.Time {
	return s.config.Now().UTC().Truncate(time.Millisecond)
}

// stamp is what a new resource gets: its place in the order of creation, and its time.
func (s *Server) stamp() stamp {
	s.sequence++
	now := s.now()
	return stamp{sequence: s.sequence, created: now, updated: now}
}

type stamp struct {
	sequence         int64
	created, updated time.Time
}

func (s stamp) order() int64 { return s.sequence }

// event is something that AgentMail finishes later.
type event struct {
	due   time.Time
	occur func()
}

// after schedules AgentMail's own slowness. Caller holds the lock.
func (s *Server) after(d time.Duration, occur func()) {
	if d <= 0 {
		occur()
		return
	}
	s.scheduled = append(s.scheduled, &event{due: s.now().Add(d), occur: occur})
}

// settle lets everything happen that is due, in order. It is called before anything is looked at or
// done, so that nobody can tell that nothing runs in between. Caller holds the lock.
func (s *Server) settle() {
	now := s.now()
	for {
		next := -1
		for i, e := range s.scheduled {
			if !e.due.After(now) && (next < 0 || e.due.Before(s.scheduled[next].due)) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		s.occur(next)
	}
}

// occur takes one event off the schedule and lets it happen. Caller holds the lock.
func (s *Server) occur(i int) {
	e := s.scheduled[i]
	s.scheduled = append(s.scheduled[:i], s.scheduled[i+1:]...)
	e.occur()
}

// newRequestID looks like API Gateway's.
func newRequestID() string {
	id := make([]byte, 11)
	rand.Read(id)
	return base64.URLEncoding.EncodeToString(id)
}

func newID() string { return uuid.NewString() }
