package session

import (
	"errors"
	"math"
)

// Publication is a message for the broker.
type Publication struct {
	Topic   []byte // a topic name: UTF-8 without wildcards or NUL, 1 to 65,535 bytes
	Payload []byte // up to 256 MiB less the topic (MQTT 3.1.1, 2.2.3)
	QoS     byte   // 0, 1 or 2
	Retain  bool   // the broker is to keep it for later subscribers
	Origin  Origin // told what becomes of it; nil: nobody is
}

// An Origin is told what becomes of its publications, each of them once: those of
// QoS 0 in the order in which they were given to PublishBatch, and those of QoS 1
// and 2 in theirs. It is told by whichever goroutine reads from or writes to the
// broker, one at a time, so it must not block, nor publish. Origins are compared,
// so their type must be comparable; a pointer is.
type Origin interface {
	// Published says that the broker has the next n publications, whose payloads
	// have so many bytes in all: QoS 0, they are written to the connection; QoS 1
	// and 2, they are acknowledged.
	Published(n, bytes int)

	// Lost says that the next n will not be delivered, as far as is known: a
	// message whose acknowledgement is missing may have arrived. The error is
	// ErrNotConnected, ErrStopped, ErrInvalid or ErrRefused.
	Lost(n, bytes int, err error)
}

// A Rescuer is an Origin that can keep a message of QoS 1 or 2 which is in the
// session's hands when that ends, for a session to come.
type Rescuer interface {
	Origin

	// Rescue says whether the message is kept; if not, it is lost with
	// ErrStopped. Topic and Payload are the session's memory. It must not block.
	Rescue(*Publication) bool
}

// What Publish says, and Origin.Lost.
var (
	ErrNotConnected = errors.New("not connected to the broker")
	ErrStopped      = errors.New("the session with the broker has ended")
	ErrInvalid      = errors.New("not a message of MQTT: want a topic name of UTF-8 without wildcards, QoS 0, 1 or 2, and less than 256 MiB in all")
	ErrRefused      = errors.New("the broker closes the connection whenever it is given this message")
)

// PublishBatch publishes messages in their order, and never fails: what becomes
// of a message is told to its Origin. It copies what it keeps.
//
// Messages of QoS 0 are written at once, together with others. Those that no
// connection was there for, or that were being written when it broke, are lost.
// While 256 KiB of them wait for a slow broker PublishBatch blocks, until there is
// room or the connection is lost: what the caller reads from can take the burst.
//
// Messages of QoS 1 and 2 are kept until the broker has acknowledged them, over
// as many connections as that takes, and never wait for room. The caller bounds
// their memory: what it gave less what its Origins were told of.
//
// Over TLS and WebSocket the caller may also have to wait while the broker does not
// read: whoever publishes also writes, and those cannot write a part.
//
// It may be called from any goroutine, and the order of each is kept; but not
// from Handle, which must not block, nor by an Origin.
func (s *Session) PublishBatch(batch []Publication) {
	if l := s.out.add(batch); l != nil {
		l.push()
	}
}

// Outstanding is how many publications are on their way: their Origins have not
// been told yet what became of them.
func (s *Session) Outstanding() int { return int(s.out.outstanding.Load()) }

// maxRemaining is the largest remaining length of a frame, section 2.2.3.
const maxRemaining = 1<<28 - 1

// valid says whether a frame can be made of p that the broker will not close the
// connection for: it would do so again at each redelivery.
func (p *Publication) valid() bool {
	return p.QoS <= 2 && len(p.Topic) > 0 && len(p.Topic) <= math.MaxUint16 &&
		p.remaining() <= maxRemaining && checkTopic(p.Topic) == nil
}

// remaining is the remaining length of its frame.
func (p *Publication) remaining() int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	return n
}

// size is the length of its frame.
func (p *Publication) size() int {
	n := p.remaining()
	size := 2 + n
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// appendTo appends its frame. The packet identifier is left out for QoS 0.
func (p *Publication) appendTo(b []byte, id uint16) []byte {
	first := byte(typePublish<<4) | p.QoS<<1
	if p.Retain {
		first |= retainFlag
	}
	b = append(b, first)
	n := p.remaining()
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	b = append(b, byte(n), byte(len(p.Topic)>>8), byte(len(p.Topic)))
	b = append(b, p.Topic...)
	if p.QoS > 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	return append(b, p.Payload...)
}
