//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"
)

// What is particular about QoS 2: the broker gives and takes few at a time, and where
// nothing breaks each message comes once.
var qos2Faults = []fault{
	{name: "qos2-burst", about: "bursts of 1,000 messages of QoS 2, mosquitto's default limits", ways: bothWays, once: true, prepare: qualityTwo, run: bursts},
	{name: "qos2-queue-full", about: "QoS 2, link down until the queue is full, then up", ways: sendOnly, once: true, prepare: smallQueue, run: queueFull},
}

// burst is what mosquitto keeps for a subscriber by default (max_queued_messages).
const burst = 1000

func qualityTwo(r *rig) {
	r.broker.deep = false
	r.qos = 2
	r.rules.extra = "qos: 2"
}

// bursts waits before each until nothing is on its way, for the broker drops what its
// queue has no room for.
func bursts(r *rig) {
	for range 3 {
		r.drain()
		from := r.feed.next("a")
		r.feed.burst(burst)
		if !r.until(r.times.heal, func() bool { return r.feed.next("a") == from+burst }) {
			r.fail("the burst could not be made")
		}
		r.awaitSpan(span{from, from + burst})
		r.feed.suspend(false)
		r.awaitRecovery()
	}
}

// smallQueue has all that there is, and no spool, and a broker that gives more than
// that at once.
func smallQueue(r *rig) {
	eagerBroker(r)
	twoRules(r)
	r.qos = 2
	r.rules.extra, r.rules.queue = "qos: 2", "size: 64KiB"
	r.rules.more = fmt.Sprintf("  - { name: b, filter: f/b, group: '%v', source: 172.18.0.1, interface: %s, qos: 2 }\n", groupB, iso1)
}

// queueFull has the other rule go on meanwhile.
func queueFull(r *rig) {
	r.GW.Down(iso0)
	waits, beside := r.counts["a"], r.counts["b"]
	full := func(st status) error {
		made := r.feed.next("a")
		waiting := 0
		for _, rule := range st.Rules {
			waiting += rule.Memory
		}
		if made-waits.within([]span{{0, made}}) < 2*waiting || waiting == 0 {
			return errors.New("the queue is not full")
		}
		return nil
	}
	r.expectStatus(r.times.heal, full)
	r.hold()
	now := span{to: r.feed.next("b")}
	if !r.until(r.times.heal, func() bool { return beside.within([]span{now}) == now.to }) {
		r.fail("the other rule: %d of %d messages", beside.within([]span{now}), now.to)
	}
	r.pause(100 * time.Millisecond)
	r.GW.Up(iso0)
}
