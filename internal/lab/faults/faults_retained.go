//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// A broker hands out at every connect what it keeps. A device that has had it is not to
// be switched again because topicast was started again.
var retainedFaults = []fault{
	{name: "retained-restart", about: "topicast stopped (SIGTERM) and started, retained messages at the broker", ways: sendOnly, prepare: withRetained, run: restartedWithRetained},
	{name: "retained-kill", about: "topicast killed (SIGKILL) and started, retained messages at the broker", ways: sendOnly, prepare: withRetained, run: killedWithRetained},
}

const (
	retainedStream = "kept"
	retainedCount  = 50 // topics
)

// withRetained has a second rule, whose topics the broker keeps.
func withRetained(r *rig) {
	deepQueue(r)
	r.retained = &count{}
	r.rules.more = fmt.Sprintf("  - { name: %s, filter: '%s/+', group: '%v', source: 172.18.0.1, interface: %s }\n", retainedStream, retainedStream, groupB, iso1)
}

func restartedWithRetained(r *rig) {
	r.publishRetained(0, retainedCount)
	r.awaitRetained(retainedCount)
	for range 2 {
		r.stopBridge()
		r.runBridge()
		r.awaitRecovery()
	}
	r.stopBridge()
	const changed = retainedCount + 10
	r.publishRetained(retainedCount, changed)
	r.runBridge()
	r.awaitRecovery()
	r.awaitRetained(changed)
	r.expectRetainedOnce(changed)
}

func killedWithRetained(r *rig) {
	r.publishRetained(0, retainedCount)
	r.awaitRetained(retainedCount)
	// What has just been sent goes again after a kill; then it is on disk.
	const head, record = 54, 20
	known := func() bool {
		info, err := os.Stat(filepath.Join(r.spoolDir(), "last-sent"))
		return err == nil && info.Size() >= head+retainedCount*record
	}
	if !r.until(r.times.heal, known) {
		r.fail("what was last sent is not on disk")
	}
	r.killBridge()
	r.runBridge()
	r.awaitRecovery()
	r.expectRetainedOnce(retainedCount)
}

// publishRetained has the broker keep messages with the numbers from up to, but not including, to.
func (r *rig) publishRetained(from, to int) {
	if err := r.tryPublishRetained(from, to); err != nil {
		r.fail("publish retained messages: %v", err)
	}
}

func (r *rig) tryPublishRetained(from, to int) error {
	l, err := r.connectLocal(r.ctx, "keeper", true)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(harness.Patience)); err != nil {
		return err
	}
	for n := from; n < to; n++ {
		p := publish(fmt.Sprintf("%s/%d", retainedStream, n%retainedCount), 1, uint16(n+1), newPayload(retainedStream, n, time.Now()))
		p.Retain = true
		if err := p.Write(l); err != nil {
			return err
		}
	}
	for acknowledged := 0; acknowledged < to-from; {
		p, err := l.Next()
		if err != nil {
			return err
		}
		if _, ok := p.(*packets.PubackPacket); ok {
			acknowledged++
		}
	}
	return nil
}

// awaitRetained waits until the first n have arrived.
func (r *rig) awaitRetained(n int) {
	if !r.until(r.times.heal, func() bool { return r.retained.within([]span{{0, n}}) == n }) {
		r.fail("%d of %d retained messages arrived", r.retained.within([]span{{0, n}}), n)
	}
}

// expectRetainedOnce wants each of the first n to have arrived once. One more behind them shows
// that all is through: the broker gives them out in order.
func (r *rig) expectRetainedOnce(n int) {
	r.publishRetained(n, n+1)
	r.awaitRetained(n + 1)
	again, _, _ := r.retained.result()
	if again > 0 {
		r.fail("%d retained messages were sent again", again)
		return
	}
	r.addNote("%d retained messages, each sent once", n)
}
