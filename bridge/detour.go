package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/session"
	"topicast/bridge/spool"
)

// What the broker cannot take now, of QoS 1 and 2. The way of a message, in the
// order of the functions below:
//
//	pass (receive.go)
//	  1 take    into the detour's tail, in memory, while the broker is away or
//	            queues fill up, and until all is published that took the detour
//	  2 stow    from the tail to the disk
//	  3 pump    one goroutine for all rules, while there is a connection: the
//	            front of what each has on disk, published
//	  4 Published   of a flight: the broker has it, and the disk may forget it
//	  5 close   little is left on disk: what comes now waits in the tail, and
//	            goes on from there
//
// All of a rule takes the detour while any of it does, so its order is kept.
type detour struct {
	path  *receivePath
	rule  atomic.Pointer[receiveRule] // that takes it now
	queue *spool.Queue
	older *spool.Queue // what an earlier process had handed to the session, in vain

	on atomic.Bool // changed under mu

	mu      sync.Mutex
	closing bool // the tail waits for the rest on disk
	flying  bool // a part of what is on disk is on its way to the broker
	tail    []parcel
}

// parcel is a message with memory of its own.
type parcel struct {
	at             time.Time
	topic, payload []byte
	flags          byte   // as the record on disk has it
	echo           string // likewise
}

// The flags of a record: the quality of service, and whether the broker is to
// retain the message.
const (
	flagsQoS    = 3
	flagsRetain = 4
)

func flagsOf(qos byte, retain bool) byte {
	if retain {
		return qos | flagsRetain
	}
	return qos
}

// These make the names of the queues; no rule's has a NUL. A send rule's is called
// as the rule, and one that becomes a receive rule must not find its messages.
const (
	receivedSuffix = "\x00received"
	olderSuffix    = "\x00older"
)

func newDetour(r *receiveRule, s *spool.Spool) *detour {
	d := &detour{path: r.path, queue: s.Queue(r.Name + receivedSuffix), older: s.Queue(r.Name + olderSuffix)}
	d.rule.Store(r)
	d.on.Store(d.left() > 0)
	return d
}

// left is how many messages are on disk.
func (d *detour) left() int { return d.queue.Len() + d.older.Len() }

// flowing says whether the broker takes messages as they come: there is a
// connection, and no more waits for it than a part of what may.
func (p *receivePath) flowing() bool {
	return p.online.Load() && p.room.bytes.Load() <= p.room.max/4
}

// takes says whether a message takes the detour, and if so, takes it. b is the
// batch it would be published with.
func (d *detour) takes(o *outlet, payload []byte, a *arrival, b *batch) bool {
	if !d.on.Load() && d.path.flowing() {
		return false
	}
	d.path.hand(b) // what came before goes first
	d.mu.Lock()
	defer d.mu.Unlock()
	flowing := d.path.flowing()
	if !d.on.Load() && flowing {
		return false
	}
	d.on.Store(true)
	d.closing = d.closing && flowing
	d.take(o, payload, a)
	d.stow()
	return true
}

// take puts a message at the end of the tail. Callers hold mu.
func (d *detour) take(o *outlet, payload []byte, a *arrival) {
	r := d.rule.Load()
	if !r.path.room.take(len(payload)) {
		r.drop(DropQueueFull, a, fmt.Errorf("queue.size: %d bytes are waiting in all", r.path.room.bytes.Load()))
		return
	}
	p := parcel{at: a.At, topic: o.topic, payload: append([]byte(nil), payload...), flags: flagsOf(r.QoS, r.Retain)}
	if o.echoes.Load() {
		p.echo = echo{a.on, a.Group}.String()
	}
	d.tail = append(d.tail, p)
}

// stow moves the tail to the disk, as far as that takes it. Callers hold mu.
func (d *detour) stow() {
	n := 0
	for ; n < len(d.tail) && !d.closing; n++ {
		p := &d.tail[n]
		if !d.queue.Append(p.record(), d.stored) {
			break
		}
		d.path.room.give(1, len(p.payload))
	}
	clear(d.tail[:n])
	if d.tail = d.tail[n:]; len(d.tail) == 0 {
		d.tail = nil
	}
}

