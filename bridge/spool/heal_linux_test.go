package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	children["mounted over"] = mountedOver
	children["mounted over read-only"] = mountedOverReadOnly
	children["another spool appears"] = anotherSpoolAppears
}

// await waits until is.
func await(what string, is func() bool) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if is() {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("waited in vain for " + what)
}

// numbered appends the numbers from first to last.
func numbered(q *Queue, first, last int) error {
	var records []Record
	for i := first; i <= last; i++ {
		records = append(records, record(fmt.Sprint(i)))
	}
	return appendAll(q, records...)
}

// reopened closes a spool, and opens what is in the folder.
func reopened(s *Spool, dir string) (*Spool, error) {
	if err := s.Close(); err != nil {
		return nil, err
	}
	return Open(Options{Dir: dir, MaxSize: 1 << 20})
}

// What keeps the spool from being used at its start, and later, and how that ends:
// from then on it is used, and nothing is lost.
func TestASpoolThatCannotBeUsedAtItsStartIsUsedAsSoonAsItCan(t *testing.T) {
	for name, c := range map[string]struct{ spoil, mend func(dir string) error }{
		"a file in place of the folder": {
			func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
			os.Remove,
		},
		"a link to nowhere": {
			func(dir string) error { return os.Symlink("nowhere/nothing", dir) },
			os.Remove,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			log := &logs{}
			s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger(), retry: time.Millisecond})
			if s.Err() == nil {
				t.Fatal("it can be used")
			}
			if _, ok := s.Queue("rule").Append(record("0"), nil); ok {
				t.Error("it takes a record")
			}
			if err := c.mend(dir); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "its use", func() bool { return s.Err() == nil })
			if err := numbered(s.Queue("rule"), 0, 9); err != nil {
				t.Fatal(err)
			}
			if err := inSequence(s.Queue("rule"), 0, 9); err != nil {
				t.Error(err)
			}
			if got := log.String(); strings.Count(got, "level=ERROR") != 1 || strings.Count(got, "can be used again") != 1 {
				t.Errorf("log: %s", got)
			}
		})
	}
}

func TestEachCauseIsToldOnce(t *testing.T) {
	base := t.TempDir()
	dir, file, next := filepath.Join(base, "spool"), filepath.Join(base, "file"), filepath.Join(base, "next")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(file, dir)); err != nil {
		t.Fatal(err)
	}
	log := &logs{}
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger(), retry: time.Millisecond})
	folder := filepath.Join(base, "folder")
	if err := errors.Join(os.Symlink(folder, next), os.Rename(next, dir)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the other cause", func() bool { return errors.Is(s.Err(), syscall.EEXIST) })
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of it", func() bool { return s.Err() == nil && strings.Contains(log.String(), "can be used again") })
	if got := log.String(); strings.Count(got, "level=ERROR") != 2 || strings.Count(got, "not a directory") != 1 ||
		strings.Count(got, "file exists") != 1 || strings.Count(got, "can be used again") != 1 {
		t.Errorf("log: %s", got)
	}
}

// The folder or a file goes while it is open: what it held is there again, at the
// same place, and after a restart too. It is noticed while nothing else happens.
func TestWhatIsTakenAwayIsMadeAnewWithWhatItHeld(t *testing.T) {
	each := func(pattern string, do func(string) error) func(string) error {
		return func(dir string) (err error) {
			for _, f := range all(dir, pattern) {
				err = errors.Join(err, do(f))
			}
			return err
		}
	}
	rename := func(f string) error { return os.Rename(f, filepath.Join(filepath.Dir(f), "x")) }
	for name, spoil := range map[string]func(dir string) error{
		"a segment removed":    each("spool-0*", os.Remove),
		"a segment renamed":    each("spool-0*", rename),
		"a state removed":      each("spool-state-a*", os.Remove),
		"both states removed":  each("spool-state-*", os.Remove),
		"the lock removed":     each("spool-lock", os.Remove),
		"all files removed":    each("spool-*", os.Remove),
		"the folder removed":   os.RemoveAll,
		"the folder renamed":   func(dir string) error { return os.Rename(dir, dir+"-old") },
		"replaced by an empty": func(dir string) error { return errors.Join(os.Rename(dir, dir+"-old"), os.Mkdir(dir, 0o700)) },
	} {
		for _, notices := range []string{"append", "remove", "look"} {
			t.Run(name+", "+notices, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "spool")
				log := &logs{}
				m := &machine{}
				s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger(), Clock: m, retry: time.Millisecond})
				q := s.Queue("rule")
				if err := numbered(q, 0, 99); err != nil {
					t.Fatal(err)
				}
				oldest(t, q, 10)
				if err := spoil(dir); err != nil {
					t.Fatal(err)
				}
				m.pass(time.Minute)
				first, last := 0, 99
				switch notices {
				case "append":
					if err := numbered(q, 100, 109); err != nil {
						t.Fatal(err)
					}
					last = 109
				case "remove":
					q.Remove(10) // what was read before is known
					first = 10
				}
				waitFor(t, "new files", func() bool {
					if name == "the lock removed" {
						_, err := os.Stat(lockPath(dir))
						return err == nil
					}
					return strings.Contains(log.String(), "what it held") || strings.Contains(log.String(), "what they held")
				})
				waitFor(t, "the end of it", func() bool { n, _ := q.Front(make([]Record, 1), 0); return n == 1 && s.Err() == nil })
				if age := oldest(t, q, 1)[0].Age.Round(time.Second); age != time.Minute {
					t.Errorf("what was moved is %v old", age)
				}
				s, err := reopened(s, dir)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if err := inSequence(s.Queue("rule"), first, last); err != nil {
					t.Error(err, log)
				}
			})
		}
	}
}

