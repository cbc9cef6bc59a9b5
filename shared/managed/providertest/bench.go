package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

// examinee is the user whom most checks are about.
const examinee = "user-1"

// bench is a subject at work.
type bench struct {
	Subject
	t     *testing.T
	clock *Clock
	// neighbor is what was made for the other user.
	neighbor managed.Grant
}

// bench starts a subject. It has another user, whose id looks like the name of the examinee's first
// key, and who must not notice anything.
func (s suite) bench(t *testing.T) *bench {
	t.Helper()
	b := &bench{Subject: s(t), t: t, clock: NewClock()}
	logged := standardLog()
	neighbor := b.KeyName(examinee, 1)
	b.neighbor = b.mustProvision(b.attemptFor(neighbor, 1, credential.Resource{}, false))
	t.Cleanup(func() {
		b.wantOne(neighbor, b.neighbor, 1)
		if b.leaks(logged.String()) {
			t.Error("a secret was logged")
		}
	})
	b.Proxy.Reset()
	return b
}

// standardLog is what goes to the standard logger from the first call on.
var standardLog = sync.OnceValue(func() *lockedBuffer {
	b := &lockedBuffer{}
	log.SetOutput(io.MultiWriter(log.Writer(), b))
	return b
})

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

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// half is how long creates may be sent, by the bench's clock, which stands still unless it is
// moved.
const half = 30 * time.Second

func (b *bench) attemptFor(user string, number int64, stored credential.Resource, inherited bool) *managed.Attempt {
	return managed.NewAttempt(managed.Terms{
		User: user, Number: number, Stored: stored, Inherited: inherited, Now: b.clock.Now, Cutoff: b.clock.Now().Add(half),
	})
}

// attempt is one for the examinee.
func (b *bench) attempt(number int64, stored credential.Resource, inherited bool) *managed.Attempt {
	return b.attemptFor(examinee, number, stored, inherited)
}

// after is the attempt that the engine makes after a, of a slot that stored this. A worker that
// died, or whose commit was lost, has stored nothing.
func (b *bench) after(a *managed.Attempt, stored credential.Resource, died bool) *managed.Attempt {
	if died {
		return b.attempt(a.Number+1, stored, true)
	}
	return b.attempt(a.Number+1, a.Resource(), !a.Settled())
}

func (b *bench) provision(ctx context.Context, a *managed.Attempt) (managed.Grant, error) {
	g, err := b.Provider.Provision(ctx, b.OrgKey, a)
	return g, b.checked(err)
}

func (b *bench) sweep(ctx context.Context, a *managed.Attempt) error {
	return b.checked(b.Provider.Sweep(ctx, b.OrgKey, a))
}

func (b *bench) discard(ctx context.Context, r credential.Resource) error {
	return b.checked(b.Provider.Discard(ctx, b.OrgKey, r))
}

func (b *bench) deprovision(ctx context.Context, a *managed.Attempt) error {
	return b.checked(b.Provider.Deprovision(ctx, b.OrgKey, a))
}

// checked passes an error on if nobody minds reading it in a log.
func (b *bench) checked(err error) error {
	if err != nil && b.leaks(fmt.Sprintf("%v %+v", err, err)) {
		b.t.Error("an error carries a secret")
	}
	return err
}

func (b *bench) leaks(text string) bool {
	return b.Secrets.MatchString(text) || strings.Contains(text, b.OrgKey.Reveal()) || strings.Contains(text, b.ForeignOrgKey.Reveal())
}

