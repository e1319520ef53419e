package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervised is a service under a stand-in for systemd that knows as much of the
// unit as decides about a restart.
type supervised struct {
	t       *testing.T
	unit    map[string][]string
	manager *manager
	command *exec.Cmd
	stdin   io.Closer
	out     bytes.Buffer
}

// supervise starts a command that runs the bridge, with a watchdog, and waits until
// it is ready.
func supervise(t *testing.T, breakage string) *supervised {
	t.Helper()
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	if err := os.WriteFile(file, []byte("broker: {url: \"mqtt://127.0.0.1:1\"}\nweb: {listen: \"\"}\n"+oneRule), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &supervised{t: t, unit: unit(t), manager: newManager(t)}
	s.command = exec.Command(self, breakage, "run", "--config", file)
	s.command.Args[0] = brokenTopicast
	// testscript tells its commands by the name of the program.
	link := filepath.Join(t.TempDir(), brokenTopicast)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	s.command.Path = link
	s.command.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.manager.name, "WATCHDOG_USEC="+strconv.FormatInt(watchdogOfTest.Microseconds(), 10))
	s.command.Stderr = &s.out
	if s.stdin, err = s.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
	})
	s.manager.told(`READY=1\nSTATUS=1 send rule, .*`, "^WATCHDOG=1$")
	return s
}

// watchdogOfTest stands for WatchdogSec=, with the room that a busy machine needs.
const watchdogOfTest = 3 * time.Second

// watch waits until no beat came within the time of the watchdog, and then does as
// systemd.service(5) says of WatchdogSec= and TimeoutAbortSec=: SIGABRT, then
// SIGKILL.
func (s *supervised) watch() {
	s.t.Helper()
	for {
		if _, err := s.manager.next(watchdogOfTest); err != nil {
			break
		}
	}
	s.signal(syscall.SIGABRT)
	s.signal(syscall.SIGKILL)
}

func (s *supervised) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// restarts waits for the end and reports whether the unit has systemd start the
// service again (systemd.service(5), table of Restart=).
func (s *supervised) restarts() bool {
	s.t.Helper()
	late := time.AfterFunc(patience, func() { _ = s.command.Process.Kill() })
	_ = s.command.Wait()
	if !late.Stop() {
		s.t.Fatalf("it did not end within %v:\n%s", patience, &s.out)
	}
	state := s.command.ProcessState.Sys().(syscall.WaitStatus)
	s.t.Logf("ended with %v", s.command.ProcessState)
	return restartsAfter(s.t, s.unit, state)
}

func restartsAfter(t *testing.T, unit map[string][]string, state syscall.WaitStatus) bool {
	t.Helper()
	if got := unit["Restart"]; len(got) != 1 || got[0] != "always" {
		t.Errorf("Restart=%v", got)
		return false
	}
	if got := unit["StartLimitIntervalSec"]; len(got) != 1 || got[0] != "0" {
		t.Errorf("StartLimitIntervalSec=%v: after a few restarts systemd gives up", got)
	}
	prevented := strings.Fields(strings.Join(unit["RestartPreventExitStatus"], " "))
	if state.Signaled() {
		// Words there may be signals too; ours are numbers.
		return !slices.ContainsFunc(prevented, func(p string) bool { _, err := strconv.Atoi(p); return err != nil })
	}
	return !slices.Contains(prevented, strconv.Itoa(state.ExitStatus()))
}

func TestTheServiceIsStartedAgainAfterEveryCrash(t *testing.T) {
	for _, breakage := range []string{"panic", "panic of an error", "fatal error"} {
		t.Run(breakage, func(t *testing.T) {
			t.Parallel()
			s := supervise(t, breakage)
			s.stdin.Close()
			if !s.restarts() {
				t.Errorf("systemd leaves it ended:\n%s", &s.out)
			}
			if !regexp.MustCompile(`(?m)^(panic|fatal error)`).MatchString(s.out.String()) {
				t.Errorf("it did not end by its own fault:\n%s", &s.out)
			}
		})
	}
}

func TestTheServiceIsStartedAgainAfterEverySignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGABRT, syscall.SIGQUIT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			s := supervise(t, "nothing")
			s.signal(signal)
			if !s.restarts() {
				t.Errorf("systemd leaves it ended:\n%s", &s.out)
			}
		})
	}
}

func TestTheServiceIsStartedAgainAfterAHang(t *testing.T) {
	s := supervise(t, "nothing")
	s.signal(syscall.SIGSTOP)
	s.watch()
	if !s.restarts() {
		t.Errorf("systemd leaves it ended:\n%s", &s.out)
	}
}

// A wrong flag does not heal; everything else may.
func TestOnlyWrongUsageIsNotStartedAgain(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"run", "--config", bad}, true},
		{[]string{"run", "--config", bad + ".gone"}, true},
		{[]string{"run", "--nonsense"}, false},
		{[]string{"run", "now"}, false},
		{[]string{"rum"}, false},
	} {
		status, _, stderr := topicast(t, tt.args...)
		if got := restartsAfter(t, unit(t), syscall.WaitStatus(status<<8)); got != tt.want {
			t.Errorf("%v: exit status %d, started again: %t\n%s", tt.args, status, got, stderr)
		}
	}
}
