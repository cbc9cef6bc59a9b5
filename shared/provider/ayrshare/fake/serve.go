package fake

import (
	"cmp"
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

const (
	mostLimit = 5000
	maxBody   = 1 << 20
	timeForm  = "2006-01-02T15:04:05.000Z07:00"
)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, path := range []string{"/api/profiles", "/api/profiles/profile"} { // the second one is the client's
		mux.HandleFunc("POST "+path, s.primary(s.create))
		mux.HandleFunc("DELETE "+path, s.primary(s.remove))
	}
	mux.HandleFunc("GET /api/profiles", s.primary(s.list))
	mux.HandleFunc("GET /api/user", s.primary(s.user))
	mux.HandleFunc("GET /_fake/state", func(w http.ResponseWriter, _ *http.Request) {
		respond.JSON(w, http.StatusOK, map[string]any{"profiles": append([]Profile{}, s.Profiles()...)})
	})
	mux.HandleFunc("GET /_fake/switches", func(w http.ResponseWriter, _ *http.Request) { respond.JSON(w, http.StatusOK, s.Switches()) })
	mux.HandleFunc("PATCH /_fake/switches", func(w http.ResponseWriter, r *http.Request) {
		switches := s.Switches()
		if fault.ReadControl(w, r, &switches) {
			s.SetSwitches(switches)
			respond.JSON(w, http.StatusOK, switches)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refuse(w, http.StatusNotFound, problem{action: "request", message: fmt.Sprintf("The endpoint %s %s does not exist.", r.Method, r.URL.Path)})
	})
	return mux
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") && s.tooMany(w) {
		return
	}
	s.api.ServeHTTP(w, r)
}

// tooMany takes one call, and refuses it if it is one more than this window's.
func (s *Server) tooMany(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.since) >= window {
		s.since, s.taken = now, 0
	}
	s.taken++
	if s.switches.CallsPerWindow == 0 || s.taken <= s.switches.CallsPerWindow {
		return false
	}
	s.refuse(w, http.StatusTooManyRequests, problem{action: "request", code: 429, message: "Too many requests. Please try again later."})
	return true
}

// call is a request with the account whose key it brought. The server's lock is held.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	account string
	body    body
}

// body is what a request may hold.
type body struct {
	Title      string `json:"title"`
	ProfileKey string `json:"profileKey"`
}

