package main

import (
	"errors"
	"testing"
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
