package agentmail_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   string // "": the edge's answer, which has none
		class  managed.Class
	}{
		{307, "", managed.Transient},
		{400, "validation_error", managed.Permanent},
		{401, "", managed.Rejected},
		{401, "missing_authorization", managed.Rejected},
		{401, "invalid_token_type", managed.Rejected},
		{401, "unknown_api_key", managed.Rejected},
		{401, "unauthorized", managed.Rejected},
		{401, "api_key_expired", managed.Rejected},
		{403, "", managed.Rejected},
		{403, "limit_exceeded", managed.Quota},
		{403, "missing_permission", managed.Permanent},
		{403, "permission_escalation", managed.Permanent},
		{403, "forbidden", managed.Permanent},
		{403, "account_suspended", managed.Permanent},
		{403, "already_exists", managed.Permanent},
		{403, "brand_new", managed.Permanent},
		{404, "not_found", managed.Transient}, // of a dying pod
		{404, "", managed.Transient},
		{408, "", managed.Transient},
		{409, "cannot_delete", managed.NotYet},
		{409, "resource_deleting", managed.NotYet},
		{409, "race_condition", managed.Transient},
		{409, "conflict", managed.Transient},
		{422, "unprocessable", managed.Permanent},
		{429, "rate_limit_exceeded", managed.RateLimited},
		{429, "", managed.RateLimited},
		{500, "internal_error", managed.Transient},
		{502, "", managed.Transient},
		{503, "service_unavailable", managed.Transient},
		{504, "", managed.Transient},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.code), func(t *testing.T) {
			t.Parallel()
			body := `{"message":"Something"}`
			if c.code != "" {
				body = fmt.Sprintf(`{"name":"SomeError","message":"Something","code":%q,"fix":"Something","docs":"https://docs.agentmail.to"}`, c.code)
			}
			header := http.Header{"Apigw-Requestid": {"req-1="}}
			for _, s := range sendings {
				if s.name == "the pod's deletion" && c.status == http.StatusNotFound {
					continue // that is done
				}
				if s.name == "a key's deletion" && c.status == http.StatusNotFound {
					continue
				}
				m := start(t)
				g := m.ready()
				m.strike(s.match, -1, fault.Respond(c.status, header, []byte(body)))
				err := s.do(t.Context(), m, g)
				want := c.class
				if s.name == "a key's create" && c.code == "permission_escalation" {
					want = managed.Quota // the settings are refused
				}
				wantClass(t, err, want)
				for _, part := range []string{fmt.Sprint(c.status), c.code, "req-1="} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %q does not tell %q", s.name, err, part)
					}
				}
				if strings.Contains(err.Error(), "Something") {
					t.Errorf("%s: %q quotes the answer", s.name, err)
				}
			}
		})
	}
}

func TestALostConnectionIsTransient(t *testing.T) {
	t.Parallel()
	for _, s := range sendings {
		m := start(t)
		g := m.ready()
		m.strike(s.match, -1, fault.Drop())
		wantClass(t, s.do(t.Context(), m, g), managed.Transient)
	}
}
