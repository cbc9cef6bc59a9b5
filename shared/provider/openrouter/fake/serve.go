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

// root is where the API's paths begin.
const root = "/api/v1"

const (
	defaultPageSize  = 100
	workspacesAPage  = 50
	maxBody          = 1 << 20
	longestName      = 256
	labelHead        = len("sk-or-v1-") + 3
	labelTail        = 3
	expiryResolution = time.Second
)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+root+"/keys", s.managed(s.create))
	mux.HandleFunc("GET "+root+"/keys", s.managed(s.list))
	mux.HandleFunc("GET "+root+"/keys/{hash}", s.managed(s.one(s.get)))
	mux.HandleFunc("PATCH "+root+"/keys/{hash}", s.managed(s.one(s.patch)))
	mux.HandleFunc("DELETE "+root+"/keys/{hash}", s.managed(s.one(s.delete)))
	mux.HandleFunc("GET "+root+"/workspaces", s.managed(s.listWorkspaces))
	mux.HandleFunc("GET "+root+"/key", s.current)
	mux.HandleFunc("GET /_fake/state", func(w http.ResponseWriter, _ *http.Request) {
		respond.JSON(w, http.StatusOK, map[string][]Key{"keys": append([]Key{}, s.Keys()...)})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { s.refuse(w, http.StatusNotFound, "Not Found") })
	return mux
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, root) && s.tooMany() {
		if !s.Switches().Curt {
			w.Header().Set("Retry-After", "1")
		}
		s.refuse(w, http.StatusTooManyRequests, "Rate limit exceeded")
		return
	}
	s.api.ServeHTTP(w, r)
}

// tooMany takes one call, and reports whether it is one more than this second's.
func (s *Server) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.second) >= time.Second {
		s.second, s.taken = now, 0
	}
	s.taken++
	return s.switches.CallsPerSecond > 0 && s.taken > s.switches.CallsPerSecond
}

// call is a request with the account whose key it brought.
type call struct {
	w          http.ResponseWriter
	r          *http.Request
	workspaces []string
}

func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

// managed lets management keys through. An ordinary one may not manage keys.
func (s *Server) managed(next func(call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		account, ok := s.accounts[bearer(r)]
		workspaces := slices.Clone(s.workspaces[account])
		s.mu.Unlock()
		if ok {
			next(call{w, r, workspaces})
			return
		}
		_, ordinary := s.Identify(bearer(r))
		switch {
		case ordinary:
			s.refuse(w, http.StatusForbidden, "Only management keys can perform this operation")
		default:
			s.refuse(w, http.StatusUnauthorized, "Missing Authentication header")
		}
	}
}

// keyRequest is what a key can be made with, and changed to. What is not there is nil.
type keyRequest struct {
	Name        *string         `json:"name"`
	Disabled    *bool           `json:"disabled"`
	Limit       json.RawMessage `json:"limit"`
	LimitReset  json.RawMessage `json:"limit_reset"`
	IncludeBYOK *bool           `json:"include_byok_in_limit"`
	ExpiresAt   *time.Time      `json:"expires_at"`
	WorkspaceID *string         `json:"workspace_id"`
}

// apply changes the key as the request says, and returns what is wrong with it.
func (in keyRequest) apply(k *Key) string {
	if in.Name != nil {
		k.Name = *in.Name
	}
	if in.Limit != nil {
		k.Limit = nil
		if json.Unmarshal(in.Limit, &k.Limit) != nil || k.Limit != nil && *k.Limit < 0 {
			return "limit: Expected a number from 0 on, or null"
		}
	}
	if in.LimitReset != nil {
		k.Reset = nil
		if json.Unmarshal(in.LimitReset, &k.Reset) != nil || k.Reset != nil && !slices.Contains([]string{"daily", "weekly", "monthly"}, *k.Reset) {
			return "limit_reset: Expected daily, weekly, monthly or null"
		}
	}
	if in.IncludeBYOK != nil {
		k.includeBYOK = *in.IncludeBYOK
	}
	if in.Disabled != nil {
		k.Disabled = *in.Disabled
	}
	if k.Name == "" || len(k.Name) > longestName {
		return "name: Expected a string that is not empty"
	}
	return ""
}

