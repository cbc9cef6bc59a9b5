package agentmail_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

func contextFor(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// sending is a call that the provider makes, and something that makes it.
type sending struct {
	name       string
	match      func(*fault.Call) bool
	repeatable bool
	do         func(ctx context.Context, m *mail, g managed.Grant) error
}

var sendings = []sending{
	{"the pod's create", createPod, true, func(ctx context.Context, m *mail, _ managed.Grant) error {
		_, err := m.provider.Provision(ctx, orgKey, attempt(2, credential.Resource{}, true))
		return err
	}},
	{"a key's create", createKey, false, func(ctx context.Context, m *mail, _ managed.Grant) error {
		_, err := m.provider.Provision(ctx, orgKey, attempt(2, credential.Resource{}, true))
		return err
	}},
	{"a list", listKeys, true, func(ctx context.Context, m *mail, g managed.Grant) error {
		return m.provider.Sweep(ctx, orgKey, attempt(2, g.Resource, true))
	}},
	{"a key's deletion", deleteKey, true, func(ctx context.Context, m *mail, g managed.Grant) error {
		return m.provider.Discard(ctx, orgKey, g.Resource)
	}},
	{"the pod's deletion", deletePod, true, func(ctx context.Context, m *mail, g managed.Grant) error {
		return m.provider.Deprovision(ctx, orgKey, attempt(2, g.Resource, false))
	}},
}

func TestWhatMayBeRepeatedIsRepeated(t *testing.T) {
	t.Parallel()
	passing := map[string]fault.Fault{
		"lost":           fault.Drop(),
		"answer lost":    fault.LoseAnswer(),
		"408":            answer(408, "{}"),
		"429":            answer(429, `{"code":"rate_limit_exceeded"}`),
		"500":            answer(500, `{"code":"internal_error"}`),
		"502":            answer(502, "<html></html>"),
		"503, done":      fault.Delivered(answer(503, `{"code":"service_unavailable"}`)),
		"race condition": answer(409, `{"code":"race_condition"}`),
	}
	lasting := map[string]fault.Fault{
		"301": answer(301, ""), "400": answer(400, "{}"), "401": answer(401, "{}"), "403": answer(403, "{}"),
		"409": answer(409, `{"code":"conflict"}`), "409 without code": answer(409, "{}"), "422": answer(422, "{}"),
	}
	for _, s := range sendings {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			try := func(times int, f fault.Fault) (int, error) {
				m := start(t)
				g := m.ready()
				m.strike(s.match, times, f)
				err := s.do(t.Context(), m, g)
				return m.sent(s.match), err
			}
			for name, f := range passing {
				n, err := try(1, f)
				if s.repeatable && (n != 2 || err != nil && !saysGone(err)) || !s.repeatable && (n != 1 || err == nil) {
					t.Errorf("%s once: sent %d times, error: %v", name, n, err)
				}
				n, err = try(-1, f)
				if s.repeatable && n != 3 || !s.repeatable && n != 1 || err == nil && name != "answer lost" && name != "503, done" {
					t.Errorf("%s for ever: sent %d times, error: %v", name, n, err)
				}
			}
			for name, f := range lasting {
				n, err := try(1, f)
				if n != 1 || err == nil {
					t.Errorf("%s: sent %d times, error: %v", name, n, err)
				}
			}
		})
	}
}

// saysGone reports whether a deletion found nothing to delete, as it does where the answer to its
// first call was lost.
func saysGone(err error) bool {
	var classed *managed.Error
	return errors.As(err, &classed) && classed.Class == managed.Gone
}

func limited(retryAfter string) fault.Fault {
	return fault.Respond(http.StatusTooManyRequests, http.Header{"Retry-After": {retryAfter}}, []byte(`{"code":"rate_limit_exceeded"}`))
}

func TestRetryAfterIsWaitedForWhereThereIsTime(t *testing.T) {
	t.Parallel()
	for _, s := range sendings {
		if !s.repeatable {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			g := m.ready()
			m.strike(s.match, 1, limited("1"))
			err := s.do(t.Context(), m, g)
			var times []time.Time
			for _, c := range m.proxy.Calls() {
				if s.match(c) {
					times = append(times, c.Time)
				}
			}
			if err != nil || len(times) != 2 {
				t.Fatalf("sent %d times, error: %v", len(times), err)
			}
			if times[1].Sub(times[0]) < time.Second {
				t.Errorf("repeated after %v, AgentMail asked for 1s", times[1].Sub(times[0]))
			}
		})
	}
}

func TestRetryAfterBeyondTheDeadlineIsReported(t *testing.T) {
	t.Parallel()
	for _, s := range sendings {
		m := start(t)
		g := m.ready()
		m.strike(s.match, 1, limited("600"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := s.do(ctx, m, g)
		if ctx.Err() != nil {
			t.Errorf("%s: the deadline was waited for", s.name)
		}
		cancel()
		classed := wantClass(t, err, managed.RateLimited)
		if classed.RetryAfter != 10*time.Minute || m.sent(s.match) != 1 {
			t.Errorf("%s: sent %d times, RetryAfter %v", s.name, m.sent(s.match), classed.RetryAfter)
		}
	}
}

// What decides between a settled slot and one whose lease has to run out.
func TestOnlyCertainRefusalsSettleACreate(t *testing.T) {
	t.Parallel()
	for status, settled := range map[int]bool{
		302: false, 400: true, 401: true, 403: true, 404: true, 408: false, 409: true, 413: true, 422: true, 429: true, 500: false, 502: false, 503: false, 504: false,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			for _, match := range []func(*fault.Call) bool{createPod, createKey} {
				m := start(t)
				m.strike(match, -1, answer(status, "{}"))
				a := attempt(1, credential.Resource{}, false)
				_, err := m.provider.Provision(t.Context(), orgKey, a)
				if err == nil || a.Settled() != settled {
					t.Errorf("settled: %t, error: %v", a.Settled(), err)
				}
			}
		})
	}
}

// An idempotent create whose first answer was lost may still land, whatever came of the second.
func TestAPodsCreateThatWasRepeatedStaysUnknown(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.strike(createPod, 1, answer(500, "{}"))
	a := attempt(1, credential.Resource{}, false)
	m.mustProvision(a)
	if a.Settled() {
		t.Error("it settled")
	}
}
