// Package child runs programs that end when this one does.
//
// The local machine consists of several processes: the database and the
// functions. None of them may be left over: not after an orderly stop, not
// after an interrupt from the terminal, and on Linux not after this program was
// killed either.
package child

import (
	"os/exec"
	"runtime"
	"time"
)

// drain is how long the output of an ended child is waited for. A grandchild
// that holds the pipe open could make that for ever.
const drain = time.Second

// Process is one running child.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts cmd in a process group of its own, so that Ctrl-C reaches this
// program alone, which then ends its children in order. On Linux the kernel
// kills the child should this program die first.
func Start(cmd *exec.Cmd) (*Process, error) {
	detach(cmd)
	cmd.WaitDelay = drain
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux counts the thread that started a child as its parent. The thread
		// is therefore kept for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	err := <-started
	if err != nil {
		return nil, err
	}
	return p, nil
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the child has ended and its output has been read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended, nil for exit status 0. It may be called once
// Done is closed.
func (p *Process) Err() error { return p.err }

// Kill ends the child without asking it and returns once it has ended. It is
// safe to repeat.
func (p *Process) Kill() {
	// The only error is that it has ended already.
	_ = p.cmd.Process.Kill()
	<-p.done
}
