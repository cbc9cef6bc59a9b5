package sam

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// command is a command of SAM's as the documents write it, with what follows it.
	command = regexp.MustCompile(`\bsam (build|deploy|validate|local [a-z-]+)([^` + "`" + `&\n]*)`)
	flagOf  = regexp.MustCompile(` (--?[a-z][a-z0-9-]*)`)
	// section is a section of samconfig.toml, named after a command; setting is one line of it,
	// named after a flag.
	section = regexp.MustCompile(`(?m)^\[default\.(\w+)\.parameters\]$`)
	setting = regexp.MustCompile(`(?m)^(\w+) = `)
)

// checkDocuments checks that SAM has every command and flag that README.md and samconfig.toml name.
// What it does not know in the latter it passes over without a word.
func (s *sam) checkDocuments(ctx context.Context, t *testing.T) {
	flags := map[string][]string{}
	for _, file := range []string{"README.md", "samconfig.toml"} {
		for _, match := range command.FindAllStringSubmatch(s.read(t, file), -1) {
			flags[match[1]] = append(flags[match[1]], "--help")
			for _, flag := range flagOf.FindAllStringSubmatch(match[2], -1) {
				flags[match[1]] = append(flags[match[1]], flag[1])
			}
		}
	}
	settings := s.read(t, "samconfig.toml")
	sections := section.FindAllStringSubmatchIndex(settings, -1)
	for i, at := range sections {
		end := len(settings)
		if i+1 < len(sections) {
			end = sections[i+1][0]
		}
		name := strings.ReplaceAll(strings.Replace(settings[at[2]:at[3]], "local_", "local ", 1), "_", "-")
		if name == "global" {
			name = "deploy" // the one command that needs what is said for all
		}
		for _, match := range setting.FindAllStringSubmatch(settings[at[1]:end], -1) {
			flags[name] = append(flags[name], "--"+strings.ReplaceAll(match[1], "_", "-"))
		}
	}
	if len(flags) < 5 {
		t.Errorf("only these commands were found: %v", flags)
	}
	for name, named := range flags {
		help, err := s.command(ctx, append(strings.Fields(name), "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("sam %s: %v\n%s", name, err, help)
			continue
		}
		for _, flag := range named {
			if !regexp.MustCompile(`(?m)[ ,]` + flag + `\b`).Match(help) {
				t.Errorf("sam %s has no flag %s", name, flag)
			}
		}
	}
}

func (s *sam) read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
