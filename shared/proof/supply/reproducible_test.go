// Package supply checks what the functions are made of, and that they can be made again: the
// licences of what is linked into them, and that two builds give the same bytes.
package supply

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

var reproduce = flag.Bool("reproduce", false, "build the functions twice; takes minutes")

// One build is made in a checkout of git's, with what the go command has compiled before; the other
// one where nothing is known of git, in a directory with a longer name, with nothing compiled
// before. Each makes the page anew, too.
func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	if !*reproduce {
		t.Skip("takes minutes: see `make reproduce`")
	}
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	checkout, plain := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "somewhere", "else", "entirely")
	for _, dir := range []string{checkout, plain} {
		copyTree(t, root, dir)
	}
	_, err = exec.LookPath("git")
	if err == nil { // without it the go command knows nothing of git either
		run(t, checkout, nil, "git", "init", "--quiet")
		run(t, checkout, nil, "git", "add", "--all")
		run(t, checkout, nil, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message=test")
	}
	first := build(t, checkout, nil)
	second := build(t, plain, []string{"GOCACHE=" + t.TempDir()})
	for name, sum := range first {
		if second[name] != sum {
			t.Errorf("two builds of %s differ", name)
		}
	}
	if len(first) == 0 || len(first) != len(second) {
		t.Errorf("one build made %d functions, the other %d", len(first), len(second))
	}
}

// build makes every function as `make build` does, and returns a checksum of each.
func build(t *testing.T, dir string, env []string) map[string][sha256.Size]byte {
	t.Helper()
	run(t, dir, env, "make", "build")
	binaries, err := filepath.Glob(filepath.Join(dir, "dist", "*", "bootstrap"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string][sha256.Size]byte{}
	for _, binary := range binaries {
		code, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		sums[filepath.Base(filepath.Dir(binary))] = sha256.Sum256(code)
	}
	return sums
}

// made are directories of what is not committed, by their names.
var made = []string{".git", ".venv", ".aws-sam", "dist", "node_modules"}

// copyTree copies what is or could be committed.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(made, entry.Name()):
			return fs.SkipDir
		case entry.Name() == ".git": // a file, in a worktree that is not git's main one
			return nil
		case filepath.Base(filepath.Dir(path)) == "page" && entry.Name() != ".gitignore":
			return nil
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), code, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a program with the go command's own defaults, and returns its output.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(cmd.Environ(), []string{"GOFLAGS=-buildvcs=auto", "MAKEFLAGS="}, env)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w\n%s%s", name, err, out, &said))
	}
	return string(out)
}
