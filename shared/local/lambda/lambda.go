// Package lambda runs built Lambda functions on one machine: it is the other side of Lambda's
// Runtime API for `bootstrap` binaries, which run unchanged as child processes.
//
// What matters to a function is as on AWS: an instance works on one event at a time and is reused
// for the next one, more instances are started when all are busy, an invocation that takes too long
// is ended together with its instance, and a new instance takes the place of one that died.
// Children get the environment that they are configured with, and nothing of this program's.
//
// One thing is not as on AWS: an idle instance is not frozen.
package lambda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/standin"
)

// Config says which functions there are.
type Config struct {
	// Functions are what can be invoked. Each has a name of its own.
	Functions []Function
	// MaxInstances is how many instances of one function there may be; further events wait. 0 means
	// 8.
	MaxInstances int
	// Now is the functions' wall clock, by which they are told their deadlines. Nil means time.Now.
	Now func() time.Time
	// LimitMemory ends an instance that holds more than its MemoryMB, as Lambda does. It works on
	// Linux alone.
	LimitMemory bool
	// Log gets what the functions write to stdout and stderr, line by line, with the function's
	// name before each line, and a line for each instance that came to an unusual end. Nil means
	// that it is thrown away.
	Log io.Writer
}

// Function is one Lambda function.
type Function struct {
	Name string
	// Bootstrap is the path of its binary.
	Bootstrap string
	// Timeout is how long an invocation may take. 0 means 3 s, as on AWS.
	Timeout time.Duration
	// MemoryMB is what the function is told that it has. Only Config.LimitMemory limits it. 0 means
	// 128.
	MemoryMB int
	// Env is its environment beside what Lambda sets, over which it wins.
	Env map[string]string
}

var (
	// ErrUnknownFunction is returned for a function that is not in Config.
	ErrUnknownFunction = errors.New("there is no such function")
	// ErrClosed is returned for an invocation that came after Close, or that Close ended.
	ErrClosed = errors.New("the host is closed")
)

// FunctionError is the outcome of an invocation that was carried out and failed: the handler
// returned an error, or the instance did not survive it.
type FunctionError struct {
	Function string
	// Type is the handler's type of error, or one of Lambda's own, such as ExitError.
	Type string
	// Message may quote anything that the function knows.
	Message string
}

// Types of FunctionError that come from Lambda and not from the function.
const (
	// ExitError: the process ended without an answer.
	ExitError = "Runtime.ExitError"
	// TimedOut: the answer took longer than Function.Timeout, and the process was killed.
	TimedOut = "Sandbox.Timedout"
	// TooLarge: the answer was larger than 6 MB.
	TooLarge = "Function.ResponseSizeTooLarge"
)

func (e *FunctionError) Error() string { return e.Function + ": " + e.Type + ": " + e.Message }

// Host runs functions. It is safe for concurrent use.
type Host struct {
	functions map[string]*function

	mu       sync.Mutex // orders Invoke and Close
	closed   chan struct{}
	underway sync.WaitGroup
}

// functionARN is what the functions' ARNs begin with.
const functionARN = "arn:aws:lambda:" + standin.Region + ":" + standin.Account + ":function:"

// New returns a host that has started nothing yet: instances start when they are needed.
func New(cfg Config) *Host {
	if cfg.MaxInstances == 0 {
		cfg.MaxInstances = 8
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	h := &Host{functions: map[string]*function{}, closed: make(chan struct{})}
	log := &output{to: cfg.Log}
	for _, f := range cfg.Functions {
		if f.Timeout == 0 {
			f.Timeout = 3 * time.Second
		}
		if f.MemoryMB == 0 {
			f.MemoryMB = 128
		}
		h.functions[f.Name] = &function{
			Function: f,
			arn:      functionARN + f.Name,
			now:      cfg.Now,
			log:      log,
			closed:   h.closed,
			slots:    make(chan struct{}, cfg.MaxInstances),
			all:      map[*instance]struct{}{},
			limited:  cfg.LimitMemory,
		}
	}
	return h
}

// Invoke gives the payload to the function and returns its answer. It fails with a *FunctionError,
// ErrUnknownFunction, ErrClosed, the error of ctx, or because the binary cannot be started.
//
// When ctx ends Invoke returns, but the function works on to its end, as on AWS when a caller hangs
// up. An event that still waits for an instance is dropped then.
func (h *Host) Invoke(ctx context.Context, name string, payload []byte) ([]byte, error) {
	answer, err := h.invoke(ctx, name, payload)
	if err != nil {
		return nil, fmt.Errorf("invoking %s: %w", name, err)
	}
	return answer, nil
}

func (h *Host) invoke(ctx context.Context, name string, payload []byte) ([]byte, error) {
	f, ok := h.functions[name]
	if !ok {
		return nil, ErrUnknownFunction
	}
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.closed:
		return nil, ErrClosed
	}
	inv := &invocation{id: uuid.NewString(), payload: payload, done: make(chan struct{})}
	started := h.begin(func() {
		f.carryOut(inv)
		<-f.slots
		close(inv.done)
	})
	if !started {
		return nil, ErrClosed
	}
	select {
	case <-inv.done:
		return inv.answer, inv.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Start starts one more instance of a function, which then waits for an event, and returns how long
// it took until it asked for one. It fails like Invoke.
func (h *Host) Start(name string) (time.Duration, error) {
	f, ok := h.functions[name]
	if !ok {
		return 0, fmt.Errorf("starting %s: %w", name, ErrUnknownFunction)
	}
	var took time.Duration
	done := make(chan error, 1)
	began := h.begin(func() {
		start := time.Now()
		i, err := f.start()
		if err == nil {
			err = i.awaitReady(time.After(initTime), fmt.Sprintf("the instance was not ready within %v", initTime))
			took = time.Since(start)
			i.used = err == nil
			f.giveBack(i)
		}
		done <- err
	})
	if !began {
		return 0, ErrClosed
	}
	err := <-done
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", name, err)
	}
	return took, nil
}

// begin starts work that Close is to wait for. It reports false if Close has been called.
func (h *Host) begin(work func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed:
		return false
	default:
		h.underway.Go(work)
		return true
	}
}

