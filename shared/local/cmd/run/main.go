// Command run is `make run`: the whole service on this machine, until it is interrupted.
//
// Settings are read from the environment and from .env at the repository's root; .env.default says
// which there are. With AGENTMAIL_API_KEY it talks to the real AgentMail in place of the fake.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/template"
)

func main() {
	dist := flag.String("dist", "", "directory with the built functions, <function>/bootstrap (default the repository's dist)")
	flag.Parse()
	ctx, stop := untilToldToEnd()
	err := run(ctx, stop, *dist, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

// untilToldToEnd returns a context that ends with Ctrl-C, SIGTERM, the terminal, or the `go run`
// that started this program. After stop a second Ctrl-C ends the program at once.
func untilToldToEnd() (ctx context.Context, stop func()) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop = signal.NotifyContext(context.Background(), signals...)
	self, err := os.Executable()
	if err != nil || !strings.Contains(self, "go-build") {
		return ctx, stop
	}
	// A `go run` that is told to end does so without a word to the program.
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for parent := os.Getppid(); os.Getppid() == parent; {
			time.Sleep(200 * time.Millisecond)
		}
		cancel()
	}()
	return ctx, stop
}

// run serves until ctx ends, which is no error, or a part of the service does.
func run(ctx context.Context, stop func(), dist string, out io.Writer) error {
	deployed, err := template.Load("")
	if err != nil {
		return err
	}
	root, err := template.Root("")
	if err != nil {
		return err
	}
	settings, err := readSettings(filepath.Join(root, ".env"), os.LookupEnv)
	if err != nil {
		return err
	}
	err = settings.check(filepath.Join(root, ".env.default"))
	if err != nil {
		return fmt.Errorf("the settings in .env or the environment are wrong:\n%w", err)
	}
	origins, err := settings.origins()
	if err != nil {
		return err
	}
	cfg := stack.Config{
		Dist:           dist,
		Env:            settings.functions(deployed.Functions),
		AgentMailKey:   settings.get("AGENTMAIL_API_KEY", ""),
		AllProviders:   settings.get("MANAGED_PROVIDERS", "") == "",
		Origins:        origins,
		ReconcileEvery: time.Minute,
		AuditEvery:     time.Minute,
		Log:            out,
	}
	// The ports come first: it is no use to wait for a database and then to hear that they are
	// taken.
	cfg.Listener, err = listen(settings, "PORT", "8080")
	if err != nil {
		return err
	}
	if cfg.AgentMailKey == "" {
		cfg.AgentMailListener, err = listen(settings, "AGENTMAIL_PORT", "8081")
		if err != nil {
			return errors.Join(err, cfg.Listener.Close())
		}
	}
	s, err := stack.Start(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C while it started.
		}
		return err
	}
	defer s.Close()
	tour(out, s)
	select {
	case <-ctx.Done():
		stop()
		_, _ = fmt.Fprintln(out, "\nEnding; once more to end at once …")
		return nil
	case err := <-s.Failed():
		return err
	}
}

// listen takes the port that a setting names, on the loopback interface.
func listen(settings settings, name, fallback string) (net.Listener, error) {
	port := settings.get(name, fallback)
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %s is taken by %s: end that, or set another %s in .env", port, holder(port), name)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s %s: %w", name, port, err)
	}
	return l, nil
}
