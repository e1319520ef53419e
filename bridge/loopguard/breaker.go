package loopguard

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Breaker finds what a rule publishes over and over, and remembers what tests have found
// out about it. A fingerprint is that of a source address, a topic and a payload, so
// that many devices that say the same do not add up, and only what goes round is ever
// dropped.
type Breaker struct {
	Limit int // a second; 0: none
	// Certain: the table itself shows that the rule's messages come back, and the guard
	// that would know them is off. Nothing needs to be tested.
	Certain bool

	mu         sync.Mutex
	start      time.Time   // of the second that is counted
	buckets    *[64]bucket // nil until the first message
	verdicts   map[uint64]*verdict
	tests      map[Test]bool // under way
	dropping   time.Time     // something of the rule is dropped before
	lastLogged time.Time     // when a loop was last logged
}

// A bucket has the fingerprint that leads in its part of all fingerprints, and its lead: one that
// makes up most of a storm wins, whatever comes between.
type bucket struct {
	fingerprint uint64
	hot         uint64 // the fingerprint that passed the limit last,
	lead        int32
	row         uint8 // in so many seconds in a row,
	over        bool  // this one among them
}

// hotSeconds is how long a fingerprint may pass the limit before it is tested: a burst
// ends by itself. One that was found to go round has one second.
const hotSeconds = 3

// verdict is what a test has found out about a fingerprint.
type verdict struct {
	honest time.Time // it goes on whether it is published or not: not tested again before
	loop   time.Time // it went round: dropped before
	retest time.Time // and tested sooner before
	// Of what goes round one is carried all the same when the last one was long ago.
	carried time.Time
	passed  int // how many tests in a row found it honest
}

const (
	// What goes round is dropped for cooldown, which ends it, unless something else
	// sets it going again: for retestPeriod it is tested after one second.
	Cooldown     = 10 * time.Second
	retestPeriod = 10 * time.Minute
	// CarryAgain is how long after one of its kind what was found to go round is carried
	// again: that sets no loop going that would not end at once, and whoever forges what
	// another one sends, so that it looks like a loop, silences nobody: subscribers have
	// the same message of the same source no longer ago than that.
	CarryAgain = 2 * time.Second
	// MaxVerdicts and maxTests bound what a rule remembers and tests at a time; of
	// what is beyond, the verdict that ends first is forgotten, and the test comes
	// later. A sender needs hundreds of datagrams for each.
	MaxVerdicts = 512
	maxTests    = 16
)

// patience is how long the tests of a fingerprint wait for silence, in turn. The first is short,
// for it delays honest streams. It may be wrong: what is on its way when nothing is published
// any more, in lines and in the queues of a broker, takes its time to come. So there are
// longer ones.
var patience = [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second}

// Two rules of two programs that hand on each other's messages have to be silent at the same
// time: each finds that they go on as long as the other one does not test them. So a fingerprint is
// tested series times, and how long lies between is left to chance, or two that take turns
// would take turns for ever; after that it is believed for an hour.
const (
	series     = 16
	trustLeast = 5 * time.Second
	trustMost  = 15 * time.Second
	trustLong  = time.Hour
)

// Test is a test under way of something that a rule publishes.
type Test interface{ Stop() }

// Admission is what the breaker says of a message.
type Admission uint8

// What is to become of a message.
const (
	Admitted  Admission = iota // it goes on
	Suspected                  // it is to be tested
	Refused                    // it is to be dropped
)

// Admit counts a message and says what is to become of it.
func (b *Breaker) Admit(fingerprint uint64, now time.Time) Admission {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tick(now)
	v := &b.buckets[fingerprint%uint64(len(b.buckets))]
	switch {
	case v.fingerprint == fingerprint:
		v.lead++
	case v.lead == 0:
		v.fingerprint, v.lead = fingerprint, 1
	default:
		v.lead--
	}
	if int(v.lead) > b.Limit && !v.over {
		if v.hot != fingerprint {
			v.hot, v.row = fingerprint, 0
		}
		v.over = true
		v.row = min(v.row+1, hotSeconds)
	}
	if len(b.verdicts) > 0 {
		if known := b.verdicts[fingerprint]; known != nil {
			return b.recall(known, v, fingerprint, now)
		}
	}
	if v.row < hotSeconds || v.hot != fingerprint || len(b.tests) >= maxTests {
		return Admitted
	}
	return Suspected
}

