package functions_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider/agentmail"
)

// errorsIn are the functions' log lines of the level ERROR. A line that is no JSON fails the test.
func errorsIn(t *testing.T, log string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(log) {
		_, text, ok := strings.Cut(line, "] ") // the host puts the function's name before each line
		if !ok || !strings.HasPrefix(line, "[") {
			continue
		}
		var entry map[string]any
		err := json.Unmarshal([]byte(text), &entry)
		if err != nil {
			t.Errorf("a line is no JSON: %s", line)
		}
		if entry["level"] == "ERROR" {
			all = append(all, entry)
		}
	}
	return all
}

func TestAFunctionErrorIsOneLineOfJSON(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault {
		return fault.AWSError(http.StatusBadRequest, "ResourceNotFoundException", "no such table")
	})
	s.resolve(alice, agentmail.Name, "").want(t, http.StatusBadGateway, "")
	if !s.logs("no such table") {
		t.Fatal("the error is not in the log")
	}
	lines := errorsIn(t, s.log.String())
	if len(lines) != 1 || lines[0]["requestId"] == nil || !strings.Contains(lines[0]["error"].(string), "no such table") {
		t.Errorf("the errors are %v", lines)
	}
}

// What the runbook tells operators to ask of the log finds who was handed what, and nothing else.
func TestTheRunbooksQueryFindsWhoWasHandedAKey(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.list(s.token(alice))
	own := s.create(s.token(alice), "github", `{"type":"api_key","api_key":"not-a-real-key"}`)
	for provider, id := range map[string]string{agentmail.Name: "", "github": own.ID} {
		s.resolve(alice, provider, id).want(t, http.StatusOK, "")
	}
	if !s.logsThat(func(log string) bool { return strings.Count(log, `"secret released"`) == 2 }) {
		t.Fatal("two releases are not in the log")
	}
	fields, conditions := runbooksQuery(t)
	conditions["user"], conditions["provider"] = alice, agentmail.Name
	var found []map[string]any
	for line := range strings.Lines(s.log.String()) {
		var entry map[string]any
		_, text, _ := strings.Cut(line, "] ")
		if json.Unmarshal([]byte(text), &entry) != nil {
			continue
		}
		matches := true
		for name, want := range conditions {
			matches = matches && entry[name] == want
		}
		if matches {
			found = append(found, entry)
		}
	}
	if len(found) != 1 || found[0]["audit"] != true || found[0]["attempt"] != 1.0 || found[0]["credential"] != credential.ManagedID(agentmail.Name, alice) {
		t.Fatalf("the query finds %v", found)
	}
	for _, name := range fields {
		if found[0][name] == nil || found[0][name] == "" {
			t.Errorf("the line has no %s: %v", name, found[0])
		}
	}
}

// runbooksQuery are the fields that the runbook's query shows, but for CloudWatch's own, and what
// it asks of each.
func runbooksQuery(t *testing.T) (fields []string, conditions map[string]any) {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile(filepath.Join(root, "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(string(runbook), "--query-string '")
	query, _, _ = strings.Cut(query, "'")
	conditions = map[string]any{}
	for part := range strings.SplitSeq(query, "|") {
		verb, rest, _ := strings.Cut(strings.TrimSpace(part), " ")
		switch verb {
		case "fields":
			for name := range strings.SplitSeq(rest, ", ") {
				if !strings.HasPrefix(name, "@") {
					fields = append(fields, name)
				}
			}
		case "filter":
			for condition := range strings.SplitSeq(rest, " and ") {
				name, value, ok := strings.Cut(condition, " = ")
				if !ok {
					t.Fatalf("the runbook's query asks for %s", condition)
				}
				conditions[name] = strings.Trim(value, `"`)
			}
		}
	}
	if len(fields) < 4 || len(conditions) < 3 {
		t.Fatalf("the runbook's query is %s", query)
	}
	return fields, conditions
}

// The SDK warns of a date that it cannot read.
func TestAWarningOfTheSDKIsOneLineOfJSON(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault {
		return fault.Respond(http.StatusOK, http.Header{"Date": {"yesterday"}, "Content-Type": {"application/x-amz-json-1.0"}}, []byte(`{"Items":[]}`))
	})
	s.call("GET", "/credentials", s.token(alice), "")
	if !s.logs(`"message":"the AWS SDK reports","text":"failed to parse`) {
		t.Error("the warning is not in the log")
	}
	errorsIn(t, s.log.String())
}

func TestAFunctionLogsItsVersionWhenItStarts(t *testing.T) {
	t.Parallel()
	version, err := os.ReadFile(filepath.Join("..", "VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, nil)
	s.call("GET", "/credentials", s.token(alice), "").want(t, http.StatusOK, "")
	if !s.logs(`"message":"the function starts","version":"` + strings.TrimSpace(string(version)) + `"`) {
		t.Errorf("the log is %s", s.log)
	}
}

func TestAFunctionThatCannotStartSaysWhyInOneLineOfJSON(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range deployed.Functions {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			log := &stacktest.Log{}
			host := lambda.New(lambda.Config{Log: log, Functions: []lambda.Function{{
				Name: f.Name, Bootstrap: filepath.Join("..", "dist", f.Name, "bootstrap"), Timeout: 10 * time.Second,
				Env: map[string]string{"LOG_LEVEL": "LOUD"},
			}}})
			defer host.Close()
			_, err := host.Invoke(t.Context(), f.Name, []byte("{}"))
			if err == nil {
				t.Error("it started")
			}
			first, _, _ := strings.Cut(log.String(), "\n")
			lines := errorsIn(t, first)
			if len(lines) != 1 || !strings.Contains(lines[0]["error"].(string), "LOG_LEVEL") {
				t.Errorf("the log is %s", log)
			}
		})
	}
}
