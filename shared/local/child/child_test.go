package child

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// role makes the test binary play a part in a test: "parent" starts a child and
// prints its process id; both then sleep until they are killed.
const role = "CHILD_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "parent":
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{role + "=sleep"}
		p, err := Start(cmd)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
	}
	time.Sleep(time.Minute)
}

func sleeper(t *testing.T) *Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{role + "=sleep"}
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestKillReturnsOnlyOnceTheChildHasEnded(t *testing.T) {
	t.Parallel()
	p := sleeper(t)
	p.Kill()
	select {
	case <-p.Done():
	default:
		t.Fatal("Kill returned before the child had ended")
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) {
		t.Fatalf("Err() = %v, want an exit error", p.Err())
	}
	p.Kill() // safe to repeat
}

func TestStartReportsAProgramThatDoesNotExist(t *testing.T) {
	t.Parallel()
	_, err := Start(exec.Command("./does-not-exist"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("err = %v, want os.ErrNotExist", err)
	}
}

func TestChildDiesWithAKilledParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can promise this")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{role + "=parent"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(parent.Kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("parent said %q", line)
	}
	if !alive(grandchild) {
		t.Fatal("the grandchild did not run to begin with")
	}
	parent.Kill()
	deadline := time.Now().Add(10 * time.Second)
	for alive(grandchild) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its killed parent", grandchild)
		}
		time.Sleep(time.Millisecond)
	}
}

// alive tells a running process from one that is gone or a zombie, which stays
// until the machine's first process collects it.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
