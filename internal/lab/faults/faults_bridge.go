//go:build linux

package main

import (
	"fmt"
	"time"

	"topicast/internal/lab/harness"
)

var bridgeFaults = []fault{
	{name: "bridge-kill", about: "topicast killed (SIGKILL), again and again", ways: sendOnly, prepare: deepQueue, run: bridgeKilled},
	{name: "bridge-restart", about: "topicast stopped (SIGTERM) and started", ways: bothWays, cannotReceive: true, prepare: deepQueue, run: bridgeRestarted},
	{name: "isolation", about: "one rule's interface down, another rule beside it", ways: sendOnly, prepare: twoRules, run: oneOfTwoDown},
}

func bridgeKilled(r *rig) {
	for range r.times.kills {
		r.pause(atRandom())
		r.killBridge()
		r.runBridge()
		r.awaitRecovery()
	}
	r.addNote("%d times", r.times.kills)
}

func bridgeRestarted(r *rig) {
	took := r.stopBridge()
	r.runBridge()
	r.awaitRecovery()
	r.addNote("SIGTERM took %.2f s", took.Seconds())
}

// twoRules has a second rule with its own interface and stream, and a broker with
// nothing but its default settings.
func twoRules(r *rig) {
	r.streams = []string{"a", "b"}
	r.rules.more = fmt.Sprintf("  - { name: b, filter: f/b, group: '%v', source: 172.18.0.1, interface: %s }\n", groupB, iso1)
}

func oneOfTwoDown(r *rig) {
	other := r.counts["b"]
	before := other.takeLatencies()
	r.GW.Down(iso0)
	r.pause(r.times.down)
	r.GW.Up(iso0)
	r.awaitRecovery()
	during := other.takeLatencies() // what was held up arrives only now
	r.pause(r.times.before)
	after := other.takeLatencies()
	r.addNote("down for %v; the other rule before: %v; during: %v; after: %v", r.times.down, before, during, after)
	// The machine is shared, so these are wide bounds: a rule that is held up has
	// latencies of seconds.
	switch {
	case len(during) == 0:
		r.fail("the other rule stood still")
	case during.at(0.5) > 2*before.at(0.5)+2*time.Millisecond, during.at(0.99) > 3*before.at(0.99)+50*time.Millisecond:
		r.fail("the other rule was slower")
	}
}

// memory is what is resident of the bridge, in MB (10⁶ bytes).
func (r *rig) memory() float64 {
	now, _, _ := harness.Memory(r.bridge.Process.Pid) // 0 if it is gone
	return now
}
