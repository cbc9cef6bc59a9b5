package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

// What no machine changes of a function's start: how large its binary is, and how much our packages
// allocate before main, such as by regular expressions that most processes never use.
const (
	mostMB    = 12
	mostBytes = 1 << 20
)

func TestNoFunctionIsLargerOrStartsWithMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the functions are built for Linux")
	}
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	deployed, err := template.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range deployed.Functions {
		binary := filepath.Join(root, "dist", f.Name, "bootstrap")
		info, err := os.Stat(binary)
		if err != nil {
			t.Fatal(err)
		}
		if mb(info.Size()) > mostMB {
			t.Errorf("%s has %.1f MB, and was to have no more than %d", f.Name, mb(info.Size()), mostMB)
		}
		if n := initialised(t, binary); n > mostBytes {
			t.Errorf("our packages in %s allocate %d bytes before main, and were to allocate no more than %d", f.Name, n, mostBytes)
		}
	}
}

// initialised is how many bytes our packages allocate before main, as Go's runtime says on request.
// The function itself ends at once, since it lacks all that it needs.
func initialised(t *testing.T, binary string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = []string{"GODEBUG=inittrace=1", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}
	var trace bytes.Buffer
	cmd.Stderr = &trace
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	all, lines := 0, 0
	for line := range strings.Lines(trace.String()) {
		// init internal/bytealg @0.008 ms, 0 ms clock, 0 bytes, 0 allocs
		fields := strings.Fields(line)
		if len(fields) != 11 || fields[0] != "init" {
			continue
		}
		lines++
		if !strings.HasPrefix(fields[1], "managed-credentials/") {
			continue
		}
		n, err := strconv.Atoi(fields[7])
		if err != nil {
			t.Fatalf("the trace has the line %q", line)
		}
		all += n
	}
	if lines == 0 {
		t.Fatalf("there is no trace, but %s", trace.String())
	}
	return all
}
