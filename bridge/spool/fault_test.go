package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// faults are what goes wrong with files.
type faults struct {
	mu   sync.Mutex
	what func(op, path string) error
}

func (f *faults) files() files { return files{fault: f.ask} }

func (f *faults) ask(op, path string) error {
	f.mu.Lock()
	what := f.what
	f.mu.Unlock()
	if what == nil {
		return nil
	}
	return what(op, path)
}

// are has these be the faults from here on; nil: none.
func (f *faults) are(what func(op, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.what = what
}

// noRoom is a disk on which not one block is free.
func noRoom(op, _ string) error {
	if op == "write" {
		return syscall.ENOSPC
	}
	return nil
}

// copyFolder copies a spool's folder as a kill would leave it.
func copyFolder(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // it was just being replaced
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// However long it could not be used, and whatever is asked of it meanwhile, it is used
// within seconds of when it can be.
func TestASpoolIsUsedWithinSecondsOfTheEndOfItsTrouble(t *testing.T) {
	for name, meanwhile := range map[string]func(q *Queue){
		"nothing happens": func(*Queue) {},
		"what comes is refused": func(q *Queue) {
			q.Refuse(ErrFull, func(error) {})
		},
		"what is there is removed": func(q *Queue) {
			n, _ := q.Front(make([]Record, 1), 0)
			q.Remove(n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := new(faults)
				s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
				defer s.Close()
				q := s.Queue("rule")
				for range 100 {
					appendNow(t, q, record(strings.Repeat("x", 10_000)))
				}
				disk.are(noRoom)
				q.Append(record("waits"), nil)
				synctest.Wait()
				if !errors.Is(s.Err(), syscall.ENOSPC) {
					t.Fatal(s.Err())
				}
				time.Sleep(time.Hour + 31*time.Second)
				disk.are(nil)
				for range 40 {
					time.Sleep(100 * time.Millisecond)
					meanwhile(q)
				}
				synctest.Wait()
				if s.Err() != nil {
					t.Errorf("4 s later: %v", s.Err())
				}
			})
		})
	}
}

// The disk may go away between the two files of states: what the first says of records that were not wholly written is
// no loss, for they wait in memory. Nor do they come twice.
func TestADiskThatGoesBetweenTheStatesLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, log := new(faults), &logs{}
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files(), Logger: log.logger()})
		defer func() { s.Close() }()
		old, fresh := s.Queue("old"), s.Queue("fresh")
		appendNow(t, old, record("old 0"))
		disk.are(func(op, path string) error {
			if op == "write" && strings.HasSuffix(path, "state-b.v3") {
				return syscall.EROFS
			}
			return nil
		})
		for i := range 5 {
			old.Append(record(fmt.Sprint("old ", 1+i)), nil)
			fresh.Append(record(fmt.Sprint("fresh ", i)), nil)
		}
		synctest.Wait()
		if !errors.Is(s.Err(), syscall.EROFS) {
			t.Fatal(s.Err())
		}
		check(t, oldest(t, fresh, 2), "fresh 0", "fresh 1")
		fresh.Remove(2)
		disk.are(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s.Err() != nil || strings.Contains(log.String(), "damaged") {
			t.Errorf("%v, log: %s", s.Err(), log)
		}
		check(t, drain(t, old, 10), "old 0", "old 1", "old 2", "old 3", "old 4", "old 5")
		check(t, drain(t, fresh, 10), "fresh 2", "fresh 3", "fresh 4")
	})
}

// The same where nothing else was ever on the disk.
func TestADiskThatGoesBetweenTheFirstStatesLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, log := new(faults), &logs{}
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files(), Logger: log.logger()})
		defer func() { s.Close() }()
		disk.are(func(op, path string) error {
			if op == "write" && strings.HasSuffix(path, "state-b.v3") {
				return syscall.EROFS
			}
			return nil
		})
		q := s.Queue("rule")
		for i := range 5 {
			q.Append(record(fmt.Sprint(i)), nil)
		}
		synctest.Wait()
		if !errors.Is(s.Err(), syscall.EROFS) {
			t.Fatal(s.Err())
		}
		disk.are(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s.Err() != nil || strings.Contains(log.String(), "damaged") || strings.Contains(log.String(), "removed") {
			t.Errorf("%v, log: %s", s.Err(), log)
		}
		check(t, drain(t, q, 10), "0", "1", "2", "3", "4")
	})
}

