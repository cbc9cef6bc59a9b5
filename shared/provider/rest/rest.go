// Package rest is the careful HTTP client with which providers speak to third parties whose API
// takes and gives JSON.
//
// It follows no redirect, which would take the org key elsewhere. It asks the clock and the pace
// before each call. It tells what was not sent from what may have been done, repeats only what may
// be repeated, and takes a deletion for done by the documented status alone. Its errors hold
// nothing of an answer's body but what the provider picks out of it, because bodies may quote keys.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

const (
	// callTimeout bounds one HTTP exchange; the context mostly ends earlier.
	callTimeout = 10 * time.Second
	// mostIdle is how long a connection may be idle and still be used again. A process that is
	// frozen meanwhile does not learn of its end, and a create that is sent on a dead one has an
	// unknown outcome. net/http goes by the wall clock here, for this very reason.
	mostIdle = 5 * time.Second
	// maxTries is how often a call that may be repeated is sent.
	maxTries = 3
	// firstPause is the pause before the first repeat, where the third party asks for none.
	firstPause = 100 * time.Millisecond
	// maxAnswer is how much of an answer is read.
	maxAnswer = 1 << 20
	// maxRetryAfter is the longest wait that is taken from an answer: more is not meant, and would
	// overflow.
	maxRetryAfter = 24 * time.Hour
)

// Config says how a third party is spoken to.
type Config struct {
	// BaseURL is the API's origin, such as https://api.example.com; each call's path comes after
	// it.
	BaseURL string
	// Explain reads what an answer says that is no success, in this third party's own words; nil
	// means that its status says all. What it returns is logged: nothing of it may be free text.
	Explain func(status int, header http.Header, body []byte) Explanation
	// Transport carries the calls; nil means connections of its own.
	Transport http.RoundTripper
}

// Explanation is what the body and the header of an answer say that is no success.
type Explanation struct {
	// Code is the third party's code for what is wrong, and RequestID its name for the call; "" if
	// it has none.
	Code, RequestID string
	// Member is that of the request which the answer is about; "" if it names none.
	Member string
	// Class is the error's, where that is not the one of its status; "" if it is.
	Class managed.Class
	// Repeat says that a call which may be repeated is to be, whatever its status, and Final that
	// it is not to be.
	Repeat, Final bool
}

// Client speaks to one third party. It is safe for concurrent use.
type Client struct {
	// Pause is the one before the first repeat, where the third party asks for none; it doubles.
	// Not to be changed once the client is in use.
	Pause time.Duration

	base    string
	explain func(int, http.Header, []byte) Explanation
	http    *http.Client
}

