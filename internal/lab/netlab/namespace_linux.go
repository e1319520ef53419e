package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A namespace is a network namespace, kept alive by its open file.
type namespace struct{ file *os.File }

// newNamespace makes an empty one. The caller's own stays as it is.
func newNamespace() (namespace, error) {
	var space namespace
	err := visit(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		var err error
		space.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return space, err
}

// do runs f on a thread inside the namespace.
func (n namespace) do(f func() error) error {
	return visit(func() error {
		// Not Fd: should the lab be taken down in this moment, the number may be another
		// file's by now.
		raw, err := n.file.SyscallConn()
		if err == nil {
			if e := raw.Control(func(fd uintptr) { err = unix.Setns(int(fd), unix.CLONE_NEWNET) }); e != nil {
				err = e
			}
		}
		if err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

func (n namespace) close() { n.file.Close() }

var errGone = errors.New("function ended its goroutine (t.Fatal belongs in the test's own)")

// visit runs f on a thread of its own that f may move to another network
// namespace. Afterwards the thread is brought home before Go may use it for
// anything else; one that cannot go home is never used again.
//
// It is brought home rather than always thrown away because the processes a
// thread has started die with it (see Pdeathsig), and Go starts processes from
// any thread.
func visit(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		// Not /proc/self: that is the main thread, which may be visiting.
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			result <- err
			return
		}
		err = errGone
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
			result <- err
		}()
		err = f()
	}()
	return <-result
}

// loopbackUp sets lo up in the namespace of the calling thread.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
