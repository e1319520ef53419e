//go:build linux

package main

import (
	"fmt"
	"syscall"
	"time"
)

// What was on its way to the broker when the broker went, and topicast after it. There
// is a copy of it on disk by then.
var killFaults = []fault{
	{name: "broker-gone-kill", about: "broker stopped (SIGTERM) under load, topicast killed", ways: receiveOnly, needs: "spool", cannotReceive: true, run: brokerGoneKill},
	{name: "half-open-kill", about: "broker's link down, the connection half-open, topicast killed", ways: receiveOnly, needs: "spool", cannotReceive: true, run: halfOpenKill},
	{name: "half-open-kill-qos2", about: "the same with QoS 2", ways: receiveOnly, needs: "spool", cannotReceive: true, prepare: allQoS2, run: halfOpenKill},
	{name: "stall-kill", about: "broker stands still, the connection open, topicast killed", ways: receiveOnly, needs: "spool", cannotReceive: true, run: stallKill},
}

// allQoS2 allows that a message comes twice: to the broker the copy is another one.
func allQoS2(r *rig) { r.qos, r.rules.extra = 2, "qos: 2" }

// inMemory is how old what only memory has can be, with some time for a slow disk.
const inMemory = 1500 * time.Millisecond

func brokerGoneKill(r *rig) {
	r.openSpans() // from before it goes
	r.loseBroker()
	r.closeSpans()
	r.pause(inMemory)
	r.killListening()
	r.hold()
	r.restartBroker()
}

func halfOpenKill(r *rig) {
	r.killUnaware(func() { r.Lan.Down("eth0") }, func() { r.Lan.Up("eth0") })
}

func stallKill(r *rig) {
	r.killUnaware(
		func() { r.signal(r.mosquitto.Process, syscall.SIGSTOP) },
		func() { r.signal(r.mosquitto.Process, syscall.SIGCONT) })
}

// killUnaware kills topicast while it takes the connection for a good one.
func (r *rig) killUnaware(lose, restore func()) {
	r.openSpans()
	lose()
	r.pause(2 * time.Second)
	r.stillConnected()
	r.closeSpans()
	r.pause(inMemory)
	r.killListening()
	r.hold()
	restore()
}

// stillConnected fails the row if topicast has noticed: then it would be another one.
func (r *rig) stillConnected() {
	r.expectStatus(r.times.heal, connected)
}

// killListening kills topicast and starts it again. What is sent from the moment on
// when it listens is to arrive.
func (r *rig) killListening() {
	r.killBridge()
	r.runBridge()
	r.expectStatus(r.times.heal, func(st status) error {
		for _, rule := range st.Receive {
			if rule.Joined == 0 {
				return fmt.Errorf("rule %s does not listen: %s", rule.Name, rule.Reason)
			}
		}
		return nil
	})
	r.openSpans()
}
