package tap

import (
	"net/netip"
	"time"
)

// An Event is what has become of one message or datagram. Its JSON names are part of the
// interface: they may be added to, not changed. What is not known is left out.
type Event struct {
	Time      time.Time      `json:"time"` // of the decision, to the nanosecond
	Direction Direction      `json:"direction"`
	Decision  Decision       `json:"decision"`
	Rule      string         `json:"rule,omitempty"` // none: no rule takes it
	Topic     string         `json:"topic,omitempty"`
	To        netip.AddrPort `json:"to,omitzero"`          // the group or host that it goes, or was sent, to
	Source    netip.AddrPort `json:"source,omitzero"`      // that it leaves from, or came from
	Interface string         `json:"interface,omitempty"`  // that it leaves or came by
	Bytes     int            `json:"bytes"`                // of the payload, as it leaves; of what goes no further, as it came
	Latency   time.Duration  `json:"latency_ns,omitempty"` // since it came
	Reason    string         `json:"reason,omitempty"`     // of what was dropped or filtered: the word that the metrics have
	Detail    string         `json:"detail,omitempty"`     // why, in more words
	Count     uint64         `json:"count,omitempty"`      // it stands for so many, of which no more is known; 0: for one
	Payload   []byte         `json:"payload,omitempty"`    // as far as it was asked for; base64
	TTL       uint8          `json:"ttl,omitempty"`        // of what was sent; of IPv6 the hop limit
	Datagram  uint64         `json:"datagram,omitempty"`   // of what was received: events with the same number are about the same datagram

	// AnswerTopic is what an answer, or that there is none, was published on; Topic is that of the request.
	AnswerTopic string `json:"answer_topic,omitempty"`
}

// Direction is that of a rule, as seen from the network.
type Direction string

// The directions. An answer belongs to a send rule, and is a datagram that came back, or, without
// a source, that none did.
const (
	Send    Direction = "send"
	Receive Direction = "receive"
	Answer  Direction = "answer"
)

// Decision is what was decided.
type Decision string

// The decisions.
const (
	Sent      Decision = "sent"      // the kernel took the datagram
	Published Decision = "published" // the message was handed to the connection with the broker
	Waiting   Decision = "waiting"   // it cannot go on now; another event tells when it does
	Filtered  Decision = "filtered"  // the configuration asks not to carry it
	Dropped   Decision = "dropped"   // it is lost

	// Heard is that a datagram has come that a rule listens for: what is decided about it follows.
	// Its payload is that of the datagram, as it came. Those are told who ask for it (Filter.Heard).
	Heard Decision = "heard"
)

// LossOf is that n messages or datagrams of a rule are lost, or filtered, of which no more is known.
func LossOf(d Direction, rule, reason string, filtered bool, n uint64, err error) Event {
	e := Event{Time: time.Now(), Direction: d, Decision: Dropped, Rule: rule, Reason: reason, Count: n}
	if filtered {
		e.Decision = Filtered
	}
	if err != nil {
		e.Detail = err.Error()
	}
	return e
}

// lost reports whether it goes no further.
func (d Decision) lost() bool { return d == Dropped || d == Filtered }
