package fake_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/provider/agentmail/fake"
)

func TestAKeyIsShownOnceAndListedAsTheSDKExpects(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{Now: newClock().Now})
	pod := s.pod("c")
	created := s.want(200, "POST", pod+"/api-keys", `{"name":"k"}`)
	secret := created.text("api_key")
	if !regexp.MustCompile(`^am_us_[0-9a-f]{64}$`).MatchString(secret) {
		t.Errorf("a secret looks like %q", secret)
	}
	podID := strings.TrimPrefix(pod, "/v0/pods/")
	common := map[string]any{
		"organization_id": fake.OrganizationID, "pod_id": podID, "api_key_id": created.text("api_key_id"),
		"prefix": secret[:12], "name": "k", "created_at": "2026-10-01T12:00:00.000Z",
	}
	common["api_key"] = secret
	equal(t, created.body, common)

	listed := s.want(200, "GET", pod+"/api-keys", "")
	delete(common, "api_key")
	common["type"], common["updated_at"] = "bearer", "2026-10-01T12:00:00.000Z"
	equal(t, listed.items("api_keys"), []any{common})

	s.as(secret).want(200, "GET", "/v0/auth/me", "")
	common["used_at"] = "2026-10-01T12:00:00.000Z"
	equal(t, s.want(200, "GET", pod+"/api-keys", "").items("api_keys"), []any{common})
}

func TestEveryKeyCreationMakesAnotherKey(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	first, _ := s.newKey(pod, `{"name":"k"}`)
	second, _ := s.newKey(pod, `{"name":"k"}`)
	if first == second || len(s.Pods()[0].Keys) != 2 {
		t.Error("key creation is idempotent, which AgentMail's is not")
	}
}

func TestAuthMeTellsWhoCalls(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	org := s.want(200, "GET", "/v0/auth/me", "")
	delete(org.body, "api_key_id")
	equal(t, org.body, map[string]any{"scope_type": "organization", "scope_id": fake.OrganizationID, "organization_id": fake.OrganizationID})

	pod := s.pod("c")
	id, secret := s.newKey(pod, "")
	podID := strings.TrimPrefix(pod, "/v0/pods/")
	equal(t, s.as(secret).want(200, "GET", "/v0/auth/me", "").body, map[string]any{
		"scope_type": "pod", "scope_id": podID, "organization_id": fake.OrganizationID, "pod_id": podID, "api_key_id": id,
	})
}

func TestOnlyABearerKeyIsUsable(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	for header, want := range map[string]int{
		"Bearer " + fake.OrgKey: 200,
		"bearer " + fake.OrgKey: 200,
		"Basic " + fake.OrgKey:  401,
		fake.OrgKey:             401,
		"Bearer":                401,
		"Bearer ":               401,
		"Bearer x":              403,
	} {
		req, err := http.NewRequestWithContext(testContext(t), "GET", s.url+"/v0/auth/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%q: status %d, want %d", header, resp.StatusCode, want)
		}
	}
}

func TestAPodKeySeesItsOwnPodAlone(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	own, foreign := s.pod("own"), s.pod("foreign")
	foreignKey, _ := s.newKey(foreign, "")
	_, secret := s.newKey(own, "")
	k := s.as(secret)

	pods := k.want(200, "GET", "/v0/pods", "").items("pods")
	if len(pods) != 1 || "/v0/pods/"+pods[0]["pod_id"].(string) != own {
		t.Errorf("it lists %v", pods)
	}
	k.want(200, "GET", own, "")
	k.want(200, "POST", own+"/inboxes", "")
	second, _ := k.newKey(own, "") // within its pod it may do everything
	k.want(204, "DELETE", own+"/api-keys/"+second, "")
	k.wantCode(403, "forbidden", "POST", "/v0/pods", `{"client_id":"another"}`)
	for _, request := range []string{
		"GET " + foreign, "DELETE " + foreign, "GET " + foreign + "/api-keys", "POST " + foreign + "/api-keys", "DELETE " + foreign + "/api-keys/" + foreignKey,
		"GET " + foreign + "/inboxes", "POST " + foreign + "/inboxes", "GET /v0/pods/" + fake.OrganizationID,
		"DELETE " + own + "/api-keys/" + foreignKey,
	} {
		method, path, _ := strings.Cut(request, " ")
		k.wantCode(404, "not_found", method, path, "")
	}
}

