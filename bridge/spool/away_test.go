package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// unplugged is a disk that is gone.
func unplugged(string, string) error { return syscall.EIO }

// fronts reads and removes all, as a rule that goes on does, for so long.
func fronts(q *Queue, d time.Duration) (got []string, lost Lost) {
	dst := make([]Record, 10)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for n, l := q.Front(dst, 0); n > 0 || l != (Lost{}); n, l = q.Front(dst, 0) {
			lost.Damaged += l.Damaged
			for _, r := range dst[:n] {
				got = append(got, string(r.Payload))
			}
			q.Remove(n)
		}
	}
	return got, lost
}

// A disk goes away, is asked for messages meanwhile, and comes back: the same, or a copy of it
// at the path, such as a device that is mounted anew. Nothing is lost, and nothing comes twice.
func TestADiskThatComesBackHasLostNothing(t *testing.T) {
	move := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		goes, comes func(t *testing.T, dir string)
	}{
		"the same": {func(*testing.T, string) {}, func(*testing.T, string) {}},
		"mounted anew": {
			func(t *testing.T, dir string) { move(t, dir, dir+"-away") },
			func(t *testing.T, dir string) { move(t, dir+"-away", dir) },
		},
		"mounted anew over an empty folder": {
			func(t *testing.T, dir string) {
				move(t, dir, dir+"-away")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir string) { move(t, dir, dir+"-empty"); move(t, dir+"-away", dir) },
		},
		"a copy of it": {
			func(t *testing.T, dir string) { move(t, copyFolder(t, dir), dir+"-copy"); move(t, dir, dir+"-away") },
			func(t *testing.T, dir string) { move(t, dir+"-copy", dir) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk, log := new(faults), &logs{}
				dir := t.TempDir() + "/spool"
				s := open(t, Options{Dir: dir, MaxSize: 16 << 20, files: disk.files(), Logger: log.logger()})
				defer func() { s.Close() }()
				q := s.Queue("rule")
				for i := range 300 {
					appendNow(t, q, record(fmt.Sprintf("%d %s", i, strings.Repeat("x", 2000))))
				}
				drained := drain10(t, q)
				synctest.Wait()
				disk.are(unplugged)
				c.goes(t, dir)
				q.Append(record("300 "), nil)
				got, lost := fronts(q, 10*time.Second)
				if len(got) > 0 || lost != (Lost{}) || !errors.Is(s.Err(), syscall.EIO) {
					t.Fatalf("%d read, lost %+v, %v", len(got), lost, s.Err())
				}
				disk.are(nil)
				c.comes(t, dir)
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if s.Err() != nil || q.Len() != 291 {
					t.Fatalf("%d, %v\n%s", q.Len(), s.Err(), log)
				}
				appendNow(t, q, record("301 "))
				dst := make([]Record, 100)
				n, _ := q.Front(dst, 0)
				q.Remove(min(n, 50))
				if n < 50 || s.Err() != nil {
					t.Fatal(n, s.Err(), log)
				}
				closeNow(t, s)
				s = open(t, Options{Dir: dir, MaxSize: 16 << 20})
				if err := inSequence(s.Queue("rule"), drained+50, 301); err != nil {
					t.Error(err)
				}
				if strings.Contains(log.String(), "damaged") {
					t.Error(log)
				}
			})
		})
	}
}

func drain10(t *testing.T, q *Queue) int {
	n := len(oldest(t, q, 10))
	q.Remove(n)
	return n
}

