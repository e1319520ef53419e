package spool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// files are those of the system. All that the package does to them goes through here, so
// that a test can have any of it fail, or hang, or be the last that a program does.
type files struct {
	fault func(op, path string) error // asked before each; nil: there is none
}

// A file is one that is open.
type file struct {
	*os.File
	files *files
}

// errNoFile says that there is something else in place of a file: a pipe, a device.
var errNoFile = errors.New("not a regular file")

func (s *files) try(op, path string) error {
	if s.fault == nil {
		return nil
	}
	if err := s.fault(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// open opens a file. It does not wait for the other end of a pipe.
func (s *files) open(path string, flag int) (*file, error) {
	f, err := s.openAny(path, flag|syscall.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if info, err := f.File.Stat(); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoFile}
	}
	return f, nil
}

func (s *files) openAny(path string, flag int) (*file, error) {
	if err := s.try("open", path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{f, s}, nil
}

// read reads a whole file.
func (s *files) read(path string) (content []byte, err error) {
	f, err := s.open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := s.try("read", path); err != nil {
		return nil, err
	}
	return io.ReadAll(f.File)
}

func (s *files) stat(path string) (fs.FileInfo, error) {
	if err := s.try("stat", path); err != nil {
		return nil, err
	}
	return os.Stat(path)
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
	d, err := s.openAny(dir, os.O_RDONLY)
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

// samePath reports whether an open file is the one at a path; true, too, if nobody can tell.
func (s *files) samePath(f *file, path string) bool {
	there, err := s.stat(path)
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
	f, err := s.open(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
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
