// Package fault is an HTTP reverse proxy for tests: it stands in front of one server, keeps a
// record of every call, and lets the test decide what becomes of each one: lost on the way there or
// on the way back, answered with an error, done twice, or taking effect long after the client has
// given up.
//
// A test says which calls go wrong by a hook, or by a [Rule]. Fake third parties take the same
// rules, from tests and over HTTP, by an operation's name, and what is late there is so by their
// clock.
//
// What goes through the proxy does so exactly as often as it is told. No connection is used for
// more than one call, on either side: net/http repeats some requests by itself when a connection
// that it kept turns out to be closed, and such a repeat would be taken for one of the code under
// test.
package fault

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody is the largest request that the proxy takes, in bytes: that of DynamoDB. A larger one is
// answered with status 413.
const maxBody = 16 << 20

// Proxy is the http.Handler in front of one target. It is safe for concurrent use. A call to which
// the hook gives no fault meets the rules.
type Proxy struct {
	*Rules
	target string

	mu     sync.Mutex
	hook   func(*Call) Fault
	calls  []*Call
	counts map[string]int // by Call.Op
}

// New makes a proxy for the server at target, a URL without a path such as "http://127.0.0.1:8000".
// Without a hook everything passes.
func New(target string) *Proxy {
	return &Proxy{Rules: NewRules(nil), target: strings.TrimSuffix(target, "/"), counts: map[string]int{}}
}

// upstream is shared by all proxies: tests make thousands of them, and a connection costs as much
// as a call.
var upstream = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: 5 * time.Second}

// SetHook sets what decides the fault of each call from now on; nil lets everything pass. The hook
// runs once a call, after the call was recorded and before anything is forwarded, on as many
// goroutines as there are clients. It may block: the call then waits.
func (p *Proxy) SetHook(hook func(*Call) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Calls returns the calls since New or the last Reset, in the order in which they arrived, those
// still under way included.
func (p *Proxy) Calls() []*Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Count returns how many of those calls had this Op. What a fault forwards more than once, or not
// at all, still counts once.
func (p *Proxy) Count(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[op]
}

// Reset forgets the calls, so that Seq and Nth start again at 1. The hook stays.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = nil
	clear(p.counts)
}

// Call is one request that reached the proxy. It is read by several goroutines and never changed;
// to forward something else, change a copy.
type Call struct {
	// Seq counts all calls, Nth those of the same Op; both from 1.
	Seq, Nth int
	// Service is the part of X-Amz-Target before the dot, such as "DynamoDB_20120810", or empty.
	Service string
	// Op is the part of X-Amz-Target after the dot, such as "PutItem"; without that header it is
	// the method and the path, such as "POST /v0/pods". Fakes have names of their own.
	Op string
	// About is what the call is about, as fakes tell it: AgentMail's the client_id of the pod.
	About string
	// Time is when the request had arrived whole.
	Time time.Time

	Method string
	URL    *url.URL // as the server sees it: path and query
	Header http.Header
	Body   []byte

	forward Fault
	fault   Fault
	rules   *Rules
	rule    *rule
	release <-chan struct{} // closed when the rule lets go of what it held when the call came
}

// Answer is a whole HTTP response.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "fault: reading the request: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	c, hook := p.record(r, body)
	p.Settle()
	p.adopt(c)
	if hook != nil {
		c.fault = hook(c)
	}
	if c.fault == nil {
		c.fault = p.match(c)
	}
	a := c.Meet(r.Context())
	w.Header().Set("Connection", "close")
	a.Write(w)
}

func (p *Proxy) record(r *http.Request, body []byte) (*Call, func(*Call) Fault) {
	header := r.Header.Clone()
	header.Del("Connection")
	header.Del("Expect")
	service, op, named := strings.Cut(header.Get("X-Amz-Target"), ".")
	if !named {
		service, op = "", r.Method+" "+r.URL.Path
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[op]++
	c := &Call{
		Seq:     len(p.calls) + 1,
		Nth:     p.counts[op],
		Service: service,
		Op:      op,
		Time:    time.Now(),
		Method:  r.Method,
		URL:     r.URL,
		Header:  header,
		Body:    body,
		forward: p.forward,
	}
	p.calls = append(p.calls, c)
	return c, p.hook
}

// Forward sends the request to the target and returns its answer. It works at any time and any
// number of times, long after the client has gone if ctx outlives it; each time is one request at
// the target.
func (c *Call) Forward(ctx context.Context) (*Answer, error) { return c.forward(ctx, c) }

func (p *Proxy) forward(ctx context.Context, c *Call) (*Answer, error) {
	// Of a body that it cannot read twice, the transport sends no request a second time by itself,
	// nor of one without.
	body := struct{ io.Reader }{bytes.NewReader(c.Body)}
	req, err := http.NewRequestWithContext(ctx, c.Method, p.target+c.URL.RequestURI(), body)
	if err != nil {
		return nil, fmt.Errorf("forwarding %s: %w", c.Op, err)
	}
	req.ContentLength = int64(len(c.Body))
	req.Header = c.Header.Clone()
	resp, err := upstream.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("forwarding %s: %w", c.Op, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer to %s: %w", c.Op, err)
	}
	resp.Header.Del("Connection")
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: answer}, nil
}

// checksumHeader is where DynamoDB gives the CRC-32 of an answer's body. The SDK logs a warning
// when it is wrong or missing.
const checksumHeader = "X-Amz-Crc32"

func checksum(body []byte) string { return strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10) }

// SetBody replaces the body, and corrects DynamoDB's checksum of it if the answer has one.
func (a *Answer) SetBody(body []byte) {
	a.Body = body
	if a.Header.Get(checksumHeader) != "" {
		a.Header.Set(checksumHeader, checksum(body))
	}
}

// Write gives the answer to a client. Without an answer it closes the connection, by a panic that
// net/http knows.
func (a *Answer) Write(w http.ResponseWriter) {
	if a == nil {
		panic(http.ErrAbortHandler) // The client sees EOF.
	}
	h := w.Header()
	maps.Copy(h, a.Header)
	h.Del("Content-Length")
	if len(a.Body) > 0 {
		h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // The client has gone if this fails, and nobody is left to tell.
}
