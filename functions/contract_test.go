package functions_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
)

// beyondOneMachine are the documented answers that nobody can get here, by what they look like,
// with the reason.
var beyondOneMachine = map[*regexp.Regexp]string{
	regexp.MustCompile(` 429$`): "API Gateway throttles; the local gateway does not",
	regexp.MustCompile(`^GET /(config|page-files/\{file\})? (500|503)$`): "the page's function calls nothing that could fail or keep it waiting",
}

// wholeRun is whether all tests ran.
func wholeRun() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return true
}

// seenAll is the exit code of a run in which each documented answer has to have been got by some
// test.
func seenAll() int {
	code := 0
	used := map[*regexp.Regexp]bool{}
	for _, answer := range api.Unseen() {
		excused := false
		for pattern := range beyondOneMachine {
			if pattern.MatchString(answer) {
				excused, used[pattern] = true, true
			}
		}
		if !excused {
			code = 1
			fmt.Fprintf(os.Stderr, "FAIL: docs/openapi.yaml has %s, and no test got that answer\n", answer)
		}
	}
	for pattern, reason := range beyondOneMachine {
		if !used[pattern] {
			code = 1
			fmt.Fprintf(os.Stderr, "FAIL: every answer like %q was got, although %s\n", pattern, reason)
		}
	}
	return code
}

// routes are those that want a token, with the function behind each.
var routes = []struct{ method, path, body, function string }{
	{"GET", "/credentials", "", "list-with-provision"},
	{"GET", "/github/credentials", "", "list-with-provision"},
	{"GET", "/github/credentials/" + someID, "", "list-with-provision"},
	{"POST", "/github/credentials", `{"type":"api_key","api_key":"x"}`, "create-credential"},
	{"PUT", "/github/credentials/" + someID, `{"title":"x"}`, "update-guard"},
	{"DELETE", "/github/credentials/" + someID, "", "delete-guard"},
	{"PUT", "/agent_mail/managed", "", "list-with-provision"},
	{"DELETE", "/agent_mail/managed", "", "list-with-provision"},
	{"POST", "/agent_mail/managed/replace", "", "list-with-provision"},
	{"DELETE", "/account", "", "user-cleanup"},
}

// someID is nobody's.
const someID = "0e0a1f3c-5c86-4f0e-8f5e-7f3d3c1d2b4a"

func TestABodyThatIsTooLargeIs413Everywhere(t *testing.T) {
	t.Parallel()
	s := start(t, removable)
	token := s.token(alice)
	for _, r := range routes {
		s.call(r.method, r.path, token, strings.Repeat(" ", 64<<10+1)).
			want(t, http.StatusRequestEntityTooLarge, `{"detail":"The body exceeds 64 KB."}`)
		s.call(r.method, r.path, token, strings.Repeat(" ", 10<<20+1)).
			want(t, http.StatusRequestEntityTooLarge, `{"message":"Request Entity Too Large"}`)
	}
}

func TestAFunctionThatDiesIs500(t *testing.T) {
	t.Parallel()
	s := start(t, removable)
	token := s.token(alice)
	for _, r := range routes {
		s.Faults.DynamoDB.SetHook(func(*fault.Call) fault.Fault {
			s.Host.Kill(r.function)
			return fault.Drop()
		})
		s.call(r.method, r.path, token, r.body).want(t, http.StatusInternalServerError, `{"message":"Internal Server Error"}`)
	}
}

func TestThePageLoadsWithAllThatItNamesAndIsAskedForOnce(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	get := func(path, etag string) answer {
		req, err := http.NewRequest("GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", etag)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{res.StatusCode, res.Header, string(body)}
	}
	files := pageFiles(get("/", "").body)
	if len(files) < 3 {
		t.Fatalf("the page names %v", files)
	}
	for _, path := range append([]string{"/", "/config", "/page-files/picker.js"}, files...) {
		s.call("HEAD", path, "", "").want(t, http.StatusOK, "")
		first := get(path, "")
		first.want(t, http.StatusOK, "")
		if kept := strings.Contains(first.header.Get("Cache-Control"), "immutable"); kept != slices.Contains(files, path) {
			t.Errorf("%s: Cache-Control is %s", path, first.header.Get("Cache-Control"))
		}
		get(path, first.header.Get("ETag")).want(t, http.StatusNotModified, "")
	}
	get("/page-files/no-such-file", "").want(t, http.StatusNotFound, `{"message":"Not Found"}`)
	if s.call("GET", "/config", s.token(alice), "").status != http.StatusOK {
		t.Error("a token is in the page's way")
	}
}

