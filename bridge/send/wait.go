package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// Datagrams that cannot leave now. Four things have them wait: the source is away or the kernel's
// queue is full (this file), the rule has a rate (pace.go), a host is not reachable (hosts.go), or
// a request with the same key is outstanding (answers.go). Their way, in the order of the functions
// below:
//
//	flush (path.go)
//	  1 enqueue   into the binding's queue in memory (queue.go), if its rule lets it wait
//	  2 spill     while the source is away, and until all is sent that waited for
//	              it: from memory to the disk, where its message is acknowledged
//	              (spool.go)
//	  3 run       a goroutine while there is a socket and something to send
//	              (drain.go): the disk first,
//	  4 drain     then the memory: of rules with a rate or answer what is due
//	              (dueNow), of the others all; of both what is ready (ready.go). By
//	              transmit, as what is sent at once
//	  5 settle    it has left, or never will: its message may be acknowledged. Then
//	              its target rests (noteAttempt), it is an outstanding request
//	              (requestSent), or is kept to be sent again (keep.go)
//	  6 sleep     nothing may leave before a time: a timer starts run again
//	              (sleepUntilDue)
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
func (b *binding) enqueue(to netip.AddrPort, d *datagram, m *session.Message, since time.Time, a *pendingAck) {
	rule := d.target.rule
	h := b.hostOf(rule, to.Addr())
	if b.kept.used {
		b.endCopies(d.target.keptKey())
	}
	if why, err := b.mayNotWait(rule, h, a != nil, since); err != nil {
		d.target.drop(why, d.payload, since, err)
		return
	}
	if b.socket == nil || b.stuck != "" || h.unreachable() {
		b.supersede(rule, d.target.route.topic, h)
	}
	if rule.paced() {
		if err := b.overRate(rule, to, d.payload, since); err != nil {
			d.target.drop(account.ReasonRate, d.payload, since, err)
			return
		}
	}
	d.target.delayed()
	b.reportWaiting(d, to, h, since)
	if a != nil {
		a.left.Add(1)
	}
	if a != nil && b.needsRedelivery.Load() && rule.left.Load() > 0 {
		a.ack.Redeliver() // behind others that the broker is to repeat
		rule.countLeft(since)
		return
	}
	w := b.queued(d, m, since, a)
	for !b.keep(&w) {
		if !b.waitForDisk(&w) {
			b.leaveWithBroker(&w)
			return
		}
	}
}

// mayNotWait says why a datagram does not wait for its source, its interface or its host, or nil.
// Callers hold mu.
func (b *binding) mayNotWait(rule *Rule, h *host, acknowledged bool, now time.Time) (why account.Reason, err error) {
	switch {
	case h != nil && h.unlisted:
		return account.ReasonUnreachable, h.errUnreachable()
	case b.socket == nil:
		if !rule.waitsWhileDown(acknowledged) {
			return account.ReasonPending, errors.New(b.reason)
		}
	case b.stuck != "":
		if !acknowledged && b.tooLate(rule) && !b.queueOf(rule, h).untried(nil) {
			return account.ReasonNoBuffer, errors.New(b.stuck)
		}
	case h.unreachable():
		if !rule.waitsForHost(acknowledged) && (h.waitingIn != nil || !b.mayProbe(h, now)) {
			return account.ReasonUnreachable, h.errUnreachable()
		}
	}
	return 0, nil
}

// queued is a datagram as it waits, with what is asked of its message later.
func (b *binding) queued(d *datagram, m *session.Message, since time.Time, a *pendingAck) queuedDatagram {
	rule := d.target.rule
	w := queuedDatagram{payload: d.payload, fingerprint: d.fingerprint, ack: a, since: since, goodFor: expiryOf(m), reply: b.path.replyTo(rule, m)}
	w.leavesBy(d.target)
	if rule.byProperty != nil {
		w.properties = m.Properties.OnlyUser(rule.byProperty)
	}
	if (b.spools || rule.byPayload) && rule.Transforms() {
		if w.message = m.Payload; w.message == nil {
			w.message = []byte{} // as it came, not with prefix and suffix
		}
	}
	return w
}

