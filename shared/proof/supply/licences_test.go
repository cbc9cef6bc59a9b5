package supply

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"

	"managed-credentials/shared/local/template"
)

var update = flag.Bool("update", false, "write the list of licences anew")

// listed is where the licences of all that is shipped are listed.
const listed = "docs/licences.md"

// allowed are the licences, by their SPDX names, of what may be shipped: they ask at most for their
// text and a notice to be passed on.
var allowed = []string{"Apache-2.0", "BSD-3-Clause", "MIT", "MIT-0"}

// part is something of somebody else's that is shipped.
type part struct {
	name, version string
	// texts are its licences' files: one for the whole, and those of what it has taken over itself.
	texts map[string]bool
}

func TestWhatIsShippedHasALicenceThatAllowsIt(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	list.WriteString("# Licences\n\nWhat is linked into the functions, and into the page that one of them serves, and under which licences. " +
		"Whoever passes the binaries on\npasses these texts on, too. `make licences` writes this list.\n")
	for _, group := range []struct {
		title string
		parts []part
	}{{"The functions", goParts(t, root)}, {"The page", pageParts(t, root)}} {
		fmt.Fprintf(&list, "\n## %s\n\n| what | version | licence |\n|---|---|---|\n", group.title)
		for _, p := range group.parts {
			fmt.Fprintf(&list, "| %s | %s | %s |\n", p.name, p.version, strings.Join(p.licences(t), ", "))
		}
	}
	file := filepath.Join(root, listed)
	if *update {
		err := os.WriteFile(file, []byte(list.String()), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if string(was) != list.String() {
		t.Errorf("%s is out of date: run `make licences`. It has to be\n%s", listed, list.String())
	}
}

// licences recognises the licences by their texts.
func (p part) licences(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(p.texts)) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		scan := licensecheck.Scan(text)
		if scan.Percent < 75 || len(scan.Match) == 0 {
			t.Errorf("%s: %s is no licence that is known (%.0f%% of its text is)", p.name, filepath.Base(file), scan.Percent)
		}
		for _, match := range scan.Match {
			found[match.ID] = true
			if !slices.Contains(allowed, match.ID) {
				t.Errorf("%s is under %s, which is not allowed: %s", p.name, match.ID, file)
			}
		}
	}
	if len(found) == 0 {
		t.Errorf("%s has no licence", p.name)
	}
	return slices.Sorted(maps.Keys(found))
}

// goParts are the modules of which a package is linked into a function, and Go itself.
func goParts(t *testing.T, root string) []part {
	t.Helper()
	const format = `{{if and .Module (not .Module.Main)}}{{.Module.Path}} {{.Module.Version}} {{.Module.Dir}} {{.Dir}}{{end}}`
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags=lambda.norpc", "-f", format, "./functions/...")
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing what is linked: %v", err)
	}
	modules := map[string]part{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			continue
		}
		module, ok := modules[fields[0]]
		if !ok {
			module = part{name: fields[0], version: fields[1], texts: map[string]bool{}}
			modules[fields[0]] = module
		}
		for dir := fields[3]; ; dir = filepath.Dir(dir) { // a package may have a licence of its own
			module.addTexts(t, dir)
			if dir == fields[2] {
				break
			}
		}
	}
	language := part{name: "Go", version: majorVersion.FindString(runtime.Version()), texts: map[string]bool{}}
	language.addTexts(t, goroot(t))
	parts := []part{language}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		parts = append(parts, modules[path])
	}
	return parts
}

var majorVersion = regexp.MustCompile(`\d+\.\d+`)

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}

// pageParts are the packages that the page is made with and not only by.
func pageParts(t *testing.T, root string) []part {
	t.Helper()
	web := filepath.Join(root, "functions", "integrations-page", "web")
	raw, err := os.ReadFile(filepath.Join(web, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct {
			Version string `json:"version"`
			Dev     bool   `json:"dev"`
		} `json:"packages"`
	}
	err = json.Unmarshal(raw, &lock)
	if err != nil {
		t.Fatal(err)
	}
	var parts []part
	for _, path := range slices.Sorted(maps.Keys(lock.Packages)) {
		entry := lock.Packages[path]
		if path == "" || entry.Dev {
			continue
		}
		p := part{name: strings.TrimPrefix(path, "node_modules/"), version: entry.Version, texts: map[string]bool{}}
		dir := filepath.Join(web, path)
		_, err := os.Stat(dir)
		if err != nil {
			t.Fatalf("%s is not installed: run `make build` first", p.name)
		}
		p.addTexts(t, dir)
		parts = append(parts, p)
	}
	return parts
}

var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying)`)

// addTexts adds the licences' files in a directory. A summary only says which of the others is for
// what.
func (p part) addTexts(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() && licenceName.MatchString(entry.Name()) && entry.Name() != "LICENSE-SUMMARY" {
			p.texts[filepath.Join(dir, entry.Name())] = true
		}
	}
}
