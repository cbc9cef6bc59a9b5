package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/store"
)

// observed is what the observers of the invariants have seen.
type observed struct {
	violations []string
	stored     map[string]string // the key that was stored last, by the slot's key
	byHand     map[string]bool   // keys that were revoked by hand
	outages    []outage
	lying      map[caller][2]time.Time // when a replica does not have what a user has at a provider
	deleted    map[string]bool         // whose deletion was asked for
	leaving    map[string]bool         // who left by themselves
	disabled   map[string]bool         // whose suspension was asked for
	offInPool  map[string]bool         // who is disabled in the user pool
	byHandKeys int
}

func newObserved() observed {
	return observed{
		stored: map[string]string{}, byHand: map[string]bool{}, lying: map[caller][2]time.Time{},
		deleted: map[string]bool{}, leaving: map[string]bool{}, disabled: map[string]bool{}, offInPool: map[string]bool{},
	}
}

// violated notes that an invariant did not hold.
func (w *world) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
	if w.heard == told {
		w.story = append(w.story, fmt.Sprintf("%9.3f *** ", w.now().Sub(w.start).Seconds())+fmt.Sprintf(format, args...))
	}
}

// pathText is a path with names in place of ids.
func pathText(of party, parts []string) string {
	named := make([]string, len(parts))
	for i, part := range parts {
		named[i] = part
		switch name := of.nameOf(part); {
		case name != "":
			named[i] = name
		case strings.Contains(part, "@"):
			named[i] = "(inbox)"
		case i >= 3 && (len(part) == 36 || len(part) == 64), strings.HasPrefix(part, "key_"), strings.HasPrefix(part, "svc_acct_"):
			named[i] = "an id"
		}
	}
	return strings.Join(named, "/")
}

// claims notes the claim that a process sends.
func (p *process) claims(values map[string]types.AttributeValue) {
	owner := textOf(values[":owner"])
	if owner != "" {
		p.owners[owner] = true
	}
}

// buried reports whether the user's tombstone stands, and isSuspended whether a suspension does in
// its place.
func (w *world) buried(user string) bool {
	item := w.table.Item("USER#"+user, "ACCOUNT")
	return item != nil && item["status"] == nil
}

func (w *world) isSuspended(user string) bool {
	return w.table.Item("USER#"+user, "ACCOUNT")["status"] != nil
}

// keysEnd reports whether it is time to revoke the keys of a suspended user.
func (w *world) keysEnd(user string) bool {
	at, due := dueAt(w.table.Item("USER#"+user, "ACCOUNT"))
	return due && !at.After(w.now().Add(apart))
}

// stores notes the key that a slot stores; and is I5 of a slot that is marked: only a deleted
// account's is, whatever else refuses what its user wants.
func (w *world) stores(in *dynamodb.UpdateItemInput) {
	if user := userOf(textOf(in.Key["pk"])); in.ExpressionAttributeValues[":revoking"] != nil && !w.buried(user) {
		w.violated("I5: a slot of %s is revoked, who is not deleted", user)
	}
	if in.ExpressionAttributeValues[":secret"] != nil && in.ExpressionAttributeValues[":committed"] != nil {
		w.stored[keyText(in.Key)] = textOf(in.ExpressionAttributeValues[":key"])
	}
}

func (w *world) slot(user, provider string) (slot store.Slot, deleted bool) {
	slots, err := w.store.Slots(context.Background(), user, provider)
	deleted = errors.Is(err, credential.ErrAccountDeleted)
	if err != nil && !deleted && !errors.Is(err, credential.ErrAccountSuspended) {
		w.violated("reading a slot: %v", err)
	}
	return slots[provider], deleted
}

// claimOf is what the observers of single calls need of a slot.
func (w *world) claimOf(user, provider string) (slot store.Slot, deleted bool) {
	key := store.SlotKey(user, provider)
	item := w.table.Item(key.PK, key.SK)
	slot = store.Slot{User: user, Provider: provider, State: store.State(textOf(item["state"])), Owner: textOf(item["owner"])}
	slot.Resource.KeyID = textOf(item["key_id"])
	slot.LeaseUntil, slot.GoneSince = timeOf(item["lease_until"]), timeOf(item["gone_since"])
	slot.Rotates, slot.RetractedBy = item["rotate"] != nil, store.Retractor(textOf(item["retracted_by"]))
	slot.Retiring = store.Retiring{KeyID: textOf(item["retiring_key_id"]), At: timeOf(item["retire_at"])}
	return slot, w.buried(user)
}

// timeOf is the time that an attribute holds; zero if it holds none.
func timeOf(value types.AttributeValue) time.Time {
	n, ok := value.(*types.AttributeValueMemberN)
	if !ok {
		return time.Time{}
	}
	ms, _ := strconv.ParseInt(n.Value, 10, 64)
	return time.UnixMilli(ms)
}

