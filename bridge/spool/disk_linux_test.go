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

	"topicast/internal/lab/netlab"
)

func init() {
	children["full"] = fullDisk
	children["full, drained"] = fullDiskDrained
	children["read-only"] = readOnlyFolder
	children["other user"] = otherUser
	children["nothing"] = func(string) error { return nil }
}

// inMountNamespace runs a child where it may mount what nobody else sees.
func inMountNamespace(t *testing.T, child string) {
	t.Helper()
	if out, err := mountCommand(t, "nothing").CombinedOutput(); err != nil {
		netlab.Skip(t, "no mount namespace to be had: %v %s", err, out)
	}
	if out, err := mountCommand(t, child).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func mountCommand(t *testing.T, child string) *exec.Cmd {
	cmd := childCommand(t, child, t.TempDir())
	cmd.Stderr = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}

// mountSmall mounts a disk of that size on dir.
func mountSmall(dir, size string) error {
	return errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
}

func TestAFullDiskIsLivedWith(t *testing.T) { inMountNamespace(t, "full") }

func fullDisk(dir string) error {
	if err := mountSmall(dir, "4m"); err != nil {
		return err
	}
	log := &logs{}
	s, err := Open(Options{Dir: dir, MaxSize: 64 << 20, Logger: log.logger(), retry: time.Millisecond})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	taken, safe := 0, make(chan error, 10000)
	for s.Err() == nil && taken < cap(safe) {
		// The first are on disk before there are more than it takes, also where appending is
		// faster than the first commit.
		for end := time.Now().Add(20 * time.Second); taken == 40 && len(safe) < taken; time.Sleep(time.Millisecond) {
			if s.Err() != nil || time.Now().After(end) {
				return fmt.Errorf("%d of %d on disk: %w", len(safe), taken, s.Err())
			}
		}
		if _, ok := q.Append(record(fmt.Sprintf("%d %s", taken, strings.Repeat("x", 20000))), func(err error) { safe <- err }); ok {
			taken++
		}
	}
	if !errors.Is(s.Err(), syscall.ENOSPC) {
		return fmt.Errorf("%d taken: %w", taken, s.Err())
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "make room on its disk") {
		return fmt.Errorf("%d lines of log: %s", n, log)
	}
	// What is on disk can be read, and let go of. That makes room for some more, unless what
	// is free in the file was never written to: then the disk has no place for it.
	before := len(safe)
	dst := make([]Record, min(before/2, 40)) // no more than Front gives at once
	n, _ := q.Front(dst, 0)
	if n != len(dst) {
		return fmt.Errorf("%d on disk, and %d can be read", before, n)
	}
	q.Remove(n)
	for end := time.Now().Add(2 * time.Second); len(safe) == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	// Somebody makes room.
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=64m"); err != nil {
		return err
	}
	for range taken {
		if err := <-safe; err != nil {
			return fmt.Errorf("append: %w", err)
		}
	}
	if q.Len() != taken-n {
		return fmt.Errorf("%d records, want %d", q.Len(), taken-n)
	}
	if s.Err() != nil || !strings.Contains(log.String(), "can be used again") {
		return fmt.Errorf("%w, log: %s", s.Err(), log)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(Options{Dir: dir, MaxSize: 64 << 20}); err != nil {
		return err
	}
	defer s.Close()
	return inSequence(s.Queue("rule"), n, taken-1)
}

// A full disk becomes free again by what is removed, without anybody's help.
func TestAFullDiskBecomesFreeByWhatIsRemoved(t *testing.T) { inMountNamespace(t, "full, drained") }

func fullDiskDrained(dir string) error {
	if err := mountSmall(dir, "4m"); err != nil {
		return err
	}
	s, err := Open(Options{Dir: dir, MaxSize: 64 << 20, retry: time.Millisecond})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	for i := 0; s.Err() == nil && i < 100_000; i++ {
		q.Append(record(strings.Repeat("x", 20000)), nil)
	}
	if s.Err() == nil {
		return errors.New("the disk is not full")
	}
	dst := make([]Record, 1)
	return await("room", func() bool {
		n, _ := q.Front(dst, 0)
		q.Remove(n)
		return q.Len() == 0 && s.Err() == nil
	})
}

func TestAFolderThatCannotBeWrittenIsNamed(t *testing.T) { inMountNamespace(t, "read-only") }

func readOnlyFolder(dir string) error {
	if err := mountSmall(dir, "16m"); err != nil {
		return err
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := openFails(dir, "read-only file system; let this user write there, or name another folder"); err != nil {
		return err
	}
	if err := openFails(filepath.Join(dir, "new"), "read-only file system; let this user write there, or name another folder"); err != nil {
		return err
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=4k"); err != nil {
		return err
	}
	return openFails(dir, "no space left on device; make room on its disk, or name a folder on another one")
}

func TestAFolderOfAnotherUserIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		netlab.Skip(t, "only root can run a process as another user")
	}
	dir := t.TempDir()
	cmd := childCommand(t, "other user", dir)
	// Where the test binary lies is not for others to look at.
	cmd.Path = "/proc/self/exe"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

func otherUser(dir string) error {
	return openFails(dir, "permission denied; let this user write there, or name another folder")
}

func TestAFileInPlaceOfTheFolderIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openFails(dir, "not a directory; name a folder"); err != nil {
		t.Error(err)
	}
}

func TestTheFolderAndTheFileAreForThisUserOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "topicast")
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
	appendNow(t, s.Queue("rule"), record("x"))
	wants := map[string]os.FileMode{dir: 0o700}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		wants[f] = 0o600
	}
	for path, want := range wants {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}
