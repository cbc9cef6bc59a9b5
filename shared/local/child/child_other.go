//go:build !unix

package child

import "os/exec"

func detach(*exec.Cmd) {}

// Freeze does nothing here.
func (p *Process) Freeze() {}

// Thaw does nothing here.
func (p *Process) Thaw() {}
