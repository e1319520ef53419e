package plainfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// NotRegular says what is at a path in place of a regular file. It is the Err of an
// [fs.PathError].
type NotRegular struct{ Mode fs.FileMode }

func (is NotRegular) Error() string { return "no regular file, but " + kind(is.Mode) }

// Is reports whether an error says that something is at a path that is no regular file.
func Is(err error) bool {
	var is NotRegular
	return errors.As(err, &is)
}

// Open is [os.OpenFile] for regular files. Anything else is refused ([NotRegular]) without
// being opened: to open a named pipe waits until somebody else does, which may be never, and
// a device may act on it. Where it takes the place of the file just then, it is opened all the
// same, but not waited for. Symbolic links are followed.
func Open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	return open(path, flag|nonblock, perm, os.Stat)
}

// OpenOwn is Open for a file that only this program makes: a symbolic link in its place is
// refused as anything else is. Who may write to the folder could else have another file
// written to, or cut.
func OpenOwn(path string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := open(path, flag|nonblock|nofollow, perm, os.Lstat)
	if nofollow != 0 && errors.Is(err, syscall.ELOOP) {
		if info, failed := os.Lstat(path); failed == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, refuse(path, fs.ModeSymlink)
		}
	}
	return f, err
}

func open(path string, flag int, perm fs.FileMode, look func(string) (fs.FileInfo, error)) (*os.File, error) {
	if info, err := look(path); err == nil && !info.Mode().IsRegular() {
		return nil, refuse(path, info.Mode())
	}
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		f.Close()
		return nil, refuse(path, info.Mode())
	}
	return f, nil
}

func refuse(path string, mode fs.FileMode) error {
	return &fs.PathError{Op: "open", Path: path, Err: NotRegular{mode}}
}

// OpenFolder is [os.Open] for folders. Anything else is refused, with the error that the
// system has for that.
func OpenFolder(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|folder, 0) }

// kind names what is no regular file.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}
