package spool

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// moveFirst appends the first record again, and removes it, as who wants the latest of each
// topic alone does.
func moveFirst(q *Queue) error {
	dst := make([]Record, 1)
	if n, lost := q.Front(dst, 0); n != 1 || lost != (Lost{}) {
		return fmt.Errorf("%d read, lost %+v", n, lost)
	}
	if _, ok := q.Append(dst[0], nil); !ok {
		return errors.New("not taken")
	}
	q.RemoveCopied(1)
	return nil
}

// afterKill wants the payloads of the queue of a folder as a kill leaves it, each at least once.
func afterKill(t *testing.T, dir string, want ...string) {
	t.Helper()
	s := open(t, Options{Dir: dir, MaxSize: 16 << 20})
	defer s.Close()
	q, found := s.Queue("rule"), map[string]bool{}
	for q.Len() > 0 {
		got, lost := takeDamaged(t, "after a kill", q)
		if lost > 0 {
			t.Errorf("lost %d", lost)
		}
		for _, payload := range got {
			found[strings.TrimRight(payload, " x")] = true
		}
	}
	for _, payload := range want {
		if !found[payload] {
			t.Errorf("after a kill %q is not there, but %v", payload, found)
		}
	}
}

// What was appended again stays where it was until that is on disk, also where the disk has
// room for nothing but for what is removed.
func TestWhatIsAppendedAgainIsRemovedWhenThatIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(faults)
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
		q, other := s.Queue("rule"), s.Queue("other")
		for i := range 4 { // each in a segment of its own
			appendNow(t, q, record(fmt.Sprint(i, strings.Repeat(" x", 150_000))))
		}
		appendNow(t, other, record("x"))
		moved := make(chan struct{}) // a spool that cannot be used takes nothing
		disk.are(func(op, path string) error {
			if op == "write" && strings.Contains(path, segmentPrefix+"0") {
				<-moved
				return syscall.ENOSPC
			}
			return nil
		})
		for range 2 {
			if err := moveFirst(q); err != nil {
				t.Fatal(err)
			}
		}
		close(moved)
		oldest(t, other, 1)
		other.Remove(1)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.Err() == nil {
			t.Fatal("the disk is not full")
		}
		afterKill(t, copyFolder(t, s.dir), "0", "1", "2", "3")
		disk.are(nil)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if s.Err() != nil || s.copying != 0 || len(s.held) > 0 {
			t.Fatal(s.Err(), s.copying)
		}
		closeNow(t, s)
		s = open(t, Options{Dir: s.dir, MaxSize: 16 << 20})
		var got []string
		for _, r := range drain(t, s.Queue("rule"), 10) {
			got = append(got, string(r.Payload[:1]))
		}
		if fmt.Sprint(got) != "[2 3 0 1]" || s.Len() != 0 {
			t.Errorf("%v, %d left", got, s.Len())
		}
		closeNow(t, s)
	})
}

// What is appended again while something else is on its way to the disk is not noted as
// removed with that.
func TestWhatIsAppendedAgainMeanwhileIsNotNotedAsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(faults)
		s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, files: disk.files()})
		q := s.Queue("rule")
		appendNow(t, q, record("0"), record("1"))
		moved, image := false, ""
		disk.are(func(op, path string) error {
			switch segment := strings.Contains(path, segmentPrefix+"0"); {
			case op == "sync" && segment && !moved:
				moved = true
				return moveFirst(q)
			case op == "write" && segment && moved && image == "":
				image = copyFolder(t, s.dir)
			}
			return nil
		})
		appendNow(t, q, record("2"))
		synctest.Wait()
		disk.are(nil)
		if image == "" {
			t.Fatal("nothing was written")
		}
		afterKill(t, image, "0", "1", "2")
		closeNow(t, s)
	})
}
