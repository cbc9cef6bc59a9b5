package contract

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"managed-credentials/shared/local/template"
)

const file = "../../../docs/openapi.yaml"

func load(t *testing.T) *Contract {
	t.Helper()
	c, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheContractHasTheRoutesOfTheTemplateAndNoOthers(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, f := range deployed.Functions {
		for _, r := range f.Routes {
			want = append(want, describe(r.Method, r.Path, r.Public))
		}
	}
	c := load(t)
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			got = append(got, describe(method, path, operation.Security != nil && len(*operation.Security) == 0))
			if slices.Contains(operation.Tags, "page") { // the contract's introduction says so of each
				got = append(got, describe("HEAD", path, true))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("docs/openapi.yaml has\n%s\nand template.yaml\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(c.doc.Security) != 1 {
		t.Error("an operation that says nothing of tokens needs none")
	}
}

// A header that a page may not send, or not read, is missing in its browser alone.
func TestPagesOfOtherOriginsMaySendAndReadWhatTheContractHas(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	methods, sent, read := map[string]bool{}, map[string]bool{"authorization": true, "content-type": true}, map[string]bool{}
	for _, item := range load(t).doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if slices.Contains(operation.Tags, "page") {
				continue
			}
			methods[method] = true
			for _, parameter := range operation.Parameters {
				if parameter.Value.In == "header" {
					sent[strings.ToLower(parameter.Value.Name)] = true
				}
			}
			for _, response := range operation.Responses.Map() {
				for name := range response.Value.Headers {
					read[strings.ToLower(name)] = true
				}
			}
		}
	}
	// What the Fetch standard lets every script read, and what is the browser's own business.
	for _, name := range []string{"cache-control", "x-content-type-options", "www-authenticate"} {
		delete(read, name)
	}
	for what, pair := range map[string]struct {
		deployed []string
		contract map[string]bool
	}{
		"methods": {deployed.CORS.Methods, methods}, "request headers": {deployed.CORS.Headers, sent}, "exposed headers": {deployed.CORS.Exposed, read},
	} {
		want := slices.Sorted(maps.Keys(pair.contract))
		if got := slices.Sorted(slices.Values(pair.deployed)); !slices.Equal(got, want) {
			t.Errorf("%s: template.yaml has %v, docs/openapi.yaml %v", what, got, want)
		}
	}
}

func describe(method, path string, public bool) string {
	if public {
		return method + " " + path + " without a token"
	}
	return method + " " + path
}

func TestAnExampleThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ old, new string }{
		{"value: {message: Unauthorized}", "value: {message: Go away}"},
		{"value: {deleted: true, revoked: null}", "value: {deleted: true}"},
		{"value: {deleted: true, revoked: null}", "value: {deleted: true, revoked: null, by: alice}"},
		{"value: {title: Home}", "value: {title: Home, host: example.com}"},
		{"title: GitHub\n                  access_token: gho_exampleexample", "title: GitHub"},
		{"type: oauth2\n                  title: null", "type: api_key\n                  title: null"},
		{"example: 5", "example: soon"},
		{"example: agent_mail=ready,", "example: agent_mail=well,"},
		{"example: 0e0a1f3c-5c86-4f0e-8f5e-7f3d3c1d2b4a", "example: 7"},
	} {
		if !bytes.Contains(text, []byte(change.old)) {
			t.Errorf("%q is not there any more", change.old)
			continue
		}
		doc, err := openapi3.NewLoader().LoadFromData(bytes.Replace(text, []byte(change.old), []byte(change.new), 1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = newContract(doc)
		if err == nil {
			t.Errorf("%q passes", change.new)
		}
	}
}

func TestNoAnswerMayHaveAFieldThatIsNotDocumented(t *testing.T) {
	t.Parallel()
	c := load(t)
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				for _, media := range response.Value.Content {
					if media.Schema != nil && isOpen(media.Schema.Value) {
						t.Errorf("%s %s %s lets an answer have any field", method, path, status)
					}
				}
			}
		}
	}
}

// isOpen is whether some object may have fields that the schema does not name.
func isOpen(s *openapi3.Schema) bool {
	among := func(parts []*openapi3.SchemaRef) bool {
		return slices.ContainsFunc(parts, func(one *openapi3.SchemaRef) bool { return isOpen(one.Value) })
	}
	switch {
	case s.Type.Is("array"):
		return isOpen(s.Items.Value)
	case len(s.OneOf) > 0:
		return among(s.OneOf)
	case s.Type == nil && len(s.AllOf) > 0: // One part closes it, the others say more about its fields.
		return !slices.ContainsFunc(s.AllOf, func(one *openapi3.SchemaRef) bool { return !isOpen(one.Value) })
	case s.Type.Is("object"), len(s.Properties) > 0:
		closed := s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has
		return !closed || among(slices.Collect(maps.Values(s.Properties)))
	default:
		return false
	}
}

