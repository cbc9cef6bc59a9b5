package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/local/template"
)

// simulated are the packages that the simulation runs.
var simulated = []string{"shared/managed/", "shared/store/", "shared/provider/agentmail/"}

// simulate has the simulation look for each mutation of those packages for so long, and prints with
// which seed and when it found it. That it misses one is no error: docs/proof.md says which it
// misses, and why.
func simulate(ctx context.Context, only string, within time.Duration) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := template.Root(".")
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l := &laboratory{root: root, scratch: scratch}
	fmt.Println("| rule taken out | found by the seed | after | as |\n|---|---|---|---|")
	var mu sync.Mutex
	var failures []error
	found, tried := 0, 0
	var all errgroup.Group
	all.SetLimit(runtime.NumCPU())
	for i, m := range mutations {
		in := func(folder string) bool {
			return strings.HasPrefix(m.file, folder) && !strings.Contains(m.file, "/fake/")
		}
		if !pattern.MatchString(m.rule) || !slices.ContainsFunc(simulated, in) {
			continue
		}
		all.Go(func() error {
			what, err := l.simulated(ctx, m, fmt.Sprint(i), within)
			mu.Lock()
			defer mu.Unlock()
			tried++
			switch {
			case err != nil:
				failures = append(failures, fmt.Errorf("%s: %w", m.rule, err))
			case what == "":
				fmt.Printf("| %s | – | | |\n", m.rule)
			default:
				found++
				fmt.Printf("| %s | %s |\n", m.rule, what)
			}
			return nil
		})
	}
	_ = all.Wait() // the failures are collected
	fmt.Printf("\n%d of %d mutations found within %v each\n", found, tried, within)
	return errors.Join(failures...)
}

var violation = regexp.MustCompile(`seed (\d+), after ([\d.]+) s: (I\d|liveness|.{1,40})`)

// simulated returns what the simulation found; "" for nothing.
func (l *laboratory) simulated(ctx context.Context, m mutation, name string, within time.Duration) (string, error) {
	overlay, err := l.overlay(m, name)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(l.scratch, name+".test")
	err = l.build(ctx, "shared/proof/sim", binary, "-overlay", overlay)
	if err != nil {
		return "", err
	}
	defer os.Remove(binary)
	ctx, cancel := context.WithTimeout(ctx, within+2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=Promise", "-worker", "-within="+within.String(), "-schedules=100000000")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", nil
	}
	match := violation.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%w:\n%s", err, out[:min(len(out), 2000)])
	}
	return fmt.Sprintf("%s | %s s | %s", match[1], match[2], match[3]), nil
}
