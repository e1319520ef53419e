package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync/atomic"
	"time"
)

// How old a record is cannot be told by the time of day: that is stepped, by NTP
// or by hand, and a machine without a battery starts in 1970, or when it was last
// shut down. So a spool has a time of its own, which its records are stamped with.
// It begins at 0 with the file, and goes on
//
//  1. while a program has the file open, by the system's up time, sleep included;
//  2. from one program to the next on the same boot, by that too;
//  3. from one boot to the next, by the time of day, if something vouches for it
//     on both sides (NTP): then what lies between them is how long the machine
//     was off. As soon as that is so, not before;
//  4. else not at all: where nobody vouches for the time of day, the time that the
//     machine was off does not count, nor what passed between the last mark in the
//     file and a power cut.
//
// So no record is ever taken for older than it is, and one is taken for younger
// only by a time in which the machine was off, or nothing could measure.

// A Clock is what the time of a spool is measured with.
type Clock interface {
	// Boot is a name of the system's boot, another one after each.
	Boot() string
	// Up is how long ago that was, or a moment that stays the same until the next
	// one; time asleep counts. It never goes back.
	Up() time.Duration
	// TimeOfDay is the time of day, and how far it may be off. It is not known
	// where nothing keeps it right.
	TimeOfDay() (now time.Time, within time.Duration, known bool)
}

// A timeline is the time of a spool.
type timeline struct {
	clock Clock
	ahead atomic.Int64 // of the system's up time

	// Of the committing goroutine.
	boot  string
	known sighting
}

// A sighting is a moment when the time of day was known.
type sighting struct {
	at     time.Duration // on the timeline
	wall   int64         // Unix nanoseconds; 0: there was none
	within time.Duration
	past   bool // before the system's last start
}

// A mark is a moment on a timeline as the file has it.
type mark struct {
	boot   string
	up, at time.Duration
	known  sighting
}

func newTimeline(c Clock) *timeline {
	t := &timeline{clock: c, boot: c.Boot()}
	t.ahead.Store(-int64(c.Up()))
	return t
}

// now is the time on the timeline.
func (t *timeline) now() time.Duration { return time.Duration(t.ahead.Load()) + t.clock.Up() }

// copy is another that is the same as yet.
func (t *timeline) copy() *timeline {
	c := &timeline{clock: t.clock, boot: t.boot, known: t.known}
	c.ahead.Store(t.ahead.Load())
	return c
}

// become goes on as another does. It returns by how much what was stamped up to now
// is to be moved.
func (t *timeline) become(other *timeline) (shift time.Duration) {
	t.known = other.known
	return time.Duration(other.ahead.Load() - t.ahead.Swap(other.ahead.Load()))
}

// resume goes on where a file's mark is.
func (t *timeline) resume(m mark) {
	up := t.clock.Up()
	from := m.up
	if m.boot != t.boot || up < m.up { // or a copy of a machine that was started again
		from, m.known.past = up, true
	}
	t.ahead.Store(int64(m.at - from))
	t.known = m.known
}

// see looks at the time of day: if it was known before the system's last start, the
// time that the machine was off counts from now on. It reports whether it does.
func (t *timeline) see() (caughtUp bool) {
	wall, within, ok := t.clock.TimeOfDay()
	if !ok {
		return false
	}
	now := t.now()
	if t.known.past && t.known.wall != 0 {
		at := t.known.at + time.Duration(wall.UnixNano()-t.known.wall) - within - t.known.within
		if at > now {
			t.ahead.Add(int64(at - now))
			now, caughtUp = at, true
		}
	}
	t.known = sighting{at: now, wall: wall.UnixNano(), within: within}
	return caughtUp
}

// mark is the moment now.
func (t *timeline) mark() mark {
	up := t.clock.Up()
	return mark{boot: t.boot, up: up, at: time.Duration(t.ahead.Load()) + up, known: t.known}
}

// A mark on disk:
//
//	0   CRC-32C of all that follows
//	4   1 if the time of day was known before the system's last start, else 0
//	5   up, at, and when the time of day was known: on the timeline, the Unix time,
//	    how far off; each 8 bytes, in nanoseconds
//	45  the name of the boot
//
// Numbers are big-endian.
const markHeader = 45

func (m *mark) encode() []byte {
	b := make([]byte, 5, markHeader+len(m.boot))
	if m.known.past {
		b[4] = 1
	}
	for _, n := range []int64{int64(m.up), int64(m.at), int64(m.known.at), m.known.wall, int64(m.known.within)} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, m.boot...)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

var errMark = errors.New("the mark of the spool's time is damaged")

func decodeMark(b []byte) (mark, error) {
	if len(b) < markHeader || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return mark{}, errMark
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[5+8*i:])) }
	return mark{
		boot: string(b[markHeader:]), up: time.Duration(n(0)), at: time.Duration(n(1)),
		known: sighting{at: time.Duration(n(2)), wall: n(3), within: time.Duration(n(4)), past: b[4] != 0},
	}, nil
}

// processClock measures by the process alone: each is a boot of its own, and nobody
// vouches for the time of day.
type processClock struct {
	name  string
	start time.Time
}

func newProcessClock() processClock {
	now := time.Now()
	return processClock{"process of " + now.Format(time.RFC3339Nano), now}
}

func (c processClock) Boot() string                              { return c.name }
func (c processClock) Up() time.Duration                         { return time.Since(c.start) }
func (processClock) TimeOfDay() (time.Time, time.Duration, bool) { return time.Time{}, 0, false }
