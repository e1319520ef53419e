//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// A command is a program with what it is told.
type command struct {
	path string
	args []string
	env  []string // beside this program's own

	pages []string // that are open while it runs, by their paths
}

// A process is a running command.
type process struct {
	*exec.Cmd
	started time.Time
	orders  io.WriteCloser
	events  chan event
	exited  chan struct{}
	err     error
	tail    tail
}

// startOne starts a command on a host, directly: another program in between would
// count towards the time that it takes to start.
func start(h *netlab.Host, where placement, c command) (*process, error) {
	p := &process{Cmd: exec.Command(c.path, c.args...), events: make(chan event, 64), exited: make(chan struct{})}
	p.Env = append(environ(), c.env...)
	p.Stderr = &p.tail
	// Of its own process group, so that ^C reaches only this program, which cleans up; and
	// killed if we die all the same.
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	var err error
	if p.orders, err = p.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// A child is where the thread is that forks: namespace, processors, policy.
	err = h.Do(func() error {
		restore, err := where.apply()
		if err != nil {
			return err
		}
		defer restore()
		p.started = time.Now()
		return p.Start()
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	go p.follow(out)
	return p, nil
}

// environ is this program's environment without what would configure topicast.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TOPICAST_") })
}

// Processes are those of one run.
type processes struct{ all []*process }

// startOne starts one more and waits for an event, if one is named.
func (c *processes) startOne(ctx context.Context, h *netlab.Host, where placement, cmd command, until string) (*process, error) {
	p, err := start(h, where, cmd)
	if err != nil {
		return nil, err
	}
	c.all = append(c.all, p)
	if until != "" {
		_, err = p.await(ctx, until, harness.Patience)
	}
	return p, err
}

// stop stops them all, the last first.
func (c *processes) stop() {
	for _, p := range slices.Backward(c.all) {
		_ = p.stop(nil)
	}
}

// follow reads what the process prints, and then waits for it.
func (p *process) follow(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event != "" {
			p.events <- e
		}
	}
	p.err = p.Wait()
	close(p.exited)
}

// await waits for an event.
func (p *process) await(ctx context.Context, name string, limit time.Duration) (event, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not %s after %v", name, limit))
	defer cancel()
	for {
		var e event
		select {
		case e = <-p.events:
		case <-ctx.Done():
			return e, p.withOutput(context.Cause(ctx))
		case <-p.exited:
			select {
			case e = <-p.events: // printed before it ended
			default:
				return e, p.withOutput(fmt.Errorf("ended before it was %s: %v", name, p.err))
			}
		}
		if e.Event == name {
			return e, nil
		}
	}
}

// awaitOf waits for an event that depends on another process, the bridge, as
// long as that is there.
func (p *process) awaitOf(ctx context.Context, name string, bridge *process) (event, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-bridge.exited:
			cancel(fmt.Errorf("the bridge ended: %v", bridge.err))
		case <-ctx.Done():
		}
	}()
	e, err := p.await(ctx, name, harness.Patience)
	if err != nil && p != bridge {
		err = bridge.withOutput(err)
	}
	return e, err
}

// withOutput adds the last words of the process to an error.
func (p *process) withOutput(err error) error {
	if last := p.tail.String(); last != "" {
		return fmt.Errorf("%w; it said: %s", err, last)
	}
	return err
}

// order tells a tool what to do.
func (p *process) order(o order) error {
	return json.NewEncoder(p.orders).Encode(o)
}

// stop ends the process and waits until it has gone. It passes on an error with
// the last words of the process.
func (p *process) stop(err error) error {
	if p == nil {
		return err
	}
	_ = p.Process.Kill() // fails only if it has gone already
	for {
		select {
		case <-p.events: // follow may be waiting for room
		case <-p.exited:
			if err != nil {
				err = p.withOutput(err)
			}
			return err
		}
	}
}

// A tail keeps the end of what a process prints to standard error.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 600
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	t.end = t.end[max(0, len(t.end)-most):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.FieldsFunc(string(t.end), func(r rune) bool { return r == '\n' }), " / ")
}
