package sim_test

import (
	"context"
	"flag"
	"fmt"
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
	tlc  = flag.String("tlc", "", "have this jar of TLC hold histories to the specification")
	held = flag.Int("histories", 1000, "how many")
)

// fewEvents and mostAttempts say which histories are worth it: those in which something happens,
// and little enough for one run of TLC.
const (
	fewEvents    = 8
	mostAttempts = 12
	// perRun is how many histories one run of TLC gets.
	perRun = 250
)

// recorded runs schedules until it has so many histories, and returns them and how many schedules
// that took. It leaves out what the specification does: see docs/spec/README.md.
func recorded(t *testing.T, from uint64, n int) (all []*history, seeds uint64) {
	t.Helper()
	for seed := from; len(all) < n; seed++ {
		w := schedule{seed: seed, recorded: true}.run(t, unheard)
		if len(w.violations) > 0 {
			t.Fatalf("seed %d: %s", seed, w.violations[0])
		}
		seeds++
		if w.histories == nil {
			continue
		}
		for _, user := range users {
			for _, provider := range w.config.providers {
				h := w.histories.of[caller{provider: provider, user: user}]
				if len(h.steps) >= fewEvents && len(h.claimed) <= mostAttempts {
					h.seed = seed
					all = append(all, h)
				}
			}
		}
	}
	return all[:n], seeds
}

// alterations are what no run of the protocol shows: each changes a history so that it is refused,
// or reports that it cannot.
var alterations = []struct {
	what  string
	alter func(steps []step) bool
}{
	{"a claim in which the lease of the one before still runs", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "claim" && s.attempt > 1 && steps[i-1].lease {
				for j := range steps {
					if len(steps[j].phases) >= int(s.attempt)-1 {
						steps[j].phases = slices.Clone(steps[j].phases)
						steps[j].phases[s.attempt-2] = min(1, steps[j].phases[s.attempt-2])
					}
				}
				return true
			}
		}
		return false
	}},
	{"a commit of a key that another attempt made", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "write" && s.state == "ready" && steps[i-1].state == "provisioning" {
				for j := i; j < len(steps); j++ {
					if steps[j].key == s.key {
						steps[j].key++
					}
				}
				return true
			}
		}
		return false
	}},
	{"a commit that settles while the key before it may be there", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "write" && s.state == "ready" && s.lease && s.key != steps[i-1].key && steps[i-1].key != 0 && s.retiring == 0 {
				for j := i; j < len(steps) && steps[j].attempt == s.attempt; j++ {
					steps[j].lease = false
				}
				return true
			}
		}
		return false
	}},
	{"a slot that goes with the first look", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "write" && s.state == "revoking" && s.gone && !steps[i-1].gone {
				for j := i; j < len(steps); j++ {
					steps[j].state, steps[j].owner, steps[j].lease, steps[j].pod, steps[j].key, steps[j].gone = "absent", 0, false, 0, 0, false
				}
				return true
			}
		}
		return false
	}},
	{"a create in the second half of the lease", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "send" && s.phases[s.by-1] == 0 {
				for j := i - 1; j < len(steps); j++ {
					steps[j].phases = slices.Clone(steps[j].phases)
					steps[j].phases[s.by-1] = max(1, steps[j].phases[s.by-1])
				}
				steps[i-1].kind, steps[i-1].by = "time", s.by
				return true
			}
		}
		return false
	}},
	{"a key that goes without anybody", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "write" && s.state == "ready" && len(s.keys) > 0 {
				for j := i; j < len(steps); j++ {
					steps[j].keys = slices.DeleteFunc(slices.Clone(steps[j].keys), func(k int64) bool { return k == s.key })
				}
				return true
			}
		}
		return false
	}},
	{"a rotation whose wish is lost", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "ask" && i+1 < len(steps) {
				for j := i + 1; j < len(steps) && steps[j].key == s.key; j++ {
					steps[j].wish = false
				}
				return true
			}
		}
		return false
	}},
	{"a commit that does not name the key which it replaces", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "write" && s.retiring != 0 && s.retiring != steps[i-1].retiring {
				for j := i; j < len(steps); j++ {
					if steps[j].retiring == s.retiring {
						steps[j].retiring = 0
					}
				}
				return true
			}
		}
		return false
	}},
	{"a key that goes before it has retired", func(steps []step) bool {
		for i, s := range steps {
			if s.kind != "retire" || s.state != "ready" {
				continue
			}
			for _, later := range steps[i+1:] {
				if later.kind == "ask" || later.state != "ready" || later.key != s.key {
					break
				}
				if later.kind == "delete" && !slices.Contains(later.keys, s.retiring) && slices.Contains(later.keys, s.key) {
					steps[i].kind = "look" // no time passes
					return true
				}
			}
		}
		return false
	}},
	{"a claim after the tombstone", func(steps []step) bool {
		for i, s := range steps {
			if s.kind == "claim" && s.state == "provisioning" {
				for j := i - 1; j < len(steps); j++ {
					if steps[j].tomb == "none" {
						steps[j].tomb = "stands"
					}
				}
				return i > 0
			}
		}
		return false
	}},
	{"a slot that is revoked although its user is suspended, and not deleted", func(steps []step) bool {
		for i, s := range steps {
			if s.state == "revoking" && steps[i-1].state != "revoking" && s.tomb == "stands" {
				for j := range steps {
					if steps[j].tomb == "stands" {
						steps[j].tomb = "suspended"
					}
				}
				return true
			}
		}
		return false
	}},
}

