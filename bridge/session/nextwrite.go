package session

import (
	"slices"
	"time"
)

// The steps 3 and 4 of a publication's way (outbox.go): what is written next, and what became of it.

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

// nextWrite gives the writer what may be written: all that is pending of QoS 0, and
// from the ring about as much, or a piece; with a pace (pace.go) as many messages as are due.
// b and free are the memory for what will be pending next. more reports whether there is
// more to take at once. A connection that is not attached gets nothing: it may still be at
// its handshake.
func (o *outbox) nextWrite(c *mqttConn, b []byte, free []run) (frames []byte, runs []run, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != c {
		return b, free, false
	}
	paced := o.pace.every > 0
	may := unpaced
	var now time.Time
	var could [lanes]uint64
	if paced {
		now = time.Now()
		could = o.writable()
		may = o.pace.share(could, now)
	}
	b, runs, n := o.takePending(b, free, may[0])
	if len(o.pending) == 0 {
		b = o.qos0.appendPing(b, c)
	}
	from := len(b)
	limit := from + max(from, piece)
	b = o.release(b)
	for turn := range o.flows {
		i := (o.first + turn) % len(o.flows)
		f := &o.flows[i]
		end, before := o.writableEnd(i), f.next
		if paced {
			end = min(end, f.next+may[1+i])
		}
		b = f.appendWritable(b, from, limit, end, o.aliases)
		n += f.next - before
		more = more || f.next < end
	}
	if more || o.inFlight() >= o.maxInFlight {
		o.first = 1 - o.first // the other has the room that comes next
	}
	if paced {
		o.pace.spent(n, now)
		switch {
		case o.writable() == [lanes]uint64{}:
			o.pace.since = time.Time{}
		case !more:
			o.waitForPace(now)
		}
	}
	return b, runs, more
}

// writable is how many messages of each lane could be written, but for the pace.
func (o *outbox) writable() (n [lanes]uint64) {
	for _, r := range o.runs {
		n[0] += uint64(r.n)
	}
	for i := range o.flows {
		f := &o.flows[i]
		n[1+i] = max(o.writableEnd(i), f.next) - f.next
	}
	return n
}

// takePending takes up to so many messages of QoS 0, and says how many they are where there is a
// pace. With that or with aliases they are copied, else the buffers are exchanged. Callers hold mu.
func (o *outbox) takePending(b []byte, free []run, most uint64) (_ []byte, runs []run, n uint64) {
	if len(o.runs) == 0 || most == 0 {
		return b, free, 0
	}
	defer o.spaceFreed.Broadcast()
	if most == unpaced[0] && o.aliases == nil {
		b, o.pending = o.pending, b
		runs, o.runs = o.runs, free
		clear(o.crowd)
		return b, runs, 0
	}
	runs = free
	left, done := o.pending, 0
	for done < len(o.runs) && n < most {
		r := &o.runs[done]
		taken := run{origin: r.origin}
		for ; taken.n < r.n && n < most; n++ {
			frame, _, _, payload := publishParts(left, &o.form)
			if left = left[len(frame):]; o.aliases == nil {
				b = append(b, frame...)
			} else {
				b = o.aliases.append(b, frame)
			}
			taken.n++
			taken.bytes += len(payload)
		}
		runs = append(runs, taken)
		r.n -= taken.n
		if r.bytes -= taken.bytes; r.n == 0 {
			done++
		}
	}
	o.pending = append(o.pending[:0], left...)
	o.runs = slices.Delete(o.runs, 0, done)
	if len(o.pending) <= maxPending/2 {
		clear(o.crowd)
	}
	return b, runs, n
}

// wrote tells what became of the runs that were taken: the first sent bytes of b
// are written, with err for the rest.
func (o *outbox) wrote(runs []run, b []byte, sent int, err error, form *form) {
	if len(runs) == 0 {
		return
	}
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	for _, r := range runs {
		if err == nil {
			o.completions.published(r)
			continue
		}
		written, lost := split(r, &b, &sent, form)
		o.completions.published(written)
		o.completions.lost(lost, ErrNotConnected)
	}
	o.notify()
}

// split divides a run whose frames are at the front of b, of which the first sent
// bytes were written, and takes them off.
func split(r run, b *[]byte, sent *int, form *form) (written, lost run) {
	written.origin, lost.origin = r.origin, r.origin
	for range r.n {
		frame, _, _, payload := publishParts(*b, form)
		part := &lost
		if len(frame) <= *sent {
			part = &written
		}
		part.n++
		part.bytes += len(payload)
		*b = (*b)[len(frame):]
		*sent -= len(frame)
	}
	return written, lost
}
