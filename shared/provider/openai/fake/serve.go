package fake

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/respond"
)

// The API's paths.
const (
	version = "/v1"
	root    = version + "/organization/projects"
)

const (
	defaultLimit   = 20
	mostLimit      = 100
	maxBody        = 1 << 20
	longestName    = 256
	longestLife    = 31_536_000 // in seconds
	defaultKeyName = "Secret Key"
)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(call)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+root+path, s.admin(do))
	}
	handle("GET ", s.listProjects)
	handle("GET /{project}", s.inProject(s.getProject))
	handle("POST /{project}/archive", s.inProject(s.archiveProject))
	handle("POST /{project}/service_accounts", s.inProject(s.createAccount))
	handle("GET /{project}/service_accounts", s.inProject(s.listAccounts))
	handle("GET /{project}/service_accounts/{id}", s.inProject(s.ofAccount(s.getAccount)))
	handle("DELETE /{project}/service_accounts/{id}", s.inProject(s.ofAccount(s.removeAccount)))
	handle("POST /{project}/service_accounts/{id}/api_keys", s.inProject(s.ofAccount(s.createKey)))
	handle("GET /{project}/api_keys", s.inProject(s.listKeys))
	handle("GET /{project}/api_keys/{id}", s.inProject(s.ofKey(s.getKey)))
	handle("DELETE /{project}/api_keys/{id}", s.inProject(s.ofKey(s.removeKey)))
	mux.HandleFunc("GET /_fake/state", func(w http.ResponseWriter, _ *http.Request) {
		respond.JSON(w, http.StatusOK, map[string]any{"service_accounts": append([]Account{}, s.Accounts()...), "api_keys": append([]Key{}, s.Keys()...)})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refuse(w, http.StatusNotFound, problem{message: fmt.Sprintf("Invalid URL (%s %s)", r.Method, r.URL.Path)})
	})
	return mux
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, version) {
		w.Header().Set("x-request-id", "req_"+random(32))
		if s.tooMany(w) {
			return
		}
	}
	s.api.ServeHTTP(w, r)
}

// tooMany takes one call, and refuses it if it is one more than this second's.
func (s *Server) tooMany(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.second) >= time.Second {
		s.second, s.taken = now, 0
	}
	s.taken++
	if s.switches.CallsPerSecond == 0 || s.taken <= s.switches.CallsPerSecond {
		return false
	}
	if !s.switches.Curt {
		w.Header().Set("Retry-After", "1")
	}
	s.refuse(w, http.StatusTooManyRequests, problem{"Rate limit reached for requests", "requests", "rate_limit_exceeded"})
	return true
}

// call is a request with the organisation whose key it brought. The server's lock is held.
type call struct {
	w            http.ResponseWriter
	r            *http.Request
	organization string
	project      project
}

// admin lets admin keys through. An ordinary one may not manage anything.
func (s *Server) admin(next func(call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, ordinary := s.Identify(token)
		s.mu.Lock()
		defer s.mu.Unlock()
		organization, ok := s.admins[token]
		switch {
		case ok:
			next(call{w: w, r: r, organization: organization})
		case ordinary:
			s.refuse(w, http.StatusForbidden, problem{message: "You have insufficient permissions for this operation. Missing scopes: api.management.read."})
		default:
			masked := token[:min(len(token), 3)] + "***" + token[max(0, len(token)-4):]
			s.refuse(w, http.StatusUnauthorized, problem{"Incorrect API key provided: " + masked + ".", "invalid_request_error", "invalid_api_key"})
		}
	}
}

// inProject finds the project that the path names, if it is the organisation's.
func (s *Server) inProject(next func(call)) func(call) {
	return func(c call) {
		i := slices.IndexFunc(s.projects, func(p project) bool { return p.id == c.r.PathValue("project") && p.organization == c.organization })
		if i < 0 {
			s.refuse(c.w, http.StatusNotFound, problem{message: "No project found with id '" + c.r.PathValue("project") + "'."})
			return
		}
		c.project = s.projects[i]
		below := strings.Count(strings.TrimPrefix(c.r.URL.Path, root), "/") > 1
		if below && !c.project.archived.IsZero() {
			s.refuse(c.w, http.StatusBadRequest, problem{message: "The project is archived."})
			return
		}
		next(c)
	}
}

// ofAccount finds the account that the path names, if it is in the project.
func (s *Server) ofAccount(do func(call, *Account)) func(call) {
	return func(c call) {
		i := s.account(c.r.PathValue("id"))
		if i < 0 || s.switches.HideAccounts || !s.accounts[i].deleted.IsZero() || s.accounts[i].Project != c.project.id {
			s.refuse(c.w, http.StatusNotFound, problem{message: "No service account found."})
			return
		}
		do(c, &s.accounts[i])
	}
}

