package functions_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"managed-credentials/shared/local/cognito"
)

// What user-cleanup makes of each event: the account is deleted, the event is ignored, or it is an error, which its sender repeats and
// then puts into the dead-letter queue.
const (
	deletes = "deletes"
	ignores = "ignores"
	refuses = "refuses"
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
	"admin-disable-user.json":                         refuses,
	"delete-user.json":                                deletes,
	"delete-user-no-pool.json":                        deletes,
	"delete-user-other-pool.json":                     ignores,
	"delete-user-refused.json":                        ignores,
	"direct.json":                                     deletes,
	"direct-empty-user.json":                          refuses,
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
			for range 2 { // every event comes at least once
				out, err := s.Host.Invoke(t.Context(), "user-cleanup", event)
				got := deletes
				switch {
				case err != nil:
					got = refuses
				case strings.Contains(string(out), `"ignored"`):
					got = ignores
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
	s.Cognito.AddUser(cognito.User{Username: "somebody", Sub: alice})
	event, err := os.ReadFile("user-cleanup/events/admin-delete-user-username-only.json")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Host.Invoke(t.Context(), "user-cleanup", event)
	if err == nil || len(s.AgentMail.Pods()) != 1 {
		t.Errorf("%s: AgentMail has %+v", out, s.AgentMail.Pods())
	}
}
