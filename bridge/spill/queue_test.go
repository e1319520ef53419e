package spill_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
)

func TestARuleBecomesWhatItIsAndElseWhatHasItsName(t *testing.T) {
	for name, c := range map[string]struct {
		before, next []spill.Rule
		want         []int
	}{
		"unchanged":                      {[]spill.Rule{rule("a", 1), rule("b", 2)}, []spill.Rule{rule("b", 2), rule("a", 1)}, []int{1, 0}},
		"renamed":                        {[]spill.Rule{rule("a", 1)}, []spill.Rule{rule("b", 1)}, []int{0}},
		"changed":                        {[]spill.Rule{rule("a", 1)}, []spill.Rule{rule("a", 2)}, []int{0}},
		"names swapped":                  {[]spill.Rule{rule("a", 1), rule("b", 2)}, []spill.Rule{rule("b", 1), rule("a", 2)}, []int{0, 1}},
		"renamed, and the name used":     {[]spill.Rule{rule("a", 1)}, []spill.Rule{rule("a", 2), rule("b", 1)}, []int{1}},
		"two alike keep their names":     {[]spill.Rule{rule("a", 1), rule("b", 1)}, []spill.Rule{rule("b", 1), rule("a", 1)}, []int{1, 0}},
		"gone, and the name taken":       {[]spill.Rule{rule("a", 1), rule("b", 2)}, []spill.Rule{rule("a", 2)}, []int{-1, 0}},
		"gone":                           {[]spill.Rule{rule("a", 1)}, []spill.Rule{rule("b", 2)}, []int{-1}},
		"by several interfaces now":      {[]spill.Rule{rule("a", 1)}, []spill.Rule{by("a", "x", 2), by("a", "y", 3)}, []int{0}},
		"by its own and others now":      {[]spill.Rule{rule("a", 2)}, []spill.Rule{by("a", "x", 1), by("a", "y", 2)}, []int{1}},
		"by one of them again":           {[]spill.Rule{by("a", "x", 1), by("a", "y", 2)}, []spill.Rule{rule("a", 2)}, []int{-1, 0}},
		"one more interface":             {[]spill.Rule{by("a", "x", 1)}, []spill.Rule{by("a", "b", 2), by("a", "x", 1)}, []int{1}},
		"an interface that is gone":      {[]spill.Rule{by("a", "x", 1), by("a", "y", 2)}, []spill.Rule{by("a", "y", 2)}, []int{-1, 0}},
		"all by several, in another way": {[]spill.Rule{by("a", "x", 1), by("a", "y", 2)}, []spill.Rule{by("a", "y", 4), by("a", "x", 3)}, []int{1, 0}},
		"of an earlier version":          {[]spill.Rule{rule("a", 0), rule("b", 0)}, []spill.Rule{rule("a", 1), rule("c", 2)}, []int{0, -1}},
	} {
		if got := spill.Heirs(c.before, c.next); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestWhatIsOnDiskFollowsItsRuleInOrder(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart=", restart), func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir, 0)
			next := func(rules ...spill.Rule) []*spill.Queue {
				t.Helper()
				if restart {
					if err := r.disk.Close(); err != nil {
						t.Fatal(err)
					}
					r = open(t, dir, 0)
				}
				return r.assign(rules...)
			}
			q := next(rule("a", 1), rule("b", 2))
			put(t, q[0], "t", "1", "2")
			put(t, q[1], "t", "x")
			q = next(rule("b", 1), rule("a", 2)) // they swap their names
			put(t, q[0], "t", "3")
			put(t, q[1], "t", "y")
			q = next(rule("a", 1), rule("b", 2)) // and again
			put(t, q[0], "t", "4")
			if !restart { // the disk does not know what rules have been in between
				q = next(rule("a", 1), rule("b", 3)) // one does something else
			}
			put(t, q[1], "t", "z")
			if got := q[0].Len() + q[1].Len(); got != 7 || r.disk.Len() != 7 {
				t.Errorf("%d by the queues, %d by the spool, want 7", got, r.disk.Len())
			}
			want(t, q[0], "1", "2", "3", "4")
			want(t, q[1], "x", "y", "z")
			put(t, q[0], "t", "5")
			want(t, q[0], "5")
		})
	}
}