// reply is what a made-up service answers.
type reply struct {
	status int
	header map[string]string
	body   string
}

const (
	unknown = "/github/credentials/0e0a1f3c-5c86-4f0e-8f5e-7f3d3c1d2b4a"
	valid   = `{"id":"0e0a1f3c-5c86-4f0e-8f5e-7f3d3c1d2b4a","provider":"github","type":"api_key","title":null,"scopes":null,"username":null,` +
		`"host":null,"autogpt_managed":false,"is_managed":false,"is_system":false,"created_at":5,"expires_at":null,"hint":null,"stored":null,"last_used_on":null}`
)

// json is the answer of a function.
func json(status int, body string, header ...string) reply {
	r := reply{status, map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Apigw-Requestid": "x",
	}, body}
	for i := 0; i < len(header); i += 2 {
		r.header[header[i]] = header[i+1]
	}
	return r
}

func without(r reply, header string) reply {
	delete(r.header, header)
	return r
}

func TestWhatTheContractDoesNotSayIsReported(t *testing.T) {
	t.Parallel()
	asset := map[string]string{
		"Cache-Control": "no-cache", "Vary": "accept-encoding", "ETag": `W/"x"`, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
			"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		"Cross-Origin-Opener-Policy": "same-origin-allow-popups", "Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy": "camera=(), geolocation=(), microphone=()", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=31536000",
	}
	weak := maps.Clone(asset)
	api := load(t)
	weak["Content-Security-Policy"] = "default-src *"
	for name, c := range map[string]struct {
		method, path, body string
		reply              reply
		says               string // "" if it is allowed
	}{
		"an answer as documented":    {"GET", unknown, "", json(200, valid), ""},
		"an undocumented field":      {"GET", unknown, "", json(200, strings.Replace(valid, "{", `{"pod_id":"x",`, 1)), "pod_id"},
		"a field in a list":          {"GET", "/credentials", "", json(200, "["+strings.Replace(valid, "{", `{"pod_id":"x",`, 1)+"]"), "pod_id"},
		"a missing field":            {"GET", unknown, "", json(200, strings.Replace(valid, `"title":null,`, "", 1)), "title"},
		"a field of another type":    {"GET", unknown, "", json(200, strings.Replace(valid, `"scopes":null`, `"scopes":["repo"]`, 1)), "scopes"},
		"managed and system":         {"GET", unknown, "", json(200, strings.ReplaceAll(valid, "false", "true")), "not"},
		"an undocumented status":     {"GET", unknown, "", json(409, `{"detail":"no"}`), "status"},
		"another text":               {"GET", unknown, "", json(404, `{"detail":"Not yours"}`), "detail"},
		"an undocumented header":     {"GET", unknown, "", json(200, valid, "X-Pod", "x"), "X-Pod"},
		"a missing header":           {"GET", unknown, "", without(json(200, valid), "Cache-Control"), "Cache-Control"},
		"a header of another form":   {"GET", "/credentials", "", json(200, "[]", "Managed-Credentials", "agent_mail=fine"), "Managed-Credentials"},
		"a body that is no JSON":     {"GET", unknown, "", json(200, "{"), "decode"},
		"another kind of body":       {"GET", unknown, "", json(200, valid, "Content-Type", "text/plain"), "Content-Type"},
		"a body where there is none": {"DELETE", "/account", "", json(204, "{}"), "body"},
		"a forbidden success":        {"POST", "/github/credentials", `{"type":"api_key"}`, json(201, valid), "forbids"},
		"a forged success":           {"POST", "/github/credentials", `{"type":"api_key","api_key":"x","autogpt_managed":true}`, json(201, valid), "forbids"},
		"a malformed provider":       {"GET", "/GitHub/credentials", "", json(200, "[]"), "forbids"},
		"a 422 without reason":       {"POST", "/github/credentials", `{"type":"api_key","api_key":"x"}`, json(422, `{"detail":"title: no"}`), "allows"},
		"a 422 with reason":          {"POST", "/github/credentials", `{"type":"api_key"}`, json(422, `{"detail":"api_key: is required"}`), ""},
		"a route that there is not":  {"GET", "/nowhere", "", reply{404, map[string]string{"Content-Type": "application/json"}, `{"message":"Not Found"}`}, ""},
		"a route that is not there":  {"PATCH", unknown, "", json(200, valid), "not documented"},
		"the local gateway's own":    {"POST", "/local/token", "", json(200, `{"access_token":"x"}`), ""},
		"a provider called local":    {"GET", "/local/credentials", "", json(418, ""), "status"},
		"a file that is known":       {"GET", "/page-files/app.js", "", reply{304, asset, ""}, ""},
		"a 304 with a weak policy":   {"GET", "/page-files/app.js", "", reply{304, weak, ""}, "Content-Security-Policy"},
	} {
		var reported []error
		served := api.Around(func(err error) { reported = append(reported, err) })(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != c.body {
				t.Errorf("%s: the service got %q, %v", name, body, err)
			}
			for name, value := range c.reply.header {
				w.Header().Set(name, value)
			}
			w.WriteHeader(c.reply.status)
			_, _ = w.Write([]byte(c.reply.body))
		}))
		request := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		request.Header.Set("Authorization", "Bearer x")
		got := httptest.NewRecorder()
		served.ServeHTTP(got, request)
		if got.Code != c.reply.status || got.Body.String() != c.reply.body {
			t.Errorf("%s: the client got %d %s", name, got.Code, got.Body)
		}
		switch {
		case c.says == "" && len(reported) > 0:
			t.Errorf("%s: %v", name, reported)
		case c.says != "" && (len(reported) != 1 || !strings.Contains(reported[0].Error(), c.says)):
			t.Errorf("%s: reported %v, want %q", name, reported, c.says)
		}
	}
}

