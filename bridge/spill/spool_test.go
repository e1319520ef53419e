package spill_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
)

// directions are two that share a spool, of which each record counts 1 KiB.
type directions struct {
	on   *spill.Spool
	r    [2]*rig
	kept map[*spill.Queue]int
}

func sharing(t *testing.T, records int64) *directions {
	t.Helper()
	d := &directions{on: spill.Share(fake.OpenSpool(t, t.TempDir(), records<<10)), kept: map[*spill.Queue]int{}}
	for i, kind := range []string{spill.Sent, spill.Received} {
		r := &rig{disk: d.on.Spool, woken: make(chan string, 100)}
		r.Queues = spill.New(spill.Options{Spool: d.on, Log: slog.New(slog.DiscardHandler), MaxAge: time.Nanosecond, Losses: r.gone.Losses, Kinds: []string{kind}})
		d.r[i] = r
	}
	return d
}

// put appends a message, and reports whether there is room for it.
func (d *directions) put(t *testing.T, q *spill.Queue) bool {
	t.Helper()
	done := make(chan error, 1)
	if !q.Append(spool.Record{Topic: []byte("t"), Payload: make([]byte, 1<<10-spool.Overhead-1)}, func(err error) { done <- err }) {
		t.Fatal("not taken")
	}
	err := <-done
	if err != nil && !errors.Is(err, spool.ErrFull) {
		t.Fatal(err)
	}
	if err == nil {
		d.kept[q]++
	}
	return err == nil
}

// fill puts as many as there is room for, and returns how many.
func (d *directions) fill(t *testing.T, q *spill.Queue) (n int) {
	t.Helper()
	for d.put(t, q) {
		n++
	}
	return n
}

// A rule that fills the spool leaves room for others, of both directions, however many rules
// there are that use it now and then.
func TestARuleThatFillsTheSpoolLeavesRoomForOthers(t *testing.T) {
	d := sharing(t, 160)
	sends := d.r[0].assign(rule("alone", 1))
	if got := d.fill(t, sends[0]); got != 160 {
		t.Errorf("a rule that is the only one finds room for %d of 160", got)
	}
	take(sends[0])
	rules := []spill.Rule{rule("first", 1), rule("second", 2)}
	for i := range 1000 {
		rules = append(rules, rule(fmt.Sprint("quiet ", i), uint64(10+i)))
	}
	sends = d.r[0].assign(rules...)
	receives := d.r[1].assign(rule("third", 3))
	for _, c := range []struct {
		q    *spill.Queue
		room int
	}{{sends[0], 140}, {sends[1], 17}, {receives[0], 2}} { // 7/8, of the rest 7/8, and so on
		if got := d.fill(t, c.q); got != c.room {
			t.Errorf("a rule finds room for %d, want %d", got, c.room)
		}
	}
	var into [40]spool.Record
	front := sends[0].Front(into[:])
	front.Remove(40)
	if got := d.fill(t, receives[0]); got != 35 { // of 41 that are free
		t.Errorf("a rule finds room for %d more, want most of what the first one has passed on", got)
	}
}

// Whatever becomes of rules and messages, in the end all room is given back.
func TestTheRoomInTheSpoolAddsUp(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := sharing(t, 100)
		for range 300 {
			way := d.r[r.IntN(2)]
			switch r.IntN(6) {
			case 0:
				var rules []spill.Rule
				for _, i := range r.Perm(5)[:1+r.IntN(4)] {
					one := rule(fmt.Sprint("r", i), uint64(1+r.IntN(5)))
					one.Latest, one.Losses = r.IntN(2) == 0, &account.Counters{Log: slog.New(slog.DiscardHandler)}
					rules = append(rules, one)
				}
				way.assign(rules...)
			case 1:
				for _, q := range way.queues {
					var into [7]spool.Record
					front := q.Front(into[:])
					front.Remove(r.IntN(len(front.Records) + 1))
				}
			case 2:
				for _, q := range way.queues {
					var work [7]spool.Record
					q.Tidy(work[:], func(record spool.Record) bool { return r.IntN(20) > 0 && q.Append(record, func(error) {}) })
				}
			default:
				for _, q := range way.queues {
					d.put(t, q)
				}
			}
		}
		for _, way := range d.r {
			way.assign()
			fake.WaitFor(t, "an empty spool", func() bool { way.ExpireUnused(); return len(way.Unused()) == 0 })
		}
		if d.on.Bytes() != 0 || d.on.Copies(0) != 0 {
			t.Errorf("seed %d: %d bytes count as taken, %d do not count", seed, d.on.Bytes(), d.on.Copies(0))
		}
	}
}