// ofKey finds the key that the path names, if it is in the project.
func (s *Server) ofKey(do func(call, *Key)) func(call) {
	return func(c call) {
		i := slices.IndexFunc(s.keys, func(k Key) bool { return k.ID == c.r.PathValue("id") })
		if i < 0 || !s.keys[i].deleted.IsZero() || s.accounts[s.account(s.keys[i].Account)].Project != c.project.id {
			s.refuse(c.w, http.StatusNotFound, problem{message: "No API key found."})
			return
		}
		do(c, &s.keys[i])
	}
}

func (s *Server) listProjects(c call) {
	var found []entry
	for _, p := range s.projects {
		if p.organization == c.organization && (p.archived.IsZero() || c.r.URL.Query().Get("include_archived") == "true") {
			found = append(found, entry{id: p.id, body: p.body()})
		}
	}
	s.list(c, found)
}

func (s *Server) getProject(c call) { respond.JSON(c.w, http.StatusOK, c.project.body()) }

func (s *Server) archiveProject(c call) {
	s.archive(c.project.id)
	c.project.archived = s.now()
	respond.JSON(c.w, http.StatusOK, c.project.body())
}

// request is what accounts and keys are made with.
type request struct {
	Name        string   `json:"name"`
	AccountOnly bool     `json:"create_service_account_only"`
	ExpiresIn   *int64   `json:"expires_in_seconds"`
	Scopes      []string `json:"scopes"`
}

// read reads a request, and says what is wrong with it.
func (s *Server) read(c call) (in request, wrong string) {
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	most := s.switches.LongestLife
	switch {
	case err != nil:
		wrong = "We could not parse the JSON body of your request."
	case len(in.Name) > longestName:
		wrong = fmt.Sprintf("Invalid 'name': string too long. Expected a string with maximum length %d.", longestName)
	case in.ExpiresIn != nil && (*in.ExpiresIn < 1 || *in.ExpiresIn > longestLife):
		wrong = "Invalid 'expires_in_seconds'."
	case in.ExpiresIn != nil && in.AccountOnly:
		wrong = "'expires_in_seconds' cannot be used with 'create_service_account_only'."
	case most > 0 && !in.AccountOnly && (in.ExpiresIn == nil || *in.ExpiresIn > most):
		wrong = fmt.Sprintf("The organization's policy requires 'expires_in_seconds' of at most %d.", most)
	}
	return in, wrong
}

// expiry is when a key that is made now expires.
func (s *Server) expiry(in request) time.Time {
	if in.ExpiresIn == nil {
		return time.Time{}
	}
	return s.now().UTC().Add(time.Duration(*in.ExpiresIn) * time.Second).Truncate(time.Second)
}

func (s *Server) createAccount(c call) {
	in, wrong := s.read(c)
	if wrong == "" && in.Name == "" {
		wrong = "Missing required parameter: 'name'."
	}
	if wrong != "" {
		s.refuse(c.w, http.StatusBadRequest, problem{message: wrong})
		return
	}
	a := Account{Name: in.Name, Project: c.project.id, role: "member"}
	if in.AccountOnly {
		a.role = "none"
	}
	a = s.addAccount(a)
	body := a.body()
	body["api_key"] = nil
	if !in.AccountOnly {
		body["api_key"] = s.addKey(Key{Name: defaultKeyName, Account: a.ID, ExpiresAt: s.expiry(in)}).made()
	}
	respond.JSON(c.w, http.StatusOK, body)
}

func (s *Server) createKey(c call, a *Account) {
	in, wrong := s.read(c)
	if wrong != "" {
		s.refuse(c.w, http.StatusBadRequest, problem{message: wrong})
		return
	}
	respond.JSON(c.w, http.StatusOK, s.addKey(Key{Name: in.Name, Account: a.ID, ExpiresAt: s.expiry(in)}).made())
}

func (s *Server) listAccounts(c call) {
	var found []entry
	for _, a := range slices.Backward(s.accounts) {
		if a.Project == c.project.id && !slices.Contains(s.switches.ListHides, a.ID) {
			found = append(found, entry{a.ID, a.body(), a.CreatedAt, a.deleted})
		}
	}
	s.list(c, found)
}

func (s *Server) listKeys(c call) {
	access := c.r.URL.Query().Get("owner_project_access")
	var found []entry
	for _, k := range slices.Backward(s.keys) {
		a := s.accounts[s.account(k.Account)]
		active := a.role != "none" && a.deleted.IsZero()
		left := access == "" && !active || access == "active" && !active || access == "inactive" && active
		if a.Project == c.project.id && !left {
			found = append(found, entry{k.ID, k.body(a), k.CreatedAt, k.deleted})
		}
	}
	s.list(c, found)
}

func (s *Server) getAccount(c call, a *Account) { respond.JSON(c.w, http.StatusOK, a.body()) }

func (s *Server) removeAccount(c call, a *Account) {
	if !s.switches.DeletedFalse {
		s.deleteAccount(a.ID)
	}
	s.removed(c, "organization.project.service_account.deleted")
}

