package spool

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A spool on a machine whose clock is set while it waits, and between two programs.
func TestASteppedClockNeitherExpiresNorKeepsWhatIsOnDisk(t *testing.T) {
	for _, step := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(step, restart), func(t *testing.T) {
				m := &machine{}
				options := Options{Dir: t.TempDir(), MaxSize: 1 << 20, Clock: m}
				s := open(t, options)
				appendNow(t, s.Queue("rule"), record("young"))
				m.mu.Lock()
				m.step = step
				m.mu.Unlock()
				m.pass(59 * time.Minute)
				if restart {
					closeNow(t, s)
					s = open(t, options)
				}
				dst := make([]Record, 2)
				if n, lost := s.Queue("rule").Front(dst, time.Hour); n != 1 || lost != (Lost{}) || dst[0].Age.Round(time.Second) != 59*time.Minute {
					t.Fatalf("%d records, lost %+v, %v old", n, lost, dst[0].Age)
				}
				m.pass(2 * time.Minute)
				if n, lost := s.Queue("rule").Front(dst, time.Hour); n != 0 || lost.Expired != 1 {
					t.Errorf("%d records, lost %+v: it is too old by now", n, lost)
				}
			})
		}
	}
}

func TestAnAgeAtAppendIsPartOfIt(t *testing.T) {
	m := &machine{}
	q := open(t, Options{Dir: t.TempDir(), MaxSize: 1 << 20, Clock: m}).Queue("rule")
	r := record("x")
	r.Age = time.Hour // more than the spool is old
	appendNow(t, q, r)
	m.pass(time.Minute)
	if got := oldest(t, q, 1)[0].Age.Round(time.Second); got != time.Hour+time.Minute {
		t.Errorf("%v old", got)
	}
}

func TestAFileOfVersion1IsReadWithoutLossAndCountsFromItsFirstOpening(t *testing.T) {
	m := &machine{}
	log := &logs{}
	options := Options{Dir: oldFolder(t, oldContent(t, 1)), MaxSize: 1 << 20, Clock: m, Logger: log.logger()}
	s := open(t, options)
	m.pass(30 * time.Minute)
	closeNow(t, s)
	s = open(t, options)
	appendNow(t, s.Queue("lamps"), record("new"))
	m.pass(29 * time.Minute)
	dst := make([]Record, 100)
	n, lost := s.Queue("lamps").Front(dst, time.Hour)
	if n != 41 || lost != (Lost{}) {
		t.Fatalf("%d records, lost %+v; want 40 and the new one\n%s", n, lost, log)
	}
	for i, r := range dst[:40] {
		want := Record{Age: 59 * time.Minute, Key: fmt.Sprint("key ", i%2), Flags: byte(i % 8),
			Topic: fmt.Appendf(nil, "site/%d/set", i), Payload: bytes.Repeat(fmt.Appendf(nil, "payload %d ", i), i)}
		if r.Age != want.Age || r.Key != want.Key || r.Flags != want.Flags ||
			!bytes.Equal(r.Topic, want.Topic) || !bytes.Equal(r.Payload, want.Payload) {
			t.Errorf("record %d is %+v, want %+v", i, r, want)
		}
	}
	if got := s.Queue("meters\x00received").Len(); got != 4 {
		t.Errorf("%d of another queue, want 4", got)
	}
	if got := oldest(t, s.Queue("large"), 1); len(got) != 1 || len(got[0].Payload) != 30000 {
		t.Errorf("the large one: %d records", len(got))
	}
	m.pass(2 * time.Minute)
	if n, lost := s.Queue("lamps").Front(dst, time.Hour); n != 1 || lost.Expired != 40 || string(dst[0].Payload) != "new" {
		t.Errorf("%d records, lost %+v: all but one are too old by now", n, lost)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "was taken over") {
		t.Errorf("log: %s", got)
	}
}

// A mark that the disk has spoilt neither expires anything nor stops the time.
func TestADamagedMark(t *testing.T) {
	m := &machine{}
	log := &logs{}
	options := Options{Dir: t.TempDir(), MaxSize: 1 << 20, Clock: m, Logger: log.logger()}
	s := open(t, options)
	appendNow(t, s.Queue("rule"), record("first"))
	m.pass(time.Hour)
	appendNow(t, s.Queue("rule"), record("second"))
	closeNow(t, s)
	for i := range 2 {
		if err := os.WriteFile(statePath(options.Dir, i), []byte("spoilt"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, options)
	m.pass(time.Minute)
	got := oldest(t, s.Queue("rule"), 2)
	if got[0].Age.Round(time.Second) != time.Hour+time.Minute || got[1].Age.Round(time.Second) != time.Minute {
		t.Errorf("%v and %v old", got[0].Age, got[1].Age)
	}
	if !strings.Contains(log.String(), "spool's time is damaged") {
		t.Errorf("log: %s", log)
	}
}

func TestWhatWaitsLongIsMarkedNowAndThen(t *testing.T) {
	m := &machine{}
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 1 << 20, Clock: m})
	appendNow(t, s.Queue("rule"), record("x"))
	for _, c := range []struct {
		after time.Duration // since the last mark, by Go's clock
		due   bool
	}{{0, false}, {markEvery - time.Second, false}, {markEvery, true}} {
		p := &Spool{time: s.time, marked: time.Now().Add(-c.after)}
		p.records.Store(1)
		if got := p.markDue(time.Now()); got != c.due {
			t.Errorf("%v after the last mark: due %v, want %v", c.after, got, c.due)
		}
	}
}

func TestWhatPassedBeforeAnOrderlyEndCountsAfterAReboot(t *testing.T) {
	m := &machine{}
	options := Options{Dir: t.TempDir(), MaxSize: 1 << 20, Clock: m}
	s := open(t, options)
	appendNow(t, s.Queue("rule"), record("x"))
	m.pass(30 * time.Minute)
	closeNow(t, s)
	m.pass(time.Hour)
	m.boots, m.booted = 1, m.real
	s = open(t, options)
	m.pass(time.Minute)
	if got := oldest(t, s.Queue("rule"), 1)[0].Age.Round(time.Second); got != 31*time.Minute {
		t.Errorf("%v old, want what the two boots could measure", got)
	}
}

// What came at one moment came in the order in which it was appended, and after what
// came before; what is appended late comes where it belongs.
func TestNoTwoRecordsCameAtTheSameTime(t *testing.T) {
	m := &machine{real: time.Hour}
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Clock: m})
	q := s.Queue("rule")
	var came []time.Duration
	for _, age := range []time.Duration{0, 0, time.Millisecond, 0, time.Minute} {
		r := record("x")
		r.Age = age
		at, ok := q.Append(r, nil)
		if !ok {
			t.Fatal("not taken")
		}
		came = append(came, at)
	}
	for i := range came[1:4] {
		if came[i+1] <= came[i] {
			t.Errorf("record %d came %v, the one before %v", i+1, came[i+1], came[i])
		}
	}
	if came[4] >= came[0] {
		t.Error("one that came a minute before the first does not come before it")
	}
	closeNow(t, s)
	m.pass(time.Minute)
	s = open(t, Options{Dir: dir, MaxSize: 1 << 20, Clock: m})
	q = s.Queue("rule")
	first := oldest(t, q, 1)[0]
	at, _ := q.Append(record("new"), nil)
	again, _ := q.Append(first, nil)
	if at <= first.Came || again != first.Came {
		t.Errorf("after a restart: the first came %v, a new one %v, the first again %v", first.Came, at, again)
	}
}
