package fake

import (
	"net/http"
	"slices"
	"time"

	"managed-credentials/shared/local/fault"
)

// controlHandler serves what the package comment lists.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_fake/state", func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.State())
	})
	mux.HandleFunc("POST /_fake/reset", func(w http.ResponseWriter, r *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	s.Control(mux, func(operation string) bool {
		return slices.ContainsFunc(routes, func(r route) bool { return r.operation == operation })
	}, refusal)
	mux.HandleFunc("GET /_fake/switches", func(w http.ResponseWriter, r *http.Request) {
		reply(w, switchesJSON(s.Switches()))
	})
	mux.HandleFunc("PATCH /_fake/switches", s.controlSwitches)
	mux.HandleFunc("POST /_fake/pods", func(w http.ResponseWriter, r *http.Request) {
		var p Pod
		if fault.ReadControl(w, r, &p) {
			reply(w, s.SeedPod(p))
		}
	})
	mux.HandleFunc("PUT /_fake/org-keys", func(w http.ResponseWriter, r *http.Request) {
		var in orgKeyBody
		if fault.ReadControl(w, r, &in) {
			s.AcceptOrgKey(in.Key, in.OrganizationID)
			s.ExpireOrgKey(in.Key, in.ExpiresAt)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("DELETE /_fake/org-keys", func(w http.ResponseWriter, r *http.Request) {
		var in orgKeyBody
		if fault.ReadControl(w, r, &in) {
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

// switchesBody is Switches with its durations as text.
type switchesBody struct {
	Switches
	InboxDeletion fault.Duration `json:"inbox_deletion"`
	KeyOutlives   fault.Duration `json:"key_outlives"`
	PodLingers    fault.Duration `json:"pod_lingers"`
}

func switchesJSON(s Switches) switchesBody {
	return switchesBody{s, fault.Duration(s.InboxDeletion), fault.Duration(s.KeyOutlives), fault.Duration(s.PodLingers)}
}

func (s *Server) controlSwitches(w http.ResponseWriter, r *http.Request) {
	in := switchesJSON(s.Switches())
	if !fault.ReadControl(w, r, &in) {
		return
	}
	out := in.Switches
	out.InboxDeletion, out.KeyOutlives, out.PodLingers = time.Duration(in.InboxDeletion), time.Duration(in.KeyOutlives), time.Duration(in.PodLingers)
	s.SetSwitches(out)
	reply(w, switchesJSON(out))
}

func reply(w http.ResponseWriter, body any) {
	answer{status: http.StatusOK, body: body}.encode().Write(w)
}
