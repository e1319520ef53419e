package session

import (
	"sync"
	"sync/atomic"
)

// The way of a publication to the broker, in the order of the functions below.
// Many goroutines publish; there is no goroutine between them and the connection:
//
//  1. add          encodes it: QoS 0 into the buffer that is written next, QoS 1
//     and 2 into the ring, where it stays until step 6
//  2. lane.push    the same goroutine writes all that waits, or finds another one
//     writing, which will see what was added (write.go)
//  3. take         gives the writer what may be written now
//  4. wrote        QoS 0 is done: its Origin is told
//  5. acknowledge  the reader of the connection has PUBACK, PUBREC or PUBCOMP
//  6. reap         what is acknowledged leaves the ring in order; its Origin is told
//
// Around it, by the goroutine of Run: attach begins a connection, detach ends it,
// and stop ends everything.
//
// Two locks: mu is held for moments, and never while an Origin is told; telling
// is held from the moment when a fate is decided until the Origin knows, which
// keeps the order. Who holds the lane's lock for writing may take telling, and who
// holds telling may take mu.
type outbox struct {
	telling sync.Mutex
	fates   fates // under telling

	mu      sync.Mutex
	room    sync.Cond // pending was taken, or there is a new lane or none
	lane    *lane     // the connection, while there is one
	stopped bool

	pending []byte // frames of QoS 0 that wait to be written
	runs    []run  // whose they are

	ring     ring
	suspects suspects

	outstanding atomic.Int64  // publications whose Origins were not told yet
	published   atomic.Uint64 // publications that the broker has
}

// maxPending bounds the bytes of QoS 0 that wait to be written; a larger frame
// waits alone. More would leave the processor's cache before it is written.
const maxPending = 256 << 10

// run is a number of publications in a row that have the same Origin.
type run struct {
	origin   Origin
	n, bytes int
}

// extend adds one publication to the last run, or begins one.
func extend(runs []run, origin Origin, bytes int) []run {
	if n := len(runs); n > 0 && runs[n-1].origin == origin {
		runs[n-1].n++
		runs[n-1].bytes += bytes
		return runs
	}
	return append(runs, run{origin, 1, bytes})
}

func newOutbox(maxInFlight int) *outbox {
	o := &outbox{ring: newRing(), suspects: newSuspects(uint64(maxInFlight))}
	o.room.L = &o.mu
	return o
}

// add takes publications, and returns the lane over which they may leave at once.
func (o *outbox) add(batch []Publication) *lane {
	o.outstanding.Add(int64(len(batch)))
	var checked []byte // the topic that was found valid last: often the next one's too
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range batch {
		p := &batch[i]
		if !same(checked, p.Topic) || p.QoS > 2 || p.remaining() > maxRemaining {
			if !p.valid() {
				o.refuse(p, ErrInvalid)
				continue
			}
			checked = p.Topic
		}
		switch {
		case o.stopped:
			o.refuse(p, ErrStopped)
		case p.QoS > 0:
			o.ring.push(p)
		case o.waitForRoom(p.size()):
			o.pending = p.appendTo(o.pending, 0)
			o.runs = extend(o.runs, p.Origin, len(p.Payload))
		case o.stopped:
			o.refuse(p, ErrStopped)
		default:
			o.refuse(p, ErrNotConnected)
		}
	}
	return o.lane
}