func (b *bench) mustProvision(a *managed.Attempt) managed.Grant {
	b.t.Helper()
	g, err := b.provision(context.Background(), a)
	if err != nil {
		b.t.Fatalf("provisioning, attempt %d: %v", a.Number, err)
	}
	return g
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// created is how many calls that may create something were sent since the proxy's last Reset.
func (b *bench) created() int {
	n := 0
	for _, c := range b.Proxy.Calls() {
		if b.Creates(c) != Nothing {
			n++
		}
	}
	return n
}

// wantNoRepeat checks that no create was sent twice that makes another each time.
func (b *bench) wantNoRepeat() {
	b.t.Helper()
	sent := map[string]bool{}
	for _, c := range b.Proxy.Calls() {
		if b.Creates(c) != Another {
			continue
		}
		if sent[c.Op] {
			b.t.Errorf("one attempt sent %s twice", c.Op)
		}
		sent[c.Op] = true
	}
}

// ours are the keys that the third party lists under names of ours for the user.
func (b *bench) ours(user string) []Key {
	var names []string
	for n := range int64(20) {
		names = append(names, b.KeyName(user, n))
	}
	return slices.DeleteFunc(b.Keys(), func(k Key) bool { return !slices.Contains(names, k.Name) })
}

func (b *bench) lists(keyID string) bool {
	return slices.ContainsFunc(b.Keys(), func(k Key) bool { return k.ID == keyID })
}

// wantOne checks that the user has one resource and one key of ours, that the attempt of this
// number made it, and that it is the granted one and works.
func (b *bench) wantOne(user string, g managed.Grant, number int64) {
	b.t.Helper()
	resources := b.Resources(user)
	if len(resources) != 1 || resources[0] != g.Resource.ID {
		b.t.Errorf("%.40q has the resources %v, want only %s", user, resources, g.Resource.ID)
	}
	want := []Key{{Resource: g.Resource.ID, ID: g.Resource.KeyID, Name: b.KeyName(user, number)}}
	keys := b.ours(user)
	if !slices.Equal(keys, want) {
		b.t.Errorf("%.40q has the keys %v, want %v", user, keys, want)
	}
	id, accepted := b.Identify(g.Key.Reveal())
	if id != g.Resource.KeyID || !accepted {
		b.t.Errorf("the granted secret is key %q (accepted: %t), not %s", id, accepted, g.Resource.KeyID)
	}
}

func (b *bench) wantNothing(user string) {
	b.t.Helper()
	resources, keys := b.Resources(user), b.ours(user)
	if len(resources) > 0 || len(keys) > 0 {
		b.t.Errorf("of %.40q are left the resources %v and the keys %v", user, resources, keys)
	}
}

// class is an error's, as the engine takes it.
func class(err error) managed.Class {
	var classed *managed.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &classed):
		return classed.Class
	}
	return managed.Transient
}

// trouble is what befalls one call.
type trouble struct {
	name string
	// strikes says which calls it can befall; nil means any.
	strikes func(*bench, *fault.Call) bool
	// fatal: it takes the caller along.
	fatal bool
	// late: the call takes effect when the caller is done.
	late  bool
	fault func(b *bench, die func()) fault.Fault
}

// troubles are those after which everything has to come right. What happens after an effect is left
// out where there is none.
var troubles = []trouble{
	{name: "lost", fault: simply(fault.Drop())},
	{name: "answer lost", strikes: changing, fault: simply(fault.LoseAnswer())},
	{name: "failed", fault: simply(fault.Respond(http.StatusInternalServerError, nil, nil))},
	{name: "failed, though done", strikes: changing, fault: simply(fault.Delivered(fault.Respond(http.StatusInternalServerError, nil, nil)))},
	{name: "refused", fault: simply(fault.Respond(http.StatusBadRequest, nil, []byte("{}")))},
	{name: "answer cut short", fault: simply(cutShort)},
	{name: "done late", strikes: creating, late: true, fault: func(b *bench, _ func()) fault.Fault { return fault.Later(fault.UntilReleased, fault.Drop()) }},
	{name: "died before it", fatal: true, fault: func(_ *bench, die func()) fault.Fault { die(); return fault.Drop() }},
	{name: "died after it", strikes: changing, fatal: true, fault: func(_ *bench, die func()) fault.Fault {
		return fault.Delivered(func(context.Context, *fault.Call) (*fault.Answer, error) { die(); return nil, nil })
	}},
}

func creating(b *bench, c *fault.Call) bool { return b.Creates(c) != Nothing }

