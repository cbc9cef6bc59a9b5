// Package stacktest starts the whole service for tests, from end to end: a package's TestMain calls
// [Main], and each of its tests [Start].
package stacktest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/proof/contract"
)

var (
	// Database is the one DynamoDB Local of the package's tests. Each stack has a table of its own.
	Database *dynamodb.Server
	// Dist is where the functions are, or empty: then they are where `make build` puts them.
	Dist string
)

// Main runs a package's tests and returns the code to exit with. build leaves the functions in a
// directory, <function>/bootstrap; if it is nil, `make build` has to have been run.
func Main(m *testing.M, build func(dist string) error) (code int) {
	code, err := run(m, build)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func run(m *testing.M, build func(dist string) error) (code int, err error) {
	if build != nil {
		Dist, err = os.MkdirTemp("", "stacktest-")
		if err != nil {
			return 0, err
		}
		defer func() { _ = os.RemoveAll(Dist) }()
		err = build(Dist)
		if err != nil {
			return 0, err
		}
	}
	Database, err = dynamodb.Start(context.Background(), dynamodb.Config{Log: os.Stderr})
	if err != nil {
		return 0, err
	}
	defer Database.Stop()
	return m.Run(), nil
}

// Start starts a stack, which ends with the test, and returns it with what its functions write; of
// a test that fails that is shown. Unless cfg says otherwise the functions are those of Dist, and
// the service is held to its contract; the contract's paths have no prefix.
func Start(t testing.TB, cfg stack.Config) (*stack.Stack, *Log) {
	t.Helper()
	log := &Log{}
	cfg.DynamoDB, cfg.Log = Database, log
	if cfg.Dist == "" {
		cfg.Dist = Dist
	}
	if cfg.Around == nil && cfg.Prefix == "" {
		cfg.Around = contract.Around(t)
	}
	s, err := stack.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("the functions wrote:\n%s", log)
		}
	})
	return s, log
}

// Log is a log that may be read while several write it. Its zero value is empty.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
