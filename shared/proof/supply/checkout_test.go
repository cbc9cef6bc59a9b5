package supply

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

// On Windows git gives text files carriage returns, unless the repository says otherwise: make and
// the shell stumble over them.
func TestACheckoutIsTheSameWhateverGitDoesToLineEnds(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("git")
	if err != nil {
		t.Skip("there is no git")
	}
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	origin, clone := filepath.Join(t.TempDir(), "origin"), filepath.Join(t.TempDir(), "clone")
	copyTree(t, root, origin)
	git := []string{"-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "core.autocrlf=false", "-C", origin}
	run(t, origin, nil, "git", "init", "--quiet")
	run(t, origin, nil, "git", append(git, "add", "--all")...)
	run(t, origin, nil, "git", append(git, "commit", "--quiet", "--message=test")...)
	run(t, origin, nil, "git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "clone", "--quiet", "--config", "core.autocrlf=true",
		"--config", "core.eol=crlf", origin, clone)
	files := 0
	err = filepath.WalkDir(clone, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		name, err := filepath.Rel(clone, path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		files++
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not as it is here", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 200 {
		t.Errorf("the clone has only %d files", files)
	}
	// What is built from it is told by make itself.
	told := run(t, clone, []string{"ARTIFACTS_DIR=out"}, "make", "--no-print-directory", "--dry-run", "build-Operate")
	if !strings.HasSuffix(strings.TrimSpace(told), "./functions/operate") {
		t.Errorf("make would do\n%s", told)
	}
}

// A function that was built for another processor is deployed without a word, and cannot start.
func TestAnotherProcessorThanTheTemplatesIsRefusedBeforeItIsBuilt(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const processor = "Default: &Processor x86_64\n    AllowedValues: [*Processor]"
	if strings.Count(string(text), processor) != 1 || strings.Count(string(text), "Architectures:") != 1 {
		t.Fatalf("template.yaml takes other processors than the one that the Makefile builds for")
	}
	for _, c := range []struct{ template, goarch, want string }{
		{"x86_64", "", "GOARCH=amd64"},
		{"x86_64", "amd64", "GOARCH=amd64"},
		{"arm64", "", "GOARCH=arm64"},
		{"arm64", "arm64", "GOARCH=arm64"},
		{"x86_64", "arm64", "GOARCH is arm64, and"},
		{"arm64", "amd64", "GOARCH is amd64, and"},
		{"riscv64", "", "names no processor"},
	} {
		file := filepath.Join(t.TempDir(), "template.yaml")
		err := os.WriteFile(file, bytes.Replace(text, []byte("&Processor x86_64"), []byte("&Processor "+c.template), 1), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		// A compiler that only says what it would build.
		cmd := exec.Command("make", "--no-print-directory", "TEMPLATE="+file, "COMPILE=env | grep ^GOARCH; exit; ", "build-Operate")
		cmd.Dir = root
		cmd.Env = append(cmd.Environ(), "ARTIFACTS_DIR="+t.TempDir(), "MAKEFLAGS=", "GOARCH="+c.goarch)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), c.want) || (err != nil) == strings.HasPrefix(c.want, "GOARCH=") {
			t.Errorf("with GOARCH=%q and the template's %s, make says %s, %v; want %s", c.goarch, c.template, out, err, c.want)
		}
	}
}