// recall is Admit of what was tested before. Callers hold mu.
func (b *Breaker) recall(known *verdict, v *bucket, fingerprint uint64, now time.Time) Admission {
	seconds := uint8(0) // that it has passed the limit
	if v.hot == fingerprint {
		seconds = v.row
	}
	switch {
	case now.Before(known.honest):
		return Admitted
	case now.Before(known.loop) && now.Sub(known.carried) >= CarryAgain:
		known.carried = now
		return Admitted
	case now.Before(known.loop):
		if seconds < hotSeconds || b.Certain {
			return Refused
		}
		// It comes as often as ever though none is published: it was no loop.
		known.loop, known.retest = time.Time{}, time.Time{}
		known.pardon(now)
		return Admitted
	case len(b.tests) >= maxTests:
		return Admitted
	case seconds >= hotSeconds, seconds > 0 && now.Before(known.retest):
		return Suspected
	}
	return Admitted
}

// tick begins a new second.
func (b *Breaker) tick(now time.Time) {
	gone := now.Sub(b.start)
	if b.buckets == nil {
		b.buckets = new([64]bucket)
	} else if gone < time.Second {
		return
	}
	b.start = now
	for i := range b.buckets {
		v := &b.buckets[i]
		if gone >= 2*time.Second || !v.over {
			v.row = 0
		}
		v.lead, v.over = 0, false
	}
}

// Begin takes note of a test of a fingerprint, unless there are too many. It returns how long the
// source is to be watched.
func (b *Breaker) Begin(t Test, fingerprint uint64) (window time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tests) >= maxTests {
		return 0, false
	}
	if b.tests == nil {
		b.tests = make(map[Test]bool)
	}
	b.tests[t] = true
	n := 0
	if known := b.verdicts[fingerprint]; known != nil {
		n = known.passed % len(patience)
	}
	return b.Scale(patience[n]), true
}

// Scale makes a time longer where the limit is so low that little comes in it.
func (b *Breaker) Scale(d time.Duration) time.Duration {
	const enough = 20
	if b.Limit < enough {
		d = d * enough / time.Duration(b.Limit)
	}
	return d
}

// End takes note of what a test has found out.
func (b *Breaker) End(t Test, honest, loops []uint64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tests, t)
	for _, fingerprint := range honest {
		b.verdict(fingerprint, now).pardon(now)
	}
	for _, fingerprint := range loops {
		known := b.verdict(fingerprint, now)
		*known = verdict{loop: now.Add(Cooldown), retest: now.Add(retestPeriod), carried: now}
		b.dropping = known.loop
		if b.buckets != nil {
			if v := &b.buckets[fingerprint%uint64(len(b.buckets))]; v.hot == fingerprint {
				v.row = 0 // what comes now is counted anew, see recall
			}
		}
	}
}

func (known *verdict) pardon(now time.Time) {
	trust := trustLeast + rand.N(trustMost-trustLeast)
	if known.passed++; known.passed%series == 0 {
		trust = trustLong
	}
	known.honest = now.Add(trust)
}

// verdict finds that of a fingerprint, or makes one. Callers hold mu.
func (b *Breaker) verdict(fingerprint uint64, now time.Time) *verdict {
	if known := b.verdicts[fingerprint]; known != nil {
		return known
	}
	if b.verdicts == nil {
		b.verdicts = make(map[uint64]*verdict)
	}
	if len(b.verdicts) >= MaxVerdicts {
		b.forget(now)
	}
	known := new(verdict)
	b.verdicts[fingerprint] = known
	return known
}

// forget makes room: of all that is over, or of what is over first.
func (b *Breaker) forget(now time.Time) {
	var first uint64
	var least time.Time
	for fingerprint, known := range b.verdicts {
		until := known.honest
		if known.retest.After(until) {
			until = known.retest
		}
		if until.Before(now) {
			delete(b.verdicts, fingerprint)
		} else if least.IsZero() || until.Before(least) {
			first, least = fingerprint, until
		}
	}
	if len(b.verdicts) >= MaxVerdicts {
		delete(b.verdicts, first)
	}
}

// DropsUntil returns until when something of the rule is dropped; the zero time if
// nothing is.
func (b *Breaker) DropsUntil(now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.dropping) {
		return b.dropping
	}
	return time.Time{}
}

// StopTests ends the tests that are under way.
func (b *Breaker) StopTests() {
	b.mu.Lock()
	tests := slices.Collect(maps.Keys(b.tests))
	b.mu.Unlock()
	for _, t := range tests {
		t.Stop()
	}
}

// LogDue reports whether a loop is to be logged: a line a minute is enough.
func (b *Breaker) LogDue(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.lastLogged.IsZero() && now.Sub(b.lastLogged) < time.Minute {
		return false
	}
	b.lastLogged = now
	return true
}
