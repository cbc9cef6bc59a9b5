package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
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
var simulated = []string{"shared/managed/", "shared/store/", "shared/provider/", "shared/orgkey/"}

// simulation is its package.
const simulation = "shared/proof/sim"

// search says what the simulation is to look for.
type search struct {
	only string
	// schedules is how many it runs for each mutation at most.
	schedules int
	// reports are files in which gremlins, a mutation tool of others, says what it would change;
	// none for our own mutations. Every n-th of what they name is tried.
	reports []string
	every   int
}

// simulate has the simulation look for each mutation of its packages, and prints with which seed it
// found it, and in how many seconds of a processor: the first seed is 1, so that the seed is how
// many schedules it took. That it misses one is no error: docs/proof.md says which it misses, and
// why.
func simulate(ctx context.Context, s search) error {
	pattern, err := regexp.Compile(s.only)
	if err != nil {
		return err
	}
	root, err := template.Root(".")
	if err != nil {
		return err
	}
	candidates := mutations
	if len(s.reports) > 0 {
		candidates, err = gremlins(root, s.reports, s.every)
		if err != nil {
			return err
		}
	}
	scratch, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l := &laboratory{root: root, scratch: scratch}
	chosen := map[int]mutation{}
	for i, m := range candidates {
		in := func(folder string) bool {
			return strings.HasPrefix(m.file, folder) && !strings.Contains(m.file, "/fake/")
		}
		if pattern.MatchString(m.rule) && slices.ContainsFunc(simulated, in) {
			chosen[i] = m
		}
	}
	of := subject{binary: filepath.Join(scratch, "sim.test")}
	if len(s.reports) == 0 { // of the others' some do not compile
		code, err := l.compose("sim", chosen)
		if err != nil {
			return err
		}
		of.has = code.has
		err = l.build(ctx, simulation, of.binary, "-overlay", code.overlay)
		if err != nil {
			return err
		}
	}
	fmt.Println("| rule taken out | seed | seconds | as |\n|---|---|---|---|")
	var mu sync.Mutex
	var failures []error
	found, tried, broken := 0, 0, 0
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range slices.Sorted(maps.Keys(chosen)) {
		m := chosen[i]
		all.Go(func() error {
			what, err := l.simulated(ctx, m, i, of, s.schedules)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errDoesNotCompile) && len(s.reports) > 0: // of "+" between texts it makes "-"
				broken++
			case err != nil:
				failures = append(failures, fmt.Errorf("%s: %w", m.rule, err))
			case what == "":
				tried++
				fmt.Printf("| %s | – | | |\n", m.rule)
			default:
				tried, found = tried+1, found+1
				fmt.Printf("| %s | %s |\n", m.rule, what)
			}
			return nil
		})
	}
	_ = all.Wait() // the failures are collected
	fmt.Printf("\n%d of %d mutations found within %d schedules each; %d more do not compile\n", found, tried, s.schedules, broken)
	return errors.Join(failures...)
}

var violation = regexp.MustCompile(`seed (\d+), after [\d.]+ s: (I\d|liveness|.{1,40})`)

// longestRun bounds the schedules of one mutation, and longestOne is how long a schedule may take
// in which a mutation keeps the engine going round.
const longestRun = 20 * time.Minute

// simulated returns what the simulation found; "" for nothing.
func (l *laboratory) simulated(ctx context.Context, m mutation, number int, of subject, schedules int) (string, error) {
	binary, remove, err := l.binary(ctx, m, simulation, number, of)
	if err != nil {
		return "", err
	}
	defer remove()
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^TestNoScheduleBreaksAPromise$", "-worker", "-story=false", fmt.Sprintf("-schedules=%d", schedules))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", fmt.Sprintf("%s=%d", variable, number))
	out, err := cmd.CombinedOutput()
	took := 0.0 // in seconds of a processor, however many others wanted it
	if cmd.ProcessState != nil {
		took = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	match := violation.FindSubmatch(out)
	switch {
	case err == nil:
		return "", nil
	case match != nil:
		return fmt.Sprintf("%s | %.1f | %s", match[1], took, match[2]), nil
	case ctx.Err() != nil:
		return fmt.Sprintf("? | %.1f | a schedule that does not end", took), nil
	case strings.Contains(string(out), "panic: "):
		return fmt.Sprintf("? | %.1f | a panic", took), nil
	}
	return "", fmt.Errorf("%w:\n%s", err, out[:min(len(out), 2000)])
}

// tokens are the changes that gremlins makes, by its names for them.
var tokens = map[string]map[string]string{
	"ARITHMETIC_BASE":         {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*"},
	"CONDITIONALS_BOUNDARY":   {">=": ">", ">": ">=", "<=": "<", "<": "<="},
	"CONDITIONALS_NEGATION":   {"==": "!=", "!=": "==", ">=": "<", "<": ">=", "<=": ">", ">": "<="},
	"INCREMENT_DECREMENT":     {"++": "--", "--": "++"},
	"INVERT_ASSIGNMENTS":      {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="},
	"INVERT_LOGICAL":          {"&&": "||", "||": "&&"},
	"INVERT_LOOPCTRL":         {"break": "continue", "continue": "break"},
	"INVERT_NEGATIVES":        {"-": "+"},
	"REMOVE_SELF_ASSIGNMENTS": {"+=": "=", "-=": "=", "*=": "=", "/=": "="},
}

// gremlins reads what `gremlins unleash --dry-run -o <package>.json ./shared/<package>` writes:
// every n-th of its mutants, as mutations of whole files.
func gremlins(root string, reports []string, every int) ([]mutation, error) {
	var all []mutation
	n := 0
	for _, name := range reports {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var report struct {
			Files []struct {
				Name      string `json:"file_name"`
				Mutations []struct {
					Type         string
					Line, Column int
				}
			}
		}
		err = json.Unmarshal(text, &report)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		folder := path.Join("shared", strings.TrimSuffix(filepath.Base(name), ".json"))
		for _, file := range report.Files {
			if strings.Contains(file.Name, "/") { // of the package alone, not of what tests use
				continue
			}
			file.Name = path.Join(folder, file.Name)
			code, err := os.ReadFile(filepath.Join(root, file.Name))
			if err != nil {
				return nil, err
			}
			for _, mutant := range file.Mutations {
				n++
				if n%every != 0 {
					continue
				}
				changed, from, to, ok := mutated(string(code), mutant.Line, mutant.Column, tokens[mutant.Type])
				if !ok {
					return nil, fmt.Errorf("%s:%d:%d is nothing that %s changes: is the report older than the code?", file.Name, mutant.Line, mutant.Column, mutant.Type)
				}
				rule := fmt.Sprintf("`%s` for `%s` in %s:%d:%d", to, from, file.Name, mutant.Line, mutant.Column)
				all = append(all, mutation{rule: rule, file: file.Name, old: string(code), new: changed})
			}
		}
	}
	return all, nil
}

// mutated is the code with the token at a place replaced.
func mutated(code string, line, column int, tokens map[string]string) (changed, from, to string, ok bool) {
	at := 0
	for range line - 1 {
		end := strings.IndexByte(code[at:], '\n')
		if end < 0 {
			return "", "", "", false
		}
		at += end + 1
	}
	at += column - 1
	if at > len(code) {
		return "", "", "", false
	}
	for old := range tokens {
		if strings.HasPrefix(code[at:], old) && len(old) > len(from) {
			from = old
		}
	}
	if from == "" {
		return "", "", "", false
	}
	return code[:at] + tokens[from] + code[at+len(from):], from, tokens[from], true
}