func (s *Server) read(c call) (in keyRequest, ok bool) {
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		s.refuse(c.w, http.StatusBadRequest, "Invalid request parameters")
	}
	return in, err == nil
}

func (s *Server) create(c call) {
	in, ok := s.read(c)
	if !ok {
		return
	}
	k := Key{Workspace: c.workspaces[0]}
	wrong := in.apply(&k)
	if in.WorkspaceID != nil {
		k.Workspace = *in.WorkspaceID
	}
	if in.ExpiresAt != nil {
		k.ExpiresAt = in.ExpiresAt.UTC().Truncate(expiryResolution)
	}
	switch {
	case wrong != "":
		s.refuse(c.w, http.StatusBadRequest, wrong)
		return
	case !slices.Contains(c.workspaces, k.Workspace):
		s.refuse(c.w, http.StatusBadRequest, "workspace_id: No such workspace")
		return
	}
	s.mu.Lock()
	k = s.add(k)
	s.mu.Unlock()
	respond.JSON(c.w, http.StatusCreated, map[string]any{"key": k.secret, "data": shown(k)})
}

func (s *Server) list(c call) {
	workspace := c.workspaces[0]
	query := c.r.URL.Query()
	if query.Has("workspace_id") {
		workspace = query.Get("workspace_id")
	}
	offset, ok := s.offset(c)
	if !ok {
		return
	}
	switches := s.Switches()
	data := []map[string]any{}
	for _, k := range s.Keys() {
		if k.Workspace != workspace || !slices.Contains(c.workspaces, workspace) || slices.Contains(switches.ListHides, k.Hash) ||
			k.Disabled && query.Get("include_disabled") != "true" {
			continue
		}
		data = append(data, shown(k))
	}
	size := switches.PageSize
	if size == 0 {
		size = defaultPageSize
	}
	data = data[min(offset, len(data)):]
	respond.JSON(c.w, http.StatusOK, map[string]any{"data": data[:min(size, len(data))]})
}

// offset is where a list is to begin.
func (s *Server) offset(c call) (offset int, ok bool) {
	text := c.r.URL.Query().Get("offset")
	if text == "" {
		return 0, true
	}
	offset, err := strconv.Atoi(text)
	if err != nil || offset < 0 {
		s.refuse(c.w, http.StatusBadRequest, "offset: Expected a number from 0 on")
		return 0, false
	}
	return offset, true
}

// one finds the key that the path names, if it is in one of the account's workspaces.
func (s *Server) one(do func(call, *Key)) func(call) {
	return func(c call) {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := s.find(c.r.PathValue("hash"))
		if i < 0 || s.switches.HideKeys || !slices.Contains(c.workspaces, s.keys[i].Workspace) {
			s.refuseHeld(c.w, http.StatusNotFound, "API key not found")
			return
		}
		do(c, &s.keys[i])
	}
}

func (s *Server) get(c call, k *Key) {
	respond.JSON(c.w, http.StatusOK, map[string]any{"data": shown(*k)})
}

func (s *Server) patch(c call, k *Key) {
	var in keyRequest
	err := json.NewDecoder(io.LimitReader(c.r.Body, maxBody)).Decode(&in)
	changed := *k
	wrong := in.apply(&changed)
	if err != nil {
		wrong = "Invalid request parameters"
	}
	if wrong != "" {
		s.refuseHeld(c.w, http.StatusBadRequest, wrong)
		return
	}
	changed.UpdatedAt = s.now().UTC()
	*k = changed
	respond.JSON(c.w, http.StatusOK, map[string]any{"data": shown(changed)})
}

func (s *Server) delete(c call, k *Key) {
	if s.switches.DeletedFalse {
		respond.JSON(c.w, http.StatusOK, map[string]bool{"deleted": false})
		return
	}
	hash := k.Hash
	s.keys = slices.DeleteFunc(s.keys, func(k Key) bool { return k.Hash == hash })
	respond.JSON(c.w, http.StatusOK, map[string]bool{"deleted": true})
}

