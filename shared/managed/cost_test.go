package managed_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/store"
)

// A mass deletion is made of these calls.
func TestADeletionCostsWhatItMay(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	e := w.Engine()
	list(t, e, alice)
	reset := func() { w.DynamoDB.Reset(); w.AgentMail.Reset() }
	reset()
	_, _, err := e.DeleteAccount(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"PutItem", query, update, update, batchGet, update, update, query}
	if got := ops(w.DynamoDB); !slices.Equal(got, at) {
		t.Errorf("at once DynamoDB got %v", got)
	}
	if got := methods(w.AgentMail); !slices.Equal(got, []string{"GET", "DELETE", "DELETE"}) {
		t.Errorf("at once AgentMail got %v", got)
	}
	reset()
	for range 2 {
		w.Clock.Advance(managed.LastLook + 45*time.Second)
		reconcile(t, e)
	}
	w.CheckNothingLeft(alice)
	idle := 2 * (len(store.Shards()) + 1) // what is due, and what waits for an org key
	if n := len(w.DynamoDB.Calls()) - idle; n > 7 {
		t.Errorf("later DynamoDB got %d calls: %v", n, ops(w.DynamoDB))
	}
	if got := methods(w.AgentMail); len(got) != 3 { // with the question whose the org key is, once in a process
		t.Errorf("later AgentMail got %v", got)
	}
}

func methods(p *fault.Proxy) []string {
	var all []string
	for _, op := range ops(p) {
		method, _, _ := strings.Cut(op, " ")
		all = append(all, method)
	}
	return all
}
