package send

import (
	"context"
	"errors"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
)

// Steps 3 to 5 of the way of a datagram that has to wait (wait.go).

// drainBatch is how many waiting datagrams one call to the kernel is given: few
// enough that the reader, which needs the same lock, does not wait long.
const drainBatch = 64

// run sends what waits, in order, and ends when there is nothing that can be sent
// now, or the socket is gone.
func (b *binding) run() {
	work := new(drainWork)
	for pause := firstPause; ; {
		work.suspects = false
		s, progress, err := b.drainSpool(work)
		if s != nil && (err == nil || work.suspects) { // one queue that is stuck delays no other
			var more bool
			var failed error
			s, more, failed = b.drain(work)
			if progress = progress || more; err == nil {
				err = failed
			}
		}
		b.path.settled.Notify()
		if progress {
			pause, work.idlePause, work.idleCheckAt, work.crowded = firstPause, 0, time.Time{}, false
		}
		switch {
		case s == nil:
		case errors.Is(err, multicast.ErrNoBuffer):
			most := maxPause
			if work.crowded || errors.Is(err, multicast.ErrNoNeighbour) {
				most = crowdedPause
			}
			pauseFor(b.ctx, min(pause, most))
			pause = min(2*pause, most)
			work.ask(s, time.Now())
		case err != nil:
			_ = s.Wait(b.ctx) // an error of the socket shows at the next send
		}
		if b.idle(s == nil || b.ctx.Err() != nil, progress || err != nil) {
			return
		}
	}
}

// idle reports whether run is to end: because it must, or because it made no
// progress and nobody has called wake meanwhile.
func (b *binding) idle(must, busy bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Whoever looks once a second does not wait for the lock, and may find it taken each time.
	b.checkStuck(time.Now())
	b.clearBlockers()
	if b.needsRedelivery.Load() && b.budget.HasRoom() {
		b.path.tellRoom()
	}
	if !must && (busy || b.again) {
		b.again = false
		return false
	}
	b.draining, b.again = false, false
	if b.socket != nil && !b.stopped && b.ctx.Err() == nil {
		b.sleepUntilDue(time.Now())
	}
	return true
}

// drainWork is the memory of run.
type drainWork struct {
	out   [drainBatch]multicast.Datagram
	from  []*queuedDatagram // of each its place in memory
	done  []*pendingAck
	spool spoolWork

	suspects    bool // a datagram in front of a queue may be one that can never leave
	queue       queueState
	idleCheckAt time.Time // whether it is idle is asked at the earliest
	idlePause   time.Duration
	crowded     bool // when it was asked last, the kernel had had no room for one more neighbour
}

// queueState is what was seen of the interface's queue before the first send of a round; what
// is sent after it may find there what that has left.
type queueState int

const (
	notSeen queueState = iota
	seenIdle
	seenBusy
	seenCrowded // the kernel had no room for one more neighbour
)

// ask asks whether the interface's queue is idle, if that is of use. It takes the kernel
// the longer the more interfaces there are, so that it is asked ever more rarely.
func (work *drainWork) ask(s Sender, now time.Time) {
	work.queue = notSeen
	if !work.suspects || now.Before(work.idleCheckAt) {
		return
	}
	switch work.crowded = s.NeighboursFull(); {
	case work.crowded:
		work.queue = seenCrowded
	case s.Idle():
		work.queue = seenIdle
	default:
		work.queue = seenBusy
	}
	work.idlePause = min(max(2*work.idlePause, firstPause), maxAskPause)
	work.idleCheckAt = now.Add(work.idlePause)
}

// seen is what was seen of the queue, for the first send of a round.
func (work *drainWork) seen() (q queueState) {
	q, work.queue = work.queue, notSeen
	return q
}

// sent notes that n datagrams were sent: what was seen of the queue is no more.
func (work *drainWork) sent(n int) {
	if n > 0 {
		work.queue = notSeen
	}
}

