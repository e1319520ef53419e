package spool

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"topicast/internal/lab/netlab"
)

func init() {
	children["loop mount"] = loopMount
	children["shut down"] = shutDown
}

// needsLoop skips where no file can be mounted as a disk.
func needsLoop(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil || os.Geteuid() != 0 {
		netlab.Skip(t, "needs root and mkfs.ext4")
	}
	if out, err := mountCommand(t, "loop mount").CombinedOutput(); err != nil {
		netlab.Skip(t, "no file can be mounted as a disk: %v %s", err, out)
	}
}

func loopMount(dir string) error {
	_, mounted, err := mountFile(dir)
	if err == nil {
		err = run("umount", mounted)
	}
	return err
}

// mountFile mounts a file system of 64 MiB that is in a file.
func mountFile(dir string) (disk, mounted string, err error) {
	disk, mounted = filepath.Join(dir, "disk"), filepath.Join(dir, "on")
	err = errors.Join(mountSmall(dir, "200m"), os.Mkdir(mounted, 0o700), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20))
	if err == nil {
		err = run("mkfs.ext4", "-q", "-F", disk)
	}
	if err == nil {
		err = run("mount", "-o", "loop", disk, mounted)
	}
	return disk, mounted, err
}

// A file system dies under the spool, as that of a device that is unplugged: the spool lets go
// of it, so that it can be unmounted, and goes on when it is mounted again.
func TestAFileSystemThatDiesAndIsMountedAnew(t *testing.T) {
	needsLoop(t)
	inMountNamespace(t, "shut down")
}

func shutDown(dir string) error {
	disk, mounted, err := mountFile(dir)
	if err != nil {
		return err
	}
	log := &logs{}
	s, err := Open(Options{Dir: filepath.Join(mounted, "spool"), MaxSize: 16 << 20, Logger: log.logger()})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	for i := range 100 {
		if err := appendAll(q, record(fmt.Sprintf("%d %s", i, strings.Repeat("x", 10_000)))); err != nil {
			return err
		}
	}
	root, err := os.Open(mounted)
	if err != nil {
		return err
	}
	const shutdown, withoutFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN
	flag := uint32(withoutFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, root.Fd(), shutdown, uintptr(unsafe.Pointer(&flag)))
	root.Close()
	if errno != 0 {
		return fmt.Errorf("shut the file system down: %w", errno)
	}
	safe := make(chan error, 1)
	appendSoon(q, record("100 "), func(err error) { safe <- err })
	if err := await("trouble", func() bool { return s.Err() != nil }); err != nil {
		return err
	}
	if err := await("the end of its use", func() bool { return syscall.Unmount(mounted, 0) == nil }); err != nil {
		return fmt.Errorf("%w; %w; %s", err, s.Err(), log)
	}
	time.Sleep(100 * time.Millisecond) // reads find nothing there
	if n, lost := q.Front(make([]Record, 10), 0); n != 0 || lost != (Lost{}) {
		return fmt.Errorf("%d read of a disk that is gone, lost %+v", n, lost)
	}
	if err := run("mount", "-o", "loop", disk, mounted); err != nil {
		return err
	}
	defer run("umount", "-l", mounted)
	back := time.Now()
	if err := await("its use", func() bool { return s.Err() == nil }); err != nil {
		return fmt.Errorf("%w; %w; %s", err, s.Err(), log)
	}
	fmt.Println("used again after", time.Since(back))
	if err := <-safe; err != nil {
		return err
	}
	if err := inSequence(q, 0, 100); err != nil {
		return fmt.Errorf("%w; %s", err, log)
	}
	return s.Close()
}
