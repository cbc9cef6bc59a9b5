package deploy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
)

// stack is one deployment.
type stack struct {
	*world
	name    string
	outputs map[string]string
	used    []string // outputs
}

// built is what `sam build` has made, with the binaries in the emulator's S3, as CloudFormation
// gets it once AWS's translator has been over it.
func (w *world) built() []byte {
	w.t.Helper()
	w.sam("build")
	packaged := filepath.Join(w.dir, "packaged.yaml")
	w.sam("package", "--resolve-s3", "--no-progressbar", "--output-template-file", packaged)
	return []byte(w.must(w.try("", filepath.Join(*tools, "bin", "python"), filepath.Join(w.root, "shared/proof/deploy/transform.py"), packaged)))
}

// deploy makes or updates the stack as README.md says: parameters that are not given keep the
// values that they have.
func (w *world) deploy(name string, altered object, parameters ...string) *stack {
	w.t.Helper()
	text, err := json.Marshal(altered)
	if err != nil {
		w.t.Fatal(err)
	}
	args := []string{"deploy", "--config-file", w.samConfig, "--stack-name", name, "--template-file", w.file("altered.json", text),
		"--no-progressbar", "--no-confirm-changeset", "--save-params", "--parameter-overrides"}
	w.sam(append(args, parameters...)...)
	s := &stack{world: w, name: name}
	s.describe()
	return s
}

const (
	complete = "CREATE_COMPLETE"
	// templates is the bucket that CloudFormation reads templates from: they are too long to be
	// sent.
	templates = "templates"
)

// create makes a stack by CloudFormation alone, with login pages, and waits for what becomes of it.
func (w *world) create(name string, altered object) *stack {
	w.t.Helper()
	text, err := json.Marshal(altered)
	if err != nil {
		w.t.Fatal(err)
	}
	w.aws("", "s3api", "put-object", "--bucket", templates, "--key", name, "--body", w.file(name+".json", text))
	s := &stack{world: w, name: name}
	_, err = w.tryAWS("", "cloudformation", "create-stack", "--stack-name", name,
		"--template-url", w.emulator+"/"+templates+"/"+name, "--capabilities", "CAPABILITY_IAM",
		"--parameters", "ParameterKey=AgentMailBaseUrl,ParameterValue="+w.mailURL, "ParameterKey=ManagedLoginDomainPrefix,ParameterValue="+name)
	if err != nil {
		if !strings.Contains(err.Error(), "ValidationError") {
			w.t.Fatal(err)
		}
		return s
	}
	w.eventually(name+" is made, or not", func() bool { return !strings.HasSuffix(s.status(), "_IN_PROGRESS") })
	s.describe()
	return s
}

// status is "" if CloudFormation has refused to make the stack.
func (s *stack) status() string {
	s.t.Helper()
	out, err := s.tryAWS("", "cloudformation", "describe-stacks", "--stack-name", s.name)
	if err != nil {
		return ""
	}
	return s.decode(out)["Stacks"].([]any)[0].(object)["StackStatus"].(string)
}

func (s *stack) describe() {
	s.t.Helper()
	described := s.aws("", "cloudformation", "describe-stacks", "--stack-name", s.name)["Stacks"].([]any)[0].(object)
	s.outputs = map[string]string{}
	outputs, _ := described["Outputs"].([]any) // none of a stack that failed
	for _, o := range outputs {
		s.outputs[o.(object)["OutputKey"].(string)] = o.(object)["OutputValue"].(string)
	}
}

// output is one of the stack's, which thereby counts as used.
func (s *stack) output(name string) string {
	s.t.Helper()
	value := s.outputs[name]
	if value == "" {
		s.t.Fatalf("the stack has no output %s: %v", name, s.outputs)
	}
	s.used = append(s.used, name)
	return value
}

// complete checks that each resource of the template is there, but for those whose condition does
// not hold.
func (s *stack) complete(altered object, unmet ...string) {
	s.t.Helper()
	want := map[string]bool{}
	for id, r := range altered["Resources"].(object) {
		condition, _ := r.(object)["Condition"].(string)
		if !slices.Contains(unmet, condition) {
			want[id] = true
		}
	}
	n := 0
	for _, r := range s.aws("", "cloudformation", "describe-stack-resources", "--stack-name", s.name)["StackResources"].([]any) {
		id, status := r.(object)["LogicalResourceId"].(string), r.(object)["ResourceStatus"].(string)
		if want[id] && (status == "CREATE_COMPLETE" || status == "UPDATE_COMPLETE") {
			n++
			continue
		}
		s.t.Errorf("the resource %s is %s; is it in the template: %t", id, status, want[id])
	}
	if n != len(want) {
		s.t.Errorf("%d of %d resources are there", n, len(want))
	}
	s.t.Logf("%s: %d of %d resources, %s", s.name, n, len(want), s.status())
}

// call sends a request to the API, and returns the answer's status and body.
func (s *stack) call(method, path, token, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.output("ApiUrl")+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, said := s.send(r)
	return answer.StatusCode, said
}

// send sends a request, and returns the answer and its body.
func (s *stack) send(r *http.Request) (answer *http.Response, body string) {
	s.t.Helper()
	answer, err := s.web.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, string(all)
}

// wants calls, and checks the answer's status.
func (s *stack) wants(status int, method, path, token, body string) string {
	s.t.Helper()
	got, answer := s.call(method, path, token, body)
	if got != status {
		s.t.Fatalf("%s %s: the answer is %d %s, want %d", method, path, got, answer, status)
	}
	return answer
}

// page is the status of the page, which needs no token.
func (s *stack) page() int {
	s.t.Helper()
	status, _ := s.call(http.MethodGet, "/", "", "")
	return status
}

// invoke invokes a function, as an executor, an operator or a platform does.
func (s *stack) invoke(function, payload string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, "answer.json")
	answered := s.aws("", "lambda", "invoke", "--function-name", function, "--payload", payload, file)
	answer := s.must(s.try("", "cat", file))
	if answered["FunctionError"] != nil {
		s.t.Fatalf("%s with %s: %s", function, payload, answer)
	}
	return answer
}

// sendsDeletion puts an event of that source, that the user pool's user is deleted, and returns
// whether EventBridge takes it.
func (s *stack) sendsDeletion(source, pool, sub string) bool {
	s.t.Helper()
	detail := fmt.Sprintf(`{"eventSource":"cognito-idp.amazonaws.com","eventName":"AdminDeleteUser","requestParameters":{"userPoolId":%q,`+
		`"username":"HIDDEN_DUE_TO_SECURITY_REASONS"},"additionalEventData":{"sub":%q}}`, pool, sub)
	entry, err := json.Marshal([]object{{"Source": source, "DetailType": "AWS API Call via CloudTrail", "Detail": detail}})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.aws("", "events", "put-events", "--entries", string(entry))["FailedEntryCount"] == 0.0
}

// sends puts an event of that source that is about nobody.
func (s *stack) sends(source string) bool { return s.sendsDeletion(source, "another", "nobody") }
