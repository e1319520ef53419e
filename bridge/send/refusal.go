package send

import (
	"errors"
	"fmt"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// What the kernel does not take for long. A full queue of the interface (ENOBUFS) or a
// full send buffer has room again, and what is to be acknowledged waits for that. But
// some datagrams never pass a queue, and look the same: longer than a shaper's burst or
// than its queue, or dropped by a filter of tc. Such a one would withhold its
// acknowledgement for ever, and with it all that the broker has in flight, of every rule.
// So of one that was refused for bufferPatience it is found out whether it can leave:
//
//   - twice the queue was idle, and has refused it all the same; or
//   - it was refused for otherPatience, in which others have left, or the next one
//     leaves now, tried alone. A slow shaper may take a short one sooner than a long one.
//
// Then it is dropped (no_buffer). How long it was is remembered: of one as long it is found
// out at once, and the next one is tried at once if it is shorter. Where neither holds, it
// waits. When nothing at all has left for stuckPatience, the rules are degraded, and those
// that use the disk go there.
//
// So each acknowledgement that is withheld here is released: the datagram leaves; it is
// dropped as one that never can, or by max_age; the disk has it; or the interface goes, and
// on_down decides. At the end, and where there is no room, the broker keeps it.
//
// An idle queue is no sign of that where the kernel has no room for one more neighbour, which
// anybody on the network can bring about (multicast.ErrNoNeighbour): all groups are refused in
// turn then, and one at a time may be let through. So nothing is dropped for that others leave
// until they have for crowdedPatience, in which each comes to its turn a dozen times.
//
// A datagram of QoS 0 is dropped after bufferPatience, and at once where nothing leaves;
// for a full send buffer it waits.
const (
	bufferPatience  = time.Second
	otherPatience   = 10 * time.Second
	crowdedPatience = time.Minute
	stuckPatience   = 2 * time.Second
	stuckQuiet      = 10 * time.Minute // how often that is logged

	// How long the queue is left alone between two tries: longer each time.
	firstPause = time.Millisecond
	maxPause   = 50 * time.Millisecond

	// crowdedPause is that where there is no room for a neighbour: once in five seconds there
	// is some, and those who took it take it again within so long.
	crowdedPause = 10 * time.Millisecond

	// maxAskPause is how rarely it is asked at last whether the queue is idle.
	maxAskPause = time.Second
)

// refusal is what is known of a datagram in front of a queue, in memory or on disk, that
// the kernel refuses. The binding's mu guards it.
type refusal struct {
	of    uint64    // which one, by its number
	since time.Time // when it was refused first; zero: it was not
	left  uint64    // how often something had left by then
	idle  int       // how often in a row it was refused by a queue that was seen idle
}

// refusals are what is known of the datagrams that the socket has had no room for. The
// binding's mu guards them.
type refusals struct {
	departures uint64    // how often something has left
	crowded    time.Time // when the kernel was last known to have no room for one more neighbour
	tooLong    int       // length of the shortest payload that was found never to leave; 0: none is known
}

// standstill is that nothing leaves. The binding's mu guards it.
type standstill struct {
	since   time.Time // nothing has left since, though there was something; zero: it has
	refuser error     // why
	logged  time.Time // the stuckSince that was logged last
}

// suspects reports whether it is to be found out if a datagram can leave at all. Callers
// hold mu.
func (b *binding) suspects(r *refusal, length int, now time.Time) bool {
	return now.Sub(r.since) >= bufferPatience || b.refused.tooLong > 0 && length >= b.refused.tooLong
}

// front is what waits in a queue, in memory or on disk.
type front struct {
	waits        []multicast.Datagram // the first of them is refused
	at           int                  // place of the first in the batch that was sent
	number       uint64               // of the first
	acknowledged bool                 // it is of a message that is
	refusal      *refusal             // what is known of it
}

// verdict is what is decided of a datagram that the socket has had no room for.
type verdict int

const (
	waits     verdict = iota
	late              // of QoS 0: it has waited long enough
	notByIdle         // never leaves: the queue was idle, and has refused it all the same
	notByBusy         // never leaves: others have, meanwhile
	overtaken         // never leaves: the next one has, tried alone
)

// noRoom is called when the socket had no room (err) for what is in front of a queue. It returns
// how many are done with: none; the first, which is dropped because of why; or the first,
// and the second, which has left. Callers hold mu.
func (b *binding) noRoom(f front, work *drainWork, err error) (done int, why error) {
	now, r, to, length := time.Now(), f.refusal, f.waits[0].To, len(f.waits[0].Payload)
	if r.since.IsZero() || r.of != f.number {
		*r = refusal{of: f.number, since: now, left: b.refused.departures}
	}
	switch work.seen() {
	case seenIdle:
		r.idle++
	case seenBusy:
		r.idle = 0
	case seenCrowded:
		r.idle, b.refused.crowded = 0, now
	}
	if errors.Is(err, multicast.ErrNoNeighbour) {
		r.idle, b.refused.crowded = 0, now
	}
	done = 1
	switch b.judge(f, work, now) {
	case waits:
		return 0, nil
	case late:
		*r = refusal{}
		return 1, err
	case notByIdle:
		why = fmt.Errorf("%w; it is idle, and refuses %d bytes to %s all the same: is the burst or the queue of a shaper too small for them, or does a filter of tc drop them?",
			err, length, to)
	case overtaken:
		done = 2
	}
	if why == nil {
		why = fmt.Errorf("%w; it takes others, and has refused %d bytes to %s for long: is the burst or the queue of a shaper too small for them?", err, length, to)
	}
	if (b.refused.tooLong == 0 || length < b.refused.tooLong) && (done == 1 || len(f.waits[1].Payload) < length) {
		b.refused.tooLong = length
	}
	*r = refusal{}
	b.clearStuck("what was in front of the queue can never leave, and is dropped")
	return done, why
}

// judge decides about what is in front of a queue; see the rules above. Callers hold mu.
func (b *binding) judge(f front, work *drainWork, now time.Time) verdict {
	r, length := f.refusal, len(f.waits[0].Payload)
	crowded := b.crowded(now)
	patient := now.Sub(r.since) >= otherPatience && !crowded || now.Sub(r.since) >= crowdedPatience
	switch {
	case !b.suspects(r, length, now):
		return waits
	case !f.acknowledged && now.Sub(r.since) < bufferPatience:
		return waits
	case !f.acknowledged:
		return late
	case r.idle > 1:
		return notByIdle
	case patient && r.left != b.refused.departures:
		return notByBusy
	}
	if len(f.waits) > 1 {
		known := !crowded && b.refused.tooLong > 0 && length >= b.refused.tooLong
		if next := f.waits[1:2]; (patient || known && len(next[0].Payload) < length) && b.leaves(next, f.at+1) {
			return overtaken
		}
	}
	work.suspects = true
	return waits
}

// crowded reports whether the kernel has had no room for one more neighbour lately. Callers
// hold mu.
func (b *binding) crowded(now time.Time) bool { return now.Sub(b.refused.crowded) < otherPatience }

// leaves reports whether a datagram that is sent alone leaves; at was its place in the batch
// before. Callers hold mu.
func (b *binding) leaves(one []multicast.Datagram, at int) bool {
	ok := true
	b.counters.again(at)
	n, _ := b.transmit(nil, one, true, nil, func(int, error) { ok = false })
	return ok && n == 1
}

// forgetLength forgets how long a datagram is that can never leave, if one as long has.
// Callers hold mu.
func (b *binding) forgetLength(sent []multicast.Datagram) {
	for i := 0; i < len(sent) && b.refused.tooLong > 0; i++ {
		if len(sent[i].Payload) >= b.refused.tooLong {
			b.refused.tooLong = 0
		}
	}
}

// departed notes that something has left. Callers hold mu.
func (b *binding) departed() {
	b.refused.departures++
	b.clearStuck("datagrams leave again")
	if b.state == account.StateDegraded { // its self-test was refused: the one group of it is none that a firewall lets pass
		b.setState(account.StateUp, "")
		b.log.Info("a firewall refuses the self-test, but datagrams leave", "interface", b.source.Interface, "source", b.socket.LocalAddr(), "rules", b.rules)
	}
}

// clearStuck ends the state in which nothing leaves. Callers hold mu.
func (b *binding) clearStuck(why string) {
	b.still.since = time.Time{}
	if b.stuck == "" {
		return
	}
	b.show(func() { b.stuck = "" })
	if b.still.logged == b.stuckSince {
		b.log.Info(why, "interface", b.source.Interface, "rules", b.rules, "after", time.Since(b.stuckSince).Round(time.Millisecond))
	}
}

// notTaken notes that the socket has taken nothing. Callers hold mu.
func (b *binding) notTaken(err error) {
	if b.still.since.IsZero() {
		b.still.since = time.Now()
	}
	b.still.refuser = err
}

// checkStuck finds out whether nothing has left for too long though the socket is there.
// Callers hold mu.
func (b *binding) checkStuck(now time.Time) {
	switch {
	case b.queue.empty() && len(b.spooledRules) == 0:
		b.clearStuck("nothing waits any more") // the next one is tried
		return
	case b.still.since.IsZero() || b.stuck != "" || b.socket == nil || now.Sub(b.still.since) < stuckPatience:
		return
	}
	stuck := "the send buffer for interface " + b.source.Interface + " is full, and nothing leaves it; messages of QoS 1 and 2 wait until something does"
	if errors.Is(b.still.refuser, multicast.ErrNoBuffer) && b.crowded(now) {
		stuck = "the kernel has no room for one more neighbour, which each group needs on interface " + b.source.Interface + ": is somebody speaking for hosts without number? Messages of QoS 1 and 2 wait; more fit with a higher gc_thresh3 of net.ipv4.neigh.default and net.ipv6.neigh.default (arp(7))"
	} else if errors.Is(b.still.refuser, multicast.ErrNoBuffer) {
		stuck = "the queue of interface " + b.source.Interface + " takes no datagrams (ENOBUFS); messages of QoS 1 and 2 wait until it does"
	}
	b.show(func() { b.stuck, b.stuckSince = stuck, b.still.since })
	if b.stuckSince.Sub(b.still.logged) >= stuckQuiet { // a slow line is stuck again and again
		b.still.logged = b.stuckSince
		b.log.Warn("no datagrams leave, though the interface is up; messages of QoS 1 and 2 wait until they do",
			"interface", b.source.Interface, "rules", b.rules, "waiting", b.queue.len(), "err", b.still.refuser)
	}
	b.spilling = true
	b.queue.each(func(l *ruleQueue) bool {
		l.swept = nil
		return true
	})
	b.spill()
}

// sweep hands to the disk what waits in memory of a rule while nothing leaves, if the rule uses
// it, and drops what is of QoS 0. It reports whether the disk takes more. Callers hold mu.
func (b *binding) sweep(l *ruleQueue) bool {
	w := l.first
	if l.swept != nil {
		w = l.swept.next
	}
	for w != nil {
		next := w.next
		switch {
		case w.superseded():
			b.giveUp(w, account.ReasonSuperseded, nil)
		case w.ack == nil && b.tooLate(l.rule) && !l.untried(w):
			b.giveUp(w, account.ReasonNoBuffer, errors.New(b.stuck))
		case w.ack == nil, l.rule.spool == nil:
			l.swept = w
		case !b.spillOne(w):
			return false
		default:
			b.queue.remove(w)
		}
		w = next
	}
	return true
}

// untried reports that nothing of the rule has been refused: what nothing leaves of may be other
// rules. Callers hold mu.
func (l *ruleQueue) untried(first *queuedDatagram) bool {
	return l.first == first && (first == nil || l.refusal.of != first.number) && !l.rule.onDisk()
}

// tooLate reports whether what is of QoS 0 is dropped while nothing leaves: not where it
// waits for the send buffer, nor where the latest is wanted. Callers hold mu.
func (b *binding) tooLate(r *Rule) bool {
	return r.OnDown != mapping.OnDownLatest && errors.Is(b.still.refuser, multicast.ErrNoBuffer)
}

// bypasses reports whether a message goes to the disk at once, because nothing leaves and
// all that came before it has gone there. Callers hold mu.
func (b *binding) bypasses(l *ruleQueue, w *queuedDatagram) bool {
	return b.stuck != "" && w.ack != nil && w.rule.spool != nil && l.swept == l.last && b.appendToSpool(w)
}
