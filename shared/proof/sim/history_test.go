package sim_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/store"
)

// histories are what the slots of one run and their third party show, as docs/spec/Trace.tla reads
// it. A nil *histories writes nothing down.
type histories struct {
	w  *world
	of map[caller]*history
	// pods are the attempts that made them, by their ids.
	pods map[string]int64
}

// history is that of one slot.
type history struct {
	caller
	seed  uint64
	steps []step
	// claimed is when each attempt's claim was begun, by the true time.
	claimed []time.Time
}

// step is one event, and what the slot and its third party show after it. kind and by are those of
// Trace.tla, and the others the variables of Slot.tla.
type step struct {
	kind string
	by   int64
	shown
}

type shown struct {
	tomb, state    string
	owner, attempt int64
	lease          bool
	pod, key       int64
	gone           bool
	there          int64 // the pod
	keys           []int64
	lag            string
	phases         []int
	// wish says that another key was asked for, due that there is work to do by itself, and put
	// that this was put off because the user is suspended.
	wish, due, put bool
	retiring       int64
	// over: by the clock of some process, what is retiring has had its time.
	over bool
}

func newHistories(w *world) *histories {
	h := &histories{w: w, of: map[caller]*history{}, pods: map[string]int64{}}
	for _, user := range users {
		for _, provider := range w.config.providers {
			of := caller{provider: provider, user: user}
			h.of[of] = &history{caller: of, steps: []step{{shown: shown{tomb: "none", state: "absent", lag: "ahead"}}}}
		}
	}
	return h
}

// sent notes that a create is on its way.
func (h *histories) sent(c *call) {
	if h == nil || !c.service.isParty() || !c.create || c.caller.attempt == 0 {
		return
	}
	h.note(c, "send", c.caller.attempt)
}

// happened notes what came of a call.
func (h *histories) happened(c *call, value any, err error) {
	switch {
	case h == nil:
	case c.service == dynamoDB && c.write && err == nil:
		h.written(c)
	case !c.service.isParty():
	case c.create && c.caller.attempt > 0:
		for _, pod := range h.w.mail.pods(c.caller.user) {
			if h.pods[pod.ID] == 0 {
				h.pods[pod.ID] = c.caller.attempt
			}
		}
		h.note(c, "arrives", c.caller.attempt)
	case strings.HasPrefix(c.op, http.MethodGet) && c.caller.attempt > 0:
		h.note(c, "look", c.caller.attempt)
	case strings.HasPrefix(c.op, http.MethodDelete):
		for _, of := range h.of {
			h.changed(of, "delete", c)
		}
	}
}

// byHand notes that somebody has removed a key at the third party.
func (h *histories) byHand(user, provider string) {
	if h == nil {
		return
	}
	of := h.of[caller{provider: provider, user: user}]
	h.pass(of)
	of.add("hand", 0, h.shows(of))
}

// note adds an event of the call's own slot.
func (h *histories) note(c *call, kind string, by int64) {
	of := h.of[caller{provider: c.caller.provider, user: c.caller.user}]
	h.pass(of)
	last := of.steps[len(of.steps)-1]
	if kind == "look" && last.kind == kind && last.by == by {
		return
	}
	of.add(kind, by, h.shows(of))
}

// written notes what a write to the table has changed.
func (h *histories) written(c *call) {
	for _, of := range h.of {
		h.changed(of, "write", c)
	}
}

// changed adds an event if the slot shows something else now.
func (h *histories) changed(of *history, kind string, c *call) {
	h.pass(of)
	was, now := of.steps[len(of.steps)-1].shown, h.shows(of)
	by := c.caller.attempt
	if kind == "write" {
		by = 0
		switch {
		case now.attempt > was.attempt && now.owner == 0: // another key was asked for
			kind, now.over = "ask", now.retiring != 0
			of.claimed = append(of.claimed, time.Time{})
			now.phases = append(slices.Clone(now.phases), 2)
		case now.attempt > was.attempt:
			kind, by = "claim", now.attempt
			item := h.item(of)
			of.claimed = append(of.claimed, timeOf(item["lease_until"]).Add(-lease-c.p.skew))
			now.phases = append(slices.Clone(now.phases), 0)
		case was.owner != 0 && now.owner == 0:
			by = was.owner
		}
	} else if by == 0 { // a key that its maker gives up
		for _, key := range was.keys {
			if !slices.Contains(now.keys, key) {
				by = key
			}
		}
	}
	was.due = now.due // that a check was asked for is no event
	if fmt.Sprint(was) != fmt.Sprint(now) {
		of.add(kind, by, now)
	}
}

func (of *history) add(kind string, by int64, now shown) {
	of.steps = append(of.steps, step{kind, by, now})
}

