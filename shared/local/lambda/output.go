package lambda

import (
	"bytes"
	"io"
	"sync"
)

// output is where all instances write to. It is safe for concurrent use, whatever is behind it.
type output struct {
	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(p)
}

// maxLine is how many bytes are held back in the hope of the line's end.
const maxLine = 256 << 10

// lines passes on whole lines, with the prefix before each of them, so that the lines of several
// instances do not mix. It is safe for concurrent use.
type lines struct {
	to     *output
	prefix string

	mu      sync.Mutex
	partial []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		end := bytes.IndexByte(l.partial, '\n') + 1
		if end == 0 && len(l.partial) < maxLine {
			return len(p), nil
		}
		if end == 0 {
			end = len(l.partial)
		}
		l.pass(l.partial[:end])
		l.partial = l.partial[end:]
	}
}

// flush passes on a last line that has no end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.pass(l.partial)
		l.partial = nil
	}
}

func (l *lines) pass(line []byte) {
	text := append([]byte(l.prefix), bytes.TrimSuffix(line, []byte("\n"))...)
	_, _ = l.to.Write(append(text, '\n')) // A log that fails is no reason for a function to.
}
