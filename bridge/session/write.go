package session

import (
	"errors"
	"net"
	"time"
)

// The writing half of a connection. Whoever has something to write writes it, together
// with what others have: one call writes publications and acknowledgements, often many
// of them. Only those that have to wait for the lock:
//
//	publish       a publisher, with publications, and those of others that were about to
//	              publish (coalescer.go); if the lock is taken it leaves them
//	writePending  the reader, with acknowledgements; if the lock is taken it leaves them
//	writeLoop     the connection's own goroutine: what Ack.Done releases, what the
//	              broker's acknowledgements make room for, and what others have left
//	writeFrame    the goroutines of Run and keepAlive, with a frame of their own; they
//	              wait for the lock
//
// Nothing is left for good: who finds the lock taken sets todo and tries again; who
// has held it looks at todo after it has let go.
//
// A publisher has a socket to read, and the reader the broker. So over plain TCP
// neither waits for a broker that does not read: they write what the kernel takes
// at once, and hand the rest, with the lock, to writeLoop. TLS and WebSocket cannot
// write a part; there they wait.

const (
	// writeTimeout is how long the broker may read nothing before it is taken
	// for dead.
	writeTimeout = 10 * time.Second

	// piece is how much is written at a time where a write that timed out cannot
	// be continued: one record of TLS (RFC 8446, 5.1). It is also the least that
	// is taken from the ring for one write.
	piece = 16 << 10

	// maxTurns is how often a publisher writes before it leaves the writing to
	// writeLoop: it has a socket of its own to read.
	maxTurns = 4
)

// publish writes what publishers have, unless another one is about to.
func (c *mqttConn) publish() {
	if c.coalescer.elect() {
		c.publishNow()
	}
}

// publishNow writes what publishers have, if nobody else does.
func (c *mqttConn) publishNow() {
	for range maxTurns {
		if !c.tryLock() {
			return
		}
		more, err := c.writeAll(c.writeNow)
		if err == errHandedOver {
			return
		}
		c.unlock()
		if err != nil || !more && !c.todo.Load() {
			return
		}
	}
	c.acks.wakeWriter()
}

// writePending writes the acknowledgements that may leave, if nobody is writing. It
// writes no publications: the reader must not wait for those.
func (c *mqttConn) writePending() error {
	if !c.tryLock() {
		return nil
	}
	err := c.writeAcks()
	if err == errHandedOver {
		return nil
	}
	c.unlock()
	c.wakeIfTodo()
	return err
}