func (p *parcel) record() spool.Record {
	return spool.Record{At: p.at, Topic: p.topic, Payload: p.payload, Flags: p.flags, Key: p.echo}
}

// echo is where a message comes back as a datagram, by a rule on a cycle: the loop
// guard has to know it when it is published, which may be much later.
type echo struct {
	on    int32 // index of the interface
	group netip.AddrPort
}

func (e echo) String() string { return fmt.Sprintf("%d %s", e.on, e.group) }

// expect has the loop guard know a message that is about to be published.
func (d *detour) expect(m *session.Publication, key string, now time.Time) {
	var e echo
	on, group, _ := strings.Cut(key, " ")
	index, err := strconv.ParseInt(on, 10, 32)
	if err == nil {
		e.group, err = netip.ParseAddrPort(group)
	}
	if memory := d.path.memory; err == nil && memory != nil {
		memory.add(publishedTrace(int32(index), e.group, m.Topic, m.Payload), now)
	}
}

// stored is told by the spool that a message is safe, or why it is not.
func (d *detour) stored(err error) {
	r := d.rule.Load()
	if err != nil {
		if why := spoolReason(err); r.lose(why, 1) {
			r.tell(r.Name, why, "topic", r.Topic.String(), err)
		}
	}
	// There is room again. Whoever has the lock stows too, and may be waiting for a
	// slow broker, which must not keep the disk from others.
	if d.mu.TryLock() {
		d.stow()
		d.mu.Unlock()
	}
	r.path.stir()
}

// stir wakes the pump.
func (p *receivePath) stir() {
	select {
	case p.stirred <- struct{}{}:
	default:
	}
}

// pump publishes what is on disk, while there is a connection.
func (p *receivePath) pump(ctx context.Context, detours func() []*detour) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.stirred:
		}
		for p.online.Load() && ctx.Err() == nil && p.round(ctx, detours()) {
		}
	}
}

// roundBytes bounds what one round of the pump holds in memory, as far as it can
// be known before: it is looked at between two rules.
const roundBytes = 4 << 20

// round publishes from the front of what each rule has on disk, and waits until
// the broker has it. It says whether there was anything.
func (p *receivePath) round(ctx context.Context, detours []*detour) (any bool) {
	var flights []*flight
	bytes := 0
	for _, d := range detours {
		if !d.on.Load() || bytes > roundBytes {
			continue
		}
		f := d.takeOff()
		any = any || f.lost > 0
		if len(f.publications) == 0 {
			d.setFlying(false)
			any = d.close() || any
			continue
		}
		bytes += f.bytes
		flights = append(flights, f)
		p.publisher.PublishBatch(f.publications)
	}
	for _, f := range flights {
		any = true
		select {
		case <-f.landed:
			if f.stopped {
				return false
			}
			f.land()
		case <-ctx.Done():
			return false // it stays on disk, and is published again another time
		}
	}
	return any
}

// flight is a part of what is on disk, on its way to the broker.
type flight struct {
	detour       *detour
	queue        *spool.Queue
	publications []session.Publication
	bytes        int
	lost         int // too old, or damaged
	landed       chan struct{}
	stopped      bool // the session has ended; valid when landed is closed

	left atomic.Int64
}

// flightSize is how many messages a rule publishes at a time, at most.
const flightSize = 256

