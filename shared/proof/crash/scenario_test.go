package crash_test

import (
	"context"

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

const alice, bob, carol = "alice", "bob", "carol"

// scenario is something that users and the service do, a few calls long.
type scenario struct {
	name string
	// before is what was done earlier, without faults.
	before func(r *run)
	do     func(r *run)
	// after is what an operator does again once faults are over; nil for nothing.
	after func(r *run)
	// users live at the end, deleted are those whose deletion was asked for.
	users, deleted []string
	// off are those who had their credential removed, and users those who asked for it again, if
	// asks.
	off  []string
	asks bool
	// leave: who is deleted does it themselves, and is removed from the user pool, too.
	leave bool
	// pool: the user pool is followed.
	pool bool
	// providers are where they have their credentials; nil means AgentMail.
	providers []string
	// keeps: the users' keys work all the time, and none of them is replaced.
	keeps bool
	// budget is how long a list may take; 0 means the usual.
	budget time.Duration
	// sampled: it is of several users or providers, and so long that only a sample of the pairs of
	// faults is searched.
	sampled bool
	// apart: it is searched with clocks apart, too.
	apart bool
	// age is how old keys may become; 0 for as old as they like.
	age time.Duration
	// keysLive is how long after a suspension the user's keys are revoked; 0 for never.
	keysLive time.Duration
	// several: one process does several things at a time, so that it cannot be held as a whole.
	several bool
}

var scenarios = []*scenario{
	{name: "first list", apart: true, users: []string{alice}, do: func(r *run) { r.process().list(alice) }},
	{name: "a create at the last moment", apart: true, users: []string{alice}, do: func(r *run) {
		p := r.process()
		r.before(p, "/v0/pods", func() { r.advance(lease/2 - 2*time.Millisecond) })
		p.list(alice)
	}},
	{name: "two lists at once", users: []string{alice}, budget: time.Second, do: func(r *run) {
		atOnce(func() { r.process().list(alice) }, func() { r.process().list(alice) })
	}},
	{name: "list while the account is deleted", deleted: []string{alice}, do: func(r *run) {
		atOnce(func() { r.process().list(alice) }, func() { r.process().remove(alice) })
	}},
	{name: "deletion before the claim", deleted: []string{alice}, do: func(r *run) { removedDuring(r, "TransactWriteItems") }},
	{name: "deletion before the key", apart: true, deleted: []string{alice}, do: func(r *run) { removedDuring(r, "/api-keys") }},
	{name: "deletion before the commit", deleted: []string{alice}, do: func(r *run) { removedDuring(r, "UpdateItem") }},
	{name: "deletion", deleted: []string{alice}, before: listed, do: func(r *run) { r.process().remove(alice) }},
	{name: "deletion with a credential of one's own", deleted: []string{alice}, before: func(r *run) {
		listed(r)
		m := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}
		_, err := r.w.Store.Create(context.Background(), alice, m, []byte("sealed"))
		r.check(err)
	}, do: func(r *run) { r.process().remove(alice) }},
	{name: "a credential of one's own while the account is deleted", deleted: []string{alice}, before: listed, do: func(r *run) {
		p := r.process()
		r.before(p, "TransactWriteItems", func() { r.process().remove(alice) })
		m := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey}
		_, _ = p.Store.Create(p.Context, alice, m, []byte("sealed")) // refused, as a rule
	}},
	{name: "an AgentMail that takes few calls", deleted: []string{alice}, before: func(r *run) {
		r.w.Mail.SetSwitches(fake.Switches{CallsPerSecond: 1, Burst: 8})
		listed(r)
		r.advance(time.Minute)
	}, do: func(r *run) {
		r.process().remove(alice)
		r.round(10 * time.Second)
	}},
	{name: "deletion of a pod with inboxes", deleted: []string{alice}, before: func(r *run) {
		listed(r)
		r.w.Mail.SetSwitches(fake.Switches{InboxDeletion: 50 * time.Second})
		r.w.Mail.SeedPod(fake.Pod{ClientID: alice, Inboxes: []fake.Inbox{{Address: "a@agentmail.to"}}})
	}, do: func(r *run) { r.process().remove(alice) }},
	{name: "two deletions at once", leave: true, deleted: []string{alice}, before: listed,
		do: func(r *run) {
			event := make(chan struct{})
			r.removed = func() { r.process().remove(alice); close(event) } // the event that the removal raises
			r.process().leave(alice)
			if r.raised.Load() {
				<-event
			}
		}},
	{name: "list again after a failure", users: []string{alice}, do: func(r *run) {
		r.w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Code("limit_exceeded")})
		r.process().list(alice)
		r.advance(3 * time.Second)
		r.process().list(alice)
	}},
	{name: "deletion after a failure", deleted: []string{alice}, do: func(r *run) {
		r.w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fake.Code("limit_exceeded")})
		r.process().list(alice)
		r.process().remove(alice)
	}},
	{name: "a page that polls a slow provider", users: []string{alice}, budget: time.Second, do: func(r *run) {
		p := r.process()
		r.before(p, "/api-keys", func() {
			r.process().list(alice) // for as long as a list may take
			r.advance(time.Second)
			r.process().list(alice)
		})
		p.list(alice)
	}},
	{name: "a sweep", users: []string{alice}, before: unsettled, do: func(r *run) {
		r.advance(lease + 11*time.Second)
		r.process().reconcile()
	}},
	{name: "deletion during a sweep", apart: true, deleted: []string{alice}, before: unsettled, do: func(r *run) {
		r.advance(lease + 11*time.Second)
		p := r.process()
		r.before(p, "/api-keys", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "take-over", apart: true, users: []string{alice}, before: func(r *run) {
		r.w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.LoseAnswer()})
		r.process().list(alice)
	}, do: func(r *run) {
		r.advance(lease + 11*time.Second)
		r.process().reconcile()
	}},
	{name: "KMS is down", users: []string{alice}, do: func(r *run) {
		r.down.Store("Encrypt")
		r.process().list(alice)
		r.down.Store("")
	}},
	{name: "an adopted pod", users: []string{alice}, before: adopt, do: func(r *run) { r.process().list(alice) }},
	{name: "deletion of an adopted pod", deleted: []string{alice}, before: func(r *run) { adopt(r); r.process().list(alice) },
		do: func(r *run) { r.process().remove(alice) }},
	{name: "a key that was revoked by hand", apart: true, users: []string{alice}, before: reported((*managedtest.World).RemoveKey),
		do: func(r *run) { r.process().reconcile() }},
	{name: "a pod that was deleted by hand", users: []string{alice}, before: reported((*managedtest.World).RemovePod),
		do: func(r *run) { r.process().reconcile() }},
	{name: "deletion while a key is made anew", deleted: []string{alice}, before: reported((*managedtest.World).RemoveKey), do: func(r *run) {
		p := r.process()
		r.before(p, "/api-keys", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "a deletion while a replica lags", apart: true, deleted: []string{alice}, before: listed, do: func(r *run) {
		r.lags(10 * time.Second)
		r.process().remove(alice)
		r.round(managed.LastLook)
	}},
	{name: "a list of keys that is empty during a check", apart: true, keeps: true, users: []string{alice}, before: reported(nil), do: func(r *run) {
		r.lose(10*time.Second, fake.ListKeys, noKeys)
		r.round(0)
		r.round(managed.LastLook)
	}},
	{name: "a list of keys that is not found during a check", keeps: true, users: []string{alice}, before: reported(nil), do: func(r *run) {
		r.lose(10*time.Second, fake.ListKeys, notFound)
		r.round(0)
		r.round(managed.LastLook)
	}},
	{name: "a key that is hidden for longer than one look", users: []string{alice}, before: reported(nil), do: func(r *run) {
		r.lose(managed.LastLook+10*time.Second, fake.ListKeys, noKeys)
		r.round(0)
		r.round(managed.LastLook)
		r.round(lease + store.SkewMargin)
	}},
	{name: "a rotation", apart: true, users: []string{alice}, before: rotated(overlap), do: func(r *run) {
		r.round(0)
		r.round(overlap)
	}},
	{name: "a rotation without an overlap", users: []string{alice}, before: rotated(0), do: func(r *run) {
		r.round(0)
		r.round(0)
	}},
	{name: "a rotation in the overlap of another", users: []string{alice}, before: func(r *run) { rotated(time.Hour)(r); r.round(0); r.rotate(0) },
		do: func(r *run) { r.round(0) }},
	{name: "a key that is reported and is there", users: []string{alice}, before: rejected, do: func(r *run) {
		r.round(0)
		r.round(0)
		r.round(time.Hour)
	}},
	{name: "deletion while a reported key is replaced", deleted: []string{alice}, before: func(r *run) { rejected(r); r.round(0) },
		do: func(r *run) {
			r.advance(time.Millisecond)
			p := r.process()
			r.before(p, "UpdateItem", func() { r.process().remove(alice) }) // the wish for another key
			p.reconcile()
		}},
	{name: "deletion in the overlap", deleted: []string{alice}, before: func(r *run) { rotated(time.Hour)(r); r.round(0) },
		do: func(r *run) { r.process().remove(alice) }},
	{name: "deletion during a rotation", apart: true, deleted: []string{alice}, before: rotated(time.Hour), do: func(r *run) {
		r.advance(time.Millisecond)
		p := r.process()
		r.before(p, "UpdateItem", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "all keys of a provider are replaced", sampled: true, users: []string{alice, bob}, before: func(r *run) {
		listed(r)
		r.process().list(bob)
		r.recover()
		r.remember(alice, bob)
	}, do: func(r *run) {
		r.rotateAll()
		r.walk()
		r.round(0)
		r.walk()
		r.round(0)
	}, after: (*run).allReplaced},
	{name: "deletion while all keys are replaced", sampled: true, users: []string{alice}, deleted: []string{bob}, before: func(r *run) {
		listed(r)
		r.process().list(bob)
		r.recover()
		r.remember(alice)
		r.rotateAll()
	}, do: func(r *run) {
		r.advance(store.SkewMargin + time.Millisecond)
		p := r.process()
		r.before(p, "UpdateItem", func() { r.process().remove(bob) }) // the claim of the job
		_, _ = p.RotationsDue(p.Context)
		r.round(0)
	}, after: (*run).allReplaced},
	{name: "a provider is drained", users: []string{alice}, before: func(r *run) {
		listed(r)
		r.w.SetMode(managed.Draining)
	}, do: func(r *run) {
		r.drain()
		r.drainsOn()
		r.round(0)
		r.round(managed.LastLook)
	}, after: func(r *run) { r.drained(alice) }},
	{name: "deletion while a provider is drained", deleted: []string{alice}, before: asksToDrain, do: func(r *run) {
		p := r.process()
		r.before(p, "/v0/pods", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "keys that are too old", sampled: true, age: 24 * time.Hour, users: []string{alice, bob}, before: func(r *run) {
		listed(r)
		r.process().list(bob)
		r.recover()
		r.remember(alice, bob)
		r.advance(24 * time.Hour)
	}, do: func(r *run) {
		r.walk()
		r.round(0)
	}, after: (*run).oldOnesReplaced},
	{name: "a key that expires", apart: true, users: []string{alice}, before: expires, do: func(r *run) {
		r.round(0)
		r.round(time.Hour)
	}, after: (*run).renewed},
	{name: "deletion while a key that expires is replaced", deleted: []string{alice}, before: expires, do: func(r *run) {
		p := r.process()
		r.before(p, "UpdateItem", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "suspension before the claim", users: []string{alice}, do: suspendedDuring("TransactWriteItems"), after: enabled},
	{name: "suspension before the key", apart: true, users: []string{alice}, do: suspendedDuring("/api-keys"), after: enabled},
	{name: "suspension in an overlap", apart: true, users: []string{alice}, before: func(r *run) { rotated(overlap)(r); r.round(0) }, do: func(r *run) {
		r.process().suspend(alice)
		r.round(overlap)
		r.process().enable(alice)
		r.round(0)
	}, after: enabled},
	{name: "enabling while a check is put off", users: []string{alice}, before: func(r *run) { reported(nil)(r); r.process().suspend(alice) }, do: func(r *run) {
		p := r.process()
		r.before(p, "TransactWriteItems", func() { r.process().enable(alice) })
		p.reconcile()
	}, after: enabled},
	{name: "the keys of a suspended user are revoked", apart: true, keysLive: keysLive, users: []string{alice}, before: forLong, do: func(r *run) {
		r.round(0)
		r.round(0)
		r.round(managed.LastLook)
	}, after: enabled},
	{name: "enabling while a suspended user's keys are revoked", keysLive: keysLive, users: []string{alice}, before: forLong, do: func(r *run) {
		p := r.process()
		r.before(p, "TransactWriteItems", func() { r.process().enable(alice) })
		p.reconcile()
		r.round(0)
	}, after: enabled},
	{name: "a list after a suspended user's keys were revoked", keysLive: keysLive, users: []string{alice}, before: func(r *run) {
		forLong(r)
		r.recover()
		r.process().enable(alice)
	}, do: func(r *run) { r.process().list(alice) }},
	{name: "what a suspended user's keys were in is given up", keysLive: keysLive, off: []string{alice}, before: func(r *run) {
		forLong(r)
		r.round(0)
		r.round(0)
		r.process().enable(alice)
		r.advance(managed.LastLook)
	}, do: func(r *run) {
		p := r.process()
		r.before(p, "UpdateItem", func() { r.process().retract(alice) }) // the claim of the last look at the keys
		p.reconcile()
	}},
	{name: "deletion while a suspended user's keys are revoked", apart: true, keysLive: keysLive, deleted: []string{alice}, before: forLong, do: func(r *run) {
		r.round(0)
		p := r.process()
		r.before(p, "/api-keys", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "look at the user pool that is overtaken", pool: true, users: []string{alice}, before: reported(nil), do: func(r *run) {
		r.switchInPool(false)
		p := r.process()
		r.before(p, "UpdateItem", func() {
			r.switchInPool(true)
			r.process().follow()
		})
		p.follow()
	}, after: followed},
	{name: "enabling in the user pool", pool: true, users: []string{alice}, before: func(r *run) {
		reported(nil)(r)
		r.switchInPool(false)
		r.process().follow()
		r.round(0)
	}, do: func(r *run) {
		r.switchInPool(true)
		r.process().follow()
		r.round(0)
	}, after: followed},
	{name: "deletion of a suspended user", apart: true, deleted: []string{alice}, before: func(r *run) { unsettled(r); r.process().suspend(alice) },
		do: func(r *run) { r.process().remove(alice) }},
	{name: "deletion while a suspended user's work is put off", deleted: []string{alice}, before: func(r *run) { reported(nil)(r); r.process().suspend(alice) },
		do: func(r *run) {
			p := r.process()
			r.before(p, "TransactWriteItems", func() { r.process().remove(alice) })
			p.reconcile()
		}},
	{name: "an audit that repairs", sampled: true, users: []string{alice}, deleted: []string{bob}, before: func(r *run) {
		listed(r)
		r.w.RemoveKey(alice)
		r.process().remove(bob)
		r.recover()
		r.w.Mail.SeedPod(fake.Pod{ClientID: bob, Keys: []fake.Key{{Name: bob + "-agpt-managed.1"}}})
	}, do: audited, after: audited},
	{name: "a credential that its user gives up", apart: true, off: []string{alice}, before: listed, do: func(r *run) {
		r.process().retract(alice)
		r.round(0)
		r.round(managed.LastLook)
	}},
	{name: "a credential that is given up during a sweep", apart: true, off: []string{alice}, before: unsettled, do: func(r *run) {
		r.advance(lease + 11*time.Second)
		p := r.process()
		r.before(p, "/api-keys", func() { r.process().retract(alice) })
		p.reconcile()
	}},
	{name: "a credential that is given up while it is made anew", off: []string{alice}, before: reported((*managedtest.World).RemoveKey), do: func(r *run) {
		r.round(0)
		r.advance(managed.LastLook)
		p := r.process()
		r.before(p, "/api-keys", func() { r.process().retract(alice) })
		p.reconcile()
	}},
	{name: "deletion of a credential that is given up", deleted: []string{alice}, before: func(r *run) {
		listed(r)
		r.process().retract(alice)
	}, do: func(r *run) {
		p := r.process()
		r.before(p, "/api-keys", func() { r.process().remove(alice) })
		p.reconcile()
	}},
	{name: "a credential that is asked for again", apart: true, asks: true, users: []string{alice}, before: func(r *run) {
		listed(r)
		r.process().retract(alice)
		r.recover()
	}, do: func(r *run) {
		atOnce(func() { r.process().want(alice) }, func() { r.process().want(alice) })
	}},
	{name: "deletion while a credential is asked for again", deleted: []string{alice}, before: func(r *run) {
		listed(r)
		r.process().retract(alice)
		r.recover()
	}, do: func(r *run) {
		atOnce(func() { r.process().want(alice) }, func() { r.process().remove(alice) })
	}},
	{name: "three providers at once", sampled: true, several: true, users: []string{alice}, providers: three, before: threeKeys, do: func(r *run) { r.process().list(alice) }},
	{name: "deletion at three providers", sampled: true, several: true, deleted: []string{alice}, providers: three, before: func(r *run) { threeKeys(r); r.process().list(alice) }, do: func(r *run) { r.process().remove(alice) }},
	{name: "the org key is rotated", sampled: true, users: []string{alice, bob}, do: func(r *run) {
		p := r.process()
		p.list(bob)
		fresh := "am_us_" + strings.Repeat("e", 64)
		r.w.Mail.AcceptOrgKey(fresh, fake.OrganizationID)
		r.w.Mail.RejectOrgKey(fake.OrgKey)
		r.w.SetOrgKeys(`{"agent_mail":"` + fresh + `"}`)
		p.list(alice)
	}},
}

func atOnce(all ...func()) {
	var group sync.WaitGroup
	for _, do := range all {
		group.Go(do)
	}
	group.Wait()
}

// listed gives alice her credential: a busy machine may let a list run out of its budget.
func listed(r *run) {
	for range 5 {
		if len(r.process().list(alice).Credentials) > 0 {
			return
		}
		r.recover()
	}
	r.violated("the scenario cannot begin: no list has brought a credential")
}

// unsettled leaves a ready slot behind that has to be swept.
func unsettled(r *run) {
	r.w.Mail.Inject(fault.Rule{Op: fake.CreatePod, Times: 1, Fault: fault.LoseAnswer()})
	listed(r)
}

var (
	noKeys   = fault.RespondJSON(200, `{"count":0,"api_keys":[]}`)
	noPods   = fault.RespondJSON(200, `{"count":0,"pods":[]}`)
	notFound = fake.Status(404)
)

// lose has AgentMail answer a call about alice's pod like that for a while.
func (r *run) lose(d time.Duration, op fake.Operation, answer fault.Fault) {
	f := fault.Rule{Op: op, About: alice, Fault: answer}
	if op == fake.ListPods {
		f.About = "" // it is about all pods
	}
	id := r.w.Mail.Inject(f)
	r.w.Clock.At(r.w.Clock.Now().Add(d), func() { r.w.Mail.RemoveFault(id) })
}

// lags has AgentMail know nothing of alice's pod for a while.
func (r *run) lags(d time.Duration) {
	for _, op := range []fake.Operation{
		fake.GetPod, fake.DeletePod, fake.ListKeys, fake.DeleteKey, fake.ListInboxes, fake.ListDomains, fake.ListWebhooks,
	} {
		r.lose(d, op, notFound)
	}
	r.lose(d, fake.ListPods, noPods)
}

// round does one round of reconcile, so much later.
func (r *run) round(after time.Duration) {
	r.advance(after + time.Millisecond)
	r.process().reconcile()
}

// reported leaves a slot behind that is due for a check, and of which something was removed by
// hand, unless that is nil.
func reported(byHand func(*managedtest.World, string)) func(*run) {
	return func(r *run) {
		listed(r)
		if byHand != nil {
			byHand(r.w, alice)
		}
		r.w.Report(alice)
		r.advance(time.Millisecond)
	}
}

// rejected leaves a slot behind whose key an executor has reported, though it is there.
func rejected(r *run) {
	listed(r)
	slot, _, err := r.w.Slot(alice, agent)
	r.check(err)
	r.check(r.w.Store.Report(context.Background(), slot, 10*time.Minute))
	r.advance(time.Millisecond)
}

// overlap is for how long a replaced key serves on, in the scenarios that see it go.
const overlap = 2 * time.Minute

// rotated leaves a slot behind whose key is to be replaced.
func rotated(overlap time.Duration) func(*run) {
	return func(r *run) {
		listed(r)
		r.rotate(overlap)
	}
}

func (r *run) rotate(overlap time.Duration) {
	p := r.process()
	r.check(p.Rotate(p.Context, managed.Rotation{User: alice, Provider: agent, Overlap: overlap}))
}

// rotateAll begins to replace all keys. An error is for the operator to repeat it.
func (r *run) rotateAll() {
	p := r.process()
	_, _ = p.RotateAll(p.Context, managed.RotationOfAll{Provider: agent})
}

// walk has the rotation of all keys go on, as soon as a job is free whose process has died.
func (r *run) walk() {
	r.advance(3 * time.Minute)
	p := r.process()
	_, _ = p.RotationsDue(p.Context)
}

// oldOnesReplaced has the schedule look for old keys until none that was remembered is stored.
func (r *run) oldOnesReplaced() {
	left := func() int {
		n := 0
		for user, key := range r.old {
			if slotOf(r, user).Resource.KeyID == key {
				n++
			}
		}
		return n
	}
	for n := 0; n < 5 && left() > 0; n++ {
		r.advance(time.Hour) // a walk begins once in that time
		r.walk()
		r.recover()
	}
	if left() > 0 {
		r.violated("of %d keys that were too old %d are stored", len(r.old), left())
	}
}

// expires leaves a slot behind whose key is to be replaced because it expires. What is made from
// now on lives for longer.
func expires(r *run) {
	r.w.Mail.ExpireOrgKey(fake.OrgKey, r.w.Clock.Now().Add(4*time.Hour))
	listed(r)
	r.recover()
	r.remember(alice)
	r.advance(slotOf(r, alice).DueAt.Sub(r.w.Clock.Now()) + lease)
	r.w.Mail.ExpireOrgKey(fake.OrgKey, r.w.Clock.Now().Add(1000*time.Hour))
}

func slotOf(r *run, user string) store.Slot {
	slot, _, err := r.w.Slot(user, agent)
	r.check(err)
	return slot
}

// renewed is that the key which expires was replaced.
func (r *run) renewed() {
	slot := slotOf(r, alice)
	if slot.Resource.KeyID == r.old[alice] || slot.ExpiresAt.Sub(r.w.Clock.Now()) < 100*time.Hour {
		r.violated("the key was to be replaced, and the slot is %+v", slot)
	}
}

// remember notes which keys these users have, all of which are from before what comes next.
func (r *run) remember(users ...string) {
	r.advance(time.Millisecond)
	r.old = map[string]string{}
	for _, user := range users {
		slot, _, err := r.w.Slot(user, agent)
		r.check(err)
		r.old[user] = slot.Resource.KeyID
	}
}

// allReplaced has the rotation of all keys go on to its end, and be asked for again if it was never
// begun. No key that was remembered is stored then, or retiring.
func (r *run) allReplaced() {
	for range 20 {
		all, err := r.process().Rotations(context.Background())
		r.check(err)
		if len(all) == 1 && all[0].Ended != nil && all[0].UnderWay == nil {
			break
		}
		if len(all) == 1 && all[0].UnderWay == nil {
			r.advance(3 * time.Minute)
			r.rotateAll()
		}
		r.walk()
		r.recover()
	}
	all, err := r.process().Rotations(context.Background())
	r.check(err)
	if len(all) != 1 || all[0].Ended == nil || all[0].UnderWay != nil {
		r.violated("the rotation of all keys does not end: %+v", all)
	}
	for user, key := range r.old {
		slot, _, err := r.w.Slot(user, agent)
		r.check(err)
		if slot.Resource.KeyID == key || slot.Retiring.KeyID != "" {
			r.violated("the key of %s was to be replaced, and the slot is %+v", user, slot)
		}
	}
}

// drain begins to drain the provider. An error is for the operator to repeat it.
func (r *run) drain() {
	p := r.process()
	_, _ = p.Drain(p.Context, managed.DrainOrder{Provider: agent, Order: theSearch})
}

// drainsOn has the draining go on, as soon as a job is free whose process has died.
func (r *run) drainsOn() {
	r.advance(3 * time.Minute)
	p := r.process()
	_, _ = p.DrainsDue(p.Context)
}

// asksToDrain leaves a slot behind whose removal a draining has asked for.
func asksToDrain(r *run) {
	listed(r)
	r.w.SetMode(managed.Draining)
	r.drain()
	r.drainsOn()
	r.advance(time.Millisecond)
}

// drained has the draining go on to its end, and be ordered again if it was never begun. Nothing of
// these users' is there then; and they get another one once the provider is for everybody again.
func (r *run) drained(users ...string) {
	var s managed.DrainStatus
	for n := 0; n < 20 && (s.Ended == nil || s.UnderWay != nil); n++ {
		if s.UnderWay == nil {
			r.advance(3 * time.Minute)
			r.drain()
		}
		r.drainsOn()
		r.recover()
		all, err := r.process().DrainsDue(context.Background())
		r.check(err)
		if len(all) == 1 {
			s = all[0]
		}
	}
	if s.Ended == nil || s.UnderWay != nil {
		r.violated("the draining does not end: %+v", s)
	}
	for _, user := range users {
		r.check(r.w.NothingThere(user, agent))
		slot, _, err := r.w.Slot(user, agent)
		if err != nil || slot.State != store.Off {
			r.violated("%s was to be drained, and the slot is %+v, %v", user, slot, err)
		}
	}
	r.w.SetMode(managed.Auto)
}

func audited(r *run) {
	p := r.process()
	_, _ = p.Audit(p.Context, managed.AuditRequest{Provider: agent, Repair: 10, By: "the search"}) // what it missed, the next one finds
}

func adopt(r *run) {
	r.w.Mail.SeedPod(fake.Pod{ClientID: alice, Name: adopted, Keys: []fake.Key{{Name: alice + "-agpt-managed"}}})
}

// suspendedDuring has a user suspended when their list is about to make its first call of that
// operation, and enabled some time later.
func suspendedDuring(op string) func(*run) {
	return func(r *run) {
		p := r.process()
		r.before(p, op, func() { r.process().suspend(alice) })
		p.list(alice)
		r.round(lease + store.SkewMargin)
		r.process().enable(alice)
	}
}

// keysLive is how long a suspended user's keys live on in the scenarios that have them revoked.
const keysLive = time.Hour

// forLong has a user suspended until it is time for their keys to be revoked.
func forLong(r *run) {
	listed(r)
	r.process().suspend(alice)
	r.advance(keysLive)
}

// enabled enables the user, whom a fault may have left suspended.
func enabled(r *run) {
	p := r.process()
	r.check(p.Enable(p.Context, alice, theSearch))
}

// followed checks that alice is suspended exactly if she is disabled in the user pool, once the
// events have come again whose looks a fault has ended; and has her enabled.
func followed(r *run) {
	if r.unfollowed.Load() > 0 {
		r.process().follow()
	}
	if r.w.Suspended(alice) != r.offInPool.Load() {
		r.violated("alice is disabled in the user pool: %t, and suspended: %t", r.offInPool.Load(), r.w.Suspended(alice))
	}
	r.switchInPool(true)
	r.process().follow()
}

// removedDuring deletes the account when a list is about to make its first call of that operation.
func removedDuring(r *run, op string) {
	p := r.process()
	r.before(p, op, func() { r.process().remove(alice) })
	p.list(alice)
}

var three = []string{agent, "second_mail", "third_mail"}

func threeKeys(r *run) {
	r.w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `","second_mail":"` + fake.OrgKey + `","third_mail":"` + fake.OrgKey + `"}`)
}

// inWorld are the options of the world in which the scenario happens.
func (s *scenario) inWorld(t testing.TB) managedtest.Options {
	o := managedtest.Options{Lease: lease, Budget: budget, UserPool: s.leave || s.pool, OptOut: true, MaxKeyAge: s.age, SuspendedKeysLive: s.keysLive}
	if s.budget > 0 {
		o.Budget = s.budget
	}
	o.Providers = func(url string) []managed.Provider {
		var all []managed.Provider
		for _, name := range s.at() {
			all = append(all, managedtest.AgentMail(t, url, name))
		}
		return all
	}
	return o
}

// at are the scenario's providers.
func (s *scenario) at() []string {
	if s.providers == nil {
		return []string{agent}
	}
	return s.providers
}
