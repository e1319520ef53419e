package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"topicast/bridge/filelock"
)

// pageSize is fixed, so that a file can be read where memory pages are larger.
const pageSize = 4096

// lockWait is how long Open waits for a process that is just ending.
const lockWait = time.Second

// The file may become 2 * MaxSize + slack by appending: a page may be half
// empty, and every commit needs free ones to write to. To remove records takes
// some as well, and must be possible when nothing can be appended.
const (
	slack       = 8 << 20
	removeSlack = 8 << 20
	growBy      = 1 << 20
)

// A file is the door to bbolt.
type file struct {
	swap   sync.RWMutex // read by those who use the file, written by those who change it
	db     *bolt.DB     // nil while there is none
	disk   *os.File     // db's
	is     os.FileInfo  // which file of all that is
	mapped int64        // bytes that are mapped, at least

	size    atomic.Int64 // bytes that must be there
	touched atomic.Int64 // bytes of the mapping used since the last release
	stuck   atomic.Bool  // db holds a lock it will never let go: it cannot be closed

	broken atomic.Pointer[brokenError] // why the committing goroutine is to replace it
}

func (s *Spool) sizeLimit() int64 { return 2*s.maxSize + slack }

// openFile opens the file or makes it. One that is damaged is moved aside first. b
// is the batch that is to be written to it, if there is one.
func (s *Spool) openFile(b *batch) error {
	db, disk, holds, err := s.openWhole()
	if err != nil {
		return err
	}
	if err := s.file.use(db, disk, s.sizeLimit()+removeSlack); err != nil {
		return err
	}
	s.adopt(b, &holds, s.timeOf(&holds), false)
	return nil
}

// adopt counts what a file holds, behind which comes what waits in memory, and goes
// by its time. copied: what was in another file is behind it too, by now.
func (s *Spool) adopt(b *batch, holds *contents, time *timeline, copied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batches := []*batch{&s.pending}
	if b != nil {
		batches = append(batches, b)
	}
	if by := s.time.become(time); by != 0 {
		s.shift.Add(int64(by))
		for _, b := range batches {
			b.shift(by)
		}
	}
	for _, c := range holds.queues {
		q := s.queue(c.name)
		first := q.next // of those in memory
		for _, b := range batches {
			first = min(first, b.first(q))
		}
		larger := c.next
		if !copied {
			larger -= min(first, c.next)
		}
		for _, b := range batches {
			b.renumber(q, larger)
		}
		q.next += larger
		q.count(c.records, c.bytes)
	}
	s.uses.Add(1)
}

// timeOf is the time that goes on in a file.
func (s *Spool) timeOf(holds *contents) *timeline {
	t := s.time.copy()
	switch {
	case holds.marked == nil:
		t.resume(holds.mark)
		return t
	case len(holds.queues) == 0:
		return t // a new file: the time goes on
	case !errors.Is(holds.marked, errUnmarked):
		s.log.Error("the spool's time is damaged; what is in it counts as if it had come just now; look at the disk's health", "file", s.path, "err", holds.marked)
	}
	t.resume(mark{at: holds.latest})
	return t
}

// openWhole opens what is at the path, or makes a file there. One that is damaged is
// moved aside first.
func (s *Spool) openWhole() (*bolt.DB, *os.File, contents, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, nil, contents{}, fmt.Errorf("make its folder: %w", err)
	}
	db, disk, holds, err := s.openVerified()
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		if err := s.setAside(broken); err != nil {
			return nil, nil, contents{}, err
		}
		db, disk, holds, err = s.openVerified()
	}
	return db, disk, holds, err
}

