package netlab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Do runs f on a thread inside the host. Sockets opened there stay there,
// whoever uses them afterwards. Goroutines that f starts are not inside, and
// f is not the place for t.Fatal.
func (h *Host) Do(f func() error) error { return h.space.do(f) }

// Dial connects from the host. The address is to be a numeric one: names
// would be looked up on other threads, outside.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Command returns a command that will run on the host, with the host's
// /sys/class/net, and be killed if the test binary dies. Its environment may
// be added to, but not replaced: it has the way in.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(name)
	if err != nil {
		return &exec.Cmd{Path: name, Args: append([]string{name}, args...), Err: err}
	}
	// This program starts again, enters the namespace and becomes the command:
	// see Join.
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{path}, args...)
	way := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.space.file.Fd())
	cmd.Env = append(os.Environ(), stateVar+"="+joining+way)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// A Process is a running command of a host.
type Process struct {
	*exec.Cmd
	out    output
	exited chan struct{}
	err    error
}

// Start runs a command on the host until the end of the test at the latest.
// What it prints goes to the test's log if the test fails.
func (h *Host) Start(name string, args ...string) *Process {
	h.t.Helper()
	p := &Process{Cmd: h.Command(name, args...), exited: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, &p.out
	h.must(p.Cmd.Start(), "start", name)
	go func() {
		p.err = p.Cmd.Wait()
		close(p.exited)
	}()
	h.t.Cleanup(func() {
		p.Kill()
		if h.t.Failed() {
			h.t.Logf("%s on %s printed:\n%s", name, h.name, p.Output())
		}
	})
	return p
}

// Kill ends the process with SIGKILL and waits until it has gone.
func (p *Process) Kill() {
	_ = p.Process.Kill() // fails only if it has gone already
	<-p.exited
}

// Stop asks the process to end with SIGTERM, waits for it, and returns what
// [exec.Cmd.Wait] does.
func (p *Process) Stop() error {
	if err := p.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	return p.Wait()
}

// Wait waits until the process has gone and returns what [exec.Cmd.Wait] does.
func (p *Process) Wait() error {
	<-p.exited
	return p.err
}

// Exited is closed when the process has gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Output returns what the process has printed so far, both streams.
func (p *Process) Output() string { return p.out.String() }

// output is a buffer that can be read while it is written to.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
