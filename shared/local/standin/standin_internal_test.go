package standin

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type greeting struct{ Name string }

func serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(service{target: "Greeter", operations: map[string]operation{
		"Greet": op(func(in greeting) (any, error) {
			switch in.Name {
			case "":
				return nil, &refusal{Code: "NobodyException"}
			case "crash":
				return nil, errors.New("out of order")
			case "silent":
				return nil, nil
			}
			return greeting{Name: "hello " + in.Name}, nil
		}),
	}})
	t.Cleanup(server.Close)
	return server.URL
}

func TestEveryOutcomeHasItsShape(t *testing.T) {
	t.Parallel()
	url := serve(t)
	for name, tc := range map[string]struct {
		method, target, body string
		status               int
		errorType, answer    string
	}{
		"success":                   {"POST", "Greeter.Greet", `{"Name":"Ada"}`, 200, "", `{"Name":"hello Ada"}`},
		"success without a body":    {"POST", "Greeter.Greet", `{"Name":"silent"}`, 200, "", ``},
		"refusal without a message": {"POST", "Greeter.Greet", `{}`, 400, "NobodyException", `{"__type":"NobodyException"}`},
		"unexpected error": {"POST", "Greeter.Greet", `{"Name":"crash"}`, 500, "InternalFailure",
			`{"__type":"InternalFailure","message":"out of order"}`},
		"other operation": {"POST", "Greeter.Leave", `{}`, 400, "UnknownOperationException", `{"__type":"UnknownOperationException"}`},
		"other service":   {"POST", "Waiter.Greet", `{}`, 400, "UnknownOperationException", `{"__type":"UnknownOperationException"}`},
		"no target":       {"POST", "", `{}`, 400, "UnknownOperationException", `{"__type":"UnknownOperationException"}`},
		"other method":    {"PUT", "Greeter.Greet", `{}`, 400, "UnknownOperationException", `{"__type":"UnknownOperationException"}`},
		"not JSON": {"POST", "Greeter.Greet", `{`, 400, "SerializationException",
			`{"__type":"SerializationException","message":"the stand-in cannot take this input: unexpected EOF"}`},
		"unknown parameter": {"POST", "Greeter.Greet", `{"Name":"Ada","Loud":true}`, 400, "SerializationException",
			`{"__type":"SerializationException","message":"the stand-in cannot take this input: json: unknown field \"Loud\""}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), tc.method, url, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Amz-Target", tc.target)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.status)
			}
			if got := strings.TrimSpace(string(body)); got != tc.answer {
				t.Errorf("body %s, want %s", got, tc.answer)
			}
			if got := resp.Header.Get("X-Amzn-Errortype"); got != tc.errorType {
				t.Errorf("X-Amzn-Errortype %q, want %q", got, tc.errorType)
			}
			if resp.Header.Get("X-Amzn-Requestid") == "" {
				t.Error("no request id")
			}
		})
	}
}
