package fake_test

import (
	"testing"
	"time"

	"managed-credentials/shared/provider/agentmail/fake"
)

func TestAPermissionThatIsNoneIsA400ThatNamesIt(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	id, _ := s.newKey(pod, `{"permissions":{"app_connect":true,"calendar_read":false}}`)
	for method, path := range map[string]string{"POST": pod + "/api-keys", "PATCH": pod + "/api-keys/" + id} {
		r := s.wantCode(400, "validation_error", method, path, `{"permissions":{"inbox_read":true,"provider_connect":true}}`)
		issue := r.body["errors"].([]any)[0].(map[string]any)
		equal(t, issue["path"], []string{"permissions", "provider_connect"})
	}
}

func TestAKeysNameAndPermissionsCanBeChangedAndNothingElse(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{Now: newClock().Now})
	pod := s.pod("c")
	id, secret := s.newKey(pod, `{"name":"k","permissions":{"inbox_read":true},"expires_at":"2026-10-02T12:00:00Z"}`)
	k := s.as(secret)
	k.wantCode(403, "missing_permission", "POST", pod+"/inboxes", "")
	s.want(200, "PATCH", pod+"/api-keys/"+id, `{"name":"renamed","permissions":{"inbox_create":true},"expires_at":"2030-01-01T00:00:00Z"}`)
	k.want(200, "POST", pod+"/inboxes", "")
	k.wantCode(403, "missing_permission", "GET", pod+"/inboxes", "")
	k.wantCode(403, "missing_permission", "PATCH", pod+"/api-keys/"+id, `{"name":"mine"}`)
	key := s.Pods()[0].Keys[0]
	if key.Name != "renamed" || !key.ExpiresAt.Equal(time.Date(2026, 10, 2, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", key)
	}
	s.wantCode(404, "not_found", "PATCH", pod+"/api-keys/none", `{}`)
}

func TestAnInboxIsPausedAndGoesOn(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	inbox := pod + "/inboxes/" + s.want(200, "POST", pod+"/inboxes", "").text("inbox_id")
	if got := s.want(200, "PATCH", inbox, `{"status":"paused"}`).text("status"); got != "paused" || !s.Pods()[0].Inboxes[0].Paused {
		t.Errorf("status %q", got)
	}
	if got := s.want(200, "PATCH", inbox, `{"status":"active","display_name":"D"}`); got.text("status") != "" || got.text("display_name") != "D" {
		t.Errorf("answered %s", got.raw)
	}
	s.wantCode(400, "validation_error", "PATCH", inbox, `{"status":"gone"}`)
	s.wantCode(404, "not_found", "PATCH", pod+"/inboxes/none@agentmail.to", `{}`)
}

func TestWhatAKeyMakesEndsWithIt(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, fake.Config{Now: clock.Now})
	pod := s.pod("c")
	s.ExpireOrgKey(fake.OrgKey, clock.Now().Add(time.Hour))
	id := s.want(200, "GET", "/v0/auth/me", "").text("api_key_id")
	const ends = "2026-10-01T13:00:00.000Z"
	if got := s.want(200, "GET", "/v0/api-keys/"+id, "").text("expires_at"); got != ends {
		t.Errorf("the org key ends %q", got)
	}
	s.wantCode(404, "not_found", "GET", "/v0/api-keys/none", "")
	if got := s.want(200, "POST", pod+"/api-keys", "").text("expires_at"); got != ends {
		t.Errorf("a key without expires_at ends %q", got)
	}
	s.want(200, "POST", pod+"/api-keys", `{"expires_at":"2026-10-01T12:30:00Z"}`)
	s.want(403, "POST", pod+"/api-keys", `{"expires_at":"2026-10-01T13:00:01Z"}`)
	clock.advance(time.Hour)
	s.want(403, "GET", pod, "")
}

func TestOdditiesLastUntilTheyAreSwitchedOff(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	pod := s.pod("c")
	id, _ := s.newKey(pod, "")
	control := s.as("")
	for oddity, c := range map[string]struct {
		method, path string
		status       int
	}{
		`"missing_pods":true`:                    {"GET", pod, 404},
		`"missing_lists":true`:                   {"GET", pod + "/api-keys", 404},
		`"deletion_status":202`:                  {"DELETE", pod + "/api-keys/" + id, 202},
		`"refused_deletions":{"` + id + `":409}`: {"DELETE", pod + "/api-keys/" + id, 409},
	} {
		control.want(200, "PATCH", "/_fake/switches", "{"+oddity+"}")
		s.want(c.status, c.method, c.path, "")
		s.SetSwitches(fake.Switches{})
	}
	control.want(200, "PATCH", "/_fake/switches", `{"empty_lists":true}`)
	if n := len(s.want(200, "GET", pod+"/api-keys", "").items("api_keys")); n != 0 {
		t.Errorf("%d keys are listed", n)
	}
	s.SetSwitches(fake.Switches{})
	control.want(200, "PATCH", "/_fake/switches", `{"round_lists":true,"no_organization_id":true}`)
	first := s.want(200, "GET", "/v0/pods", "")
	again := s.want(200, "GET", "/v0/pods?page_token="+first.text("next_page_token"), "")
	if first.text("next_page_token") == "" || first.raw != again.raw || first.items("pods")[0]["organization_id"] != nil {
		t.Errorf("first %s, then %s", first.raw, again.raw)
	}
}
