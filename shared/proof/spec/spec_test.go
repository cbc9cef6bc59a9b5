// Package spec_test has TLC check the specification of the protocol in docs/spec: as it is, and
// with each of its rules taken out.
//
//	make spec
package spec_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	tlc      = flag.String("tlc", "", "check the specification with this jar of TLC")
	attempts = flag.Int("attempts", 3, "how many claims a behaviour has at most, for the protocol as it is")
)

// violated is the property that breaks without each rule, within claims claims.
var violated = map[string]struct {
	property string
	claims   int
}{
	"claim on the condition of no tombstone": {"DeletedStaysDeleted", 3},
	"wait for the lease":                     {"NothingLeft", 3},
	"two halves":                             {"NothingLeft", 3},
	"an unknown outcome is sticky":           {"NothingLeft", 3},
	"a mark keeps the lease":                 {"NothingLeft", 3},
	"look for what is not named":             {"NothingLeft", 3},
	"two looks":                              {"NothingLeft", 3},
	"a find begins the looks anew":           {"NothingLeft", 4},
	"fence":                                  {"ExactlyOne", 3},
	"what is stored is not discarded":        {"ExactlyOne", 3},
	"keep what is named":                     {"StoredKeyStays", 3},

	"a look before the create accounts for nothing": {"ExactlyOne", 3},
	"what could not be discarded is not settled":    {"ExactlyOne", 3},
}

func TestEachRuleOfTheSpecificationHasItsProperty(t *testing.T) {
	t.Parallel()
	module, readme := read(t, "Slot.tla"), read(t, "README.md")
	var rules []string
	for _, match := range regexp.MustCompile(`Holds\("([^"]+)"\)`).FindAllStringSubmatch(module, -1) {
		rules = append(rules, match[1])
	}
	slices.Sort(rules)
	rules = slices.Compact(rules)
	if want := slices.Sorted(maps.Keys(violated)); !slices.Equal(rules, want) {
		t.Errorf("the specification has the rules %q, and this test %q", rules, want)
	}
	for rule, v := range violated {
		if !strings.Contains(readme, "| "+rule+" | "+v.property+" (") {
			t.Errorf("docs/spec/README.md does not say that without %q %s is violated", rule, v.property)
		}
	}
}

func TestTheSpecificationHolds(t *testing.T) {
	t.Parallel()
	for _, bound := range []struct{ claims, sends int }{{*attempts, 1}, {2, 2}} {
		t.Run(fmt.Sprintf("%d claims, %d sends", bound.claims, bound.sends), func(t *testing.T) {
			t.Parallel()
			out := check(t, bound.claims, bound.sends, "")
			if !strings.Contains(out, "Model checking completed. No error has been found.") {
				t.Fatalf("TLC says:\n%s", out)
			}
			states := regexp.MustCompile(`\d+ distinct states found`).FindString(out[strings.LastIndex(out, "states generated"):])
			fmt.Printf("specification, %d claims, %d creates of a pod on their way: %s\n", bound.claims, bound.sends, states)
		})
	}
}

func TestTheSpecificationBreaksWithoutEachRule(t *testing.T) {
	t.Parallel()
	for rule, v := range violated {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			out := check(t, v.claims, 1, rule)
			if !regexp.MustCompile(`(Invariant|Action property) ` + v.property + ` is violated`).MatchString(out) {
				t.Errorf("%s holds without it. TLC says:\n%s", v.property, out)
			}
		})
	}
}

// check runs TLC on the specification without a rule and returns what it wrote.
func check(t *testing.T, attempts, sends int, without string) string {
	t.Helper()
	if *tlc == "" {
		t.Skip("only with -tlc, the jar of TLC: make spec")
	}
	dir := t.TempDir()
	config := strings.NewReplacer("MaxAttempt = 3", fmt.Sprintf("MaxAttempt = %d", attempts), "MaxSends = 1", fmt.Sprintf("MaxSends = %d", sends), `Without = ""`, fmt.Sprintf("Without = %q", without)).
		Replace(read(t, "Slot.cfg"))
	for name, text := range map[string]string{"Slot.cfg": config, "Slot.tla": read(t, "Slot.tla")} {
		err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	cmd := exec.CommandContext(ctx, "java", "-XX:+UseParallelGC", "-Djava.io.tmpdir="+dir, "-cp", *tlc, "tlc2.TLC", "-workers", "1", "Slot.tla")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("TLC does not start: %v", err)
	}
	return string(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "spec", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
