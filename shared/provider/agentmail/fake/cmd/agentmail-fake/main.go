// Command agentmail-fake serves the fake AgentMail until it is interrupted, for trying things by
// hand and for tests from outside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"managed-credentials/shared/provider/agentmail/fake"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8081", "address to listen on")
	orgKey := flag.String("org-key", fake.OrgKey, "the organisation's API key")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := serve(ctx, *addr, *orgKey)
	if err != nil {
		fmt.Fprintln(os.Stderr, "agentmail-fake:", err)
		os.Exit(1)
	}
}

// serve returns nil once ctx has ended and every request has been answered or dropped.
func serve(ctx context.Context, addr, orgKey string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	agentmail := fake.New(fake.Config{OrgKey: orgKey})
	server := &http.Server{Handler: agentmail, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(agentmail.Close)

	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	explain(listener.Addr(), orgKey)
	err = server.Serve(listener)
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	err = <-stopped
	if err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}

// explain says what to do with it. A key that somebody chose is not shown: it might be a real one.
func explain(addr net.Addr, orgKey string) {
	shown := orgKey
	if orgKey != fake.OrgKey {
		shown = "$AGENTMAIL_API_KEY"
	}
	fmt.Printf(`A fake AgentMail on http://%[1]s: pods, API keys, inboxes, domains and webhooks, in memory. Press Ctrl-C to stop it.

  curl -H 'Content-Type: application/json' -H "Authorization: Bearer %[2]s" -d '{"client_id":"alice"}' http://%[1]s/v0/pods
  curl http://%[1]s/_fake/state
  curl -d '{"operation":"create_key","times":1,"then":{"drop":true}}' http://%[1]s/_fake/faults

The last one loses the answer to the next key. "go doc managed-credentials/shared/provider/agentmail/fake" lists the rest.
`, addr, shown)
}
