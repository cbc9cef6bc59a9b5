package main

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"managed-credentials/shared/userpool"
)

func TestANameIsAUserIDOnlyWhereItHasASubsForm(t *testing.T) {
	t.Parallel()
	const sub = "5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11"
	for name, want := range map[string]string{
		sub: sub, "5F0C1E5E-3B0A-4F0E-9A55-0D6A1C9E7B11": sub, "": "", "alice": "", "alice@example.com": "", sub + "\n": "", hidden: "",
	} {
		user, err := bySub(name)
		if user != want || (want == "") != errors.Is(err, errUnidentified) {
			t.Errorf("the name %q is the user %q, %v", name, user, err)
		}
	}
}

// What is recorded of another pool, or was refused, says nothing about the users here.
func TestADisablingOfAnotherPoolIsIgnored(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	own := &userpool.Pool{}
	for name, c := range map[string]struct {
		f    function
		want string
	}{
		"another pool": {function{pool: own, poolID: "us-east-1_Another02", log: log}, "another user pool"},
		"no pool":      {function{log: log}, "there is no user pool"},
	} {
		event, err := os.ReadFile("events/admin-disable-user-unidentified.json")
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.f.Invoke(t.Context(), event)
		if err != nil || string(out) != `{"ignored":"`+c.want+`","pending":[]}` {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
}
