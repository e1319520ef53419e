package session

import (
	"errors"
	"net"
	"os"
	"time"
)

// The writing half of a lane. paho writes each of its frames with one call, so
// that acknowledgements of ours fit between any two calls.

const (
	// writeTimeout is how long the broker may read nothing before it is taken
	// for dead.
	writeTimeout = 10 * time.Second

	// drainTimeout is how long the broker may take to close the connection
	// after our DISCONNECT.
	drainTimeout = time.Second
)

// Write writes one frame of paho's.
func (l *lane) Write(p []byte) (int, error) {
	head, rest, err := fixedHeader(p)
	if err != nil || head == 0 || head+rest != len(p) {
		return 0, l.fail(errors.New("the MQTT library wrote something other than one frame"))
	}
	switch p[0] >> 4 {
	case typeSubscribe:
		l.asks(p[head:])
	case typePingreq:
		l.pinged.Store(true)
	}
	l.lock()
	defer l.unlock()
	if l.leaving.Load() {
		return 0, net.ErrClosed
	}
	if err := l.write(p); err != nil {
		return 0, err
	}
	if p[0]>>4 == typeDisconnect {
		l.leaving.Store(true) // nothing may follow [MQTT-3.14.4-2]
	}
	return len(p), nil
}

// writeAcks writes the acknowledgements that Ack.Done lets go. While one write
// lasts, those that come gather for the next.
func (l *lane) writeAcks() {
	defer close(l.idle)
	for {
		select {
		case <-l.acks.wake:
			if l.flush() != nil {
				return
			}
		case <-l.done:
			return
		}
	}
}

// flush writes the acknowledgements that may leave. They are taken under the
// lock, for otherwise two goroutines could write theirs in the wrong order.
func (l *lane) flush() error {
	l.lock()
	defer l.unlock()
	if l.leaving.Load() {
		return nil
	}
	l.ackBuf = l.acks.take(l.ackBuf[:0])
	if len(l.ackBuf) == 0 {
		return nil
	}
	return l.write(l.ackBuf)
}

// The lock is a channel, because a write can last as long as writeTimeout, and
// synctest knows who waits for a channel, but not who waits for a Mutex.
func (l *lane) lock()   { l.writing <- struct{}{} }
func (l *lane) unlock() { <-l.writing }

// write writes all of b or ends the lane.
func (l *lane) write(b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return l.fail(err)
	}
	if _, err := l.conn.Write(b); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errStalled
		}
		return l.fail(err)
	}
	return nil
}

// fail ends the lane, and with it whatever waits on its connection. The first
// cause counts, and is returned to all.
func (l *lane) fail(err error) error {
	l.once.Do(func() {
		if err != net.ErrClosed { // paho's own doing, which it wants to recognise
			err = lostError(err)
		}
		l.cause = err
		close(l.done)
		_ = l.conn.Close()
	})
	return l.cause
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

// asks remembers how many filters a SUBSCRIBE of ours has.
func (l *lane) asks(body []byte) {
	id, n := subscribeFilters(body)
	l.subMu.Lock()
	defer l.subMu.Unlock()
	l.subs[id] = n
}

// asked says how many filters the SUBSCRIBE with that identifier had.
func (l *lane) asked(id uint16) (n int, ok bool) {
	l.subMu.Lock()
	defer l.subMu.Unlock()
	n, ok = l.subs[id]
	return n, ok
}

// answered forgets a SUBSCRIBE.
func (l *lane) answered(id uint16) {
	l.subMu.Lock()
	defer l.subMu.Unlock()
	delete(l.subs, id)
}

func (l *lane) LocalAddr() net.Addr  { return l.conn.LocalAddr() }
func (l *lane) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// SetDeadline and SetReadDeadline bound the handshake. Every write has a
// deadline of its own, which paho's would only switch off.
func (l *lane) SetDeadline(t time.Time) error      { return l.conn.SetReadDeadline(t) }
func (l *lane) SetReadDeadline(t time.Time) error  { return l.conn.SetReadDeadline(t) }
func (l *lane) SetWriteDeadline(t time.Time) error { return nil }
