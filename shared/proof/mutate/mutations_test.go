package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

func TestEachGuardStandsInTheCodeOnce(t *testing.T) {
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutations {
		code, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(code), m.old); n != 1 {
			t.Errorf("%s: %s has the guard %d times: bring the mutation up to date", m.rule, m.file, n)
		}
	}
}

func TestTheProofNamesEachMutation(t *testing.T) {
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	proof, err := os.ReadFile(filepath.Join(root, "docs", "proof.md"))
	if err != nil {
		t.Fatal(err)
	}
	written := filepath.Join(t.TempDir(), "proof.md")
	err = os.WriteFile(written, proof, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = document(written, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(written)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, proof) {
		t.Error("the table in docs/proof.md has other rows, or another order, than the mutations: go run ./shared/proof/mutate -only '…' -update writes it")
	}
}

func TestTheProofNamesTestsThatThereAre(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		code, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(code, -1) {
			there[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	proof, err := os.ReadFile(filepath.Join(root, "docs", "proof.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(proof, -1) {
		if !there[string(match[1])] {
			t.Errorf("docs/proof.md names %s, which there is not", match[1])
		}
	}
}

func TestATableGetsTheRowsOfWhatWasTried(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "proof.md")
	rows := func(noticed func(i int) string, upTo int) string {
		var all strings.Builder
		for i, m := range mutations[:upTo] {
			fmt.Fprintf(&all, "| %s | `%s` |\n", m.rule, noticed(i))
		}
		return all.String()
	}
	const last = "TestOfTheLast"
	old := func(int) string { return "TestOld" }
	err := os.WriteFile(file, []byte("before\n"+rows(old, len(mutations)-1)+"after\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = document(file, nil)
	if err == nil {
		t.Error("a mutation that was never tried got a row")
	}
	err = document(file, map[string]string{mutations[0].rule: "`TestNew`", mutations[len(mutations)-1].rule: "`" + last + "`"})
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + rows(func(i int) string {
		switch i {
		case 0:
			return "TestNew"
		case len(mutations) - 1:
			return last
		}
		return "TestOld"
	}, len(mutations)) + "after\n"
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%v, the file is\n%s", err, got)
	}
}

func TestWhatDoesNotCompileHasNotSurvived(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module guarded\n\ngo 1.26\n",
		"g.go":      "package guarded\n\nfunc guarded() bool { return true }\n",
		"g_test.go": "package guarded\n\nimport \"testing\"\n\nfunc TestGuarded(t *testing.T) {\n\tif !guarded() {\n\t\tt.Fail()\n\t}\n}\n",
	} {
		err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	l := &laboratory{root: root, scratch: t.TempDir()}
	for _, c := range []struct {
		new, caught    string
		survived, fine bool
	}{
		{new: "return false", caught: "`TestGuarded`", fine: true},
		{new: "return 1 > 0", survived: true},
		{new: "return nothing"},
	} {
		m := mutation{rule: "guarded", file: "g.go", old: "return true", new: c.new, test: "."}
		caught, err := l.try(t.Context(), m, 0, subject{passed: []string{"TestGuarded"}})
		if caught != c.caught || errors.Is(err, errSurvived) != c.survived || (err == nil) != c.fine {
			t.Errorf("%q is caught by %q, and the error is %v", c.new, caught, err)
		}
	}
}
