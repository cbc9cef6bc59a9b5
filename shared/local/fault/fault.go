package fault

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// A Fault decides what becomes of one call: the target sees what the fault forwards, and the client
// gets the answer that it returns. A nil answer closes the client's connection without one; an
// error, which stands for a mistake in the test or a target out of reach, is answered with status
// 502 and its text. The context ends when the client goes away. A nil Fault passes the call
// through.
type Fault func(ctx context.Context, c *Call) (*Answer, error)

func (f Fault) apply(ctx context.Context, c *Call) (*Answer, error) {
	if f == nil {
		return c.Forward(ctx)
	}
	return f(ctx, c)
}

// Drop loses the request: the target never sees it, and the connection closes.
func Drop() Fault {
	return func(context.Context, *Call) (*Answer, error) { return nil, nil }
}

// Respond gives this answer without the target's knowledge.
func Respond(status int, header http.Header, body []byte) Fault {
	return func(context.Context, *Call) (*Answer, error) {
		return &Answer{Status: status, Header: header.Clone(), Body: body}, nil
	}
}

// Delivered first forwards the request and throws the answer away; what the client then gets is up
// to f. The target works on the request to its end, whether or not the client waits for it.
// Delivered(AWSError(…)) is an error that hides an effect.
func Delivered(f Fault) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		_, err := c.Forward(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		return f.apply(ctx, c)
	}
}

// LoseAnswer loses the answer: the request takes effect, and the connection closes.
func LoseAnswer() Fault { return Delivered(Drop()) }

// Twice forwards the request twice and gives the second answer. To the target it looks like an SDK
// that repeats a call whose answer was lost, to the client like nothing at all.
func Twice() Fault { return Delivered(nil) }

// A Wait holds a call back. It returns early when ctx ends.
type Wait func(ctx context.Context)

// For waits for a time.
func For(d time.Duration) Wait {
	return func(ctx context.Context) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// Until waits until the channel is closed or gives a value.
func Until(released <-chan struct{}) Wait {
	return func(ctx context.Context) {
		select {
		case <-released:
		case <-ctx.Done():
		}
	}
}

// Before waits and then does f. If the client goes away meanwhile, the call ends there: nothing is
// forwarded.
func Before(wait Wait, f Fault) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		wait(ctx)
		if ctx.Err() != nil {
			return nil, nil //nolint:nilerr // no answer is what this fault is
		}
		return f.apply(ctx, c)
	}
}

// After does f and then waits before the client gets its answer.
func After(wait Wait, f Fault) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		a, err := f.apply(ctx, c)
		wait(ctx)
		return a, err
	}
}

// Late holds requests that take effect late: their clients give up on them now, and the target gets
// them when Deliver is called. The zero value is ready; it is safe for concurrent use.
type Late struct {
	mu   sync.Mutex
	held []*Call
}

// Hold keeps the request for Deliver. The client gets what f gives it, which is Drop() or an error
// as a rule; if f forwards the request too, the target sees it once now and once more later.
func (l *Late) Hold(f Fault) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		l.mu.Lock()
		l.held = append(l.held, c)
		l.mu.Unlock()
		return f.apply(ctx, c)
	}
}

// Deliver forwards what is held, one after the other in the order of arrival, and returns the
// target's answers once it has them all. Each request is delivered once. That nothing is held is an
// error, so that a test does not pass because its fault never struck.
func (l *Late) Deliver(ctx context.Context) ([]*Answer, error) {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()

	if len(held) == 0 {
		return nil, errors.New("delivering late: nothing is held")
	}
	var answers []*Answer
	for _, c := range held {
		a, err := c.Forward(ctx)
		if err != nil {
			return answers, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}
