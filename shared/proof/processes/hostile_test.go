package processes_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/provider"
)

// room is how many credentials of their own a user may have here.
const room = 20

// One user does the worst that the API lets them do, many times at once: they create the largest
// credentials up to the limit and beyond it, change, delete and list them, have their managed keys
// replaced and report good ones as rejected, send what no one should, and delete their account
// while all that goes on. Nobody else notices, no function needs more memory than it has, and in
// the end nothing is left of them.
func TestAHostileUserHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"LEASE": "10s", "PROVISION_BUDGET": "2s", "MAX_CREDENTIALS": fmt.Sprint(room)})
	const hostile = "mallory"
	tokenOfHostile := s.token(hostile)
	stay, leave := map[string]string{}, map[string]string{hostile: tokenOfHostile}
	end := time.Now().Add(*chaos)
	gone := time.Now().Add(*chaos * 2 / 3) // when the account is deleted
	var work sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{} // how often each status was given
	for range 4 {
		work.Go(func() {
			for time.Now().Before(end) {
				status := s.misbehave(hostile, tokenOfHostile)
				mu.Lock()
				answers[status]++
				mu.Unlock()
			}
		})
	}
	work.Go(func() {
		time.Sleep(time.Until(gone))
		s.call("DELETE", "/account", tokenOfHostile, "")
	})
	for i := 0; time.Now().Before(end); i++ {
		user := fmt.Sprintf("user-%03d", i)
		token := s.token(user)
		if i%4 == 0 {
			leave[user] = token
		} else {
			stay[user] = token
		}
		s.use(user, token)
		if i%4 == 0 {
			status, _, _ := s.call("DELETE", "/account", token, "")
			if status != http.StatusNoContent && status != http.StatusAccepted {
				t.Errorf("the account of %s is deleted with %d", user, status)
			}
		}
		s.call("POST", "/local/reconcile", "", "")
	}
	work.Wait()
	if answers[http.StatusCreated] == 0 || answers[http.StatusUnauthorized] == 0 {
		t.Errorf("%s did too little: %v", hostile, answers)
	}
	s.settle(leave)
	s.check(stay, leave)
	fmt.Printf("a hostile user: answers by status %v, while %d users listed and %d accounts were deleted\n", answers, len(stay), len(leave)-1)
}

// use does what every user does, and expects it to be done.
func (s *service) use(user, token string) {
	for _, request := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/credentials", "", http.StatusOK},
		{"POST", "/github/credentials", `{"type":"api_key","title":"mine","api_key":"key of ` + user + `"}`, http.StatusCreated},
		{"GET", "/github/credentials", "", http.StatusOK},
	} {
		status, _, body := s.call(request.method, request.path, token, request.body)
		if status != request.want {
			s.t.Errorf("%s %s of %s is answered with %d: %s", request.method, request.path, user, status, body)
		}
	}
}

// misbehave does one of the things that the user should better not do, and returns the answer's
// status.
func (s *service) misbehave(user, token string) int {
	path := fmt.Sprintf("/provider_%d/credentials", rand.IntN(3))
	largest := fmt.Sprintf(`{"type":"api_key","title":%q,"api_key":%q}`, strings.Repeat("界", 256), strings.Repeat("k", 3900))
	var status int
	switch rand.IntN(9) {
	case 0, 1, 2:
		status, _, _ = s.call("POST", path, token, largest)
	case 3:
		status, _, _ = s.call("PUT", path+"/"+s.anyOf(token, path), token, largest)
	case 4:
		status, _, _ = s.call("DELETE", path+"/"+s.anyOf(token, path), token, "")
	case 5:
		status, _, _ = s.call("GET", "/credentials", token, "")
	case 6: // whoever runs their tasks believes them
		one := provider.Names()[rand.IntN(len(provider.Names()))]
		status, _, _ = s.call("POST", "/local/resolve", "", fmt.Sprintf(`{"sub":%q,"provider":%q,"rejected_attempt":1}`, user, one))
	case 7:
		status, _, _ = s.call("POST", path, token, strings.Repeat("[", 60_000))
	case 8:
		one := provider.Names()[rand.IntN(len(provider.Names()))]
		status, _, _ = s.call("POST", "/"+one+"/managed/replace", token, "")
	}
	return status
}

// anyOf is the id of one of the credentials that a list has; any other if it has none.
func (s *service) anyOf(token, path string) string {
	_, _, body := s.call("GET", path, token, "")
	var all []struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal([]byte(body), &all)
	if err != nil || len(all) == 0 {
		return "00000000-0000-4000-8000-000000000000"
	}
	return all[rand.IntN(len(all))].ID
}
