//go:build unix

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inTheWay is what may be put in the place of a file.
var inTheWay = map[string]func(path string) error{
	"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
	"a folder": func(path string) error {
		return os.MkdirAll(filepath.Join(path, "with", "something"), 0o700)
	},
	"a symbolic link": func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "another"), path) },
	"a socket": func(path string) error {
		dir, err := os.MkdirTemp("", "s") // the path of one that is bound may not be long
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		bound := filepath.Join(dir, "s")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return errors.Join(l.Close(), os.Rename(bound, path))
	},
}

const another = "of somebody else, and not to be touched"

// severalSegments makes a spool of several segments in dir, and returns what is in it.
func severalSegments(t *testing.T, dir string) (s *Spool, payloads []string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "another"), []byte(another), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, MaxSize: 8 << 20, retry: time.Millisecond})
	for i := range 20 {
		payloads = append(payloads, fmt.Sprint(i, strings.Repeat(" x", 20_000)))
	}
	var records []Record
	for _, p := range payloads {
		records = append(records, record(p))
	}
	appendNow(t, s.Queue("rule"), records...)
	return s, payloads
}

// takeSome takes all of the queue, and wants the payloads in their order, but for those that
// count as lost.
func takeSome(t *testing.T, s *Spool, payloads []string) (lost int) {
	t.Helper()
	got, lost := takeDamaged(t, "what is there", s.Queue("rule"))
	missing := 0
	for _, p := range payloads {
		if len(got) > 0 && got[0] == p {
			got = got[1:]
		} else {
			missing++
		}
	}
	if len(got) > 0 || missing != lost {
		t.Errorf("%d are missing, %d count as lost; %d that were not to come", missing, lost, len(got))
	}
	return lost
}

// Whatever is in the place of a file of the spool at its start: it is not waited for, not
// followed, and told of once; what cannot be read counts as lost, and the rest is there.
func TestWhatIsInThePlaceOfAFileHoldsNothingUp(t *testing.T) {
	names := map[string]func(dir string) []string{
		"a segment":        func(dir string) []string { return all(dir, "spool-0*")[1:2] },
		"the last segment": func(dir string) []string { return all(dir, "spool-0*")[len(all(dir, "spool-0*"))-1:] },
		"all segments":     func(dir string) []string { return all(dir, "spool-0*") },
		"no segment":       func(dir string) []string { return []string{filepath.Join(dir, segmentName(1<<20, 7))} },
		"a state":          func(dir string) []string { return []string{statePath(dir, 0)} },
		"the lock":         func(dir string) []string { return []string{lockPath(dir)} },
		"a new state":      func(dir string) []string { return []string{statePath(dir, 1) + partSuffix} },
		"an old file":      func(dir string) []string { return []string{filepath.Join(dir, oldName)} },
		"a taken old file": func(dir string) []string { return []string{filepath.Join(dir, takingPrefix+"0000000000000000")} },
	}
	for is, put := range inTheWay {
		for name, paths := range names {
			t.Run(is+" in place of "+name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				s, payloads := severalSegments(t, dir)
				closeNow(t, s)
				segments := len(all(dir, "spool-0*"))
				for _, path := range paths(dir) {
					if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
					if err := put(path); err != nil {
						t.Fatal(err)
					}
				}
				for try := range 2 { // at the next start, too
					log := &logs{}
					s = open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger(), retry: time.Millisecond})
					if s.Err() != nil {
						t.Fatal(s.Err())
					}
					fresh := fmt.Sprint("fresh ", try)
					appendNow(t, s.Queue("rule"), record(fresh))
					payloads = append(payloads, fresh)
					lost := takeSome(t, s, payloads)
					payloads = nil
					if want := strings.HasSuffix(name, "segment") && name != "no segment" || name == "all segments"; try == 0 && want != (lost > 0) {
						t.Errorf("%d lost of %d segments", lost, segments)
					}
					closeNow(t, s)
					told := strings.Count(log.String(), "no regular file, but "+is)
					lines := strings.Count(log.String(), "level=ERROR")
					// A part that is not finished is removed, if that can be.
					if once := try == 0 && (name != "a new state" || is == "a folder"); once && told != 1 || told > 1 || lines != told {
						t.Errorf("start %d, told %d times: %s", try, told, log)
					}
				}
				if content, err := os.ReadFile(filepath.Join(dir, "another")); string(content) != another {
					t.Errorf("%q, %v", content, err)
				}
			})
		}
	}
}

