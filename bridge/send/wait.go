package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// What the kernel cannot take now. The way of a datagram that has to wait, in the
// order of the functions below:
//
//	flush (path.go)
//	  1 enqueue   into the binding's queue in memory, if its rule lets it wait
//	  2 spill     while the source is away, and until all is sent that waited for
//	              it: from memory to the disk, where its message is acknowledged
//	              (spool.go)
//	  3 run       a goroutine while there is a socket and something to send
//	              (drain.go): the disk first,
//	  4 drain     then the memory
//	  5 settle    it has left, or never will: its message may be acknowledged
//
// All of a rule goes the same way, so its order is kept: to the disk while it has
// something there, and out of memory only when it has not.

// waitsWhileDown reports whether a message of a rule waits for a source that is away. One
// of QoS 0 does only where the latest is wanted: else it would be late by then.
func (r *Rule) waitsWhileDown(acknowledged bool) bool {
	switch r.OnDown {
	case mapping.OnDownDrop:
		return false
	case mapping.OnDownLatest:
		return true
	}
	return acknowledged
}

// enqueue keeps a copy of a datagram until it can leave. A socket that is busy is
// waited for whatever on_down says. Callers hold mu.
func (b *binding) enqueue(group netip.AddrPort, d *datagram, m *session.Message, since time.Time, a *pendingAck) {
	rule := d.target.rule
	if b.kept.used {
		b.endCopies(rule, d.target.route.topic)
	}
	if b.socket == nil {
		if !rule.waitsWhileDown(a != nil) {
			d.target.drop(account.DropPending, errors.New(b.reason))
			return
		}
		b.supersede(rule, d.target.route.topic)
	} else if b.stuck != "" {
		if a == nil && b.tooLate(rule) && !b.laneOf(rule).untried(nil) {
			d.target.drop(account.DropNoBuffer, errors.New(b.stuck))
			return
		}
		b.supersede(rule, d.target.route.topic)
	}
	if rule.paced() {
		if err := b.isOver(rule, group, since); err != nil {
			d.target.drop(account.DropRate, err)
			return
		}
	}
	d.target.delayed()
	if a != nil {
		a.left.Add(1)
	}
	if a != nil && b.needsRedelivery.Load() && rule.left.Load() > 0 {
		a.ack.Redeliver() // behind others that the broker is to repeat
		rule.countLeft(since)
		return
	}
	w := queuedDatagram{payload: d.payload, print: d.print, ack: a, since: since}
	w.leavesBy(d.target)
	if b.spools && rule.Transforms() {
		if w.message = m.Payload; w.message == nil {
			w.message = []byte{} // as it came, not with prefix and suffix
		}
	}
	for !b.keep(&w) {
		if !b.waitForDisk(&w) {
			b.leaveWithBroker(&w)
			return
		}
	}
}

// keep puts a datagram where it waits. It is false if there is no room now. Callers hold mu.
func (b *binding) keep(w *queuedDatagram) bool {
	l := b.laneOf(w.rule)
	switch {
	case b.replaces(l, w):
	case b.bypasses(l, w):
	case b.makeRoom(l, w.size(), w.ack != nil):
		w.payload, w.message = bytes.Clone(w.payload), bytes.Clone(w.message)
		b.queue.push(l, *w)
		b.spillLane(l)
	case w.ack != nil && l.empty() && b.appendToSpool(w):
		b.spilling = true // the memory is others'; the disk takes it from the batch
	default:
		return false
	}
	return true
}

// diskPatience is how long a batch waits for the disk in all, where there is room neither in
// memory nor in what is to be written. A message that a thousand rules send is more than
// that at once, and a disk that is well has taken it sooner. What the broker is made to repeat
// would come for all of these rules again, as long as the disk is no faster.
const diskPatience = 2 * time.Second