// openVerified opens the file and says what it holds. A [brokenError] means that
// bbolt must not, or could not, use it.
func (s *Spool) openVerified() (db *bolt.DB, disk *os.File, holds contents, err error) {
	fresh := false
	err = guard(func() error {
		options := boltOptions(s.sizeLimit() + removeSlack)
		options.OpenFile = func(path string, flag int, mode fs.FileMode) (_ *os.File, err error) {
			if disk, err = openLocked(path, flag, mode); err != nil {
				return nil, err
			}
			info, err := disk.Stat()
			if err != nil {
				return nil, err
			}
			fresh = info.Size() == 0
			if holds, err = verify(disk, info.Size()); errors.Is(err, ErrNewer) {
				return nil, err
			} else if err != nil {
				return nil, &brokenError{err}
			}
			return disk, nil
		}
		db, err = bolt.Open(s.path, 0o600, options)
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrInUse
	}
	if err != nil {
		if disk != nil {
			disk.Close() // again, where bbolt did it
			if fresh {
				os.Remove(s.path) // its first pages may be half written
			}
		}
		return nil, nil, contents{}, err
	}
	db.AllocSize = growBy
	return db, disk, holds, nil
}

// use is the beginning of a file that is open, with at least so much of it mapped.
func (f *file) use(db *bolt.DB, disk *os.File, mapped int64) (err error) {
	f.swap.Lock()
	defer f.swap.Unlock()
	if f.is, err = disk.Stat(); err != nil {
		return errors.Join(err, guard(db.Close))
	}
	f.db, f.disk = db, disk
	f.stuck.Store(false)
	f.broken.Store(nil)
	f.size.Store(f.is.Size())
	f.mapped = max(mapped, f.is.Size())
	return nil
}

// inPlace finds out whether the file is still the one at its path: it may have been
// removed or renamed, with its folder or without, or something mounted over it. What
// is written to it then is gone when the program ends.
func (f *file) inPlace(path string) error {
	there, err := os.Stat(path)
	if gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR); err != nil && !gone || err == nil && os.SameFile(there, f.is) {
		return nil // or nobody can tell
	}
	return errMoved
}

var errMoved = errors.New("the file that is open is not the one at its path any more: it was removed or renamed, or something is mounted over its folder")

func boltOptions(mapping int64) *bolt.Options {
	if runtime.GOOS == "windows" {
		mapping = 0 // there the file becomes as large as its mapping
	}
	return &bolt.Options{
		Timeout:  lockWait,
		PageSize: pageSize,
		// The default looks through all free pages for a place.
		FreelistType: bolt.FreelistMapType,
		// The list of free pages is written with every commit. Left out, it
		// would be found again by reading the whole file, in a goroutine that
		// nothing can guard against a bad sector.
		NoFreelistSync: false,
		// Room for all that may come: to enlarge a mapping waits for readers.
		InitialMmapSize: int(mapping),
		NoStatistics:    true,
	}
}

// openLocked opens a file and locks it. While it waited for the lock, the
// process that had it may have put another file in its place.
func openLocked(path string, flag int, mode fs.FileMode) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, flag, mode)
		if err != nil {
			return nil, err
		}
		// bbolt locks it once more, which is no trouble: the lock belongs to the open file.
		// It is taken before, for a file that another process writes to must not be verified.
		if err := filelock.Lock(f, lockWait); err != nil {
			f.Close()
			if errors.Is(err, filelock.ErrInUse) {
				err = ErrInUse
			}
			return nil, err
		}
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
		f.Close()
	}
}

// setAside renames a damaged file, so that it can be looked at. Only the last
// one is kept, for a bad disk may make many.
func (s *Spool) setAside(why *brokenError) error {
	aside := s.path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000Z")
	before := asides(s.path)
	if err := os.Rename(s.path, aside); err != nil {
		return fmt.Errorf("%w; it could not be moved aside: %w", why, err)
	}
	for _, old := range before {
		os.Remove(old)
	}
	s.log.Error("the spool's file was damaged: it is moved aside and a new one begun; "+
		"look at the disk's health", "file", s.path, "aside", aside, "err", why)
	return nil
}

// measure notes how large the file is, after a commit may have made it larger.
func (f *file) measure() error {
	info, err := f.disk.Stat()
	if err == nil {
		f.size.Store(info.Size())
	}
	return err
}

// check finds out whether the file is whole, as far as bbolt's locks depend on
// it: it reads the first two pages under locks that a fault would leave locked.
func (f *file) check() error {
	info, err := f.disk.Stat()
	if err != nil {
		return &brokenError{err}
	}
	if size := f.size.Load(); info.Size() < size {
		return &brokenError{fmt.Errorf("somebody cut it from %d to %d bytes", size, info.Size())}
	}
	if _, _, _, err := readMeta(f.disk); err != nil {
		return &brokenError{err}
	}
	return nil
}

// close closes the file, unless that would never return.
func (f *file) close() error {
	f.swap.Lock()
	defer f.swap.Unlock()
	if f.db == nil {
		return nil
	}
	db, disk := f.db, f.disk
	f.db, f.disk = nil, nil
	if f.stuck.Load() {
		return disk.Close()
	}
	return guard(db.Close)
}

// openHint says what to do about an error of Open.
func openHint(err error) string {
	switch {
	case errors.Is(err, ErrNewer):
		return "run that version, or move the file away to begin a new one; nothing in it is touched"
	case errors.Is(err, ErrInUse):
		return "stop it, or give this one another folder"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "let this user write there, or name another folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return "make room on its disk, or name a folder on another one"
	case errors.Is(err, syscall.ENOTDIR):
		return "name a folder"
	}
	return "look at the disk's health, or name another folder"
}
