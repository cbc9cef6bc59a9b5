package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// started gives a DynamoDB Local, or skips where there is neither Java nor Docker.
func started(t *testing.T) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Log: t.Output()})
	if errors.Is(err, errNeeds) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

var definition = &dynamodb.CreateTableInput{
	TableName:   aws.String("ignored"),
	BillingMode: types.BillingModePayPerRequest,
	AttributeDefinitions: []types.AttributeDefinition{
		{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS},
	},
	KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}},
}

func TestStartedServerTakesATableAndStopEndsIt(t *testing.T) {
	t.Setenv(Variable, "")
	s := started(t)
	client := s.Client("us-east-1")

	err := CreateTable(t.Context(), client, "things", definition)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.PutItem(t.Context(), &dynamodb.PutItemInput{
		TableName: aws.String("things"),
		Item:      map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var exists *types.ResourceInUseException
	err = CreateTable(t.Context(), client, "things", definition)
	if !errors.As(err, &exists) {
		t.Fatalf("creating it again: %v, want ResourceInUseException", err)
	}
	if *definition.TableName != "ignored" {
		t.Fatal("CreateTable changed the definition")
	}

	// A test binary that is given the URL shares the server, and leaves it running.
	t.Setenv(Variable, s.URL())
	shared, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	shared.Stop()
	tables, err := shared.Client("eu-west-1").ListTables(t.Context(), &dynamodb.ListTablesInput{})
	if err != nil || len(tables.TableNames) != 1 {
		t.Fatalf("the shared server lists %v (%v), want the one table", tables, err)
	}

	s.Stop()
	s.Stop()
	select {
	case <-s.Done():
	default:
		t.Fatal("Stop returned before the server had ended")
	}
	_, err = http.Get(s.URL())
	if err == nil {
		t.Fatal("something still answers after Stop")
	}
}

func TestOnlyThisMachineReachesIt(t *testing.T) {
	t.Setenv(Variable, "")
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can promise this")
	}
	var log strings.Builder
	s, err := Start(t.Context(), Config{Log: &log})
	if errors.Is(err, errNeeds) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	address, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	// 127.0.0.1 is not all that is this machine's own: whoever listens on all interfaces answers on
	// 127.0.0.2, too.
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.2:%d", address.Port))
	if err == nil {
		_ = conn.Close()
	}
	reached, warned := err == nil, strings.Contains(log.String(), "WARNING")
	if reached != warned {
		t.Errorf("others reach it: %v, and the log says\n%s", reached, &log)
	}
	_, err = confine(t.TempDir())
	if reached && err == nil {
		t.Error("others reach it, although it could be confined")
	}
}

func TestWithoutANetworkOfItsOwnThereIsAWarning(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	launch := confinedIfPossible("somewhere", &log, func(string) (launcher, error) { return nil, errors.New("not on this system") })
	cmd := launch(8123, "http://x.invalid")
	if cmd.Dir != "somewhere" || !slices.Contains(cmd.Args, "8123") || len(cmd.ExtraFiles) != 0 {
		t.Errorf("it is started as %v", cmd)
	}
	if !strings.Contains(log.String(), "WARNING") || !strings.Contains(log.String(), "not on this system") {
		t.Errorf("the log says %s", &log)
	}
}

func TestStartSaysWhichVariableNamesAServerThatIsGone(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	t.Setenv(Variable, gone.URL)
	_, err := Start(t.Context(), Config{})
	if err == nil || !strings.Contains(err.Error(), Variable) {
		t.Fatalf("err = %v, want one that names %s", err, Variable)
	}
}

func TestStartSaysWhatToInstallWhereThereIsNothing(t *testing.T) {
	t.Setenv(Variable, "")
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), Config{})
	if !errors.Is(err, errNeeds) || !strings.Contains(err.Error(), "apt-get install default-jre-headless") {
		t.Fatalf("err = %v, want one that says what to install", err)
	}
}

// A port that another DynamoDB Local took in the meantime answers like ours. The other one must not
// be taken for it.
func TestStartTakesNoOtherServerForItsOwn(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux does a listener on 127.0.0.1 keep the port from one on all addresses")
	}
	java := javaOrSkip(t)
	attempts := 0
	s, err := start(t.Context(), func(port int, origin string) *exec.Cmd {
		attempts++
		if attempts == 1 {
			occupy(t, port)
		}
		return java(port, origin)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if attempts != 2 {
		t.Fatalf("%d attempts, want 2", attempts)
	}
}

// occupy answers on the port as another DynamoDB Local would.
func occupy(t *testing.T, port int) {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}))
	_ = other.Listener.Close()
	other.Listener = listener
	other.Start()
	t.Cleanup(other.Close)
}

func TestStartReportsWhatAFailedProgramSaid(t *testing.T) {
	t.Parallel()
	_, err := start(t.Context(), func(int, string) *exec.Cmd {
		return exec.Command("sh", "-c", "echo no such class; exit 3")
	})
	if err == nil || !strings.Contains(err.Error(), "no such class") || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("err = %v, want the output and the status", err)
	}
}

func TestStartStopsWaitingWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := start(ctx, func(int, string) *exec.Cmd {
		cancel()
		return exec.Command("sleep", "60")
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled", err)
	}
}

// A container is no child of the command that starts it, and outlives it unless told. What tells it
// is the end of its input. The docker of this test runs the container's script without a container.
func TestContainerEndsWithItsInput(t *testing.T) {
	java := javaOrSkip(t)
	docker := `#!/bin/sh
while [ "$1" != -c ]; do [ "$1" = --publish ] && port=$2; shift; done
script=$2; shift 3
port=${port#127.0.0.1:}; port=${port%:8000}
for a; do shift; [ "$a" = 8000 ] && a=$port; set -- "$@" "$a"; done
cd '` + java(1, "").Dir + `' && exec sh -c "$script" java "$@"
`
	bin := t.TempDir()
	err := os.WriteFile(filepath.Join(bin, "docker"), []byte(docker), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	input, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), func(port int, origin string) *exec.Cmd {
		cmd := dockerCommand(port, origin)
		cmd.Stdin = input
		return cmd
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	_ = hold.Close()
	<-s.Done()
}

func javaOrSkip(t *testing.T) launcher {
	t.Helper()
	java, err := findJava(t.Context(), t.Output())
	if err != nil {
		t.Skip(err)
	}
	return java
}
