package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/template"
)

var functions = []template.Function{
	{Name: "lister", Routes: []template.Route{
		{Method: "GET", Path: "/credentials"},
		{Method: "GET", Path: "/{provider}/credentials"},
		{Method: "GET", Path: "/{provider}/credentials/{id}"},
	}},
	{Name: "counter", Routes: []template.Route{
		{Method: "GET", Path: "/{provider}/credentials/count"},
		{Method: "GET", Path: "/count/credentials/{id}"},
	}},
	{Name: "creator", Routes: []template.Route{{Method: "POST", Path: "/{provider}/credentials"}}},
	{Name: "page", Routes: []template.Route{{Method: "GET", Path: "/", Public: true}}},
}

// call is one invocation.
type call struct {
	function string
	payload  []byte
}

// event is the payload of a call, with the names that AWS documents.
func (c call) event(t *testing.T) map[string]any {
	t.Helper()
	var e map[string]any
	err := json.Unmarshal(c.payload, &e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// allowed is what the fixture's pages of other origins may do.
var allowed = template.CORS{
	Methods: []string{"GET", "PUT"}, Headers: []string{"authorization", "if-match"}, Exposed: []string{"etag", "retry-after"}, MaxAge: 7200,
}

// fixture is a gateway whose functions all answer the same.
type fixture struct {
	url   string
	calls chan call
	// answer is what the functions do. Nil answers with an empty object.
	answer func(ctx context.Context) (string, error)
	users  map[string]string
	log    strings.Builder
}

func newFixture(t *testing.T, origins ...string) *fixture {
	t.Helper()
	f := &fixture{calls: make(chan call, 10), users: map[string]string{"gone-by": "x"}}
	g, err := New(Config{
		Functions: functions,
		Origins:   origins,
		CORS:      allowed,
		Invoke: func(ctx context.Context, function string, payload []byte) ([]byte, error) {
			f.calls <- call{function, payload}
			if f.answer == nil {
				return []byte("{}"), nil
			}
			out, err := f.answer(ctx)
			return []byte(out), err
		},
		Verify: func(token string) (map[string]any, error) {
			sub, ok := strings.CutPrefix(token, "token of ")
			if !ok || strings.Contains(sub, ",") {
				return nil, errors.New(`signature is "bad"`)
			}
			return map[string]any{"sub": sub, "exp": float64(1764000000), "cognito:groups": []any{"a", "b"}, "email_verified": true}, nil
		},
		Local: Local{
			Dashboard:  http.NotFoundHandler(),
			UserPoolID: "us-east-1_local",
			Token:      func(sub, username string) (string, error) { return "token of " + sub, nil },
			AddUser:    func(sub, username string) { f.users[sub] = username },
			RemoveUser: func(ctx context.Context, sub string) error { delete(f.users, sub); return nil },
			SwitchUser: func(sub string, enabled bool) bool {
				_, ok := f.users[sub]
				if ok {
					f.users[sub] = fmt.Sprint("enabled: ", enabled)
				}
				return ok
			},
		},
		Timeout: 50 * time.Millisecond,
		Log:     &f.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// called returns the next invocation: there has to be one by the time that the answer is here.
func (f *fixture) called(t *testing.T) call {
	t.Helper()
	select {
	case c := <-f.calls:
		return c
	default:
		t.Fatal("no function was invoked")
		return call{}
	}
}

type request struct {
	method, path string
	header       http.Header
	body         string
	host         string
}

// do sends a request, with a token if it has no header of its own, and returns the answer with its
// body.
func (f *fixture) do(t *testing.T, r request) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(r.method, f.url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.header
	if req.Header == nil {
		req.Header = http.Header{"Authorization": {"Bearer token of alice"}}
	}
	req.Host = r.host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func (f *fixture) want(t *testing.T, r request, status int, body string) *http.Response {
	t.Helper()
	resp, got := f.do(t, r)
	if resp.StatusCode != status || strings.TrimSpace(got) != body {
		t.Errorf("%s %s: %d %q, want %d %q", r.method, r.path, resp.StatusCode, got, status, body)
	}
	return resp
}

func get(path string) request { return request{method: "GET", path: path} }

func TestRequestBecomesAnEventOfFormat2(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := time.Now().UnixMilli()
	resp, _ := f.do(t, request{
		method: "POST", path: "/git%20hub%2F1/credentials?a=1&a=2&b=%20x", body: `{"title":"é"}`, host: "127.0.0.1:8080",
		header: http.Header{
			"Authorization": {"Bearer token of alice"},
			"Content-Type":  {"application/json; charset=utf-8"},
			"X-Several":     {"one", "two"},
			"Cookie":        {"a=1; b=2", "c=3"},
			"User-Agent":    {"tester"},
		},
	})
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	c := f.called(t)
	e := c.event(t)
	ctx := e["requestContext"].(map[string]any)
	headers := e["headers"].(map[string]any)
	for name, pair := range map[string][2]any{
		"function":        {c.function, "creator"},
		"version":         {e["version"], "2.0"},
		"routeKey":        {e["routeKey"], "POST /{provider}/credentials"},
		"rawPath":         {e["rawPath"], "/git hub/1/credentials"},
		"rawQueryString":  {e["rawQueryString"], "a=1&a=2&b=%20x"},
		"query":           {e["queryStringParameters"], map[string]any{"a": "1,2", "b": " x"}},
		"pathParameters":  {e["pathParameters"], map[string]any{"provider": "git hub/1"}},
		"cookies":         {e["cookies"], []any{"a=1", "b=2", "c=3"}},
		"cookie header":   {headers["cookie"], nil},
		"several":         {headers["x-several"], "one,two"},
		"host":            {headers["host"], "127.0.0.1:8080"},
		"content-length":  {headers["content-length"], "14"},
		"x-forwarded-for": {headers["x-forwarded-for"], "127.0.0.1"},
		"body":            {e["body"], `{"title":"é"}`},
		"isBase64Encoded": {e["isBase64Encoded"], false},
		"http": {ctx["http"], map[string]any{
			"method": "POST", "path": "/git hub/1/credentials", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "tester",
		}},
		"authorizer": {ctx["authorizer"], map[string]any{"jwt": map[string]any{
			"claims": map[string]any{"sub": "alice", "exp": "1764000000", "cognito:groups": "[a b]", "email_verified": "true"},
		}}},
		"requestId": {ctx["requestId"], resp.Header.Get("Apigw-Requestid")},
		"stage":     {ctx["stage"], "$default"},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s = %#v, want %#v", name, pair[0], pair[1])
		}
	}
	if at := int64(ctx["timeEpoch"].(float64)); at < before || at > time.Now().UnixMilli() {
		t.Errorf("timeEpoch = %d", at)
	}
}

func TestBodyIsEncodedUnlessItIsTextByItsType(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		contentType, body string
		want              any
		encoded           bool
	}{
		{"application/json", "{}", "{}", false},
		{"text/plain", "x", "x", false},
		{"TEXT/HTML; charset=utf-8", "x", "x", false},
		{"application/json", "\xff", "/w==", true},
		{"application/x-www-form-urlencoded", `{"a":1}`, "eyJhIjoxfQ==", true}, // what curl -d sends
		{"", "x", "eA==", true},
		{"application/octet-stream", "x", "eA==", true},
		{"application/octet-stream", "", nil, false},
	} {
		header := http.Header{"Authorization": {"token of alice"}, "Content-Type": {c.contentType}}
		f.do(t, request{method: "POST", path: "/github/credentials", header: header, body: c.body})
		e := f.called(t).event(t)
		if e["body"] != c.want || e["isBase64Encoded"] != c.encoded {
			t.Errorf("%q as %q: body %v, encoded %v", c.body, c.contentType, e["body"], e["isBase64Encoded"])
		}
	}
}

func TestRoutesAreMatchedAsAPIGatewayDoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for path, want := range map[string]string{
		"/credentials":                  "lister GET /credentials",
		"/github/credentials":           "lister GET /{provider}/credentials",
		"/github/credentials/1":         "lister GET /{provider}/credentials/{id}",
		"/github/credentials/count":     "counter GET /{provider}/credentials/count",
		"/count/credentials/1":          "counter GET /count/credentials/{id}",
		"/count/credentials/count":      "counter GET /count/credentials/{id}",
		"/credentials?provider=x":       "lister GET /credentials",
		"/github/credentials/a%2Fcount": "lister GET /{provider}/credentials/{id}",
	} {
		f.do(t, get(path))
		c := f.called(t)
		if got := fmt.Sprint(c.function, " ", c.event(t)["routeKey"]); got != want {
			t.Errorf("%s went to %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/credentials/", "//credentials", "/x", "/github/credentials/", "/github/credentials/1/2", "/local/token"} {
		f.want(t, get(path), http.StatusNotFound, `{"message":"Not Found"}`)
	}
	f.want(t, request{method: "PATCH", path: "/credentials"}, http.StatusNotFound, `{"message":"Not Found"}`)
	f.want(t, request{method: "OPTIONS", path: "/credentials", header: http.Header{}}, http.StatusNotFound, `{"message":"Not Found"}`)
}

func TestRoutesThatAreTheSameAreRefused(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Functions: []template.Function{
		{Name: "a", Routes: []template.Route{{Method: "GET", Path: "/{a}/x"}}},
		{Name: "b", Routes: []template.Route{{Method: "GET", Path: "/{b}/x"}}},
	}})
	if err == nil || !strings.Contains(err.Error(), "GET /{}/x") {
		t.Fatalf("err = %v, want one that names the route", err)
	}
}

func TestNobodyPassesWithoutAValidToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const invalid = `Bearer scope="" error="invalid_token" error_description="signature is 'bad'"`
	for _, c := range []struct {
		header []string
		asks   string
	}{
		{nil, "Bearer"},
		{[]string{""}, "Bearer"},
		{[]string{"Bearer"}, invalid},
		{[]string{"Basic YTpi"}, invalid},
		{[]string{"Bearer token of alice", "Bearer token of bob"}, invalid},
	} {
		resp := f.want(t, request{method: "GET", path: "/credentials", header: http.Header{"Authorization": c.header}},
			http.StatusUnauthorized, `{"message":"Unauthorized"}`)
		if got := resp.Header.Get("Www-Authenticate"); got != c.asks {
			t.Errorf("%v: www-authenticate is %q, want %q", c.header, got, c.asks)
		}
	}
	for _, value := range []string{"Bearer token of alice", "bearer token of alice", "token of alice"} {
		f.want(t, request{method: "GET", path: "/credentials", header: http.Header{"Authorization": {value}}}, http.StatusOK, "{}")
	}
	f.want(t, request{method: "GET", path: "/", header: http.Header{}}, http.StatusOK, "{}")
	for range 3 {
		f.called(t)
	}
	page := f.called(t).event(t)["requestContext"].(map[string]any)
	if page["authorizer"] != nil {
		t.Errorf("a public route got claims: %v", page["authorizer"])
	}
}

func TestAnswersAreTurnedIntoHTTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		out    string
		status int
		header map[string]string
		body   string
	}{
		"complete": {
			`{"statusCode":201,"headers":{"content-type":"application/json","Managed-Credentials":"a=ready","x-n":7},"body":"{\"a\":1}"}`,
			201, map[string]string{"Content-Type": "application/json", "Managed-Credentials": "a=ready", "X-N": "7"}, `{"a":1}`,
		},
		"without type": {`{"statusCode":200,"body":"<b>"}`, 200, map[string]string{"Content-Type": "text/plain; charset=utf-8"}, "<b>"},
		"without body": {`{"statusCode":204}`, 204, map[string]string{"Content-Type": ""}, ""},
		"encoded":      {`{"statusCode":200,"body":"/w==","isBase64Encoded":true}`, 200, nil, "\xff"},
		"own length":   {`{"statusCode":200,"headers":{"content-length":"1000"},"body":"x"}`, 200, map[string]string{"Content-Length": "1"}, "x"},
		"cookie":       {`{"statusCode":200,"cookies":["a=1; HttpOnly"],"body":"x"}`, 200, map[string]string{"Set-Cookie": "a=1; HttpOnly"}, "x"},
		"inferred":     {`{"a":1}`, 200, map[string]string{"Content-Type": "application/json"}, `{"a":1}`},
		"inferred too": {`[1]`, 200, map[string]string{"Content-Type": "application/json"}, `[1]`},
	} {
		f := newFixture(t)
		f.answer = func(context.Context) (string, error) { return c.out, nil }
		resp := f.want(t, get("/credentials"), c.status, c.body)
		for header, want := range c.header {
			if got := resp.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
	}
}

func TestFunctionThatFailsIsA500WithoutItsWords(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(context.Context) (string, error){
		"error":               func(context.Context) (string, error) { return "", &lambda.FunctionError{Message: "am_us_123"} },
		"no JSON":             func(context.Context) (string, error) { return "am_us_123", nil },
		"nothing":             func(context.Context) (string, error) { return "", nil },
		"status is a string":  func(context.Context) (string, error) { return `{"statusCode":"am_us_123"}`, nil },
		"status is null":      func(context.Context) (string, error) { return `{"statusCode":null}`, nil },
		"status is no status": func(context.Context) (string, error) { return `{"statusCode":99}`, nil },
		"body is an object":   func(context.Context) (string, error) { return `{"statusCode":200,"body":{}}`, nil },
		"header is a list":    func(context.Context) (string, error) { return `{"statusCode":200,"headers":{"a":[]}}`, nil },
		"bad encoding": func(context.Context) (string, error) {
			return `{"statusCode":200,"body":"%","isBase64Encoded":true}`, nil
		},
	} {
		f := newFixture(t)
		f.answer = answer
		resp := f.want(t, get("/credentials"), http.StatusInternalServerError, `{"message":"Internal Server Error"}`)
		if resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", name, resp.Header)
		}
		if !strings.HasPrefix(f.log.String(), "GET /credentials: 500: ") {
			t.Errorf("%s: the log says %q", name, f.log.String())
		}
	}
}

