package managed_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

func TestASettledSlotIsRevokedWithinTheRequestByItsStoredID(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	w.CheckNoPod(alice)
	if s := slot(t, w, alice); !s.Revoked() || s.DueAt.Sub(w.Clock.Now()) != managed.LastLook {
		t.Errorf("before the last look the slot is %+v", s)
	}
	if n := w.Mail.Count(fake.CreatePod); n != 1 {
		t.Errorf("the deletion looked the pod up by %d POSTs", n-1)
	}
	w.Converge() // the tombstone is due no more
	w.CheckNothingLeft(alice)
}

func TestALastLookFindsWhatATransactionMadeInTheTombstonesInstant(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	m := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}
	_, err := w.Store.Create(t.Context(), bob, m, []byte("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	hers := store.CredentialKey(alice, "github", m.ID)
	w.SetItem(store.CredentialKey(bob, "github", m.ID), map[string]types.AttributeValue{ // a copy under her key comes to light only now
		"pk": &types.AttributeValueMemberS{Value: hers.PK}, "sk": &types.AttributeValueMemberS{Value: hers.SK},
	})
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestADeletedAccountsOwnCredentialsGoToo(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for range 30 {
		m := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}
		_, err := w.Store.Create(t.Context(), alice, m, []byte("sealed"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if left := remove(t, w.Engine(), alice); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	w.CheckNothingLeft(alice)
}

func TestAnotherUserIsNotTouchedByADeletion(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), bob)
	remove(t, w.Engine(), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
	w.CheckExactlyOne(bob)
}

func TestADeletionThatTakesTooLongIsCounted(t *testing.T) {
	t.Parallel()
	users := &pool{}
	users.failures.Store(1000)
	w := managedtest.New(t, managedtest.Options{Users: users})
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Hour)
	reconcile(t, w.Engine())
	if strings.Contains(w.Logs(), "DeletionsOverdue") {
		t.Error("it was counted after an hour")
	}
	w.Clock.Advance(24 * time.Hour)
	reconcile(t, w.Engine())
	if !strings.Contains(w.Logs(), `"DeletionsOverdue":1`) {
		t.Errorf("it was not counted:\n%s", w.Logs())
	}
}

func TestEachDeletedAccountIsCountedOnce(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	for _, user := range []string{alice, bob} {
		list(t, w.Engine(), user)
		for range 3 {
			remove(t, w.Engine(), user)
		}
	}
	w.Converge()
	if n := strings.Count(w.Logs(), `"AccountsDeleted":1`); n != 2 {
		t.Errorf("two accounts were deleted, and %d counted", n)
	}
}

func TestATombstoneThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, put, 0, fault.Throttled())
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "")
	if err == nil {
		t.Error("no error")
	}
}

func TestADeletionThatCrashedAfterItsTombstoneIsFinishedByReconcile(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	_, err := w.Store.Bury(t.Context(), alice, "")
	if err != nil {
		t.Fatal(err)
	}
	w.Converge()
	w.CheckNothingLeft(alice)
}

// pool is a user pool that fails a given number of times.
type pool struct {
	failures atomic.Int32
	removed  atomic.Value
}

func (p *pool) Remove(_ context.Context, username, sub string) error {
	if p.failures.Add(-1) >= 0 {
		return errors.New("the user pool is down")
	}
	p.removed.Store(username + " " + sub)
	return nil
}

// Enabled knows nobody.
func (p *pool) Enabled(context.Context, string) (enabled, exists bool, err error) {
	return false, false, nil
}

func TestTheCognitoUserIsDueUntilItHasGone(t *testing.T) {
	t.Parallel()
	users := &pool{}
	users.failures.Store(2)
	w := managedtest.New(t, managedtest.Options{Users: users})
	left, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
	if err != nil || len(left) != 1 || left[0].Provider != managed.UserPool {
		t.Errorf("%v, left: %+v", err, left)
	}
	w.Converge()
	if got := users.removed.Load(); got != "Alice the First alice" {
		t.Errorf("removed: %v", got)
	}
	if n := strings.Count(w.Logs(), `"PoolUsersRemoved":1`); n != 1 {
		t.Errorf("one user was removed, and %d counted", n)
	}
	if strings.Contains(w.Dump(), "Alice the First") {
		t.Errorf("the username is kept:\n%s", w.Dump())
	}
	w.CheckNothingLeft(alice)
}

func TestAUsernameIsNotedAlsoWhenTheTombstoneStandsAlready(t *testing.T) {
	t.Parallel()
	users := &pool{}
	w := managedtest.New(t, managedtest.Options{Users: users})
	remove(t, w.Engine(), alice)
	_, _, err := w.Engine().DeleteAccount(t.Context(), alice, "Alice the First")
	if err != nil || users.removed.Load() != "Alice the First alice" {
		t.Errorf("%v, removed: %v", err, users.removed.Load())
	}
}
