//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

var bridgeFaults = []fault{
	{name: "bridge-kill", about: "topicast killed (SIGKILL), again and again", ways: sendOnly, prepare: deepQueue, run: bridgeKilled},
	{name: "bridge-restart", about: "topicast stopped (SIGTERM) and started", ways: bothWays, deaf: true, prepare: deepQueue, run: bridgeRestarted},
	{name: "isolation", about: "one rule's interface down, another rule beside it", ways: sendOnly, prepare: twoRules, run: oneOfTwoDown},
}

func bridgeKilled(s *stage) {
	for range s.times.kills {
		s.pass(atRandom())
		s.killBridge()
		s.runBridge()
		s.over()
	}
	s.tell("%d times", s.times.kills)
}

func bridgeRestarted(s *stage) {
	took := s.stopBridge()
	s.runBridge()
	s.over()
	s.tell("SIGTERM took %.2f s", took.Seconds())
}

// twoRules has a second rule with its own interface and stream, and a broker with
// nothing but its default settings.
func twoRules(s *stage) {
	s.streams = []string{"a", "b"}
	s.rules.more = fmt.Sprintf("  - { name: b, filter: f/b, group: '%v', source: 172.18.0.1, interface: %s }\n", groupB, iso1)
}

func oneOfTwoDown(s *stage) {
	other := s.counts["b"]
	before := other.takeLatencies()
	s.GW.Down(iso0)
	s.pass(s.times.down)
	s.GW.Up(iso0)
	s.over()
	during := other.takeLatencies() // what was held up arrives only now
	s.pass(s.times.before)
	after := other.takeLatencies()
	s.tell("down for %v; the other rule before: %v; during: %v; after: %v", s.times.down, before, during, after)
	// The machine is shared, so these are wide bounds: a rule that is held up has
	// latencies of seconds.
	switch {
	case len(during) == 0:
		s.fail("the other rule stood still")
	case during.at(0.5) > 2*before.at(0.5)+2*time.Millisecond, during.at(0.99) > 3*before.at(0.99)+50*time.Millisecond:
		s.fail("the other rule was slower")
	}
}

// memory is what is resident of the bridge, in MB (10⁶ bytes).
func (s *stage) memory() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.bridge.Process.Pid))
	if err != nil {
		return 0
	}
	return statusMB(string(text), "VmRSS")
}

// statusMB reads a size from /proc/PID/status.
func statusMB(status, key string) float64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err == nil {
				return float64(kb) * 1024 / 1e6
			}
		}
	}
	return 0
}
