package session

import "time"

const (
	// staleAfter is how long the last bytes from a peer that has closed may have waited
	// in the kernel before what came with them counts as overtaken.
	staleAfter = 250 * time.Millisecond

	// answerTimeout is how long the peer's kernel may take to say that it has what was
	// written.
	answerTimeout = time.Second
)

// overtaken takes out of a batch what the broker gives to somebody else, or again to
// us: messages of QoS 1 and 2 of a persistent session, read from a connection that
// the broker has ended, after they lay unread. The kernel hands out all that came
// before a FIN, however late. So a process that was stopped while another client took
// its session would send old messages behind newer ones of that client. They are not
// acknowledged, and thus the broker's to deliver: to the session's new owner
// [MQTT-3.1.4-2], or to us on the next connection [MQTT-4.4.0-1].
//
// Where more lay unread than the kernel takes, the FIN is still with the broker's
// kernel, behind the rest. So after a pause with so much in hand the broker is asked.
//
// An orderly broker that is stopped ends its connections as well; it repeats them. One
// that forgets its sessions when it dies does not, and so what was read at once is
// still handed on. QoS 0 and clean sessions are repeated by nobody.
func (c *mqttConn) overtaken(batch []Message) []Message {
	if !c.persistent {
		return batch
	}
	// What comes after a batch that is overtaken is no younger.
	c.stale = c.stale || c.peer.closedFor(c.staleAfter) || c.late && c.abandoned()
	if !c.stale {
		return batch
	}
	n := 0
	for i := range batch {
		if batch[i].QoS == 0 {
			batch[n] = batch[i]
			n++
		}
	}
	return batch[:n]
}

// notePause notes how long nothing was read before the last n bytes were.
func (c *mqttConn) notePause(n int) {
	if !c.persistent {
		return
	}
	now := time.Now()
	c.late = now.Sub(c.lastRead) > c.staleAfter
	c.moreBehind = c.late && c.peer.maybeFull(n)
	c.lastRead = now
}

// abandoned reports whether nobody is there any more to read what we write: the kernel
// of a broker that has closed the connection answers with a reset. Whoever of us writes
// finds out as well, and closes our end. It looks again and again: that the peer's kernel has taken what
// was written is an event to nobody (SIOCOUTQ, tcp(7)).
func (c *mqttConn) abandoned() bool {
	if c.isClosed() {
		return true
	}
	if !c.moreBehind {
		return false
	}
	c.moreBehind = false // one answer is for all that was read at once
	if c.ping() != nil {
		return true
	}
	for deadline := time.Now().Add(answerTimeout); ; time.Sleep(time.Millisecond) {
		taken := c.peer.allReceived() // first: of what is reset nothing waits any more
		if c.peer.closedFor(-1) || c.isClosed() {
			return true
		}
		if taken || time.Now().After(deadline) {
			return false
		}
	}
}

// ping writes a PINGREQ, unless something is being written or waits already, which does
// as well. Its PINGRESP is one more sign of life.
func (c *mqttConn) ping() error {
	if !c.tryLock() {
		return nil
	}
	var sent int
	var err error
	if !c.disconnecting {
		c.pings++
		sent, err = c.writeNow(pingreqFrame)
	}
	if err == nil && sent == 1 {
		c.handover <- partialWrite{pingreqFrame, sent, nil}
		return nil
	}
	c.unlock()
	c.wakeIfTodo()
	return err
}