// pass lets the time go on to now: leases and overlaps end, and the replica lags or does not.
func (h *histories) pass(of *history) {
	for {
		last := of.steps[len(of.steps)-1].shown
		next, at := -1, h.w.now()
		for i, phase := range last.phases {
			end := of.claimed[i].Add(lease/2 + time.Millisecond)
			if phase == 1 {
				end = of.claimed[i].Add(lease)
			}
			if phase < 2 && !end.After(at) {
				next, at = i, end
			}
		}
		if next < 0 {
			break
		}
		last.phases = slices.Clone(last.phases)
		last.phases[next]++
		of.add("time", int64(next+1), last)
	}
	retiring := of.steps[len(of.steps)-1].shown
	if retiring.retiring != 0 && !retiring.over && !h.w.now().Add(apart).Before(timeOf(h.item(of)["retire_at"])) {
		retiring.over = true
		of.add("retire", 0, retiring)
	}
	lie, lies := h.w.lying[of.caller]
	if !lies {
		return
	}
	now := h.w.now()
	last := of.steps[len(of.steps)-1].shown
	if last.lag == "ahead" && !now.Before(lie[0]) {
		last.lag = "now"
		of.add("lag", 0, last)
	}
	if last.lag == "now" && (now.After(lie[1]) || h.w.over) {
		last.lag = "over"
		of.add("lag", 0, last)
	}
}

func (h *histories) item(of *history) map[string]types.AttributeValue {
	key := store.SlotKey(of.user, of.provider)
	return h.w.table.Item(key.PK, key.SK)
}

// shows is what can be seen of the slot now.
func (h *histories) shows(of *history) shown {
	last := of.steps[len(of.steps)-1].shown
	now := shown{tomb: last.tomb, state: "absent", attempt: last.attempt, lag: last.lag, phases: last.phases}
	tombstone := h.w.table.Item(store.SlotKey(of.user, of.provider).PK, "ACCOUNT")
	switch {
	case tombstone == nil:
		now.tomb = "none"
	case tombstone["status"] != nil:
		now.tomb = "suspended"
	case now.tomb == "rests": // it may be due once more, to remove the user from the pool
	case tombstone["due_at"] == nil:
		now.tomb = "rests"
	default:
		now.tomb = "stands"
	}
	item := h.item(of)
	if item != nil {
		now.state = textOf(item["state"])
		if now.state == string(store.Parked) {
			now.state = string(store.Revoking)
		}
		now.attempt, _ = strconv.ParseInt(numberOf(item["attempt"]), 10, 64)
		if textOf(item["owner"]) != "" {
			now.owner = now.attempt
		}
		now.lease, now.gone = item["lease_until"] != nil, item["gone_since"] != nil
		now.pod = h.pods[textOf(item["resource_id"])]
		now.key = attemptIn(h.w.mail.keyNames[textOf(item["key_id"])])
		now.retiring = attemptIn(h.w.mail.keyNames[textOf(item["retiring_key_id"])])
		now.over = last.over && now.retiring == last.retiring && now.retiring != 0
		now.wish, now.due = item["rotate"] != nil, item["due_at"] != nil
		claimed := timeOf(item["due_at"]).Equal(timeOf(item["lease_until"])) // which leaves the reason as it was
		now.put = textOf(item["reason"]) == store.ReasonSuspended && !claimed
	}
	for _, pod := range h.w.mail.pods(of.user) {
		now.there = h.pods[pod.ID]
		for _, key := range ours(pod) {
			now.keys = append(now.keys, attemptIn(key.Name))
		}
		slices.Sort(now.keys)
	}
	return now
}

func numberOf(v types.AttributeValue) string {
	n, _ := v.(*types.AttributeValueMemberN)
	if n == nil {
		return ""
	}
	return n.Value
}

// attemptIn is the number of the attempt at the end of a key's name.
func attemptIn(name string) int64 {
	n, _ := strconv.ParseInt(name[strings.LastIndexByte(name, '.')+1:], 10, 64)
	return n
}

// String is the history as a sequence of TLA+.
func (of *history) String() string {
	var lines []string
	for _, s := range of.steps[1:] {
		lines = append(lines, s.String())
	}
	return "<<\n  " + strings.Join(lines, ",\n  ") + ">>"
}

// String is the step as a tuple of TLA+.
func (s step) String() string {
	flag := func(b bool) string { return strings.ToUpper(strconv.FormatBool(b)) }
	return fmt.Sprintf("<<%q, %d, %q, %q, %d, %d, %s, %d, %d, %s, %d, {%s}, %q, <<%s>>, %s, %d, %s, %s>>", s.kind, s.by, s.tomb, s.state, s.owner, s.attempt,
		flag(s.lease), s.pod, s.key, flag(s.gone), s.there, joined(s.keys), s.lag, joined(s.phases), flag(s.wish), s.retiring, flag(s.due), flag(s.put))
}

func joined[T any](all []T) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(all), "[]"), " ", ", ")
}
