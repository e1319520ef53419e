//go:build linux

package main

import (
	"syscall"
	"time"
)

// steppedClock is what a fault needs that sets the machine's clock: to be told that it
// may (--step-clock). It is for a machine that does nothing else.
const steppedClock = "a clock that may be stepped"

var clockFaults = []fault{
	{name: "clock-stepped", about: "clock stepped by 5 h, forth and back, while messages wait", ways: bothWays, needs: steppedClock, cannotReceive: true, prepare: deepQueue, run: clockStepped},
	{name: "clock-max-age", about: "clock stepped by 5 h, forth and back, max_age exceeded", ways: sendOnly, needs: steppedClock, limited: true, prepare: agedQueue, run: clockMaxAge},
}

// step is by how much the clock is wrong.
const step = 5 * time.Hour

// A wrongClock sets the machine's clock, and knows what time it really is.
type wrongClock struct {
	*rig
	began time.Time // with what has passed since, by a clock that nobody sets
}

func newWrongClock(r *rig) *wrongClock { return &wrongClock{r, time.Now()} }

// set makes the clock wrong by so much.
func (c *wrongClock) set(by time.Duration) {
	at := syscall.NsecToTimeval(c.began.Add(time.Since(c.began) + by).UnixNano())
	if err := syscall.Settimeofday(&at); err != nil {
		c.fail("set the clock: %v", err)
	}
}

// disconnect has nothing go on: no link, or no broker.
func (r *rig) disconnect() {
	if r.way == sending {
		r.GW.Down(iso0)
		return
	}
	r.closeSpans()
	r.loseBroker()
	r.openSpans() // what was on its way to the broker when it went is another row's
}

func (r *rig) reconnect() {
	if r.way == sending {
		r.GW.Up(iso0)
		return
	}
	r.restartBroker()
}

// clockStepped has messages wait over a step forward and go on while the clock is
// ahead; then the same over a step back of twice the length.
func clockStepped(r *rig) {
	clock := newWrongClock(r)
	defer clock.set(0)
	for _, by := range []time.Duration{step, -step} {
		r.disconnect()
		waits := span{from: r.feed.next("a")}
		r.hold()
		clock.set(by)
		r.hold()
		waits.to = r.feed.next("a")
		r.reconnect()
		r.awaitRecovery()
		r.awaitSpan(waits)
	}
}

// awaitSpan waits for all of a span.
func (r *rig) awaitSpan(all span) {
	n := 0
	if !r.until(r.times.heal, func() bool { n = r.counts["a"].within([]span{all}); return n == all.to-all.from }) {
		r.fail("%d of %d messages have not arrived", all.to-all.from-n, all.to-all.from)
	}
}

const maxAge = 3 * time.Second

func agedQueue(r *rig) {
	deepQueue(r)
	r.rules.extra = "max_age: " + maxAge.String()
}

// clockMaxAge has messages wait for longer than max_age, and the clock stepped
// meanwhile. Those that are older when the link is back do not arrive, and those that
// are younger do.
func clockMaxAge(r *rig) {
	const tolerance = time.Second // how long it may take from the broker to the disk
	clock := newWrongClock(r)
	defer clock.set(0)
	for _, by := range []time.Duration{step, -step} {
		r.disconnect()
		r.pause(500 * time.Millisecond) // for the bridge to have seen that
		old := span{from: r.feed.next("a")}
		r.pause(2 * time.Second)
		clock.set(by)
		old.to = r.feed.next("a")
		r.pause(maxAge + tolerance/2 - time.Second)
		young := span{from: r.feed.next("a")}
		r.pause(time.Second)
		young.to = r.feed.next("a")
		r.reconnect()
		r.awaitRecovery()
		r.awaitSpan(young)
		if n := r.counts["a"].within([]span{old}); n > 0 {
			r.fail("the clock %v ahead: %d messages left that were older than max_age", by, n)
		}
	}
}
