// Package browsertest drives the integrations page as its users do: the built page, from the
// running service, in Chromium.
//
// It leaves a picture of each state, at two widths and in both themes, in screenshots/.
package browsertest

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
)

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, nil)) }

func TestThePageInABrowser(t *testing.T) {
	chromium := cmp.Or(os.Getenv("CHROMIUM"), "/usr/bin/chromium")
	_, err := os.Stat(chromium)
	if err != nil {
		t.Fatalf("%s is missing: run `make chromium`, or say in CHROMIUM where it is", chromium)
	}
	install(t)
	local, _ := stacktest.Start(t, stack.Config{})
	managed, _ := stacktest.Start(t, stack.Config{ManagedLogin: true})
	const prefix = "/team/keys"
	mapped, _ := stacktest.Start(t, stack.Config{Prefix: prefix})

	command := exec.CommandContext(t.Context(), "npm", "test", "--silent")
	command.Env = append(os.Environ(),
		"CHROMIUM="+chromium, "LOCAL_URL="+local.URL, "LOCAL_AGENTMAIL_URL="+local.AgentMailURL, "MANAGED_URL="+managed.URL, "LOGIN_URL="+managed.LoginURL,
		"MAPPED_URL="+mapped.URL+prefix)
	// npm starts a shell, and that node: the last one to end holds the output.
	command.WaitDelay = time.Minute
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
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
