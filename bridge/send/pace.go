package send

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/mapping"
)

// Rules with a rate. Every datagram of such a rule goes through the queue, where the rule has a
// queue of its own for each target. A datagram leaves one period after the last one to the same
// target, whichever rule with a rate of this binding that was from. Meanwhile the drain goroutine
// ends, and a timer starts it again. Messages on disk leave in their order, and so at the rate of
// the target of the first one.

const (
	// maxPaced is how many targets of a binding may be waiting for their next period.
	maxPaced = 1 << 16
	// maxPacedHeld is how many messages wait unacknowledged for their time where they could be
	// written to disk: brokers have so many in flight (mosquitto: 20) that they then stop.
	maxPacedHeld = 8
)

// pacing is the state of the targets of rules with a rate. Guarded by the binding's mu.
type pacing struct {
	targets map[netip.AddrPort]*pacedTarget
	due     dueHeap[*targetQueue] // those in which something waits
	n       int                   // how many datagrams wait in them
	round   uint64
	timer   *time.Timer
	wakes   time.Time // when it fires; zero: it does not

	// When unused targets were last removed, and how many were left.
	tidiedAt time.Time
	tidied   int
}

// pacedTarget is a target to which a rule with a rate sends.
type pacedTarget struct {
	last   time.Time     // when the last datagram left
	rest   time.Duration // the longest period of the rules that send to it
	by     *Rule         // whose that was
	yields bool          // messages on disk have deferred to other rules once
	queues int           // queues in which something waits for it
}

// targetQueue holds the datagrams of one rule that wait for one target.
type targetQueue struct {
	rule        *Rule
	to          netip.AddrPort
	target      *pacedTarget
	first, last *targetEntry
	at          time.Time // when the first may leave
	delayed     bool      // it is rescheduled when a request is over (answers.go)
	turn        uint64    // among queues due at the same time, the one served longest ago goes first
	heapPlace
}

// targetEntry is a datagram's place in a targetQueue.
type targetEntry struct {
	w          *queuedDatagram
	of         *targetQueue
	prev, next *targetEntry
}

// before orders queues by when their first may leave, then by turn.
func (l *targetQueue) before(o *targetQueue) bool {
	if c := l.at.Compare(o.at); c != 0 {
		return c < 0
	}
	return l.turn < o.turn
}

// queuePaced queues the datagrams that were gathered for rules with a rate.
func (p *Path) queuePaced(batch []session.Message) {
	for i := range p.paced {
		d := &p.paced[i]
		m, b := &batch[d.message], d.target.flow.binding
		p.layLate(d)
		b.mu.Lock()
		b.enqueue(d.target.flow.to, d, m, p.began, p.ackOf(d.message, m))
		if i+1 == len(p.paced) || p.paced[i+1].target.flow.binding != b {
			b.wake()
		}
		b.mu.Unlock()
	}
	clear(p.paced)
	p.paced = p.paced[:0]
}

// next returns when a rule may send to the target next.
func (t *pacedTarget) next(r *Rule) time.Time {
	if t == nil || t.last.IsZero() {
		return time.Time{}
	}
	return t.last.Add(r.Rate.Period())
}

// periodEnds returns when a rule may send to a target next; the zero time if it has not lately.
func (p *pacing) periodEnds(r *Rule, to netip.AddrPort, now time.Time) time.Time {
	if !p.hasPlace(to, now) {
		return now.Add(time.Second)
	}
	return p.targets[to].next(r)
}

// left notes that a datagram of a rule has left for a target, if that matters.
func (p *pacing) left(r *Rule, to netip.AddrPort, now time.Time) {
	if r.paced() && p.hasPlace(to, now) {
		p.target(to).left(r, now)
	}
}

// left notes that a datagram of a rule has left.
func (t *pacedTarget) left(r *Rule, now time.Time) {
	t.last, t.by, t.yields = now, r, false
	t.rest = max(t.rest, r.Rate.Period())
}

// target returns the state of a target, new if there was none.
func (p *pacing) target(to netip.AddrPort) *pacedTarget {
	t := p.targets[to]
	if t == nil {
		if p.targets == nil {
			p.targets = make(map[netip.AddrPort]*pacedTarget)
		}
		t = new(pacedTarget)
		p.targets[to] = t
	}
	return t
}

// hasPlace reports whether the target has a state, or there is room for one more.
func (p *pacing) hasPlace(to netip.AddrPort, now time.Time) bool {
	if p.targets[to] != nil {
		return true
	}
	if n := len(p.targets); n >= max(1024, 2*p.tidied) || n >= maxPaced && now.Sub(p.tidiedAt) >= time.Second {
		for g, t := range p.targets {
			if t.queues == 0 && now.Sub(t.last) >= t.rest {
				delete(p.targets, g)
			}
		}
		p.tidied, p.tidiedAt = len(p.targets), now
	}
	return len(p.targets) < maxPaced
}

