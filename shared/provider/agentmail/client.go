package agentmail

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
	"regexp"
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
	// firstPause is the pause before the first repeat, where AgentMail asks for none; it doubles.
	firstPause = 100 * time.Millisecond
	// maxAnswer is how much of an answer is read.
	maxAnswer = 1 << 20
)

// client speaks AgentMail's HTTP API.
type client struct {
	base  string
	http  *http.Client
	pause time.Duration // before the first repeat
}

func newClient(base string, transport http.RoundTripper) (*client, error) {
	base = strings.TrimSuffix(base, "/")
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || base != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("AGENTMAIL_BASE_URL has to be an origin such as https://api.agentmail.to, not %q", base)
	}
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.IdleConnTimeout = mostIdle
		transport = own
	}
	return &client{
		base:  base,
		pause: firstPause,
		http: &http.Client{
			Transport: transport,
			Timeout:   callTimeout,
			// A redirect would take the org key to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// apiError is an answer that is no success. It holds nothing of the body but the error's code.
type apiError struct {
	method, path string
	status       int
	code         string
	member       string // of the request, that a 400 is about
	retryAfter   time.Duration
	requestID    string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s %s: %d %s (request %s)", e.method, e.path, e.status, e.code, e.requestID)
}

// errNotSent: the request did not leave this machine.
var errNotSent = errors.New("not sent")

// errAnswer: a success whose body is not what the API promises.
var errAnswer = errors.New("the answer cannot be understood")

// errUnsendable: what the org keys secret holds cannot be sent to anybody.
var errUnsendable = errors.New("the org key has a line break or another control character in it: " +
	"put it into the org keys secret again, without what is no part of it")

// canBeHeader reports whether text can be sent in a header.
func canBeHeader(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// isPlain reports whether a path is the same to a server that cleans paths. With an id that is
// empty or ".." it would be another, such as the organisation's own list in place of the pod's.
func isPlain(target string) bool {
	target, _, _ = strings.Cut(target, "?")
	return target == path.Clean(target)
}

// once sends one request and reads its answer into out, unless that is nil.
func (c *client) once(ctx context.Context, org credential.Secret, method, path string, in, out any) error {
	_, err := c.send(ctx, org, method, path, in, out)
	return err
}

// send is once, and returns the answer's status as well, if it is a success.
func (c *client) send(ctx context.Context, org credential.Secret, method, path string, in, out any) (int, error) {
	if !isPlain(path) {
		return 0, fmt.Errorf("%w: %s %s: %w", errNotSent, method, path, errAnswer)
	}
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errNotSent, err)
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if !canBeHeader(org.Reveal()) { // the HTTP client would refuse it in an error that looks like a lost connection
		return 0, fmt.Errorf("%w: %w", errNotSent, &managed.Error{Class: managed.Rejected, Err: errUnsendable})
	}
	err = managed.Sending(ctx)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNotSent, err)
	}
	req.Header.Set("Authorization", "Bearer "+org.Reveal())
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return 0, fmt.Errorf("%w: %w", errNotSent, err)
		}
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		failure := newAPIError(method, path, res, answer)
		if failure.status == http.StatusTooManyRequests {
			managed.SlowDown(ctx, failure.retryAfter)
		}
		return 0, failure
	}
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w: %w", method, path, errAnswer, err)
	}
	if out == nil {
		return res.StatusCode, nil
	}
	err = json.Unmarshal(answer, out)
	if err != nil { // the error itself may quote the answer, which may hold a key
		return 0, fmt.Errorf("%s %s: %w", method, path, errAnswer)
	}
	return res.StatusCode, nil
}

// codeForm is what AgentMail's codes look like.
var codeForm = regexp.MustCompile(`^[a-z_]{1,64}$`)

