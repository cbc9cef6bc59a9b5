package functions_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"managed-credentials/shared/local/standin"
)

// What user-cleanup makes of each event: the account is deleted, the user pool is looked at, the
// event is ignored, or it is an error, which its sender repeats and then puts into the dead-letter
// queue.
const (
	deletes = "deletes"
	ignores = "ignores"
	looks   = "looks"
	refuses = "refuses"
	nobody  = "deletes nobody that it knows"
)

var cleanupEvents = map[string]string{
	"admin-delete-user.json":                          deletes,
	"admin-delete-user-empty-error-code.json":         deletes,
	"admin-delete-user-no-parameters.json":            deletes,
	"admin-delete-user-pool-in-additional-data.json":  deletes,
	"admin-delete-user-username-is-anothers-sub.json": deletes,
	"admin-delete-user-username-only.json":            deletes,
	"admin-delete-user-other-pool.json":               ignores,
	"admin-delete-user-refused.json":                  ignores,
	"admin-delete-user-unidentified.json":             refuses,
	"admin-disable-user.json":                         looks,
	"admin-disable-user-name-only.json":               ignores,
	"admin-disable-user-refused.json":                 ignores,
	"admin-disable-user-unidentified.json":            refuses,
	"admin-enable-user.json":                          looks,
	"admin-enable-user-other-pool.json":               ignores,
	"delete-user.json":                                deletes,
	"delete-user-no-pool.json":                        deletes,
	"delete-user-other-pool.json":                     ignores,
	"delete-user-refused.json":                        ignores,
	"direct.json":                                     deletes,
	"direct-empty-user.json":                          refuses,
	"direct-capitals.json":                            deletes,
	"direct-line-break.json":                          refuses,
	"direct-address.json":                             nobody,
	"admin-delete-user-username-no-sub.json":          refuses,
	"trigger-post-delete.json":                        deletes,
	"trigger-post-delete-no-sub.json":                 deletes,
	"trigger-post-delete-name-only.json":              refuses,
	"trigger-account-deletion.json":                   deletes,
	"trigger-other-pool.json":                         ignores,
	"trigger-post-confirmation.json":                  refuses,
	"unknown.json":                                    refuses,
	"delete-account.json":                             deletes,
	"delete-account-named-user.json":                  deletes,
	"delete-account-id-token.json":                    "401",
	"delete-account-no-authorizer.json":               "401",
}

func TestWhatUserCleanupMakesOfEachEvent(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("user-cleanup/events/*.json")
	if err != nil || len(files) != len(cleanupEvents) {
		t.Fatalf("%v, %d files, %d expectations", err, len(files), len(cleanupEvents))
	}
	for _, file := range files {
		want := cleanupEvents[filepath.Base(file)]
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := start(t, map[string]string{"USER_POOL_ID": "us-east-1_Example01"})
			for _, user := range []string{alice, bob} {
				token, err := s.Issuer.AccessToken(user, user) // of users who are not in the pool: they have just been deleted there
				if err != nil {
					t.Fatal(err)
				}
				s.list(token)
			}
			event, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for time := range 2 { // every event comes at least once
				out, err := s.Host.Invoke(t.Context(), "user-cleanup", event)
				got := deletes
				switch {
				case err != nil:
					got = refuses
				case strings.Contains(string(out), `"ignored"`):
					got = ignores
				case strings.Contains(string(out), `"disabled":false`): // there is no such user
					got = looks
				case strings.Contains(string(out), `"known":false`), want == nobody && time > 0: // the tombstone is known
					got = nobody
				case strings.Contains(string(out), `"statusCode":401`):
					got = "401"
				}
				if got != want {
					t.Errorf("it %s: %s %v", got, out, err)
				}
			}
			left := 2
			if want == deletes {
				left = 1
			}
			if n := len(s.AgentMail.Pods()); n != left {
				t.Errorf("AgentMail has %d pods, not %d", n, left)
			}
			if _, ok := s.AgentMail.Pod(bob); !ok {
				t.Error("somebody else's pod is gone")
			}
		})
	}
}

