package store_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

func TestKeysAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	key := store.CredentialKey("alice", "github", ownID)
	if key != (store.Key{PK: "USER#alice", SK: "CRED#github#" + ownID}) {
		t.Errorf("a credential's key is %v", key)
	}
	slot := store.SlotKey("alice", "agent_mail")
	if slot != (store.Key{PK: "USER#alice", SK: "CRED#agent_mail#fab6152b-b3a1-5188-98f1-63f310fccc0f"}) {
		t.Errorf("a slot's key is %v", slot)
	}
}

func TestAKeyTellsWhatItIsOf(t *testing.T) {
	t.Parallel()
	names := rapid.StringMatching(`[a-z0-9_]{1,64}`)
	users := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"USER#alice", "#", "a#b", "CRED#x#y", " "})).Filter(credential.ValidUserID)
	rapid.Check(t, func(t *rapid.T) {
		user, provider := users.Draw(t, "user"), names.Draw(t, "provider")
		own, slot := store.CredentialKey(user, provider, credential.NewID()), store.SlotKey(user, provider)
		if own.User() != user || own.Provider() != provider || own.IsSlot() || own.IsTombstone() {
			t.Fatalf("%v is of %q at %q, a slot: %t", own, own.User(), own.Provider(), own.IsSlot())
		}
		if slot.User() != user || slot.Provider() != provider || !slot.IsSlot() || slot.IsTombstone() {
			t.Fatalf("%v is of %q at %q, a slot: %t", slot, slot.User(), slot.Provider(), slot.IsSlot())
		}
		other := store.CredentialKey(user+"x", provider, credential.ManagedID(provider, user))
		if other.IsSlot() {
			t.Fatal("another user's id makes a slot")
		}
	})
	tombstone := store.Key{PK: "USER#alice", SK: "ACCOUNT"}
	if !tombstone.IsTombstone() || tombstone.IsSlot() || tombstone.Provider() != "" || tombstone.User() != "alice" {
		t.Errorf("%v is not taken for a tombstone", tombstone)
	}
	for _, sk := range []string{"", "CRED", "CRED#", "PROFILE", "PROFILE#agent_mail#x", "account"} {
		key := store.Key{PK: "USER#alice", SK: sk}
		if key.IsTombstone() || key.IsSlot() || key.Provider() != "" {
			t.Errorf("%q is taken for something: provider %q", sk, key.Provider())
		}
	}
}

// A list asks this of each item, and most are the user's own.
func TestAnOwnCredentialIsToldFromASlotWithoutAllocations(t *testing.T) {
	own := []store.Key{
		store.CredentialKey("alice", "github", credential.NewID()),
		store.CredentialKey("alice", "github", credential.RepeatedID("alice", "github", "request-1")),
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, key := range own {
			_ = key.IsSlot()
		}
	}); n != 0 {
		t.Errorf("there are %v", n)
	}
}

func TestTheShardsOfTheLivingAndTheDeadTakeTurns(t *testing.T) {
	t.Parallel()
	shards := store.Shards()
	if len(shards) < 4 || len(shards)%2 != 0 {
		t.Fatalf("the shards are %v", shards)
	}
	for i, shard := range shards {
		want := []string{"live.", "dead."}[i%2]
		if !strings.HasPrefix(shard, want) || slices.Index(shards, shard) != i {
			t.Errorf("shard %d is %s", i, shard)
		}
	}
}

func TestWhenASlotMayBeClaimed(t *testing.T) {
	t.Parallel()
	unsettled := store.Slot{LeaseUntil: leaseEnd}
	if unsettled.Settled() || unsettled.Claimable(leaseEnd) || unsettled.Claimable(leaseEnd.Add(store.SkewMargin)) {
		t.Error("a slot may be claimed while clocks that are apart may take its lease for a running one")
	}
	if !unsettled.Claimable(leaseEnd.Add(store.SkewMargin+1)) || !unsettled.ClaimableAt().Equal(leaseEnd.Add(store.SkewMargin)) {
		t.Error("a slot may not be claimed long after its lease")
	}
	settled := store.Slot{State: store.Failed}
	if !settled.Settled() || !settled.Claimable(now) {
		t.Error("a settled slot may not be claimed")
	}
}

func TestWhichSlotsHaveASecretToHandOut(t *testing.T) {
	t.Parallel()
	for state, want := range map[store.State]struct{ usable, dead bool }{
		store.Absent: {}, store.Provisioning: {usable: true}, store.Ready: {usable: true}, store.Failed: {usable: true},
		store.Revoking: {dead: true}, store.Parked: {dead: true}, "new": {},
	} {
		slot := store.Slot{State: state, Committed: 1, Resource: credential.Resource{ID: "pod", KeyID: "key"}}
		if slot.Usable() != want.usable || slot.Dead() != want.dead {
			t.Errorf("%q: usable is %t, dead %t", state, slot.Usable(), slot.Dead())
		}
		gone := slot
		gone.Resource.KeyID = ""
		slot.Committed = 0
		if slot.Usable() || gone.Usable() {
			t.Errorf("%q is usable without a secret, or with one that has gone", state)
		}
	}
}

func TestASlotIsShownAsAManagedCredential(t *testing.T) {
	t.Parallel()
	m := store.Slot{User: user, Provider: provider, Title: title, State: store.Ready, Committed: 1}.Metadata()
	if m.ID != credential.ManagedID(provider, user) || m.Provider != provider || m.Type != credential.APIKey || *m.Title != title || !m.Managed ||
		m.System || m.Scopes != nil || m.Username != nil || m.Host != nil {
		t.Errorf("got %+v", m)
	}
}
