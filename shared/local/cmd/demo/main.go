// Command demo is `make demo`: it shows in less than a minute what the service promises, against
// the fake AgentMail. Every figure that it prints is counted where it is made: in the fake, and in
// what the functions answer.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/provider/agentmail/fake"
)

const (
	lists = 20
	// A short lease, so that a killed worker is taken over within seconds.
	lease, budget = "6s", "1900ms"
	// patience is how long the demo waits for reconcile to finish something, asking it each second.
	patience = time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	shown, err := os.Stdout.Stat()
	colour := err == nil && shown.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
	err = run(ctx, os.Stdout, colour)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is a service that is shown.
type demo struct {
	*stack.Stack
	out    io.Writer
	colour bool
	began  time.Time
}

func run(ctx context.Context, out io.Writer, colour bool) error {
	_, _ = fmt.Fprintln(out, "Starting the service, with DynamoDB Local and a fake AgentMail …")
	s, err := stack.Start(ctx, stack.Config{Env: map[string]string{"LEASE": lease, "PROVISION_BUDGET": budget}})
	if err != nil {
		return err
	}
	defer s.Close()
	d := &demo{Stack: s, out: out, colour: colour, began: time.Now()}
	for _, step := range []func(context.Context) error{d.together, d.killed, d.deleted, d.audited} {
		err = step(ctx)
		if err != nil {
			return err
		}
	}
	d.say("1", fmt.Sprintf("Every user exactly one scoped key, and not one left behind. It took %.0f s.", time.Since(d.began).Seconds()))
	return nil
}

// together lists many times at once.
func (d *demo) together(ctx context.Context) error {
	d.say("1", fmt.Sprintf("alice signs up, and lists her credentials %d times at the same moment.", lists))
	var work sync.WaitGroup
	errs := make([]error, lists)
	for i := range lists {
		work.Go(func() { errs[i] = d.list(ctx, "alice") })
	}
	work.Wait()
	err := errors.Join(errs...)
	if err != nil {
		return err
	}
	// On a busy machine the first list's budget may have been too short.
	err = d.until(ctx, "alice's credential is ready", func() (bool, error) { return d.resolves(ctx, "alice") })
	if err != nil {
		return err
	}
	return d.oneKey("alice", fmt.Sprintf("%d lists", lists))
}

// killed has the third party fail, and then a worker die after its key was made and before anybody
// knew of it.
func (d *demo) killed(ctx context.Context) error {
	d.say("1", "bob signs up. AgentMail answers 500, and then his worker is killed while AgentMail makes the key.")
	before := d.AgentMail.Count(fake.CreateKey)
	failing := d.AgentMail.Inject(fault.Rule{Op: fake.CreatePod, About: "bob", Times: 1, Fault: fake.Status(http.StatusInternalServerError)})
	dead := make(chan struct{})
	defer close(dead)
	d.AgentMail.Inject(fault.Rule{Op: fake.CreateKey, About: "bob", Times: 1, Fault: fault.After(fault.Until(dead), nil)})
	kill := func() bool {
		pod, _ := d.AgentMail.Pod("bob")
		if len(pod.Keys) == 0 {
			return false
		}
		d.say("33", fmt.Sprintf("  AgentMail has answered 500 to %d request", d.AgentMail.Hits(failing)))
		ended := d.Host.Kill("list-with-provision") + d.Host.Kill("reconcile")
		d.say("33", fmt.Sprintf("  killed %d processes: the key is there, and no answer said so", ended))
		return true
	}
	for dead := false; !dead; {
		err := d.during(ctx, "bob", &dead, kill)
		if err != nil {
			return err
		}
	}
	ready, err := d.resolves(ctx, "bob")
	if err != nil {
		return err
	}
	if ready {
		return errors.New("bob has a credential although his worker died: the demo shows nothing")
	}
	err = d.until(ctx, "bob's credential is ready", func() (bool, error) { return d.resolves(ctx, "bob") })
	if err != nil {
		return err
	}
	d.say("33", fmt.Sprintf("  another process took over: %d keys were made in all, and the one that nobody knew was removed", d.AgentMail.Count(fake.CreateKey)-before))
	return d.oneKey("bob", "a failure and a killed worker")
}

// during lists for a user, and kills as soon as it can.
func (d *demo) during(ctx context.Context, user string, dead *bool, kill func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.list(ctx, user) // the process that answers is killed
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return context.Cause(ctx)
		case <-tick.C:
			if !*dead {
				*dead = kill()
			}
		}
	}
}

