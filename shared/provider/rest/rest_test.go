package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

var orgKey = credential.NewSecret("org_key_f00d")

// answering is a client of a third party that answers so, and how many calls that has had.
func answering(t *testing.T, answer http.HandlerFunc) (*rest.Client, *atomic.Int32) {
	t.Helper()
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return newClient(t, server.URL), &calls
}

func newClient(t *testing.T, base string) *rest.Client {
	t.Helper()
	c, err := rest.New(rest.Config{BaseURL: base, Explain: func(_ int, _ http.Header, body []byte) rest.Explanation {
		var said rest.Explanation
		_ = json.Unmarshal(body, &said)
		return said
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Pause = time.Millisecond
	return c
}

// with answers with a status, headers and a body.
func with(status int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func classOf(err error) *managed.Error {
	var classed *managed.Error
	if !errors.As(rest.Classify(err), &classed) {
		return &managed.Error{}
	}
	return classed
}

func TestTheBaseURLIsABareOrigin(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"https://api.example.com", "https://api.example.com/", "http://127.0.0.1:8081"} {
		_, err := rest.New(rest.Config{BaseURL: base})
		if err != nil {
			t.Errorf("%q: %v", base, err)
		}
	}
	for _, base := range []string{
		"", "api.example.com", "//api.example.com", "ftp://api.example.com", "https://", "https:///v0", "https://:443", "https://api.example.com/v0",
		"https://api.example.com//", "https://api.example.com?region=eu", "https://api.example.com#eu", "https://user:pass@api.example.com",
		" https://api.example.com", "https://api.example.com\n", "://",
	} {
		_, err := rest.New(rest.Config{BaseURL: base})
		if err == nil {
			t.Errorf("%q was taken", base)
		}
	}
}

func TestARetryAfterThatAsksForNothingIsIgnored(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-1": 0, "soon": 0, "1.5": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 0, "Wed, 21 Oct 2037": 0, "9223372036854775808": 0,
		"60": time.Minute, "4294967295": 24 * time.Hour,
	} {
		c, _ := answering(t, with(http.StatusTooManyRequests, map[string]string{"Retry-After": value}, ""))
		_, err := c.Send(t.Context(), orgKey, http.MethodPost, "/keys", nil, nil)
		classed := classOf(err)
		if classed.Class != managed.RateLimited || classed.RetryAfter != want {
			t.Errorf("%q: %v, RetryAfter %v, want %v", value, err, classed.RetryAfter, want)
		}
	}
}

// A date counts from the answer's own: the two are by one clock.
func TestARetryAfterMayBeADate(t *testing.T) {
	t.Parallel()
	for date, want := range map[string]time.Duration{
		"Wed, 21 Oct 2037 07:27:00 GMT": time.Minute,
		"Thu, 22 Oct 2037 08:00:00 GMT": 0, // before the wait is over
		"Wed, 21 Oct 2037 07:28:00 GMT": 0,
	} {
		c, _ := answering(t, with(http.StatusServiceUnavailable, map[string]string{"Retry-After": "Wed, 21 Oct 2037 07:28:00 GMT", "Date": date}, ""))
		_, err := c.Send(t.Context(), orgKey, http.MethodPost, "/keys", nil, nil)
		classed := classOf(err)
		if classed.Class != managed.Transient || classed.RetryAfter != want {
			t.Errorf("from %s on: %v, RetryAfter %v, want %v", date, err, classed.RetryAfter, want)
		}
	}
}

// A redirect would take the org key to wherever it points.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere, strayed := answering(t, with(http.StatusOK, nil, "{}"))
	_, err := elsewhere.Send(t.Context(), orgKey, http.MethodGet, "/", nil, nil)
	if err != nil || strayed.Load() != 1 {
		t.Fatalf("%v: %d calls", err, strayed.Load())
	}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(server.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			c, calls := answering(t, with(status, map[string]string{"Location": server.URL}, ""))
			err := c.Do(t.Context(), func(ctx context.Context) error {
				_, err := c.Send(ctx, orgKey, method, "/keys", nil, nil)
				return err
			})
			if classOf(err).Class != managed.Transient || rest.Outcome(err) != managed.Unknown || calls.Load() != 1 {
				t.Errorf("%s, %d: sent %d times, error: %v", method, status, calls.Load(), err)
			}
		}
	}
	if strayed.Load() > 1 {
		t.Errorf("%d redirects were followed", strayed.Load()-1)
	}
}