func TestWhatIsSaidToOtherOriginsIsHeldToTheContract(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example.com"
	api := load(t)
	for name, c := range map[string]struct {
		method, origin string
		reply          reply
		says           string // "" if it is allowed
	}{
		"an answer":              {"GET", origin, json(200, valid, "Access-Control-Allow-Origin", origin, "Access-Control-Expose-Headers", "etag"), ""},
		"an answer for another":  {"GET", "https://evil.example", json(200, valid, "Access-Control-Allow-Origin", origin), "Access-Control-Allow-Origin"},
		"an answer for all":      {"GET", origin, json(200, valid, "Access-Control-Allow-Origin", "*"), "Access-Control-Allow-Origin"},
		"an answer to no origin": {"GET", "", json(200, valid, "Access-Control-Allow-Origin", origin), "Access-Control-Allow-Origin"},
		"an answer with cookies": {"GET", origin, json(200, valid, "Access-Control-Allow-Origin", origin, "Access-Control-Allow-Credentials", "true"), "Credentials"},
		"a preflight":            {"OPTIONS", origin, reply{204, map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Max-Age": "5"}, ""}, ""},
		"a preflight of none":    {"OPTIONS", origin, reply{204, nil, ""}, ""},
		"a preflight with more":  {"OPTIONS", origin, reply{204, map[string]string{"Access-Control-Allow-Credentials": "true"}, ""}, "Credentials"},
		"a preflight that fails": {"OPTIONS", origin, json(403, `{"message":"Forbidden"}`), "not documented"},
	} {
		var reported []error
		served := api.Around(func(err error) { reported = append(reported, err) })(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range c.reply.header {
				w.Header().Set(name, value)
			}
			w.WriteHeader(c.reply.status)
			_, _ = w.Write([]byte(c.reply.body))
		}))
		request := httptest.NewRequest(c.method, unknown, nil)
		request.Header.Set("Authorization", "Bearer x")
		request.Header.Set("Origin", c.origin)
		served.ServeHTTP(httptest.NewRecorder(), request)
		switch {
		case c.says == "" && len(reported) > 0:
			t.Errorf("%s: %v", name, reported)
		case c.says != "" && (len(reported) != 1 || !strings.Contains(reported[0].Error(), c.says)):
			t.Errorf("%s: reported %v, want %q", name, reported, c.says)
		}
	}
}

func TestASuccessWithoutATokenIsReported(t *testing.T) {
	t.Parallel()
	var reported []error
	served := load(t).Around(func(err error) { reported = append(reported, err) })(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range json(0, "").header {
			w.Header().Set(name, value)
		}
		_, _ = w.Write([]byte("[]"))
	}))
	served.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/credentials", nil))
	if len(reported) != 1 || !strings.Contains(reported[0].Error(), "token") {
		t.Errorf("reported %v", reported)
	}
}

func TestWhatNobodyGotIsUnseen(t *testing.T) {
	t.Parallel()
	c := load(t)
	served := c.Around(func(error) {})(http.NotFoundHandler())
	all := c.Unseen()
	served.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", unknown, nil))
	const got = "GET /{provider}/credentials/{id} 404"
	if !slices.Contains(all, got) || slices.Contains(c.Unseen(), got) || len(c.Unseen()) != len(all)-1 {
		t.Errorf("first %v,\nthen %v", all, c.Unseen())
	}
}
