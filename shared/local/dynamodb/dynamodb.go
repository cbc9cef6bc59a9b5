// Package dynamodb runs DynamoDB Local, AWS's own stand-in for DynamoDB: the only one whose
// conditions and transactions are atomic, which is what this service rests on.
//
// DynamoDB Local is under a licence of AWS's own: it is for people with an AWS account, and nobody
// may pass it on. It is therefore fetched when it is first needed, kept in the user's cache
// directory, and never part of this repository or of anything made from it.
package dynamodb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"managed-credentials/shared/local/child"
)

// Variable names the environment variable with the URL of a DynamoDB Local that runs already. With
// it set, Start starts none, so that many test binaries share one.
const Variable = "DYNAMODB_LOCAL_URL"

// patience is how long a started DynamoDB Local may take until it answers. It takes 2 to 3 s on a
// machine with nothing else to do.
const patience = 90 * time.Second

// Config says how DynamoDB Local is run.
type Config struct {
	// Log gets a line for each step that can take seconds. Nil means none.
	Log io.Writer
}

// Server is a DynamoDB Local that answers.
type Server struct {
	url     string
	process *child.Process // nil if it is somebody else's
}

// Start starts an empty DynamoDB Local that keeps its tables in memory, on a free port of its own,
// and returns once it answers. It needs Java, or else Docker. On Linux it ends with this program,
// however that ends; elsewhere Stop has to be called. ctx is for starting alone.
//
// It does not look at credentials, and takes all of the machine's interfaces. On Linux it is kept
// to the loopback interface by a network of its own, and in Docker it is published there alone.
// Where neither can be done, Log gets a warning. It is no place for data that matters.
//
// If Variable is set, Start uses that server; it may hold tables already, and Stop leaves it alone.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	url := os.Getenv(Variable)
	if url != "" {
		s := &Server{url: strings.TrimSuffix(url, "/")}
		_, err := s.probe(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("reaching the DynamoDB Local that %s names: %w", Variable, err)
		}
		return s, nil
	}
	launch, err := findLauncher(ctx, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("finding DynamoDB Local: %w", err)
	}
	return start(ctx, launch)
}

// URL is where it answers, without a slash at the end.
func (s *Server) URL() string { return s.url }

// Done is closed when DynamoDB Local has ended, be it by Stop or by itself. It is nil if Start
// started none.
func (s *Server) Done() <-chan struct{} {
	if s.process == nil {
		return nil
	}
	return s.process.Done()
}

// Stop ends DynamoDB Local, if Start started it, and returns once it has ended. Its tables are gone
// then. It is safe to repeat.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Kill()
	}
}

// Client returns a client of this server for region. The error answers of DynamoDB Local lack the
// checksum that the SDK would warn about each time, so checksums are not looked at.
func (s *Server) Client(region string) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:                          region,
		BaseEndpoint:                    aws.String(s.url),
		Credentials:                     credentials.NewStaticCredentialsProvider("local", "local", ""),
		DisableValidateResponseChecksum: true,
	})
}

// CreateTable makes a table of the given name and returns once it can be used. What the table is
// like comes from the definition, whose own name is ignored: with the one that template.yaml holds
// there is one truth. A table of that name that exists already is an error.
func CreateTable(ctx context.Context, client *dynamodb.Client, name string, definition *dynamodb.CreateTableInput) error {
	input := *definition
	input.TableName = &name
	_, err := client.CreateTable(ctx, &input)
	if err != nil {
		return fmt.Errorf("creating table %s: %w", name, err)
	}
	waiter := dynamodb.NewTableExistsWaiter(client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay = 10 * time.Millisecond
		o.MaxDelay = 100 * time.Millisecond
	})
	err = waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &name}, 30*time.Second)
	if err != nil {
		return fmt.Errorf("waiting for table %s: %w", name, err)
	}
	return nil
}

// A launcher makes the command that runs DynamoDB Local on a port of this machine. It is to let web
// pages of that origin alone call it: its default is all of them.
type launcher func(port int, origin string) *exec.Cmd

var errPortTaken = errors.New("the port was taken meanwhile")

func start(ctx context.Context, launch launcher) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer for %v", patience))
	defer cancel()
	for {
		s, err := startOn(ctx, launch)
		if !errors.Is(err, errPortTaken) {
			return s, err
		}
	}
}

// startOn makes one attempt, on a port that is free now.
func startOn(ctx context.Context, launch launcher) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("finding a free port: %w", err)
	}
	// That something answers on the port does not say that it is ours: somebody may have been
	// faster. The one origin that it lets in is what tells it from all others.
	origin := "http://" + strings.ToLower(rand.Text()) + ".invalid"
	cmd := launch(port, origin)
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	for _, file := range cmd.ExtraFiles {
		_ = file.Close() // the child has its own
	}
	if err != nil {
		return nil, fmt.Errorf("starting DynamoDB Local: %w", err)
	}
	s := &Server{url: fmt.Sprintf("http://127.0.0.1:%d", port), process: process}
	err = s.awaitAnswer(ctx, origin, out)
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("starting DynamoDB Local: %w", err)
	}
	return s, nil
}

func (s *Server) awaitAnswer(ctx context.Context, origin string, out *tail) error {
	poll := time.NewTicker(25 * time.Millisecond)
	defer poll.Stop()
	for {
		allowed, err := s.probe(ctx, origin)
		if err == nil && allowed == origin {
			return nil
		}
		// Without its port DynamoDB Local reports an exception and goes on running; Docker ends.
		said := out.String()
		if strings.Contains(said, "Failed to bind") || strings.Contains(said, "port is already allocated") {
			return errPortTaken
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("it ended (%v), saying:\n%s", s.process.Err(), out) //nolint:errorlint // it may be nil
		case <-ctx.Done():
			return fmt.Errorf("%w; so far it said:\n%s", context.Cause(ctx), out)
		case <-poll.C:
		}
	}
}

// probe asks for anything and returns the origin whose pages may call the server.
func (s *Server) probe(ctx context.Context, origin string) (allowed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Origin", origin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.Header.Get("Access-Control-Allow-Origin"), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