// pageFiles are the paths of the files that the page names.
func pageFiles(page string) []string {
	var paths []string
	for _, name := range regexp.MustCompile(`"page-files/[^"]+`).FindAllString(page, -1) {
		paths = append(paths, "/"+strings.Trim(name, `"`))
	}
	return paths
}

func TestTheServiceWorksBehindAStageOrAMappedPath(t *testing.T) {
	t.Parallel()
	running, log := stacktest.Start(t, stack.Config{Prefix: "/api/integrations"}) // as AutoGPT has it
	s := &service{Stack: running, t: t, log: log}
	token := s.token(alice)
	page := s.call("GET", "/api/integrations", "", "") // the client goes where it is sent
	page.want(t, http.StatusOK, "")
	files := pageFiles(page.body)
	if len(files) < 3 {
		t.Errorf("the page is %s", page.body)
	}
	for _, path := range append([]string{"/", "/config", "/page-files/picker.js"}, files...) {
		s.call("GET", "/api/integrations"+path, "", "").want(t, http.StatusOK, "")
		s.call("HEAD", "/api/integrations"+path, "", "").want(t, http.StatusOK, "")
	}
	created := s.call("POST", "/api/integrations/github/credentials", token, `{"type":"api_key","api_key":"x"}`)
	created.want(t, http.StatusCreated, "")
	list := s.call("GET", "/api/integrations/credentials", token, "")
	list.want(t, http.StatusOK, "")
	if !strings.Contains(list.body, `"provider":"github"`) {
		t.Errorf("the list is %s", list.body)
	}
	for _, path := range []string{"/", "/credentials", "/api/integrationsx/config"} {
		s.call("GET", path, token, "").want(t, http.StatusNotFound, "")
	}
}

func TestPagesOfAllowedOriginsMayCallTheAPIAndOthersMayNot(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example.com"
	s := startWith(t, stack.Config{Origins: []string{origin}})
	token := s.token(alice)
	from := func(origin, method, path string, header http.Header) *http.Response {
		req, err := http.NewRequest(method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		req.Header.Set("Origin", origin)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for _, r := range routes {
		res := from(origin, "OPTIONS", r.path, http.Header{"Access-Control-Request-Method": {r.method}})
		if !strings.Contains(res.Header.Get("Access-Control-Allow-Methods"), r.method) {
			t.Errorf("%s %s: the preflight's answer is %d %v", r.method, r.path, res.StatusCode, res.Header)
		}
	}
	for _, path := range []string{"/credentials", "/page-files/picker.js"} { // the second as a module of another site's page is asked for
		for asking, want := range map[string]string{origin: origin, "https://evil.example": ""} {
			res := from(asking, "GET", path, http.Header{"Authorization": {"Bearer " + token}})
			if got := res.Header.Get("Access-Control-Allow-Origin"); res.StatusCode != http.StatusOK || got != want {
				t.Errorf("%s from %s: %d, and %q may read it", path, asking, res.StatusCode, got)
			}
		}
	}
}

func TestOnlyABodysContentCountsNotItsContentType(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	for _, contentType := range []string{"", "application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"} {
		req, err := http.NewRequest("POST", s.URL+"/github/credentials", strings.NewReader(`{"type":"api_key","title":"é","api_key":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", contentType)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusCreated || *decode[credential.Metadata](t, string(body)).Title != "é" {
			t.Errorf("as %q: %v %d %s", contentType, err, res.StatusCode, body)
		}
	}
}
