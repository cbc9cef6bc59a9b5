package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	mailfake "managed-credentials/shared/provider/agentmail/fake"
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
	// mark is how each of its secrets begins.
	mark() string

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
		case openrouter.Name:
			r := &router{Server: routerfake.New(routerfake.Config{Now: w.now}), names: map[string]string{}}
			r.AcceptManagementKey(r.foreignOrgKey(), "org_foreign", "22222222-9d2f-4f53-9a0f-7e6c1a2b3c4d")
			all[name], w.orgKeys[name] = r, routerfake.ManagementKey
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

func (m *mail) mark() string { return "am_us_" }

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
		return without(do, "pods", func(pod map[string]any) bool { return pod["client_id"] == user })
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

// router is OpenRouter: keys with names, in one list.
type router struct {
	*routerfake.Server
	names map[string]string // keys by their ids
}

func (r *router) service() service { return routerService }

func (r *router) mark() string { return "sk-or-" }

func (r *router) connect(t transport, _ bool) (managed.Provider, error) {
	p, err := openrouter.New(openrouter.Settings{BaseURL: "http://openrouter.sim", Limit: 5, Workspace: routerfake.Workspace, Transport: t})
	return routerAs{p}, err
}

func (r *router) newOrgKey(rng *rand.Rand) string { return fmt.Sprintf("sk-or-v1-%064x", rng.Uint64()) }

func (r *router) foreignOrgKey() string { return "sk-or-v1-" + strings.Repeat("2", 64) }

func (r *router) acceptOrgKey(key string) { r.AcceptManagementKey(key, routerfake.Account) }

func (r *router) rejectOrgKey(key string) { r.RejectManagementKey(key) }

func (r *router) learn(answer []byte) []string {
	var made struct {
		Data struct{ Hash, Name string }
	}
	_ = json.Unmarshal(answer, &made)
	r.names[made.Data.Hash] = made.Data.Name
	return []string{made.Data.Hash}
}

func (r *router) nameOf(id string) string { return r.names[id] }

func (r *router) target(parts []string, body []byte) (user, key string) {
	key = parts[len(parts)-1]
	name := r.names[key]
	if name == "" {
		_, name, _ = strings.Cut(namesIn(body), " ")
	}
	return userIn(name), key
}

// userIn is the user in the name of a key of OpenRouter's; "" if it is none of ours.
func userIn(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || parts[0] != "managed-credentials" {
		return ""
	}
	return parts[1]
}

func (r *router) lacks(user, path string, do func() (any, error)) (any, error) {
	const list = "/api/v1/keys"
	if path == list {
		return without(do, "data", func(key map[string]any) bool { return userIn(fmt.Sprint(key["name"])) == user })
	}
	if strings.HasPrefix(path, list+"/managed-credentials/"+user+"/") {
		return response(http.StatusNotFound, `{"error":{"code":404,"message":"API key not found"}}`, nil), nil
	}
	return nil, nil
}

func (r *router) holds() []holding {
	var all []holding
	for _, key := range r.Keys() {
		user := userIn(key.Name)
		i := slices.IndexFunc(all, func(h holding) bool { return h.user == user })
		if i < 0 {
			i = len(all)
			all = append(all, holding{user: user, resource: user})
		}
		all[i].keys = append(all[i].keys, key.Hash)
	}
	return all
}

func (r *router) identify(secret string) (user, key string, ok bool) {
	hash, ok := r.Identify(secret)
	return userIn(r.names[hash]), hash, ok
}

func (r *router) removeKey(of credential.Resource, _ string) { r.Drop(of.KeyID) }

func (r *router) removeAll(user, _ string) {
	for _, h := range r.holds() {
		for _, key := range h.keys {
			if h.user == user {
				r.Drop(key)
			}
		}
	}
}

// namesIn are the names that a create gives: the container's and its own.
func namesIn(body []byte) string {
	var in struct {
		ClientID string `json:"client_id"`
		Name     string `json:"name"`
	}
	if len(body) > 0 {
		_ = json.Unmarshal(body, &in)
	}
	return in.ClientID + " " + in.Name
}

// without is an answer to a list that lacks some of its members.
func without(do func() (any, error), member string, lacks func(map[string]any) bool) (any, error) {
	value, err := do()
	res, ok := value.(*http.Response)
	if err != nil || !ok || res.StatusCode != http.StatusOK {
		return value, err
	}
	var page map[string]any
	_ = json.NewDecoder(res.Body).Decode(&page)
	all, _ := page[member].([]any)
	page[member] = slices.DeleteFunc(all, func(one any) bool {
		of, _ := one.(map[string]any)
		return lacks(of)
	})
	body, err := json.Marshal(page)
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

// mailAs and routerAs are the providers, of which each call says whose it is.
type (
	mailAs   struct{ *agentmail.Provider }
	routerAs struct{ *openrouter.Provider }
)

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

// Provision implements managed.Provider.
func (p routerAs) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	return p.Provider.Provision(by(ctx, p, a.User, a.Number), org, a)
}

// Sweep implements managed.Provider.
func (p routerAs) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return p.Provider.Sweep(by(ctx, p, a.User, a.Number), org, a)
}

// Deprovision implements managed.Provider.
func (p routerAs) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	return p.Provider.Deprovision(by(ctx, p, a.User, a.Number), org, a)
}

// Inspect implements managed.Provider.
func (p routerAs) Inspect(ctx context.Context, org credential.Secret, user string, r credential.Resource) ([]managed.HeldKey, error) {
	return p.Provider.Inspect(by(ctx, p, user, 0), org, user, r)
}