// push appends a datagram to the queue of its rule and target.
func (p *pacing) push(l *ruleQueue, w *queuedDatagram) {
	of := l.targets[w.to]
	if of == nil {
		of = &targetQueue{rule: l.rule, to: w.to, target: p.target(w.to)}
		if l.targets == nil {
			l.targets = make(map[netip.AddrPort]*targetQueue)
		}
		l.targets[w.to] = of
		of.target.queues++
	}
	in := &targetEntry{w: w, of: of, prev: of.last}
	w.entry = in
	if of.last != nil {
		of.last.next = in
	} else {
		of.first, of.at = in, of.target.next(l.rule)
		p.due.push(of)
	}
	of.last = in
	p.n++
	if w.ack != nil {
		l.rule.binding.path.pacedHeld.Add(1)
	}
}

// remove removes a datagram from its queue.
func (p *pacing) remove(l *ruleQueue, w *queuedDatagram) {
	in := w.entry
	of := in.of
	w.entry = nil
	if in.prev != nil {
		in.prev.next = in.next
	} else {
		of.first = in.next
	}
	if in.next != nil {
		in.next.prev = in.prev
	} else {
		of.last = in.prev
	}
	p.n--
	if w.ack != nil {
		l.rule.binding.path.pacedHeld.Add(-1)
	}
	if of.first == nil {
		p.due.remove(of)
		of.target.queues--
		delete(l.targets, of.to)
	}
}

// reschedule sets when the first datagram of a queue may leave.
func (p *pacing) reschedule(of *targetQueue, at time.Time) {
	of.at = at
	p.due.fix(of)
}

// dueNow appends the datagrams of rules with a rate that may leave now: one for each target.
// Callers hold mu.
func (b *binding) dueNow(into []*queuedDatagram, now time.Time) []*queuedDatagram {
	p := &b.queue.pacing
	for len(p.due) > 0 && len(into) < drainBatch/2 && !p.due[0].at.After(now) {
		of := p.due[0]
		w := of.first.w
		period := max(of.rule.Rate.Period(), time.Millisecond)
		switch {
		case of.rule.onDisk():
			p.reschedule(of, now.Add(period))
			continue
		case w.expired(now):
			b.giveUp(w, account.ReasonExpired, nil)
			continue
		case slices.ContainsFunc(into, func(other *queuedDatagram) bool { return other.excludes(w) }):
			p.reschedule(of, now.Add(min(period, time.Millisecond))) // again once that has left
			continue
		}
		d := leaving{of.rule, w.in.host, w.topic, w.to, w.payload, of.rule.waitsForHost(w.ack != nil), w.reply}
		switch o, at := b.ready(&d, now); o {
		case noObstacle:
			into = append(into, w)
			p.reschedule(of, now.Add(period))
		case requestObstacle:
			b.awaitRequest(of)
			fallthrough
		default:
			p.reschedule(of, at)
		}
	}
	return into
}

// excludes reports whether another datagram of a rule with a rate cannot leave together with it.
func (w *queuedDatagram) excludes(other *queuedDatagram) bool {
	if w.entry.of.target == other.entry.of.target {
		return true
	}
	return w.rule == other.rule && w.rule.ExpectsAnswers() && w.requestKey() == other.requestKey()
}

// noteAttempt notes that a datagram was given to the kernel. If it is done with, the target's next
// period begins. Callers hold mu.
func (b *binding) noteAttempt(w *queuedDatagram, done bool, now time.Time) {
	of := w.entry.of
	if !done {
		b.queue.pacing.reschedule(of, of.target.next(of.rule))
		return
	}
	b.queue.pacing.round++
	of.turn = b.queue.pacing.round
	of.target.left(of.rule, now)
	b.queue.pacing.reschedule(of, of.target.next(of.rule))
}

// yields reports whether a message on disk lets another rule's datagram leave first that waits in memory
// for the same target. It does so once. Callers hold mu.
func (b *binding) yields(r *Rule, to netip.AddrPort, now time.Time) bool {
	t := b.queue.pacing.targets[to]
	if t == nil || t.by != r || t.yields || t.next(r).After(now) || !b.othersWait(r, t) {
		return false
	}
	t.yields = true
	return true
}

// othersWait reports whether a datagram of another rule waits in memory for a target.
func (b *binding) othersWait(r *Rule, t *pacedTarget) bool {
	return t.queues > 0 && slices.ContainsFunc(b.queue.pacing.due, func(of *targetQueue) bool { return of.target == t && of.rule != r && !of.rule.onDisk() })
}