func (s *Server) getKey(c call, k *Key) {
	respond.JSON(c.w, http.StatusOK, k.body(s.accounts[s.account(k.Account)]))
}

func (s *Server) removeKey(c call, k *Key) {
	if s.switches.KeysStay {
		s.refuse(c.w, http.StatusBadRequest, problem{message: "The key belongs to a service account."})
		return
	}
	if !s.switches.DeletedFalse {
		k.deleted = s.now()
	}
	s.removed(c, "organization.project.api_key.deleted")
}

func (s *Server) removed(c call, object string) {
	respond.JSON(c.w, http.StatusOK, map[string]any{"object": object, "id": c.r.PathValue("id"), "deleted": !s.switches.DeletedFalse})
}

// entry is something in a list.
type entry struct {
	id               string
	body             map[string]any
	created, deleted time.Time
}

// list answers with a page of what is there, of what was there a while ago if lists lag.
func (s *Server) list(c call, all []entry) {
	query := c.r.URL.Query()
	limit, err := strconv.Atoi(query.Get("limit"))
	if query.Get("limit") == "" {
		limit, err = defaultLimit, nil
	}
	if err != nil || limit < 1 || limit > mostLimit {
		s.refuse(c.w, http.StatusBadRequest, problem{message: "Invalid 'limit': expected an integer from 1 to 100."})
		return
	}
	if s.switches.PageSize > 0 {
		limit = min(limit, s.switches.PageSize)
	}
	at := s.now().Add(-s.switches.ListsLag)
	isThere := func(e entry) bool { return !e.created.After(at) && (e.deleted.IsZero() || e.deleted.After(at)) }
	if after := query.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(e entry) bool { return e.id == after })
		if i < 0 || s.switches.LostCursors && !isThere(all[i]) {
			s.refuse(c.w, http.StatusBadRequest, problem{message: "Invalid 'after'."})
			return
		}
		all = all[i+1:]
	}
	all = slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return !isThere(e) })
	page := all[:min(limit, len(all))]
	body := map[string]any{"object": "list", "data": []any{}, "first_id": nil, "last_id": nil, "has_more": len(all) > limit}
	if len(page) > 0 {
		body["first_id"], body["last_id"] = page[0].id, page[len(page)-1].id
	}
	data := []any{}
	for _, e := range page {
		data = append(data, e.body)
	}
	body["data"] = data
	respond.JSON(c.w, http.StatusOK, body)
}

func (p project) body() map[string]any {
	status := "active"
	if !p.archived.IsZero() {
		status = "archived"
	}
	return map[string]any{
		"id": p.id, "object": "organization.project", "name": "Project " + p.id, "created_at": p.created.Unix(), "archived_at": stamp(p.archived), "status": status,
	}
}

func (a Account) body() map[string]any {
	return map[string]any{
		"id": a.ID, "object": "organization.project.service_account", "name": a.Name, "role": a.role, "created_at": a.CreatedAt.Unix(),
	}
}

// made is a key as the answer shows it that created it.
func (k Key) made() map[string]any {
	return map[string]any{
		"id": k.ID, "object": "organization.project.service_account.api_key", "name": k.Name, "value": k.secret,
		"created_at": k.CreatedAt.Unix(), "expires_at": stamp(k.ExpiresAt),
	}
}

// body is a key as it is shown later.
func (k Key) body(a Account) map[string]any {
	access := "active"
	if a.role == "none" || !a.deleted.IsZero() {
		access = "inactive"
	}
	return map[string]any{
		"id": k.ID, "object": "organization.project.api_key", "name": k.Name, "redacted_value": k.secret[:11] + "***" + k.secret[len(k.secret)-3:],
		"created_at": k.CreatedAt.Unix(), "last_used_at": nil, "expires_at": stamp(k.ExpiresAt), "owner_project_access": access,
		"owner": map[string]any{"type": "service_account", "service_account": a.body()},
	}
}

// stamp is a time in Unix seconds; null for never.
func stamp(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}

// problem is what is wrong with a call. Without a type it is an invalid request.
type problem struct{ message, kind, code string }

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, status int, p problem) {
	if s.switches.PlainErrors {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<html><h1>%d</h1></html>", status)
		return
	}
	if p.kind == "" {
		p.kind = "invalid_request_error"
	}
	body := map[string]any{"message": p.message, "type": p.kind, "param": nil, "code": nil}
	if p.code != "" {
		body["code"] = p.code
	}
	respond.JSON(w, status, map[string]any{"error": body})
}

// Status is a fault that answers with an error of OpenAI's, and does nothing else.
func Status(status int) fault.Fault {
	return fault.RespondJSON(status, fmt.Sprintf(`{"error":{"message":%q,"type":"server_error","param":null,"code":null}}`, http.StatusText(status)))
}
