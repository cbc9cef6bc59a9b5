// Package sam runs the service under AWS's own tools, as a developer would: `sam validate --lint`,
// `sam build`, `sam local invoke` for each function with each of its events, and `sam local
// start-api`. What the functions call are the stand-ins of shared/local, in this process.
//
// It proves what no test in Go can: that SAM takes the template and the Makefile as they are, and
// that the binaries run under AWS's own Runtime Interface Emulator, each with the variables that
// the template gives it and no others. It is no part of `go test ./...`, since it takes minutes and
// downloads SAM: `make test-sam` starts it. That each function deals with each of its events within
// what its role allows is a part: there the binaries run on the local Lambda host.
package sam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"managed-credentials/shared/local/child"
	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/template"
)

var version = flag.String("sam", "", "version of AWS SAM under which to run the service, which takes minutes; empty to skip the test")

func TestServiceRunsUnderAWSsOwnTools(t *testing.T) {
	if *version == "" {
		t.Skip("takes minutes and downloads AWS SAM: see `make test-sam`")
	}
	// Ctrl-C makes whatever is under way fail, so that all that was started is ended.
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	s := install(ctx, t)
	t.Run("documents", func(t *testing.T) { s.checkDocuments(ctx, t) })
	docker := startDocker(ctx, t)
	s.env = append(s.env, docker.env...)
	docker.provideImage(ctx, t, s.emulator)

	step(t, "validating template.yaml", func() error { return s.run(ctx, "validate", "--lint") })
	step(t, "building the functions", func() error { return s.run(ctx, "build") })
	database, err := dynamodb.Start(ctx, dynamodb.Config{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Stop)

	roles := loadRoles(t, deployed.Functions)
	t.Run("invoke", func(t *testing.T) {
		for _, f := range deployed.Functions {
			for _, event := range eventsOf(t, f.Name) {
				t.Run(f.Name+"/"+event, func(t *testing.T) {
					t.Parallel()
					s.checkEvent(ctx, t, newWorld(t, database, deployed.Table, docker), f, event, roles[f.Name])
				})
			}
		}
	})
	t.Run("roles", func(t *testing.T) { allAreUsed(t, roles) })
	t.Run("start-api", func(t *testing.T) { s.checkAPI(ctx, t, deployed.Functions) })
}

// allAreUsed checks that the events made use of all that the roles allow.
func allAreUsed(t *testing.T, roles map[string]*role) {
	for name, role := range roles {
		for _, unused := range role.unused() {
			t.Errorf("the role of %s allows what none of the events makes it use: %s", name, unused)
		}
	}
}

// step does one of the long ones, and says how long it took.
func step(t *testing.T, doing string, do func() error) {
	t.Helper()
	t.Logf("%s …", doing)
	start := time.Now()
	err := do()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
	t.Logf("%s: done after %.1f s", doing, time.Since(start).Seconds())
}

// checkEvent invokes a function with one of its events and compares what it answers.
func (s *sam) checkEvent(ctx context.Context, t *testing.T, w *world, f template.Function, event string, r *role) {
	w.checkEvent(t, f, event, r, func() ([]byte, string, error) {
		file := filepath.Join(s.root, "functions", f.Name, "events", event+".json")
		return s.invoke(ctx, f.LogicalID, file, w.variables(t))
	})
}

// checkEvent has a function invoked with one of its events, in its role, and compares what it
// answers.
func (w *world) checkEvent(t *testing.T, f template.Function, event string, r *role, invoke func() (stdout []byte, stderr string, err error)) {
	t.Helper()
	want := expectations[f.Name][event]
	if want.given != nil {
		want.given(w)
	}
	w.acting.Store(r)
	stdout, stderr, err := invoke()
	w.acting.Store(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(stdout)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if !matches(want.answer, got) {
		t.Errorf("the answer is\n\t%s\nand should be\n\t%s\n%s", got, want.answer, stderr)
	}
	if want.then != nil {
		want.then(w)
	}
	if secret.MatchString(stderr) {
		t.Errorf("a secret was logged:\n%s", stderr)
	}
	if f.Name != "resolve-credential" && secret.Match(stdout) {
		t.Errorf("a secret is in the answer:\n%s", stdout)
	}
}

// render puts an answer on one line: "<status> <body>" if it is one to API Gateway, "error
// <message>" if the function failed, and else as it is. SAM itself ends with status 0 in each of
// these cases.
func render(stdout []byte) (string, error) {
	var answer struct {
		StatusCode   int     `json:"statusCode"`
		Body         string  `json:"body"`
		ErrorMessage *string `json:"errorMessage"`
	}
	err := json.Unmarshal(stdout, &answer)
	switch {
	case err != nil:
		return "", fmt.Errorf("the answer is not a JSON object but %q", stdout)
	case answer.ErrorMessage != nil:
		return "error " + *answer.ErrorMessage, nil
	case answer.StatusCode != 0:
		return strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, answer.Body)), nil
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, stdout)
	return compact.String(), err
}