// The same while it is in use: what it has open it puts elsewhere, and nothing is lost.
func TestWhatTakesThePlaceOfAFileInUseHoldsNothingUp(t *testing.T) {
	for is, put := range inTheWay {
		t.Run(is, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first, payloads := severalSegments(t, dir)
			closeNow(t, first)
			log := &logs{}
			s := open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger(), retry: time.Millisecond})
			paths := append(all(dir, "spool-0*"), statePath(dir, 0), statePath(dir, 1), lockPath(dir))
			for _, path := range paths {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			paths = append(paths, statePath(dir, 0)+partSuffix, statePath(dir, 1)+partSuffix, filepath.Join(dir, segmentName(1<<20, 7)))
			for _, path := range paths {
				if err := put(path); err != nil {
					t.Fatal(err)
				}
			}
			waitFor(t, "new files", func() bool {
				var is []bool
				for _, path := range paths[len(paths)-6 : len(paths)-3] {
					info, err := os.Lstat(path)
					is = append(is, err == nil && info.Mode().IsRegular())
				}
				return !slices.Contains(is, false) && s.Err() == nil
			})
			appendNow(t, s.Queue("rule"), record("fresh"))
			closeNow(t, s)
			s = open(t, Options{Dir: dir, MaxSize: 8 << 20, retry: time.Millisecond})
			if lost := takeSome(t, s, append(payloads, "fresh")); lost > 0 {
				t.Errorf("%d lost; %s", lost, log)
			}
			for _, path := range paths[:len(paths)-6] {
				if _, err := os.Lstat(path); err != nil { // where nothing has to be, it is left
					t.Error(err)
				}
			}
			if content, err := os.ReadFile(filepath.Join(dir, "another")); string(content) != another {
				t.Errorf("%q, %v", content, err)
			}
		})
	}
}

// A file that this user may not open is left out, where the rest says what was in it. It does
// not come back as if nobody had been told that it is lost.
func TestAFileOfAnotherUserHoldsNothingUp(t *testing.T) {
	for name, c := range map[string]struct {
		denies func(dir string) func(path string) bool
		waits  bool // until it can be opened: else all would come twice, or two would use it
		lost   bool
	}{
		"a segment": {denies: func(dir string) func(string) bool {
			g := all(dir, "spool-0*")[1]
			return func(path string) bool { return path == g }
		}, lost: true},
		"a state": {denies: func(dir string) func(string) bool { return func(path string) bool { return path == statePath(dir, 0) } }},
		"both states": {denies: func(string) func(string) bool {
			return func(p string) bool { return strings.HasSuffix(p, ".v3") && strings.Contains(p, "state") }
		}, waits: true},
		"the lock": {denies: func(dir string) func(string) bool { return func(path string) bool { return path == lockPath(dir) } }, waits: true},
		"a new state": {denies: func(dir string) func(string) bool {
			part := statePath(dir, 0) + partSuffix
			return func(path string) bool {
				return path == part && os.WriteFile(part, []byte("x"), 0o600) == nil
			}
		}},
		"an old file": {denies: func(dir string) func(string) bool {
			old := filepath.Join(dir, oldName)
			if err := os.WriteFile(old, []byte("x"), 0o600); err != nil {
				panic(err)
			}
			return func(path string) bool { return path == old }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, disk, log := t.TempDir(), new(faults), &logs{}
			s, payloads := severalSegments(t, dir)
			closeNow(t, s)
			denied := c.denies(dir)
			replaced := ""
			disk.are(func(op, path string) error {
				switch {
				case op == "rename":
					replaced = strings.TrimSuffix(path, partSuffix)
				case op == "remove":
					replaced = path
				case op == "open" && denied(path) && path != replaced:
					return syscall.EACCES
				}
				return nil
			})
			s = open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger(), files: disk.files(), retry: time.Millisecond})
			if c.waits {
				if s.Err() == nil {
					t.Error("it is used")
				}
				disk.are(nil)
				waitFor(t, "its use", func() bool { return s.Err() == nil })
			}
			if s.Err() != nil {
				t.Fatal(s.Err())
			}
			if lost := takeSome(t, s, payloads); c.lost != (lost > 0) {
				t.Errorf("%d lost", lost)
			}
			told := strings.Count(log.String(), fs.ErrPermission.Error())
			if silent := strings.HasSuffix(name, "state"); silent != (told == 0) || told > 1 { // the other one says the same, and this one is made anew
				t.Errorf("log: %s", log)
			}
			closeNow(t, s)
			if c.lost { // nor after a start at which nothing is left of the queue
				closeNow(t, open(t, Options{Dir: dir, MaxSize: 8 << 20, files: disk.files()}))
			}
			disk.are(nil)
			if err := os.Remove(filepath.Join(dir, oldName)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			s = open(t, Options{Dir: dir, MaxSize: 8 << 20, retry: time.Millisecond})
			appendNow(t, s.Queue("rule"), record("fresh"))
			takeSome(t, s, []string{"fresh"})
		})
	}
}

