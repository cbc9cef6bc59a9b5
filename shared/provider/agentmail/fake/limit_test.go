package fake_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"managed-credentials/shared/provider/agentmail/fake"
)

func TestCallsThatComeTooFastAreRefused(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	s := fake.New(fake.Config{Now: func() time.Time { return now }, Switches: fake.Switches{CallsPerSecond: 2, Burst: 3}})
	get := func() *http.Response {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v0/pods", nil)
		r.Header.Set("Authorization", "Bearer "+fake.OrgKey)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result()
	}
	var statuses []int
	for range 5 {
		statuses = append(statuses, get().StatusCode)
	}
	now = now.Add(time.Second)
	for range 3 {
		statuses = append(statuses, get().StatusCode)
	}
	want := []int{200, 200, 200, 429, 429, 200, 200, 429}
	for i, status := range statuses {
		if status != want[i] {
			t.Errorf("the statuses are %v, want %v", statuses, want)
			break
		}
	}
	if res := get(); res.Header.Get("Retry-After") != "1" || s.Limited() != 4 {
		t.Errorf("Retry-After %q, %d refused", res.Header.Get("Retry-After"), s.Limited())
	}
}