// keep puts a datagram where it waits. It is false if there is no room now. Callers hold mu.
func (b *binding) keep(w *queuedDatagram) bool {
	l := b.queueOf(w.rule, b.hostOf(w.rule, w.to.Addr()))
	switch {
	case b.supersedes(l, w):
	case b.bypasses(l, w):
	case b.makeRoom(l, w.size(), w.ack != nil):
		w.payload, w.message = b.path.copyOf(w.payload), b.path.copyOf(w.message)
		b.queue.push(l, *w)
		b.spillQueue(l)
	case w.ack != nil && l.empty() && b.appendToSpool(w):
		b.spilling = true // the memory is others'; the disk takes it from the batch
	default:
		return false
	}
	return true
}

// copyKey is where a payload lies, in the memory of a batch or in decoded.
type copyKey struct {
	at   *byte
	size int
}

// copyOf gives a copy of a payload that outlives the batch, the same to all who ask for it in a flush: what
// a thousand rules make wait of one message is in memory once. Nobody writes to it.
func (p *Path) copyOf(payload []byte) []byte {
	if len(payload) == 0 {
		return bytes.Clone(payload) // nil and empty are two
	}
	key := copyKey{unsafe.SliceData(payload), len(payload)}
	c := p.copies[key]
	if c == nil {
		c = bytes.Clone(payload)
		if p.copies == nil {
			p.copies = make(map[copyKey][]byte)
		}
		p.copies[key] = c
	}
	return c
}

// diskPatience is how long a batch waits for the disk in all, where there is room neither in
// memory nor in what is to be written. A message that a thousand rules send is more than
// that at once, and a disk that is well has taken it sooner. What the broker is made to repeat
// would come for all of these rules again, as long as the disk is no faster. Where a batch has
// waited for so long the next do not wait, until the disk has taken something: the messages of
// all other rules are behind them.
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
	if p.patience -= time.Since(began); p.patience <= 0 {
		p.answered.Store(false)
	}
	b.mu.Lock()
	return ok
}

// makeRoom takes room of the budget for one more of a rule. What of that very rule waits makes
// it, the oldest first: QoS 0 goes, and what is to be acknowledged goes to the disk if that
// is so of what comes too. Callers hold mu.
func (b *binding) makeRoom(l *ruleQueue, size int, acknowledged bool) bool {
	for !b.budget.Acquire(l.room, size) {
		if l.empty() {
			if l = b.queue.other(l); l == nil {
				return false
			}
		}
		switch w := l.first; {
		case w.ack == nil:
			b.giveUp(w, account.ReasonQueueFull, nil)
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
		w.drop(account.ReasonQueueFull, fmt.Errorf("queue.size: %d bytes are waiting in all", b.budget.AllUsed()))
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
func (b *binding) supersede(r *Rule, topic string, h *host) {
	if w := b.queueOf(r, h).latest[topic]; w != nil {
		b.giveUp(w, account.ReasonSuperseded, nil)
	}
}

// giveUp takes out of memory what is not to be sent. Callers hold mu.
func (b *binding) giveUp(w *queuedDatagram, why account.Reason, err error) {
	b.queue.remove(w)
	b.budget.Release(w.in.room, w.size())
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
			b.giveUp(w, account.ReasonPending, errors.New(b.reason))
		case w.superseded():
			b.giveUp(w, account.ReasonSuperseded, nil)
		}
	})
	b.spill()
}

// spill moves what waits from memory to the disk, as long as it is to go there.
// Callers hold mu.
func (b *binding) spill() {
	b.unstored = false
	b.queue.each(b.spillQueue)
}

// spillQueue is spill for one rule. It reports whether the disk takes more. Callers hold mu.
func (b *binding) spillQueue(l *ruleQueue) bool {
	if b.stuck != "" {
		return b.sweep(l)
	}
	away := !l.host.reachable() && !l.rule.makesTargets
	for (b.spilling || away) && !l.empty() {
		w := l.first
		if l.rule.spool == nil || b.socket != nil && !l.rule.onDisk() && !(away && w.ack != nil) {
			return true // run sends it
		}
		if !b.spillOne(w) {
			return false
		}
		b.spilling = true
		b.queue.remove(w)
	}
	return true
}

// wake sees to it that what waits is sent while there is a socket. Nothing begins once
// the binding has stopped: the end waits for what runs, and must not be overtaken by
// another that begins, as when the spool reports that a message is safe. Callers hold mu.
func (b *binding) wake() {
	switch {
	case b.stopped || b.socket == nil || b.queue.empty() && len(b.spooledRules) == 0 && !b.hostCheckDue(time.Now()):
	case b.draining:
		b.again = true
	default:
		b.draining = true
		b.drains.Go(b.run)
	}
}
