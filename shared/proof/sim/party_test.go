package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/thirdparty"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	mailfake "managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/provider/ayrshare"
	ayrsharefake "managed-credentials/shared/provider/ayrshare/fake"
	"managed-credentials/shared/provider/fakes"
	"managed-credentials/shared/provider/openai"
	openaifake "managed-credentials/shared/provider/openai/fake"
	"managed-credentials/shared/provider/openrouter"
	routerfake "managed-credentials/shared/provider/openrouter/fake"
)

// party is a third party: its fake, the real provider that speaks to it, and what the observers ask
// about it.
type party interface {
	http.Handler

	// service is what an outage is of.
	service() service
	// connect returns the provider, as one process has it.
	connect(t transport, adopts bool) (managed.Provider, error)
	// tells reports whether a text has one of its secrets in it.
	tells(text string) bool

	// newOrgKey draws another org key, and foreignOrgKey is that of an organisation which has
	// nothing to do with ours.
	newOrgKey(rng *rand.Rand) string
	foreignOrgKey() string
	acceptOrgKey(key string)
	rejectOrgKey(key string)

	// learn gives a name to what a create has made, and returns the ids of the keys among that.
	learn(answer []byte) []string
	// nameOf is the name of what has an id; "" if it was never seen.
	nameOf(id string) string
	// target is whose a call is, and the id of the key that it is about, if it is about one alone.
	target(parts []string, body []byte) (user, key string)
	// lacks is the answer of a replica that does not know what the user has, to a call that reads:
	// nil if there is nothing of theirs in it.
	lacks(user, path string, do func() (any, error)) (any, error)

	// holds is what there is of all users.
	holds() []holding
	// identify is whose key a secret is, and its id.
	identify(secret string) (user, key string, ok bool)
	// removeKey removes a key by hand, and removeAll all that a user has.
	removeKey(r credential.Resource, orgKey string)
	removeAll(user, orgKey string)
}

// holding is what a third party has of a user: a container, or what stands for one, with keys.
type holding struct {
	user, resource string
	keys           []string // those of ours, by their ids
	// before says that it was there before the user came.
	before bool
}

// parties are those that a schedule has, by the names of their providers.
func newParties(w *world) map[string]party {
	all := map[string]party{}
	for _, name := range w.config.providers {
		switch name {
		case agentmail.Name:
			w.mail = &mail{
				Server: mailfake.New(mailfake.Config{
					Now: w.now, Switches: mailfake.Switches{PodLingers: w.config.lingers, InboxDeletion: w.config.inboxes},
				}),
				podNames: map[string]string{}, clientIDs: map[string]string{}, counts: map[string]int{}, keyNames: map[string]string{},
			}
			w.mail.AcceptOrgKey(w.mail.foreignOrgKey(), "22222222-6a52-4b0f-9d3c-5f1e2b7a8c90")
			all[name], w.orgKeys[name] = w.mail, mailfake.OrgKey
		default:
			l := newListed(name, w.now)
			if s, ok := l.Handler.(*ayrsharefake.Server); ok {
				s.SetSwitches(ayrsharefake.Switches{ListsLag: fault.Duration(w.config.listsLag)})
			}
			all[name], w.orgKeys[name] = l, l.OrgKey
		}
	}
	return all
}

// mail is AgentMail: a pod for each user, with keys in it.
type mail struct {
	*mailfake.Server
	podNames  map[string]string // pods by their ids: client_id and a number
	clientIDs map[string]string // likewise
	counts    map[string]int    // of a client_id's pods
	keyNames  map[string]string // keys by their ids
}

func (m *mail) service() service { return mailService }

func (m *mail) tells(text string) bool { return strings.Contains(text, "am_us_") }

func (m *mail) connect(t transport, adopts bool) (managed.Provider, error) {
	p, err := agentmail.New(agentmail.Config{BaseURL: "http://agentmail.sim", Transport: t, Adopts: adopts, Permissions: "null"})
	return mailAs{p}, err
}

func (m *mail) newOrgKey(rng *rand.Rand) string { return fmt.Sprintf("am_us_%064x", rng.Uint64()) }

func (m *mail) foreignOrgKey() string { return "am_us_" + strings.Repeat("2", 64) }

func (m *mail) acceptOrgKey(key string) { m.AcceptOrgKey(key, "") }

func (m *mail) rejectOrgKey(key string) { m.RejectOrgKey(key) }

func (m *mail) learn(answer []byte) []string {
	var made struct {
		PodID    string `json:"pod_id"`
		ClientID string `json:"client_id"`
		KeyID    string `json:"api_key_id"`
		Name     string `json:"name"`
	}
	_ = json.Unmarshal(answer, &made)
	if made.KeyID != "" {
		m.keyNames[made.KeyID] = made.Name
		return []string{made.KeyID}
	}
	m.learnPod(made.PodID, made.ClientID)
	return nil
}

