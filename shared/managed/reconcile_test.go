package managed_test

import (
	"context"
	"errors"
	"fmt"

	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// From whatever minute on: the turn of the last minutes of an hour goes over into the next one's.
func TestEachShardIsReadFirstInItsTurn(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	first := map[string]int{}
	const turns = 3
	w.Clock.Advance(w.Clock.Now().Truncate(time.Hour).Add(time.Hour + 50*time.Minute).Sub(w.Clock.Now()))
	for range turns * len(store.Shards()) {
		w.DynamoDB.Reset()
		reconcile(t, w.Engine())
		for _, shard := range store.Shards() {
			if strings.Contains(string(w.DynamoDB.Calls()[0].Body), shard) {
				first[shard]++
			}
		}
		w.Clock.Advance(time.Minute)
	}
	for _, shard := range store.Shards() {
		if first[shard] != turns {
			t.Errorf("%s was the first %d times of %d", shard, first[shard], turns)
		}
	}
}

func TestAReconcileRoundGoesThroughAllThatIsDue(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	const users = 60 // more than two pages of a shard
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	for i := range users {
		list(t, w.Engine(), fmt.Sprintf("user-%d", i))
	}
	w.Heal()
	w.Clock.Advance(time.Minute)
	r := reconcile(t, w.Engine())
	if r.Done != users || r.Failed != 0 || r.More {
		t.Errorf("the report is %+v", r)
	}
	for i := range users {
		w.CheckExactlyOne(fmt.Sprintf("user-%d", i))
	}
}

// hanging is a third party that answers nothing until it is released.
type hanging struct {
	managed.Provider
	hung    func()
	release <-chan struct{}
}

func (h hanging) Provision(context.Context, credential.Secret, *managed.Attempt) (managed.Grant, error) {
	h.hung()
	<-h.release
	return managed.Grant{}, errors.New("it hung")
}

// Whoever waits for another third party must not wait for one that hangs. This one does so until
// the others' work is done, so that a machine that is slow changes nothing.
func TestAProviderThatHangsHoldsUpNoOthersWorkInARound(t *testing.T) {
	t.Parallel()
	hung, release := make(chan struct{}), make(chan struct{})
	hang := hanging{hung: sync.OnceFunc(func() { close(hung) }), release: release}
	hangs := false
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		both := twoMails(t)(url)
		if hangs {
			hang.Provider = both[1]
			both[1] = hang
		}
		return both
	}})
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `","second_mail":"` + fake.OrgKey + `"}`)
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	waiting := make([]string, 20) // more than are worked on at once, so that all hang before the last of the others' turn comes
	for i := range waiting {
		waiting[i] = fmt.Sprintf("user-%d", i)
		list(t, w.Engine(), waiting[i])
	}
	w.Heal()
	w.Clock.Advance(time.Minute)
	hangs = true
	e, done := w.Engine(), make(chan struct{})
	go func() {
		defer close(done)
		_, err := e.Reconcile(context.Background())
		if err != nil {
			t.Error(err)
		}
	}()
	<-hung
	never := time.After(time.Minute)
	for len(waiting) > 0 && !t.Failed() {
		waiting = slices.DeleteFunc(waiting, func(user string) bool { return slot(t, w, user).State == store.Ready })
		select {
		case <-never:
			t.Errorf("%s wait for the one that hangs", waiting)
		case <-time.After(time.Millisecond):
		}
	}
	close(release)
	<-done
}

// What one round is at work on, another one neither reads nor asks anybody about.
func TestRoundsThatOverlapDoNotRepeatEachOthersWork(t *testing.T) {
	t.Parallel()
	const users = 4 // fewer than are worked on at once
	hung, release := make(chan struct{}, 2*users), make(chan struct{})
	hangs := false
	w := managedtest.New(t, managedtest.Options{Providers: func(url string) []managed.Provider {
		both := twoMails(t)(url)
		if hangs {
			both[1] = hanging{Provider: both[1], hung: func() { hung <- struct{}{} }, release: release}
		}
		return both[1:]
	}})
	w.SetOrgKeys(`{"second_mail":"` + fake.OrgKey + `"}`)
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	for i := range users {
		list(t, w.Engine(), fmt.Sprintf("user-%d", i))
	}
	w.Heal()
	w.Clock.Advance(time.Minute)
	hangs = true
	first, other := w.Engine(), w.Engine()
	done := make(chan managed.Report)
	go func() {
		r, _ := first.Reconcile(context.Background())
		done <- r
	}()
	for range users {
		<-hung
	}
	w.DynamoDB.Reset()
	r := reconcile(t, other)
	calls := len(w.DynamoDB.Calls())
	close(release)
	if r.Done != 0 || len(hung) != 0 {
		t.Errorf("the second round worked: %+v, and asked the third party %d times", r, len(hung))
	}
	if idle := len(store.Shards()) + 1; calls != idle { // and one look at what waits for an org key
		t.Errorf("the second round called DynamoDB %d times, an idle one does %d times", calls, idle)
	}
	if r := <-done; r.Done != users {
		t.Errorf("the first round: %+v", r)
	}
}

func TestARoundStartsNothingItHasNoTimeFor(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	list(t, w.Engine(), alice)
	w.Heal()
	w.Clock.Advance(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than half a lease
	defer cancel()
	r, err := w.Engine().Reconcile(ctx)
	if err != nil || r.Done != 0 || !r.More {
		t.Errorf("%v, the report is %+v", err, r)
	}
	if creates(w) != 0 {
		t.Error("work was started")
	}
}

func TestAnAccountDeletedMeanwhileIsNotProvisionedByReconcile(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Code("limit_exceeded")})
	list(t, w.Engine(), alice)
	w.Heal()
	w.Clock.Advance(time.Minute)
	inject(t, w.DynamoDB, transact, 1, first(func() {
		_, err := w.Store.Bury(context.Background(), alice, "")
		if err != nil {
			t.Error(err)
		}
	}))
	reconcile(t, w.Engine())
	if creates(w) != 0 {
		t.Error("I5: a key was asked for after the tombstone")
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}
