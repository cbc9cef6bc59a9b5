// Program mutate tests the tests: it takes one guard at a time out of the code and checks that a
// test fails. The working tree is not touched; the compiler is given changed files in place of the
// real ones.
//
//	go run ./shared/proof/mutate            all of them
//	go run ./shared/proof/mutate -only sticky   those whose rule has that in it, a regular expression
//	go run ./shared/proof/mutate -only sticky -update   and writes into docs/proof.md what noticed them
//	go run ./shared/proof/mutate -sim 20000     has the simulation look for each that it runs
//	go run ./shared/proof/mutate -sim 20000 -gremlins store.json,managed.json -every 10
//	                                            the same for every tenth of what gremlins would change
//
// First the same tests run on the code as it is, and have to pass. A mutation is caught if one of
// them then fails, and fails again when it is run by itself. The program ends non-zero if a
// mutation survives, does not compile, or no longer finds its place in the code.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/template"
)

// mutation is one guard taken out.
type mutation struct {
	// rule is what the code then no longer keeps to, in a few words.
	rule string
	// file is relative to the repository; old stands in it exactly once and becomes new.
	file, old, new string
	// test is the package whose tests have to notice, and run those of them to run; "" for all.
	test, run string
}

func main() {
	only := flag.String("only", "", "run only the mutations whose rule has this in it, a regular expression")
	update := flag.Bool("update", false, "write into the table in docs/proof.md what noticed each mutation")
	sim := flag.Int("sim", 0, "have the simulation look for each mutation in that many schedules, in place of the tests")
	reports := flag.String("gremlins", "", "with -sim: in place of our own mutations those of these reports, with commas between them")
	every := flag.Int("every", 1, "with -gremlins: every how manieth of them")
	flag.Parse()
	work := func(ctx context.Context, only string) error { return run(ctx, only, *update) }
	if *sim > 0 {
		s := search{only: *only, schedules: *sim, every: *every}
		if *reports != "" {
			s.reports = strings.Split(*reports, ",")
		}
		work = func(ctx context.Context, _ string) error { return simulate(ctx, s) }
	}
	err := work(context.Background(), *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, update bool) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(mutations), func(m mutation) bool { return !pattern.MatchString(m.rule) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutation has %q in its rule", only)
	}
	root, err := template.Root(".")
	if err != nil {
		return err
	}
	database, err := dynamodb.Start(ctx, dynamodb.Config{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer database.Stop()
	err = os.Setenv(dynamodb.Variable, database.URL())
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l := &laboratory{root: root, scratch: scratch}
	subjects, err := l.baseline(ctx, chosen)
	if err != nil {
		return err
	}

	fmt.Println("| rule taken out | caught by |\n|---|---|")
	var mu sync.Mutex
	var failures []error
	noticed := map[string]string{} // by rule
	survived := 0
	var all errgroup.Group
	all.SetLimit(runtime.NumCPU())
	for i, m := range chosen {
		all.Go(func() error {
			caught, err := l.try(ctx, m, i, subjects[m.test])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", m.rule, err))
				caught = "**not tried**"
			}
			if errors.Is(err, errSurvived) {
				survived++
				caught = "**nothing**"
			}
			fmt.Printf("| %s | %s |\n", m.rule, caught)
			if err == nil {
				noticed[m.rule] = caught
			}
			return nil
		})
	}
	_ = all.Wait() // the failures are collected
	fmt.Printf("\n%d mutations, %d not caught, %d not tried\n", len(chosen), survived, len(failures)-survived)
	if update {
		failures = append(failures, document(filepath.Join(root, "docs", "proof.md"), noticed))
	}
	return errors.Join(failures...)
}

// row is a row of the table in docs/proof.md: a rule, and what noticed that it was taken out.
var row = regexp.MustCompile("(?m)^\\| ([^|\n]+) \\| (`Test\\w+`) \\|\n")

// document writes the table anew, a row for each mutation in their order. What was not tried keeps
// what it says already; it is an error if that is nothing.
func document(file string, noticed map[string]string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	rows := row.FindAllSubmatchIndex(text, -1)
	if len(rows) == 0 {
		return fmt.Errorf("%s has no table of mutations", file)
	}
	before := map[string]string{}
	for _, r := range rows {
		before[string(text[r[2]:r[3]])] = string(text[r[4]:r[5]])
	}
	var table strings.Builder
	for _, m := range mutations {
		test := cmp.Or(noticed[m.rule], before[m.rule])
		if test == "" {
			return fmt.Errorf("nothing is known to notice %q: try it, too", m.rule)
		}
		fmt.Fprintf(&table, "| %s | %s |\n", m.rule, test)
	}
	first, last := rows[0][0], rows[len(rows)-1][1]
	return os.WriteFile(file, slices.Concat(text[:first], []byte(table.String()), text[last:]), 0o644)
}

// laboratory is where mutations are tried.
type laboratory struct {
	root    string // of the repository
	scratch string // a directory for what is built
}

// subject is a package whose tests are to notice mutations.
type subject struct {
	binary string       // of its tests, with many mutations in it
	has    map[int]bool // which those are
	passed []string     // the tests that pass while none of them is chosen
}

// baseline builds each package that is to notice mutations, with all of them in it that can be, and
// runs with none chosen every test that one is to be noticed by. It is an error if a test fails, or
// if a mutation has none.
func (l *laboratory) baseline(ctx context.Context, mutations []mutation) (map[string]subject, error) {
	patterns, of := map[string][]string{}, map[string]map[int]mutation{}
	for i, m := range mutations {
		patterns[m.test] = append(patterns[m.test], m.run)
		if of[m.test] == nil {
			of[m.test] = map[int]mutation{}
		}
		of[m.test][i] = m
	}
	subjects := map[string]subject{}
	var mu sync.Mutex
	var all errgroup.Group
	all.SetLimit(runtime.NumCPU())
	for test, runs := range patterns {
		all.Go(func() error {
			name := strings.ReplaceAll(test, "/", "-")
			code, err := l.compose(name, of[test])
			if err != nil {
				return err
			}
			s := subject{binary: filepath.Join(l.scratch, name+".test"), has: code.has}
			err = l.build(ctx, test, s.binary, "-overlay", code.overlay)
			if err != nil {
				return fmt.Errorf("%s, with all its mutations in it: %w", test, err)
			}
			for _, run := range together(runs) {
				out, err := l.test(ctx, s.binary, test, run, none)
				if err != nil {
					return fmt.Errorf("%s: the tests fail with no guard taken out: %w\n%s", test, err, out)
				}
				s.passed = append(s.passed, those(passes, out)...)
			}
			mu.Lock()
			defer mu.Unlock()
			subjects[test] = s
			return nil
		})
	}
	err := all.Wait()
	if err != nil {
		return nil, err
	}
	for _, m := range mutations {
		top, _, _ := strings.Cut(m.run, "/")
		pattern, err := regexp.Compile(top)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.rule, err)
		}
		if !slices.ContainsFunc(subjects[m.test].passed, pattern.MatchString) {
			return nil, fmt.Errorf("%s: no test of %s has %q in its name", m.rule, m.test, m.run)
		}
	}
	return subjects, nil
}

