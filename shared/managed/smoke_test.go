package managed_test

import (
	"testing"

	"managed-credentials/shared/managed/managedtest"
)

func TestAListProvisionsAndADeletionRevokes(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	l, err := w.Engine().List(t.Context(), "alice", "")
	if err != nil || len(l.Credentials) != 1 {
		t.Fatalf("%v %+v\n%s", err, l, w.Logs())
	}
	w.CheckExactlyOne("alice")
	left, err := w.Engine().DeleteAccount(t.Context(), "alice", "")
	if err != nil || len(left) != 0 {
		t.Fatalf("%v %+v\n%s", err, left, w.Logs())
	}
	w.CheckNothingLeft("alice")
	t.Log(w.Logs(), w.Dump())
}
