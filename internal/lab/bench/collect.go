//go:build linux

package main

import "time"

// idle is how long nothing may have come for a run to be over. A bridge that
// has queued up what it could not carry is given the time to do so.
const idle = 500 * time.Millisecond

// A collector counts for the two tools at the receiving end: the device and the
// sink.
type collector struct {
	traffic
	orders <-chan order
	drops  func() int // of the socket since it was opened
	emit   func(event)
	ended  bool // no more orders will come

	probed map[uint32]bool // streams of which a probe has come
	tally  *tally          // of the last run; nil before the first
	before int             // drops before the run
	want   int             // -1 while it is not known
	asked  int64           // since when it is
}

func newCollector(t traffic, orders <-chan order, drops func() int, emit func(event)) *collector {
	return &collector{traffic: t, orders: orders, drops: drops, emit: emit, probed: map[uint32]bool{}, want: -1}
}

// note takes a payload.
func (c *collector) note(payload []byte, now int64) {
	if c.tally != nil {
		c.tally.note(payload, now)
		return
	}
	if h, ok := readHeader(payload); ok && h.probe && !c.probed[h.stream] {
		c.probed[h.stream] = true
		if len(c.probed) == c.Groups {
			c.emit(event{Event: probed})
		}
	}
}

// wrong takes note of a payload from another source.
func (c *collector) wrong() {
	if c.tally != nil {
		c.tally.result.Wrong++
	}
}

// step does what is to be done between two reads.
func (c *collector) step(now int64) {
	select {
	case o, ok := <-c.orders:
		c.handle(o, ok, now)
	default:
	}
	if c.tally == nil || c.want < 0 {
		return
	}
	quiet := time.Duration(now - max(c.tally.last, c.asked))
	if c.tally.result.arrived() < c.want && quiet < idle {
		return
	}
	r := c.tally.conclude()
	r.RigDrops = c.drops() - c.before
	c.emit(event{Event: counted, Result: &r})
	c.want = -1
}

func (c *collector) handle(o order, ok bool, now int64) {
	switch {
	case !ok:
		c.ended = true
	case o.Do == doCount:
		c.tally, c.want, c.before = newTally(c.traffic, o.Run), -1, c.drops()
		c.emit(event{Event: ready})
	case o.Do == doEnd:
		c.want, c.asked = o.Want, now
	}
}
