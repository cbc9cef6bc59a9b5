package providertest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SDK runs lifecycle.test.js of the working directory with Node.js, with these variables added to
// its environment, and fails the test with its output unless it succeeds. What it imports is pinned
// in the lockfile beside it, and fetched when it is first needed.
func SDK(t *testing.T, env ...string) {
	t.Helper()
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
		Run(t, nil, "npm", "ci", "--no-audit", "--no-fund")
	}
	Run(t, env, "node", "--test", "lifecycle.test.js")
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

// Run runs a program to its end, with these variables added to its environment, and fails the test
// with its output unless it succeeds.
func Run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append(os.Environ(), env...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, output)
	}
}
