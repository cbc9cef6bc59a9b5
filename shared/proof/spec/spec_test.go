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
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	tlc      = flag.String("tlc", "", "check the specification with this jar of TLC")
	attempts = flag.Int("attempts", 3, "how many claims a behaviour has at most, for the protocol as it is")
)

// bound is what TLC is to visit: every behaviour of so many claims, each with so many creates of a
// pod on their way, that begins with nothing, or where from says.
type bound struct {
	claims, sends     int
	from              string
	rotates, suspends bool
}

// nothing, ready and overlap are bounds of behaviours that begin there: rotations are in those that
// begin late, because each takes a number of its own. suspended are bounds with suspensions alone.
func nothing(claims, sends int) bound {
	return bound{claims: claims, sends: sends, from: "nothing"}
}

func ready(claims int) bound { return bound{claims: claims, sends: 1, from: "ready", rotates: true} }

func overlap(claims int) bound {
	return bound{claims: claims, sends: 1, from: "overlap", rotates: true}
}

func suspended(claims int, from string) bound {
	return bound{claims: claims, sends: 1, from: from, suspends: true}
}

func (b bound) String() string {
	text := fmt.Sprintf("from %s, %d claims, %d creates of a pod on their way", b.from, b.claims, b.sends)
	if b.rotates {
		text += ", with rotations"
	}
	if b.suspends {
		text += ", with suspensions"
	}
	return text
}

// violated is the property that breaks without each rule, within a bound.
var violated = map[string]struct {
	property string
	within   bound
}{
	"claim on the condition of no tombstone": {"DeletedStaysDeleted", nothing(3, 1)},
	"wait for the lease":                     {"NothingLeft", nothing(3, 1)},
	"two halves":                             {"NothingLeft", nothing(3, 1)},
	"an unknown outcome is sticky":           {"NothingLeft", nothing(3, 1)},
	"a mark keeps the lease":                 {"NothingLeft", nothing(3, 1)},
	"look for what is not named":             {"NothingLeft", nothing(3, 1)},
	"two looks":                              {"NothingLeft", nothing(3, 1)},
	"a find begins the looks anew":           {"NothingLeft", bound{claims: 4, sends: 1, from: "ready"}},
	"fence":                                  {"ExactlyOne", nothing(3, 1)},
	"what is stored is not discarded":        {"ExactlyOne", nothing(3, 1)},
	"keep what is named":                     {"StoredKeyStays", nothing(3, 1)},

	"a look before the create accounts for nothing": {"ExactlyOne", nothing(3, 1)},
	"what could not be discarded is not settled":    {"ExactlyOne", nothing(3, 1)},

	"keep what is retiring":                    {"RetiringKeyStays", overlap(3)},
	"what is retiring is not discarded":        {"RetiringKeyStays", ready(3)},
	"a rotation gives up what retires already": {"ExactlyOne", overlap(4)},
	"name what was replaced":                   {"ExactlyOne", ready(3)},
	"what is kept is not forgotten":            {"ExactlyOne", overlap(3)},
	"a wish takes a number":                    {"NothingForgotten", ready(2)},
	"due when it has retired":                  {"NothingForgotten", ready(3)},
	"a rotation that fails leaves the key":     {"StoredKeyServes", ready(3)},
	"a rotation that fails is still wanted":    {"WantedKeyComes", ready(3)},

	"a suspension is no deletion":  {"OnlyTheDeletedAreRevoked", suspended(2, "ready")},
	"a tombstone is not replaced":  {"TombstoneStays", suspended(2, "ready")},
	"a tombstone is not removed":   {"TombstoneStays", suspended(2, "ready")},
	"put off only while suspended": {"NothingLeftWaiting", suspended(2, "ready")},
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
	both := overlap(3)
	both.suspends = true
	for _, within := range []bound{
		nothing(*attempts, 1), nothing(2, 2),
		ready(3), overlap(4), suspended(2, "nothing"), both,
	} {
		t.Run(within.String(), func(t *testing.T) {
			t.Parallel()
			out := check(t, within, "", "")
			if !strings.Contains(out, "Model checking completed. No error has been found.") {
				t.Fatalf("TLC says:\n%s", out)
			}
			states := regexp.MustCompile(`\d+ distinct states found`).FindString(out[strings.LastIndex(out, "states generated"):])
			fmt.Printf("specification, %s: %s\n", within, states)
		})
	}
}

func TestTheSpecificationBreaksWithoutEachRule(t *testing.T) {
	t.Parallel()
	for rule, v := range violated {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			out := check(t, v.within, rule, v.property)
			if !regexp.MustCompile(`(Invariant|Action property) ` + v.property + ` is violated`).MatchString(out) {
				t.Errorf("%s holds without it. TLC says:\n%s", v.property, out)
			}
		})
	}
}

// check runs TLC on the specification without a rule, has it check one property, or all where that
// is "", and returns what it wrote.
func check(t *testing.T, within bound, without, property string) string {
	t.Helper()
	if *tlc == "" {
		t.Skip("only with -tlc, the jar of TLC: make spec")
	}
	dir := t.TempDir()
	config := read(t, "Slot.cfg")
	for constant, value := range map[string]any{
		"MaxAttempt = 3":   within.claims,
		"MaxSends = 1":     within.sends,
		`From = "nothing"`: strconv.Quote(within.from),
		"Rotates = FALSE":  strings.ToUpper(strconv.FormatBool(within.rotates)),
		"Suspends = FALSE": strings.ToUpper(strconv.FormatBool(within.suspends)),
		`Without = ""`:     strconv.Quote(without),
	} {
		name, _, _ := strings.Cut(constant, " ")
		if !strings.Contains(config, constant) {
			t.Fatalf("Slot.cfg does not say %q", constant)
		}
		config = strings.Replace(config, constant, fmt.Sprintf("%s = %v", name, value), 1)
	}
	if property != "" {
		kind := "PROPERTIES "
		if regexp.MustCompile(`(?m)^INVARIANTS .*\b` + property + `\b`).MatchString(config) {
			kind = "INVARIANTS "
		}
		config = regexp.MustCompile(`(?m)^(INVARIANTS|PROPERTIES) .*\n`).ReplaceAllString(config, "") + kind + property + "\n"
	}
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
