// Package sdktest holds AgentMail's official TypeScript SDK against the fake. The SDK is the
// nearest thing to AgentMail that can be run without an account: what it accepts, maps and throws
// is what a client of the real service sees.
package sdktest

import (
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"managed-credentials/shared/provider/agentmail/fake"
)

func TestTheOfficialSDKWorksAgainstTheFake(t *testing.T) {
	t.Parallel()
	// go test remembers a result until a file that the test itself looked at has changed.
	_, err := os.Stat("lifecycle.test.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"node", "npm"} {
		_, err := exec.LookPath(program)
		if err != nil {
			t.Fatalf("%s is missing: install Node.js 20 or newer (https://nodejs.org), which brings node and npm", program)
		}
	}
	if !installed(t) {
		run(t, nil, "npm", "ci", "--no-audit", "--no-fund")
	}

	f := fake.New(fake.Config{Switches: fake.Switches{EmptyPages: true, PageSize: 2, InboxDeletion: 200 * time.Millisecond}})
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		f.Close()
		server.Close()
	})
	run(t, []string{"AGENTMAIL_BASE_URL=" + server.URL, "AGENTMAIL_API_KEY=" + fake.OrgKey}, "node", "--test", "lifecycle.test.js")

	if left := f.Pods(); len(left) != 0 {
		t.Errorf("the SDK's run left %d pods behind", len(left))
	}
}

// installed tells whether node_modules is there and not older than the lockfile, by the copy of it
// that npm keeps inside.
func installed(t *testing.T) bool {
	wanted, err := os.Stat("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	present, err := os.Stat(filepath.Join("node_modules", ".package-lock.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	return !present.ModTime().Before(wanted.ModTime())
}

// run runs a program to its end, and fails the test with its output unless it succeeds.
func run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append(os.Environ(), env...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, output)
	}
}
