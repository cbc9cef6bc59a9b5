// Package frozen_test runs the built functions on a machine that is suspended now and then: see
// package suspended.
package frozen_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/proof/suspended"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, suspended.Build)) }

// world is a service on a machine that can be suspended.
type world struct {
	*stack.Stack
	t       *testing.T
	machine *suspended.Machine
}

func start(t *testing.T, cfg stack.Config) *world {
	t.Helper()
	machine, err := suspended.New(stacktest.Dist, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	cfg.Dist, cfg.Now = machine.Dist, machine.Now
	s, _ := stacktest.Start(t, cfg)
	return &world{Stack: s, t: t, machine: machine}
}

// suspend lets the machine be suspended for so long.
func (w *world) suspend(d time.Duration) {
	err := w.machine.Suspend(d)
	if err != nil {
		w.t.Error(err)
	}
}

// call sends a request with a token of the user's, and returns the answer's status and the managed
// credential's standing.
func (w *world) call(method, path, user string) (status int, standing string) {
	w.t.Helper()
	token, err := w.Issuer.AccessToken(user, user)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header.Get("Managed-Credentials")
}

// list lists the user's credentials and returns the managed one's standing.
func (w *world) list(user string) string {
	w.t.Helper()
	status, standing := w.call("GET", "/credentials", user)
	if status != http.StatusOK {
		w.t.Fatalf("the list is answered with %d", status)
	}
	return standing
}

func (w *world) reconcile() {
	w.t.Helper()
	_, err := w.Host.Invoke(w.t.Context(), "reconcile", []byte("{}"))
	if err != nil {
		w.t.Fatal(err)
	}
}

const ready = "agent_mail=ready"

// A list claims, and the machine is suspended before DynamoDB's answer arrives, until 21 s after
// the lease's half. Whoever takes over looks for what was left behind when the lease has run out: a
// create that is sent now might take effect after that.
func TestAListThatWasSuspendedAfterItsClaimSendsNoCreate(t *testing.T) {
	t.Parallel()
	w := start(t, stack.Config{Faults: true})
	w.Faults.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op != "TransactWriteItems" {
			return nil
		}
		return fault.After(func(context.Context) { w.suspend(51 * time.Second) }, nil)
	})
	standing := w.list("alice")
	if standing == ready || w.Faults.DynamoDB.Count("TransactWriteItems") == 0 {
		t.Errorf("the list says %s, after %d claims", standing, w.Faults.DynamoDB.Count("TransactWriteItems"))
	}
	for _, c := range w.Faults.AgentMail.Calls() {
		if c.Method == http.MethodPost {
			t.Errorf("%s was sent in the lease's second half", c.Op)
		}
	}
	w.Faults.DynamoDB.SetHook(nil)
	w.suspend(5 * time.Minute)
	w.reconcile()
	standing = w.list("alice")
	pod, _ := w.AgentMail.Pod("alice")
	if standing != ready || len(pod.Keys) != 1 {
		t.Errorf("later the list says %s, and the pod is %+v", standing, pod)
	}
}

func TestAWarmReconcileRevokesAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	w := start(t, stack.Config{})
	w.list("alice")
	w.AgentMail.Inject(fault.Rule{Fault: fake.Status(http.StatusInternalServerError)})
	status, _ := w.call("DELETE", "/account", "alice")
	if status != http.StatusAccepted {
		t.Fatalf("the deletion is answered with %d", status)
	}
	w.suspend(20 * time.Minute) // longer than any pause after a failure
	w.reconcile()
	if len(w.AgentMail.Pods()) != 1 {
		t.Fatal("AgentMail failed, and the pod is gone")
	}
	w.AgentMail.ClearFaults()
	for range 3 { // a look that finds nothing is believed at the second time
		w.suspend(20 * time.Minute)
		w.reconcile()
	}
	if left := w.AgentMail.Pods(); len(left) != 0 {
		t.Errorf("three rounds later AgentMail still has %+v", left)
	}
}

func TestNewUsersAreNotRefusedForEverAfterAFailure(t *testing.T) {
	t.Parallel()
	w := start(t, stack.Config{})
	w.AgentMail.Inject(fault.Rule{Fault: fake.Status(http.StatusInternalServerError)})
	for i := range 4 {
		standing := w.list("early-" + strconv.Itoa(i))
		if standing == ready {
			t.Fatal("AgentMail failed, and there is a credential")
		}
	}
	w.AgentMail.ClearFaults()
	w.suspend(20 * time.Minute)
	standing := w.list("late")
	if standing != ready {
		t.Errorf("AgentMail has been well for 20 minutes, and a new user's list says %s", standing)
	}
}

func TestATimeToTryAgainIsNotInThePast(t *testing.T) {
	t.Parallel()
	w := start(t, stack.Config{})
	w.AgentMail.Inject(fault.Rule{Fault: fault.Respond(http.StatusTooManyRequests, http.Header{"Retry-After": {"30"}}, nil)})
	told := 0
	for _, user := range []string{"alice", "bob", "carol"} {
		standing := w.list(user)
		text, ok := strings.CutPrefix(standing, "agent_mail=failed;retry_at=")
		if ok {
			told++
			at, err := strconv.ParseInt(text, 10, 64)
			if err != nil || at < w.machine.Now().Unix() {
				t.Errorf("at %d the list of %s says %s", w.machine.Now().Unix(), user, standing)
			}
		}
		w.suspend(40 * time.Second)
	}
	if told == 0 {
		t.Error("no list says when it is tried again")
	}
}

func TestAWarmProcessHandsOutTheNewSystemKeyAfterARotation(t *testing.T) {
	t.Parallel()
	w := start(t, stack.Config{Env: map[string]string{"SYSTEM_KEYS_SECRET_ID": "system"}})
	resolve := func() string {
		t.Helper()
		out, err := w.Host.Invoke(t.Context(), "resolve-credential",
			[]byte(`{"user_id":"alice","provider":"openai","credential_id":"`+credential.SystemID("openai")+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			APIKey string `json:"api_key"`
		}
		err = json.Unmarshal(out, &answer)
		if err != nil {
			t.Fatal(err)
		}
		return answer.APIKey
	}
	before := resolve()
	w.Secrets.Put("system", `{"openai":"the next key"}`)
	w.suspend(6 * time.Minute)
	after := resolve()
	if before != w.SystemKeys["openai"] || after != "the next key" {
		t.Errorf("resolve gave out %q, and after the rotation %q", before, after)
	}
}

// While the machine is suspended AgentMail's side gives its connections up, and nothing tells the
// process.
func TestAConnectionThatDiedInASuspensionCostsNobodyTheirKey(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := &mortal{Listener: inner}
	w := start(t, stack.Config{AgentMailListener: listener})
	if standing := w.list("alice"); standing != ready {
		t.Fatalf("the first list says %s", standing)
	}
	listener.end()
	w.suspend(30 * time.Second)
	standing := w.list("bob")
	if standing != ready {
		t.Errorf("after the suspension a list says %s", standing)
	}
}

// mortal is a listener whose connections can be left without an answer for ever.
type mortal struct {
	net.Listener
	mu   sync.Mutex
	open []*connection
}

// connection is one that hears nothing any more once it is dead.
type connection struct {
	net.Conn
	dead atomic.Bool
}

func (m *mortal) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = append(m.open, c)
	return c, nil
}

// end lets all connections die.
func (m *mortal) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.open {
		c.dead.Store(true)
	}
}

func (c *connection) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.dead.Load() {
			return n, err
		}
	}
}