func newAPIError(method, path string, res *http.Response, answer []byte) *apiError {
	var body struct {
		Code   string `json:"code"`
		Errors []struct {
			Path []any `json:"path"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(answer, &body) // an answer from the edge has no code
	if body.Code != "" && !codeForm.MatchString(body.Code) {
		body.Code = "malformed_code" // it is logged, and could be anything
	}
	e := &apiError{method: method, path: path, status: res.StatusCode, code: body.Code, requestID: res.Header.Get("apigw-requestid")}
	for _, wrong := range body.Errors {
		if len(wrong.Path) > 0 && e.member == "" {
			e.member, _ = wrong.Path[0].(string)
		}
	}
	e.retryAfter = retryAfter(res.Header)
	return e
}

// maxRetryAfter is the longest wait that is taken from an answer: more is not meant, and would
// overflow.
const maxRetryAfter = 24 * time.Hour

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

// outcome says what is known of a create that ended with err. An answer that is not what the API
// promises says nothing.
func outcome(err error) managed.Outcome {
	var answered *apiError
	switch {
	case err == nil, errors.Is(err, errNotSent):
		return managed.Known
	case errors.As(err, &answered) && answered.status >= 400 && answered.status < 500 && answered.status != http.StatusRequestTimeout:
		return managed.Known
	default:
		return managed.Unknown
	}
}

// repeatable reports whether the same request may be sent again after err, and how long to wait
// first at least.
func repeatable(err error) (time.Duration, bool) {
	var answered *apiError
	var classed *managed.Error
	if !errors.As(err, &answered) {
		return 0, !errors.Is(err, errAnswer) && !errors.As(err, &classed)
	}
	switch {
	case answered.status == http.StatusRequestTimeout, answered.status == http.StatusTooManyRequests, answered.status >= 500,
		answered.code == "race_condition":
		return answered.retryAfter, true
	}
	return 0, false
}

// do sends a request that may be repeated: a GET, a DELETE, or the create of a pod. Each send goes
// through try. It does not wait past the context's deadline.
func (c *client) do(ctx context.Context, try func(context.Context) error) error {
	pause := c.pause
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

// get reads path into out.
func (c *client) get(ctx context.Context, org credential.Secret, path string, out any) error {
	return c.do(ctx, func(ctx context.Context) error { return c.once(ctx, org, http.MethodGet, path, nil, out) })
}

// remove deletes path. It is done by one of these statuses only: any other success, of a page that
// says that the service is being maintained, say, is no proof.
func (c *client) remove(ctx context.Context, org credential.Secret, path string, done ...int) error {
	return c.do(ctx, func(ctx context.Context) error {
		status, err := c.send(ctx, org, http.MethodDelete, path, nil, nil)
		if err == nil && !slices.Contains(done, status) {
			return fmt.Errorf("DELETE %s: %d does not say that it is done: %w", path, status, errAnswer)
		}
		return err
	})
}

// isGone reports whether what a call was about was not found. An error that has its class says more
// than that.
func isGone(err error) bool {
	var classed *managed.Error
	var answered *apiError
	return !errors.As(err, &classed) && errors.As(err, &answered) && answered.status == http.StatusNotFound
}

// isDeleting reports whether AgentMail is at the deletion of what a call was about.
func isDeleting(err error) bool {
	var answered *apiError
	return errors.As(err, &answered) && answered.code == "resource_deleting"
}

// isLimited reports whether AgentMail has had too many calls.
func isLimited(err error) bool {
	var answered *apiError
	return errors.As(err, &answered) && answered.status == http.StatusTooManyRequests
}

// classify gives an error its class.
func classify(err error) error {
	var classed *managed.Error
	var answered *apiError
	if err == nil || errors.As(err, &classed) {
		return err
	}
	if !errors.As(err, &answered) {
		return &managed.Error{Class: managed.Transient, Err: err}
	}
	class := managed.Transient
	switch answered.status {
	case http.StatusUnauthorized:
		class = managed.Rejected
	case http.StatusForbidden:
		switch answered.code {
		case "":
			class = managed.Rejected
		case "limit_exceeded":
			class = managed.Quota
		default:
			class = managed.Permanent
		}
	case http.StatusTooManyRequests:
		class = managed.RateLimited
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		class = managed.Permanent
	case http.StatusConflict:
		if answered.code == "cannot_delete" || answered.code == "resource_deleting" {
			class = managed.NotYet
		}
	}
	return &managed.Error{Class: class, RetryAfter: answered.retryAfter, Err: err}
}