// A segment that may be read, and not written to, is read; what comes goes to another one.
func TestASegmentThatMayOnlyBeReadIsRead(t *testing.T) {
	dir, disk, log := t.TempDir(), new(faults), &logs{}
	s, payloads := severalSegments(t, dir)
	closeNow(t, s)
	asked := map[string]int{}
	disk.are(func(op, path string) error {
		if op == "open" && strings.HasPrefix(filepath.Base(path), "spool-0") {
			if asked[path]++; asked[path] == 1 { // to write
				return syscall.EACCES
			}
		}
		return nil
	})
	s = open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger(), files: disk.files()})
	disk.are(nil)
	appendNow(t, s.Queue("rule"), record("fresh"))
	if lost := takeSome(t, s, append(payloads, "fresh")); lost > 0 || log.String() != "" {
		t.Errorf("%d lost, log: %s", lost, log)
	}
}

// What is in the place of the last segment is not cut, also where it is a file: nothing in it
// says that it is of the spool.
func TestAFileThatIsNotOfTheSpoolIsNotCut(t *testing.T) {
	dir := t.TempDir()
	s, payloads := severalSegments(t, dir)
	closeNow(t, s)
	if err := os.Link(filepath.Join(dir, "another"), filepath.Join(dir, segmentName(1<<20, 7))); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, MaxSize: 8 << 20})
	appendNow(t, s.Queue("rule"), record("fresh"))
	if lost := takeSome(t, s, append(payloads, "fresh")); lost > 0 {
		t.Errorf("%d lost", lost)
	}
	if content, err := os.ReadFile(filepath.Join(dir, "another")); string(content) != another {
		t.Errorf("%q, %v", content, err)
	}
}

// A segment that cannot be deleted keeps the spool from nothing, and what is in it does not come
// again: not even at the start after the next.
func TestASegmentThatCannotBeDeletedBringsNothingTwice(t *testing.T) {
	dir, disk, log := t.TempDir(), new(faults), &logs{}
	first, payloads := severalSegments(t, dir)
	closeNow(t, first)
	kept := all(dir, "spool-0*")
	disk.are(func(op, path string) error {
		if op == "remove" && slices.Contains(kept, path) {
			return syscall.EPERM
		}
		return nil
	})
	for range 3 {
		s := open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger(), files: disk.files(), retry: time.Millisecond})
		takeSome(t, s, payloads)
		payloads = nil
		other := s.Queue("other")
		for range 3 { // and all that is removed is tidied up
			appendNow(t, other, record("x"))
			oldest(t, other, 1)
			other.Remove(1)
		}
		waitFor(t, "the log", func() bool { return strings.Contains(log.String(), "cannot be removed") })
		if s.Err() != nil {
			t.Error(s.Err())
		}
		closeNow(t, s)
		if n := strings.Count(log.String(), "level="); n != 1 {
			t.Errorf("log: %s", log)
		}
		log = &logs{}
	}
	if len(all(dir, "spool-0*")) < len(kept) {
		t.Error("they were deleted")
	}
}

// What could not be opened at one start and can at the next is there again, in its order, as far
// as it was not its turn meanwhile.
func TestWhatWasLeftOutIsThereAgainInItsPlace(t *testing.T) {
	dir, disk := t.TempDir(), new(faults)
	s, payloads := severalSegments(t, dir)
	closeNow(t, s)
	segments := all(dir, "spool-0*")
	disk.are(func(op, path string) error {
		if op == "open" && slices.Contains(segments[len(segments)-2:], path) {
			return syscall.EACCES
		}
		return nil
	})
	s = open(t, Options{Dir: dir, MaxSize: 8 << 20, files: disk.files()})
	appendNow(t, s.Queue("rule"), record("fresh"))
	closeNow(t, s)
	s = open(t, Options{Dir: dir, MaxSize: 8 << 20})
	if lost := takeSome(t, s, append(payloads, "fresh")); lost > 0 {
		t.Errorf("%d lost", lost)
	}
}

// A symbolic link that leads to the file itself would not be followed at the next start.
func TestAFileThatBecomesALinkIsMadeAnew(t *testing.T) {
	dir, log := t.TempDir(), &logs{}
	first, payloads := severalSegments(t, dir)
	closeNow(t, first)
	s := open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger(), retry: time.Millisecond})
	elsewhere := t.TempDir()
	paths := append(all(dir, "spool-0*")[:1], statePath(dir, 0), lockPath(dir))
	for _, path := range paths {
		to := filepath.Join(elsewhere, filepath.Base(path))
		if err := errors.Join(os.Rename(path, to), os.Symlink(to, path)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "new files", func() bool {
		return !slices.ContainsFunc(paths[1:], func(path string) bool {
			info, err := os.Lstat(path)
			return err != nil || !info.Mode().IsRegular()
		}) && strings.Contains(log.String(), "made anew")
	})
	closeNow(t, s)
	s = open(t, Options{Dir: dir, MaxSize: 8 << 20})
	if lost := takeSome(t, s, payloads); lost > 0 {
		t.Errorf("%d lost", lost)
	}
}