// checkAPI sends requests through SAM's own API server. It knows no JWT authorizer and passes no
// claims, so that every guarded route has to be refused by the function itself.
func (s *sam) checkAPI(ctx context.Context, t *testing.T, functions []template.Function) {
	api := s.startAPI(ctx, t)
	path := strings.NewReplacer("{provider}", "openai", "{id}", ownID, "{file}", "picker.js")
	for _, f := range functions {
		for _, route := range f.Routes {
			t.Run(route.Method+" "+route.Path, func(t *testing.T) {
				status, body := request(ctx, t, route.Method, api+path.Replace(route.Path))
				if route.Public {
					if status != http.StatusOK {
						t.Errorf("the answer is %d %s", status, body)
					}
					return
				}
				if status != http.StatusUnauthorized || body != `{"message":"Unauthorized"}` {
					t.Errorf("the answer is %d %s and should be 401", status, body)
				}
			})
		}
	}
	t.Run("page", func(t *testing.T) {
		for path, file := range map[string]string{"/": "index.html", "/page-files/picker.js": "picker.js"} {
			want, err := os.ReadFile(filepath.Join(s.root, "functions", "integrations-page", "page", file))
			if err != nil {
				t.Fatal(err)
			}
			_, got := request(ctx, t, http.MethodGet, api+path)
			before, after, _ := strings.Cut(string(want), ">{}<") // the page's settings come there
			if !strings.HasPrefix(got, before) || !strings.HasSuffix(got, after) {
				t.Errorf("%s is not the file %s", path, file)
			}
		}
	})
	t.Run("no such route", func(t *testing.T) {
		status, body := request(ctx, t, http.MethodGet, api+"/no/such/route/there")
		if status != http.StatusForbidden { // API Gateway's HTTP APIs say 404; SAM says what its REST APIs do
			t.Errorf("the answer is %d %s", status, body)
		}
	})
}

func request(ctx context.Context, t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer forged")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(all)
}

// sam is AWS SAM's command line, in the repository.
type sam struct {
	program string
	// emulator is AWS's Runtime Interface Emulator, which comes with SAM.
	emulator string
	root     string
	env      []string
}

const (
	// installTime, buildTime and commandTime bound an installation, a build and any other command.
	installTime = 5 * time.Minute
	buildTime   = 10 * time.Minute
	commandTime = 90 * time.Second
)

// install puts SAM into a virtual environment of Python's in the user's cache directory, if it is
// not there yet.
func install(ctx context.Context, t *testing.T) *sam {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "managed-credentials", "aws-sam-cli-"+*version)
	s := &sam{program: filepath.Join(dir, "bin", "sam"), root: root, env: environment()}
	out, err := exec.CommandContext(ctx, s.program, "--version").Output()
	if err != nil || !strings.Contains(string(out), *version) {
		step(t, "installing AWS SAM "+*version+" into "+dir+", once", func() error { return create(ctx, dir) })
	}
	found, err := filepath.Glob(filepath.Join(dir, "lib", "python3*", "site-packages", "samcli", "local", "rapid", "aws-lambda-rie-x86_64"))
	if err != nil || len(found) != 1 {
		t.Fatalf("AWS SAM in %s has no Runtime Interface Emulator (%v)", dir, err)
	}
	s.emulator = found[0]
	return s
}

func create(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	err := output(exec.CommandContext(ctx, "python3", "-m", "venv", "--clear", dir))
	if err != nil {
		return fmt.Errorf("%w\nPython 3.10 or later is needed, with venv (on Debian: apt-get install python3-venv)", err)
	}
	return output(exec.CommandContext(ctx, filepath.Join(dir, "bin", "pip"), "install", "--quiet", "aws-sam-cli=="+*version))
}

// environment is this process's without what would change SAM's ways, or let a function reach AWS
// in somebody's name.
func environment() []string {
	env := []string{"SAM_CLI_TELEMETRY=0", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "SAM_") && name != "GOARCH" {
			env = append(env, variable)
		}
	}
	return env
}

func (s *sam) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Dir, cmd.Env = s.root, s.env
	// Interrupted, SAM removes its containers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	return cmd
}

// run runs a command that says all by its exit status.
func (s *sam) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	return output(s.command(ctx, args...))
}

// invoke invokes a function once, in a container of its own, and returns its answer and what it
// logged.
func (s *sam) invoke(ctx context.Context, function, event, variables string) (stdout []byte, stderr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	for {
		cmd := s.command(ctx, "local", "invoke", function, "--event", event, "--env-vars", variables, "--skip-pull-image")
		var answer, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &answer, &log
		err = cmd.Run()
		// SAM takes a random port of some thousands, and another SAM may take the same one at the
		// same moment.
		if err != nil && strings.Contains(log.String(), "port is already allocated") {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("sam local invoke: %w\n%s", err, &log)
		}
		return answer.Bytes(), log.String(), nil
	}
}

// startAPI starts SAM's API server and returns its origin once it answers.
func (s *sam) startAPI(ctx context.Context, t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String()) // what a listener says always splits
	_ = l.Close()
	cmd := s.command(context.Background(), "local", "start-api", "--port", port, "--skip-pull-image")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end(process, os.Interrupt)
		if t.Failed() {
			t.Logf("SAM's API server said:\n%s", &log)
		}
	})
	origin := "http://127.0.0.1:" + port
	err = await(ctx, process, func() error {
		connection, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		return connection.Close()
	})
	if err != nil {
		t.Fatalf("starting SAM's API server: %v", err)
	}
	return origin
}

// output runs a command, and puts what it said into its error.
func output(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// grace is how long a process may take to end by itself.
const grace = 30 * time.Second

// end asks a process to end, and makes it.
func end(process *child.Process, signal os.Signal) {
	p, err := os.FindProcess(process.PID())
	if err == nil {
		_ = p.Signal(signal) // the only error is that it has ended already
	}
	select {
	case <-process.Done():
	case <-time.After(grace):
		process.Kill()
	}
}

// await waits until a started process is ready.
func await(ctx context.Context, process *child.Process, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-process.Done():
			return errors.Join(errors.New("it has ended"), process.Err())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-poll.C:
		}
	}
}
