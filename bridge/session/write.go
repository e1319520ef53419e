package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"
)

// The writing half of a lane. Whoever has something to write does it, and takes
// along what others have: one call writes publications and acknowledgements,
// often many of them. Nobody waits for its turn who need not:
//
//	push    a publisher, with publications, and those of others who were about to
//	        publish (company); finds the lock taken: leaves them
//	answer  the reader, with acknowledgements; finds the lock taken: leaves them
//	serve   the goroutine of the lane: what Ack.Done releases, what the broker's
//	        acknowledgements make room for, and what others have left
//	Write   paho, with a frame of its own, for which it waits
//
// Nothing is ever left for good: who finds the lock taken sets todo and tries
// again; who has held it looks at todo when it has let go.
//
// A publisher has a socket to read, and the reader the broker. So over plain TCP
// neither waits for a broker that does not read: they write what the kernel takes
// at once, and hand the rest, with the lock, to serve. TLS and WebSocket cannot
// write a part; there they wait.

const (
	// writeTimeout is how long the broker may read nothing before it is taken
	// for dead.
	writeTimeout = 10 * time.Second

	// drainTimeout is how long the broker may take to close the connection
	// after our DISCONNECT.
	drainTimeout = time.Second

	// piece is how much is written at a time where a write that timed out cannot
	// be continued: one record of TLS (RFC 8446, 5.1). It is also the least that
	// is taken from the ring for one write.
	piece = 16 << 10

	// maxTurns is how often a publisher writes before it leaves the writing to
	// the lane's goroutine: it has a socket of its own to read.
	maxTurns = 4
)

// push writes what publishers have, unless another one is about to.
func (l *lane) push() {
	if l.company.await() {
		l.pushNow()
	}
}

// pushNow writes what publishers have, if nobody else does.
func (l *lane) pushNow() {
	for range maxTurns {
		if !l.tryLock() {
			return
		}
		more, err := l.writeAll(l.writeNow)
		if err == errHanded {
			return
		}
		l.unlock()
		if err != nil || !more && !l.todo.Load() {
			return
		}
	}
	l.acks.ring()
}

// answer writes the acknowledgements that may leave, if nobody is writing. It
// writes nothing else, which the reader has no part in.
func (l *lane) answer() error {
	if !l.tryLock() {
		return nil
	}
	err := l.writeAcks()
	if err == errHanded {
		return nil
	}
	l.unlock()
	l.left()
	return err
}

// serve is the goroutine of the lane.
func (l *lane) serve() {
	defer close(l.idle)
	for {
		select {
		case p := <-l.handed:
			if l.finishPart(p) != nil || l.flush() != nil {
				return
			}
		case <-l.acks.wake:
			if l.flush() != nil {
				return
			}
		case <-l.done:
			return
		}
	}
}

// part is what was taken to be written, and is not yet.
type part struct {
	b    []byte
	sent int
	runs []run
}

// errHanded says that a part was handed over, with the lock.
var errHanded = errors.New("left to the goroutine of the lane")

// finishPart writes the rest of a part, and lets the lock go.
func (l *lane) finishPart(p part) error {
	defer l.unlock()
	n, err := l.write(p.b[p.sent:])
	l.settled(p.b, p.runs, p.sent+n, err)
	return err
}

// flush writes all that may be written. When it returns, that is written.
func (l *lane) flush() error {
	for {
		l.lock()
		more, err := l.writeAll(l.write)
		l.unlock()
		if err != nil || !more && !l.todo.Load() {
			return err
		}
	}
}

// Write writes one frame of paho's, which writes each with one call.
func (l *lane) Write(p []byte) (int, error) {
	head, rest, err := fixedHeader(p)
	if err != nil || head == 0 || head+rest != len(p) {
		return 0, l.fail(errors.New("the MQTT library wrote something other than one frame"))
	}
	kind := p[0] >> 4
	if kind == typePingreq {
		l.pinged.Store(true)
	}
	l.lock()
	defer l.left()
	defer l.unlock()
	if l.leaving.Load() {
		return 0, net.ErrClosed
	}
	frame := p
	switch kind {
	case typeSubscribe, typeUnsubscribe:
		frame = l.asks(p, head)
	case typeConnect:
		frame = l.connects(p, head)
	case typePingreq, typeDisconnect:
	default: // all others are ours to write
		return 0, l.fail(errors.New("the MQTT library wrote a frame that it should not"))
	}
	if _, err := l.write(frame); err != nil {
		return 0, err
	}
	if kind == typeDisconnect {
		l.leaving.Store(true) // nothing may follow [MQTT-3.14.4-2]
	}
	return len(p), nil
}

// connects gives a CONNECT of paho's the keep-alive that the broker is to know:
// paho asks for signs of life twice as often. It comes behind the name of the
// protocol, its level and the flags (section 3.1.2).
func (l *lane) connects(p []byte, head int) []byte {
	const at = 2 + len("MQTT") + 1 + 1
	if l.keepAlive == 0 || len(p) < head+at+2 {
		return p
	}
	p = bytes.Clone(p)
	binary.BigEndian.PutUint16(p[head+at:], l.keepAlive)
	return p
}

// say writes a frame of ours as it is. A write that lasts is waited for until done.
func (l *lane) say(frame []byte, done <-chan struct{}) error {
	select {
	case l.writing <- struct{}{}:
	case <-done:
		return errStillWriting
	}
	defer l.left()
	defer l.unlock()
	if l.leaving.Load() {
		return net.ErrClosed
	}
	_, err := l.write(frame)
	return err
}