func TestAUserNamedAfterAnothersSubCannotHaveThatOneDeleted(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"USER_POOL_ID": "us-east-1_Example01"})
	s.list(s.token(alice))
	s.Cognito.AddUser(standin.User{Username: "somebody", Sub: alice})
	event, err := os.ReadFile("user-cleanup/events/admin-delete-user-username-only.json")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Host.Invoke(t.Context(), "user-cleanup", event)
	if err == nil || len(s.AgentMail.Pods()) != 1 {
		t.Errorf("%s: AgentMail has %+v", out, s.AgentMail.Pods())
	}
}

func TestADirectCallSaysWhetherTheUserIsKnown(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const counted, warned = `"DeletionsOfUnknown":1`, "compare the user id with the user's sub"
	s.list(s.token(alice))
	for _, c := range []struct{ event, answer string }{
		{`{"user_id":"` + alice + `"}`, `{"pending":[],"known":true}`},
		{`{"user_id":"` + alice + `"}`, `{"pending":[],"known":true}`},
		{`{"user_id":"` + strings.ToUpper(alice) + `"}`, `{"pending":[],"known":true}`},
	} {
		out, err := s.Host.Invoke(t.Context(), "user-cleanup", []byte(c.event))
		if err != nil || string(out) != c.answer {
			t.Errorf("%s: %s, %v", c.event, out, err)
		}
	}
	if strings.Contains(s.log.String(), counted) || strings.Contains(s.log.String(), warned) {
		t.Error("somebody who is known was counted as unknown")
	}
	out, err := s.Host.Invoke(t.Context(), "user-cleanup", []byte(`{"user_id":"`+bob+`"}`))
	if err != nil || string(out) != `{"pending":[],"known":false}` || !s.logs(counted, warned) {
		t.Errorf("of somebody who never listed: %s, %v", out, err)
	}
	s.call("GET", "/credentials", s.token(bob), "").want(t, http.StatusUnauthorized, `{"detail":"This account has been deleted."}`)
}

func TestATriggerGetsItsEventBackWithTheResponseFilled(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"USER_POOL_ID": "us-east-1_Example01"})
	s.list(s.token(alice))
	for _, c := range []struct {
		file     string
		response map[string]any
	}{
		{"trigger-account-deletion.json", map[string]any{"pending": []any{}, "known": true}},
		{"trigger-post-delete.json", map[string]any{"pending": []any{}, "known": true}},
		{"trigger-other-pool.json", map[string]any{"pending": []any{}, "ignored": "another user pool"}},
	} {
		event, err := os.ReadFile(filepath.Join("user-cleanup", "events", c.file))
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Host.Invoke(t.Context(), "user-cleanup", event)
		if err != nil {
			t.Fatal(err)
		}
		want := decode[map[string]any](t, string(event))
		want["response"] = c.response
		if got := decode[map[string]any](t, string(out)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s", c.file, out)
		}
	}
}

func TestAnEventThatNamesTwoUsersDeletesNeither(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	s.list(s.token(bob))
	for event, want := range map[string]string{
		`{"user_id":"` + alice + `","user_id":"` + bob + `"}`: "must not have a name twice",
		`{"User_ID":"` + alice + `"}`:                         "does not say whose account",
		`{"user_id":7}`:                                       "user_id: must be a text",
		`{"user_id":" ` + alice + `"}`:                        "without blanks and control characters",
		`{"triggerSource":"PostDelete","triggerSource":"PostDelete","userName":"` + bob + `"}`: "must not have a name twice",
	} {
		out, err := s.Host.Invoke(t.Context(), "user-cleanup", []byte(event))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", event, out, err)
		}
	}
	if n := len(s.AgentMail.Pods()); n != 2 {
		t.Errorf("AgentMail has %d pods", n)
	}
}
