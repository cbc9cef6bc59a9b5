package sim_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// schedule is all that decides a run: a seed, and what of its tasks and faults is left out.
type schedule struct {
	seed uint64
	// without are the tasks that are left out, by their numbers.
	without map[int]bool
	// only are the faults that strike, by the ids of their calls; nil for all that the seed draws.
	only map[string]bool
	// bug is one that a test has planted; nil in all others.
	bug *bug
	// recorded has the histories written down, and leaves out what the specification does.
	recorded bool
	// shaken has goroutines give way to others by chance: see [world.shake].
	shaken bool
}

// staleReads is the fault that an eventually consistent read sees what was. It strikes all of them
// or none.
const staleReads = "stale reads"

// String is the form that parse reads.
func (s schedule) String() string {
	text := strconv.FormatUint(s.seed, 10)
	if len(s.without) > 0 {
		var numbers []string
		for _, n := range slices.Sorted(maps.Keys(s.without)) {
			numbers = append(numbers, strconv.Itoa(n))
		}
		text += "; without " + strings.Join(numbers, ",")
	}
	switch {
	case s.only == nil:
	case len(s.only) == 0:
		text += "; only none"
	default:
		text += "; only " + strings.Join(slices.Sorted(maps.Keys(s.only)), ", ")
	}
	return text
}

func parse(text string) (schedule, error) {
	parts := strings.Split(text, "; ")
	seed, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return schedule{}, fmt.Errorf("a schedule begins with its seed: %w", err)
	}
	s := schedule{seed: seed}
	for _, part := range parts[1:] {
		tasks, isTasks := strings.CutPrefix(part, "without ")
		faults, isFaults := strings.CutPrefix(part, "only ")
		switch {
		case isTasks:
			s.without = map[int]bool{}
			for number := range strings.SplitSeq(tasks, ",") {
				n, err := strconv.Atoi(number)
				if err != nil {
					return schedule{}, fmt.Errorf("tasks are left out by their numbers: %w", err)
				}
				s.without[n] = true
			}
		case isFaults:
			s.only = map[string]bool{}
			for id := range strings.SplitSeq(faults, ", ") {
				if id != "none" {
					s.only[id] = true
				}
			}
		default:
			return schedule{}, fmt.Errorf("%q is no part of a schedule", part)
		}
	}
	return s, nil
}

// mostRuns bounds how often a schedule is run to make it shorter.
const mostRuns = 400

// shrunk leaves out of a failing schedule what it fails without, and returns its story.
func shrunk(t *testing.T, s schedule) string {
	runs := 0
	fails := func(s schedule) *world {
		runs++
		w := s.run(t, unheard)
		if len(w.violations) > 0 {
			return w
		}
		return nil
	}
	last := fails(s)
	if last == nil {
		return "it did not fail again: the seed does not decide everything"
	}
	s.only = map[string]bool{}
	for _, id := range last.struck {
		s.only[id] = true
	}
	for n := -1; n != len(s.without)-len(s.only) && runs < mostRuns; {
		n = len(s.without) - len(s.only)
		for i := range last.config.tasks {
			shorter := s
			shorter.without = maps.Clone(s.without)
			if shorter.without == nil {
				shorter.without = map[int]bool{}
			}
			if !shorter.without[i] {
				shorter.without[i] = true
				if runs < mostRuns && fails(shorter) != nil {
					s = shorter
				}
			}
		}
		s.only = fewer(s.only, func(only map[string]bool) bool {
			shorter := s
			shorter.only = only
			return runs < mostRuns && fails(shorter) != nil
		})
	}
	w := s.run(t, told)
	return "shrunk in " + strconv.Itoa(runs) + " runs to\n\n" + strings.Join(slices.DeleteFunc(w.story, dull), "\n") + "\n\n" +
		strings.Join(w.violations, "\n") + "\n\nAgain:  go test ./shared/proof/sim -run Replay -v -replay='" + s.String() +
		"'\nTo keep it as a test:  replay(t, \"" + s.String() + "\")\n"
}

// fewer leaves out as many as it can, first in large pieces and then one by one.
func fewer(all map[string]bool, fails func(map[string]bool) bool) map[string]bool {
	for size := max(1, len(all)); size > 0; size /= 2 {
		for piece := range slices.Chunk(slices.Sorted(maps.Keys(all)), size) {
			rest := maps.Clone(all)
			for _, id := range piece {
				delete(rest, id)
			}
			if fails(rest) {
				all = rest
			}
		}
	}
	return all
}

// dull reports whether a line of a story tells of a read that went well.
func dull(line string) bool {
	for _, op := range []string{"Query ", "BatchGetItem ", "GetSecretValue "} {
		if strings.Contains(line, " sends "+op) && !strings.Contains(line, ": ") || strings.Contains(line[10:], op) && strings.HasSuffix(line, ": done") {
			return true
		}
	}
	return false
}
