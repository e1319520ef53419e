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

	// Properties are what it bears with MQTT 5, as they are written (see ReplyProperties, AppendUserProperty);
	// with 3.1.1 they are left out.
	Properties []byte

	Origin Origin // told what becomes of it; nil: nobody is
	Queue  any    // those with equal ones keep their order, and take turns with others; comparable
}

// An Origin is told what becomes of its publications, each of them once: its own of
// each quality of service in the order in which they were given to PublishBatch. It is
// told by whichever goroutine learns it, that of PublishBatch too, one at a time, so it
// must not block, nor publish. Origins are compared, so their type must be comparable;
// a pointer is.
type Origin interface {
	// Published says that the broker has the next n publications, which have so many
	// bytes in all (of QoS 0 their payloads, else with their topics and Properties): QoS 0, they are written to the connection; QoS 1
	// and 2, they are acknowledged.
	Published(n, bytes int)

	// Lost says that the next n will not be delivered, as far as is known: a
	// message whose acknowledgement is missing may have arrived. The error is
	// ErrNotConnected, ErrStopped, ErrInvalid, ErrRefused, ErrTopicRefused or a NotAcceptedError.
	Lost(n, bytes int, err error)
}

// A Rescuer is an Origin that can keep copies of messages of QoS 1 and 2 where they
// outlive the program. It is asked for those that the broker has not acknowledged: when
// that is late, when a connection has ended, and when the session ends. Each is asked
// for once, in the order of PublishBatch, unless there could be no copy; and at the end
// once more, where the Origin that keeps the copy is a Rescuer too.
type Rescuer interface {
	Origin

	// Rescue keeps a copy of a message, and returns the Origin that is told from then
	// on what becomes of it; the Rescuer itself if there will be none. It is false
	// while there can be none: it is asked again. At the end of the session the
	// Origin is told that the message is lost, with ErrStopped; what that means for
	// the copy is its own affair.
	//
	// Topic and Payload are the session's memory. It must not block, nor publish.
	Rescue(*Publication) (Origin, bool)
}

// A Refuser is an Origin that can keep what the broker does not take, of any quality of service. It is given each such
// message, before it is told that it is lost: that one alone, with the same error.
type Refuser interface {
	Origin

	// Refused keeps a message. It must not block, nor publish.
	Refused(p *Publication, why error)
}

// What Publish says, and Origin.Lost.
var (
	ErrNotConnected = errors.New("not connected to the broker")
	ErrStopped      = errors.New("the session with the broker has ended")
	ErrInvalid      = errors.New("not a message of MQTT: want a topic name of UTF-8 without wildcards, QoS 0, 1 or 2, and less than 256 MiB in all")
	ErrRefused      = errors.New("the broker closes the connection whenever it is given this message, and takes others")

	// ErrTopicRefused is also an ErrRefused.
	ErrTopicRefused error = topicRefused{}
)

type topicRefused struct{}

func (topicRefused) Error() string {
	return "the broker has closed connections over messages on this topic, and takes others"
}
func (topicRefused) Unwrap() error { return ErrRefused }

// NotAcceptedError is also an ErrRefused: the broker refuses the message, and says why. That is
// so with MQTT 5 alone.
type NotAcceptedError struct{ Code ReasonCode }

func (e *NotAcceptedError) Error() string {
	return "the broker does not take the message: " + e.Code.String()
}
func (e *NotAcceptedError) Unwrap() error { return ErrRefused }

// Size is how many bytes of it Origins are told of.
func (p *Publication) Size() int {
	if p.QoS == 0 {
		return len(p.Payload)
	}
	return len(p.Topic) + len(p.Payload) + len(p.Properties)
}

// valid reports whether a frame can be made of p that the broker will not close the
// connection for: it would do so again at each redelivery.
func (p *Publication) valid() bool {
	return p.QoS <= 2 && len(p.Topic) > 0 && len(p.Topic) <= math.MaxUint16 &&
		publishRest(p, &form{protocol: Protocol5}) <= maxRest && checkTopic(p.Topic) == nil
}