// serves reports whether a key is one that a rotation has replaced and that is not to go yet.
func (p *process) serves(slot store.Slot, key string) bool {
	return key != "" && key == slot.Retiring.KeyID && !slot.Rotates && slot.GoneSince.IsZero() && p.now().Before(slot.Retiring.At)
}

// watchParty is I3 and I4: it looks at a call to a third party as it is sent.
func (w *world) watchParty(c *call, t transport, method string, parts []string) {
	p := c.p
	if method == http.MethodGet {
		return
	}
	user, key := t.party.target(parts, c.body)
	if user == "" {
		return
	}
	slot, deleted := w.claimOf(user, t.provider)
	if method == http.MethodPost {
		claimed := !slot.Settled() && p.owners[slot.Owner]
		if !claimed {
			w.violated("I3: %s sends %s without a claim: %+v", p.name(), c.op, slot)
		} else if !p.now().Before(slot.LeaseUntil.Add(-lease / 2)) {
			w.violated("I3: %s sends %s in the second half of the lease: %+v", p.name(), c.op, slot)
		}
		return
	}
	if !p.owners[slot.Owner] && !p.keys[key] {
		w.violated("I4: %s sends %s without a claim: %+v", p.name(), c.op, slot)
	}
	if suspended := slot.State == store.Retracting && slot.RetractedBy == store.BySuspension; suspended && !deleted && t.provider == agentmail.Name && key == "" {
		w.violated("I4: %s sends %s, and only keys go for a suspension: %+v", p.name(), c.op, slot)
	}
	if !deleted && slot.State != store.Retracting && method == http.MethodDelete && (key == "" || key == slot.Resource.KeyID || key == w.stored[slotText(slot)] || p.serves(slot, key)) {
		w.violated("I4: %s sends %s of a living user: %+v", p.name(), c.op, slot)
	}
}

func slotText(slot store.Slot) string { return slot.Key().PK + "|" + slot.Key().SK }

// transact is I5: once the tombstone stands, no transaction succeeds that makes something of its
// user's, whatever its conditions say; and while they are suspended, none but that which puts off
// what is due of theirs, or has their keys revoked when it is time.
func (w *world) transact(in *dynamodb.TransactWriteItemsInput) (any, error) {
	var dead []string
	for _, item := range in.TransactItems {
		pk, waits, ends := "", false, false
		switch {
		case item.Delete != nil:
			pk = textOf(item.Delete.Key["pk"])
		case item.Update != nil:
			pk = textOf(item.Update.Key["pk"])
			values := item.Update.ExpressionAttributeValues
			waits = textOf(values[":reason"]) == store.ReasonSuspended
			ends = textOf(values[":by"]) == string(store.BySuspension)
		case item.Put != nil && textOf(item.Put.Item["state"]) != string(store.Revoking):
			pk = textOf(item.Put.Item["pk"])
		}
		user := userOf(pk)
		if pk != "" && (w.buried(user) || w.isSuspended(user) && !waits && !(ends && w.keysEnd(user)) || ends && !w.isSuspended(user)) {
			dead = append(dead, user)
		}
	}
	before := w.table.Writes()
	out, err := w.table.TransactWriteItems(context.Background(), in)
	if err == nil && len(dead) > 0 && w.table.Writes() > before {
		w.violated("I5: a transaction of %s succeeded after the tombstone, or the suspension", strings.Join(dead, ", "))
	}
	return out, err
}

// watch carries an effect out, unless a replica that lags answers in place of what is there.
func (w *world) watch(c *call, do func() (any, error)) (any, error) {
	path, reads := strings.CutPrefix(c.op, "GET ")
	if !c.service.isParty() || !reads || w.over {
		return do()
	}
	for provider, party := range w.parties {
		for _, user := range users {
			lie, ok := w.lying[caller{provider: provider, user: user}]
			if !ok || party.service() != c.service || w.now().Before(lie[0]) || w.now().After(lie[1]) {
				continue
			}
			value, err := party.lacks(user, path, do)
			if value != nil || err != nil {
				w.note("a replica does not know of %s", user)
				return value, err
			}
		}
	}
	return do()
}

// lag has a replica of a third party not know what the user has for a while: once, or two looks
// could meet one each.
func (w *world) lag(user, provider string, after time.Duration) {
	of := caller{provider: provider, user: user}
	_, already := w.lying[of]
	if !already {
		from := w.now().Add(after)
		w.lying[of] = [2]time.Time{from, from.Add(4 * time.Second)}
	}
}

// aBitMore is how much longer than its budget a list may take: for its reads before and the write
// that ends its claim after it, of a table without trouble.
const aBitMore = 5 * time.Second

