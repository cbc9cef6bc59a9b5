package fake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const controlPrefix = "/_fake/"

// controlHandler serves what the package comment lists.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_fake/state", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, s.State())
	})
	mux.HandleFunc("POST /_fake/reset", func(w http.ResponseWriter, r *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_fake/faults", s.controlInject)
	mux.HandleFunc("DELETE /_fake/faults", func(w http.ResponseWriter, r *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /_fake/faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		found(w, s.RemoveFault(r.PathValue("id")))
	})
	mux.HandleFunc("POST /_fake/faults/{id}/release", func(w http.ResponseWriter, r *http.Request) {
		found(w, s.Release(r.PathValue("id")))
	})
	mux.HandleFunc("GET /_fake/switches", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, switchesJSON(s.Switches()))
	})
	mux.HandleFunc("PATCH /_fake/switches", s.controlSwitches)
	mux.HandleFunc("POST /_fake/pods", func(w http.ResponseWriter, r *http.Request) {
		var p Pod
		if read(w, r, &p) {
			reply(w, http.StatusOK, s.SeedPod(p))
		}
	})
	mux.HandleFunc("PUT /_fake/org-keys", func(w http.ResponseWriter, r *http.Request) {
		var in orgKeyBody
		if read(w, r, &in) {
			s.AcceptOrgKey(in.Key, in.OrganizationID)
			s.ExpireOrgKey(in.Key, in.ExpiresAt)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("DELETE /_fake/org-keys", func(w http.ResponseWriter, r *http.Request) {
		var in orgKeyBody
		if read(w, r, &in) {
			s.RejectOrgKey(in.Key)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	return mux
}

type orgKeyBody struct {
	Key            string `json:"key"`
	OrganizationID string `json:"organization_id"`
	// ExpiresAt is when the key ends; zero: never.
	ExpiresAt time.Time `json:"expires_at"`
}

// faultBody is a Fault with its durations as text.
type faultBody struct {
	Fault
	Before duration `json:"before"`
	Late   duration `json:"late"`
	After  duration `json:"after"`
}

func (s *Server) controlInject(w http.ResponseWriter, r *http.Request) {
	var in faultBody
	if !read(w, r, &in) {
		return
	}
	f := in.Fault
	f.Before, f.Late, f.After = time.Duration(in.Before), time.Duration(in.Late), time.Duration(in.After)
	known := f.Operation == "" || slices.ContainsFunc(routes, func(r route) bool { return r.operation == f.Operation })
	if !known {
		reply(w, http.StatusBadRequest, map[string]string{"message": fmt.Sprintf("no operation is called %q", f.Operation)})
		return
	}
	for _, a := range []*Answer{f.Instead, f.Then} {
		if a != nil && a.Status != 0 && (a.Status < 200 || a.Status > 599) {
			reply(w, http.StatusBadRequest, map[string]string{"message": fmt.Sprintf("%d is not the status of an answer", a.Status)})
			return
		}
	}
	reply(w, http.StatusOK, map[string]string{"id": s.Inject(f)})
}

// switchesBody is Switches with its durations as text.
type switchesBody struct {
	Switches
	InboxDeletion duration `json:"inbox_deletion"`
	KeyOutlives   duration `json:"key_outlives"`
	PodLingers    duration `json:"pod_lingers"`
}

func switchesJSON(s Switches) switchesBody {
	return switchesBody{s, duration(s.InboxDeletion), duration(s.KeyOutlives), duration(s.PodLingers)}
}

func (s *Server) controlSwitches(w http.ResponseWriter, r *http.Request) {
	in := switchesJSON(s.Switches())
	if !read(w, r, &in) {
		return
	}
	out := in.Switches
	out.InboxDeletion, out.KeyOutlives, out.PodLingers = time.Duration(in.InboxDeletion), time.Duration(in.KeyOutlives), time.Duration(in.PodLingers)
	s.SetSwitches(out)
	reply(w, http.StatusOK, switchesJSON(out))
}

// duration is a time.Duration as text. UntilReleased is "released".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) {
	return []byte(time.Duration(d).String()), nil
}

func (d *duration) UnmarshalText(text []byte) error {
	if string(text) == "released" {
		*d = duration(UntilReleased)
		return nil
	}
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// read decodes a control request. A member that does not exist is an error: it would be a fault
// that never happens.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
	}
	return err == nil
}

func found(w http.ResponseWriter, ok bool) {
	if !ok {
		reply(w, http.StatusNotFound, map[string]string{"message": "no such fault"})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func reply(w http.ResponseWriter, status int, body any) {
	answer{status: status, body: body}.write(w)
}