// A rule of which nothing is left does not matter when the folder goes.
func TestAQueueThatIsEmptyWhenTheFolderGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20, retry: time.Millisecond})
	if err := errors.Join(numbered(s.Queue("rule"), 0, 9), numbered(s.Queue("other"), 0, 9)); err != nil {
		t.Fatal(err)
	}
	drain(t, s.Queue("rule"), 10)
	if err := errors.Join(os.Rename(dir, dir+"-away"), numbered(s.Queue("other"), 10, 19), numbered(s.Queue("rule"), 10, 19)); err != nil {
		t.Fatal(err)
	}
	s, err := reopened(s, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(inSequence(s.Queue("other"), 0, 19), inSequence(s.Queue("rule"), 10, 19)); err != nil {
		t.Error(err)
	}
}

// A folder that was away and comes back does not bring again what was moved from it.
func TestAFolderThatComesBackBringsNothingTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	log := &logs{}
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger(), retry: time.Millisecond})
	q := s.Queue("rule")
	err := errors.Join(numbered(q, 0, 99), os.Rename(dir, dir+"-away"), numbered(q, 100, 109),
		os.Rename(dir, dir+"-new"), os.Rename(dir+"-away", dir), numbered(q, 110, 119))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = reopened(s, dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := inSequence(s.Queue("rule"), 0, 119); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("log: %s", log)
	}
}

// A disk that is gone for good keeps nothing back: what could not be written can be
// read and removed, and is not written later.
func TestWhatCannotBeWrittenCanBeReadAndRemoved(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "spool")
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20, retry: time.Millisecond})
	q := s.Queue("rule")
	if err := numbered(q, 0, 4); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(dir, dir+"-away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1000)
	total := 5
	for ; total < 1000; total++ { // one at least is taken before the first try is over
		i := total
		if _, ok := q.Append(record(fmt.Sprint(i)), func(err error) { done <- fmt.Sprint(i, " ", err) }); !ok {
			break
		}
	}
	waitFor(t, "trouble", func() bool { return s.Err() != nil })
	dst := make([]Record, 1000)
	waitFor(t, "all", func() bool { n, _ := q.Front(dst, 0); return n == total })
	for i, r := range dst[:total] {
		if string(r.Payload) != fmt.Sprint(i) {
			t.Errorf("record %d is %s", i, r.Payload)
		}
	}
	left := (total - 5) / 2
	q.Remove(total - left)
	told := func(first, last int) {
		t.Helper()
		for i := first; i <= last; i++ {
			if got := <-done; got != fmt.Sprint(i, " <nil>") {
				t.Errorf("told %q, want %d", got, i)
			}
		}
	}
	told(5, total-left-1)
	if q.Len() != left || s.Len() != left || len(done) > 0 {
		t.Errorf("%d and %d left, want %d", q.Len(), s.Len(), left)
	}
	link := filepath.Join(base, "link")
	if err := errors.Join(os.Symlink(dir+"-away", link), os.Rename(link, dir)); err != nil {
		t.Fatal(err)
	}
	told(total-left, total-1)
	waitFor(t, "the end of the trouble", func() bool { return s.Err() == nil }) // where none was left, nothing tells
	s, err := reopened(s, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := inSequence(s.Queue("rule"), total-left, total-1); err != nil {
		t.Error(err)
	}
	if s.Bytes() != 0 {
		t.Errorf("%d bytes left", s.Bytes())
	}
}

func TestAFolderThatSomethingIsMountedOver(t *testing.T) {
	for _, name := range []string{"mounted over", "mounted over read-only", "another spool appears"} {
		t.Run(name, func(t *testing.T) { inMountNamespace(t, name) })
	}
}

// openMounted opens a spool on a small disk that is mounted on dir.
func openMounted(dir string, log *logs) (*Spool, error) {
	if err := mountSmall(dir, "16m"); err != nil {
		return nil, err
	}
	return Open(Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger(), retry: time.Millisecond})
}

