// Package suspended is a machine for tests that is suspended now and then, as a Lambda environment
// may be: its wall clock goes on, and its monotonic clock stands still.
//
// The functions are built with a package time whose wall clock is ahead of the real one by as much
// as the test says. To them that is the same as a suspension of that length, and the test waits for
// nothing: no more time passes by the monotonic clock than in truth.
package suspended

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"managed-credentials/shared/local/template"
)

// Build builds the functions with the changed package time into dir. The compiler's cache keeps
// what that is made from, after the first time.
func Build(dir string) error {
	project, err := template.Root(".")
	if err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("asking go for its GOROOT: %w", err)
	}
	folder := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(folder, "time.go"))
	if err != nil {
		return err
	}
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if bytes.Count(source, []byte(reads)) != 1 {
		return fmt.Errorf("time.Now of this version of Go does not begin with %q: bring the package suspended up to date", reads)
	}
	changed, file := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(folder, "time.go"):      changed,
		filepath.Join(folder, "suspended.go"): filepath.Join(project, "shared/proof/suspended/testdata/suspended.go"),
	}})
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(changed, bytes.Replace(source, []byte(reads), []byte(reads+"\tsec += suspended()\n"), 1), 0o600),
		os.WriteFile(file, overlay, 0o600),
	)
	if err != nil {
		return err
	}
	command := exec.Command("go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-overlay", file, "-o", dir+"/", "./functions/...")
	command.Dir = project
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the functions: %w\n%s", err, out)
	}
	return nil
}

// Machine is one machine with the functions on it. It is safe for concurrent use.
type Machine struct {
	// Dist holds the functions as the package stack wants them.
	Dist string

	mu    sync.Mutex
	slept time.Duration
	file  *os.File
}

// New makes a machine in the empty directory dist, with the functions that Build has left in built.
func New(built, dist string) (*Machine, error) {
	deployed, err := template.Load(".")
	if err != nil {
		return nil, err
	}
	for _, f := range deployed.Functions {
		folder := filepath.Join(dist, f.Name)
		err := os.Mkdir(folder, 0o700)
		if err == nil {
			err = os.Symlink(filepath.Join(built, f.Name), filepath.Join(folder, "bootstrap"))
		}
		if err != nil {
			return nil, err
		}
	}
	m := &Machine{Dist: dist}
	m.file, err = os.Create(filepath.Join(dist, "suspended"))
	if err != nil {
		return nil, err
	}
	return m, m.Suspend(0)
}

// Suspend lets the machine be suspended for so long, in whole seconds.
func (m *Machine) Suspend(d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slept += d.Truncate(time.Second)
	_, err := m.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(m.slept/time.Second)), 0)
	return err
}

// Now is the machine's wall clock.
func (m *Machine) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.slept)
}

// Close frees what the machine has. The functions have ended.
func (m *Machine) Close() { _ = m.file.Close() }
