package managedtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

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

// ExactlyOne is I1: one pod, one key of ours that AgentMail lists, and it is the one that is stored
// and works.
func (w *World) ExactlyOne(user, provider string) error {
	pods := w.pods(user, provider)
	if len(pods) != 1 {
		return fmt.Errorf("I1: %s has %d pods at %s", user, len(pods), provider)
	}
	keys := ours(user, pods[0])
	if len(keys) != 1 {
		return fmt.Errorf("I1: %s has %d keys of ours at %s: %v", user, len(keys), provider, keys)
	}
	slots, err := w.Store.Slots(context.Background(), user, provider)
	if err != nil {
		return fmt.Errorf("I1: %w", err)
	}
	slot := slots[provider]
	if slot.State != store.Ready || slot.Resource.ID != pods[0].ID || slot.Resource.KeyID != keys[0].ID {
		return fmt.Errorf("I1: the slot is %+v, but AgentMail has %+v", slot, pods[0])
	}
	key, err := w.KeyAt(user, provider)
	if err != nil {
		return fmt.Errorf("I1: reading the stored key: %w", err)
	}
	podID, keyID, ok := w.Mail.Identify(key.Reveal())
	if !ok || podID != pods[0].ID || keyID != keys[0].ID {
		return errors.New("I1: the stored key is not the listed one")
	}
	return nil
}

// NothingThere is I1 of a slot that is off: no pod, nobody at work, and nothing on its way.
func (w *World) NothingThere(user, provider string) error {
	pods := w.pods(user, provider)
	if len(pods) > 0 {
		return fmt.Errorf("I1: %s is off at %s, and has %+v there", user, provider, pods)
	}
	slots, err := w.Store.Slots(context.Background(), user, provider)
	if err != nil {
		return fmt.Errorf("I1: %w", err)
	}
	slot := slots[provider]
	if slot.State != store.Off || slot.Owner != "" || !slot.Settled() || !slot.DueAt.IsZero() {
		return fmt.Errorf("I1: nothing of %s is left at %s, but the slot is %+v", user, provider, slot)
	}
	return nil
}

// NothingLeft is I2: no pod, no key, and no item but the tombstone.
func (w *World) NothingLeft(user string) error {
	for _, pod := range w.Mail.Pods() {
		if pod.ClientID == user || strings.HasSuffix(pod.ClientID, "."+user) {
			return fmt.Errorf("I2: a pod of %s is left: %+v", user, pod)
		}
	}
	tombstones := 0
	for _, item := range w.items() {
		if item["pk"].(*types.AttributeValueMemberS).Value != "USER#"+user {
			continue
		}
		if item["sk"].(*types.AttributeValueMemberS).Value != "ACCOUNT" {
			return fmt.Errorf("I2: of %s an item is left", user)
		}
		tombstones++
	}
	if tombstones != 1 {
		return fmt.Errorf("I2: %s has %d tombstones", user, tombstones)
	}
	return nil
}

// CheckExactlyOne fails the test where ExactlyOne does.
func (w *World) CheckExactlyOne(user string) {
	w.t.Helper()
	w.check(w.ExactlyOne(user, Provider))
}

// CheckNothingLeft fails the test where NothingLeft does.
func (w *World) CheckNothingLeft(user string) {
	w.t.Helper()
	w.check(w.NothingLeft(user))
}

// CheckNoPod fails the test if the user has a pod left at AgentMail.
func (w *World) CheckNoPod(user string) {
	w.t.Helper()
	if left := w.pods(user, Provider); len(left) > 0 {
		w.t.Fatalf("%s has the pods %+v\n%s", user, left, w.logs)
	}
}

func (w *World) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s\n%s", err, w.Dump(), w.logs)
	}
}

// secretForm is that of AgentMail's keys.
var secretForm = regexp.MustCompile(`am_[a-z]{2}_[0-9a-f]{64}`)

// checkLogs is I7 as far as logs and metrics go.
func (w *World) checkLogs() {
	if secretForm.MatchString(w.logs.String()) {
		w.t.Errorf("I7: a secret was logged:\n%s", w.logs)
	}
}

// Logs is what the engines have logged so far, metrics included.
func (w *World) Logs() string { return w.logs.String() }

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
