//go:build unix

package child

import "syscall"

// Freeze stops the child where it is, until Thaw.
func (p *Process) Freeze() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) } // The only error is that it has ended.

// Thaw lets the child go on.
func (p *Process) Thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