// A disk that does not come back holds nothing up: what was on it is counted as lost, each
// message once, and others go on.
func TestWhatADiskHadThatIsGoneForGoodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(faults)
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
		defer s.Close()
		q := s.Queue("rule")
		for range 100 {
			appendNow(t, q, record("x"))
		}
		disk.are(unplugged)
		if got, lost := fronts(q, patience-time.Second); len(got) > 0 || lost != (Lost{}) {
			t.Fatalf("%d read, lost %+v", len(got), lost)
		}
		q.Append(record("new"), nil)
		if got, lost := fronts(q, 5*time.Second); lost.Damaged != 100 || s.Err() == nil {
			t.Errorf("%d read, lost %+v, %v", len(got), lost, s.Err())
		}
		disk.are(nil)
		time.Sleep(5 * time.Second)
		appendNow(t, q, record("after"))
		got, lost := fronts(q, time.Second)
		if lost != (Lost{}) || len(got) == 0 || got[len(got)-1] != "after" || s.Len() != 0 || s.Bytes() != 0 {
			t.Errorf("%q, lost %+v, %d left", got, lost, s.Len())
		}
	})
}

// A part that cannot be read of a disk that is there is damage, and counted at once.
func TestWhatCannotBeReadOfADiskThatIsThereIsCountedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(faults)
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
		defer s.Close()
		q := s.Queue("rule")
		for range 100 {
			appendNow(t, q, record("x"))
		}
		uses := s.Uses()
		disk.are(func(op, path string) error {
			if op == "read" && strings.Contains(path, segmentPrefix+"0") {
				return syscall.EIO
			}
			return nil
		})
		if got, lost := fronts(q, time.Second); len(got) > 0 || lost.Damaged != 100 || s.Err() != nil || s.Len() != 0 {
			t.Errorf("%d read, lost %+v, %v", len(got), lost, s.Err())
		}
		if s.Uses() == uses {
			t.Error("nobody is told that it can be read again")
		}
	})
}

// inSegments appends records of which each fills a segment.
func inSegments(t *testing.T, q *Queue, n int) {
	t.Helper()
	for range n {
		appendNow(t, q, record(strings.Repeat("x", 600_000)))
	}
}

// One file that the disk cannot open, of a disk that is there, is waited for as a disk is; then
// what is in it counts as lost.
func TestASegmentThatTheDiskCannotOpenIsWaitedForAndThenLost(t *testing.T) {
	for name, c := range map[string]struct {
		after      time.Duration
		left, lost int
	}{
		"in time":  {patience - 5*time.Second, 4, 0},
		"too late": {patience + 5*time.Second, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := Options{Dir: t.TempDir(), MaxSize: 16 << 20}
				s := open(t, options)
				inSegments(t, s.Queue("rule"), 4)
				path := s.store.segments[1].path
				closeNow(t, s)
				disk := new(faults)
				disk.are(func(op, on string) error {
					if op == "open" && on == path {
						return syscall.EIO
					}
					return nil
				})
				options.files = disk.files()
				s = open(t, options)
				defer s.Close()
				if s.Err() == nil {
					t.Fatal("it is used at once")
				}
				time.Sleep(c.after)
				disk.are(nil)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if s.Err() != nil {
					t.Fatal(s.Err())
				}
				if got, lost := takeDamaged(t, name, s.Queue("rule")); len(got) != c.left || lost != c.lost {
					t.Errorf("%d there, %d lost", len(got), lost)
				}
			})
		})
	}
}

// That there may be no more open files says nothing of what is in one that is to be opened to
// read it.
func TestWithoutAFreeDescriptorNothingCountsAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(faults)
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
		defer s.Close()
		q := s.Queue("rule")
		inSegments(t, q, 3)
		s.swap.Lock()
		s.store.segments[0].close() // as where there are very many
		s.swap.Unlock()
		disk.are(func(op, path string) error {
			if op == "open" && strings.Contains(path, segmentPrefix+"0") {
				return syscall.EMFILE
			}
			return nil
		})
		uses := s.Uses()
		if got, lost := fronts(q, time.Minute); len(got) > 0 || lost != (Lost{}) {
			t.Errorf("%d read, lost %+v", len(got), lost)
		}
		synctest.Wait()
		if s.Uses() == uses {
			t.Error("nobody is told to look again")
		}
		disk.are(nil)
		if got, lost := fronts(q, time.Second); len(got) != 3 || lost != (Lost{}) {
			t.Errorf("%d read, lost %+v", len(got), lost)
		}
	})
}
