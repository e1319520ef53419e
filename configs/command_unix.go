//go:build unix

package configs

import (
	"context"
	"os/exec"
	"sync"
	"syscall"
)

// running are the groups of processes that commands have started.
var running = commands{groups: make(map[int]bool)}

type commands struct {
	mu     sync.Mutex
	groups map[int]bool
	ended  bool
}

// shell is a command of sh(1), in a group of processes of its own.
func shell(ctx context.Context, command string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

// runAndEnd runs a command, and ends with it what it has started.
func runAndEnd(c *exec.Cmd) error {
	running.mu.Lock()
	if running.ended {
		running.mu.Unlock()
		return context.Canceled
	}
	err := c.Start()
	if err == nil {
		running.groups[c.Process.Pid] = true
	}
	running.mu.Unlock()
	if err != nil {
		return err
	}
	err = c.Wait()
	running.mu.Lock()
	defer running.mu.Unlock()
	delete(running.groups, c.Process.Pid)
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the group is there as long as one of it is
	return err
}

// EndCommands ends the commands that are at work, with all that they have started. None begins
// afterwards.
func EndCommands() {
	running.mu.Lock()
	defer running.mu.Unlock()
	running.ended = true
	for group := range running.groups {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}
