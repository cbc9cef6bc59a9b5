package flat_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/flat"
)

func TestTheNameOfAKeyTellsWhose(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{
		"alice":                                "managed-credentials/alice/abcd2345/7",
		"5f0c7a52-8a2e-4a0e-9c55-6d1b0f3e7a10": "managed-credentials/5f0c7a52-8a2e-4a0e-9c55-6d1b0f3e7a10/abcd2345/7",
		"~a/b 1":                               "managed-credentials/%7Ea%2Fb%201/abcd2345/7",
	} {
		if got := flat.KeyName(user, "abcd2345", 7); got != want {
			t.Errorf("%q: got %s, want %s", user, got, want)
		}
	}
	if got := flat.KeyName("alice", "", 7); got != "managed-credentials/alice/7" {
		t.Errorf("without a deployment: %s", got)
	}
	long := flat.Container(strings.Repeat("ü", credential.MaxUserIDLength))
	if !strings.HasPrefix(long, "~") || len(long) > 64 {
		t.Errorf("of a long user id: %s", long)
	}
}

func TestNoTwoUsersShareAName(t *testing.T) {
	t.Parallel()
	users := rapid.OneOf(rapid.String(), rapid.StringMatching(`[~a-z0-9%/. ]{1,12}`), rapid.StringMatching(`[a~%/]{120,140}`)).
		Filter(credential.ValidUserID)
	rapid.Check(t, func(t *rapid.T) {
		one := users.Draw(t, "one")
		another := rapid.OneOf(users, rapid.Just(flat.Container(one)), rapid.Just(flat.KeyName(one, "", 1))).
			Filter(func(user string) bool { return user != one && credential.ValidUserID(user) }).Draw(t, "another")
		if flat.Container(one) == flat.Container(another) || strings.Contains(flat.Container(one), "/") {
			t.Errorf("%q and %q are %s", one, another, flat.Container(one))
		}
	})
}
