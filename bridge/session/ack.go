package session

import (
	"fmt"
	"sync"
)

// Ack releases a message that Handle held. The zero Ack does nothing.
type Ack struct {
	acks *acks
	seq  uint64
}

// Done says that the message needs its broker no longer. It may be called from
// any goroutine, at any time, more than once, and never blocks. The
// acknowledgement leaves when all messages that came before on the same
// connection are done too. Once that connection is over Done does nothing for a
// message of QoS 1: the broker sends it again, and it is handed on again. One of
// QoS 2 that the next connection repeats is not handed on again, and its Ack serves
// for the repetition; unless Redeliver was called.
func (a Ack) Done() {
	for a.acks != nil {
		next, due := a.acks.markDone(a.seq)
		if due {
			a.acks.wakeWriter()
		}
		a = next
	}
}

// Redeliver says that the message was not kept: whoever held it has let it go, for
// want of room. It stays unacknowledged on this connection. When the broker repeats
// it on the next one it is handed on again, of QoS 2 too; see Session.Repeat. Like
// Done it may be called from any goroutine, and never blocks.
func (a Ack) Redeliver() {
	for a.acks != nil {
		a = a.acks.markForRedelivery(a.seq)
	}
}

// maxInFlight is how many messages can await an acknowledgement: as many as
// there are packet identifiers [MQTT-2.3.1-1].
const maxInFlight = 65535

// maxReplies bounds the bytes of replies that wait for a broker which asks without
// reading: one of each kind for each packet identifier.
const maxReplies = 2 * ackSize * maxInFlight

var errUnread = fmt.Errorf("the broker asks (PUBREC, PUBREL) without reading the answers: %d wait for it", maxReplies/ackSize)

// acks orders the acknowledgements of one connection: PUBACKs leave in the
// order in which their messages came [MQTT-4.6.0-2], and so do PUBRECs
// [MQTT-4.6.0-3]. Messages are numbered from 0; those from head up to tail are
// outstanding. It holds nothing of the connection, so that an Ack that is kept for
// long keeps no buffer alive.
type acks struct {
	mu         sync.Mutex
	slots      []slot // of message n: slots[n % len(slots)]; the length is a power of two
	head, tail uint64
	inFlight   *[2]packetIDs // nil: there was none yet; of the messages from head to tail, by QoS; those of QoS 1 from the end of their batch on
	done       *packetIDs
	replies    []byte // PUBREL and PUBCOMP, each in the order of what it answers [MQTT-4.6.0-4]

	carried    map[uint16]Ack // of QoS 2, handed on over an earlier connection, and not repeated on this one yet
	first      map[uint64]Ack // by number: of those that were, the Ack that their holder has
	repeatedBy map[uint64]Ack // by number: what the Acks of this connection serve for on the latest one

	wake chan struct{} // something may leave
}

// slot is one message that is not acknowledged yet.
type slot struct {
	id        uint16
	qos       byte
	done      bool
	redeliver bool // nobody holds it any more: its repetition is to be handed on
}

func newAcks(done *packetIDs) *acks {
	return &acks{
		slots: make([]slot, 64),
		done:  done,
		wake:  make(chan struct{}, 1),
	}
}

// admit numbers the messages of a batch that want an acknowledgement. It takes
// out those that the broker repeats although they were handed on before.
func (a *acks) admit(batch []Message) ([]Message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for i := range batch {
		m := &batch[i]
		if m.QoS > 0 {
			if a.inFlight == nil {
				a.inFlight = new([2]packetIDs)
			}
			if a.tail-a.head == maxInFlight {
				return nil, violation("MQTT-2.3.1-2", "more messages in flight than there are packet identifiers", m.Topic)
			}
			if m.Dup && (a.repeated(m) || m.QoS == 2 && a.resume(m)) {
				continue
			}
			m.Ack = Ack{a, a.tail}
			a.push(slot{id: m.id, qos: m.QoS})
		}
		if n < i {
			batch[n] = *m
		}
		n++
	}
	return batch[:n], nil
}

// repeated reports whether a message with the DUP flag is one that was handed on
// before.
func (a *acks) repeated(m *Message) bool {
	// From PUBREC to PUBREL the broker may repeat itself: that is acknowledged
	// again, but not handed on [MQTT-4.3.3-2].
	if m.QoS == 2 && (a.done.has(m.id) || a.inFlight[1].has(m.id)) {
		a.push(slot{id: m.id, qos: 2, done: true})
		return true
	}
	// Some brokers repeat a message on the same connection when its PUBACK takes
	// long. It gets one PUBACK: a second could meet the identifier's next message.
	return m.QoS == 1 && a.inFlight[0].has(m.id)
}

// resume reports whether a message of QoS 2 was handed on over the last connection. As
// its PUBREC has not left, its identifier can be no other message's [MQTT-2.3.1-4].
// It takes its place here, and its first Ack releases it.
func (a *acks) resume(m *Message) bool {
	first, ok := a.carried[m.id]
	if !ok {
		return false
	}
	delete(a.carried, m.id)
	done, gone := first.acks.carryTo(first.seq, Ack{a, a.tail})
	if gone {
		return false
	}
	if !done {
		if a.first == nil {
			a.first = make(map[uint64]Ack)
		}
		a.first[a.tail] = first
	}
	a.push(slot{id: m.id, qos: 2, done: done})
	return true
}