// writeLoop is the goroutine that writes what others have left.
func (c *mqttConn) writeLoop() {
	for {
		select {
		case p := <-c.handover:
			if c.finishPartial(p) != nil || c.flush() != nil {
				return
			}
		case <-c.acks.wake:
			if c.flush() != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

// partialWrite is what was taken to be written, and is not all written yet.
type partialWrite struct {
	b    []byte
	sent int
	runs []run
}

// errHandedOver is for a write whose rest was handed over, with the lock.
var errHandedOver = errors.New("left to writeLoop")

// finishPartial writes the rest, and releases the lock.
func (c *mqttConn) finishPartial(p partialWrite) error {
	defer c.unlock()
	n, err := c.write(p.b[p.sent:])
	c.wrote(p.b, p.runs, p.sent+n, err)
	return err
}

// flush writes all that may be written. When it returns, that is written.
func (c *mqttConn) flush() error {
	for {
		c.lock()
		more, err := c.writeAll(c.write)
		c.unlock()
		if err != nil || !more && !c.todo.Load() {
			return err
		}
	}
}

// writeFrame writes one frame, and waits for the lock until done is closed.
func (c *mqttConn) writeFrame(frame []byte, done <-chan struct{}) error {
	select {
	case c.writeLock <- struct{}{}:
	case <-done:
		return errStillWriting
	}
	defer c.wakeIfTodo()
	defer c.unlock()
	if c.disconnecting {
		return net.ErrClosed
	}
	if frame[0]>>4 == typePingreq {
		c.pings++
	}
	_, err := c.write(frame)
	c.disconnecting = frame[0]>>4 == typeDisconnect // nothing may follow [MQTT-3.14.4-2]
	return err
}

// writeAll writes what waits, as much as one call should; more reports whether there is
// more. Callers hold the lock.
func (c *mqttConn) writeAll(write func([]byte) (int, error)) (more bool, err error) {
	c.todo.Store(false)
	if c.isClosed() {
		return false, c.cause // what is in the ring has not been tried on this connection
	}
	if c.disconnecting {
		return false, nil
	}
	b, runs, more := c.outbox.nextWrite(c, c.buffer[:0], c.runs[:0])
	b = c.acks.appendReady(b)
	sent := 0
	if len(b) > 0 {
		sent, err = write(b)
	}
	if err == nil && sent < len(b) {
		c.buffer, c.runs = nil, nil // until wrote is called
		c.handover <- partialWrite{b, sent, runs}
		return false, errHandedOver
	}
	c.wrote(b, runs, sent, err)
	return more, err
}

// wrote ends what writeAll began.
func (c *mqttConn) wrote(b []byte, runs []run, sent int, err error) {
	c.outbox.wrote(runs, b, sent, err, &c.form)
	if len(runs) > 0 {
		c.wroteQoS0 = time.Now()
	}
	clear(runs) // what is kept for the next time must keep no Origin alive
	if c.buffer, c.runs = b, runs; cap(b) > 2*maxPending {
		c.buffer = nil
	}
}

// writeAcks writes acknowledgements only. Callers hold the lock, under which they
// are also taken: otherwise two goroutines could write theirs in the wrong order.
func (c *mqttConn) writeAcks() error {
	if c.disconnecting {
		return nil
	}
	b := c.acks.appendReady(c.buffer[:0])
	c.buffer = b
	if len(b) == 0 {
		return nil
	}
	sent, err := c.writeNow(b)
	if err == nil && sent < len(b) {
		c.buffer = nil
		c.handover <- partialWrite{b, sent, nil}
		return errHandedOver
	}
	return err
}

// The lock is a channel, because a write can last for long, and synctest knows
// what waits for a channel, but not what waits for a Mutex.
func (c *mqttConn) unlock() { <-c.writeLock }

// lock waits for the lock, and finishes meanwhile what was handed over with it:
// it may be writeLoop that waits here.
func (c *mqttConn) lock() {
	for {
		select {
		case c.writeLock <- struct{}{}:
			return
		case p := <-c.handover:
			_ = c.finishPartial(p)
		}
	}
}

// tryLock takes the lock unless somebody has it: then that one will see todo.
func (c *mqttConn) tryLock() bool {
	for range 2 {
		select {
		case c.writeLock <- struct{}{}:
			return true
		default:
			c.todo.Store(true) // before the second try, so that the holder cannot miss it
		}
	}
	return false
}

// wakeIfTodo wakes writeLoop if something was left while the lock, now released, was held.
func (c *mqttConn) wakeIfTodo() {
	if c.todo.Load() {
		c.acks.wakeWriter()
	}
}

// write writes all of b or ends the connection. A broker on a slow line is not taken for
// dead as long as it reads something.
func (c *mqttConn) write(b []byte) (sent int, err error) {
	for sent < len(b) {
		part := b[sent:]
		if !c.resumable && len(part) > piece {
			part = part[:piece]
		}
		now := time.Now()
		c.unsent.fit(now)
		if err := c.conn.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return sent, c.fail(err)
		}
		n, err := c.conn.Write(part)
		sent += n
		if err != nil && (n == 0 || !c.resumable || !timedOut(err)) {
			if timedOut(err) {
				err = errStalled
			}
			return sent, c.fail(err)
		}
	}
	if c.raw.able() {
		_ = c.conn.SetWriteDeadline(time.Time{}) // writeNow has none
	}
	return sent, nil
}

// writeNow writes as much of b as there is room for without waiting, where the
// connection can do that, and else all of it.
func (c *mqttConn) writeNow(b []byte) (sent int, err error) {
	if !c.raw.able() {
		return c.write(b)
	}
	if sent, err = c.raw.write(b); err != nil {
		return sent, c.fail(err)
	}
	return sent, nil
}

// errStillWriting is for a frame that was not written: something else still is.
var errStillWriting = errors.New("the broker is slow to read what was written before")

// fail ends the connection, and with it whatever waits on it. The first cause counts,
// and is returned to all. It closes what is below TLS, which would
// wait up to 5 s to say goodbye to a broker that reads nothing.
func (c *mqttConn) fail(err error) error {
	c.failOnce.Do(func() {
		if reason := c.leftFor.Load(); reason != nil { // then the broker closes it, as it is asked to
			err = *reason
		}
		c.cause = lostError(err)
		close(c.done)
		_ = bare(c.conn).Close()
	})
	return c.cause
}

// isClosed reports whether the connection has ended.
func (c *mqttConn) isClosed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// waitClosed waits, after the connection has failed, until its goroutines have ended
// and nobody is writing any more. Nobody begins to: see writeAll.
func (c *mqttConn) waitClosed() {
	c.running.Wait()
	c.lock()
	c.unlock()
}
