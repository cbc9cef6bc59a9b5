package lambda

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// glance is how often it is looked at what an instance holds. Lambda's own limit is the kernel's,
// which lets nothing pass.
const glance = 5 * time.Millisecond

// watchMemory ends the process once it holds more than it may. A limit on addresses would not do:
// Go reserves many that it never uses.
func (i *instance) watchMemory() {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	most := int64(i.function.MemoryMB) << 20
	for {
		select {
		case <-tick.C:
		case <-i.process.Done():
			return
		}
		held := resident(i.process.PID())
		if held <= most {
			continue
		}
		i.function.outOfMemory.Add(1)
		_, _ = fmt.Fprintf(i.log, "the instance holds %d bytes, and may hold %d: it is ended\n", held, most)
		i.process.Kill()
		return
	}
}

// resident is how many bytes of memory a process holds; 0 where nobody can tell.
func resident(pid int) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0 // it has ended, or this is not Linux
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}