func TestARestrictedKeyMayDoOnlyWhatIsTrue(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	_, secret := s.newKey(pod, `{"permissions":{"api_key_create":true,"inbox_read":true,"inbox_create":false}}`)
	k := s.as(secret)
	k.want(200, "GET", "/v0/auth/me", "")
	k.want(200, "GET", pod+"/inboxes", "")
	refused := k.wantCode(403, "missing_permission", "POST", pod+"/inboxes", "")
	if refused.text("name") != "ForbiddenError" || refused.text("message") != "Forbidden" {
		t.Errorf("refused with %s", refused.raw)
	}
	k.wantCode(403, "missing_permission", "GET", pod, "")
	k.wantCode(403, "missing_permission", "GET", pod+"/api-keys", "")

	k.want(200, "POST", pod+"/api-keys", `{"permissions":{"inbox_read":true,"pod_read":false}}`)
	k.wantCode(403, "permission_escalation", "POST", pod+"/api-keys", `{"permissions":{"pod_read":true}}`)
	k.wantCode(403, "permission_escalation", "POST", pod+"/api-keys", "")

	_, powerless := s.newKey(pod, `{"permissions":{}}`)
	s.as(powerless).wantCode(403, "missing_permission", "GET", pod, "")

	listed := s.want(200, "GET", pod+"/api-keys", "").items("api_keys")
	equal(t, listed[0]["permissions"], map[string]bool{})
	equal(t, listed[len(listed)-1]["permissions"], map[string]bool{"api_key_create": true, "inbox_read": true, "inbox_create": false})
}

func TestARevokedOrExpiredKeyStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		switches fake.Switches
		grace    time.Duration
		revoked  string // what is answered: status and code
		expired  string
	}{
		{"as seen live", fake.Switches{}, 0, "403 ", "403 "},
		{"as documented", fake.Switches{CodedKeyErrors: true}, 0, "401 unknown_api_key", "401 api_key_expired"},
		{"after a while", fake.Switches{KeyOutlives: 5 * time.Minute}, 5 * time.Minute, "403 ", "403 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			s := start(t, fake.Config{Now: clock.Now, Switches: c.switches})
			pod := s.pod("c")
			id, revoked := s.newKey(pod, "")
			_, expired := s.newKey(pod, `{"expires_at":"2026-10-01T12:00:01Z"}`)
			s.as(expired).want(200, "GET", pod, "")
			clock.advance(time.Second)
			s.want(204, "DELETE", pod+"/api-keys/"+id, "")
			if n := len(s.want(200, "GET", pod+"/api-keys", "").items("api_keys")); n != 1 {
				t.Errorf("%d keys are listed, the revoked one included", n)
			}
			if c.grace > 0 {
				clock.advance(c.grace - time.Millisecond)
				s.as(revoked).want(200, "GET", pod, "")
				s.as(expired).want(200, "GET", pod, "")
				clock.advance(time.Millisecond)
			}
			for secret, want := range map[string]string{revoked: c.revoked, expired: c.expired} {
				r := s.as(secret).do("GET", pod, "")
				status := map[int]string{401: "401 ", 403: "403 "}[r.status]
				if status+r.text("code") != want {
					t.Errorf("answered %d %s, want %s", r.status, r.raw, want)
				}
				_, _, accepted := s.Identify(secret)
				if accepted {
					t.Error("Identify accepts it still")
				}
			}
		})
	}
}

func TestOrganisationKeysRotate(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	_, podKey := s.newKey(pod, "")
	s.AcceptOrgKey("new", "")
	s.as("new").want(200, "GET", pod, "")
	s.want(200, "GET", pod, "")
	s.RejectOrgKey(fake.OrgKey)
	s.RejectOrgKey("never accepted")
	s.RejectOrgKey(podKey) // is none
	s.want(403, "GET", pod, "")
	s.as("new").want(200, "GET", pod, "")
	s.as(podKey).want(200, "GET", pod, "")
}

func TestAnOrganisationKeyMayComeToBelongToAnotherOrganisation(t *testing.T) {
	t.Parallel()
	const other = "22222222-2222-4222-8222-222222222222"
	s := start(t, fake.Config{})
	pod := s.pod("c")
	s.newKey(pod, "")
	s.AcceptOrgKey(fake.OrgKey, other)

	if got := s.want(200, "GET", "/v0/auth/me", "").text("organization_id"); got != other {
		t.Errorf("auth/me names %s", got)
	}
	s.wantCode(404, "not_found", "GET", pod, "")
	s.wantCode(404, "not_found", "GET", pod+"/api-keys", "")
	s.wantCode(404, "not_found", "DELETE", pod, "")
	pods := s.want(200, "GET", "/v0/pods", "").items("pods")
	if len(pods) != 1 || pods[0]["pod_id"] != other {
		t.Errorf("it lists %v, want its Default Pod alone", pods)
	}

	s.AcceptOrgKey(fake.OrgKey, "")
	s.want(200, "GET", pod, "")
}
