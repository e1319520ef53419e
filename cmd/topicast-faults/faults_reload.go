//go:build linux

package main

import (
	"fmt"
	"syscall"
)

var reloadFaults = []fault{
	{name: "reload-unchanged", about: "reload (SIGHUP), nothing changed", ways: bothWays, needs: "reload", soak: true, run: reloadUnchanged},
	{name: "reload-rule", about: "reload, a rule more, then a rule less", ways: sendOnly, needs: "reload", run: reloadRule},
	{name: "reload-binding", about: "reload, the rule's ttl changed", ways: sendOnly, needs: "reload", run: reloadBinding},
	{name: "reload-watched", about: "the file replaced, without a signal", ways: sendOnly, needs: "reload", run: reloadWatched},
	{name: "reload-bad", about: "reload of a bad file, then of a good one", ways: bothWays, needs: "reload", run: reloadBad},
}

func reloadUnchanged(s *stage) {
	for range 5 {
		s.signal(s.bridge.Process, syscall.SIGHUP)
		s.pass(s.times.hold / 5)
	}
}

func reloadRule(s *stage) {
	s.rules.more = fmt.Sprintf("  - { name: b, filter: g/b, group: '%v', source: 172.18.0.1, interface: %s }\n", groupB, iso1)
	s.reload()
	s.awaitRules(2)
	s.hold()
	s.rules.more = ""
	s.reload()
	s.awaitRules(1)
}

func reloadBinding(s *stage) {
	s.rules.extra = "ttl: 2"
	s.reload()
	s.over()
	s.hold()
	s.rules.extra = ""
	s.reload()
}

func reloadWatched(s *stage) {
	s.rules.more = fmt.Sprintf("  - { name: b, filter: g/b, group: '%v', source: 172.18.0.1, interface: %s }\n", groupB, iso1)
	s.write("topicast.yaml", s.config())
	s.awaitRules(2)
}

func reloadBad(s *stage) {
	s.write("topicast.yaml", s.config()+"nonsense: 1\n")
	s.signal(s.bridge.Process, syscall.SIGHUP)
	s.expectLog("nonsense")
	s.awaitReload(0)
	s.hold()
	s.reload()
	s.awaitReload(1)
}

// reload writes the configuration as it is to be now, and says so.
func (s *stage) reload() {
	s.write("topicast.yaml", s.config())
	s.signal(s.bridge.Process, syscall.SIGHUP)
}

func (s *stage) awaitRules(n int) {
	err := s.awaitStatus(s.times.heal, func(st status) error {
		if got := len(st.Rules) + len(st.Receive); got != n {
			return fmt.Errorf("%d rules, not %d", got, n)
		}
		return nil
	})
	if err != nil {
		s.fail("%v", err)
	}
}

// awaitReload waits until the metric tells how the last reload went: 1, well.
func (s *stage) awaitReload(want float64) {
	ok := s.until(s.times.heal, func() bool {
		samples, err := s.metrics()
		if err != nil {
			return false
		}
		for _, m := range samples {
			if m.name == "topicast_config_last_reload_successful" {
				return m.value == want
			}
		}
		return false
	})
	if !ok {
		s.fail("topicast_config_last_reload_successful is not %v", want)
	}
}
