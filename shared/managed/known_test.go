package managed_test

import (
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed/managedtest"
)

func TestADeletionSaysWhetherTheTableKnewTheUser(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	e := w.Engine()
	list(t, e, alice)
	_, err := w.Store.Create(t.Context(), bob, credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}, []byte("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, user string
		known      bool
	}{
		{"a slot", alice, true}, {"a credential", bob, true}, {"a tombstone", bob, true}, {"nothing", "carol", false}, {"only the tombstone", "carol", true},
	} {
		_, known, err := e.DeleteAccount(t.Context(), c.user, "")
		if err != nil || known != c.known {
			t.Errorf("with %s: known is %t, %v", c.name, known, err)
		}
	}
}