// Its queues had no identity in their names.
func TestWhatAnEarlierVersionLeftIsFound(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 0)
	for name, payload := range map[string]string{"a\x00older": "1", "a\x00received": "2", "b": "for the network"} {
		r.disk.Queue(name).Append(spool.Record{Topic: []byte("t"), Payload: []byte(payload)}, nil)
	}
	fake.WaitFor(t, "the disk", func() bool { return r.disk.Undecided() == 0 })
	q := r.assign(rule("a", 1), rule("b", 2))
	put(t, q[0], "t", "3")
	want(t, q[0], "1", "2", "3")
	want(t, q[1])
	if got := r.Unused(); len(got) > 0 {
		t.Errorf("unused: %v", got)
	}
}

// What this process has aside is another's to read, and comes before what was appended.
func TestWhatIsAsideIsReadByTheNextProcess(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 { // what is left from two processes ago comes first
		r := open(t, dir, 0)
		q := r.assign(rule("a", 1))[0]
		before := q.Len()
		q.Aside().Append(spool.Record{Topic: []byte("t"), Payload: fmt.Append(nil, "aside ", round)}, nil)
		put(t, q, "t", fmt.Sprint("later ", round))
		if got := q.Len() - before; got != 1 {
			t.Errorf("%d more to read, want what was appended", got)
		}
		q = r.assign(rule("other", 1))[0]
		if got := r.Unused(); len(got) > 0 {
			t.Errorf("unused: %v", got)
		}
		if got := q.Aside().Len(); got != 1 {
			t.Errorf("%d aside by another name, want 1", got)
		}
		if err := r.disk.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want(t, open(t, dir, 0).assign(rule("third", 1))[0], "aside 0", "aside 1", "aside 2", "later 0", "later 1", "later 2")
}

func TestOneAtATimePassesOnTheFront(t *testing.T) {
	r := open(t, t.TempDir(), time.Nanosecond)
	q := r.assign(rule("a", 1))[0]
	put(t, q, "t", "1", "2", "3")
	var into, other [2]spool.Record
	front := q.Front(into[:])
	if _, ok := q.TryFront(other[:]); ok {
		t.Error("two have the front")
	}
	heir := r.assign(rule("b", 1))[0]
	if _, ok := heir.TryFront(other[:]); ok {
		t.Error("another rule has the front too")
	}
	r.assign()
	r.ExpireUnused() // not what is just passed on
	if got := r.disk.Len(); got != 3 {
		t.Errorf("%d on disk, want 3", got)
	}
	front.Remove(2)
	heir = r.assign(rule("b", 1))[0]
	want(t, heir, "3")
}

func TestWhatNoRuleUsesIsKeptUntilItIsTooOld(t *testing.T) {
	r := open(t, t.TempDir(), 50*time.Millisecond)
	q := r.assign(rule("a", 1))[0]
	put(t, q, "t", "1", "2")
	r.assign()
	if got := r.Unused(); !maps.Equal(got, map[string]int{"a": 2}) {
		t.Errorf("unused: %v", got)
	}
	want(t, r.assign(rule("a", 2))[0], "1", "2") // it came back
	put(t, r.queues[0], "t", "3")
	r.assign()
	fake.WaitFor(t, "it to be too old", func() bool { r.ExpireUnused(); return r.disk.Len() == 0 })
	if got := r.gone.Losses("a").Of(account.ReasonExpired); got != 1 {
		t.Errorf("%d counted as expired, want 1", got)
	}
}

// Who had it in memory when his rule went appends it later.
func TestWhatARuleThatIsGoneAppendsFindsTheNext(t *testing.T) {
	r := open(t, t.TempDir(), 0)
	old := r.assign(rule("a", 1))[0]
	put(t, old, "t", "1")
	r.rules, r.queues = nil, nil // nobody takes the queue over
	q := r.assign(rule("b", 1))[0]
	want(t, q, "1")
	put(t, old, "t", "2")
	if !r.Find() {
		t.Error("nothing found")
	}
	want(t, q, "2")
	old.Append(spool.Record{Topic: []byte("t"), Payload: []byte("3")}, func(error) {})
	r.Find()
	for got := []string(nil); len(got) == 0; got = take(q) {
		if woken := <-r.woken; woken != "b" { // once for each message at most
			t.Errorf("%s is woken", woken)
		}
	}
}

func TestWhatIsTooOldOrDamagedIsCounted(t *testing.T) {
	r := open(t, t.TempDir(), 0)
	a := rule("a", 1)
	a.MaxAge = time.Minute
	q := r.assign(a)[0]
	q.Append(spool.Record{Age: time.Hour, Topic: []byte("t")}, func(error) {})
	q.Append(spool.Record{Age: time.Hour, Topic: []byte("t")}, func(error) {})
	put(t, q, "t", "1")
	q.Expire()
	if got := a.Losses.Of(account.ReasonExpired); got != 2 {
		t.Errorf("%d counted as expired, want 2", got)
	}
	want(t, q, "1")
}

func TestOnlyTheLatestOfATopicIsPassedOn(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, r *rig, dir string) (*rig, *spill.Queue){
		"at once": func(_ *testing.T, r *rig, _ string) (*rig, *spill.Queue) { return r, r.queues[0] },
		"renamed": func(_ *testing.T, r *rig, _ string) (*rig, *spill.Queue) { return r, r.assign(latest(rule("b", 1)))[0] },
		"asked for later": func(_ *testing.T, r *rig, _ string) (*rig, *spill.Queue) {
			r.assign(rule("a", 1))
			return r, r.assign(latest(rule("a", 1)))[0]
		},
		"the next process": func(t *testing.T, r *rig, dir string) (*rig, *spill.Queue) {
			if err := r.disk.Close(); err != nil {
				t.Fatal(err)
			}
			r = open(t, dir, 0)
			return r, r.assign(latest(rule("a", 1)))[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir, 0)
			q := r.assign(latest(rule("a", 1)))[0]
			put(t, q, "x", "1", "2", "3")
			put(t, q, "y", "1")
			put(t, q, "x", "4", "5")
			r, q = next(t, r, dir)
			put(t, q, "y", "2")
			put(t, q, "z", "1")
			tidied := q.Untidy()
			if tidied != (name != "at once" && name != "renamed") {
				t.Errorf("to be tidied: %v", tidied)
			}
			done := make(chan error, 10)
			var work [2]spool.Record
			if tidied && !q.Tidy(work[:], func(r spool.Record) bool { return q.Append(r, func(err error) { done <- err }) }) {
				t.Error("it has not come to the end")
			}
			fake.WaitFor(t, "the disk", func() bool { return r.disk.Undecided() == 0 })
			got := take(q)
			slices.Sort(got)
			if diff := cmp.Diff([]string{"1", "2", "5"}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if q.Untidy() || q.Outgrown() {
				t.Error("it is to be tidied again")
			}
		})
	}
}