func TestARefusedConnectionWasNotSent(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1") // where nobody listens, nor is given the port by chance
	_, err := c.Send(t.Context(), orgKey, http.MethodPost, "/keys", nil, nil)
	if !errors.Is(err, rest.ErrNotSent) || rest.Outcome(err) != managed.Known || classOf(err).Class != managed.Transient {
		t.Errorf("got %v", err)
	}
}

// A key with a line break at its end, say, is not sent, and not quoted: whoever put it there is
// told, and nothing is left open.
func TestAnOrgKeyThatIsNoHeaderIsRejectedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	for _, key := range []string{orgKey.Reveal() + "\n", "\r" + orgKey.Reveal(), orgKey.Reveal() + "\x00", orgKey.Reveal() + "\x7f"} {
		c, calls := answering(t, with(http.StatusOK, nil, "{}"))
		err := c.Get(t.Context(), credential.NewSecret(key), "/keys", nil)
		if classOf(err).Class != managed.Rejected || rest.Outcome(err) != managed.Known || calls.Load() > 0 {
			t.Errorf("%d calls, error: %v", calls.Load(), err)
		}
		if !strings.Contains(err.Error(), "line break") || strings.Contains(err.Error(), orgKey.Reveal()) {
			t.Errorf("the error is %v", err)
		}
	}
}

// To a server that cleans paths, "/keys/" is the list, and "/keys/.." something else altogether.
func TestAPathThatIsNotPlainIsNotSent(t *testing.T) {
	t.Parallel()
	c, calls := answering(t, with(http.StatusOK, nil, "{}"))
	for _, path := range []string{"/keys/", "/keys/..", "/keys/./1", "/keys//1", "keys", ""} {
		err := c.Remove(t.Context(), orgKey, path, nil, http.StatusOK)
		if !errors.Is(err, rest.ErrNotSent) {
			t.Errorf("%q: got %v", path, err)
		}
	}
	err := c.Get(t.Context(), orgKey, "/keys?next=/../", nil)
	if err != nil || calls.Load() != 1 {
		t.Errorf("%d calls, error: %v", calls.Load(), err)
	}
}

func TestADeletionIsDoneByItsDocumentedAnswerAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		done   bool
	}{
		{200, `{"deleted":true}`, true}, {200, "<html>We are back soon</html>", false}, {200, "", false}, {202, `{"deleted":true}`, false}, {204, "", false},
	} {
		client, calls := answering(t, with(c.status, nil, c.body))
		var said struct {
			Deleted bool `json:"deleted"`
		}
		err := client.Remove(t.Context(), orgKey, "/keys/1", &said, http.StatusOK)
		if (err == nil) != c.done || said.Deleted != (c.done || c.status == 202) || calls.Load() != 1 {
			t.Errorf("%d %s: %v, deleted: %t, %d calls", c.status, c.body, err, said.Deleted, calls.Load())
		}
	}
}