// together are as few patterns as are for the same tests. One of subtests stands by itself: an
// alternative may not have a slash in it.
func together(patterns []string) []string {
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	if patterns[0] == "" { // all tests
		return patterns[:1]
	}
	var plain, all []string
	for _, pattern := range patterns {
		if strings.Contains(pattern, "/") {
			all = append(all, pattern)
		} else {
			plain = append(plain, pattern)
		}
	}
	if len(plain) > 0 {
		all = append(all, strings.Join(plain, "|"))
	}
	return all
}

var errDoesNotCompile = errors.New("it does not compile")

// build makes the package's test binary. Most of the time goes into this, so that the compiler
// collects its garbage seldom, and leaves out what a debugger would need.
func (l *laboratory) build(ctx context.Context, test, binary string, more ...string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-c", "-ldflags=-s -w", "-o", binary}, more, []string{"./" + test})...)
	cmd.Dir, cmd.Env = l.root, append(os.Environ(), "GOGC=400")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %w\n%s", errDoesNotCompile, err, out)
	}
	return nil
}

// none is no mutation's number.
const none = -1

// test runs those tests of a binary, with the mutation of that number, and returns what they print.
func (l *laboratory) test(ctx context.Context, binary, test, run string, number int) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.failfast", "-test.timeout=5m", "-test.run="+run)
	cmd.Dir = filepath.Join(l.root, test)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", variable, number))
	return cmd.CombinedOutput()
}

