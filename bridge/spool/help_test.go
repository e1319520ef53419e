package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// No test may leave a goroutine behind: a spool is open for years.
func TestMain(m *testing.M) {
	runChild() // does not return in a process that a test started
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, options Options) *Spool {
	t.Helper()
	s, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closeNow(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func record(payload string) Record {
	return Record{Key: "239.1.2.3:5000", Topic: []byte("a/b"), Payload: []byte(payload)}
}

// appendNow appends records and waits until they are on disk.
func appendNow(t testing.TB, q *Queue, records ...Record) {
	t.Helper()
	if err := appendAll(q, records...); err != nil {
		t.Fatal(err)
	}
}

// appendSoon appends a record as soon as it is taken: the spool may be unusable just now, or too much
// may wait for its disk.
func appendSoon(q *Queue, r Record, done func(error)) {
	for {
		if _, ok := q.Append(r, done); ok {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// appendAll appends records, each as soon as it is taken, and returns the last error.
func appendAll(q *Queue, records ...Record) (last error) {
	results := make(chan error, len(records))
	for _, r := range records {
		appendSoon(q, r, func(err error) { results <- err })
	}
	for range records {
		if err := <-results; err != nil {
			last = err
		}
	}
	return last
}

// openFails wants a spool that cannot be used, and returns what is wrong with its
// error or its log.
func openFails(dir, want string) error {
	log := &logs{}
	s, err := Open(Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger()})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Err(); err == nil || !strings.HasSuffix(err.Error(), want) {
		return fmt.Errorf("got  %w\nwant … %s", err, want)
	}
	if got := log.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, dir) || !strings.Contains(got, want) {
		return fmt.Errorf("log: %s\nwant … %s … %s", got, dir, want)
	}
	if _, ok := s.Queue("rule").Append(record("x"), nil); ok {
		return errors.New("it takes a record all the same")
	}
	return nil
}

// oldest returns up to n of the oldest records, of which none may be lost.
func oldest(t testing.TB, q *Queue, n int) []Record {
	t.Helper()
	dst := make([]Record, n)
	n, lost := q.Front(dst, 0)
	if lost != (Lost{}) {
		t.Fatalf("lost %+v", lost)
	}
	return dst[:n]
}

// drain takes all records, some at a time.
func drain(t testing.TB, q *Queue, atOnce int) (all []Record) {
	t.Helper()
	for q.Len() > 0 {
		records := oldest(t, q, atOnce)
		if len(records) == 0 {
			t.Fatalf("%d records are there and none comes", q.Len())
		}
		all = append(all, records...)
		q.Remove(len(records))
	}
	return all
}

// takeAll takes n records while others append them.
func takeAll(q *Queue, n int) (all []Record) {
	dst := make([]Record, 100)
	for len(all) < n {
		taken, _ := q.Front(dst, 0)
		all = append(all, dst[:taken]...)
		q.Remove(taken)
	}
	return all
}

// all is the names of files of a spool that match.
func all(dir, pattern string) []string {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		panic(fmt.Sprint("no ", pattern))
	}
	return files
}

// check compares payloads.
func check(t testing.TB, records []Record, want ...string) {
	t.Helper()
	if len(records) != len(want) {
		t.Fatalf("%d records, want %d", len(records), len(want))
	}
	for i, r := range records {
		if string(r.Payload) != want[i] {
			t.Fatalf("record %d is %q, want %q", i, r.Payload, want[i])
		}
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if is() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// inSequence wants the records of a queue to be those that begin with the numbers
// from first to last.
func inSequence(q *Queue, first, last int) error {
	if q.Len() != last-first+1 {
		return fmt.Errorf("%d records, want %d to %d", q.Len(), first, last)
	}
	dst := make([]Record, 100)
	for want := first; q.Len() > 0; {
		n, lost := q.Front(dst, 0)
		if n == 0 || lost != (Lost{}) {
			return fmt.Errorf("%d records, lost %+v, %d left", n, lost, q.Len())
		}
		for _, r := range dst[:n] {
			if number, _, _ := strings.Cut(string(r.Payload), " "); number != fmt.Sprint(want) {
				return fmt.Errorf("record %s, want %d", number, want)
			}
			want++
		}
		q.Remove(n)
	}
	return nil
}