func (m *mail) learnPod(id, clientID string) {
	if id == "" || m.podNames[id] != "" {
		return
	}
	m.counts[clientID]++
	m.podNames[id] = "(pod " + clientID + " " + strconv.Itoa(m.counts[clientID]) + ")"
	m.clientIDs[id] = clientID
}

func (m *mail) nameOf(id string) string {
	if name := m.podNames[id]; name != "" {
		return name
	}
	return m.keyNames[id]
}

func (m *mail) target(parts []string, body []byte) (user, key string) {
	if len(parts) < 3 {
		return "", ""
	}
	user = m.clientIDs[parts[min(3, len(parts)-1)]]
	if user == "" && len(parts) == 3 { // a pod's creation
		user, _, _ = strings.Cut(namesIn(body), " ")
	}
	if len(parts) == 6 && parts[4] == "api-keys" {
		key = parts[5]
	}
	return user, key
}

func (m *mail) lacks(user, path string, do func() (any, error)) (any, error) {
	if strings.Contains(path, "(pod "+user+" ") {
		return response(http.StatusNotFound, `{"code":"not_found"}`, nil), nil
	}
	if path == "/v0/pods" {
		return without(do, func(pod string) bool { return strings.Contains(pod, `"client_id":"`+user+`"`) })
	}
	return nil, nil
}

func (m *mail) holds() []holding {
	var all []holding
	for _, pod := range m.Pods() {
		if pod.ClientID == "" {
			continue
		}
		h := holding{user: pod.ClientID, resource: pod.ID, before: pod.Name == adopted}
		for _, key := range ours(pod) {
			h.keys = append(h.keys, key.ID)
		}
		all = append(all, h)
	}
	return all
}

// ours are the keys in the pod that carry the engine's names.
func ours(pod mailfake.Pod) []mailfake.Key {
	return slices.DeleteFunc(slices.Clone(pod.Keys), func(key mailfake.Key) bool {
		return !strings.HasPrefix(key.Name, pod.ClientID+"-agpt-managed.")
	})
}

// pods are those of a user.
func (m *mail) pods(user string) []mailfake.Pod {
	return slices.DeleteFunc(m.Pods(), func(pod mailfake.Pod) bool { return pod.ClientID != user })
}

func (m *mail) identify(secret string) (user, key string, ok bool) {
	pod, key, ok := m.Identify(secret)
	return m.clientIDs[pod], key, ok
}

// byHand is a call that somebody makes in AgentMail's console.
func (m *mail) byHand(method, path, body, orgKey string) {
	r := httptest.NewRequest(method, "http://agentmail.sim"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+orgKey)
	m.ServeHTTP(httptest.NewRecorder(), r)
}

func (m *mail) removeKey(r credential.Resource, orgKey string) {
	m.byHand(http.MethodDelete, "/v0/pods/"+r.ID+"/api-keys/"+r.KeyID, "", orgKey)
}

// removeAll removes a pod with its keys, if it holds nothing else.
func (m *mail) removeAll(user, orgKey string) {
	for _, pod := range m.pods(user) {
		for _, key := range pod.Keys {
			m.removeKey(credential.Resource{ID: pod.ID, KeyID: key.ID}, orgKey)
		}
		m.byHand(http.MethodDelete, "/v0/pods/"+pod.ID, "", orgKey)
	}
}

// listed is a third party whose keys have names that say whose they are: any of those whose fake
// tells of itself what thirdparty.Fake has.
type listed struct {
	thirdparty.Fake
	of    service
	open  func(http.RoundTripper) (managed.Provider, error)
	names map[string]string // keys by their ids
}

// opens are the providers that speak to those, and where each is.
var opens = map[string]struct {
	of   service
	open func(http.RoundTripper) (managed.Provider, error)
}{
	openrouter.Name: {routerService, func(t http.RoundTripper) (managed.Provider, error) {
		return openrouter.New(openrouter.Settings{BaseURL: "http://openrouter.sim", Limit: 5, Workspace: routerfake.Workspace, Transport: t})
	}},
	openai.Name: {accountsService, func(t http.RoundTripper) (managed.Provider, error) {
		return openai.New(openai.Settings{BaseURL: "http://openai.sim", Project: openaifake.Project, Transport: t})
	}},
	ayrshare.Name: {profilesService, func(t http.RoundTripper) (managed.Provider, error) {
		return ayrshare.New(ayrshare.Settings{BaseURL: "http://ayrshare.sim", Rate: 1000, Transport: t})
	}},
}

func newListed(name string, now func() time.Time) *listed {
	l := &listed{Fake: fakes.New[name](now), of: opens[name].of, open: opens[name].open, names: map[string]string{}}
	l.AcceptOrgKey(l.foreignOrgKey(), true)
	return l
}

func (l *listed) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.Handler.ServeHTTP(w, r) }

func (l *listed) service() service { return l.of }

func (l *listed) connect(t transport, _ bool) (managed.Provider, error) { return l.open(t) }

func (l *listed) tells(text string) bool { return l.Secrets.MatchString(text) }

