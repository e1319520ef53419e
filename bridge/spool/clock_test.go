package spool

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// A machine is one whose clocks are in the hands of a test.
type machine struct {
	mu     sync.Mutex    // for those that a spool asks meanwhile
	real   time.Duration // what has really passed since the test began
	booted time.Duration // in real
	boots  int
	step   time.Duration // what the time of day is wrong by
	known  bool          // NTP keeps it right, or believes so
}

// began is the true time of day when a test begins.
var began = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func (m *machine) Boot() string { return fmt.Sprint("boot ", m.boots) }

func (m *machine) Up() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.real - m.booted
}

func (m *machine) TimeOfDay() (time.Time, time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return began.Add(m.real + m.step), 0, m.known
}

// pass lets time pass.
func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.real += d
}

// A life is what happens to a machine and to the programs on it that have a spool's
// file open, one after the other.
type life struct {
	*machine
	time *timeline
	file mark
}

func newLife() *life {
	m := &machine{}
	l := &life{machine: m, time: newTimeline(m)}
	l.write()
	return l
}

func (l *life) write()                  { l.time.see(); l.file = l.time.mark() } // as each commit does
func (l *life) set(wrong time.Duration) { l.step, l.known = wrong, false }       // by hand
func (l *life) ntp(wrong time.Duration) { l.step, l.known = wrong, true }

// start is what a program does that finds the file.
func (l *life) start() {
	m, err := decodeMark(l.file.encode())
	if err != nil {
		panic(err)
	}
	l.time = newTimeline(l.machine)
	l.time.resume(m)
}

// reboot comes up with a time of day that is wrong by so much.
func (l *life) reboot(off, wrong time.Duration) {
	l.pass(off)
	l.booted = l.real
	l.boots++
	l.set(wrong)
	l.start()
}

// How old that is which came when the life began.
func TestAges(t *testing.T) {
	const min, hour = time.Minute, time.Hour
	const in1970 = -56 * 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		live func(l *life)
		want time.Duration
	}{
		"a step forward": {func(l *life) { l.pass(min); l.set(5 * hour); l.pass(min); l.write(); l.pass(min) }, 3 * min},
		"a step back":    {func(l *life) { l.pass(min); l.set(-5 * hour); l.pass(min); l.write(); l.pass(min) }, 3 * min},
		"NTP forward": {func(l *life) {
			l.set(-5 * hour)
			l.write()
			l.pass(min)
			l.ntp(0)
			l.write()
			l.pass(min)
		}, 2 * min},
		"NTP back": {func(l *life) {
			l.set(5 * hour)
			l.write()
			l.pass(min)
			l.ntp(0)
			l.write()
			l.pass(min)
		}, 2 * min},
		"NTP out of 1970": {func(l *life) {
			l.set(in1970)
			l.write()
			l.pass(min)
			l.ntp(0)
			l.write()
			l.pass(min)
		}, 2 * min},
		"from a wrong server to a right one": {func(l *life) {
			l.ntp(-5 * hour)
			l.write()
			l.pass(min)
			l.ntp(0)
			l.write()
			l.pass(min)
		}, 2 * min},

		"a restart":                    {func(l *life) { l.pass(min); l.start(); l.pass(min) }, 2 * min},
		"an hour between two programs": {func(l *life) { l.pass(min); l.write(); l.pass(hour); l.start() }, hour + min},
		"a step forward between two":   {func(l *life) { l.pass(min); l.set(5 * hour); l.start(); l.write(); l.pass(min) }, 2 * min},
		"a step back between two":      {func(l *life) { l.pass(min); l.set(-5 * hour); l.start(); l.write(); l.pass(min) }, 2 * min},
		"NTP between two": {func(l *life) {
			l.ntp(in1970)
			l.write()
			l.pass(min)
			l.ntp(0)
			l.start()
			l.write()
		}, min},
		"a program killed long after it wrote": {func(l *life) { l.write(); l.pass(hour); l.start() }, hour},

		"a reboot, nobody vouches for the time": {func(l *life) { l.pass(min); l.write(); l.reboot(hour, 0); l.write(); l.pass(min) }, 2 * min},
		"a reboot five hours later":             {func(l *life) { l.pass(min); l.write(); l.reboot(min, 5*hour); l.write(); l.pass(min) }, 2 * min},
		"a reboot into 1970": {func(l *life) {
			l.ntp(0)
			l.pass(min)
			l.write()
			l.reboot(hour, in1970)
			l.write()
			l.pass(min)
		}, 2 * min},
		"a reboot into 1970, then NTP, of what came before NTP": {func(l *life) {
			l.set(in1970)
			l.write()
			l.pass(min)
			l.write()
			l.reboot(hour, in1970)
			l.pass(min)
			l.ntp(0)
			l.write()
		}, 2 * min},
		"a reboot into 1970, then NTP": {func(l *life) {
			l.ntp(0)
			l.pass(min)
			l.write()
			l.reboot(hour, in1970)
			l.pass(min)
			l.write()
			l.ntp(0)
			l.write()
			l.pass(min)
		}, hour + 3*min},
		"a reboot into the time of the shutdown, then NTP": {func(l *life) {
			l.ntp(0)
			l.pass(min)
			l.write()
			l.reboot(hour, -hour)
			l.pass(min)
			l.ntp(0)
			l.write()
		}, hour + 2*min},
		"a power cut long after the last mark, then NTP": {func(l *life) {
			l.ntp(0)
			l.write()
			l.pass(min)
			l.reboot(hour, in1970)
			l.pass(min)
			l.ntp(0)
			l.write()
		}, hour + 2*min},
		"two reboots, the first without NTP": {func(l *life) {
			l.ntp(0)
			l.write()
			l.reboot(hour, in1970)
			l.pass(min)
			l.write()
			l.reboot(hour, in1970)
			l.pass(min)
			l.ntp(0)
			l.write()
		}, 2*hour + 2*min},
		"a restart between the reboot and NTP": {func(l *life) {
			l.ntp(0)
			l.write()
			l.reboot(hour, in1970)
			l.pass(min)
			l.write()
			l.start()
			l.pass(min)
			l.ntp(0)
			l.write()
		}, hour + 2*min},
		"NTP twice after a reboot, the second from a better server": {func(l *life) {
			l.ntp(0)
			l.write()
			l.reboot(hour, in1970)
			l.ntp(0)
			l.write()
			l.ntp(5 * hour)
			l.write()
		}, hour},
		"a step by hand on each side of a reboot": {func(l *life) {
			l.ntp(0)
			l.write()
			l.set(-5 * hour)
			l.write()
			l.reboot(hour, 5*hour)
			l.write()
			l.pass(min)
		}, min},
		"a disk that another machine gets, up for longer": {func(l *life) {
			l.pass(min)
			l.write()
			l.boots++
			l.booted -= 24 * hour
			l.start()
			l.pass(min)
		}, 2 * min},
		"a copy of the machine, started again": {func(l *life) { l.pass(hour); l.write(); l.booted = l.real; l.start(); l.pass(min) }, hour + min},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife()
			came := l.time.now()
			c.live(l)
			if got := l.time.now() - came; got != c.want {
				t.Errorf("age %v, want %v", got, c.want)
			}
		})
	}
}

