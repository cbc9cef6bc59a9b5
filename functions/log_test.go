package functions_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
