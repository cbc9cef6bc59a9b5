package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
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

// RespondJSON is Respond with a body of JSON.
func RespondJSON(status int, body string) Fault {
	return Respond(status, http.Header{"Content-Type": {"application/json"}}, []byte(body))
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

// Reshape changes the answer that f gives: its JSON object, and each object in a list that is a
// member of that, get the members of set, nil meaning null, and lose those that are named in omit.
// An answer without a body stays as it is; one whose body is no JSON object is an error.
func Reshape(f Fault, set map[string]any, omit ...string) Fault {
	if len(set) == 0 && len(omit) == 0 {
		return f
	}
	return func(ctx context.Context, c *Call) (*Answer, error) {
		a, err := f.apply(ctx, c)
		if err != nil || a == nil || len(a.Body) == 0 {
			return a, err
		}
		body, err := reshape(a.Body, set, omit)
		if err != nil {
			return nil, fmt.Errorf("reshaping the answer to %s: %w", c.Op, err)
		}
		a.SetBody(body)
		return a, nil
	}
}

func reshape(body []byte, set map[string]any, omit []string) ([]byte, error) {
	var object map[string]any
	err := json.Unmarshal(body, &object)
	if err != nil {
		return nil, err
	}
	objects := []map[string]any{object}
	for _, member := range object {
		items, _ := member.([]any)
		for _, item := range items {
			o, isObject := item.(map[string]any)
			if isObject {
				objects = append(objects, o)
			}
		}
	}
	for _, o := range objects {
		maps.Copy(o, set)
		for _, name := range omit {
			delete(o, name)
		}
	}
	return json.Marshal(object)
}

// A Wait holds a call back. It returns early when ctx ends.
type Wait func(ctx context.Context)

// For waits for a time, of the real clock.
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

// UntilReleased, as the time of a [Later], lasts until the request is released.
const UntilReleased time.Duration = 1<<63 - 1

// Later has a request take effect late: its client gets what f gives it, which is Drop() or an
// error as a rule, and the target gets the request d later, by the clock of the [Rules]; at
// [Rules.Release] or [Rules.Deliver] if those come first. If f forwards the request too, the target
// sees it once now and once more later.
func Later(d time.Duration, f Fault) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		c.rules.postpone(c, d, nil)
		return f.apply(ctx, c)
	}
}

// Hold keeps a request until it is released, by [Rules.Release] or [Rules.Deliver], and then does
// f. If the client goes away meanwhile it does so at the release all the same: the request was
// sent.
func Hold(f Fault) Fault {
	return func(ctx context.Context, c *Call) (*Answer, error) {
		if !c.rules.hold(ctx, c) {
			c.rules.postpone(c, UntilReleased, f)
			return nil, nil
		}
		return f.apply(ctx, c)
	}
}
