package fake

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/tap"
)

// Watched is a tap with one who watches, and adds up what is told.
type Watched struct {
	Tap     *tap.Tap
	watcher *tap.Watcher
	done    map[string]uint64 // how often, by rule and decision
	lost    map[string]uint64 // likewise, by rule and reason
	missed  uint64
}

// Watch begins to watch.
func Watch(t testing.TB) *Watched {
	t.Helper()
	w := &Watched{Tap: new(tap.Tap), done: make(map[string]uint64), lost: make(map[string]uint64)}
	var err error
	if w.watcher, err = w.Tap.Watch(tap.Filter{Payload: 16}); err != nil {
		t.Fatal(err)
	}
	if _, measures := t.(*testing.B); measures {
		w.End()
	}
	return w
}

// read adds up what was told since.
func (w *Watched) read() {
	now, end := context.WithCancel(context.Background())
	end()
	events, missed, _ := w.watcher.Next(now)
	w.missed += missed
	for _, e := range events {
		n := max(e.Count, 1)
		w.done[e.Rule+" "+string(e.Decision)] += n
		if e.Decision == tap.Dropped || e.Decision == tap.Filtered {
			w.lost[e.Rule+" "+e.Reason] += n
		}
	}
}

// End ends the watching, for tests of what it costs if nobody watches. Nothing is checked then.
func (w *Watched) End() {
	w.watcher.Close()
	w.missed = 1
}

// Check fails unless everything was told of that was counted as lost, and no more; and so of what
// was done, whose number done gives. What tests have too much of is not looked at.
func (w *Watched) Check(t testing.TB, rule string, of *account.Counters, decision tap.Decision, done func() uint64) {
	t.Helper()
	w.agree(t, func() (wrong []string) {
		for why, n := range of.All() {
			if told := w.lost[rule+" "+why.String()]; told != n {
				wrong = append(wrong, fmt.Sprintf("rule %s has lost %d by %s, and %d were told of", rule, n, why, told))
			}
		}
		for _, why := range account.Reasons() {
			if told := w.lost[rule+" "+why.String()]; told > 0 && of.Of(why) == 0 {
				wrong = append(wrong, fmt.Sprintf("rule %s: %d were told of as lost by %s, and none was", rule, told, why))
			}
		}
		if told, n := w.done[fmt.Sprint(rule, " ", decision)], done(); told != n {
			wrong = append(wrong, fmt.Sprintf("rule %s: %d were told of as %s, and %d were", rule, told, decision, n))
		}
		return wrong
	})
}

// CheckRemoved is Check for what was lost of rules that are gone.
func (w *Watched) CheckRemoved(t testing.TB, all iter.Seq2[string, *account.Counters]) {
	t.Helper()
	w.agree(t, func() (wrong []string) {
		for rule, of := range all {
			for why, n := range of.All() {
				if told := w.lost[rule+" "+why.String()]; rule != "" && told < n {
					wrong = append(wrong, fmt.Sprintf("rule %s, which is gone, has lost %d by %s, and %d were told of", rule, n, why, told))
				}
			}
		}
		return wrong
	})
}

// agree fails with what is wrong, should that last: what is just counted is told of after it.
func (w *Watched) agree(t testing.TB, wrong func() []string) {
	t.Helper()
	for late := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		w.read()
		if w.missed > 0 {
			return
		}
		now := wrong()
		if len(now) == 0 {
			return
		}
		if time.Now().After(late) {
			t.Error(strings.Join(now, "\n"))
			return
		}
	}
}