func (s *Server) listWorkspaces(c call) {
	offset, ok := s.offset(c)
	if !ok {
		return
	}
	data := []map[string]any{}
	for i, id := range c.workspaces[min(offset, len(c.workspaces)):] {
		if i == workspacesAPage {
			break
		}
		name := "Workspace " + id[:min(len(id), 4)]
		data = append(data, map[string]any{
			"id": id, "name": name, "slug": strings.ToLower(strings.ReplaceAll(name, " ", "-")), "description": nil,
			"created_at": "2026-01-02T03:04:05Z", "created_by": nil, "updated_at": nil, "default_guardrail_id": "guardrail",
			"default_image_model": nil, "default_provider_sort": nil, "default_text_model": nil, "io_logging_api_key_ids": nil,
			"io_logging_sampling_rate": 1, "is_data_discount_logging_enabled": true, "is_observability_broadcast_enabled": false,
			"is_observability_io_logging_enabled": false,
		})
	}
	respond.JSON(c.w, http.StatusOK, map[string]any{"data": data, "total_count": len(c.workspaces)})
}

// current is what a key may ask about itself. It does not say which one it is.
func (s *Server) current(w http.ResponseWriter, r *http.Request) {
	secret := bearer(r)
	s.mu.Lock()
	account, management := s.accounts[secret]
	k := Key{secret: secret, ExpiresAt: s.expires[secret]}
	i := slices.IndexFunc(s.keys, func(k Key) bool { return k.secret == secret && s.works(k) })
	if i >= 0 {
		k = s.keys[i]
	}
	s.mu.Unlock()
	if !management && i < 0 {
		s.refuse(w, http.StatusUnauthorized, "Missing Authentication header")
		return
	}
	data := shown(k)
	for _, name := range []string{"hash", "name", "disabled", "created_at", "updated_at", "external_user", "workspace_id"} {
		delete(data, name)
	}
	data["is_management_key"], data["is_provisioning_key"], data["is_free_tier"] = management, management, false
	data["allowed_data_regions"], data["organization_id"], data["workspace_id"] = []string{"global"}, nil, nil
	data["rate_limit"] = map[string]any{"interval": "10s", "note": "This field is deprecated and safe to ignore.", "requests": -1}
	data["free_model_daily_requests"] = map[string]any{"limit": 1000, "remaining": 1000, "used": 0}
	if management {
		data["organization_id"] = account
	}
	respond.JSON(w, http.StatusOK, map[string]any{"data": data})
}

// shown is a key as answers show it, without its secret.
func shown(k Key) map[string]any {
	data := map[string]any{
		"hash": k.Hash, "name": k.Name, "disabled": k.Disabled, "workspace_id": k.Workspace, "limit": k.Limit, "limit_reset": k.Reset,
		"include_byok_in_limit": k.includeBYOK, "limit_remaining": nil, "created_at": stamp(k.CreatedAt), "updated_at": stamp(k.UpdatedAt),
		"expires_at": stamp(k.ExpiresAt), "external_user": nil, "creator_user_id": nil,
		"label": k.secret[:min(len(k.secret), labelHead)] + "..." + k.secret[max(0, len(k.secret)-labelTail):],
	}
	if k.Limit != nil {
		data["limit_remaining"] = max(0, *k.Limit-k.Usage)
	}
	for _, span := range []string{"", "_daily", "_weekly", "_monthly"} {
		data["usage"+span], data["byok_usage"+span] = k.Usage, 0
	}
	return data
}

// stamp is a time as OpenRouter writes it; null for never.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	return &text
}

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, status int, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseHeld(w, status, message)
}

// refuseHeld is refuse for those who hold the lock.
func (s *Server) refuseHeld(w http.ResponseWriter, status int, message string) {
	if s.switches.PlainErrors {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<html><h1>%d</h1></html>", status)
		return
	}
	respond.JSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": message}})
}

// Status is a fault that answers with an error of OpenRouter's, and does nothing else.
func Status(status int) fault.Fault {
	return fault.RespondJSON(status, fmt.Sprintf(`{"error":{"code":%d,"message":%q}}`, status, http.StatusText(status)))
}
