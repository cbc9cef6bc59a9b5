package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

var row = regexp.MustCompile("(?m)^\\| (.+) \\| `Test\\w+` \\|$")

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
	if !slices.Equal(documented, tried) {
		t.Errorf("docs/proof.md has the mutations\n%q\nbut there are\n%q", documented, tried)
	}
}