func mountedOver(dir string) error {
	log := &logs{}
	s, err := openMounted(dir, log)
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	err = errors.Join(numbered(q, 0, 4999), mountSmall(dir, "16m"), numbered(q, 5000, 5009))
	if err != nil {
		return fmt.Errorf("%w; %s", err, log)
	}
	if s, err = reopened(s, dir); err != nil {
		return err
	}
	defer s.Close()
	return inSequence(s.Queue("rule"), 0, 5009)
}

func mountedOverReadOnly(dir string) error {
	log := &logs{}
	s, err := openMounted(dir, log)
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	if err := errors.Join(numbered(q, 0, 9), syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, "")); err != nil {
		return err
	}
	safe := make(chan error, 1)
	appendSoon(q, record("10"), func(err error) { safe <- err })
	if err := await("trouble", func() bool { return s.Err() != nil }); err != nil {
		return err
	}
	if !errors.Is(s.Err(), errMoved) || !errors.Is(s.Err(), syscall.EROFS) {
		return fmt.Errorf("another trouble: %w", s.Err())
	}
	dst := make([]Record, 20)
	if err := await("all to be read", func() bool { n, lost := q.Front(dst, 0); return n == 11 && lost == (Lost{}) }); err != nil {
		return err
	}
	q.Remove(5)
	if err := syscall.Unmount(dir, 0); err != nil {
		return err
	}
	if err := <-safe; err != nil {
		return err
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		return fmt.Errorf("%d lines of log, want one of the trouble and one of its end: %s", n, log)
	}
	if s, err = reopened(s, dir); err != nil {
		return err
	}
	defer s.Close()
	return inSequence(s.Queue("rule"), 5, 10)
}

// The disk that the folder was to be on comes late, with a spool of an earlier time.
func anotherSpoolAppears(dir string) error {
	if err := mountSmall(dir, "64m"); err != nil {
		return err
	}
	disk, empty := filepath.Join(dir, "disk"), filepath.Join(dir, "empty")
	for _, d := range []string{disk, empty} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	m := &machine{boots: 1}
	earlier, err := Open(Options{Dir: disk, MaxSize: 1 << 20, Clock: m})
	if err != nil {
		return err
	}
	err = numbered(earlier.Queue("rule"), 0, 9)
	m.pass(10 * time.Minute)
	if err := errors.Join(err, numbered(earlier.Queue("gone"), 0, 3), earlier.Close()); err != nil {
		return err
	}
	m.pass(24 * time.Hour)
	m.boots, m.booted = 2, m.real
	m.pass(time.Hour)
	log := &logs{}
	s, err := Open(Options{Dir: empty, MaxSize: 1 << 20, Logger: log.logger(), Clock: m, retry: time.Millisecond})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	err = numbered(q, 10, 14)
	uses := s.Uses()
	m.pass(time.Minute)
	if err := errors.Join(err, syscall.Mount(disk, empty, "", syscall.MS_BIND, ""), numbered(q, 15, 19)); err != nil {
		return fmt.Errorf("%w; %s", err, log)
	}
	if s.Uses() == uses || !slices.Equal(s.Names(), []string{"gone", "rule"}) || s.Len() != 24 {
		return fmt.Errorf("%d and %d uses, %d records in %q", uses, s.Uses(), s.Len(), s.Names())
	}
	m.pass(time.Minute)
	dst := make([]Record, 20)
	if n, lost := q.Front(dst, 0); n != 20 || lost != (Lost{}) {
		return fmt.Errorf("%d records, lost %+v", n, lost)
	}
	// The machine was off for a time that nobody knows.
	for i, want := range map[int]time.Duration{0: 11 * time.Minute, 10: 2 * time.Minute, 15: time.Minute} {
		if age := dst[i].Age.Round(time.Second); age != want {
			return fmt.Errorf("record %d is %v old, want %v", i, age, want)
		}
	}
	for i := range dst[1:] {
		if dst[i+1].Came <= dst[i].Came {
			return fmt.Errorf("record %d came %v, the one before %v", i+1, dst[i+1].Came, dst[i].Came)
		}
	}
	if s, err = reopened(s, empty); err != nil {
		return err
	}
	defer s.Close()
	return inSequence(s.Queue("rule"), 0, 19)
}