// takeOff reads from the front of what is on disk.
func (d *detour) takeOff() *flight {
	d.setFlying(true)
	f := &flight{detour: d, queue: d.queue, landed: make(chan struct{})}
	if d.older.Len() > 0 {
		f.queue = d.older
	}
	var records [flightSize]spool.Record
	r := d.rule.Load()
	n, lost := f.queue.Front(records[:], time.Now(), r.path.maxAge)
	loseOnDisk(&r.ledger, r.Name, lost)
	f.lost = lost.Expired + lost.Damaged
	for _, record := range records[:n] {
		m := session.Publication{Topic: record.Topic, Payload: record.Payload,
			QoS: record.Flags & flagsQoS, Retain: record.Flags&flagsRetain != 0, Origin: f}
		if record.Key != "" {
			d.expect(&m, record.Key, time.Now())
		}
		f.publications = append(f.publications, m)
		f.bytes += len(record.Payload)
	}
	f.left.Store(int64(n))
	return f
}

// Published implements session.Origin: the broker has the next n messages.
func (f *flight) Published(n, bytes int) {
	f.detour.rule.Load().published.Add(uint64(n))
	f.settle(n)
}

// Lost implements session.Origin: the next n messages will not reach the broker,
// at least not by this session.
func (f *flight) Lost(n, bytes int, err error) {
	r := f.detour.rule.Load()
	if errors.Is(err, session.ErrStopped) {
		f.stopped = true // not lost: still on disk
	} else {
		r.unpublished(n, err)
	}
	f.settle(n)
}

func (f *flight) settle(n int) {
	if f.left.Add(-int64(n)) == 0 {
		close(f.landed)
	}
}

// land lets the disk forget what the broker has.
func (f *flight) land() {
	f.queue.Remove(len(f.publications))
	f.detour.setFlying(false)
	f.detour.close()
}

func (d *detour) setFlying(is bool) {
	d.mu.Lock()
	d.flying = is
	d.mu.Unlock()
}

// busy says whether a part of what is on disk is on its way to the broker.
func (d *detour) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flying
}

// empty says whether nothing is on the detour.
func (d *detour) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left() == 0 && len(d.tail) == 0 && !d.flying
}

// close ends the detour if nothing is left on disk: the tail goes on, and what
// comes after it goes straight. If little is left, what comes now waits for it. It
// says whether the detour has ended.
func (d *detour) close() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.left()
	d.closing = left <= closeEnough && d.path.flowing()
	if left > 0 || !d.closing || !d.on.Load() {
		d.stow()
		return false
	}
	batch := make([]session.Publication, len(d.tail))
	for i, p := range d.tail {
		batch[i] = session.Publication{Topic: p.topic, Payload: p.payload, QoS: p.flags & flagsQoS, Retain: p.flags&flagsRetain != 0, Origin: d.rule.Load()}
	}
	d.path.publisher.PublishBatch(batch)
	d.tail, d.closing = nil, false
	d.on.Store(false)
	return true
}

// Rescue implements session.Rescuer: the session ends and the broker has not
// acknowledged this message, which is older than all on disk but what was rescued
// before. It is false if there is no disk, or that takes no more.
func (r *receiveRule) Rescue(m *session.Publication) bool {
	if r.detour == nil {
		return false
	}
	p := parcel{at: time.Now(), topic: m.Topic, payload: m.Payload, flags: flagsOf(m.QoS, m.Retain)}
	if !r.detour.older.Append(p.record(), r.detour.stored) {
		return false
	}
	r.settle(1, len(m.Payload))
	return true
}

// tidy lets go of what is too old on disk while the broker is away.
func (d *detour) tidy(now time.Time) {
	d.mu.Lock()
	d.stow() // should the disk have had no room when something last came
	d.mu.Unlock()
	if d.path.online.Load() || d.busy() { // the pump does it
		return // should the pump begin just now, it finds the same
	}
	r := d.rule.Load()
	var record [1]spool.Record
	for _, q := range []*spool.Queue{d.older, d.queue} {
		if q.Len() > 0 {
			_, lost := q.Front(record[:], now, d.path.maxAge)
			loseOnDisk(&r.ledger, r.Name, lost)
		}
	}
}

// retire hands the tail to the disk for good; it says whether nothing is left.
func (d *detour) retire() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = false
	d.stow()
	return len(d.tail) == 0
}