// carryTo lets the Ack of a message, on a connection that is over, serve for its
// repetition, unless it is done already, or gone.
func (a *acks) carryTo(seq uint64, further Ack) (done, gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.at(seq); s.done || s.redeliver {
		return s.done, s.redeliver
	}
	if a.repeatedBy == nil {
		a.repeatedBy = make(map[uint64]Ack)
	}
	a.repeatedBy[seq] = further
	return false, false
}

// carry gives what the next connection may repeat, when this one is over. What came
// over an earlier one and was not repeated on this one is not among it: the broker
// may have another message with its identifier by then. An Ack may be held for days,
// over thousands of connections: it leads to the latest of them at once, and keeps
// nothing alive of those between.
func (a *acks) carry() map[uint16]Ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	carried := make(map[uint16]Ack)
	for seq := a.head; seq < a.tail; seq++ {
		if s := a.at(seq); s.qos == 2 {
			carried[s.id] = Ack{a, seq}
			if first, ok := a.first[seq]; ok {
				carried[s.id] = first
			}
		}
	}
	if len(carried) == 0 { // the Acks of this connection do nothing any more
		a.head, a.slots = a.tail, nil
	}
	a.inFlight, a.replies, a.first, a.carried = nil, nil, nil, nil
	return carried
}

// markUnheldDone marks what Handle did not hold as done.
func (a *acks) markUnheldDone(batch []Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range batch {
		m := &batch[i]
		if m.QoS == 1 && m.Ack.seq >= a.head {
			a.inFlight[0].add(m.id)
		}
		if m.QoS > 0 && !m.Hold {
			a.at(m.Ack.seq).done = true
		}
	}
}

// due reports whether something may leave.
func (a *acks) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready() || len(a.replies) > 0
}

// markDone marks one message as done. due reports whether this lets something leave, and next
// is the Ack of its repetition on the next connection, if there was one.
func (a *acks) markDone(seq uint64) (next Ack, due bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if seq < a.head {
		return Ack{}, false // acknowledged before
	}
	a.at(seq).done = true
	return a.repeatedBy[seq], seq == a.head
}

// markForRedelivery marks one message as held by nobody. next is the Ack of its repetition on
// the next connection, if there was one.
func (a *acks) markForRedelivery(seq uint64) (next Ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if seq < a.head {
		return Ack{} // acknowledged before
	}
	a.at(seq).redeliver = true
	return a.repeatedBy[seq]
}

// unacknowledged is how many messages were handed on and are not acknowledged yet.
func (a *acks) unacknowledged() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.tail - a.head)
}

// appendReady appends to b the acknowledgements that may leave.
func (a *acks) appendReady(b []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	b = append(b, a.replies...)
	a.replies = a.replies[:0]
	for a.ready() {
		s := a.at(a.head)
		kind := byte(typePuback)
		if s.qos == 2 {
			kind = typePubrec
			a.done.add(s.id)
		}
		a.inFlight[s.qos-1].remove(s.id)
		b = appendAck(b, kind, s.id)
		a.head++
	}
	return b
}

// completeQoS2 ends the flow of a QoS 2 message: its PUBREL is here. It is answered
// whether the message is known or not, for the answer to an earlier one may be
// what was lost [MQTT-4.3.3-2].
func (a *acks) completeQoS2(id uint16) (known bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known = a.done.has(id)
	a.done.remove(id)
	delete(a.carried, id)
	return known, a.reply(typePubcomp, id)
}

// replyPubrel lets the broker's PUBREC be answered.
func (a *acks) replyPubrel(id uint16) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reply(typePubrel, id)
}

// reply appends a reply. Callers hold mu.
func (a *acks) reply(kind byte, id uint16) error {
	if len(a.replies) >= maxReplies {
		return errUnread
	}
	a.replies = appendAck(a.replies, kind, id)
	return nil
}

// reset ends the flow of all of them: the broker has lost the session.
func (a *acks) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	*a.done = packetIDs{}
	a.carried = nil
}

// wakeWriter wakes the goroutine that writes acknowledgements; several calls may be one wake.
func (a *acks) wakeWriter() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acks) ready() bool { return a.head < a.tail && a.at(a.head).done }

func (a *acks) at(seq uint64) *slot { return &a.slots[seq&uint64(len(a.slots)-1)] }

func (a *acks) push(s slot) {
	if a.tail-a.head == uint64(len(a.slots)) {
		old := a.slots
		a.slots = make([]slot, 2*len(old))
		for seq := a.head; seq < a.tail; seq++ {
			*a.at(seq) = old[seq&uint64(len(old)-1)]
		}
	}
	if s.qos == 2 {
		a.inFlight[1].add(s.id)
	}
	*a.at(a.tail) = s
	a.tail++
}

// packetIDs is a set of packet identifiers.
type packetIDs [1 << 16 / 64]uint64

func (p *packetIDs) has(id uint16) bool { return p[id/64]&(1<<(id%64)) != 0 }
func (p *packetIDs) add(id uint16)      { p[id/64] |= 1 << (id % 64) }
func (p *packetIDs) remove(id uint16)   { p[id/64] &^= 1 << (id % 64) }
