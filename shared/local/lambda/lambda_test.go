package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootstrap is the built function of testdata/function.
var bootstrap string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lambda-test-")
	if err != nil {
		panic(err)
	}
	bootstrap = filepath.Join(dir, "bootstrap")
	out, err := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", bootstrap, "./testdata/function").CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// host runs one function, "f".
func host(t *testing.T, change func(*Config)) (*Host, *buffer) {
	t.Helper()
	log := &buffer{}
	cfg := Config{Functions: []Function{{Name: "f", Bootstrap: bootstrap, Timeout: time.Minute}}, Log: log}
	if change != nil {
		change(&cfg)
	}
	h := New(cfg)
	t.Cleanup(h.Close)
	return h, log
}

type answer struct {
	PID       int
	Env       []string
	RequestID string
	ARN       string
	TraceID   string
	Remaining time.Duration
}

// invoke gives an event to "f".
func invoke(t *testing.T, h *Host, event map[string]string) (answer, error) {
	t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		t.Error(err)
	}
	out, err := h.Invoke(context.Background(), "f", payload)
	var a answer
	if err == nil {
		err = json.Unmarshal(out, &a)
	}
	return a, err
}

func wantFunctionError(t *testing.T, err error, kind, message string) {
	t.Helper()
	var failed *FunctionError
	if !errors.As(err, &failed) {
		t.Fatalf("err = %v, want a FunctionError", err)
	}
	if failed.Function != "f" || failed.Type != kind || !strings.Contains(failed.Message, message) {
		t.Fatalf("got %+v, want type %s and a message with %q", failed, kind, message)
	}
}

