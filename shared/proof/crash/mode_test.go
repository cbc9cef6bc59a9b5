package crash_test

import (
	"context"
	"net/http"
	"strings"
	"time"

	"managed-credentials/shared/local/fault"
)

// mode is one way in which a call goes wrong.
type mode struct {
	name string
	// on says which calls can go wrong this way with an effect that another mode does not have.
	on func(*fault.Call) bool
	// do makes the fault; forward carries the call out.
	do func(r *run, p *process, forward fault.Fault) fault.Fault
	// times is how many calls of the same kind by the same process go wrong in a row, so that a
	// client that repeats runs out of repeats; 0 means one.
	times int
	// alone: this mode is for the search for single faults only.
	alone bool
	// holds: the process is held while the clock goes on, and so all that it does has to stand
	// still.
	holds bool
}

// repeats is how often the clients send a call that may be repeated.
const repeats = 3

var modes = []*mode{
	// For pairs it adds nothing: to die before a call leaves what it left to die after the last
	// call before it that had an effect.
	{name: "dead-before", on: every, alone: true, do: func(_ *run, p *process, _ fault.Fault) fault.Fault {
		return func(context.Context, *fault.Call) (*fault.Answer, error) { p.Kill(); return nil, nil }
	}},
	{name: "dead-after", on: effect, do: func(_ *run, p *process, forward fault.Fault) fault.Fault {
		return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			_, err := forward(ctx, c)
			p.Kill()
			return nil, err
		}
	}},
	{name: "answer-late", on: every, holds: true, do: func(r *run, p *process, forward fault.Fault) fault.Fault {
		return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			a, err := forward(ctx, c)
			r.pass(p)
			return a, err
		}
	}},
	{name: "request-late", on: lateAllowed, holds: true, do: func(r *run, p *process, forward fault.Fault) fault.Fault {
		return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			r.pass(p)
			return forward(ctx, c)
		}
	}},
	{name: "effect-late", on: create, do: func(r *run, _ *process, _ fault.Fault) fault.Fault { return late(r) }},
	{name: "effect-late-dead", on: create, do: func(r *run, p *process, _ fault.Fault) fault.Fault {
		return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			p.Kill()
			return late(r)(ctx, c)
		}
	}},
	{name: "effect-late-thrice", on: create, alone: true, times: repeats, do: func(r *run, _ *process, _ fault.Fault) fault.Fault { return late(r) }},
	{name: "answer-lost", on: effect, alone: true, do: func(_ *run, _ *process, forward fault.Fault) fault.Fault { return then(forward, fault.Drop()) }},
	{name: "answer-lost-thrice", on: effect, times: repeats, do: func(_ *run, _ *process, forward fault.Fault) fault.Fault { return then(forward, fault.Drop()) }},
	{name: "error-after", on: effect, alone: true, do: func(_ *run, _ *process, forward fault.Fault) fault.Fault { return then(forward, broken) }},
	{name: "request-lost", on: effect, alone: true, do: func(*run, *process, fault.Fault) fault.Fault { return fault.Drop() }},
	{name: "request-lost-thrice", on: effect, times: repeats, do: func(*run, *process, fault.Fault) fault.Fault { return fault.Drop() }},
	{name: "read-lost-thrice", on: read, alone: true, times: repeats, do: func(*run, *process, fault.Fault) fault.Fault { return fault.Drop() }},
	{name: "conflict", on: tableWrite, alone: true, do: func(*run, *process, fault.Fault) fault.Fault { return fault.TransactionConflict() }},
}

var broken = fault.AWSError(http.StatusInternalServerError, "InternalServerError", "")

// then carries the call out, and lets the client have what f gives it.
func then(forward, f fault.Fault) fault.Fault {
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		_, err := forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return f(ctx, c)
	}
}

// late loses a create for its sender, and lets it take effect as late as A1 allows; never, if that
// time is over already.
func late(r *run) fault.Fault {
	return func(_ context.Context, c *fault.Call) (*fault.Answer, error) {
		at := r.sentAt(c).Add(lease/2 - time.Millisecond)
		if at.Before(r.w.Clock.Now()) {
			return nil, nil
		}
		r.w.Clock.At(at, func() {
			_, err := forward(context.Background(), c)
			if err != nil {
				r.violated("the harness: %v", err)
			}
		})
		return nil, nil
	}
}

func every(*fault.Call) bool { return true }

// create: AWS's calls have names, and those of third parties paths.
func create(c *fault.Call) bool { return strings.HasPrefix(c.Op, "POST /") }

func tableWrite(c *fault.Call) bool {
	switch c.Op {
	case "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems":
		return true
	}
	return false
}

// effect: the call changes something.
func effect(c *fault.Call) bool {
	return create(c) || tableWrite(c) || c.Op == "BatchWriteItem" || c.Method == "DELETE" || c.Op == "AdminDeleteUser"
}

// read: the call changes nothing.
func read(c *fault.Call) bool { return !effect(c) }

// lateAllowed: what changes something may take effect at any time, but a create not after A1.
func lateAllowed(c *fault.Call) bool { return effect(c) && !create(c) }
