package send

import (
	"bytes"
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/mapping"
)

// What leaves no faster than its rule's rate. Every datagram of such a rule goes by the queue;
// there the rule's lane has a line for each target, and one leaves a period after the last one
// for that target, by whichever rule with a rate of this binding. Until then run ends, and a
// timer begins it again. What is on disk leaves in its order, and so at the rate of the target
// in front.

const (
	// maxPaced is how many targets of a binding may have had something lately.
	maxPaced = 1 << 16
	// maxPacedHeld is how many messages wait unacknowledged for their time, where they could be
	// on disk: brokers hand out 20 (mosquitto) before they wait for one.
	maxPacedHeld = 8
)

// pacing is what a binding knows of the targets of rules with a rate. Its mu guards it.
type pacing struct {
	targets map[netip.AddrPort]*pacedTarget
	due     dueLines // those in which something waits
	n       int      // how many datagrams these are
	round   uint64
	timer   *time.Timer

	// When those without use were forgotten last, and how many targets were left.
	tidiedAt time.Time
	tidied   int
}

// pacedTarget is a target to which a rule with a rate sends.
type pacedTarget struct {
	last   time.Time     // when the last datagram left
	rest   time.Duration // the longest period of a rule that sends to it
	by     *Rule         // whose that was
	yields bool          // what is on disk has let others go first
	lines  int           // in which something waits for it
}

// line is what of one rule waits for one target.
type line struct {
	rule        *Rule
	group       netip.AddrPort
	target      *pacedTarget
	first, last *inLine
	at          time.Time // nothing of it leaves before
	turn        uint64    // of those that are due at once that goes first which was served the longest ago
	place       int       // in due
}

// inLine is the place of a datagram in a line.
type inLine struct {
	w          *queuedDatagram
	of         *line
	prev, next *inLine
}

// dueLines is a heap of lines, that of which something may leave first in front.
type dueLines []*line

func (d dueLines) Len() int { return len(d) }
func (d dueLines) Less(i, j int) bool {
	if c := d[i].at.Compare(d[j].at); c != 0 {
		return c < 0
	}
	return d[i].turn < d[j].turn
}
func (d dueLines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}
func (d *dueLines) Push(l any) {
	l.(*line).place = len(*d)
	*d = append(*d, l.(*line))
}
func (d *dueLines) Pop() any {
	last := len(*d) - 1
	l := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return l
}

// paced reports whether the rule has a rate.
func (r *Rule) paced() bool { return !r.Rate.IsZero() }

// queuePaced queues what was gathered of rules with a rate (pace.go).
func (p *Path) queuePaced(batch []session.Message) {
	for i := range p.paced {
		d := &p.paced[i]
		m, b := &batch[d.message], d.target.flow.binding
		b.mu.Lock()
		b.enqueue(d.target.flow.group, d, m, p.began, p.ackOf(d.message, m))
		if i+1 == len(p.paced) || p.paced[i+1].target.flow.binding != b {
			b.wake()
		}
		b.mu.Unlock()
	}
	clear(p.paced)
	p.paced = p.paced[:0]
}

// next is when a rule may send to a target.
func (t *pacedTarget) next(r *Rule) time.Time {
	if t == nil || t.last.IsZero() {
		return time.Time{}
	}
	return t.last.Add(r.Rate.Period())
}

// left notes that a datagram of a rule has left.
func (t *pacedTarget) left(r *Rule, now time.Time) {
	t.last, t.by, t.yields = now, r, false
	t.rest = max(t.rest, r.Rate.Period())
}

// target is what is known of a target, from now on.
func (p *pacing) target(group netip.AddrPort) *pacedTarget {
	t := p.targets[group]
	if t == nil {
		if p.targets == nil {
			p.targets = make(map[netip.AddrPort]*pacedTarget)
		}
		t = new(pacedTarget)
		p.targets[group] = t
	}
	return t
}

// hasPlace reports whether a target is known, or one more may be.
func (p *pacing) hasPlace(group netip.AddrPort, now time.Time) bool {
	if p.targets[group] != nil {
		return true
	}
	if n := len(p.targets); n >= max(1024, 2*p.tidied) || n >= maxPaced && now.Sub(p.tidiedAt) >= time.Second {
		for g, t := range p.targets {
			if t.lines == 0 && now.Sub(t.last) >= t.rest {
				delete(p.targets, g)
			}
		}
		p.tidied, p.tidiedAt = len(p.targets), now
	}
	return len(p.targets) < maxPaced
}

// line puts a datagram of a rule with a rate in line.
func (p *pacing) line(l *lane, w *queuedDatagram) {
	of := l.lines[w.group]
	if of == nil {
		of = &line{rule: l.rule, group: w.group, target: p.target(w.group)}
		if l.lines == nil {
			l.lines = make(map[netip.AddrPort]*line)
		}
		l.lines[w.group] = of
		of.target.lines++
	}
	in := &inLine{w: w, of: of, prev: of.last}
	w.line = in
	if of.last != nil {
		of.last.next = in
	} else {
		of.first, of.at = in, of.target.next(l.rule)
		heap.Push(&p.due, of)
	}
	of.last = in
	p.n++
	if w.ack != nil {
		l.rule.binding.path.pacedHeld.Add(1)
	}
}