// drain sends from the front of the queue. It returns the socket it used, nil when
// there is none any more; whether the queue is shorter for it; and what keeps the
// next datagram.
func (b *binding) drain(work *drainWork) (s Sender, progress bool, err error) {
	defer work.acknowledge() // outside the lock that the reader takes
	b.mu.Lock()
	defer b.mu.Unlock()
	if s = b.socket; s == nil {
		return nil, false, nil
	}
	was := b.queue.len()
	if b.unstored {
		b.spill()
	}
	b.checkHosts(time.Now())
	from := b.sendable(work.from[:0], time.Now())
	if work.from = from; len(from) == 0 {
		return s, b.queue.len() < was, nil
	}
	out, acknowledged := work.out[:0], false
	for i, w := range from {
		out = append(out, multicast.Datagram{To: w.to, Payload: w.payload, Broadcast: w.rule.broadcasts})
		b.counters.number(i, w.rule)
		acknowledged = acknowledged || w.ack != nil
	}
	var failed [drainBatch]error
	n, err := b.transmit(nil, out, acknowledged, nil, func(i int, err error) { failed[i] = err })
	for i, w := range from {
		if w.entry != nil {
			b.noteAttempt(w, i < n, time.Now())
		}
	}
	for _, w := range from[:b.doubtful] {
		w.doubt()
	}
	for i, w := range from[:n] {
		work.settle(b, w, failed[i])
	}
	work.sent(n)
	if n < len(from) {
		next := from[n]
		b.queue.turn = next.in.index + 1 // others come first the next time
		if errors.Is(err, multicast.ErrNoBuffer) {
			done, why := b.noRoom(front{out[n:], n, next.number, next.ack != nil, &next.in.refusal}, work, err)
			for _, w := range from[n : n+done] {
				if w.entry != nil {
					b.noteAttempt(w, true, time.Now())
				}
				work.settle(b, w, why)
				why = nil // the next one has left
			}
		}
	}
	clear(from)
	clear(out)
	if err != nil {
		b.stalled(err)
	}
	return s, b.queue.len() < was, err
}

// sendable is what one call to the kernel is given: of each rule the same part, in turn. What
// is too old is dropped on the way there. Callers hold mu.
func (b *binding) sendable(into []*queuedDatagram, now time.Time) []*queuedDatagram {
	q := &b.queue
	if q.pacing.n > 0 {
		into = b.dueNow(into, now)
	}
	each := max(1, drainBatch/max(1, len(q.rules)))
	for range len(q.rules) {
		if q.empty() || len(into) == drainBatch {
			break
		}
		if q.turn >= len(q.rules) {
			q.turn = 0
		}
		l := q.rules[q.turn]
		for !l.empty() && l.first.expired(now) {
			b.giveUp(l.first, account.ReasonExpired, nil)
		}
		if l.empty() {
			if len(into) > 0 {
				break // another is in its place, which may have had its turn
			}
			continue
		}
		q.turn++
		if l.rule.onDisk() || l.rule.paced() {
			continue
		}
		w := l.first
		for range min(each, drainBatch-len(into)) {
			d := leaving{l.rule, l.host, w.topic, w.to, w.payload, l.rule.waitsForHost(w.ack != nil), w.reply}
			if o, _ := b.ready(&d, now); o != noObstacle {
				break // checkHosts goes by the host's state
			}
			into = append(into, w)
			if w = w.next; w == nil || w.expired(now) {
				break
			}
		}
	}
	return into
}

// expireQueued drops what has waited in memory for too long, wherever it stands in the queue:
// while nothing is sent nobody looks at it. Callers hold mu.
func (b *binding) expireQueued(now time.Time) {
	b.queue.eachDatagram(func(w *queuedDatagram) {
		if w.expired(now) {
			b.giveUp(w, account.ReasonExpired, nil)
		}
	})
}

// expired reports whether a datagram has waited longer than max_age, or than its message is good for.
func (w *queuedDatagram) expired(now time.Time) bool {
	waited, age := now.Sub(w.since), w.rule.MaxAge
	return age > 0 && waited > age || w.goodFor.overAfter(waited)
}

// settle disposes of a datagram that has left, or never will, and remembers its
// message if nothing else of it waits.
func (work *drainWork) settle(b *binding, w *queuedDatagram, failed error) {
	if failed == nil {
		b.sent(w) // first: who sees that nothing waits any more knows what was sent last
	}
	b.queue.remove(w)
	b.budget.Release(w.in.room, w.size())
	if failed != nil {
		w.drop(reasonOf(failed), failed)
	}
	if w.ack != nil && w.ack.settle() {
		work.done = append(work.done, w.ack)
	}
}

// sent enters a datagram that has waited and that the kernel took.
func (b *binding) sent(w *queuedDatagram) {
	now := time.Now()
	w.rule.took(1, len(w.payload), account.MomentOf(now))
	b.reportSent(w.rule, w.topic, w.to, w.payload, w.since, now, "")
	if w.sent != nil {
		b.path.lastSent.Sent(w.sent, w.fingerprint)
	}
	if w.rule.SendsAgain() {
		b.keepAgain(keptKey{w.rule, w.topic, w.to}, w.payload, w.since, w.goodFor, w.number)
		b.armKept()
	}
	if w.rule.ExpectsAnswers() {
		b.requestSent(w)
	}
	b.latency.Observe(time.Since(w.since), 1)
}

// acknowledge lets the messages be acknowledged that are done.
func (work *drainWork) acknowledge() {
	for _, a := range work.done {
		a.ack.Done()
	}
	clear(work.done)
	work.done = work.done[:0]
}

// pauseFor sleeps, unless ctx ends before.
func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return
	case <-ctx.Done():
		return
	}
}
