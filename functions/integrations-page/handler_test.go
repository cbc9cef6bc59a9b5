package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/aws/aws-lambda-go/events"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"managed-credentials/shared/local/template"
)

var built = fstest.MapFS{
	"page/.gitignore":    {Data: []byte("*")},
	"page/index.html":    {Data: []byte(`<!doctype html><script id="config" type="application/json">{}</script>`)},
	"page/index.html.gz": {Data: []byte("zipped page")},
	"page/app.js":        {Data: []byte("run()")},
	"page/app.js.gz":     {Data: []byte("zipped script")},

	"page/app-EGUMEK7J.js":    {Data: []byte("go()")},
	"page/app-EGUMEK7J.js.gz": {Data: []byte("zipped lasting script")},
}

// get asks a handler of the page's files for a path.
func get(t *testing.T, files fstest.MapFS, s settings, path string, headers map[string]string) events.APIGatewayV2HTTPResponse {
	t.Helper()
	h, err := newHandler(files, s)
	if err != nil {
		t.Fatal(err)
	}
	response, err := h(t.Context(), eventOf(http.MethodGet, path, headers))
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// eventOf is API Gateway's event for a path.
func eventOf(method, path string, headers map[string]string) events.APIGatewayV2HTTPRequest {
	e := events.APIGatewayV2HTTPRequest{RouteKey: method + " " + path, RawPath: path, Headers: headers}
	file, ok := strings.CutPrefix(path, "/page-files/")
	if ok {
		e.RouteKey, e.PathParameters = method+" /page-files/{file}", map[string]string{"file": file}
	}
	return e
}

func TestWhoDoesNotReadGzipGetsNone(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br;q=1.0, gzip;q=0.8, *;q=0.1": true, "GZIP": true, "*": true, "gzip ; q=0.001": true,
		"": false, "br": false, "gzip;q=0": false, "gzip; q=0.000": false, "*;q=0": false, "gzip;q=0, *": false, "br, gzip;q=0": false,
		"x-gzipped": false, "gzip;q=": false, "gzip;q=many": false, "identity;q=1, *;q=0": false,
	} {
		got := get(t, built, settings{}, "/page-files/app.js", map[string]string{"accept-encoding": header})
		if got.IsBase64Encoded != want || (got.Headers["content-encoding"] == "gzip") != want || got.StatusCode != http.StatusOK {
			t.Errorf("%q: %+v", header, got)
		}
	}
}

func TestHeadIsAnsweredLikeGetWithoutTheBody(t *testing.T) {
	t.Parallel()
	h, err := newHandler(built, settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/config", "/page-files/app.js", "/page-files/no-such-file"} {
		headers := map[string]string{"accept-encoding": "gzip"}
		got, err := h(t.Context(), eventOf(http.MethodHead, path, headers))
		want := get(t, built, settings{}, path, headers)
		if err != nil || got.StatusCode != want.StatusCode || got.Body != "" || got.IsBase64Encoded || !maps.Equal(got.Headers, want.Headers) {
			t.Errorf("%s: %v: %+v, want %+v", path, err, got, want)
		}
	}
}

func TestThePageIsServedBehindAStageAndAMappedPath(t *testing.T) {
	t.Parallel()
	h, err := newHandler(built, settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"/prod", "/team/credentials"} {
		for _, path := range []string{"/", "/config", "/page-files/app.js"} {
			e := eventOf(http.MethodGet, path, nil)
			e.RawPath, e.RequestContext.Stage = prefix+path, "prod"
			got, err := h(t.Context(), e)
			want := get(t, built, settings{}, path, nil)
			if err != nil || got.StatusCode != http.StatusOK || got.Body != want.Body {
				t.Errorf("%s%s: %v: %+v", prefix, path, err, got)
			}
		}
		e := eventOf(http.MethodGet, "/", nil)
		e.RawPath, e.RawQueryString = prefix, "code=1"
		got, err := h(t.Context(), e)
		if err != nil || got.StatusCode != http.StatusTemporaryRedirect || got.Headers["location"] != path.Base(prefix)+"/?code=1" {
			t.Errorf("%s: %v: %+v", prefix, err, got)
		}
	}
}

func TestFilesAreServedAndNothingElse(t *testing.T) {
	t.Parallel()
	const none = `{"managed_login_url":"","managed_login_issuer":"","client_id":"","sign_in_as":"","brand_name":"","brand_logo_url":"","brand_accent":"","support_url":""}`
	for path, want := range map[string]struct {
		status            int
		contentType, body string
	}{
		"/":                           {200, "text/html; charset=utf-8", `<!doctype html><script id="config" type="application/json">` + none + `</script>`},
		"/page-files/app-EGUMEK7J.js": {200, "text/javascript; charset=utf-8", "go()"},
		"/page-files/app.js":          {200, "text/javascript; charset=utf-8", "run()"},
		"/page-files/index.html":      {404, "application/json", `{"message":"Not Found"}`},
		"/page-files/app.js.gz":       {404, "application/json", `{"message":"Not Found"}`},
		"/page-files/.gitignore":      {404, "application/json", `{"message":"Not Found"}`},
		"/page-files/../main.go":      {404, "application/json", `{"message":"Not Found"}`},
		"/page-files/no-such-file":    {404, "application/json", `{"message":"Not Found"}`},
	} {
		got := get(t, built, settings{}, path, nil)
		if got.StatusCode != want.status || got.Headers["content-type"] != want.contentType || got.Body != want.body {
			t.Errorf("%s: %d %s %q, want %+v", path, got.StatusCode, got.Headers["content-type"], got.Body, want)
		}
	}
}