func TestAnUncertainTimeOfDayCountsForLess(t *testing.T) {
	l := newLife()
	came := l.time.now()
	l.ntp(0)
	l.time.clock = uncertain{l.machine, 2 * time.Second}
	l.write()
	l.reboot(time.Hour, 0)
	l.time.clock = uncertain{l.machine, 3 * time.Second}
	l.ntp(0)
	l.write()
	if got := l.time.now() - came; got != time.Hour-5*time.Second {
		t.Errorf("age %v, want an hour but for 5 s", got)
	}
}

type uncertain struct {
	*machine
	within time.Duration
}

func (u uncertain) TimeOfDay() (time.Time, time.Duration, bool) {
	now, _, known := u.machine.TimeOfDay()
	return now, u.within, known
}

// FuzzAges lives lives in which anything happens to the clocks in any order; NTP
// alone tells the truth. Nothing is ever taken for older than it is, and for younger
// only by the times that the machine was off, or that were lost with the power, as
// far as NTP on both sides has not made them good.
func FuzzAges(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		within := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
		// What is not counted: now, and when the time of day was known last; and the
		// same as the file has it.
		type account struct {
			missing, whenKnown time.Duration
			known, past        bool
		}
		var a, filed account
		l := newLife()
		came := l.time.now()
		wrote := l.real
		for range 40 {
			what := random.IntN(8)
			switch what {
			case 0, 1:
				l.pass(within(time.Hour))
			case 2:
				l.set(within(100*time.Hour) - 50*time.Hour)
			case 3:
				l.ntp(0)
			case 4, 5:
				l.write()
				if l.known {
					if a.known && a.past {
						a.missing = min(a.missing, a.whenKnown)
					}
					a.whenKnown, a.known, a.past = a.missing, true, false
				}
				filed, wrote = a, l.real
			case 6: // killed
				l.start()
				a = filed
			case 7:
				off := within(10 * time.Hour)
				lost := l.real - wrote
				l.reboot(off, within(100*time.Hour)-50*time.Hour)
				a = filed
				a.missing += off + lost
				a.past = true
				// Not filed, but the next start of this boot would find the same.
				l.write()
				filed, wrote = a, l.real
			}
			age := l.time.now() - came
			if age > l.real {
				t.Fatalf("event %d: %v old, and taken for %v", what, l.real, age)
			}
			if want := l.real - a.missing; age != want {
				t.Fatalf("event %d: %v old, of which %v cannot count; taken for %v", what, l.real, a.missing, age)
			}
		}
	})
}

func TestTheSystemsClock(t *testing.T) {
	c := newClock()
	if c.Boot() == "" || c.Boot() != newClock().Boot() && strings.HasPrefix(c.Boot(), "process") == false {
		t.Errorf("boot %q, then %q", c.Boot(), newClock().Boot())
	}
	before := c.Up()
	time.Sleep(time.Millisecond)
	if passed := c.Up() - before; passed < time.Millisecond || passed > time.Minute {
		t.Errorf("a millisecond takes %v", passed)
	}
	if now, within, known := c.TimeOfDay(); known && (within < 0 || within >= 16*time.Second || time.Since(now).Abs() > time.Minute) {
		t.Errorf("the time of day is %v within %v", now, within)
	}
}