// writeAll writes what waits, as much as one call should; more says that there is
// more. Callers hold the lock.
func (l *lane) writeAll(write func([]byte) (int, error)) (more bool, err error) {
	l.todo.Store(false)
	select {
	case <-l.done:
		return false, l.cause // what is in the ring has not been tried on this connection
	default:
	}
	if l.leaving.Load() {
		return false, nil
	}
	b, runs, more := l.out.take(l, l.buffer[:0], l.runs[:0])
	b = l.acks.take(b)
	sent := 0
	if len(b) > 0 {
		sent, err = write(b)
	}
	if err == nil && sent < len(b) {
		l.buffer, l.runs = nil, nil // until settled
		l.handed <- part{b, sent, runs}
		return false, errHanded
	}
	l.settled(b, runs, sent, err)
	return more, err
}

// settled ends what writeAll began.
func (l *lane) settled(b []byte, runs []run, sent int, err error) {
	l.out.wrote(runs, b, sent, err)
	clear(runs) // what is kept for the next time must keep no Origin alive
	if l.buffer, l.runs = b, runs; cap(b) > 2*maxPending {
		l.buffer = nil
	}
}

// writeAcks writes acknowledgements only. Callers hold the lock, under which they
// are also taken: otherwise two goroutines could write theirs in the wrong order.
func (l *lane) writeAcks() error {
	if l.leaving.Load() {
		return nil
	}
	b := l.acks.take(l.buffer[:0])
	l.buffer = b
	if len(b) == 0 {
		return nil
	}
	sent, err := l.writeNow(b)
	if err == nil && sent < len(b) {
		l.buffer = nil
		l.handed <- part{b, sent, nil}
		return errHanded
	}
	return err
}

// The lock is a channel, because a write can last for long, and synctest knows
// who waits for a channel, but not who waits for a Mutex.
func (l *lane) unlock() { <-l.writing }

// lock waits for the lock, and finishes meanwhile what was handed over with it:
// it may be serve that waits here.
func (l *lane) lock() {
	for {
		select {
		case l.writing <- struct{}{}:
			return
		case p := <-l.handed:
			_ = l.finishPart(p)
		}
	}
}

// tryLock takes the lock unless somebody has it: then that one will see todo.
func (l *lane) tryLock() bool {
	for range 2 {
		select {
		case l.writing <- struct{}{}:
			return true
		default:
			l.todo.Store(true) // before the second try, lest the holder has looked between
		}
	}
	return false
}

// left looks, after the lock was let go, whether something was left meanwhile.
func (l *lane) left() {
	if l.todo.Load() {
		l.acks.ring()
	}
}

// write writes all of b or ends the lane. A broker on a slow line is not taken for
// dead as long as it reads something.
func (l *lane) write(b []byte) (sent int, err error) {
	for sent < len(b) {
		part := b[sent:]
		if !l.resumable && len(part) > piece {
			part = part[:piece]
		}
		now := time.Now()
		l.unsent.fit(now)
		if err := l.conn.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return sent, l.fail(err)
		}
		n, err := l.conn.Write(part)
		sent += n
		if err != nil && (n == 0 || !l.resumable || !timedOut(err)) {
			if timedOut(err) {
				err = errStalled
			}
			return sent, l.fail(err)
		}
	}
	if l.raw != nil {
		_ = l.conn.SetWriteDeadline(time.Time{}) // writeNow has none
	}
	return sent, nil
}

// writeNow writes as much of b as there is room for without waiting, where the
// connection can do that, and else all of it.
func (l *lane) writeNow(b []byte) (sent int, err error) {
	if l.raw == nil {
		return l.write(b)
	}
	l.now = b
	if err := l.raw.Write(l.sendNow); err != nil {
		return 0, l.fail(err)
	}
	if l.nowErr != nil {
		return l.nowSent, l.fail(os.NewSyscallError("write", l.nowErr))
	}
	return l.nowSent, nil
}

// errStillWriting says that the broker was too slow to be told something.
var errStillWriting = errors.New("the broker is slow to read what was written before")

// fail ends the lane, and with it whatever waits on its connection. The first
// cause counts, and is returned to all. It closes what is below TLS, which would
// wait up to 5 s to say goodbye to a broker that reads nothing.
func (l *lane) fail(err error) error {
	l.once.Do(func() {
		if err != net.ErrClosed { // paho's own doing, which it wants to recognise
			err = lostError(err)
		}
		l.cause = err
		close(l.done)
		_ = bare(l.conn).Close()
	})
	return l.cause
}

// finish waits, after the lane has failed, until nobody is writing any more.
// Nobody begins to: see writeAll.
func (l *lane) finish() {
	<-l.idle
	l.lock()
	l.unlock()
}

// Close is called by paho: because it has written DISCONNECT, or given up.
//
// After a DISCONNECT the reading goroutine goes on until the broker has closed
// its side, up to drainTimeout. A connection that is closed with bytes unread is
// reset, and the broker may then never see what was written last.
func (l *lane) Close() error {
	if !l.leaving.Load() {
		_ = l.fail(net.ErrClosed)
		return nil
	}
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	return l.conn.SetReadDeadline(time.Now().Add(drainTimeout))
}

func (l *lane) LocalAddr() net.Addr  { return l.conn.LocalAddr() }
func (l *lane) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// SetDeadline and SetReadDeadline bound the handshake. Every write has a
// deadline of its own, which paho's would only switch off.
func (l *lane) SetDeadline(t time.Time) error      { return l.conn.SetReadDeadline(t) }
func (l *lane) SetReadDeadline(t time.Time) error  { return l.conn.SetReadDeadline(t) }
func (l *lane) SetWriteDeadline(t time.Time) error { return nil }
