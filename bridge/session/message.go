package session

// MaxMessage is the size in bytes of the largest PUBLISH frame whose payload is
// handed on. It has room for the largest datagram (65,507 bytes) written in hex,
// with the longest topic (65,535 bytes). A larger frame costs no memory: its
// payload is skipped as it streams in, and the message arrives with Oversize set.
const MaxMessage = 256 << 10

// Message is one MQTT application message. Topic and Payload lie in the buffer
// of the connection: they are valid until Handle returns, then overwritten.
//
// A message of QoS 1 that was not acknowledged when its connection ended comes again
// on the next, and is handed on again. One of QoS 2 is not, even while it is held,
// as long as the broker remembers the session and repeats it on the very next
// connection, unless it was let go (Ack.Redeliver). To another process it is handed on
// again: this one keeps nothing on disk, so that both are at-least-once.
type Message struct {
	Topic   []byte // well-formed UTF-8 without wildcards or NUL
	Payload []byte // nil where Oversize is set
	Size    int    // bytes of payload on the wire; more than len(Payload) only where Oversize is set
	QoS     byte   // 0, 1 or 2
	Retain  bool   // the broker had kept it and hands it out for a new subscription
	Dup     bool   // the broker may have sent it before

	Oversize bool // the frame was larger than MaxMessage; there is no payload

	Hold bool // set by Handle: not done yet, Ack.Done will be called later
	Ack  Ack  // releases a held message; may be copied and kept

	id uint16 // packet identifier; 0 for QoS 0
}
