package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// What the kernel cannot take now. The way of a datagram that has to wait, in the
// order of the functions below:
//
//	flush (send.go)
//	  1 enqueue   into the binding's queue in memory, if its rule lets it wait
//	  2 stow      while the source is away, and until all is sent that waited for
//	              it: from memory to the disk, where its message is acknowledged
//	              (disk.go)
//	  3 run       a goroutine while there is a socket and something to send:
//	              the disk first,
//	  4 drain     then the memory
//	  5 settle    it has left, or never will: its message may be acknowledged
//
// All of a rule goes the same way, so its order is kept: to the disk while it has
// something there, and out of memory only when it has not.

// outlasts says whether a message of a rule waits for a source that is away. One
// of QoS 0 does only where the latest is wanted: else it would be late by then.
func (r *sendRule) outlasts(acknowledged bool) bool {
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
func (b *binding) enqueue(group netip.AddrPort, d *datagram, m *session.Message, since time.Time, h *holding) {
	rule := d.leg.rule
	if b.socket == nil {
		if !rule.outlasts(h != nil) {
			d.leg.lose(DropPending, errors.New(b.reason))
			return
		}
		b.supersede(d.leg)
	}
	if b.owing && h != nil {
		h.left.Add(1) // behind others that the broker is to repeat
		return
	}
	w := waiting{group: group, leg: d.leg, print: d.print, holding: h, since: since}
	size := len(d.payload)
	if b.spools && !rule.Payload.Raw() {
		size += len(m.Payload)
	}
	if !b.makeRoom(size, h != nil) {
		b.overflow(d, size, h)
		return
	}
	w.payload = append([]byte(nil), d.payload...)
	if size > len(d.payload) {
		w.message = append([]byte(nil), m.Payload...)
	}
	if h != nil {
		h.left.Add(1)
	}
	d.leg.place = b.queue.push(w) + 1
	b.stow()
}

// makeRoom takes room of the budget. The disk makes it for what is to be
// acknowledged; QoS 0 makes room by itself, the oldest first. Callers hold mu.
func (b *binding) makeRoom(size int, acknowledged bool) bool {
	for !b.room.take(size) {
		if b.queue.empty() {
			return false
		}
		switch w := &b.queue.front()[0]; {
		case w.gone:
		case acknowledged && b.store(w):
			b.behind = true // until the disk is empty again
		case !acknowledged && w.holding == nil:
			b.room.give(1, w.size())
			w.leg.lose(DropQueueFull, nil)
		default:
			return false
		}
		b.queue.pop()
	}
	return true
}

// overflow leaves a message that there is no room for to the broker: it stays
// unacknowledged, and so does what comes after it, until there is room and the
// broker is made to repeat it (collect). What the broker does not keep is dropped.
// Callers hold mu.
func (b *binding) overflow(d *datagram, size int, h *holding) {
	if h == nil || !b.path.repeats || int64(size+overhead) > b.room.max {
		d.leg.lose(DropQueueFull, fmt.Errorf("queue.size: %d bytes are waiting in all", b.room.bytes.Load()))
		return
	}
	h.left.Add(1) // and nobody takes it off
	b.owing = true
	b.path.owes.Store(true)
}

// collect has the broker repeat what there was no room for, once there is: it does
// so on a new connection. What still waits then is repeated as well.
func (b *Bridge) collect() {
	if b.send.owes.Load() && b.room.bytes.Load() < b.room.max/8 {
		b.log.Warn("there was no room for messages (queue.size); now there is, and the broker is made to repeat them")
		b.session.Repeat()
	}
}

// forgive is called when the connection has ended: on the next one the broker
// repeats all that was not acknowledged.
func (b *Bridge) forgive() {
	if !b.send.owes.Swap(false) {
		return
	}
	for _, o := range b.parts().bindings {
		o.mu.Lock()
		o.owing = false
		o.mu.Unlock()
	}
}

// supersede lets go of the datagram of a leg that waits in memory for a source
// that is away, where only the latest is wanted. Callers hold mu.
func (b *binding) supersede(l *leg) {
	if l.rule.OnDown != mapping.OnDownLatest || l.place == 0 {
		return
	}
	if w := b.queue.at(l.place - 1); w != nil && w.leg == l && !w.gone {
		b.giveUp(w, DropSuperseded, nil)
		*w = waiting{gone: true}
	}
}

// giveUp settles what waits in memory and is not to be sent. Callers hold mu.
func (b *binding) giveUp(w *waiting, why Reason, err error) {
	b.room.give(1, w.size())
	w.leg.lose(why, err)
	if w.holding != nil && w.holding.settle() {
		w.holding.ack.Done()
	}
}

// forsaken is called when the source has gone: what does not outlast that is
// dropped, and the rest goes to the disk. Callers hold mu.
func (b *binding) forsaken() {
	b.behind = true
	for i := range b.queue.front() {
		w := &b.queue.front()[i]
		switch {
		case w.gone:
		case !w.leg.rule.outlasts(w.holding != nil):
			b.giveUp(w, DropPending, errors.New(b.reason))
			*w = waiting{gone: true}
		case w.leg.place != b.queue.gone+uint64(i)+1 && w.leg.rule.OnDown == mapping.OnDownLatest:
			b.giveUp(w, DropSuperseded, nil)
			*w = waiting{gone: true}
		}
	}
	b.stow()
}

// stow moves what waits from memory to the disk, as long as it is to go there.
// Callers hold mu.
func (b *binding) stow() {
	for b.behind && !b.queue.empty() {
		w := &b.queue.front()[0]
		switch {
		case w.gone:
			b.queue.pop()
		case b.socket != nil && !w.leg.rule.onDisk():
			return // run sends it
		case !b.store(w):
			return
		default:
			b.queue.pop()
		}
	}
}

// wake sees to it that what waits is sent while there is a socket. Callers hold mu.
func (b *binding) wake() {
	switch {
	case b.socket == nil || b.queue.empty() && len(b.backlog) == 0:
	case b.draining:
		b.again = true
	default:
		b.draining = true
		b.drains.Go(b.run)
	}
}

// drainBatch is how many waiting datagrams one call to the kernel is given: few
// enough that the reader, which needs the same lock, does not wait long.
const drainBatch = 64

// bufferPatience is how long the kernel may have no room for one datagram, and
// bufferPause how long to leave it alone in between.
const (
	bufferPatience = time.Second
	bufferPause    = 2 * time.Millisecond
)

// run sends what waits, in order, and ends when there is nothing that can be sent
// now, or the socket is gone.
func (b *binding) run() {
	work := new(drainWork)
	for {
		s, progress, err := b.drainDisk(work)
		if err == nil {
			var more bool
			s, more, err = b.drain(work)
			progress = progress || more
		}
		switch {
		case s == nil:
		case errors.Is(err, multicast.ErrNoBuffer):
			_ = sleep(b.ctx, bufferPause)
		case err != nil:
			_ = s.Wait(b.ctx) // what ails the socket shows at the next send
		}
		if b.rested(s == nil || b.ctx.Err() != nil, progress || err != nil) {
			return
		}
	}
}

// rested says whether run is to end: because it must, or because it made no
// progress and nobody has called wake meanwhile.
func (b *binding) rested(must, busy bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !must && (busy || b.again) {
		b.again = false
		return false
	}
	b.draining, b.again = false, false
	return true
}

// drainWork is the memory of run.
type drainWork struct {
	out  [drainBatch]multicast.Datagram
	done []*holding
	disk diskWork
}

// drain sends from the front of the queue. It returns the socket it used, nil when
// there is none any more; whether the queue is shorter for it; and what keeps the
// next datagram.
func (b *binding) drain(work *drainWork) (s socket, progress bool, err error) {
	defer work.release() // outside the lock that the reader takes
	b.mu.Lock()
	defer b.mu.Unlock()
	if s = b.socket; s == nil {
		return nil, false, nil
	}
	was := b.queue.len()
	b.stow()
	front := b.sendable(time.Now())
	if len(front) == 0 {
		return s, b.queue.len() < was, nil
	}
	out, acknowledged := work.out[:0], false
	for i := range front {
		out = append(out, multicast.Datagram{Group: front[i].group, Payload: front[i].payload})
		acknowledged = acknowledged || front[i].holding != nil
	}
	var failed [drainBatch]error
	n, err := sendSurely(s, out, acknowledged, func(i int, err error) { failed[i] = err })
	clear(out)
	for i := range n {
		work.settle(b, b.queue.pop(), failed[i])
	}
	if n > 0 {
		b.retried = time.Time{}
	}
	if errors.Is(err, multicast.ErrNoBuffer) && b.outOfPatience() {
		work.settle(b, b.queue.pop(), err)
	}
	if err != nil {
		b.stalled(err)
	}
	return s, b.queue.len() < was, err
}

// sendable is the part of the queue that one call to the kernel is given; what is
// too old is dropped on the way there. Callers hold mu.
func (b *binding) sendable(now time.Time) []waiting {
	for !b.queue.empty() {
		w := &b.queue.front()[0]
		if !w.gone && !w.expired(now) {
			break
		}
		if !w.gone {
			b.giveUp(w, DropExpired, nil)
		}
		b.queue.pop()
	}
	front := b.queue.front()
	n := 0
	for n < min(len(front), drainBatch) && !front[n].gone && !front[n].expired(now) && !front[n].leg.rule.onDisk() {
		n++
	}
	return front[:n]
}

// expired says whether a datagram has waited longer than max_age.
func (w *waiting) expired(now time.Time) bool {
	age := w.leg.rule.MaxAge
	return age > 0 && now.Sub(w.since) > age
}

// outOfPatience says whether the datagram in front has been refused room for
// too long. Callers hold mu.
func (b *binding) outOfPatience() bool {
	if b.retried.IsZero() {
		b.retried = time.Now()
	}
	if time.Since(b.retried) < bufferPatience {
		return false
	}
	b.retried = time.Time{}
	return true
}

// settle lets go of a datagram that has left, or never will, and remembers its
// message if nothing else of it waits.
func (work *drainWork) settle(b *binding, w waiting, failed error) {
	b.room.give(1, w.size())
	if failed == nil {
		b.sent(&w)
	} else {
		w.leg.lose(reasonOf(failed), failed)
	}
	if w.holding != nil && w.holding.settle() {
		work.done = append(work.done, w.holding)
	}
}

// sent enters a datagram that has waited and that the kernel took.
func (b *binding) sent(w *waiting) {
	w.leg.rule.took(1, len(w.payload))
	w.leg.last.Store(w.print)
	b.lag.observe(time.Since(w.since), 1)
}

// release lets the messages be acknowledged that are done.
func (work *drainWork) release() {
	for _, h := range work.done {
		h.ack.Done()
	}
	clear(work.done)
	work.done = work.done[:0]
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