// overRate returns why a datagram of a rule with a rate is dropped; nil: it may wait. Callers hold mu.
func (b *binding) overRate(r *Rule, to netip.AddrPort, payload []byte, now time.Time) error {
	p := &b.queue.pacing
	t := p.targets[to]
	switch {
	case !p.hasPlace(to, now):
		return fmt.Errorf("rate: %d other targets have had something lately, and of more it is not known", maxPaced)
	case r.WhenOver == mapping.OverDrop && b.socket != nil && t != nil && (t.queues > 0 || (!r.SendsAgain() || r.onDisk()) && t.next(r).After(now)):
		// What was sent again takes no place of what is new: one message waits, in memory or on disk.
		return fmt.Errorf("rate: more than %s to %s", r.Rate, to)
	case r.WhenOver == mapping.OverDrop && r.ExpectsAnswers() && b.requests.byKey[r.Answer.Match.Key(to, payload)] != nil:
		return fmt.Errorf("when_over: %s still has to answer what it was asked before", to)
	}
	return nil
}

// supersedes replaces the datagram of the same topic and target that waits, under when_over: latest,
// and reports whether there was one. The new one keeps the place in the queue, so that a topic that
// changes all the time still gets its turn. Callers hold mu.
func (b *binding) supersedes(l *ruleQueue, w *queuedDatagram) bool {
	old := l.latest[w.topic]
	if l.rule.WhenOver != mapping.OverLatest || old == nil || old.to != w.to {
		return false
	}
	b.budget.Release(l.room, old.size())
	if !b.budget.Acquire(l.room, w.size()) {
		b.budget.Transfer(l.room, old.size())
		b.giveUp(old, account.ReasonSuperseded, nil)
		return false
	}
	l.rule.waitingBytes.Add(int64(w.size() - old.size()))
	was := *old
	held := &b.path.pacedHeld
	if was.ack != nil {
		held.Add(-1)
	}
	if w.ack != nil {
		held.Add(1)
	}
	b.queue.last++
	old.number = b.queue.last // it is newer than what has come meanwhile
	old.payload, old.message = bytes.Clone(w.payload), bytes.Clone(w.message)
	old.sent, old.fingerprint, old.ack, old.since = w.sent, w.fingerprint, w.ack, w.since
	old.goodFor, old.reply, old.properties = w.goodFor, w.reply, w.properties
	was.lose(account.ReasonSuperseded, nil)
	return true
}

// allPaced reports whether everything that waits does so for its rate or for an unreachable host,
// so that other datagrams may leave at once. Callers hold mu.
func (b *binding) allPaced() bool {
	return b.queue.n == b.queue.pacing.n+b.queue.forHosts && !slices.ContainsFunc(b.spooledRules, func(r *Rule) bool { return !r.paced() && !r.awaitsHost() })
}

// sleepUntilDue is called when nothing more can leave now. If too many datagrams wait
// unacknowledged for their time, they are written to the disk; a timer wakes the drain for the
// others. Callers hold mu.
func (b *binding) sleepUntilDue(now time.Time) {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if b.queue.pacing.n > 0 && b.path.pacedHeld.Load() > maxPacedHeld {
		b.queue.each(b.spillPaced)
	}
	if len(b.queue.pacing.due) > 0 {
		sooner(b.queue.pacing.due[0].at)
	}
	for _, r := range b.spooledRules {
		if !r.spooling.notBefore.IsZero() {
			sooner(r.spooling.notBefore)
		}
	}
	if len(b.hosts.due) > 0 {
		sooner(b.hosts.due[0].nextCheck)
	}
	if !at.IsZero() {
		b.wakeAt(at)
	}
}

// wakeBy has wake called at a time, unless it will be sooner anyway. Callers hold mu.
func (b *binding) wakeBy(at time.Time) {
	if was := b.queue.pacing.wakes; was.IsZero() || at.Before(was) {
		b.wakeAt(at)
	}
}

// wakeAt has wake called at a time. Callers hold mu.
func (b *binding) wakeAt(at time.Time) {
	p := &b.queue.pacing
	p.wakes = at
	d := time.Until(at)
	if p.timer != nil {
		p.timer.Reset(d)
		return
	}
	p.timer = time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		p.wakes = time.Time{}
		b.wake()
	})
}

// spillPaced writes to the disk what waits of a rule with a rate. It reports whether the disk
// takes more. Callers hold mu.
func (b *binding) spillPaced(l *ruleQueue) bool {
	if !l.rule.paced() || l.rule.spool == nil || b.path.pacedHeld.Load() <= maxPacedHeld {
		return true
	}
	for !l.empty() {
		w := l.first
		if !b.spillOne(w) {
			return false
		}
		b.spilling = true
		b.queue.remove(w)
	}
	return true
}