// waitForDisk waits, without the lock, until there may be room for what the broker would
// have to repeat. It is false if there is none in time, or nothing to wait for. Callers hold mu.
func (b *binding) waitForDisk(w *queuedDatagram) bool {
	p := b.path
	if w.ack == nil || w.rule.spool == nil || b.needsRedelivery.Load() || p.patience <= 0 || p.spill.Spool().Err() != nil {
		return false
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(b.ctx, p.patience)
	defer cancel()
	b.mu.Unlock()
	looked := false
	ok := p.settled.Wait(ctx, func() bool {
		changed := looked // whatever it was: it may have made room in memory
		looked = true
		return changed || p.spill.Spool().Takes(int64(len(w.topic)+len(w.original())+spool.Overhead))
	})
	p.patience -= time.Since(began)
	b.mu.Lock()
	return ok
}

// makeRoom takes room of the budget for one more of a rule. What of that very rule waits makes
// it, the oldest first: QoS 0 goes, and what is to be acknowledged goes to the disk if that
// is so of what comes too. Callers hold mu.
func (b *binding) makeRoom(l *lane, size int, acknowledged bool) bool {
	for !b.budget.Acquire(&l.room, size) {
		if l.empty() {
			return false
		}
		switch w := l.first; {
		case w.ack == nil:
			b.giveUp(w, account.DropQueueFull, nil)
		case acknowledged && b.spillOne(w):
			b.spilling = true // until the disk is empty again
			b.queue.remove(w)
		default:
			return false
		}
	}
	return true
}

// leaveWithBroker leaves a message that there is no room for to the broker: it stays
// unacknowledged, and so does what comes after it, until there is room and the
// broker is made to repeat it (RequestRedelivery). What the broker does not keep is dropped.
// Callers hold mu.
func (b *binding) leaveWithBroker(w *queuedDatagram) {
	a := w.ack
	if a == nil || !b.path.repeats || !b.budget.Fits(w.size()) {
		w.drop(account.DropQueueFull, fmt.Errorf("queue.size: %d bytes are waiting in all", b.budget.AllUsed()))
		if a != nil {
			a.settle() // its batch still counts
		}
		return
	}
	a.ack.Redeliver() // nobody takes off what it counts
	w.rule.countLeft(w.since)
	b.needsRedelivery.Store(true)
	if !b.path.needsRedelivery.Swap(true) {
		b.log.Warn("no room for messages (queue.size): they stay with the broker, unacknowledged, and with them what it has sent since; "+b.whyNotOnDisk(w.rule),
			"rule", w.rule.Name, "waiting_bytes", b.budget.AllUsed())
	}
}

// whyNotOnDisk says why messages that there is no room for in memory are not on disk.
func (b *binding) whyNotOnDisk(r *Rule) string {
	switch {
	case r.spool == nil:
		return "with a spool they would be on disk"
	case b.path.spill.Spool().Err() != nil:
		return "the spool cannot be used"
	}
	return "the spool's disk is slower than they come"
}

// supersede drops the datagram of a topic that waits in memory for a source that is
// away, where only the latest is wanted. Callers hold mu.
func (b *binding) supersede(r *Rule, topic string) {
	if w := b.laneOf(r).latest[topic]; w != nil {
		b.giveUp(w, account.DropSuperseded, nil)
	}
}

// giveUp takes out of memory what is not to be sent. Callers hold mu.
func (b *binding) giveUp(w *queuedDatagram, why account.Reason, err error) {
	b.queue.remove(w)
	b.budget.Release(&w.lane.room, w.size())
	w.lose(why, err)
}

// lose counts it as lost, and settles it.
func (w *queuedDatagram) lose(why account.Reason, err error) {
	w.drop(why, err)
	if w.ack != nil && w.ack.settle() {
		w.ack.ack.Done()
	}
}

// onSourceLost is called when the source has gone: what does not wait then is
// dropped, and the rest goes to the disk. Callers hold mu.
func (b *binding) onSourceLost() {
	b.spilling = true
	b.queue.eachDatagram(func(w *queuedDatagram) {
		switch {
		case !w.rule.waitsWhileDown(w.ack != nil):
			b.giveUp(w, account.DropPending, errors.New(b.reason))
		case w.superseded():
			b.giveUp(w, account.DropSuperseded, nil)
		}
	})
	b.spill()
}

// spill moves what waits from memory to the disk, as long as it is to go there.
// Callers hold mu.
func (b *binding) spill() {
	b.unstored = false
	b.queue.each(b.spillLane)
}

// spillLane is spill for one rule. It reports whether the disk takes more. Callers hold mu.
func (b *binding) spillLane(l *lane) bool {
	if b.stuck != "" {
		return b.sweep(l)
	}
	for b.spilling && !l.empty() {
		w := l.first
		if l.rule.spool == nil || b.socket != nil && !l.rule.onDisk() {
			return true // run sends it
		}
		if !b.spillOne(w) {
			return false
		}
		b.queue.remove(w)
	}
	return true
}

// wake sees to it that what waits is sent while there is a socket. Nothing begins once
// the binding has stopped: the end waits for what runs, and must not be overtaken by
// another that begins, as when the spool reports that a message is safe. Callers hold mu.
func (b *binding) wake() {
	switch {
	case b.stopped || b.socket == nil || b.queue.empty() && len(b.spooledRules) == 0:
	case b.draining:
		b.again = true
	default:
		b.draining = true
		b.drains.Go(b.run)
	}
}
