// Program fuzz runs every fuzz target of the module, each for some time, as many at once as there
// are processors. Targets are found in the code, so that a new one cannot be forgotten.
//
//	go run ./shared/proof/fuzz -time 30s
//
// It ends non-zero if a target fails. What made it fail then stands in testdata/fuzz beside it, for
// `go test` to meet again once it has been committed.
package main

import (
	"context"
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
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/template"
)

func main() {
	each := flag.Duration("time", 30*time.Second, "how long each target is fuzzed")
	flag.Parse()
	err := run(context.Background(), *each)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, each time.Duration) error {
	root, err := template.Root(".")
	if err != nil {
		return err
	}
	targets, err := find(ctx, root)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	database, err := dynamodb.Start(ctx, dynamodb.Config{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer database.Stop()
	err = os.Setenv(dynamodb.Variable, database.URL())
	if err != nil {
		return err
	}

	started := time.Now()
	for i := range targets { // one after another: they have almost everything in common
		targets[i].binary = filepath.Join(scratch, fmt.Sprint(i))
		out, err := command(ctx, root, "go", "test", "-c", "-fuzz=^"+targets[i].name+"$", "-o", targets[i].binary, targets[i].pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("compiling %s: %w\n%s", targets[i].pkg, err, out)
		}
	}
	fmt.Printf("compiled %d targets in %s\n\n| target | executions |\n|---|---|\n", len(targets), time.Since(started).Round(time.Second))

	var all errgroup.Group
	all.SetLimit(runtime.NumCPU())
	failures := make([]error, len(targets))
	for i, target := range targets {
		all.Go(func() error {
			var executions string
			executions, failures[i] = target.run(ctx, each)
			fmt.Printf("| %s %s | %s |\n", target.pkg, target.name, executions)
			return nil
		})
	}
	_ = all.Wait() // each failure has its place, in the targets' order
	failed := len(failures) - len(slices.DeleteFunc(slices.Clone(failures), func(err error) bool { return err != nil }))
	fmt.Printf("\n%d targets, %d failed\n", len(targets), failed)
	return errors.Join(failures...)
}

// target is one fuzz function.
type target struct {
	pkg, dir, name string
	binary         string // its package's test, compiled for fuzzing
}

var declared = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// find returns all targets of the module, in the order of their packages.
func find(ctx context.Context, root string) ([]target, error) {
	const files = `{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}} {{$p.Dir}} {{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$p.ImportPath}} {{$p.Dir}} {{.}}{{"\n"}}{{end}}`
	list, err := command(ctx, root, "go", "list", "-f", files, "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	var all []target
	for line := range strings.Lines(string(list)) {
		parts := strings.Fields(line)
		if len(parts) != 3 {
			continue
		}
		code, err := os.ReadFile(filepath.Join(parts[1], parts[2]))
		if err != nil {
			return nil, err
		}
		for _, match := range declared.FindAllSubmatch(code, -1) {
			all = append(all, target{pkg: parts[0], dir: parts[1], name: string(match[1])})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no fuzz target was found")
	}
	return all, nil
}

var executed = regexp.MustCompile(`execs: (\d+)`)

// outOfTime is how Go before 1.27 may report that the time is over, and nothing was found:
// https://go.dev/issue/75804. A finding has more to say.
var outOfTime = regexp.MustCompile(`\n--- FAIL: \S+ \(\S+\)\n {4}context deadline exceeded\nFAIL\n$`)

// run fuzzes the target for the given time with one worker, and returns how often it was executed.
// The inputs that reached something new are kept in the go command's cache, as it does itself. They
// are hardly made smaller: where a server is involved no two runs reach quite the same code, and
// the go command would spend its whole time on that.
func (t target) run(ctx context.Context, each time.Duration) (executions string, err error) {
	cache, err := command(ctx, t.dir, "go", "env", "GOCACHE").Output()
	if err != nil {
		return "", err
	}
	kept := filepath.Join(strings.TrimSpace(string(cache)), "fuzz", filepath.FromSlash(t.pkg))
	out, err := command(ctx, t.dir, t.binary, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+each.String(),
		"-test.parallel=1", "-test.fuzzminimizetime=10x", "-test.fuzzcachedir="+kept).CombinedOutput()
	if err != nil && !outOfTime.Match(out) {
		return "**failed**", fmt.Errorf("%s %s: %w\n%s", t.pkg, t.name, err, out)
	}
	counts := executed.FindAllSubmatch(out, -1)
	if len(counts) == 0 {
		return "**none**", fmt.Errorf("%s %s was never executed:\n%s", t.pkg, t.name, out)
	}
	return string(counts[len(counts)-1][1]), nil
}

func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}
