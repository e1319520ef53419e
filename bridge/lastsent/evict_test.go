package lastsent

import (
	"fmt"
	"testing"
	"time"
)

// flood has a rule send so many topics that nobody has sent before.
func (s *Store) flood(rule string, from, n uint64) {
	for key := from; key < from+n; key++ {
		s.send(s.Entry(key, rule), on)
	}
}

// known is how many of n topics are.
func (s *Store) known(from, n uint64) (known int) {
	for key := from; key < from+n; key++ {
		s.mu.Lock()
		e := s.entries[key]
		s.mu.Unlock()
		if e != nil && e.Was(on) {
			known++
		}
	}
	return known
}

func TestARuleThatFloodsHasNoTopicOfOthersForgotten(t *testing.T) {
	const most, quiet, large = 1024, 20, 300
	s := Open(Options{max: most})
	s.flood("large", 1_000_000, large)
	s.flood("quiet", 2_000_000, quiet)
	s.flood("flood", 0, 100_000)
	for rule, c := range map[string]struct {
		from, n uint64
	}{"quiet": {2_000_000, quiet}, "large": {1_000_000, large}} {
		if got := s.known(c.from, c.n); got != int(c.n) {
			t.Errorf("of rule %s %d of %d topics are known", rule, got, c.n)
		}
	}
	if got := s.known(0, 100_000); got < most-large-quiet-most/atOnce || got > most-large-quiet {
		t.Errorf("of the one that floods %d are known", got)
	}
	if len(s.entries) > most {
		t.Errorf("%d entries", len(s.entries))
	}
}

// Each rule finds its part, however many others have more than theirs.
func TestEachRuleFindsPlacesForItsTopics(t *testing.T) {
	const most, rules = 1024, 8
	s := Open(Options{max: most})
	for round := range uint64(20) {
		for rule := range uint64(rules - 1) {
			s.flood(fmt.Sprint("rule ", rule), rule*1_000_000+round*100, 100)
		}
	}
	const part = (most - most/atOnce) / rules // some are forgotten at once
	s.flood("late", 50_000_000, part)
	for rule := range uint64(rules - 1) {
		s.flood(fmt.Sprint("rule ", rule), rule*1_000_000+500_000, 500)
	}
	if got := s.known(50_000_000, part); got != part {
		t.Errorf("%d of %d topics are known", got, part)
	}
}

func TestRulesOfOneTopicEachFindPlaces(t *testing.T) {
	s := Open(Options{max: 10})
	for i := range uint64(1000) {
		s.flood(fmt.Sprint("rule ", i), i, 1)
	}
	if got := s.known(999, 1); got != 1 || len(s.entries) != 10 {
		t.Errorf("%d entries, and the last is known: %v", len(s.entries), got == 1)
	}
}

// What is forgotten is not in the file any more, whatever else is.
func TestWhatIsForgottenIsTakenOffTheFile(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir, max: 3})
	var entries []*Entry
	for key := range uint64(3) {
		e := s.Entry(key, "rule")
		entries = append(entries, e)
		s.send(e, on)
		s.written(t, e, on)
	}
	last := s.Entry(9, "rule")
	k := s.killed(t, Options{})
	gone := -1
	for key := range uint64(3) {
		switch _, is := s.entries[key]; {
		case is != k.of(key).Was(on):
			t.Errorf("topic %d: known %v, in the file %v", key, is, !is)
		case !is:
			gone = int(key)
		}
	}
	if gone < 0 || len(s.entries) != 3 {
		t.Fatalf("%d entries, want one of the first three not among them", len(s.entries))
	}
	if !entries[gone].Was(on) {
		t.Error("who holds an entry has it no more")
	}
	s.send(entries[gone], off) // must not come back to the file
	s.send(last, on)
	s.written(t, last, on)
	if k = s.killed(t, Options{}); k.of(uint64(gone)).Was(off) {
		t.Error("it is in the file again")
	}
	s.Close()
	s = opened(t, Options{Dir: dir})
	if e := s.of(uint64(gone)); e.Was(off) || e.Was(on) {
		t.Error("it is known after a restart")
	}
	if !s.of(9).Was(on) {
		t.Error("the last topic is not known")
	}
}

// After a restart nobody knows whose topics they are, until each rule asks for its own.
func TestARuleThatFloodsAfterARestartHasNoTopicOfOthersForgotten(t *testing.T) {
	const most, quiet = 1024, 500
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir, max: most})
	s.flood("quiet", 1_000_000, quiet)
	s.Close()
	s = opened(t, Options{Dir: dir, max: most})
	s.flood("flood", 0, 3000)
	if got := s.known(1_000_000, quiet); got != quiet {
		t.Errorf("%d of %d topics are known", got, quiet)
	}
	for key := range uint64(quiet) {
		s.Entry(1_000_000+key, "quiet")
	}
	s.flood("flood", 3000, 3000)
	if got := s.known(1_000_000, quiet); got != quiet {
		t.Errorf("%d of %d topics are known once they are asked for", got, quiet)
	}
}

func TestWhatNobodyAsksForGoesFirst(t *testing.T) {
	const most = 1024
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir, max: most})
	s.flood("gone", 1_000_000, 1000)
	s.Close()
	s = opened(t, Options{Dir: dir, max: most, claimTime: time.Nanosecond})
	s.flood("new", 0, 1000)
	if got := s.known(0, 1000); got != 1000 {
		t.Errorf("%d of 1,000 topics are known", got)
	}
}

// A disk that hangs has no list grow of what is to be taken off the file.
func TestAFloodWhileTheDiskHangsTakesNoMemory(t *testing.T) {
	s := still(t, Options{Dir: t.TempDir(), max: 100})
	s.flood("kept", 1_000_000, 40)
	s.flood("flood", 0, 60)
	s.step(9)
	s.step(9)
	if k := s.killed(t, Options{}); !k.of(0).Was(on) {
		t.Error("what was sent first is not in the file")
	}
	s.flood("flood", 60, 100_000)
	s.mu.Lock()
	forgets, changed := len(s.forgets), len(s.changed)
	s.mu.Unlock()
	if forgets > 200 || changed > 200 {
		t.Errorf("%d are to be taken off the file, and %d written, for 100 entries", forgets, changed)
	}
	s.step(9)
	s.step(9)
	k := s.killed(t, Options{})
	in := 0
	for key := range uint64(100_060) {
		s.mu.Lock()
		e := s.entries[key]
		s.mu.Unlock()
		was := k.of(key).Was(on)
		if was {
			in++
		}
		if was && e == nil {
			t.Fatalf("topic %d is in the file, and forgotten", key)
		}
	}
	if in == 0 {
		t.Error("none is in the file")
	}
	if got := s.known(1_000_000, 40); got != 40 {
		t.Errorf("of another rule %d of 40 are known", got)
	}
}
