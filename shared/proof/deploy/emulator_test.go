package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/child"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider/agentmail/fake"
)

const (
	region = "us-east-1"
	// patience bounds what is waited for. Nothing is measured: on any machine that works each wait
	// is over long before.
	patience = 5 * time.Minute
)

// world is the emulator of AWS, AgentMail's fake, and the tools that speak to them.
type world struct {
	t    *testing.T
	root string // the repository's
	dir  string // for files of the test
	// samConfig is a copy of samconfig.toml, into which SAM writes.
	samConfig string
	emulator  string // origin
	mail      *fake.Server
	mailURL   string
	aside     []string // environment of what speaks to the emulator, and of no other AWS
	web       *http.Client
}

// newWorld starts the emulator on the loopback interface, with all that it keeps in a directory of
// the test's.
func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	mail := fake.New(fake.Config{})
	site := httptest.NewTLSServer(mail)
	t.Cleanup(site.Close)
	w := &world{t: t, root: root, dir: t.TempDir(), mail: mail, mailURL: site.URL}
	config, err := os.ReadFile(filepath.Join(root, "samconfig.toml"))
	if err != nil {
		t.Fatal(err)
	}
	w.samConfig = w.file("samconfig.toml", config)
	certificate := w.file("agentmail.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}))

	// Another process may take the port before the emulator does.
	for range 5 {
		if w.start(certificate) {
			return w
		}
	}
	t.Fatal("the emulator does not start")
	return nil
}

// start starts the emulator on a free port, and tells whether it answers there. If it does not, it
// has ended.
func (w *world) start(certificate string) bool {
	w.t.Helper()
	address := freeAddress(w.t)
	_, port, _ := net.SplitHostPort(address) // what a listener says always splits
	w.emulator = "http://" + address
	w.aside = []string{
		"AWS_ENDPOINT_URL=" + w.emulator, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"SAM_CLI_TELEMETRY=0", "AWS_PAGER=", "NO_PROXY=127.0.0.1",
	}
	cmd := exec.Command(filepath.Join(*tools, "bin", "ministack"))
	cmd.Dir = w.dir
	// The functions are its children, and have its environment beside what the stack gives them:
	// where AWS is, and whom they trust to be AgentMail.
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + w.dir, "STATE_DIR=" + w.dir,
		"BIND_HOST=127.0.0.1", "MINISTACK_HOST=127.0.0.1", "GATEWAY_PORT=" + port,
		"IOT_MTLS_ENABLED=0", // which would listen on all interfaces, on a port of its own
		"LAMBDA_ASYNC_RETRY_BASE_SECONDS=0.1", "SSL_CERT_FILE=" + certificate,
	}, w.aside...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	process, err := child.Start(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	whole := w.t
	whole.Cleanup(func() {
		process.Kill()
		<-process.Done()
		if whole.Failed() {
			whole.Logf("the emulator said:\n%s", &log)
		}
	})
	w.web = &http.Client{Transport: toEmulator{address}, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	ended := false
	w.eventually("the emulator answers", func() bool {
		select {
		case <-process.Done():
			ended = true
			return true
		default:
		}
		r, err := w.web.Get(w.emulator + "/_ministack/health")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return !ended
}

// run runs a subtest.
func (w *world) run(name string, check func()) {
	whole := w.t
	defer func() { w.t = whole }()
	whole.Run(name, func(t *testing.T) {
		w.t = t
		check()
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// toEmulator sends every request to the emulator, which goes by the host that it is for.
type toEmulator struct{ address string }

func (to toEmulator) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = r.URL.Host
	r.URL.Scheme, r.URL.Host = "http", to.address
	return http.DefaultTransport.RoundTrip(r)
}

// file writes a file of the test's, and returns its path.
func (w *world) file(name string, content []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	err := os.WriteFile(path, content, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

// eventually waits until something is so.
func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("it never came to be that %s", what)
		case <-poll.C:
		}
	}
}

// try runs a tool in the repository, and returns what it wrote.
func (w *world) try(input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(w.t.Context(), program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = w.root, append(environment(), w.aside...), strings.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		return "", &toolError{args: args, said: out.String() + said.String(), err: err}
	}
	return out.String(), nil
}

// environment is this process's without what would change the tools' ways.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "AWS_") || strings.HasPrefix(variable, "SAM_") || strings.HasPrefix(variable, "GOARCH=")
	})
}

type toolError struct {
	args []string
	said string
	err  error
}

func (e *toolError) Error() string {
	return strings.Join(e.args, " ") + ": " + e.err.Error() + "\n" + e.said
}

func (e *toolError) Unwrap() error { return e.err }

func (w *world) must(out string, err error) string {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// sam runs AWS SAM with what is in samconfig.toml.
func (w *world) sam(args ...string) {
	w.t.Helper()
	w.must(w.try("", *sam, args...))
}

// tryAWS runs AWS's command line. It is told of the emulator once more, because it goes by the
// environment for all services but SQS.
func (w *world) tryAWS(input string, args ...string) (string, error) {
	return w.try(input, filepath.Join(*tools, "bin", "aws"), append(args, "--output", "json", "--endpoint-url", w.emulator)...)
}

// aws runs AWS's command line, with an input, and returns its answer.
func (w *world) aws(input string, args ...string) object {
	w.t.Helper()
	out := w.must(w.tryAWS(input, args...))
	if out == "" {
		return nil
	}
	return w.decode(out)
}

// refused tells whether AWS's command line ends with that error.
func (w *world) refused(code string, args ...string) bool {
	_, err := w.tryAWS("", args...)
	return err != nil && strings.Contains(err.Error(), code)
}

func (w *world) decode(text string) object {
	w.t.Helper()
	var decoded object
	err := json.Unmarshal([]byte(text), &decoded)
	if err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	return decoded
}
