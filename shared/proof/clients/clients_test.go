// Package clients has other people's generators make clients of docs/openapi.yaml, in TypeScript,
// Python and Go, and runs a credential's whole life with each of them against the running service.
// Beside them are the executors of docs/clients.md, in the same languages. `make test-clients`
// installs what that needs.
package clients

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/proof/contract"
)

var (
	node      = flag.String("node", "", "folder with the node_modules of typescript/package.json; empty to skip the tests")
	python    = flag.String("python", "", "folder of a virtual environment with python/requirements.txt")
	generator = flag.String("generator", "", "path of OpenAPI Generator's jar")
	codegen   = flag.String("codegen", "", "package and version of oapi-codegen")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *node == "" {
		os.Exit(m.Run())
	}
	os.Exit(stacktest.Main(m, nil))
}

// program is a program in a folder beside this file: the commands that make it in a copy of that
// folder, and the one that runs it there.
type program struct{ folder, make, run string }

// bundle checks the types of what is there in TypeScript, and makes program.mjs of it.
const bundle = `
node_modules/.bin/tsc
node_modules/.bin/esbuild $PROGRAM --bundle --packages=external --platform=node --format=esm --outfile=program.mjs --log-level=warning`

// lifecycles are a credential's whole life, by what makes the client.
var lifecycles = map[string]program{
	"openapi-fetch": {"typescript", `
ln -s $NODE/node_modules .
rm lifecycle_hey.ts resolve.ts
node_modules/.bin/openapi-typescript $CONTRACT --output schema.d.ts
PROGRAM=lifecycle.ts` + bundle, "node program.mjs"},
	"Hey API": {"typescript", `
ln -s $NODE/node_modules .
rm lifecycle.ts resolve.ts
node_modules/.bin/openapi-ts --input $CONTRACT --output hey
PROGRAM=lifecycle_hey.ts` + bundle, "node program.mjs"},
	"openapi-python-client": {"python", `
PATH=$PYTHON/bin:$PATH
openapi-python-client generate --path $CONTRACT --output-path managed_credentials --meta none`, "$PYTHON/bin/python lifecycle.py"},
	"OpenAPI Generator": {"python", `
java -jar $GENERATOR generate --generator-name python --input-spec $CONTRACT --output . --additional-properties packageName=managed_credentials`,
		"$PYTHON/bin/python lifecycle_generator.py"},
	"oapi-codegen": {"golang", `
mkdir api
go run $CODEGEN -config oapi-codegen.yaml $CONTRACT
go build -o program ./lifecycle`, "./program"},
}

// executors are those of docs/clients.md.
var executors = map[string]program{
	"Node": {"typescript", `
ln -s $NODE/node_modules .
rm lifecycle.ts lifecycle_hey.ts
PROGRAM=resolve.ts` + bundle, "node program.mjs"},
	"Python": {"python", "", "$PYTHON/bin/python resolve.py"},
	"Go":     {"golang", "go build -o program ./resolve", "./program"},
}

// start makes the program, and returns what runs it, with a shell's arguments, and gives what it
// writes to its standard output.
func (p program) start(t *testing.T, env ...string) func(arguments ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	err := os.CopyFS(dir, os.DirFS(p.folder))
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"NODE": *node, "PYTHON": *python, "GENERATOR": *generator, "CONTRACT": "../../../docs/openapi.yaml"} {
		path, err = filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+path)
	}
	env = append(env, "CODEGEN="+*codegen)
	run := func(script string) (string, error) {
		command := exec.CommandContext(t.Context(), "sh", "-ec", script)
		command.Dir, command.Env = dir, append(os.Environ(), env...)
		var out, wrong bytes.Buffer
		command.Stdout, command.Stderr = &out, &wrong
		err := command.Run()
		if err != nil {
			return "", fmt.Errorf("%s: %w\n%s%s", script, err, &out, &wrong)
		}
		return strings.TrimSpace(out.String()), nil
	}
	_, err = run(p.make)
	if err != nil {
		t.Fatal(err)
	}
	return func(arguments ...string) (string, error) { return run(p.run + " " + strings.Join(arguments, " ")) }
}

// recorder notes what each token's bearer was answered, as "POST 201".
type recorder struct {
	mu  sync.Mutex
	got map[string][]string
}

