package sim_test

import (
	"bytes"
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
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// observed is what the observers of the invariants have seen.
type observed struct {
	violations []string
	podNames   map[string]string // pods by their ids: client_id and a number
	clientIDs  map[string]string
	podCounts  map[string]int
	keyNames   map[string]string
	stored     map[string]string // the key that was stored last, by the slot's key
	byHand     map[string]bool   // keys that were revoked by hand
	outages    []outage
	lying      map[string][2]time.Time // when a replica does not have a user's pod
	deleted    map[string]bool         // whose deletion was asked for
	leaving    map[string]bool         // who left by themselves
	byHandKeys int
}

func newObserved() observed {
	return observed{
		podNames: map[string]string{}, clientIDs: map[string]string{}, podCounts: map[string]int{}, keyNames: map[string]string{},
		stored: map[string]string{}, byHand: map[string]bool{}, lying: map[string][2]time.Time{},
		deleted: map[string]bool{}, leaving: map[string]bool{},
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
func (w *world) pathText(parts []string) string {
	named := make([]string, len(parts))
	for i, part := range parts {
		named[i] = part
		if name, ok := w.podNames[part]; ok {
			named[i] = name
		} else if name, ok := w.keyNames[part]; ok {
			named[i] = name
		} else if strings.Contains(part, "@") {
			named[i] = "(inbox)"
		} else if i >= 3 && len(part) == 36 {
			named[i] = "an id"
		}
	}
	return strings.Join(named, "/")
}

func clientIDOf(body []byte) string {
	var in struct {
		ClientID string `json:"client_id"`
		Name     string `json:"name"`
	}
	_ = json.Unmarshal(body, &in)
	return in.ClientID + " " + in.Name
}

// learn notes what a call has made.
func (w *world) learn(p *process, r *http.Request, answered *answering) {
	if r.Method != http.MethodPost || answered.status != http.StatusOK {
		return
	}
	var made struct {
		PodID    string `json:"pod_id"`
		ClientID string `json:"client_id"`
		KeyID    string `json:"api_key_id"`
		Name     string `json:"name"`
	}
	_ = json.Unmarshal(answered.body.Bytes(), &made)
	if made.KeyID != "" {
		w.keyNames[made.KeyID] = made.Name
		p.keys[made.KeyID] = true
		return
	}
	w.learnPod(made.PodID, made.ClientID)
}

func (w *world) learnPod(id, clientID string) {
	if id == "" || w.podNames[id] != "" {
		return
	}
	w.podCounts[clientID]++
	w.podNames[id] = "(pod " + clientID + " " + strconv.Itoa(w.podCounts[clientID]) + ")"
	w.clientIDs[id] = clientID
}

// claims notes the claim that a process sends.
func (p *process) claims(values map[string]types.AttributeValue) {
	owner := textOf(values[":owner"])
	if owner != "" {
		p.owners[owner] = true
	}
}

// stores notes the key that a slot stores.
func (w *world) stores(in *dynamodb.UpdateItemInput) {
	if in.ExpressionAttributeValues[":secret"] != nil && in.ExpressionAttributeValues[":committed"] != nil {
		w.stored[keyText(in.Key)] = textOf(in.ExpressionAttributeValues[":key"])
	}
}

func (w *world) slot(user, provider string) (slot store.Slot, deleted bool) {
	slots, err := w.store.Slots(context.Background(), user, provider)
	if err != nil && !errors.Is(err, credential.ErrAccountDeleted) {
		w.violated("reading a slot: %v", err)
	}
	return slots[provider], err != nil
}

// claimOf is what the observers of single calls need of a slot.
func (w *world) claimOf(user, provider string) (slot store.Slot, deleted bool) {
	key := store.SlotKey(user, provider)
	item := w.table.Item(key.PK, key.SK)
	slot = store.Slot{User: user, Provider: provider, State: store.State(textOf(item["state"])), Owner: textOf(item["owner"])}
	slot.Resource.KeyID = textOf(item["key_id"])
	until, ok := item["lease_until"].(*types.AttributeValueMemberN)
	if ok {
		ms, _ := strconv.ParseInt(until.Value, 10, 64)
		slot.LeaseUntil = time.UnixMilli(ms)
	}
	return slot, w.table.Item(key.PK, "ACCOUNT") != nil
}

// watchMail is I3 and I4: it looks at a call to AgentMail as it is sent.
func (w *world) watchMail(c *call, method string, parts []string) {
	p := c.p
	if method == http.MethodGet || len(parts) < 3 {
		return
	}
	clientID := w.clientIDs[parts[min(3, len(parts)-1)]]
	if clientID == "" && len(parts) == 3 { // a pod's creation
		clientID, _, _ = strings.Cut(clientIDOf(c.body), " ")
	}
	if clientID == "" {
		return
	}
	user, provider := podUser(clientID)
	slot, deleted := w.claimOf(user, provider)
	if method == http.MethodPost {
		claimed := !slot.Settled() && p.owners[slot.Owner]
		if !claimed {
			w.violated("I3: %s sends %s without a claim: %+v", p.name(), c.op, slot)
		} else if !p.now().Before(slot.LeaseUntil.Add(-lease / 2)) {
			w.violated("I3: %s sends %s in the second half of the lease: %+v", p.name(), c.op, slot)
		}
		return
	}
	key := ""
	if len(parts) == 6 && parts[4] == "api-keys" {
		key = parts[5]
	}
	if !p.owners[slot.Owner] && !p.keys[key] {
		w.violated("I4: %s sends %s without a claim: %+v", p.name(), c.op, slot)
	}
	if !deleted && method == http.MethodDelete && (key == "" || key == slot.Resource.KeyID || key == w.stored[slotText(slot)]) {
		w.violated("I4: %s sends %s of a living user: %+v", p.name(), c.op, slot)
	}
}

func slotText(slot store.Slot) string { return slot.Key().PK + "|" + slot.Key().SK }

// transact is I5: once the tombstone stands, no transaction succeeds that makes something of its
// user's, whatever its conditions say.
func (w *world) transact(in *dynamodb.TransactWriteItemsInput) (any, error) {
	var dead []string
	for _, item := range in.TransactItems {
		pk := ""
		switch {
		case item.Update != nil:
			pk = textOf(item.Update.Key["pk"])
		case item.Put != nil && textOf(item.Put.Item["state"]) != string(store.Revoking):
			pk = textOf(item.Put.Item["pk"])
		}
		if pk != "" && w.table.Item(pk, "ACCOUNT") != nil {
			dead = append(dead, userOf(pk))
		}
	}
	before := w.table.Writes()
	out, err := w.table.TransactWriteItems(context.Background(), in)
	if err == nil && len(dead) > 0 && w.table.Writes() > before {
		w.violated("I5: a transaction of %s succeeded after the tombstone", strings.Join(dead, ", "))
	}
	return out, err
}

// watch carries an effect out, unless a replica that lags answers in place of what is there.
func (w *world) watch(c *call, do func() (any, error)) (any, error) {
	if c.service != mailService || !strings.HasPrefix(c.op, "GET ") || w.over {
		return do()
	}
	for _, user := range users {
		lie, ok := w.lying[user]
		if !ok || w.now().Before(lie[0]) || w.now().After(lie[1]) {
			continue
		}
		if strings.Contains(c.op, "(pod "+user+" ") {
			w.note("a replica does not know of %s", user)
			return response(http.StatusNotFound, `{"code":"not_found"}`, nil), nil
		}
		if c.op == "GET /v0/pods" {
			return without(do, user)
		}
	}
	return do()
}

// without is an answer to a list of pods that lacks the user's.
func without(do func() (any, error), user string) (any, error) {
	value, err := do()
	res, ok := value.(*http.Response)
	if err != nil || !ok || res.StatusCode != http.StatusOK {
		return value, err
	}
	var page map[string]any
	_ = json.NewDecoder(res.Body).Decode(&page)
	pods, _ := page["pods"].([]any)
	page["pods"] = slices.DeleteFunc(pods, func(pod any) bool {
		of, _ := pod.(map[string]any)
		return of["client_id"] == user
	})
	body, err := json.Marshal(page)
	return response(http.StatusOK, string(body), nil), err
}

// lag has a replica of AgentMail not know of the user's pod for a while: once, or two looks could
// meet one each.
func (w *world) lag(user string, after time.Duration) {
	_, already := w.lying[user]
	if !already {
		from := w.now().Add(after)
		w.lying[user] = [2]time.Time{from, from.Add(4 * time.Second)}
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
		if !excused && (!errors.Is(err, credential.ErrAccountDeleted) || !w.deleted[user]) {
			w.violated("I6: a list of %s failed: %v", user, err)
		}
		return
	}
	shown, err := json.Marshal(l)
	if err != nil || bytes.Contains(shown, []byte("am_us_")) {
		w.violated("I7: a secret is in a list of %s, error %v", user, err)
	}
	for _, m := range l.Credentials {
		if m.Managed && m.ID != idOf(user, m.Provider) {
			w.violated("I8: the id of %s's credential is %s", user, m.ID)
		}
	}
}

// idSpace is the name space of managed credentials' ids, which no version may change.
const idSpace = "6f1c1d0a-8f0e-4c56-9d0b-2f3b7a5f4e21"

// idOf is the id that a managed credential has to have, as docs/architecture.md says it.
func idOf(user, provider string) string {
	return uuid.NewSHA1(uuid.MustParse(idSpace), []byte(provider+"#"+user)).String()
}

// ours are the keys in the pod that carry the engine's names.
func ours(user string, pod fake.Pod) []fake.Key {
	var all []fake.Key
	for _, key := range pod.Keys {
		if strings.HasPrefix(key.Name, user+"-agpt-managed.") {
			all = append(all, key)
		}
	}
	return all
}

func (w *world) pods(user, provider string) []fake.Pod {
	var all []fake.Pod
	for _, pod := range w.mail.Pods() {
		if pod.ClientID == clientIDPrefix(provider)+user {
			all = append(all, pod)
		}
	}
	return all
}

// exactlyOne is I1 and I9.
func (w *world) exactlyOne(user, provider string) error {
	pods := w.pods(user, provider)
	if len(pods) != 1 {
		return fmt.Errorf("I1: %s has %d pods at %s", user, len(pods), provider)
	}
	keys := ours(user, pods[0])
	slot, deleted := w.slot(user, provider)
	if len(keys) != 1 {
		return fmt.Errorf("I1: %s has %d keys of ours at %s; the slot is %+v", user, len(keys), provider, slot)
	}
	if deleted || slot.State != store.Ready || slot.Resource.ID != pods[0].ID || slot.Resource.KeyID != keys[0].ID {
		return fmt.Errorf("I1: the slot is %+v, but AgentMail has %+v", slot, pods[0])
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
	podID, keyID, ok := w.mail.Identify(strings.Trim(string(m.Fields()["api_key"]), `"`))
	if !ok || podID != pods[0].ID || keyID != keys[0].ID {
		return errors.New("I9: the stored key is not the listed one")
	}
	return nil
}

// nothingLeft is I2.
func (w *world) nothingLeft(user string) error {
	for _, pod := range w.mail.Pods() {
		owner, _ := podUser(pod.ClientID)
		if owner == user {
			return fmt.Errorf("I2: a pod of %s is left: %+v", user, pod)
		}
	}
	tombstones := 0
	for _, item := range w.table.Items() {
		switch {
		case textOf(item["pk"]) != "USER#"+user:
		case textOf(item["sk"]) == "ACCOUNT":
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

// noOrphans: each pod is known to a slot, which nobody works on and nothing is on its way under.
func (w *world) noOrphans() {
	for _, pod := range w.mail.Pods() {
		if pod.ClientID == "" {
			continue
		}
		user, provider := podUser(pod.ClientID)
		slot, deleted := w.slot(user, provider)
		if slot.State == store.Absent && pod.Name == adopted {
			continue
		}
		if slot.Resource.ID != pod.ID || slot.Owner != "" || !slot.Settled() {
			invariant := "I1"
			if deleted {
				invariant = "I2"
			}
			w.violated("%s: the pod %+v is an orphan of the slot %+v", invariant, pod, slot)
		}
	}
}