// unline takes a datagram out of its line.
func (p *pacing) unline(l *lane, w *queuedDatagram) {
	in := w.line
	of := in.of
	w.line = nil
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
		heap.Remove(&p.due, of.place)
		of.target.lines--
		delete(l.lines, of.group)
	}
}

// move has nothing of a line leave before.
func (p *pacing) move(of *line, at time.Time) {
	of.at = at
	heap.Fix(&p.due, of.place)
}

// dueNow appends what of rules with a rate may leave now: of each target one. Callers hold mu.
func (b *binding) dueNow(into []*queuedDatagram, now time.Time) []*queuedDatagram {
	p := &b.queue.pacing
	for len(p.due) > 0 && len(into) < drainBatch/2 && !p.due[0].at.After(now) {
		of := p.due[0]
		w := of.first.w
		period := of.rule.Rate.Period()
		switch at := of.target.next(of.rule); {
		case at.After(now): // another rule was faster
			p.move(of, at)
		case of.rule.onDisk():
			p.move(of, now.Add(period))
		case w.expired(now):
			b.giveUp(w, account.DropExpired, nil)
		case slices.ContainsFunc(into, func(other *queuedDatagram) bool { return other.line.of.target == of.target }):
			p.move(of, now.Add(min(period, time.Millisecond))) // it is looked at again once that has left
		default:
			into = append(into, w)
			p.move(of, now.Add(period))
		}
	}
	return into
}

// onTime notes whether a datagram that was given to the kernel is done with: then its target
// rests. Callers hold mu.
func (b *binding) onTime(w *queuedDatagram, done bool, now time.Time) {
	of := w.line.of
	if !done {
		b.queue.pacing.move(of, of.target.next(of.rule))
		return
	}
	b.queue.pacing.round++
	of.turn = b.queue.pacing.round
	of.target.left(of.rule, now)
	b.queue.pacing.move(of, of.target.next(of.rule))
}

// yields reports whether what a rule has on disk for a group is to wait, as its target rests or
// another rule's is to leave first, and until when. Callers hold mu.
func (b *binding) yields(r *Rule, group netip.AddrPort, now time.Time) bool {
	t := b.queue.pacing.target(group)
	at := t.next(r)
	if !at.After(now) && t.by == r && !t.yields && b.othersWait(r, t) {
		t.yields, at = true, now.Add(time.Millisecond)
	}
	r.spool.notBefore = at
	return at.After(now)
}

// othersWait reports whether something of another rule waits in memory for a target.
func (b *binding) othersWait(r *Rule, t *pacedTarget) bool {
	return t.lines > 0 && slices.ContainsFunc(b.queue.pacing.due, func(of *line) bool { return of.target == t && of.rule != r && !of.rule.onDisk() })
}

// isOver says why a datagram of a rule with a rate is dropped; nil: it may wait. Callers hold mu.
func (b *binding) isOver(r *Rule, group netip.AddrPort, now time.Time) error {
	p := &b.queue.pacing
	t := p.targets[group]
	switch {
	case !p.hasPlace(group, now):
		return fmt.Errorf("rate: %d other targets have had something lately, and of more it is not known", maxPaced)
	case r.WhenOver == mapping.OverDrop && b.socket != nil && t != nil && (t.lines > 0 || t.next(r).After(now)):
		return fmt.Errorf("rate: more than %s to %s", r.Rate, group)
	}
	return nil
}

// replaces reports whether a datagram of a rule with a rate has taken the place of the one of
// its topic that waits: so a topic with news all the time gets its turn. Callers hold mu.
func (b *binding) replaces(l *lane, w *queuedDatagram) bool {
	old := l.latest[w.topic]
	if l.rule.WhenOver != mapping.OverLatest || old == nil || old.group != w.group {
		return false
	}
	b.budget.Release(&l.room, old.size())
	if !b.budget.Acquire(&l.room, w.size()) {
		b.budget.Transfer(&l.room, old.size())
		b.giveUp(old, account.DropSuperseded, nil)
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
	old.payload, old.message = bytes.Clone(w.payload), bytes.Clone(w.message)
	old.sent, old.print, old.ack, old.since = w.sent, w.print, w.ack, w.since
	was.lose(account.DropSuperseded, nil)
	return true
}

// allPaced reports whether all that waits is of rules with a rate, so that the others' leaves at
// once. Callers hold mu.
func (b *binding) allPaced() bool {
	return b.queue.n == b.queue.pacing.n && !slices.ContainsFunc(b.spooledRules, func(r *Rule) bool { return !r.paced() })
}

// rest is called when nothing more can leave now: what waits for its time for long goes to the
// disk, so that it holds up no acknowledgement, and a timer has the rest sent. Callers hold mu.
func (b *binding) restUntilDue(now time.Time) {
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
		if r.paced() && !r.spool.notBefore.IsZero() {
			sooner(r.spool.notBefore)
		}
	}
	if !at.IsZero() {
		b.wakeAt(at.Sub(now))
	}
}

// wakeAt has wake called after a time. Callers hold mu.
func (b *binding) wakeAt(d time.Duration) {
	p := &b.queue.pacing
	if p.timer != nil {
		p.timer.Reset(d)
		return
	}
	p.timer = time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wake()
	})
}

// spillPaced hands to the disk what of a rule with a rate waits. It reports whether the disk
// takes more. Callers hold mu.
func (b *binding) spillPaced(l *lane) bool {
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
