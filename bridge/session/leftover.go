package session

// A process that was killed may have left messages of QoS 2 at a broker that keeps the
// session: it has them, and waits for their PUBREL to hand them on. Nobody knows their
// identifiers any more. They count against what the broker takes at once, for ever, and
// mosquitto closes the connection when that is full; and a new message with such an
// identifier would be taken for a repetition [MQTT-4.3.3-2].
//
// So where the session is older than the process, all identifiers are released before
// the first message of QoS 1 or 2 is written: while that count is full mosquitto drops
// those of QoS 1 too, and acknowledges them. A broker answers PUBCOMP where it has nothing.
// One that closes the connection instead, twice, is not asked again: our messages would
// come under suspicion.

// leftover is how far that is.
type leftover struct {
	due   bool   // on this connection
	done  bool   // the broker has answered, or has no session
	tries int    // connections on which it was done
	last  uint16 // the identifier that was released last
}

// begin is called when a connection begins. present says that the broker remembers the
// session.
func (l *leftover) begin(present bool) {
	l.done = l.done || !present
	l.due = !l.done && l.tries < maxFailures
}

// release appends what is due, if there is something of QoS 1 or 2 to be written after
// it: a PUBREL for each identifier but those of messages that this process has on the
// way.
func (o *outbox) release(b []byte) []byte {
	f := &o.flows[1]
	if !f.leftover.due || f.head == f.tail && o.flows[0].head == o.flows[0].tail {
		return b
	}
	f.leftover.due = false
	f.leftover.tries++
	for n := range f.ids.n {
		id := f.ids.of(n)
		if _, ours := f.find(id); !ours {
			b = appendAck(b, typePubrel, id)
			f.leftover.last = id
		}
	}
	return b
}

// released takes note of a PUBCOMP for a message that this process does not have.
func (l *leftover) released(id uint16) { l.done = l.done || id == l.last }