// same says whether two slices are one.
func same(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

// waitForRoom waits until a frame of QoS 0 may be appended. It is false when there
// is no connection, or none any more. Callers hold mu, which is free meanwhile.
func (o *outbox) waitForRoom(size int) bool {
	for l := o.lane; ; {
		switch {
		case o.lane != l || l == nil:
			return false
		case len(o.pending) == 0 || len(o.pending)+size <= maxPending:
			return true
		}
		o.mu.Unlock()
		l.pushNow() // else everybody might wait for somebody to write
		o.mu.Lock()
		if o.lane == l && len(o.pending)+size > maxPending && len(o.pending) > 0 {
			o.room.Wait()
		}
	}
}

// refuse tells of a publication that is not taken. Callers hold mu, which is free
// meanwhile.
func (o *outbox) refuse(p *Publication, why error) {
	o.mu.Unlock()
	o.telling.Lock()
	o.fates.lost(run{p.Origin, 1, len(p.Payload)}, why)
	o.tell()
	o.telling.Unlock()
	o.mu.Lock()
}

// take gives the writer what may be written: all that is pending of QoS 0, and
// from the ring about as much, or a piece. b and spare are the memory for what
// will be pending next. more says that there is more to take at once. A lane that
// is not attached gets nothing: it may still be at its handshake.
func (o *outbox) take(l *lane, b []byte, spare []run) (frames []byte, runs []run, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lane != l {
		return b, spare, false
	}
	b, o.pending = o.pending, b
	runs, o.runs = o.runs, spare
	if len(runs) > 0 {
		o.room.Broadcast()
	}
	r := &o.ring
	end := min(r.tail, r.head+o.suspects.window)
	from := len(b)
	for limit := from + max(from, piece); r.next < end; r.next++ {
		p := r.at(r.next)
		if len(b) > from && len(b)+max(len(p.frame), 4) > limit {
			break
		}
		switch p.state {
		case unanswered:
			b = append(b, p.frame...)
		case released:
			id := publicationID(r.next)
			b = append(b, typePubrel<<4|2, 2, byte(id>>8), byte(id))
		}
	}
	r.written = max(r.written, r.next)
	return b, runs, r.next < end
}

// wrote tells what became of the runs that were taken: the first sent bytes of b
// are written, with err for the rest.
func (o *outbox) wrote(runs []run, b []byte, sent int, err error) {
	if len(runs) == 0 {
		return
	}
	o.telling.Lock()
	defer o.telling.Unlock()
	for _, r := range runs {
		if err == nil {
			o.fates.published(r)
			continue
		}
		written, lost := split(r, &b, &sent)
		o.fates.published(written)
		o.fates.lost(lost, ErrNotConnected)
	}
	o.tell()
}

// split divides a run whose frames are at the front of b, of which the first sent
// bytes were written, and takes them off.
func split(r run, b *[]byte, sent *int) (written, lost run) {
	written.origin, lost.origin = r.origin, r.origin
	for range r.n {
		head, rest, _ := fixedHeader(*b)
		size := head + rest
		payload := rest - 2 - int((*b)[head])<<8 - int((*b)[head+1])
		part := &lost
		if size <= *sent {
			part = &written
		}
		part.n++
		part.bytes += payload
		*b = (*b)[size:]
		*sent -= size
	}
	return written, lost
}

// answer is a PUBACK, PUBREC or PUBCOMP.
type answer struct {
	kind byte
	id   uint16
}

// acknowledge enters answers of the broker. release is called for each PUBREL that
// is due. opened says that more may be written than before.
//
// An answer that fits nothing is not held against the broker: MQTT 3.1.1 says
// nothing about it, and a broker that has answered twice, or late, is known to
// happen. A PUBREC is always answered [MQTT-4.3.3-1]: an earlier process may have
// left its message at the broker, which waits for the PUBREL to let it go.
func (o *outbox) acknowledge(answers []answer, release func(id uint16)) (opened bool) {
	o.telling.Lock()
	defer o.telling.Unlock()
	o.mu.Lock()
	for _, a := range answers {
		n, ok := o.ring.find(a.id)
		var p *parcel
		if ok {
			p = o.ring.at(n)
		}
		switch {
		case a.kind == typePubrec && (!ok || n < o.ring.next):
			release(a.id) // one that is to be written again gets it in its turn
			fallthrough
		case a.kind == typePubrec:
			if ok && p.qos == 2 && p.state == unanswered {
				p.state, p.frame = released, nil
				o.suspects.clear()
			}
		case !ok:
		case a.kind == typePuback && p.qos == 1, a.kind == typePubcomp && p.state == released:
			p.state, p.frame = delivered, nil
			o.suspects.clear()
		}
	}
	o.reap()
	opened = o.ring.next < min(o.ring.tail, o.ring.head+o.suspects.window)
	o.mu.Unlock()
	o.tell()
	return opened
}

// reap takes out of the ring what is delivered and has nothing undelivered before
// it. Callers hold telling and mu.
func (o *outbox) reap() {
	for r := &o.ring; r.head < r.written && r.at(r.head).state == delivered; {
		p := r.pop()
		o.fates.published(run{p.origin, 1, p.payload})
	}
}

// attach begins a connection, which has passed its handshake. present says that
// the broker remembers the session.
func (o *outbox) attach(l *lane, present bool) {
	o.telling.Lock()
	defer o.telling.Unlock()
	o.mu.Lock()
	r := &o.ring
	if !present {
		// Of a QoS 2 message between PUBREC and PUBCOMP the broker has become the
		// owner (section 4.3.3), and it must not be published again
		// [MQTT-4.3.3-1]. There is no more to be done for it.
		for n := r.head; n < r.written; n++ {
			if p := r.at(n); p.state == released {
				p.state = delivered
			}
		}
		o.reap()
	}
	r.rewind()
	o.suspects.on = true
	o.lane = l
	o.mu.Unlock()
	o.tell()
	l.acks.ring()
}

// detach ends a connection, whose lane has finished: what was pending is lost.
func (o *outbox) detach(l *lane, why error) {
	o.telling.Lock()
	defer o.telling.Unlock()
	o.mu.Lock()
	if o.lane != l {
		o.mu.Unlock()
		return // it was never attached
	}
	for _, r := range o.runs {
		o.fates.lost(r, why)
	}
	o.lane, o.pending, o.runs = nil, nil, nil
	o.room.Broadcast()
	o.mu.Unlock()
	o.tell()
}

// stop ends the publishing for good.
func (o *outbox) stop() {
	o.telling.Lock()
	defer o.telling.Unlock()
	o.mu.Lock()
	o.stopped = true
	for o.ring.head < o.ring.tail {
		o.giveUp(ErrStopped)
	}
	o.mu.Unlock()
	o.tell()
}

// giveUp takes the parcel at the head out of the ring. Callers hold telling and mu.
func (o *outbox) giveUp(why error) {
	p := o.ring.pop()
	if p.state != unanswered {
		why = nil // the broker has it, if not in its turn
	}
	if r, ok := p.origin.(Rescuer); ok && why == ErrStopped && r.Rescue(p.publication()) {
		o.outstanding.Add(-1)
		return
	}
	o.fates.add(run{p.origin, 1, p.payload}, why)
}
