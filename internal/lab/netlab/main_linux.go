package netlab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The state of a process is in its environment, because it has to pass from a
// test binary to the copies of itself that it starts.
const (
	stateVar = "NETLAB_STATE"
	entering = "entering"  // started by Enter, file descriptor 3 is the report
	inside   = "inside"    // in a namespace of its own, or started by one that is
	outside  = "outside: " // no namespaces to be had; then the reason
	joining  = "joining: " // started by Host.Command; then the namespace's path
)

// Tests is what [testing.M] offers to Main.
type Tests interface{ Run() int }

// Main runs the tests in a new network namespace, as the root of a new user
// namespace unless they have root's powers already, and exits with their
// result. It is meant to be all of a TestMain. Beside another that wants to be,
// such as testscript's, use its two halves:
//
//	func TestMain(m *testing.M) {
//		netlab.Join()
//		testscript.Main(netlab.Enter(m), …)
//	}
func Main(m Tests) {
	Join()
	os.Exit(Enter(m).Run())
}

// Enter wraps m so that its Run happens in the new namespace: Run starts the
// test binary once more with the same arguments and standard streams, and
// returns its exit code. In the second process Run is m's own.
func Enter(m Tests) Tests { return entry{m} }

type entry struct{ tests Tests }

func (e entry) Run() int {
	switch state := os.Getenv(stateVar); {
	case state == entering:
		report := os.NewFile(3, "netlab report")
		if err := usable(); err != nil {
			fmt.Fprint(report, err)
			return 1
		}
		os.Setenv(stateVar, inside)
		report.Close()
		return e.tests.Run()
	case state != "":
		return e.tests.Run()
	}
	code, err := again()
	if err != nil {
		os.Setenv(stateVar, outside+err.Error())
		return e.tests.Run()
	}
	return code
}

// again runs this program again in new namespaces. The error says why there
// are none to be had; the tests have not run then.
func again() (code int, err error) {
	// With real root powers a user namespace would only take some away: large
	// socket buffers, for one, need the first namespace's CAP_NET_ADMIN.
	code, asRoot := onceMore(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	if asRoot == nil {
		return code, nil
	}
	code, asUser := onceMore(&syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNET | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	})
	if asUser == nil {
		return code, nil
	}
	return 0, fmt.Errorf("as this user: %w; in a user namespace: %w", asRoot, asUser)
}

// onceMore is one try of again.
func onceMore(attr *syscall.SysProcAttr) (code int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	report, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stateVar+"="+entering)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = attr
	// The death signal comes when the thread that forked ends (prctl(2),
	// PR_SET_PDEATHSIG), hence the lock.
	attr.Pdeathsig = unix.SIGKILL
	err = cmd.Start()
	write.Close()
	if err != nil {
		return 0, err
	}
	defer passOnSignals(cmd.Process)()
	reason, err := io.ReadAll(report)
	waitErr := cmd.Wait()
	switch {
	case err != nil:
		return 0, err
	case len(reason) > 0:
		return 0, errors.New(string(reason))
	case waitErr == nil:
		return 0, nil
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	fmt.Fprintln(os.Stderr, "netlab: the tests ended with", cmd.ProcessState)
	return 1, nil
}

// passOnSignals passes those that ask for an end on to a process until stop is
// called: go test ends a run that takes too long with SIGQUIT, to get the stacks.
func passOnSignals(to *os.Process) (stop func()) {
	signals, done := make(chan os.Signal, 4), make(chan struct{})
	signal.Notify(signals, unix.SIGQUIT, unix.SIGTERM, unix.SIGINT)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = to.Signal(s) // fails only if it has gone already
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// usable finds out whether the new namespaces give the powers they should.
// Some systems let anybody make a user namespace and then allow nothing in it.
func usable() error {
	space, err := newNamespace()
	if err != nil {
		return err
	}
	defer space.close()
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return fmt.Errorf("the kernel has no IPv6: %w", err)
	}
	return nil
}

// Join is the first half of [Main]: in a process started through
// [Host.Command] it enters the host's namespace and becomes the command. In
// any other it does nothing.
func Join() {
	path, found := strings.CutPrefix(os.Getenv(stateVar), joining)
	if !found {
		return
	}
	os.Setenv(stateVar, inside)
	err := become(path, os.Args)
	fmt.Fprintf(os.Stderr, "netlab: run %s: %v\n", os.Args[0], err)
	os.Exit(127)
}

// become turns this process into the command args in the network namespace at
// path.
func become(path string, args []string) error {
	// The thread that calls execve is the one that goes on.
	runtime.LockOSThread()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	mountSys()
	return unix.Exec(args[0], args, os.Environ())
}

// mountSys gives the calling thread a /sys of its own: a sysfs shows the
// interfaces of the namespace it was mounted in. Some containers forbid that;
// then /sys/class/net shows another host's interfaces. The control groups stay
// where a program looks for its own limits.
func mountSys() {
	if unix.Unshare(unix.CLONE_NEWNS) != nil {
		return
	}
	if unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") != nil {
		return
	}
	const groups = "/sys/fs/cgroup"
	before, err := unix.Open(groups, unix.O_PATH|unix.O_CLOEXEC, 0)
	if unix.Mount("sysfs", "/sys", "sysfs", 0, "") == nil && err == nil {
		_ = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", before), groups, "", unix.MS_BIND|unix.MS_REC, "")
	}
}
