package provider_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/provider/fakes"
)

// above are the packages beside the providers that are none.
var above = []string{"fakes", "flat", "rest"}

// folders are the providers' folders, by the providers' names.
func folders(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range entries {
		if !entry.IsDir() || slices.Contains(above, entry.Name()) {
			continue
		}
		source := read(t, filepath.Join(entry.Name(), entry.Name()+".go"))
		name := regexp.MustCompile(`(?m)^const Name = "([a-z0-9_]{1,64})"$`).FindStringSubmatch(source)
		if name == nil {
			t.Fatalf("%s does not say its provider's name", entry.Name())
		}
		found[name[1]] = entry.Name()
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What a provider needs is in its folder: itself and its fake, what holds the fake to the third
// party's own client, and what its settings mean.
func TestAProvidersFolderHasEverything(t *testing.T) {
	t.Parallel()
	found := folders(t)
	for _, name := range provider.Names() {
		folder, ok := found[name]
		if !ok {
			t.Errorf("%s has no folder", name)
			continue
		}
		for _, file := range []string{"sdktest/lifecycle_test.go", "sdktest/package-lock.json"} {
			read(t, filepath.Join(folder, file))
		}
		if name == "agent_mail" { // its settings are variables, and its fake has a port
			continue
		}
		make := fakes.New[name]
		if make == nil {
			t.Errorf("%s has no fake in the list", name)
			continue
		}
		f := make(nil)
		settings := regexp.MustCompile(`json:"(\w+)`).FindAllStringSubmatch(between(read(t, filepath.Join(folder, folder+".go")), "type Settings struct", "\n}"), -1)
		told := read(t, filepath.Join(folder, "README.md"))
		for _, s := range settings {
			if !strings.Contains(told, "| `"+s[1]+"` |") {
				t.Errorf("%s does not tell what %s is", folder, s[1])
			}
		}
		if f.Title == "" || f.OrgKey == "" || f.Secrets == nil || len(settings) == 0 || !strings.Contains(told, "# "+f.Title+"\n") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if len(found) != len(provider.Names()) || len(fakes.New)+1 != len(found) {
		t.Errorf("there are folders of %v, and providers %v", found, provider.Names())
	}
}

func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

// A new provider is a folder, and a line in each of two lists: nothing else of the service, and of
// what builds and runs it, names a provider.
func TestNothingElseKnowsAProvider(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"shared/provider/provider.go", "shared/provider/fakes/fakes.go"}
	for name, folder := range folders(t) {
		if name == "agent_mail" { // which was there before the others
			continue
		}
		own := "shared/provider/" + folder
		// With a text after it it may be a system credential's provider.
		named := regexp.MustCompile(`"` + name + `"(?:[^:]|:[^"])`)
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			switch {
			case entry.IsDir() && (relative == own || skipped(entry.Name())):
				return filepath.SkipDir
			case entry.IsDir() || slices.Contains(allowed, relative) || !builds(relative):
				return nil
			}
			text := read(t, path)
			if strings.Contains(text, own) || named.MatchString(text) {
				t.Errorf("%s names %s", relative, folder)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func skipped(folder string) bool {
	return slices.Contains([]string{"node_modules", "dist", "page", "testdata", "docs"}, folder) || strings.HasPrefix(folder, ".") && folder != "."
}

// builds reports whether a file is part of the service, or of what builds, runs and deploys it.
// Tests take one provider or the other as an example.
func builds(file string) bool {
	name := filepath.Base(file)
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(file, "shared/proof/mutate/") ||
		slices.Contains([]string{".ts", ".tsx"}, filepath.Ext(name)) || slices.Contains([]string{"Makefile", "tools.mk", "template.yaml", ".env.default"}, name)
}