func TestClientThatReadsGzipGetsIt(t *testing.T) {
	t.Parallel()
	got := get(t, built, settings{}, "/page-files/app.js", map[string]string{"accept-encoding": "gzip, deflate, br"})
	body, err := base64.StdEncoding.DecodeString(got.Body)
	if err != nil || !got.IsBase64Encoded || string(body) != "zipped script" || got.Headers["content-encoding"] != "gzip" {
		t.Fatalf("%v: %+v", err, got)
	}
}

func TestClientThatHasTheFileIsToldSo(t *testing.T) {
	t.Parallel()
	etag := get(t, built, settings{}, "/page-files/app.js", nil).Headers["etag"]
	got := get(t, built, settings{}, "/page-files/app.js", map[string]string{"if-none-match": etag})
	if etag == "" || got.StatusCode != http.StatusNotModified || got.Body != "" || got.Headers["content-security-policy"] == "" {
		t.Fatalf("with %s: %+v", etag, got)
	}
}

func TestConfigurationSaysHowToSignIn(t *testing.T) {
	t.Parallel()
	want := settings{ManagedLoginURL: "https://x.auth.us-east-1.amazoncognito.com", ClientID: "c1"}
	got := get(t, built, want, "/config", nil)
	var s settings
	err := json.Unmarshal([]byte(got.Body), &s)
	if err != nil || got.StatusCode != http.StatusOK || s != want {
		t.Fatalf("%v: %+v", err, got)
	}
}

func TestThePageHasItsSettingsAndNoneCanLeaveTheirPlace(t *testing.T) {
	t.Parallel()
	const prefix, suffix = `<!doctype html><script id="config" type="application/json">`, `</script>`
	want := settings{ClientID: `</script><script>alert(1)//`}
	for encoding, read := range map[string]func(string) string{
		"": func(body string) string { return body },
		"gzip": func(body string) string {
			zipped, err := base64.StdEncoding.DecodeString(body)
			if err != nil {
				t.Fatal(err)
			}
			r, err := gzip.NewReader(bytes.NewReader(zipped))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		},
	} {
		page := read(get(t, built, want, "/", map[string]string{"accept-encoding": encoding}).Body)
		text, ok := strings.CutPrefix(page, prefix)
		text, closed := strings.CutSuffix(text, suffix)
		var s settings
		err := json.Unmarshal([]byte(text), &s)
		if !ok || !closed || err != nil || s != want || strings.Contains(text, "<") {
			t.Errorf("%q: %v: %s", encoding, err, page)
		}
	}
}

func TestWhatIsNamedByItsContentIsKeptForEver(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/": "no-cache", "/config": "no-cache", "/page-files/app.js": "no-cache", "/page-files/no-such-file": "no-cache",
		"/page-files/app-EGUMEK7J.js": "public, max-age=31536000, immutable",
	} {
		got := get(t, built, settings{}, path, nil).Headers["cache-control"]
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestPolicyAllowsTheLoginAndNoOtherOrigin(t *testing.T) {
	t.Parallel()
	const login = "https://x.auth.us-east-1.amazoncognito.com"
	with := get(t, built, settings{ManagedLoginURL: login}, "/", nil).Headers["content-security-policy"]
	without := get(t, built, settings{}, "/", nil).Headers["content-security-policy"]
	if !strings.Contains(with, "connect-src 'self' "+login+";") || !strings.Contains(without, "connect-src 'self';") {
		t.Errorf("%s\n%s", with, without)
	}
	for _, policy := range []string{with, without} {
		if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self';") {
			t.Error(policy)
		}
	}
	for _, malformed := range []string{"x.example", "https://x.example/", "https://x.example; script-src *", "https://a b", "https://*", "/x"} {
		_, err := newHandler(built, settings{ManagedLoginURL: malformed})
		if err == nil {
			t.Errorf("%q is taken for an origin", malformed)
		}
	}
}

func TestPolicyAllowsTheLogoAndNoOtherPicture(t *testing.T) {
	t.Parallel()
	for logo, want := range map[string]string{"": "img-src 'self';", "https://acme.example/logo.svg": "img-src 'self' https://acme.example/logo.svg;"} {
		policy := get(t, built, settings{BrandLogoURL: logo}, "/", nil).Headers["content-security-policy"]
		if !strings.Contains(policy, want) {
			t.Errorf("%q: %s", logo, policy)
		}
	}
}

// A parameter that the template takes and the function refuses would be a page that never loads.
func TestTheTemplateTakesNoLoginOriginThatThePageRefuses(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Parameters struct {
			ManagedLoginURL struct {
				AllowedPattern string `yaml:"AllowedPattern"`
			} `yaml:"ManagedLoginUrl"`
		} `yaml:"Parameters"`
	}
	err = yaml.Unmarshal(text, &document)
	pattern := document.Parameters.ManagedLoginURL.AllowedPattern
	if err != nil || pattern == "" {
		t.Fatalf("the pattern is %q, %v", pattern, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		origin := rapid.StringMatching(pattern).Draw(t, "origin")
		_, err := newHandler(built, settings{ManagedLoginURL: origin})
		if err != nil {
			t.Errorf("%q: %v", origin, err)
		}
	})
}

func TestFunctionWithoutABuiltPageSaysSo(t *testing.T) {
	t.Parallel()
	got := get(t, fstest.MapFS{"page/.gitignore": {}}, settings{}, "/", nil)
	if got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.Body, "make build") {
		t.Fatalf("%+v", got)
	}
}
