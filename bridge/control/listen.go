package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"topicast/bridge/filelock"
	"topicast/internal/plainfile"
)

// ErrInUse is that another program listens at the socket.
var ErrInUse = errors.New("another program listens there, perhaps another topicast")

// socketMode lets the user and the group of the program connect, and root.
const socketMode = 0o660

// socket is a unix socket that is removed when it is closed, unless another program has put one of
// its own in its place.
type socket struct {
	*net.UnixListener
	path string
	is   fs.FileInfo
}

// folderMode is that of a folder that is made for it: whoever may use the socket has to get there.
const folderMode = 0o750

// folderPatience is how long is waited for another program that is opening a socket in the folder.
const folderPatience = 2 * time.Second

// listen opens the socket. One that a program has left that is no more is replaced. The folder is
// made, for the user and the group of the program, if the one above is there.
func listen(path string) (*socket, error) {
	dir := filepath.Dir(path)
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("make the folder of the control socket: %w", err)
	}
	// Of two that start at a time one would else remove the socket of the other as one that was left.
	folder, err := plainfile.OpenFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer folder.Close()
	if err := filelock.Lock(folder, folderPatience); err != nil {
		return nil, fmt.Errorf("control socket: lock the folder %s: %w", dir, err)
	}
	l, err := listenUnix(path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		l, err = listenUnix(path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	s := &socket{UnixListener: l, path: path}
	if err = os.Chmod(path, socketMode); err == nil {
		s.is, err = os.Lstat(path)
	}
	if err != nil {
		l.Close()
		os.Remove(path)
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return s, nil
}

// listenUnix opens a socket which nobody else may connect to from the start, where the kernel takes the
// mode of the file from that of the socket (Linux), less the umask.
func listenUnix(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = fchmod(fd, socketMode) })
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// makeFolder makes a folder, whatever the umask. One that is there is left as it is.
func makeFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return os.Chmod(dir, folderMode)
	case errors.Is(err, fs.ErrExist):
		return nil
	}
	return err
}

// removeStale removes what a program has left that is no more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("control socket %s: there is a file of that name, and it is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("control socket %s: %w", path, ErrInUse)
	case !errors.Is(err, syscall.ECONNREFUSED): // such as EAGAIN, of one whose backlog is full
		return fmt.Errorf("control socket %s: %w (%w)", path, ErrInUse, err)
	}
	return os.Remove(path)
}

// Close closes and removes the socket.
func (s *socket) Close() error {
	if is, err := os.Lstat(s.path); err == nil && os.SameFile(is, s.is) {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