// newOrgKey is another of the same form, of which each f stands for a digit.
func (l *listed) newOrgKey(rng *rand.Rand) string {
	return strings.Map(func(r rune) rune {
		if r == 'f' || r == 'F' {
			return rune("0123456789"[rng.IntN(10)])
		}
		return r
	}, l.OrgKey)
}

func (l *listed) foreignOrgKey() string {
	return strings.NewReplacer("f", "2", "F", "2").Replace(l.OrgKey)
}

func (l *listed) acceptOrgKey(key string) { l.AcceptOrgKey(key, false) }

func (l *listed) rejectOrgKey(key string) { l.RejectOrgKey(key) }

func (l *listed) learn([]byte) []string {
	var made []string
	for _, key := range l.Keys() {
		if l.names[key.ID] == "" {
			l.names[key.ID] = key.Holder
			made = append(made, key.ID)
		}
	}
	return made
}

func (l *listed) nameOf(id string) string { return l.names[id] }

func (l *listed) target(parts []string, body []byte) (user, key string) {
	key = parts[len(parts)-1]
	name := l.names[key]
	if name == "" {
		name = strings.TrimSpace(namesIn(body))
		if l.names[name] != "" { // is its id, too
			key = name
		}
	}
	return userIn(name), key
}

// userIn is the user in the name of a key; "" if it is none of ours.
func userIn(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || parts[0] != "managed-credentials" {
		return ""
	}
	return parts[1]
}

func (l *listed) lacks(user, path string, do func() (any, error)) (any, error) {
	theirs := "managed-credentials/" + user + "/"
	if strings.Contains(path, theirs) {
		return response(http.StatusNotFound, `{"error":{"code":404,"message":"not found"}}`, nil), nil
	}
	return without(do, func(one string) bool { return strings.Contains(one, theirs) })
}

func (l *listed) holds() []holding {
	var all []holding
	for _, key := range l.Keys() {
		user := userIn(key.Holder)
		i := slices.IndexFunc(all, func(h holding) bool { return h.user == user })
		if i < 0 {
			i = len(all)
			all = append(all, holding{user: user, resource: user})
		}
		all[i].keys = append(all[i].keys, key.ID)
	}
	return all
}

func (l *listed) identify(secret string) (user, key string, ok bool) {
	id, ok := l.Identify(secret)
	return userIn(l.names[id]), id, ok
}

func (l *listed) removeKey(of credential.Resource, _ string) { l.Drop(of.KeyID) }

func (l *listed) removeAll(user, _ string) {
	for _, key := range l.KeysOf(user) {
		l.Drop(key.ID)
	}
}

// namesIn are the names in a body: the container's, and its own.
func namesIn(body []byte) string {
	var in struct {
		ClientID string `json:"client_id"`
		Name     string `json:"name"`
		Title    string `json:"title"`
	}
	if len(body) > 0 {
		_ = json.Unmarshal(body, &in)
	}
	return in.ClientID + " " + in.Name + in.Title
}

// without is an answer that reads, without the members of its list that are so; nil if it is no
// list, or has none of them.
func without(do func() (any, error), lacks func(member string) bool) (any, error) {
	value, err := do()
	res, ok := value.(*http.Response)
	if err != nil || !ok || res.StatusCode != http.StatusOK {
		return value, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var page map[string]json.RawMessage
	_ = json.Unmarshal(body, &page)
	for name, text := range page {
		var all []json.RawMessage
		if json.Unmarshal(text, &all) != nil {
			continue
		}
		all = slices.DeleteFunc(all, func(one json.RawMessage) bool { return lacks(string(one)) })
		page[name], _ = json.Marshal(all)
	}
	body, err = json.Marshal(page)
	return response(http.StatusOK, string(body), nil), err
}

// caller is whose a call is.
type caller struct {
	provider, user string
	attempt        int64 // under whose claim it is made; 0 for none
}

type callerKey struct{}

// callerIn is whose the calls with this context are, as far as that is known.
func callerIn(ctx context.Context) caller {
	who, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		who.user = managed.UserIn(ctx)
	}
	return who
}

// by has each call with the context know whose it is.
func by(ctx context.Context, p managed.Provider, user string, attempt int64) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{p.Name(), user, attempt})
}

// mailAs is AgentMail, of which each call says under which claim it is made: histories tell it.
type mailAs struct{ *agentmail.Provider }

// Provision implements managed.Provider.
func (p mailAs) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	return p.Provider.Provision(by(ctx, p, a.User, a.Number), org, a)
}

// Sweep implements managed.Provider.
func (p mailAs) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return p.Provider.Sweep(by(ctx, p, a.User, a.Number), org, a)
}

// Deprovision implements managed.Provider.
func (p mailAs) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return p.Provider.Deprovision(by(ctx, p, a.User, a.Number), org, a)
}

// Disarm implements managed.Disarmer.
func (p mailAs) Disarm(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return p.Provider.Disarm(by(ctx, p, a.User, a.Number), org, a)
}

// Inspect implements managed.Provider.
func (p mailAs) Inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]managed.HeldKey, error) {
	return p.Provider.Inspect(by(ctx, p, user, 0), org, user, r)
}
