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

	"topicast/bridge/netlab"
)

func init() {
	children["full"] = fullDisk
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
	s, err := Open(Options{Dir: dir, MaxSize: 64 << 20, Logger: log.logger()})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	kept, failed := 0, 0
	for i := range 1000 {
		err := appendAll(q, record(fmt.Sprintf("%d %s", i, strings.Repeat("x", 20000))))
		switch {
		case err == nil:
			kept++
		case errors.Is(err, syscall.ENOSPC):
			failed++
		default:
			return fmt.Errorf("append: %w", err)
		}
	}
	if kept < 50 || failed < 100 || q.Len() != kept {
		return fmt.Errorf("%d kept, %d failed, %d in the queue", kept, failed, q.Len())
	}
	if n := strings.Count(log.String(), "\n"); n > 10 || !strings.Contains(log.String(), "make room on its disk") {
		return fmt.Errorf("%d lines of log: %s", n, log)
	}
	// Somebody makes room.
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=32m"); err != nil {
		return err
	}
	if err := appendAll(q, record("last x")); err != nil {
		return fmt.Errorf("append after room was made: %w", err)
	}
	if !strings.Contains(log.String(), "works again") {
		return fmt.Errorf("log: %s", log)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(Options{Dir: dir, MaxSize: 64 << 20}); err != nil {
		return err
	}
	defer s.Close()
	if s.Len() != kept+1 {
		return fmt.Errorf("%d records after a restart, %d were kept", s.Len(), kept+1)
	}
	return nil
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

// openFails says what is wrong with the error of Open.
func openFails(dir, want string) error {
	s, err := Open(Options{Dir: dir, MaxSize: 1 << 20})
	if err == nil {
		return errors.Join(fmt.Errorf("%s was opened", dir), s.Close())
	}
	if !strings.Contains(err.Error(), dir) || !strings.HasSuffix(err.Error(), want) {
		return fmt.Errorf("got  %w\nwant … %s: … %s", err, dir, want)
	}
	return nil
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
	for path, want := range map[string]os.FileMode{dir: 0o700, s.path: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}