func changing(_ *bench, c *fault.Call) bool { return c.Method != http.MethodGet }

func simply(f fault.Fault) func(*bench, func()) fault.Fault {
	return func(*bench, func()) fault.Fault { return f }
}

// whileWaiting lets the caller's context end while it waits for the answer, which never comes.
func whileWaiting(_ *bench, die func()) fault.Fault {
	return fault.Before(func(ctx context.Context) { die(); <-ctx.Done() }, nil)
}

// cutShort gives the true answer without its last byte.
func cutShort(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
	a, err := c.Forward(context.WithoutCancel(ctx))
	if err != nil || len(a.Body) == 0 {
		return a, err
	}
	a.SetBody(a.Body[:len(a.Body)-1])
	return a, nil
}

// suffer does something during which the nth call meets trouble, and reports whether there was such
// a call. When it returns, nothing that was sent can take effect any more.
func (b *bench) suffer(nth int, w trouble, do func(context.Context) error) (struck bool, err error) {
	b.t.Helper()
	ctx, die := context.WithCancel(context.Background())
	defer die()
	var seen atomic.Int32
	b.Proxy.Reset()
	b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
		if w.strikes != nil && !w.strikes(b, c) {
			return nil
		}
		n := int(seen.Add(1))
		switch {
		case n == nth:
			return w.fault(b, die)
		case n > nth && w.fatal:
			return fault.Drop()
		}
		return nil
	})
	err = do(ctx)
	b.Proxy.SetHook(nil)
	b.wantNoRepeat()
	struck = int(seen.Load()) >= nth
	if struck && w.late {
		b.must(b.Proxy.Deliver())
	}
	return struck, err
}

// each tries 1, 2, … until there was no such call, and returns how many there were.
func each(try func(nth int) (struck bool)) int {
	nth := 1
	for try(nth) {
		nth++
	}
	return nth - 1
}

// eachOf is each, and fails if there was no call at all.
func eachOf(t *testing.T, try func(nth int) (struck bool)) {
	t.Helper()
	if each(try) == 0 {
		t.Error("there was no such call")
	}
}

// operation is something that a provider does for a user who has a resource, in it a key of an
// earlier attempt.
type operation struct {
	name string
	// mayCreate: it may send a create, be it as a lookup.
	mayCreate bool
	prepare   func(*bench) func(context.Context) error
}

var operations = []operation{
	{"provision", true, func(b *bench) func(context.Context) error {
		b.mustProvision(b.attempt(1, credential.Resource{}, false))
		a := b.attempt(2, credential.Resource{}, true)
		return func(ctx context.Context) error {
			_, err := b.provision(ctx, a)
			return err
		}
	}},
	{"sweep", false, func(b *bench) func(context.Context) error {
		stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
		b.Plant(examinee, b.KeyName(examinee, 2))
		a := b.attempt(3, stored, true)
		return func(ctx context.Context) error { return b.sweep(ctx, a) }
	}},
	{"discard", false, func(b *bench) func(context.Context) error {
		made := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
		return func(ctx context.Context) error { return b.discard(ctx, made) }
	}},
	{"deprovision", false, func(b *bench) func(context.Context) error {
		stored := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
		b.fill()
		a := b.attempt(2, stored, false)
		return func(ctx context.Context) error { return b.deprovision(ctx, a) }
	}},
	{"deprovision what is not stored", true, func(b *bench) func(context.Context) error {
		b.mustProvision(b.attempt(1, credential.Resource{}, false))
		b.fill()
		a := b.attempt(2, credential.Resource{}, true)
		return func(ctx context.Context) error { return b.deprovision(ctx, a) }
	}},
}

func (b *bench) fill() {
	if b.Fill != nil {
		b.Fill(examinee)
	}
}

// eachOperation tries each operation with trouble at each of its calls.
func (s suite) eachOperation(t *testing.T, try func(t *testing.T, op operation, nth int) (struck bool)) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			eachOf(t, func(nth int) bool { return try(t, op, nth) })
		})
	}
}