// Kill ends all instances of a function, whatever they are doing, and returns how many there were,
// once their processes have ended. What they were working on fails with ExitError; the next event
// gets a new instance.
func (h *Host) Kill(name string) int {
	f, ok := h.functions[name]
	if !ok {
		return 0
	}
	return f.kill()
}

// Freeze stops all instances of a function, whatever they are doing, while do runs, and returns how
// many there were. New ones may start.
func (h *Host) Freeze(name string, do func()) int {
	f, ok := h.functions[name]
	if !ok {
		return 0
	}
	f.mu.Lock()
	frozen := slices.Collect(maps.Keys(f.all))
	f.mu.Unlock()
	for _, i := range frozen {
		i.process.Freeze()
		defer i.process.Thaw()
	}
	do()
	return len(frozen)
}

// Suspend stops all instances of all functions while do runs, and starts none, as when the machine
// under them is suspended.
func (h *Host) Suspend(do func()) {
	for _, f := range h.functions {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := range f.all {
			i.process.Freeze()
			defer i.process.Thaw()
		}
	}
	do()
}

// OutOfMemory is how many instances of a function were ended because they held more than they may.
func (h *Host) OutOfMemory(name string) int {
	f, ok := h.functions[name]
	if !ok {
		return 0
	}
	return int(f.outOfMemory.Load())
}

// Resident is how many bytes of memory all instances of a function hold together; 0 where nobody
// can tell.
func (h *Host) Resident(name string) int64 {
	f, ok := h.functions[name]
	if !ok {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all int64
	for i := range f.all {
		all += resident(i.process.PID())
	}
	return all
}

// KillLargest ends the instance that holds the most memory, as Linux does when there is none left,
// and reports whether there was one.
func (h *Host) KillLargest() bool {
	var largest *instance
	var most int64
	for _, f := range h.functions {
		f.mu.Lock()
		for i := range f.all {
			held := resident(i.process.PID())
			if i.alive() && held > most {
				largest, most = i, held
			}
		}
		f.mu.Unlock()
	}
	if largest == nil {
		return false
	}
	largest.kill()
	return true
}

// Close ends everything; what is under way fails with ErrClosed. It returns once no process is
// left, and is safe to repeat.
func (h *Host) Close() {
	h.mu.Lock()
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	h.mu.Unlock()
	h.underway.Wait()
	for _, f := range h.functions {
		f.kill()
	}
}

// invocation is one event on its way through the host. Its outcome is settled once done is closed.
type invocation struct {
	id      string
	payload []byte

	answer []byte
	err    error
	done   chan struct{}
}

// function is a Function with its instances.
type function struct {
	Function
	arn         string
	now         func() time.Time
	log         *output
	closed      <-chan struct{}
	slots       chan struct{} // one is taken for each event that is worked on
	limited     bool          // an instance is ended that holds more than MemoryMB
	outOfMemory atomic.Int64  // how many were

	mu   sync.Mutex
	all  map[*instance]struct{}
	idle []*instance // the one used last at the end
}

// carryOut has an event worked on by an idle instance or a new one, and settles the invocation's
// outcome.
func (f *function) carryOut(inv *invocation) {
	for {
		i, err := f.take()
		if err != nil {
			inv.err = err
			return
		}
		settled := i.serve(inv)
		f.giveBack(i)
		if settled {
			return
		}
	}
}

// take returns an instance for the caller alone.
func (f *function) take() (*instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.idle) > 0 {
		last := len(f.idle) - 1
		i := f.idle[last]
		f.idle = f.idle[:last]
		if i.alive() {
			return i, nil
		}
		delete(f.all, i)
	}
	return f.add()
}

// start returns a new instance for the caller alone.
func (f *function) start() (*instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add()
}

// add is start for who holds the lock.
func (f *function) add() (*instance, error) {
	i, err := startInstance(f)
	if err != nil {
		return nil, fmt.Errorf("starting an instance: %w", err)
	}
	f.all[i] = struct{}{}
	return i, nil
}

func (f *function) giveBack(i *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i.alive() {
		f.idle = append(f.idle, i)
	} else {
		delete(f.all, i)
	}
}

func (f *function) kill() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	killed := 0
	for i := range f.all {
		if i.alive() {
			i.kill()
			killed++
		}
	}
	clear(f.all)
	f.idle = nil
	return killed
}