// primary lets the API keys of accounts through.
func (s *Server) primary(next func(call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		text, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		c := call{w: w, r: r}
		if err == nil && len(text) > 0 {
			err = json.Unmarshal(text, &c.body)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		var ok bool
		c.account, ok = s.accounts[token]
		switch {
		case !ok:
			s.refuse(w, http.StatusForbidden, problem{action: "authorization", code: 102, message: "API Key not valid. Please check the API key."})
		case err != nil:
			s.refuse(w, http.StatusBadRequest, problem{action: "request", code: 101, message: "The body is not valid JSON."})
		default:
			next(c)
		}
	}
}

// profileKey is the one that a call acts for: of its header, or of its body, where the client has
// it.
func (c call) profileKey() string { return cmp.Or(c.r.Header.Get("Profile-Key"), c.body.ProfileKey) }

// user tells of the profile that the call acts for: the primary one, or that of the profile key.
func (s *Server) user(c call) {
	key := c.profileKey()
	if key == "" {
		respond.JSON(c.w, http.StatusOK, map[string]any{"email": "owner@example.com", "refId": c.account, "title": "Primary Profile", "activeSocialAccounts": []string{}})
		return
	}
	i := s.find(c.account, func(p Profile) bool { return p.secret == key })
	switch {
	case i < 0:
		s.refuse(c.w, http.StatusForbidden, problem{action: "authorization", message: "The Profile Key is not valid."})
	case s.profiles[i].Suspended:
		s.refuse(c.w, http.StatusForbidden, problem{action: "authorization", message: "The profile is suspended."})
	default:
		p := s.profiles[i]
		respond.JSON(c.w, http.StatusOK, map[string]any{"refId": p.RefID, "title": p.Title, "activeSocialAccounts": append([]string{}, p.Networks...)})
	}
}

func (s *Server) create(c call) {
	title := c.body.Title
	switch {
	case title == "":
		s.refuse(c.w, http.StatusBadRequest, problem{action: "request", code: 101, message: "Missing or incorrect parameters. Title is required."})
	case s.find(c.account, func(p Profile) bool { return p.Title == title }) >= 0:
		s.refuse(c.w, cmp.Or(s.switches.DuplicateStatus, http.StatusBadRequest), problem{action: "create profile", message: "Profile title already exists."})
	default:
		p := s.add(c.account, title)
		respond.JSON(c.w, http.StatusOK, map[string]any{"status": "success", "title": p.Title, "refId": p.RefID, "profileKey": p.secret})
	}
}

func (s *Server) remove(c call) {
	key := c.profileKey()
	if key == "" && c.body.Title == "" {
		s.refuse(c.w, http.StatusBadRequest, problem{action: "request", code: 101, message: "Missing or incorrect parameters. A Profile Key or a title is required."})
		return
	}
	i := s.find(c.account, func(p Profile) bool {
		return key != "" && p.secret == key || key == "" && p.Title == c.body.Title && !s.switches.HideTitles
	})
	switch {
	case s.switches.DeletesNothing:
		s.refuse(c.w, http.StatusOK, problem{action: "delete profile", message: "The profile could not be deleted."})
	case i < 0:
		s.refuse(c.w, cmp.Or(s.switches.AbsentStatus, http.StatusNotFound), problem{action: "delete profile", message: "Profile not found."})
	default:
		s.profiles[i].deleted = s.now()
		respond.JSON(c.w, http.StatusOK, map[string]any{"status": "success", "refId": s.profiles[i].RefID})
	}
}

// list answers with a page of what is there, or was there when the list was last renewed. A cursor
// is the number of the last profile that was read, so that pages do not shift.
func (s *Server) list(c call) {
	query := c.r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(query.Get("limit"), strconv.Itoa(mostLimit)))
	from, cursorErr := strconv.Atoi(cmp.Or(query.Get("cursor"), strconv.Itoa(len(s.profiles)+1)))
	if err != nil || cursorErr != nil || limit < 1 || limit > mostLimit {
		s.refuse(c.w, http.StatusBadRequest, problem{action: "request", code: 101, message: "Missing or incorrect parameters."})
		return
	}
	if s.switches.PageSize > 0 {
		limit = min(limit, s.switches.PageSize)
	}
	at, lag := s.now(), time.Duration(s.switches.ListsLag)
	if lag > 0 {
		at = at.Truncate(lag)
	}
	title, refID := query.Get("title"), query.Get("refId")
	shown := []map[string]any{}
	more, last := false, 0
	for _, p := range slices.Backward(s.profiles) {
		isThere := p.Account == c.account && !p.CreatedAt.After(at) && (p.deleted.IsZero() || p.deleted.After(at))
		asked := (title == "" || title == p.Title && !s.switches.HideTitles) && (refID == "" || refID == p.RefID)
		if !isThere || !asked || p.seq >= from {
			continue
		}
		if len(shown) == limit {
			more = true
			break
		}
		shown, last = append(shown, p.body()), p.seq
	}
	pagination := map[string]any{"hasMore": more, "nextCursor": nil, "limit": limit}
	if more {
		pagination["nextCursor"] = strconv.Itoa(last)
	}
	respond.JSON(c.w, http.StatusOK, map[string]any{
		"profiles": shown, "count": len(shown), "pagination": pagination,
		"lastUpdated": at.UTC().Format(timeForm), "nextUpdate": at.Add(lag).UTC().Format(timeForm),
	})
}

// body is a profile as it is listed.
func (p Profile) body() map[string]any {
	b := map[string]any{"status": "active", "title": p.Title, "refId": p.RefID, "createdUTC": p.CreatedAt.Format(timeForm)}
	if len(p.Networks) > 0 {
		b["activeSocialAccounts"] = p.Networks
	}
	if p.Suspended {
		b["suspended"] = true
	}
	return b
}

// problem is what is wrong with a call. Not every one has a code.
type problem struct {
	action  string
	code    int
	message string
}

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, status int, p problem) {
	if s.switches.PlainErrors {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<html><h1>%d</h1></html>", status)
		return
	}
	said := map[string]any{"action": p.action, "status": "error", "message": p.message}
	if p.code != 0 {
		said["code"] = p.code
	}
	respond.JSON(w, status, said)
}

// Status is a fault that answers with an error of Ayrshare's, and does nothing else.
func Status(status int) fault.Fault {
	return fault.RespondJSON(status, fmt.Sprintf(`{"action":"request","status":"error","message":%q}`, http.StatusText(status)))
}
