//go:build unix

package plainfile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// others are what may be in the place of a file.
func others(t *testing.T) map[string]func(path string) error {
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]func(path string) error{
		"a pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"a symbolic link": func(path string) error { return os.Symlink(target, path) },
		"a device":        func(path string) error { return os.Symlink(os.DevNull, path) }, // to make one takes root
		"a socket": func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				l.Close()
			}
			return err
		},
	}
}

// Nothing but a regular file is opened, and nothing is waited for.
func TestWhatIsInThePlaceOfAFileIsRefused(t *testing.T) {
	for is, make := range others(t) {
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_TRUNC} {
			path := filepath.Join(t.TempDir(), "file")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path, flag, 0o600)
			if followed := is == "a symbolic link"; followed != (err == nil) || !followed && !strings.HasSuffix(err.Error(), "no regular file, but "+is) {
				t.Errorf("%s, flag %#x: %v", is, flag, err)
			}
			itself := is
			if is == "a device" {
				itself = "a symbolic link"
			}
			_, err = OpenOwn(path, flag, 0o600)
			if !Is(err) || !strings.HasSuffix(err.Error(), "no regular file, but "+itself) {
				t.Errorf("%s, flag %#x: %v", is, flag, err)
			}
		}
	}
}

// What takes the place of a file after it was looked at is neither waited for nor followed.
func TestWhatTakesThePlaceOfAFileMeanwhileIsRefused(t *testing.T) {
	for is, make := range others(t) {
		path := filepath.Join(t.TempDir(), "file")
		late := func(string) (fs.FileInfo, error) { return nil, errors.Join(fs.ErrNotExist, make(path)) }
		for flag, name := range map[int]string{os.O_RDONLY: "to read", os.O_WRONLY: "to write", os.O_RDWR | os.O_CREATE: "to make it"} {
			if f, err := open(path, flag|nonblock|nofollow, 0o600, late); err == nil {
				f.Close()
				t.Errorf("%s, opened %s", is, name)
			}
		}
	}
}

func TestAFileAndAFolderAreOpened(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, open := range []func(string, int, fs.FileMode) (*os.File, error){Open, OpenOwn} {
		f, err := open(path, os.O_RDWR|os.O_CREATE, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Mode() != 0o640 {
			t.Error(info, err)
		}
		f.Close()
	}
	d, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, pipe} {
		if _, err := OpenFolder(path); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