func (r *recorder) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, req)
		r.mu.Lock()
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		r.got[token] = append(r.got[token], fmt.Sprint(req.Method, " ", answer.Code))
		r.mu.Unlock()
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // The client has gone if this fails.
	})
}

// start starts a service that notes what it answers.
func start(t *testing.T) (*stack.Stack, *recorder) {
	t.Helper()
	if *node == "" {
		t.Skip("make test-clients runs it")
	}
	noted := &recorder{got: map[string][]string{}}
	held := contract.Around(t)
	s, _ := stacktest.Start(t, stack.Config{
		// Patient, since none of this is about how long something takes.
		Env: map[string]string{"PROVISION_BUDGET": "25s"}, Timeout: time.Minute,
		Faults: true, Around: func(h http.Handler) http.Handler { return noted.around(held(h)) },
	})
	return s, noted
}

func token(t *testing.T, s *stack.Stack, user string) string {
	t.Helper()
	res, err := http.Post(s.URL+"/local/token", "application/json", strings.NewReader(`{"sub":"`+user+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err = json.NewDecoder(res.Body).Decode(&answer)
	if err != nil {
		t.Fatal(err)
	}
	return answer.AccessToken
}

func TestGeneratedClientsLiveACredentialsWholeLife(t *testing.T) {
	s, noted := start(t)
	for name, client := range lifecycles {
		t.Run(name, func(t *testing.T) {
			mine := token(t, s, credential.NewID())
			out, err := client.start(t, "API_URL="+s.URL, "TOKEN="+mine)()
			if err != nil || out != "done" {
				t.Errorf("it ended with %q, %v", out, err)
			}
			const whole = "POST 201, POST 201, GET 200, GET 200, PUT 200, PUT 412, POST 201, DELETE 200, GET 404, DELETE 403"
			if got := strings.Join(noted.got[mine], ", "); got != whole {
				t.Errorf("it got %s, and not %s", got, whole)
			}
		})
	}
}

func TestExecutorsResolveRepeatAndReport(t *testing.T) {
	s, _ := start(t)
	for name, executor := range executors {
		t.Run(name, func(t *testing.T) {
			made := executor.start(t, "AWS_ENDPOINT_URL_LAMBDA="+s.LambdaURL, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
				"AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local", "AWS_EC2_METADATA_DISABLED=true")
			user := credential.NewID()
			execute := func(attempt ...string) (string, error) {
				return made(append([]string{user, "agent_mail"}, attempt...)...)
			}
			out, err := execute()
			if err == nil || !strings.Contains(err.Error(), "Credentials not found") {
				t.Errorf("before there is a credential: %q, %v", out, err)
			}
			req, err := http.NewRequest("GET", s.URL+"/credentials", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token(t, s, user))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()

			var killed sync.Once
			s.Faults.DynamoDB.SetHook(func(*fault.Call) (f fault.Fault) {
				killed.Do(func() {
					s.Host.Kill("resolve-credential")
					f = fault.Drop()
				})
				return f
			})
			out, err = execute()
			s.Faults.DynamoDB.SetHook(nil)
			pod, _ := s.AgentMail.Pod(user)
			if err != nil || len(pod.Keys) != 1 || !strings.HasPrefix(out, pod.Keys[0].Prefix) || !strings.HasSuffix(out, " 1") {
				t.Fatalf("after a failed invocation: %q, %v; AgentMail has %+v", out, err, pod)
			}
			for _, want := range []string{"202", "429"} {
				out, err = execute("1")
				if err != nil || out != want {
					t.Errorf("the report was answered with %q, %v, and not with %s", out, err, want)
				}
			}
		})
	}
}

// A snippet that nobody runs rots.
func TestTheSnippetsOfTheDocsAreOfTheProgramsHere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"ts": "typescript/*.ts", "python": "python/*.py", "go": "golang/*/*.go"}
	snippets := regexp.MustCompile("(?ms)^```(ts|python|go)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(snippets) < 4 {
		t.Errorf("there are %d snippets", len(snippets))
	}
	for _, snippet := range snippets {
		names, err := filepath.Glob(files[snippet[1]])
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, name := range names {
			program, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(program), strings.TrimSpace(snippet[2]))
		}
		if !found {
			t.Errorf("this is in none of %v:\n%s", names, snippet[2])
		}
	}
}