// The disk takes no more in the middle: nothing is lost, nor there twice.
func TestTidyingMayStopHalfWay(t *testing.T) {
	r := open(t, t.TempDir(), 0)
	q := r.assign(rule("a", 1))[0]
	for _, topic := range strings.Fields("a b c d e f") {
		put(t, q, topic, topic)
	}
	q = r.assign(latest(rule("a", 1)))[0]
	var work [4]spool.Record
	left := 3
	again := func(record spool.Record) bool {
		left--
		return left >= 0 && q.Append(record, func(error) {})
	}
	if q.Tidy(work[:], again) || !q.Untidy() {
		t.Error("it has come to the end")
	}
	fake.WaitFor(t, "the disk", func() bool { return r.disk.Undecided() == 0 })
	want(t, q, "d", "e", "f", "a", "b", "c")
}

func TestTheTopicsWhoseLatestIsKnownAreBounded(t *testing.T) {
	r := open(t, t.TempDir(), 0)
	r.SetMaxLatest(4)
	q := r.assign(latest(rule("a", 1)), latest(rule("b", 2)))
	for i := range 6 {
		put(t, q[i%2], fmt.Sprint("t/", i), "old")
		put(t, q[i%2], fmt.Sprint("t/", i), "new")
	}
	got := append(take(q[0]), take(q[1])...)
	if slices.Sort(got); !slices.Equal(got, []string{"new", "new", "new", "new", "new", "new", "old", "old"}) {
		t.Errorf("%q: of two topics both are passed on", got)
	}
	for range 3 { // and what is passed on is forgotten
		put(t, q[0], "u", "old", "new")
		want(t, q[0], "new")
	}
}