func TestErrorsAreClassifiedAndQuoteNoBody(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		class   managed.Class
		outcome managed.Outcome
		tries   int32
	}{
		302: {managed.Transient, managed.Unknown, 1}, 400: {managed.Permanent, managed.Known, 1}, 401: {managed.Rejected, managed.Known, 1},
		402: {managed.Quota, managed.Known, 1}, 403: {managed.Rejected, managed.Known, 1}, 404: {managed.Transient, managed.Known, 1},
		408: {managed.Transient, managed.Unknown, 3}, 409: {managed.Transient, managed.Known, 1}, 413: {managed.Transient, managed.Known, 1},
		422: {managed.Permanent, managed.Known, 1}, 429: {managed.RateLimited, managed.Known, 3}, 500: {managed.Transient, managed.Unknown, 3},
		503: {managed.Transient, managed.Unknown, 3},
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{"", "<html>key_beef</html>", `{"message":"key_beef"}`} {
				c, calls := answering(t, with(status, nil, body))
				err := c.Get(t.Context(), orgKey, "/keys", nil)
				if classOf(err).Class != want.class || rest.Outcome(err) != want.outcome || calls.Load() != want.tries {
					t.Errorf("class %s, outcome %v, sent %d times", classOf(err).Class, rest.Outcome(err), calls.Load())
				}
				if strings.Contains(err.Error(), "beef") || !strings.Contains(err.Error(), strconv.Itoa(status)) {
					t.Errorf("the error is %v", err)
				}
			}
			c, calls := answering(t, with(status, nil, `{"Code":"busy","RequestID":"req-1","Class":"not_yet","Repeat":true}`))
			err := c.Get(t.Context(), orgKey, "/keys", nil)
			if classOf(err).Class != managed.NotYet || calls.Load() != 3 || !strings.Contains(err.Error(), "busy (request req-1)") {
				t.Errorf("the provider's own word for it is not taken: %v, sent %d times", err, calls.Load())
			}
		})
	}
}

func TestASuccessThatCannotBeReadIsNeitherQuotedNorRepeated(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", `{"key":"key_beef"`, "<html>key_beef</html>", `{"key":{"key_beef":1}}`} {
		c, calls := answering(t, with(http.StatusOK, nil, body))
		var out struct{ Key string }
		err := c.Get(t.Context(), orgKey, "/keys", &out)
		if !errors.Is(err, rest.ErrAnswer) || rest.Outcome(err) != managed.Unknown || calls.Load() != 1 || strings.Contains(err.Error(), "beef") {
			t.Errorf("%q: %v, sent %d times", body, err, calls.Load())
		}
	}
}

func TestARepeatDoesNotOutliveItsContext(t *testing.T) {
	t.Parallel()
	c, calls := answering(t, with(http.StatusServiceUnavailable, map[string]string{"Retry-After": "600"}, ""))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.Get(ctx, orgKey, "/keys", nil)
	if classOf(err).RetryAfter != 10*time.Minute || calls.Load() != 1 {
		t.Errorf("sent %d times, error: %v", calls.Load(), err)
	}
}

func TestNotFoundIsGoneUnlessSomethingMoreIsKnown(t *testing.T) {
	t.Parallel()
	missing := &rest.Refusal{Status: http.StatusNotFound}
	for err, want := range map[error]bool{
		nil: false, missing: true, &rest.Refusal{Status: http.StatusGone}: false, errors.New("x"): false,
		&managed.Error{Class: managed.Foreign, Err: missing}: false,
	} {
		if rest.IsGone(err) != want {
			t.Errorf("%v: gone is %t", err, !want)
		}
	}
}

// Whoever works on many users at once would else connect anew for nearly each call.
func TestConnectionsAreUsedAgainByAsManyAsAreAtWorkAtOnce(t *testing.T) {
	t.Parallel()
	const most = 64
	var all sync.WaitGroup
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		all.Done()
		all.Wait()
		_, _ = w.Write([]byte("{}"))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := newClient(t, server.URL)
	for range 3 {
		all.Add(most)
		var calls sync.WaitGroup
		for range most {
			calls.Go(func() {
				_, err := c.Send(t.Context(), orgKey, http.MethodGet, "/", nil, nil)
				if err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if got := connections.Load(); got != most {
		t.Errorf("%d calls at once, three times, took %d connections", most, got)
	}
}