// deleted deletes both accounts.
func (d *demo) deleted(ctx context.Context) error {
	d.say("1", "Both delete their accounts.")
	for _, user := range []string{"alice", "bob"} {
		_, err := d.local(ctx, "delete-user", map[string]any{"sub": user})
		if err != nil {
			return err
		}
	}
	err := d.until(ctx, "nothing is left", func() (bool, error) { return len(d.AgentMail.Pods()) == 0, nil })
	if err != nil {
		return err
	}
	d.say("32", fmt.Sprintf("  AgentMail holds %d pods, and so no key", len(d.AgentMail.Pods())))
	return nil
}

// audited compares the third party with the table.
func (d *demo) audited(ctx context.Context) error {
	d.say("1", "An audit compares AgentMail with the table.")
	answer, err := d.local(ctx, "operate", map[string]any{"command": "audit", "provider": "agent_mail"})
	if err != nil {
		return err
	}
	var report struct {
		Findings []json.RawMessage `json:"findings"`
	}
	err = json.Unmarshal(answer, &report)
	if err != nil {
		return fmt.Errorf("reading the audit's report: %w", err)
	}
	if len(report.Findings) != 0 {
		return fmt.Errorf("the audit found %s", answer)
	}
	d.say("32", "  it found nothing")
	return nil
}

// oneKey checks what the fake holds of a user.
func (d *demo) oneKey(user, after string) error {
	pod, _ := d.AgentMail.Pod(user)
	if len(pod.Keys) != 1 {
		return fmt.Errorf("after %s AgentMail holds %d keys of %s, not one", after, len(pod.Keys), user)
	}
	d.say("32", fmt.Sprintf("  after %s AgentMail holds 1 pod and %d key of %s", after, len(pod.Keys), user))
	return nil
}

// until has reconcile invoked each second, as its schedule does each minute, until something is so.
func (d *demo) until(ctx context.Context, what string, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it is not so after %v: %s", patience, what))
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		_, err = d.local(ctx, "reconcile", nil)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// resolves reports whether an executor gets the user's managed credential.
func (d *demo) resolves(ctx context.Context, user string) (bool, error) {
	answer, err := d.local(ctx, "resolve", map[string]any{"sub": user, "provider": "agent_mail"})
	var refused *refusal
	if errors.As(err, &refused) {
		return false, nil
	}
	return strings.Contains(string(answer), `"api_key"`), err
}

// refusal is an answer that is no success.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func (d *demo) list(ctx context.Context, user string) error {
	token, err := d.Issuer.AccessToken(user, user)
	if err != nil {
		return err
	}
	_, err = d.send(ctx, http.MethodGet, "/credentials", token, nil)
	return err
}

func (d *demo) local(ctx context.Context, path string, body map[string]any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil || body == nil {
		text = []byte("{}")
	}
	return d.send(ctx, http.MethodPost, "/local/"+path, "", text)
}

// send sends a request and returns the answer, which has to be a success.
func (d *demo) send(ctx context.Context, method, path, token string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: patience}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= http.StatusMultipleChoices {
		err = &refusal{fmt.Sprintf("%s %s: %d %s", method, path, answer.StatusCode, text)}
	}
	return text, err
}

// say prints a line in a colour of the terminal's.
func (d *demo) say(colour, text string) {
	if d.colour {
		text = "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
	_, _ = fmt.Fprintf(d.out, "%5.1f s  %s\n", time.Since(d.began).Seconds(), text)
}
