package sam

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"managed-credentials/shared/local/child"
)

// docker is a Docker daemon that answers.
type docker struct {
	// env is what its clients need in their environment.
	env []string
	// listen is the address at which servers of this process have to listen to be reached from
	// containers, and reach what containers call that address.
	listen, reach string
}

// startDocker returns the machine's Docker. If there is none, it is installed where that can be
// done without asking (as root, on Debian and its like), and runs for as long as the test.
func startDocker(ctx context.Context, t *testing.T) *docker {
	t.Helper()
	d := &docker{}
	err := d.do(ctx, "version")
	if err != nil {
		_, missing := exec.LookPath("dockerd")
		if missing != nil {
			step(t, "installing Docker", func() error { return installDocker(ctx) })
		}
		err = d.do(ctx, "version") // some installations start it
	}
	if err != nil {
		d.start(ctx, t)
	}
	d.findBridge(ctx, t)
	return d
}

func installDocker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	_, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return errors.New("there is no Docker that answers; only root on Debian gets one installed by this test")
	}
	err = output(exec.CommandContext(ctx, "apt-get", "update"))
	if err != nil {
		return err
	}
	return output(exec.CommandContext(ctx, "apt-get", "install", "--yes", "--no-install-recommends", "docker.io"))
}

// bridge is the network interface that a Docker daemon makes for its containers, and leaves behind.
const bridge = "docker0"

// start starts a daemon with all that is its own in a directory of its own. Containers reach this
// machine and nothing beyond it: with the rules of iptables, and forwarding, left alone, a function
// cannot call the real AWS by mistake.
func (d *docker) start(ctx context.Context, t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("there is no Docker that answers, and only root can start one")
	}
	attached, _ := filepath.Glob("/sys/class/net/" + bridge + "/brif/*") // the pattern is well formed
	if len(attached) > 0 {
		t.Fatalf("no Docker answers, and containers of one that has gone are still at its bridge, where they would answer in place of this test's: "+
			"end their containerd-shim processes, and then: ip link delete %s", bridge)
	}
	// Not t.TempDir, whose names are too long for sockets.
	dir, err := os.MkdirTemp("", "docker-")
	if err != nil {
		t.Fatal(err)
	}
	_, absent := net.InterfaceByName(bridge)
	d.env = []string{"DOCKER_HOST=unix://" + filepath.Join(dir, "sock")}
	cmd := exec.Command("dockerd", "--host", "unix://"+filepath.Join(dir, "sock"), "--pidfile", filepath.Join(dir, "pid"),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--iptables=false", "--ip-forward=false")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	step(t, "starting Docker", func() error {
		process, err := child.Start(cmd)
		if err != nil {
			return err
		}
		t.Cleanup(func() {
			end(process, syscall.SIGTERM)
			if absent != nil {
				err := output(exec.Command("ip", "link", "delete", bridge))
				if err != nil {
					t.Logf("Docker's network interface is left: %v", err)
				}
			}
			err := os.RemoveAll(dir)
			if err != nil {
				t.Logf("something of Docker's is left: %v", err)
			}
		})
		err = await(ctx, process, func() error { return d.do(ctx, "version") })
		if err != nil {
			process.Kill() // for its last words
			return fmt.Errorf("%w\n%s", err, &log)
		}
		return nil
	})
}

// findBridge settles where the stand-ins listen. On Linux that is the address of the bridge to the
// containers. Docker Desktop has the bridge inside a virtual machine, and there a name for this one
// (https://docs.docker.com/desktop/features/networking/).
func (d *docker) findBridge(ctx context.Context, t *testing.T) {
	t.Helper()
	const format = `{{index .Options "com.docker.network.bridge.name"}}`
	name, err := d.command(ctx, "network", "inspect", "bridge", "--format", format).Output()
	if err != nil {
		t.Fatalf("asking for Docker's bridge: %v", err)
	}
	d.listen, d.reach = "127.0.0.1", "host.docker.internal"
	i, err := net.InterfaceByName(strings.TrimSpace(string(name)))
	if err != nil {
		return
	}
	addresses, err := i.Addrs()
	if err != nil {
		t.Fatalf("asking for the address of Docker's bridge: %v", err)
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.To4() != nil {
			d.listen, d.reach = n.IP.String(), n.IP.String()
		}
	}
}

const (
	// baseImage is what SAM runs functions of this runtime in.
	baseImage = "public.ecr.aws/lambda/provided:al2023-x86_64"
	// emulatorImage is what SAM makes of it first, by adding the Runtime Interface Emulator.
	emulatorImage = "public.ecr.aws/lambda/provided:al2023-rapid-x86_64"
	pullTime      = 3 * time.Minute
)

// provideImage sees to it that SAM finds its image without asking the registry each time. Where
// AWS's base image cannot be had, the emulator stands alone in one: the functions are static
// binaries and need nothing else.
func (d *docker) provideImage(ctx context.Context, t *testing.T, emulator string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	for _, name := range []string{emulatorImage, baseImage} {
		err := d.do(ctx, "image", "inspect", name)
		if err == nil {
			return
		}
	}
	t.Logf("pulling %s …", baseImage)
	err := d.do(ctx, "pull", "--quiet", baseImage)
	if err == nil {
		return
	}
	t.Logf("AWS's base image cannot be pulled, one with the emulator alone takes its place: %v", err)
	contents, err := image(emulator)
	if err != nil {
		t.Fatal(err)
	}
	cmd := d.command(ctx, "import", "--platform", "linux/amd64", "-", emulatorImage)
	cmd.Stdin = contents
	err = output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	// It would pass for AWS's own otherwise.
	t.Cleanup(func() {
		err := d.do(context.Background(), "image", "rm", emulatorImage)
		if err != nil {
			t.Error(err)
		}
	})
}

// image is the file system of an image: the emulator where SAM starts it, and the one directory
// that functions may write to.
func image(emulator string) (*bytes.Buffer, error) {
	program, err := os.ReadFile(emulator)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir},
		{Name: "var/rapid/aws-lambda-rie", Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(program))},
	} {
		err := w.WriteHeader(&h)
		if err != nil {
			return nil, err
		}
		if h.Size > 0 {
			_, err := w.Write(program)
			if err != nil {
				return nil, err
			}
		}
	}
	return &b, w.Close()
}

func (d *docker) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), d.env...)
	return cmd
}

func (d *docker) do(ctx context.Context, args ...string) error {
	return output(d.command(ctx, args...))
}