// New returns a client, or an error if the base URL is no origin.
func New(c Config) (*Client, error) {
	base := strings.TrimSuffix(c.BaseURL, "/")
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || base != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("the base URL has to be an origin such as https://api.example.com, not %q", base)
	}
	if c.Transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.IdleConnTimeout = mostIdle
		own.MaxIdleConnsPerHost = own.MaxIdleConns // there is one host; Go would keep two
		c.Transport = own
	}
	if c.Explain == nil {
		c.Explain = func(int, http.Header, []byte) Explanation { return Explanation{} }
	}
	return &Client{
		Pause:   firstPause,
		base:    base,
		explain: c.Explain,
		http: &http.Client{
			Transport:     c.Transport,
			Timeout:       callTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Refusal is an answer that is no success.
type Refusal struct {
	Explanation
	Method, Path string
	Status       int
	// RetryAfter is how long the answer asks to wait; 0 if it does not.
	RetryAfter time.Duration
}

func (e *Refusal) Error() string {
	return fmt.Sprintf("%s %s: %d %s (request %s)", e.Method, e.Path, e.Status, e.Code, e.RequestID)
}

// ErrNotSent: the request did not leave this machine.
var ErrNotSent = errors.New("not sent")

// ErrAnswer: a success whose body is not what the API promises.
var ErrAnswer = errors.New("the answer cannot be understood")

// errUnsendable: what its secret holds cannot be sent to anybody.
var errUnsendable = errors.New("the org key has a line break or another control character in it: " +
	"put it into its secret again, without what is no part of it")

// canBeHeader reports whether text can be sent in a header.
func canBeHeader(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// isPlain reports whether a path is the same to a server that cleans paths. With an id that is
// empty or ".." it would be another, such as the organisation's own list in place of a user's.
func isPlain(target string) bool {
	target, _, _ = strings.Cut(target, "?")
	return target == path.Clean(target)
}

// Send sends one request, in as JSON unless it is nil, and reads its answer into out, unless that
// is nil. It returns the answer's status, if that is a success; a *Refusal if it is none; what
// wraps ErrNotSent or ErrAnswer; or the error of the connection. It is sent once: see Do.
func (c *Client) Send(ctx context.Context, org credential.Secret, method, path string, in, out any) (int, error) {
	req, err := c.request(ctx, org, method, path, in)
	if err == nil {
		err = managed.Sending(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return 0, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		refusal := &Refusal{
			Explanation: c.explain(res.StatusCode, res.Header, answer),
			Method:      method, Path: path, Status: res.StatusCode,
			RetryAfter: retryAfter(res.Header),
		}
		if refusal.Status == http.StatusTooManyRequests {
			managed.SlowDown(ctx, refusal.RetryAfter)
		}
		return 0, refusal
	}
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w: %w", method, path, ErrAnswer, err)
	}
	if out == nil {
		return res.StatusCode, nil
	}
	err = json.Unmarshal(answer, out)
	if err != nil { // the error itself may quote the answer, which may hold a key
		return 0, fmt.Errorf("%s %s: %w", method, path, ErrAnswer)
	}
	return res.StatusCode, nil
}

// request makes what Send sends. Whatever is wrong with it, nothing has been sent.
func (c *Client) request(ctx context.Context, org credential.Secret, method, path string, in any) (*http.Request, error) {
	if !isPlain(path) {
		return nil, fmt.Errorf("%s %s: %w", method, path, ErrAnswer)
	}
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if !canBeHeader(org.Reveal()) { // the HTTP client would refuse it in an error that looks like a lost connection
		return nil, &managed.Error{Class: managed.Rejected, Err: errUnsendable}
	}
	req.Header.Set("Authorization", "Bearer "+org.Reveal())
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// retryAfter is how long an answer asks to wait: a number of seconds, or a date, which counts from
// the answer's own. 0 if it does not ask.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	from, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		from = clock.Now()
	}
	return min(max(until.Sub(from), 0), maxRetryAfter)
}

// repeatable reports whether the same request may be sent again after err, and how long to wait
// first at least.
func repeatable(err error) (time.Duration, bool) {
	var refusal *Refusal
	var classed *managed.Error
	if !errors.As(err, &refusal) {
		return 0, !errors.Is(err, ErrAnswer) && !errors.As(err, &classed)
	}
	if refusal.Final {
		return 0, false
	}
	if refusal.Status == http.StatusRequestTimeout || refusal.Status == http.StatusTooManyRequests || refusal.Status >= 500 || refusal.Repeat {
		return refusal.RetryAfter, true
	}
	return 0, false
}

// Do sends a request that may be repeated: a read, a deletion, or a create that is idempotent. Each
// send goes through try. It does not wait past the context's deadline.
func (c *Client) Do(ctx context.Context, try func(context.Context) error) error {
	pause := c.Pause
	for n := 1; ; n++ {
		err := try(ctx)
		if err == nil || n == maxTries || ctx.Err() != nil {
			return err
		}
		wait, ok := repeatable(err)
		if !ok {
			return err
		}
		wait = max(wait, pause)
		deadline, bounded := ctx.Deadline()
		if bounded && clock.Until(deadline) < wait {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause *= 2
	}
}

// Get reads path into out.
func (c *Client) Get(ctx context.Context, org credential.Secret, path string, out any) error {
	return c.Do(ctx, func(ctx context.Context) error {
		_, err := c.Send(ctx, org, http.MethodGet, path, nil, out)
		return err
	})
}

// Remove deletes path, and reads the answer into out, unless that is nil. It is done by one of
// these statuses only: any other success, of a page that says that the service is being maintained,
// say, is no proof.
func (c *Client) Remove(ctx context.Context, org credential.Secret, path string, out any, done ...int) error {
	return c.Do(ctx, func(ctx context.Context) error {
		status, err := c.Send(ctx, org, http.MethodDelete, path, nil, out)
		if err == nil && !slices.Contains(done, status) {
			return fmt.Errorf("DELETE %s: %d does not say that it is done: %w", path, status, ErrAnswer)
		}
		return err
	})
}