func TestFunctionThatTakesTooLongIsA503(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", fmt.Errorf("invoking: %w", ctx.Err())
	}
	f.want(t, get("/credentials"), http.StatusServiceUnavailable, `{"message":"Service Unavailable"}`)
}

func TestBodyOverTenMegabytesIsA413(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.want(t, request{method: "POST", path: "/github/credentials", body: strings.Repeat("x", maxBody+1)},
		http.StatusRequestEntityTooLarge, `{"message":"Request Entity Too Large"}`)
}

// cors is what an answer says about other origins, by the name of the header without its beginning.
func cors(resp *http.Response) map[string]string {
	said := map[string]string{}
	for name := range resp.Header {
		about, ok := strings.CutPrefix(name, "Access-Control-")
		if ok {
			said[about] = strings.Join(resp.Header.Values(name), " and ")
		}
	}
	return said
}

func TestAPreflightOfAnAllowedOriginIsAnsweredByTheGateway(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "https://app.example.com", "http://localhost:3000")
	preflight := func(origin, method string) http.Header {
		return http.Header{"Origin": {origin}, "Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {"authorization"}}
	}
	for _, path := range []string{"/credentials", "/github/credentials", "/", "/nowhere"} {
		for _, origin := range []string{"https://app.example.com", "http://localhost:3000"} {
			resp := f.want(t, request{method: "OPTIONS", path: path, header: preflight(origin, "PUT")}, http.StatusNoContent, "")
			want := map[string]string{"Allow-Origin": origin, "Allow-Methods": "GET,PUT", "Allow-Headers": "authorization,if-match", "Max-Age": "7200"}
			if got := cors(resp); !reflect.DeepEqual(got, want) {
				t.Errorf("%s from %s: %v", path, origin, got)
			}
		}
	}
	for name, header := range map[string]http.Header{
		"another origin":             preflight("https://evil.example", "GET"),
		"another scheme":             preflight("http://app.example.com", "GET"),
		"another port":               preflight("https://app.example.com:8443", "GET"),
		"a name that begins alike":   preflight("https://app.example.com.evil.example", "GET"),
		"a page without an origin":   preflight("null", "GET"),
		"no origin at all":           {"Access-Control-Request-Method": {"GET"}},
		"what asks for no preflight": {"Origin": {"https://app.example.com"}},
	} {
		resp := f.want(t, request{method: "OPTIONS", path: "/credentials", header: header}, http.StatusNoContent, "")
		if got := cors(resp); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if len(f.calls) > 0 {
		t.Errorf("invoked %s", f.called(t).function)
	}
}

func TestAPageOfAnAllowedOriginMayReadWhatAFunctionAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "https://app.example.com")
	f.answer = func(context.Context) (string, error) {
		return `{"statusCode":404,"headers":{"access-control-allow-origin":"*","Access-Control-Allow-Credentials":"true","etag":"x"},"body":"{}"}`, nil
	}
	from := func(origin, token string) http.Header {
		return http.Header{"Origin": {origin}, "Authorization": {token}}
	}
	for _, path := range []string{"/credentials", "/"} { // with an authorizer, and without: a module's script is asked for without a token
		resp := f.want(t, request{method: "GET", path: path, header: from("https://app.example.com", "token of alice")}, http.StatusNotFound, "{}")
		want := map[string]string{"Allow-Origin": "https://app.example.com", "Expose-Headers": "etag,retry-after"}
		if got := cors(resp); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", path, got)
		}
		resp = f.want(t, request{method: "GET", path: path, header: from("https://evil.example", "token of alice")}, http.StatusNotFound, "{}")
		if got := cors(resp); len(got) > 0 || resp.Header.Get("Etag") != "x" {
			t.Errorf("%s, of another origin: %v", path, resp.Header)
		}
	}
	resp := f.want(t, request{method: "GET", path: "/credentials", header: from("https://app.example.com", "no token")},
		http.StatusUnauthorized, `{"message":"Unauthorized"}`)
	if got := cors(resp); len(got) > 0 {
		t.Errorf("the authorizer's refusal has %v", got)
	}
}

func TestWithoutAllowedOriginsNothingIsSaidOfThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	header := http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"GET"}, "Authorization": {"token of alice"}}
	f.want(t, request{method: "OPTIONS", path: "/credentials", header: header}, http.StatusNotFound, `{"message":"Not Found"}`)
	resp := f.want(t, request{method: "GET", path: "/credentials", header: header}, http.StatusOK, "{}")
	if got := cors(resp); len(got) > 0 {
		t.Errorf("the answer has %v", got)
	}
}