// A disk without one free block has room as soon as all is removed that is on it, also while
// something waits in memory that nobody takes.
func TestAFullDiskIsGivenBackWhatIsRemovedWhileSomethingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(faults)
		log := &logs{}
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files(), Logger: log.logger()})
		defer s.Close()
		q, other := s.Queue("rule"), s.Queue("other")
		for range 20 {
			appendNow(t, q, record(strings.Repeat("x", 10_000)))
		}
		deleted := false
		disk.are(func(op, path string) error {
			deleted = deleted || op == "remove" && strings.Contains(path, segmentPrefix+"0")
			if deleted {
				return nil
			}
			return noRoom(op, path)
		})
		safe := make(chan error, 1)
		other.Append(record("waits"), func(err error) { safe <- err })
		synctest.Wait()
		if !errors.Is(s.Err(), syscall.ENOSPC) {
			t.Fatal(s.Err())
		}
		drain(t, q, 100)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if s.Err() != nil || len(safe) != 1 {
			t.Fatalf("%d safe, %v", len(safe), s.Err())
		}
		closeNow(t, s)
		s = open(t, Options{Dir: s.dir, MaxSize: 16 << 20, Logger: log.logger()})
		check(t, drain(t, s.Queue("other"), 10), "waits")
		if s.Len() != 0 || strings.Contains(log.String(), "damaged") {
			t.Errorf("%d left, log: %s", s.Len(), log)
		}
	})
}

// What is removed is deleted while the disk has no room, also where that it was removed could be
// written down and nothing else can: else nothing would ever make room.
func TestAFullDiskIsGivenBackWhatHadRoomToBeNoted(t *testing.T) {
	for name, writesFail := range map[string]bool{"the disk takes no more": true, "the disk is said to be full": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := new(faults)
				s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
				defer s.Close()
				q := s.Queue("rule")
				for range 20 {
					appendNow(t, q, record(strings.Repeat("x", 10_000)))
				}
				var deleted, full atomic.Bool
				disk.are(func(op, path string) error {
					if op == "remove" && strings.Contains(path, segmentPrefix+"0") {
						deleted.Store(true)
					}
					if !deleted.Load() && (op == "statfs" || op == "write" && full.Load()) {
						return syscall.ENOSPC
					}
					return nil
				})
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if !errors.Is(s.Err(), syscall.ENOSPC) {
					t.Fatal(s.Err())
				}
				drain(t, q, 100)
				time.Sleep(4 * time.Second) // that they are removed is noted
				full.Store(writesFail)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if s.Err() != nil || !deleted.Load() {
					t.Errorf("deleted %v, %v", deleted.Load(), s.Err())
				}
			})
		})
	}
}

// A disk that hangs while the spool is opened holds nobody up: neither the start, nor the end.
func TestADiskThatHangsWhileItIsOpened(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprint("stopped ", stopped), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
			appendNow(t, s.Queue("rule"), record("0"))
			closeNow(t, s)
			synctest.Test(t, func(t *testing.T) {
				disk, answers, stop := new(faults), make(chan struct{}), make(chan struct{})
				disk.are(func(string, string) error { <-answers; return nil })
				if stopped {
					close(stop)
				}
				began, log := time.Now(), &logs{}
				s, err := Open(Options{Dir: dir, MaxSize: 1 << 20, files: disk.files(), Stop: stop, Logger: log.logger()})
				if err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); stopped && waited > 0 || waited > openWait {
					t.Errorf("Open took %v", waited)
				}
				if _, ok := s.Queue("rule").Append(record("x"), nil); ok || s.Err() == nil || !stopped && !strings.Contains(log.String(), "does not answer") {
					t.Errorf("it takes a record, or does not say why not: %v %s", s.Err(), log)
				}
				if stopped {
					if err := s.Close(); err == nil {
						t.Error("nobody is told that it was not closed")
					}
					close(answers)
					return
				}
				uses := s.Uses()
				close(answers)
				synctest.Wait()
				if s.Err() != nil || s.Uses() == uses {
					t.Fatal(s.Err(), s.Uses())
				}
				appendNow(t, s.Queue("rule"), record("1"))
				check(t, drain(t, s.Queue("rule"), 10), "0", "1")
				closeNow(t, s)
			})
		})
	}
}