// checkListing is I6, I7 and I8 of an answer. A list may fail, and take its time, where the table
// is in trouble or the process was frozen, and nowhere else.
func (w *world) checkListing(user string, p *process, begin time.Time, l managed.Listing, err error) {
	w.mu.Lock()
	excused := !p.trouble.Before(begin) || p.frozen.After(begin) || p.dead.Load()
	w.mu.Unlock()
	took := w.now().Sub(begin)
	if !excused && took > budget+aBitMore {
		w.violated("I6: a list of %s took %v", user, took)
	}
	if err != nil {
		refused := errors.Is(err, credential.ErrAccountDeleted) && w.deleted[user] || errors.Is(err, credential.ErrAccountSuspended) && w.disabled[user]
		if !excused && !refused {
			w.violated("I6: a list of %s failed: %v", user, err)
		}
		return
	}
	shown, err := json.Marshal(l)
	if err != nil || w.isSecret(string(shown)) {
		w.violated("I7: a secret is in a list of %s, error %v", user, err)
	}
	for _, m := range l.Credentials {
		if m.Managed && m.ID != idOf(user, m.Provider) {
			w.violated("I8: the id of %s's credential is %s", user, m.ID)
		}
	}
}

// idSpace is the name space of managed credentials' ids, which no version may change.
var idSpace = uuid.MustParse("6f1c1d0a-8f0e-4c56-9d0b-2f3b7a5f4e21")

// idOf is the id that a managed credential has to have, as docs/architecture.md says it.
func idOf(user, provider string) string {
	return uuid.NewSHA1(idSpace, []byte(provider+"#"+user)).String()
}

// exactlyOne is I1 and I9.
func (w *world) exactlyOne(user, provider string) error {
	held := slices.DeleteFunc(w.parties[provider].holds(), func(h holding) bool { return h.user != user })
	slot, deleted := w.slot(user, provider)
	if len(held) != 1 || len(held[0].keys) != 1 {
		return fmt.Errorf("I1: %s has %+v at %s; the slot is %+v", user, held, provider, slot)
	}
	if deleted || slot.State != store.Ready || slot.Resource.ID != held[0].resource || slot.Resource.KeyID != held[0].keys[0] {
		return fmt.Errorf("I1: the slot is %+v, but %s has %+v", slot, provider, held[0])
	}
	id := credential.ManagedID(provider, user)
	sealed, err := w.store.Sealed(context.Background(), user, provider, id)
	if err != nil {
		return fmt.Errorf("I9: reading the stored key: %w", err)
	}
	m, err := w.sealer.Open(context.Background(), user, provider, id, sealed.Type, sealed.Open(), sealed.Ciphertext)
	if err != nil {
		return fmt.Errorf("I9: opening the stored key: %w", err)
	}
	owner, key, ok := w.parties[provider].identify(strings.Trim(string(m.Fields()["api_key"]), `"`))
	if !ok || owner != user || key != held[0].keys[0] {
		return errors.New("I9: the stored key is not the listed one")
	}
	return nil
}

// nothingThere is I1 of a slot that is off.
func (w *world) nothingThere(user, provider string) error {
	held := slices.DeleteFunc(w.parties[provider].holds(), func(h holding) bool { return h.user != user })
	slot, _ := w.slot(user, provider)
	if len(held) > 0 || slot.Owner != "" || !slot.Settled() || slot.Resource != (credential.Resource{}) {
		return fmt.Errorf("I1: %s is off at %s: the slot is %+v, and there is %+v", user, provider, slot, held)
	}
	if w.table.Item(slot.Key().PK, slot.Key().SK)["secret"] != nil {
		return fmt.Errorf("I1: %s is off at %s, and a secret is stored", user, provider)
	}
	return nil
}

// nothingLeft is I2.
func (w *world) nothingLeft(user string) error {
	for _, provider := range w.config.providers {
		for _, h := range w.parties[provider].holds() {
			if h.user == user {
				return fmt.Errorf("I2: of %s something is left at %s: %+v", user, provider, h)
			}
		}
	}
	tombstones := 0
	for _, item := range w.table.Items() {
		switch {
		case textOf(item["pk"]) != "USER#"+user:
		case textOf(item["sk"]) == "ACCOUNT" && item["status"] == nil:
			tombstones++
		default:
			return fmt.Errorf("I2: of %s an item is left: %s", user, textOf(item["sk"]))
		}
	}
	if tombstones != 1 {
		return fmt.Errorf("I2: %s has %d tombstones", user, tombstones)
	}
	if w.leaving[user] && w.pool[user] != "" {
		return fmt.Errorf("I2: %s is still in the user pool", user)
	}
	return nil
}

// adopted is the name of the pods that were there before.
const adopted = "adopted"

// noOrphans: whatever there is is known to a slot, which nobody works on and nothing is on its way
// under.
func (w *world) noOrphans() {
	for _, provider := range w.config.providers {
		for _, h := range w.parties[provider].holds() {
			slot, deleted := w.slot(h.user, provider)
			if slot.State == store.Absent && h.before {
				continue
			}
			if slot.Resource.ID != h.resource || slot.Owner != "" || !slot.Settled() {
				invariant := "I1"
				if deleted {
					invariant = "I2"
				}
				w.violated("%s: %+v at %s is an orphan of the slot %+v", invariant, h, provider, slot)
			}
		}
	}
}
