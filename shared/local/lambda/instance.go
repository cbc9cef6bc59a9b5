package lambda

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"managed-credentials/shared/local/child"
	"managed-credentials/shared/local/standin"
)

// initTime is how long a new instance may take until it asks for its first event, as on AWS.
const initTime = 10 * time.Second

// instance is one process, with a Runtime API of its own.
//
// The process asks for an event when it is ready for one, and its request is held until there is
// one. Whoever has the instance to himself therefore sees it go from ready to an outcome and to
// ready again, until the process ends.
type instance struct {
	function *function
	process  *child.Process
	log      *lines

	ready  chan struct{} // receives whenever the process asks for an event
	events chan *event   // takes the event once it has asked
	used   bool          // it has asked before, so that it is ready when it is idle

	mu        sync.Mutex
	current   *event // what the process is working on
	initError error  // what it reported of its start, a *FunctionError
}

// event is an invocation as an instance sees it.
type event struct {
	id       string
	payload  []byte
	deadline time.Time
	outcome  chan outcome // has room for the one that there is
}

type outcome struct {
	answer []byte
	err    error // a *FunctionError
}

func startInstance(f *function) (*instance, error) {
	bootstrap, err := filepath.Abs(f.Bootstrap)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i := &instance{
		function: f,
		log:      &lines{to: f.log, prefix: "[" + f.Name + "] "},
		ready:    make(chan struct{}),
		events:   make(chan *event),
	}
	cmd := exec.Command(bootstrap)
	cmd.Dir = filepath.Dir(bootstrap)
	cmd.Env = f.environment(listener.Addr().String(), cmd.Dir)
	cmd.Stdout, cmd.Stderr = i.log, i.log
	i.process, err = child.Start(cmd)
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	server := &http.Server{Handler: i.runtimeAPI(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	if f.limited {
		go i.watchMemory()
	}
	go func() {
		<-i.process.Done()
		_ = server.Close()
		i.log.flush()
	}()
	return i, nil
}

// environment is what a function finds on AWS:
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html.
func (f *function) environment(runtimeAPI, dir string) []string {
	env := []string{
		"AWS_DEFAULT_REGION=" + standin.Region,
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_FUNCTION_NAME=" + f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME=" + time.Now().UTC().Format("2006/01/02") + "/[$LATEST]" + randomHex(16),
		"AWS_LAMBDA_RUNTIME_API=" + runtimeAPI,
		"AWS_REGION=" + standin.Region,
		"LAMBDA_TASK_ROOT=" + dir,
		"LANG=en_US.UTF-8",
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"TZ=:UTC",
		"_HANDLER=bootstrap",
	}
	for name, value := range f.Env {
		env = append(env, name+"="+value) // Of two values for one name the last counts.
	}
	return env
}

func (i *instance) alive() bool {
	select {
	case <-i.process.Done():
		return false
	default:
		return true
	}
}

// serve has the process work on an event and settles the outcome. It returns when the process is
// ready for another one, or has ended. It reports false if the process ended while it was idle, so
// that the event never reached it: another instance has to take it.
func (i *instance) serve(inv *invocation) (settled bool) {
	if !i.used {
		inv.err = i.awaitReady(time.After(initTime), fmt.Sprintf("the instance was not ready within %v", initTime))
		if inv.err != nil {
			return true
		}
		i.used = true
	}
	timeout := i.function.Timeout
	e := &event{id: inv.id, payload: inv.payload, deadline: i.function.now().Add(timeout), outcome: make(chan outcome, 1)}
	i.setCurrent(e)
	select {
	case i.events <- e:
	case <-i.process.Done():
		return false
	}
	expired := time.After(timeout)
	late := fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", inv.id, timeout.Seconds())
	select {
	case o := <-e.outcome:
		inv.answer, inv.err = o.answer, o.err
		// What comes now cannot change the outcome. A process that panicked, for example, ends
		// instead of asking for more.
		_ = i.awaitReady(expired, late)
	case <-i.process.Done():
		inv.answer, inv.err = i.last(e)
	case <-expired:
		inv.err = i.expire(late)
	case <-i.function.closed:
		inv.err = i.shut()
	}
	return true
}

// awaitReady waits until the process asks for an event. If it does not in time, it is killed.
func (i *instance) awaitReady(expired <-chan time.Time, late string) error {
	select {
	case <-i.ready:
		return nil
	case <-i.process.Done():
		return i.exited()
	case <-expired:
		return i.expire(late)
	case <-i.function.closed:
		return i.shut()
	}
}

// last is the outcome of what the process was working on when it ended.
func (i *instance) last(e *event) ([]byte, error) {
	select {
	case o := <-e.outcome:
		return o.answer, o.err
	default:
		return nil, i.exited()
	}
}

// kill returns once the process has ended and all that it wrote is in the log.
func (i *instance) kill() {
	i.process.Kill()
	i.log.flush()
}

func (i *instance) expire(late string) error {
	i.kill()
	return i.fail(TimedOut, late)
}

func (i *instance) shut() error {
	i.kill()
	return ErrClosed
}

// exited says how the process ended that ended by itself, or by Host.Kill.
func (i *instance) exited() error {
	i.mu.Lock()
	reported := i.initError
	i.mu.Unlock()
	if reported != nil {
		return reported
	}
	how := "Runtime exited without providing a reason"
	if i.process.Err() != nil {
		how = "Runtime exited with error: " + i.process.Err().Error()
	}
	return i.fail(ExitError, how)
}

// fail is for ends that the function cannot have logged itself.
func (i *instance) fail(kind, message string) error {
	i.log.flush()
	_, _ = fmt.Fprintf(i.log, "%s: %s\n", kind, message)
	return &FunctionError{Function: i.function.Name, Type: kind, Message: message}
}