// gate is a server that holds each caller until it is opened. Functions call it to say that they
// have begun.
type gate struct {
	url     string
	arrived chan struct{}
	open    chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{arrived: make(chan struct{}, 100), open: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.arrived <- struct{}{}
		select {
		case <-g.open:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// background invokes "f" and returns where the outcome will be.
func background(t *testing.T, h *Host, event map[string]string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := invoke(t, h, event)
		done <- err
	}()
	return done
}

func TestFunctionLearnsWhatItLearnsOnAWS(t *testing.T) {
	t.Setenv("MINE_ALONE", "a secret of this shell")
	h, _ := host(t, func(c *Config) {
		c.Functions[0].MemoryMB = 512
		c.Functions[0].Env = map[string]string{"TABLE_NAME": "things", "AWS_EXECUTION_ENV": "overridden"}
	})
	a, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"AWS_LAMBDA_FUNCTION_NAME=f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_REGION=us-east-1", "TABLE_NAME=things", "AWS_EXECUTION_ENV=overridden",
	} {
		if !slices.Contains(a.Env, want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
	if strings.Contains(strings.Join(a.Env, " "), "MINE_ALONE") {
		t.Error("the function sees this program's environment")
	}
	if a.ARN != "arn:aws:lambda:us-east-1:000000000000:function:f" || len(a.RequestID) != 36 || !strings.HasPrefix(a.TraceID, "Root=1-") {
		t.Errorf("ARN %q, request id %q, trace id %q", a.ARN, a.RequestID, a.TraceID)
	}
	if a.Remaining <= 0 || a.Remaining > time.Minute {
		t.Errorf("the deadline is %v away, and the timeout a minute", a.Remaining)
	}
}

func TestInstanceIsReused(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	first, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		next, err := invoke(t, h, nil)
		if err != nil {
			t.Fatal(err)
		}
		if next.PID != first.PID || next.RequestID == first.RequestID {
			t.Fatalf("first %+v, then %+v: want the same process, another request", first, next)
		}
	}
}

func TestHandlersErrorIsTypedAndItsInstanceStays(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	before, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = invoke(t, h, map[string]string{"do": "fail"})
	wantFunctionError(t, err, "refusal", "I had rather not")
	after, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after.PID != before.PID {
		t.Fatal("the error cost the instance")
	}
}

func TestPanicIsTypedAndItsInstanceIsReplaced(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	before, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = invoke(t, h, map[string]string{"do": "panic"})
	wantFunctionError(t, err, "string", "at the disco")
	after, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after.PID == before.PID {
		t.Fatal("an instance that panicked was used again")
	}
}

func TestInstanceThatDiesIsAnExitErrorAndIsReplaced(t *testing.T) {
	t.Parallel()
	h, log := host(t, nil)
	_, err := invoke(t, h, map[string]string{"do": "exit"})
	wantFunctionError(t, err, ExitError, "exit status 3")
	_, err = invoke(t, h, map[string]string{"do": "exit well"})
	wantFunctionError(t, err, ExitError, "without providing a reason")
	_, err = invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "[f] Runtime.ExitError: ") {
		t.Fatalf("the log does not tell of it: %q", log)
	}
}

func TestInstanceThatDoesNotStartIsAnError(t *testing.T) {
	t.Parallel()
	h, log := host(t, func(c *Config) { c.Functions[0].Env = map[string]string{"AT_START": "exit"} })
	_, err := invoke(t, h, nil)
	wantFunctionError(t, err, ExitError, "exit status 7")
	if !strings.HasPrefix(log.String(), "[f] no reason to live\n[f] ") {
		t.Fatalf("the log lacks what it said: %q", log)
	}

	h, _ = host(t, func(c *Config) { c.Functions[0].Env = map[string]string{"AT_START": "report"} })
	_, err = invoke(t, h, nil)
	wantFunctionError(t, err, "Init.NoTable", "TABLE_NAME is not set")

	h, _ = host(t, func(c *Config) { c.Functions[0].Bootstrap = filepath.Join(t.TempDir(), "bootstrap") })
	_, err = invoke(t, h, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("err = %v, want os.ErrNotExist", err)
	}
}

func TestInvocationThatTakesTooLongIsEndedWithItsInstance(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h, log := host(t, func(c *Config) { c.Functions[0].Timeout = 100 * time.Millisecond })
	_, err := invoke(t, h, map[string]string{"call": g.url})
	wantFunctionError(t, err, TimedOut, "timed out after 0.10 seconds")
	if n := h.Kill("f"); n != 0 {
		t.Fatalf("%d instances were left", n)
	}
	if !strings.Contains(log.String(), "[f] Sandbox.Timedout: ") {
		t.Fatalf("the log does not tell of it: %q", log)
	}
}

func TestAnswerThatIsTooLargeIsAnError(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	_, err := invoke(t, h, map[string]string{"do": "much"})
	wantFunctionError(t, err, TooLarge, "exceeded")
	_, err = invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func TestEventsAtTheSameTimeGetInstancesUpToTheMostAndThenWait(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h, _ := host(t, func(c *Config) { c.MaxInstances = 3 })
	var outcomes []<-chan error
	for range 5 {
		outcomes = append(outcomes, background(t, h, map[string]string{"call": g.url}))
	}
	for range 3 {
		<-g.arrived
	}
	select {
	case <-g.arrived:
		t.Fatal("a fourth instance was started")
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Invoke(ctx, "f", []byte("{}"))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled: there is no room", err)
	}
	close(g.open)
	for _, o := range outcomes {
		err := <-o
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := h.Kill("f"); n != 3 {
		t.Fatalf("%d instances, want 3", n)
	}
}

func TestCallerWhoLeavesDoesNotStopTheFunction(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h, log := host(t, func(c *Config) { c.MaxInstances = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := h.Invoke(ctx, "f", []byte(fmt.Sprintf(`{"call":%q,"do":"print","text":"done all the same\n"}`, g.url)))
		left <- err
	}()
	<-g.arrived
	cancel()
	err := <-left
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled", err)
	}
	close(g.open)
	_, err = invoke(t, h, nil) // It has to wait for the one instance.
	if err != nil {
		t.Fatal(err)
	}
	if log.String() != "[f] done all the same\n" {
		t.Fatalf("log = %q", log)
	}
}

func TestKilledInstancesFailWithExitErrorAndAreReplaced(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h, _ := host(t, nil)
	idle, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	outcome := background(t, h, map[string]string{"call": g.url})
	<-g.arrived
	if n := h.Kill("f"); n != 1 {
		t.Fatalf("killed %d, want 1", n)
	}
	wantFunctionError(t, <-outcome, ExitError, "killed")
	next, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if next.PID == idle.PID {
		t.Fatal("the killed instance answered")
	}
	// One that is killed while it is idle costs nobody anything.
	if n := h.Kill("f"); n != 1 {
		t.Fatalf("killed %d, want 1", n)
	}
	_, err = invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := h.Kill("g"); n != 0 {
		t.Fatalf("killed %d of a function that there is not", n)
	}
}

// An instance that dies by itself while it is idle is noticed at the latest when an event is to be
// handed to it.
func TestInstanceThatHoldsMoreThanItMayIsEnded(t *testing.T) {
	t.Parallel()
	h, log := host(t, func(cfg *Config) { cfg.LimitMemory = true })
	_, err := invoke(t, h, map[string]string{"do": "hold"})
	wantFunctionError(t, err, ExitError, "killed")
	if h.OutOfMemory("f") != 1 || !strings.Contains(log.String(), "may hold 134217728: it is ended") {
		t.Errorf("%d are said to have been ended; log:\n%s", h.OutOfMemory("f"), log)
	}
	_, err = invoke(t, h, nil)
	if err != nil || h.OutOfMemory("f") != 1 {
		t.Errorf("the next event: %v", err)
	}
}

func TestInstanceThatHoldsTheMostIsEnded(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	if h.KillLargest() {
		t.Error("an instance was ended, and there was none")
	}
	before, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !h.KillLargest() {
		t.Skip("only Linux tells what a process holds")
	}
	after, err := invoke(t, h, nil)
	if err != nil || after.PID == before.PID {
		t.Errorf("it was process %d and is %d, %v", before.PID, after.PID, err)
	}
}

func TestInstanceIsFrozenAndGoesOn(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	before, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, freeze := range map[string]func(func()) int{
		"frozen":    func(do func()) int { return h.Freeze("f", do) },
		"suspended": func(do func()) int { h.Suspend(do); return 1 },
	} {
		n := freeze(func() {
			for !stopped(t, before.PID) {
				runtime.Gosched()
			}
		})
		after, err := invoke(t, h, nil)
		if err != nil || after.PID != before.PID || n != 1 {
			t.Errorf("%s: it was process %d and is %d, of %d, %v", name, before.PID, after.PID, n, err)
		}
	}
	if h.Freeze("unknown", func() { t.Error("an unknown function is frozen") }) != 0 {
		t.Error("an unknown function has instances")
	}
}

// stopped reports whether a process is stopped by a signal.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skip("only Linux tells how a process stands")
	}
	_, after, _ := strings.Cut(string(stat), ") ") // what comes before is the name
	return strings.HasPrefix(after, "T")
}

func TestInstanceThatDiesWhileIdleCostsNoEvent(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	first, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(first.PID)
	if err != nil {
		t.Fatal(err)
	}
	_ = process.Kill()
	for i := range h.functions["f"].all {
		<-i.process.Done()
	}
	next, err := invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if next.PID == first.PID {
		t.Fatal("a dead instance answered")
	}
}

func TestOutputKeepsItsLinesAndNamesTheFunction(t *testing.T) {
	t.Parallel()
	h, log := host(t, nil)
	_, err := invoke(t, h, map[string]string{"do": "print", "text": "one\ntwo\nthr"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = invoke(t, h, map[string]string{"do": "print", "text": "ee\nfour"})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if got, want := log.String(), "[f] one\n[f] two\n[f] three\n[f] four\n"; got != want {
		t.Fatalf("log = %q, want %q", got, want)
	}
}

func TestCloseEndsWhatIsUnderWayAndLeavesNothing(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h, _ := host(t, nil)
	var outcomes []<-chan error
	for range 2 {
		outcomes = append(outcomes, background(t, h, map[string]string{"call": g.url}))
	}
	for range 2 {
		<-g.arrived
	}
	h.Close()
	for _, o := range outcomes {
		err := <-o
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("err = %v, want ErrClosed", err)
		}
	}
	_, err := invoke(t, h, nil)
	if !errors.Is(err, ErrClosed) {
		t.Fatalf("err = %v, want ErrClosed", err)
	}
	h.Close()
}

func TestInstanceIsStartedAheadOfItsFirstEvent(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	took, err := h.Start("f")
	if err != nil || took <= 0 {
		t.Fatalf("the start took %v, %v", took, err)
	}
	if runtime.GOOS == "linux" && h.Resident("f") == 0 {
		t.Error("the instance that was started holds no memory")
	}
	_, err = invoke(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := h.Kill("f"); n != 1 {
		t.Errorf("the event had %d instances, and not the one that was started", n)
	}
	if n := h.Resident("f"); n != 0 {
		t.Errorf("instances that have ended hold %d bytes", n)
	}
}

func TestInstanceThatIsStartedAndFailsIsAnError(t *testing.T) {
	t.Parallel()
	h, _ := host(t, func(c *Config) { c.Functions[0].Bootstrap = "/bin/false" })
	_, err := h.Start("f")
	if err == nil {
		t.Error("a program that ends at once was started")
	}
	_, err = h.Start("g")
	if !errors.Is(err, ErrUnknownFunction) {
		t.Errorf("err = %v, want ErrUnknownFunction", err)
	}
}

func TestUnknownFunctionIsAnError(t *testing.T) {
	t.Parallel()
	h, _ := host(t, nil)
	_, err := h.Invoke(t.Context(), "g", nil)
	if !errors.Is(err, ErrUnknownFunction) {
		t.Fatalf("err = %v, want ErrUnknownFunction", err)
	}
}
