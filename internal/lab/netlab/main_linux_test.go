package netlab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests below run this test binary again as go test would, with actVar
// telling TestAct what to do there.
const actVar = "NETLAB_TEST_ACT"

func TestAct(t *testing.T) {
	act, arg, _ := strings.Cut(os.Getenv(actVar), " ")
	switch act {
	case "exit":
		os.Exit(3)
	case "fail":
		t.Error("failed as told")
	case "lab":
		New(t)
	case "linger":
		cmd := New(t).Host("h").Command("sh", "-c", "echo; exec sleep 1000")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // by now it has come in
			t.Fatal(err)
		}
		if err := os.WriteFile(arg, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
		select {}
	default:
		t.Skip("only for the other tests")
	}
}

func act(t *testing.T, what string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAct$", "-test.v")
	cmd.Env = append(os.Environ(), stateVar+"=", NoSkip+"=", actVar+"="+what)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func TestExitCodePassesThrough(t *testing.T) {
	New(t)
	for what, want := range map[string]int{"exit": 3, "fail": 1, "lab": 0} {
		cmd := act(t, what)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d; output:\n%s", what, got, want, out)
		}
	}
}

func TestSkipSaysWhyOrFails(t *testing.T) {
	state := stateVar + "=" + outside + "operation not permitted"
	for _, c := range []struct {
		env  string
		code int
		want string
	}{
		{NoSkip + "=", 0, "--- SKIP: TestAct"},
		{NoSkip + "=1", 1, "--- FAIL: TestAct"},
	} {
		cmd := act(t, "lab", state, c.env)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: exit code %d, want %d", c.env, got, c.code)
		}
		for _, want := range []string{c.want, "operation not permitted"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: output lacks %q:\n%s", c.env, want, out)
			}
		}
	}
}

func TestTestsRunWithoutNamespacesToo(t *testing.T) {
	New(t)
	// A user namespace in which no further one can be made, without any power.
	cmd := act(t, "lab")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c",
		"echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all " + self(t) + " -test.run='^TestAct$' -test.v"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		Skip(t, "no setpriv to give up powers with: %v", err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- SKIP: TestAct") || !strings.Contains(string(out), "in a user namespace: ") {
		t.Errorf("got %v, want a skip that says why; output:\n%s", err, out)
	}
}

func self(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProcessesDieWithTheTests(t *testing.T) {
	New(t)
	fifo := filepath.Join(t.TempDir(), "pid")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := act(t, "linger "+fifo)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cmd.Process.Kill()
	cmd.Wait()
	// A process's descriptor is readable when the process has ended.
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, int(4*patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			unix.Kill(pid, unix.SIGKILL)
			t.Errorf("the process of a killed test binary lives on (poll: %d, %v)", n, err)
		}
		break
	}
}
