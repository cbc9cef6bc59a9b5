package dynamodb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"managed-credentials/shared/local/child"
)

// DynamoDB Local cannot be told where to listen, and takes all interfaces. On Linux it therefore
// runs in a network of its own, which has a loopback interface and nothing else. Between that and
// this machine's loopback stands a relay: this program, started anew within that network, with a
// listener from outside of it.

// relayVariable makes a program that links this package the relay.
const relayVariable = "DYNAMODB_LOCAL_RELAY"

// confinedPort is where DynamoDB Local listens in its own network.
const confinedPort = 8000

// listenerFD is the listener from outside.
const listenerFD = 3

func init() {
	if os.Getenv(relayVariable) == "" {
		return
	}
	err := relay(os.Args[1:])
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// confine returns a launcher that runs DynamoDB Local so that only this machine reaches it. An
// error says why that cannot be done here.
func confine(dir string) (launcher, error) {
	var errs []error
	for _, namespaces := range []func() *syscall.SysProcAttr{ownNetwork, ownNetworkAsUser} {
		err := run(relayCommand(namespaces())) // without a program it only tries
		if err == nil {
			return func(port int, origin string) *exec.Cmd {
				listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
				if err != nil {
					return javaCommand(dir, port, origin) // which finds the port taken, too
				}
				defer func() { _ = listener.Close() }()
				file, err := listener.(*net.TCPListener).File()
				if err != nil {
					return javaCommand(dir, port, origin)
				}
				java := javaCommand(dir, confinedPort, origin)
				cmd := relayCommand(namespaces(), java.Args...)
				cmd.Dir = dir
				cmd.ExtraFiles = []*os.File{file}
				return cmd
			}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ownNetwork is for whoever may make one: root, as a rule.
func ownNetwork() *syscall.SysProcAttr { return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }

// ownNetworkAsUser is for everybody else, where the system lets its users be root among themselves.
func ownNetworkAsUser() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func relayCommand(namespaces *syscall.SysProcAttr, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), relayVariable+"=yes")
	cmd.SysProcAttr = namespaces
	return cmd
}

// relay runs a program in the network that this process is in, and brings it what comes to the
// listener, until the program ends. Without a program it does nothing.
func relay(program []string) error {
	err := loopbackUp()
	if err != nil || len(program) == 0 {
		return err
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("taking over the listener: %w", err)
	}
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, relayVariable+"=") })
	process, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("starting %s: %w", program[0], err)
	}
	go func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				time.Sleep(10 * time.Millisecond) // there are too many connections, for now
				continue
			}
			go join(outside)
		}
	}()
	<-process.Done()
	return process.Err()
}

// join connects a client with DynamoDB Local until both are done.
func join(outside net.Conn) {
	defer func() { _ = outside.Close() }()
	inside, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(confinedPort))
	if err != nil {
		return
	}
	defer func() { _ = inside.Close() }()
	done := make(chan struct{})
	go func() {
		pass(inside, outside)
		close(done)
	}()
	pass(outside, inside)
	<-done
}

// pass copies until from ends, and says so to the other side.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if err != nil {
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.(*net.TCPConn).CloseWrite() // the only error is that it is closed
}

// loopbackUp switches the loopback interface on, which in a new network is off.
func loopbackUp() error {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("switching the loopback interface on: %w", err)
	}
	defer func() { _ = syscall.Close(socket) }()
	request := struct { // struct ifreq
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(socket), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Errorf("switching the loopback interface on: %w", errno)
	}
	return nil
}