// Where the spool is full, with other rules' messages too, tidying loses nothing for it.
func TestTidyingNeedsNoRoom(t *testing.T) {
	r := open(t, t.TempDir(), 0)
	q := r.assign(rule("a", 1))[0]
	full := make(chan error, 1)
	n := 0
	for payload := strings.Repeat("x", 10_000); len(full) == 0; n++ {
		q.Append(spool.Record{Topic: fmt.Append(nil, n), Payload: []byte(payload)}, func(err error) {
			if err != nil {
				select {
				case full <- err:
				default:
				}
			}
		})
		fake.WaitFor(t, "the disk", func() bool { return r.disk.Undecided() == 0 })
	}
	kept := q.Len()
	q = r.assign(latest(rule("a", 1)))[0]
	lost := make(chan error, kept)
	var work [16]spool.Record
	if !q.Tidy(work[:], func(r spool.Record) bool {
		return q.Append(r, func(err error) {
			if err != nil {
				lost <- err
			}
		})
	}) {
		t.Error("it has not come to the end")
	}
	fake.WaitFor(t, "the disk", func() bool { return r.disk.Undecided() == 0 })
	if q.Len() != kept || len(lost) > 0 || r.disk.Copies(0) != 0 {
		t.Errorf("%d of %d left, %d refused, %d bytes do not count", q.Len(), kept, len(lost), r.disk.Copies(0))
	}
}

// However often rules get other names, swap them, go and come back, and processes end: what is
// appended for a rule comes back once, in its order, from the queue of that rule and no other.
func TestRulesKeepWhatWaitsWhateverTheirNames(t *testing.T) {
	for seed := range uint64(2) {
		random := rand.New(rand.NewPCG(seed, 2))
		dir := t.TempDir()
		r := open(t, dir, 0)
		var appended, passed [5]int // by identity, less 1
		names := map[int]int{}      // of each identity, of those that are away too
		reload := func(away int) {
			var rules []spill.Rule
			var free []int
			for name := range 8 {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(names)), func(is int) bool { return names[is] == name }) {
					free = append(free, name)
				}
			}
			for is := range appended {
				if random.IntN(6) < away {
					continue
				}
				if was, ok := names[is]; ok {
					free = append(free, was)
				}
				names[is] = -1
			}
			random.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
			for is, name := range names {
				if name < 0 {
					names[is], free = free[0], free[1:]
					rules = append(rules, rule(fmt.Sprint("n", names[is]), uint64(is+1)))
				}
			}
			random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
			r.assign(rules...)
		}
		pass := func(most int) {
			for i, q := range r.queues {
				is := r.rules[i].Is - 1
				into := make([]spool.Record, most)
				front := q.Front(into)
				n := 0
				for _, record := range front.Records {
					if want := fmt.Sprint(is, " ", passed[is]); string(record.Payload) != want {
						t.Fatalf("seed %d: %q from the queue of %s, want %q", seed, record.Payload, want, r.rules[i].Name)
					}
					passed[is]++
					n++
				}
				front.Remove(n)
			}
		}
		reload(0)
		for range 120 {
			switch random.IntN(8) {
			case 0, 1:
				reload(1)
			case 2:
				if err := r.disk.Close(); err != nil {
					t.Fatal(err)
				}
				r = open(t, dir, 0)
				reload(0)
			case 3:
				if len(r.queues) > 0 {
					pass(1 + random.IntN(4))
				}
			default:
				for i, q := range r.queues {
					is := r.rules[i].Is - 1
					for range random.IntN(3) {
						put(t, q, "t", fmt.Sprint(is, " ", appended[is]))
						appended[is]++
					}
				}
			}
		}
		for left := 1; left > 0; left = r.disk.Len() { // with all rules
			var rules []spill.Rule
			for is := range appended {
				rules = append(rules, rule(fmt.Sprint("last ", is), uint64(is+1)))
			}
			r.assign(rules...)
			pass(7)
		}
		if passed != appended || r.disk.Len() != 0 {
			t.Errorf("seed %d: passed on %v of %v, %d left", seed, passed, appended, r.disk.Len())
		}
		if err := r.disk.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
