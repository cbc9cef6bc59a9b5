package providertest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

// prompt is what a call may take to return when its context has ended: far more than it needs, and
// less than providers wait for answers.
const prompt = 8 * time.Second

func (s suite) stops(t *testing.T) {
	waiting := trouble{name: "while it waits for an answer", fault: whileWaiting}
	pausing := trouble{name: "while it would try again", fault: func(_ *bench, die func()) fault.Fault {
		return func(context.Context, *fault.Call) (*fault.Answer, error) {
			time.AfterFunc(20*time.Millisecond, die) // in the pause; should it come earlier, it is the other case again
			return &fault.Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"60"}}}, nil
		}
	}}
	for _, op := range operations {
		for _, w := range []trouble{waiting, pausing} {
			t.Run(op.name+", "+w.name, func(t *testing.T) {
				t.Parallel()
				eachOf(t, func(nth int) bool {
					b := s.bench(t)
					do := op.prepare(b)
					label := uuid.NewString()
					struck, err := b.suffer(nth, w, func(ctx context.Context) error { return b.promptly(ctx, label, do) })
					if !struck {
						return false
					}
					if !stopped(label) {
						t.Errorf("after call %d something goes on in the background", nth)
					}
					if w.name != waiting.name {
						return true
					}
					if err == nil {
						t.Errorf("call %d: no error", nth)
					}
					if len(b.Proxy.Calls()) > nth {
						t.Errorf("after its context had ended at call %d it sent %s", nth, b.Proxy.Calls()[nth].Op)
					}
					return true
				})
			})
		}
	}
}

// promptly does something whose goroutines all carry the label, and fails if it does not return
// soon after ctx has ended.
func (b *bench) promptly(ctx context.Context, label string, do func(context.Context) error) error {
	done := make(chan error, 1)
	pprof.Do(ctx, pprof.Labels("conformance", label), func(ctx context.Context) {
		go func() { done <- do(ctx) }()
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(prompt):
		b.t.Fatalf("it has not returned %v after its context ended", prompt)
		return nil
	}
}

// stopped waits until no goroutine has the label, which goroutines inherit, and reports whether it
// came to that. Connections take a moment to be closed.
func stopped(label string) bool {
	for deadline := time.Now().Add(prompt); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var profile bytes.Buffer
		err := pprof.Lookup("goroutine").WriteTo(&profile, 1)
		if err == nil && !strings.Contains(profile.String(), label) {
			return true
		}
	}
	return false
}

func (s suite) noticesRejection(t *testing.T) {
	w := trouble{fault: func(b *bench, _ func()) fault.Fault { b.Reject(); return nil }}
	s.eachOperation(t, func(t *testing.T, op operation, nth int) bool {
		b := s.bench(t)
		struck, err := b.suffer(nth, w, op.prepare(b))
		if struck && class(err) != managed.Rejected {
			t.Errorf("rejected at call %d: got %v", nth, err)
		}
		return struck
	})
}

func (s suite) noticesTrouble(t *testing.T) {
	s.eachOperation(t, func(t *testing.T, op operation, nth int) bool {
		b := s.bench(t)
		do := op.prepare(b)
		b.Proxy.Reset()
		b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
			if c.Seq < nth {
				return nil
			}
			return fault.Respond(http.StatusServiceUnavailable, nil, nil)
		})
		err := do(t.Context())
		struck := len(b.Proxy.Calls()) >= nth
		if struck && class(err) != managed.Transient {
			t.Errorf("in trouble from call %d on: got %v", nth, err)
		}
		return struck
	})
}

// keepsSecrets lets the third party repeat what it should keep to itself. Every error is checked
// where it comes back, in all tests.
func (s suite) keepsSecrets(t *testing.T) {
	indiscreet := fault.Fault(func(_ context.Context, c *fault.Call) (*fault.Answer, error) {
		said := fmt.Sprintf("%q", c.Header.Get("Authorization"))
		body := fmt.Sprintf(`{"message":%s,"detail":%[1]s,"error":{"message":%[1]s}}`, said)
		return &fault.Answer{Status: http.StatusBadRequest, Body: []byte(body)}, nil
	})
	s.eachOperation(t, func(t *testing.T, op operation, nth int) bool {
		b := s.bench(t)
		struck, err := b.suffer(nth, trouble{fault: simply(indiscreet)}, op.prepare(b))
		if struck && err == nil && len(b.Resources(examinee)) > 0 {
			t.Errorf("call %d was refused, and there is no error", nth)
		}
		return struck
	})
}

// readsPlainErrors: what stands before a third party answers in words of its own.
func (s suite) readsPlainErrors(t *testing.T) {
	for status, want := range map[int]managed.Class{
		http.StatusUnauthorized:        managed.Rejected,
		http.StatusTooManyRequests:     managed.RateLimited,
		http.StatusInternalServerError: managed.Transient,
		http.StatusBadGateway:          managed.Transient,
	} {
		for _, op := range operations {
			b := s.bench(t)
			do := op.prepare(b)
			b.Proxy.SetHook(func(*fault.Call) fault.Fault {
				return fault.Respond(status, http.Header{"Content-Type": {"text/html"}}, []byte("<html>error</html>"))
			})
			err := do(t.Context())
			b.Proxy.SetHook(nil)
			if class(err) != want {
				t.Errorf("%s, %d: got %v", op.name, status, err)
			}
		}
	}
}