var (
	passes   = regexp.MustCompile(`(?m)^--- PASS: (Test\S+)`)
	failures = regexp.MustCompile(`(?m)^--- FAIL: (Test\S+)`)
)

// those are the names of the tests that have this outcome.
func those(outcome *regexp.Regexp, out []byte) []string {
	var all []string
	for _, match := range outcome.FindAllSubmatch(out, -1) {
		all = append(all, string(match[1]))
	}
	return all
}

// again is how often a test that failed once is run by itself, to see it fail once more. One that
// noticed needs the schedule that it looks for, and may miss it; one that fails now and then for
// reasons of its own will hardly do so again.
const again = 3

// errSurvived: the tests pass with the guard taken out. Any other error says that the mutation
// could not be tried.
var errSurvived = errors.New("survived: no test failed")

// try runs the tests with the guard taken out, and returns the name of the first that fails and had
// passed before.
func (l *laboratory) try(ctx context.Context, m mutation, number int, of subject) (string, error) {
	binary, remove, err := l.binary(ctx, m, m.test, number, of)
	if err != nil {
		return "", err
	}
	defer remove()
	out, err := l.test(ctx, binary, m.test, m.run, number)
	if err == nil {
		return "", errSurvived
	}
	for _, caught := range those(failures, out) {
		if !slices.Contains(of.passed, caught) {
			continue
		}
		_, subtests, _ := strings.Cut(m.run, "/")
		for range again {
			_, err = l.test(ctx, binary, m.test, "^"+caught+"$/"+subtests, number)
			if err != nil {
				return "`" + caught + "`", nil
			}
		}
		return "", fmt.Errorf("%s failed, and passed %d times when it was run again:\n%s", caught, again, out)
	}
	return "", fmt.Errorf("no test ran to its failure:\n%s", out)
}

// binary is the one of a package's tests that has the mutation in it, the one that many are in or
// one of its own, and what removes it afterwards.
func (l *laboratory) binary(ctx context.Context, m mutation, test string, number int, of subject) (binary string, remove func(), err error) {
	if of.has[number] {
		return of.binary, func() {}, nil
	}
	overlay, err := l.overlay(m, fmt.Sprint(number))
	if err != nil {
		return "", nil, err
	}
	binary = filepath.Join(l.scratch, fmt.Sprintf("%d.test", number))
	return binary, func() { _ = os.Remove(binary) }, l.build(ctx, test, binary, "-overlay", overlay)
}

// apply takes the guard out of the code.
func (m mutation) apply(code string) (string, error) {
	if n := strings.Count(code, m.old); n != 1 {
		return "", fmt.Errorf("%s has the guard of %q %d times, not once: bring the mutation up to date", m.file, m.rule, n)
	}
	return strings.Replace(code, m.old, m.new, 1), nil
}

// overlay writes down the mutated file, and what has the compiler take it in place of the real one.
func (l *laboratory) overlay(m mutation, name string) (string, error) {
	file := filepath.Join(l.root, m.file)
	code, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	changed, err := m.apply(string(code))
	if err != nil {
		return "", err
	}
	mutant := filepath.Join(l.scratch, name+".go")
	overlay := filepath.Join(l.scratch, name+".json")
	replacement, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutant}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(
		os.WriteFile(mutant, []byte(changed), 0o600),
		os.WriteFile(overlay, replacement, 0o600),
	)
}
