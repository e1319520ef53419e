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

func reloadUnchanged(r *rig) {
	for range 5 {
		r.signal(r.bridge.Process, syscall.SIGHUP)
		r.pause(r.times.hold / 5)
	}
}

func reloadRule(r *rig) {
	r.rules.more = fmt.Sprintf("  - { name: b, filter: g/b, group: '%v', source: 172.18.0.1, interface: %s }\n", groupB, iso1)
	r.reload()
	r.awaitRules(2)
	r.hold()
	r.rules.more = ""
	r.reload()
	r.awaitRules(1)
}

func reloadBinding(r *rig) {
	r.rules.extra = "ttl: 2"
	r.reload()
	r.awaitRecovery()
	r.hold()
	r.rules.extra = ""
	r.reload()
}

func reloadWatched(r *rig) {
	r.rules.more = fmt.Sprintf("  - { name: b, filter: g/b, group: '%v', source: 172.18.0.1, interface: %s }\n", groupB, iso1)
	r.write("topicast.yaml", r.config())
	r.awaitRules(2)
}

func reloadBad(r *rig) {
	r.write("topicast.yaml", r.config()+"nonsense: 1\n")
	r.signal(r.bridge.Process, syscall.SIGHUP)
	r.expectLog("nonsense")
	r.awaitReload(0)
	r.hold()
	r.reload()
	r.awaitReload(1)
}

// reload writes the configuration as it is to be now, and sends SIGHUP.
func (r *rig) reload() {
	r.write("topicast.yaml", r.config())
	r.signal(r.bridge.Process, syscall.SIGHUP)
}

func (r *rig) awaitRules(n int) {
	r.expectStatus(r.times.heal, func(st status) error {
		if got := len(st.Rules) + len(st.Receive); got != n {
			return fmt.Errorf("%d rules, not %d", got, n)
		}
		return nil
	})
}

// awaitReload waits until the metric has the result of the last reload: 1, well.
func (r *rig) awaitReload(want float64) {
	ok := r.until(r.times.heal, func() bool {
		samples, err := r.metrics()
		if err != nil {
			return false
		}
		for _, m := range samples {
			if m.Name == "topicast_config_last_reload_successful" {
				return m.Value == want
			}
		}
		return false
	})
	if !ok {
		r.fail("topicast_config_last_reload_successful is not %v", want)
	}
}
