package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRecordsComeBackInOrderAfterARestart(t *testing.T) {
	dir := t.TempDir()
	var want []Record
	for part := range 3 {
		s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
		for i := range 100 {
			r := record(fmt.Sprint(part, i))
			r.Came, r.Key, r.Flags = time.Duration(100*part+i+1), fmt.Sprint("key ", i%3), byte(i)
			want = append(want, r)
			appendNow(t, s.Queue("rule"), r)
		}
		closeNow(t, s)
	}
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
	if got := s.Names(); !slices.Equal(got, []string{"rule"}) {
		t.Errorf("queues %q", got)
	}
	if diff := cmp.Diff(want, drain(t, s.Queue("rule"), 7), cmpopts.IgnoreFields(Record{}, "Age")); diff != "" {
		t.Error(diff)
	}
	if s.Len() != 0 || s.Bytes() != 0 || len(s.Names()) != 0 {
		t.Errorf("%d records, %d bytes, queues %q left", s.Len(), s.Bytes(), s.Names())
	}
}

func TestWhatWasRemovedStaysRemovedAndTheRestStays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
	q := s.Queue("rule")
	appendNow(t, q, record("0"), record("1"), record("2"), record("3"))
	oldest(t, q, 3)
	q.Remove(1)
	q.Remove(1)
	q.Remove(5) // only one was left of what Front returned
	q.Remove(1)
	check(t, oldest(t, q, 3), "3")
	want := q.Bytes()
	closeNow(t, s)

	s = open(t, Options{Dir: dir, MaxSize: 1 << 20})
	q = s.Queue("rule")
	if q.Len() != 1 || q.Bytes() != want || s.Bytes() != want {
		t.Errorf("%d records of %d bytes, want 1 of %d", q.Len(), q.Bytes(), want)
	}
	check(t, oldest(t, q, 3), "3")
	check(t, oldest(t, q, 3), "3") // not removed: the same again
}

func TestQueuesAreApart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
	if first, again := s.Queue("a"), s.Queue("a"); first != again {
		t.Error("one name, two queues")
	}
	for i := range 100 {
		appendNow(t, s.Queue(fmt.Sprint("rule ", i)), record(fmt.Sprint(i)))
	}
	appendNow(t, s.Queue(""), record("none"))
	closeNow(t, s)
	s = open(t, Options{Dir: dir, MaxSize: 1 << 20})
	if len(s.Names()) != 101 || s.Len() != 101 {
		t.Errorf("%d queues, %d records", len(s.Names()), s.Len())
	}
	check(t, drain(t, s.Queue(""), 1), "none")
	for i := range 100 {
		check(t, drain(t, s.Queue(fmt.Sprint("rule ", i)), 4), fmt.Sprint(i))
	}
}

func TestWhatIsTooMuchIsRefusedInOrder(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 3 * (Overhead + 100)})
	q := s.Queue("rule")
	payload := make([]byte, 100)
	var mu sync.Mutex
	var got []string
	var calls sync.WaitGroup
	for i, r := range []Record{
		{Payload: payload}, {Payload: payload}, {Payload: make([]byte, 1000)},
		{Key: strings.Repeat("k", 1<<16)}, {Payload: payload}, {Payload: payload}, {},
	} {
		calls.Add(1)
		q.Append(r, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			what := "kept"
			for _, e := range []error{ErrFull, ErrTooLong} {
				if errors.Is(err, e) {
					what = e.Error()
				}
			}
			got = append(got, fmt.Sprint(i, " ", what))
			calls.Done()
		})
	}
	calls.Wait()
	want := []string{"0 kept", "1 kept", "2 " + ErrTooLong.Error(), "3 " + ErrTooLong.Error(),
		"4 kept", "5 " + ErrFull.Error(), "6 " + ErrFull.Error()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	oldest(t, q, 1)
	q.Remove(1)
	appendNow(t, q, Record{Payload: payload}) // there is room again
}

func TestOldRecordsAreLeftOutAndCountedOnce(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 1 << 20})
	q := s.Queue("rule")
	for i, age := range []time.Duration{3, 2, 0, 3, 0} {
		r := record(fmt.Sprint(i))
		r.Age = age * time.Hour
		appendNow(t, q, r)
	}
	var got []Record
	var total Lost
	for q.Len() > 0 {
		dst := make([]Record, 10)
		n, lost := q.Front(dst, time.Hour)
		q.Front(dst, time.Hour) // counted once all the same
		got = append(got, dst[:n]...)
		total.Expired += lost.Expired
		q.Remove(n)
	}
	check(t, got, "2", "4")
	if total != (Lost{Expired: 3}) || s.Bytes() != 0 {
		t.Errorf("lost %+v, %d bytes left", total, s.Bytes())
	}
}

func TestCloseWritesWhatWasAppended(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 24})
	results := make(chan error, 1001)
	for i := range 1000 {
		appendSoon(s.Queue("rule"), record(fmt.Sprint(i)), func(err error) { results <- err })
	}
	closeNow(t, s)
	for range 1000 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	s.Queue("rule").Append(record("late"), func(err error) { results <- err })
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if n, _ := s.Queue("rule").Front(make([]Record, 1), 0); n != 0 {
		t.Error("a record after Close")
	}
	s.Queue("rule").Remove(1)
	if s = open(t, Options{Dir: dir, MaxSize: 1 << 24}); s.Len() != 1000 {
		t.Errorf("%d records after a restart", s.Len())
	}
}

// Each of some goroutines appends to a queue of its own and to one of all,
// while others take from them.
func TestManyAtOnce(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	const writers, each = 4, 2000
	var all sync.WaitGroup
	for w := range writers {
		own := s.Queue(fmt.Sprint(w))
		all.Go(func() {
			for i := range each {
				appendSoon(own, record(fmt.Sprint(i)), nil)
				appendSoon(s.Queue("all"), record(fmt.Sprint(w, " ", i)), nil)
			}
		})
		all.Go(func() {
			for i, r := range takeAll(own, each) {
				if string(r.Payload) != fmt.Sprint(i) {
					t.Errorf("queue %d: record %d is %s", w, i, r.Payload)
					return
				}
			}
		})
	}
	all.Go(func() {
		next := [writers]int{}
		for _, r := range takeAll(s.Queue("all"), writers*each) {
			var w, i int
			fmt.Sscan(string(r.Payload), &w, &i)
			if i != next[w] {
				t.Errorf("of %d came %d, want %d", w, i, next[w])
				return
			}
			next[w]++
		}
	})
	all.Wait()
	if s.Len() != 0 || s.Bytes() != 0 {
		t.Errorf("%d records of %d bytes left", s.Len(), s.Bytes())
	}
}
