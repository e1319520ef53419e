//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"topicast/internal/lab/harness"
)

// What stops the program itself without asking it: a crash, a hang, and a machine or
// a container that stands still while another takes its place. That its unit has it
// processes again is for .ci/systemd to show; here it is started at once.
var stopFaults = []fault{
	{name: "bridge-crash", about: "topicast crashes, again and again", ways: bothWays, cannotReceive: true, prepare: deepQueue, run: bridgeCrashed},
	{name: "bridge-hang", about: "topicast hangs, ended by its watchdog", ways: bothWays, cannotReceive: true, prepare: watchedOver, run: bridgeHung},
	{name: "bridge-overtaken", about: "session taken over while topicast is stopped (SIGSTOP)", ways: sendOnly, prepare: eagerBroker, run: bridgeOvertaken},
}

// crashed is the exit status of a Go program that panicked, or that a signal such as
// SIGABRT ended. It is another than that of a wrong flag, which the unit leaves ended.
const crashed = 2

func bridgeCrashed(r *rig) {
	for range r.times.kills {
		if r.way == sending {
			r.pause(atRandom())
		}
		r.earlierDrops += r.drops()
		r.closeSpans()
		r.awaitPublished()
		r.signal(r.bridge.Process, syscall.SIGSEGV)
		r.ended(harness.Patience, crashed)
		r.runBridge()
		r.awaitRecovery()
	}
	r.addNote("%d times", r.times.kills)
}

// awaitPublished waits until the broker has what was received, where that is this row's way:
// what topicast has in memory when it ends is another row's.
func (r *rig) awaitPublished() {
	if r.way != receiving {
		return
	}
	for _, sp := range r.spans["a"] {
		r.awaitSpan(sp)
	}
}

// ended fails the row unless the bridge ends within the time, with that exit status;
// -1: by a signal.
func (r *rig) ended(limit time.Duration, status int) {
	select {
	case <-r.bridge.Exited():
	case <-time.After(limit):
		r.fail("topicast has not ended within %v", limit)
		r.bridge.Kill()
	}
	if got := r.bridge.ProcessState.ExitCode(); got != status {
		r.fail("topicast ended with exit status %d, want %d", got, status)
	}
}

// watchedOver has the bridge send its watchdog beats to a manager, as the unit does.
func watchedOver(r *rig) {
	deepQueue(r)
	m, err := startManager(r.ctx, r.file("notify"))
	if err != nil {
		r.fail("%v", err)
		return
	}
	r.manager = m
}

// bridgeHung does as systemd does with WatchdogSec=: SIGABRT if no beat came within the
// time, and SIGCONT, for a process that is stopped takes no signal.
func bridgeHung(r *rig) {
	if r.manager == nil {
		return
	}
	if !r.until(r.times.heal, func() bool { beats, _ := r.manager.watchdogBeats(); return beats >= 2 }) {
		r.fail("topicast sends no watchdog beats")
	}
	r.closeSpans()
	r.awaitPublished()
	r.earlierDrops += r.drops()
	began := time.Now()
	r.freeze()
	r.until(r.times.heal, func() bool { _, last := r.manager.watchdogBeats(); return time.Since(last) > watchdog })
	r.addNote("found after %.1f s, with a watchdog of %v", time.Since(began).Seconds(), watchdog)
	r.signal(r.bridge.Process, syscall.SIGABRT)
	r.signal(r.bridge.Process, syscall.SIGCONT)
	r.ended(harness.Patience, crashed)
	r.runBridge()
}

// bridgeOvertaken stops topicast when it has nothing in hand, so that all that comes
// then lies in the kernel, and gives its session to another client. What that one has
// acknowledged is not topicast's to send any more, and all else is.
func bridgeOvertaken(r *rig) {
	r.drain()
	before := span{to: r.feed.next("a")}
	r.freeze()
	r.feed.suspend(false)
	r.hold()
	taken, err := takeOver(r.ctx, r.connectFront, gatewayID, r.times.hold)
	if err != nil {
		r.fail("the other client: %v", err)
	}
	r.signal(r.bridge.Process, syscall.SIGCONT)
	// What had left and was not acknowledged when topicast was stopped comes first.
	taken = slices.DeleteFunc(taken, func(number int) bool { return number < before.to })
	its := span{before.to, before.to + len(taken)}
	for i, number := range taken {
		if number != its.from+i {
			r.fail("the other client was given %d after %d messages from %d", number, i, its.from)
			break
		}
	}
	r.spans["a"] = append(r.spans["a"], before)
	r.open["a"] = its.to
	r.awaitRecovery()
	if n := r.counts["a"].within([]span{its}); n > 0 {
		r.fail("topicast sent %d messages that were another client's", n)
	}
	r.addNote("the other client took %d messages", len(taken))
}

// freeze stops the bridge and waits until each of its threads stands still.
func (r *rig) freeze() {
	r.signal(r.bridge.Process, syscall.SIGSTOP)
	stopped := func() bool {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", r.bridge.Process.Pid))
		for _, file := range files {
			text, e := os.ReadFile(file)
			// proc_pid_stat(5): the state comes behind the name, which is in parentheses.
			_, rest, _ := strings.Cut(string(text), ") ")
			if e == nil && !strings.HasPrefix(rest, "T") {
				return false
			}
		}
		return err == nil && len(files) > 0
	}
	if !r.until(harness.Patience, stopped) {
		r.fail("topicast cannot be stopped")
	}
}
