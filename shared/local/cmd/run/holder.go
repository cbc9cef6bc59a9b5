package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holder says what listens on a TCP port of this machine, as far as Linux tells: not of another
// user's processes, and nothing elsewhere.
func holder(port string) string {
	const unknown = "another program"
	sockets := listeners(port)
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unknown
	}
	for _, file := range files {
		target, err := os.Readlink(file)
		if err != nil || !sockets[target] {
			continue
		}
		process := filepath.Dir(filepath.Dir(file))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err == nil {
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
		}
	}
	return unknown
}

// listeners returns the sockets that listen on a port, as /proc/<pid>/fd names them. The columns
// are those of https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html.
func listeners(port string) map[string]bool {
	const listening = "0A"
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	suffix := fmt.Sprintf(":%04X", number)
	sockets := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			columns := strings.Fields(line)
			if len(columns) > 9 && strings.HasSuffix(columns[1], suffix) && columns[3] == listening {
				sockets["socket:["+columns[9]+"]"] = true
			}
		}
	}
	return sockets
}
