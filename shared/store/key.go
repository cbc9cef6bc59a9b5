package store

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
)

// Key is an item's primary key.
type Key struct{ PK, SK string }

const (
	userPrefix       = "USER#"
	credentialPrefix = "CRED#"
	tombstoneSK      = "ACCOUNT"
)

// CredentialKey is the key of a credential.
func CredentialKey(user, provider, id string) Key {
	return Key{userPrefix + user, credentialPrefix + provider + "#" + id}
}

func tombstoneKey(user string) Key { return Key{userPrefix + user, tombstoneSK} }

// SlotKey is the key of a user's slot at a provider, known before the slot exists.
func SlotKey(user, provider string) Key {
	return CredentialKey(user, provider, credential.ManagedID(provider, user))
}

// User is the user whose partition the item is in.
func (k Key) User() string { return strings.TrimPrefix(k.PK, userPrefix) }

// IsTombstone reports whether the key is a tombstone's.
func (k Key) IsTombstone() bool { return k.SK == tombstoneSK }

// Provider is the provider of a credential's or slot's key; "" for any other.
func (k Key) Provider() string {
	provider, _, _ := strings.Cut(strings.TrimPrefix(k.SK, credentialPrefix), "#")
	if !strings.HasPrefix(k.SK, credentialPrefix) {
		return ""
	}
	return provider
}

// IsSlot reports whether the key is a slot's. The key alone tells, so that this holds for an item
// that cannot be decoded, too.
func (k Key) IsSlot() bool {
	provider := k.Provider()
	return provider != "" && k.isOfVersion5() && k == SlotKey(k.User(), provider)
}

// isOfVersion5 reports whether the key ends with a UUID of the version that a slot's id is of. A
// user's own credential has another one, and so costs a list no hash.
func (k Key) isOfVersion5() bool {
	const version = len("5xxx-xxxx-xxxxxxxxxxxx")
	return len(k.SK) > version && k.SK[len(k.SK)-version] == '5'
}

func (k Key) item() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		attrPK: &types.AttributeValueMemberS{Value: k.PK},
		attrSK: &types.AttributeValueMemberS{Value: k.SK},
	}
}

// shards is how many partitions of the index each family of work is spread over.
const shards = 4

// The families of work: for the living, and for the dead.
const (
	living = "live"
	dead   = "dead"
)

// Shards returns the index's partitions in the order in which they are to be worked on: work for
// the living and work for the dead by turns, so that a mass deletion does not stand before a new
// user's retry.
func Shards() []string {
	var all []string
	for i := range shards {
		all = append(all, living+"."+strconv.Itoa(i), dead+"."+strconv.Itoa(i))
	}
	return all
}

// LivingShards returns those of the index's partitions that hold the work for the living.
func LivingShards() []string {
	return slices.DeleteFunc(Shards(), func(shard string) bool { return !strings.HasPrefix(shard, living) })
}

// KeylessShard is the index's partition of the slots that wait for the provider's org key. It is
// none of Shards: what is in it is due when the key is there.
func KeylessShard(provider string) string { return "keyless." + provider }

func shard(family, pk string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pk))
	return family + "." + strconv.FormatUint(uint64(h.Sum32()%shards), 10)
}
