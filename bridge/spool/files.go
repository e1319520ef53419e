package spool

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"topicast/internal/plainfile"
)

// files are those of the system. All that the package does to them goes through here, so
// that a test can have any of it fail, or hang, or be the last that a program does.
type files struct {
	fault func(op, path string) error // asked before each; nil: there is none
	log   *slog.Logger

	unread map[string]time.Time // files of which the disk says that they cannot be opened, and since when
}

// A file is one that is open.
type file struct {
	*os.File
	files *files
}

func (s *files) try(op, path string) error {
	if s.fault == nil {
		return nil
	}
	if err := s.fault(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// open opens a file, and nothing else that may be in its place.
func (s *files) open(path string, flag int) (*file, error) {
	if err := s.try("open", path); err != nil {
		return nil, err
	}
	return s.opened(plainfile.OpenOwn(path, flag, 0o600))
}

func (s *files) openFolder(path string) (*file, error) {
	if err := s.try("open", path); err != nil {
		return nil, err
	}
	return s.opened(plainfile.OpenFolder(path))
}

func (s *files) opened(f *os.File, err error) (*file, error) {
	if err != nil {
		return nil, err
	}
	return &file{f, s}, nil
}

// clear sees to it that a file can be made or replaced at a path: what is no regular one is
// moved aside, whatever it is, and told of.
func (s *files) clear(path string) error {
	info, err := s.lstat(path)
	if err != nil || info.Mode().IsRegular() {
		return nil // what is wrong shows when it is opened
	}
	aside := path + ".aside-" + time.Now().UTC().Format(asideTime)
	if err := s.rename(path, aside); err != nil {
		return err
	}
	s.log.Error("something was in the place of a file of the spool: it was moved aside, and the spool goes on; see who put it there, and remove it",
		"file", path, "aside", aside, "err", plainfile.NotRegular{Mode: info.Mode()})
	return nil
}

// asideTime is how the name of what was moved aside says when that was.
const asideTime = "20060102T150405.000Z"

func (s *files) stat(path string) (fs.FileInfo, error) {
	if err := s.try("stat", path); err != nil {
		return nil, err
	}
	return os.Stat(path)
}

// lstat is stat of a symbolic link itself.
func (s *files) lstat(path string) (fs.FileInfo, error) {
	if err := s.try("stat", path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

func (s *files) list(dir string) ([]fs.DirEntry, error) {
	if err := s.try("list", dir); err != nil {
		return nil, err
	}
	return os.ReadDir(dir)
}

func (s *files) remove(path string) error {
	if err := s.try("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

func (s *files) rename(from, to string) error {
	if err := s.try("rename", from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// makeDir makes a folder, for this user only, if it is not there.
func (s *files) makeDir(dir string) error {
	if info, err := s.stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := s.try("mkdir", dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(dir))
}

// syncDir has the names in a folder be safe.
func (s *files) syncDir(dir string) error {
	d, err := s.openFolder(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	if pe, ok := err.(*os.PathError); ok && (pe.Err == syscall.EINVAL || pe.Err == syscall.ENOTSUP) {
		return nil // there are file systems that know no such thing
	}
	return err
}

// samePath reports whether an open folder is the one at a path; true, too, if nobody can tell.
func (s *files) samePath(f *file, path string) bool { return s.same(f, path, s.stat) }

// sameFile is samePath for a file, to which no symbolic link leads.
func (s *files) sameFile(f *file, path string) bool { return s.same(f, path, s.lstat) }

func (s *files) same(f *file, path string, look func(string) (fs.FileInfo, error)) bool {
	there, err := look(path)
	if err != nil {
		return !gone(err)
	}
	is, err := f.Stat()
	return err != nil || os.SameFile(there, is)
}

// partSuffix is that of a file that is not yet what it will be.
const partSuffix = ".part"

// replace makes a file, has fill write it, and puts it at a path when it is safe.
func (s *files) replace(path string, fill func(*file) error) (*file, error) {
	part := path + partSuffix
	if err := errors.Join(s.clear(part), s.clear(path)); err != nil {
		return nil, err
	}
	f, err := s.open(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if errors.Is(err, fs.ErrPermission) && s.remove(part) == nil { // another user's
		f, err = s.open(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	}
	if err != nil {
		return nil, err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close()) // there are systems that rename no file that is open
	if err == nil {
		err = s.rename(part, path)
	}
	if err == nil {
		err = s.syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = s.remove(part)
		return nil, err
	}
	return s.open(path, os.O_RDWR)
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	if err := f.files.try("read", f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if err := f.files.try("write", f.Name()); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

func (f *file) Write(b []byte) (int, error) {
	if err := f.files.try("write", f.Name()); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *file) Sync() error {
	if err := f.files.try("sync", f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *file) Truncate(size int64) error {
	if err := f.files.try("truncate", f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.files.try("stat", f.Name()); err != nil {
		return nil, err
	}
	return f.File.Stat()
}
