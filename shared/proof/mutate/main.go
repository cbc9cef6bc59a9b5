// Program mutate tests the tests: it takes one guard at a time out of the code and checks that a test fails. The working tree is not
// touched; the compiler is given the changed file in place of the real one.
//
//	go run ./shared/proof/mutate            all of them
//	go run ./shared/proof/mutate -only sticky   those whose name has that word
//
// It ends non-zero if a mutation survives, does not compile, or no longer finds its place in the code.
package main

import (
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
	only := flag.String("only", "", "run only the mutations whose rule contains this")
	flag.Parse()
	err := run(context.Background(), *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
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

	chosen := slices.DeleteFunc(slices.Clone(mutations), func(m mutation) bool { return !strings.Contains(m.rule, only) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutation has %q in its rule", only)
	}
	fmt.Println("| rule taken out | caught by |\n|---|---|")
	var mu sync.Mutex
	var failures []error
	var all errgroup.Group
	all.SetLimit(runtime.NumCPU())
	for i, m := range chosen {
		all.Go(func() error {
			caught, err := m.try(ctx, root, filepath.Join(scratch, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", m.rule, err))
				caught = "**nothing**"
			}
			fmt.Printf("| %s | %s |\n", m.rule, caught)
			return nil
		})
	}
	_ = all.Wait() // the failures are collected
	fmt.Printf("\n%d mutations, %d not caught\n", len(chosen), len(failures))
	return errors.Join(failures...)
}

var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// try runs the tests with the guard taken out, and returns the name of the first that fails. scratch is a directory to make.
func (m mutation) try(ctx context.Context, root, scratch string) (string, error) {
	file := filepath.Join(root, m.file)
	code, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(code), m.old); n != 1 {
		return "", fmt.Errorf("%s has the guard %d times, not once: bring the mutation up to date", m.file, n)
	}
	err = os.Mkdir(scratch, 0o700)
	if err != nil {
		return "", err
	}
	mutant := filepath.Join(scratch, "mutant.go")
	overlay := filepath.Join(scratch, "overlay.json")
	replacement, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutant}})
	if err != nil {
		return "", err
	}
	err = errors.Join(
		os.WriteFile(mutant, []byte(strings.Replace(string(code), m.old, m.new, 1)), 0o600),
		os.WriteFile(overlay, replacement, 0o600),
	)
	if err != nil {
		return "", err
	}
	args := []string{"test", "-count=1", "-failfast", "-timeout=5m", "-overlay", overlay}
	if m.run != "" {
		args = append(args, "-run", m.run)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+m.test)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", errors.New("survived: no test failed")
	}
	found := failed.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("no test ran to its failure:\n%s", out)
	}
	return "`" + string(found[1]) + "`", nil
}