// TestTheSpecificationAcceptsTheSimulationsHistories has TLC hold histories to docs/spec, and sees
// it refuse those that were altered.
func TestTheSpecificationAcceptsTheSimulationsHistories(t *testing.T) {
	if *tlc == "" {
		t.Skip("only with -tlc, the jar of TLC: make spec")
	}
	all, seeds := recorded(t, *first, *held)
	events, rotated, suspended := 0, 0, 0
	for _, h := range all {
		events += len(h.steps) - 1
		if slices.ContainsFunc(h.steps, func(s step) bool { return s.retiring != 0 }) {
			rotated++
		}
		if slices.ContainsFunc(h.steps, func(s step) bool { return s.tomb == "suspended" }) {
			suspended++
		}
	}
	var altered []*history
	for _, a := range alterations {
		found := false
		for _, h := range all {
			other := &history{caller: h.caller, steps: slices.Clone(h.steps), claimed: h.claimed, seed: h.seed}
			if a.alter(other.steps) {
				altered, found = append(altered, other), true
				break
			}
		}
		if !found {
			t.Fatalf("no history can be altered to %s", a.what)
		}
	}
	for some := range slices.Chunk(all, perRun) {
		for n, at := range refused(t, some) {
			t.Errorf("the specification refuses what seed %d shows of %s at %s, at event %d:\n%s", some[n].seed, some[n].user, some[n].provider, at, some[n].until(at))
		}
	}
	refusals := refused(t, altered)
	for i, a := range alterations {
		if refusals[i] == 0 {
			t.Errorf("the specification accepts %s:\n%s", a.what, altered[i])
		}
	}
	if t.Failed() {
		return
	}
	fmt.Printf("%d histories of %d schedules, %d events, accepted, %d with a rotation and %d with a suspension; %d altered ones refused\n",
		len(all), seeds, events, rotated, suspended, len(refusals))
}

// until is the history up to an event, one to a line.
func (of *history) until(at int) string {
	var lines []string
	for i, s := range of.steps[1 : at+1] {
		lines = append(lines, fmt.Sprintf("%3d %s", i+1, s))
	}
	return strings.Join(lines, "\n")
}

// refused are the histories that TLC does not accept, and the event at which each is refused.
func refused(t *testing.T, all []*history) map[int]int {
	t.Helper()
	dir := t.TempDir()
	attempts := 1
	texts := make([]string, len(all))
	for i, h := range all {
		attempts, texts[i] = max(attempts, len(h.claimed)), h.String()
	}
	spec := filepath.Join("..", "..", "..", "docs", "spec")
	files := map[string]string{
		"Histories.tla": "---- MODULE Histories ----\nHistories == <<\n" + strings.Join(texts, ",\n") + "\n>>\n====\n",
	}
	for _, name := range []string{"Slot.tla", "Trace.tla", "Trace.cfg"} {
		text, err := os.ReadFile(filepath.Join(spec, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = strings.Replace(string(text), "MaxAttempt = 3", fmt.Sprintf("MaxAttempt = %d", attempts), 1)
	}
	for name, text := range files {
		err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	cmd := exec.CommandContext(ctx, "java", "-XX:+UseParallelGC", "-Xss64m", "-Djava.io.tmpdir="+dir, "-cp", *tlc, "tlc2.TLC", "-workers", "1", "Trace.tla")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Model checking completed. No error has been found.") {
		t.Fatalf("TLC does not check the histories: %v\n%s", err, out)
	}
	reached := make([]int, len(all))
	for _, match := range regexp.MustCompile(`<<"reached", (\d+), (\d+)>>`).FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.Atoi(match[1])
		at, _ := strconv.Atoi(match[2])
		reached[n-1] = max(reached[n-1], at)
	}
	at := map[int]int{}
	for i, h := range all {
		if reached[i] < len(h.steps)-1 {
			at[i] = reached[i] + 1
		}
	}
	return at
}
