package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

var row = regexp.MustCompile("(?m)^\\| ([^|]+) \\| `Test\\w+` \\|$")

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
	doc, err := os.ReadFile(filepath.Join(root, "docs", "proof.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, match := range row.FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, match[1])
	}
	var tried []string
	for _, m := range mutations {
		tried = append(tried, m.rule)
	}
	for i := range max(len(documented), len(tried)) {
		row, rule := at(documented, i), at(tried, i)
		if row != rule {
			t.Fatalf("row %d of the table in docs/proof.md is %q, but mutation %d is %q", i+1, row, i+1, rule)
		}
	}
}

// at is the i-th of all; "" after the last.
func at(all []string, i int) string {
	if i < len(all) {
		return all[i]
	}
	return ""
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
		caught, err := l.try(t.Context(), m, "0", []string{"TestGuarded"})
		if caught != c.caught || errors.Is(err, errSurvived) != c.survived || (err == nil) != c.fine {
			t.Errorf("%q is caught by %q, and the error is %v", c.new, caught, err)
		}
	}
}
