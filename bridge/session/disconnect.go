package session

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// farewellTimeout is how long the broker may take to acknowledge the last
	// message, the offline status.
	farewellTimeout = 2 * time.Second

	// drainTimeout is how long the broker may take to close the connection
	// after our DISCONNECT.
	drainTimeout = time.Second

	// LeaveTimeout bounds the whole of an orderly end, when the broker reads
	// nothing any more.
	LeaveTimeout = farewellTimeout + drainTimeout/2
)

// boundEnd ends the connection LeaveTimeout after ctx has, whatever it is at by then,
// unless stop is called.
func (conn *connection) boundEnd(ctx context.Context) (stop func()) {
	over := make(chan struct{})
	unbind := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(LeaveTimeout):
			_ = conn.mqtt.fail(net.ErrClosed)
		case <-over:
		}
	})
	return func() {
		unbind()
		close(over)
	}
}

// leave ends a connection in good order. DISCONNECT makes the broker discard
// the will [MQTT-3.1.2-10], so that offline is to be said before. Should the
// broker be too slow for that, it is left without DISCONNECT, and the will says it.
func (s *Session) leave(conn *connection) {
	s.inbox.close()
	if s.sayOffline(conn) {
		conn.mqtt.disconnect()
	}
	_ = conn.mqtt.fail(net.ErrClosed)
	conn.mqtt.waitClosed()
	s.outbox.detach(conn.mqtt, ErrStopped)
	s.log.Info("disconnected", "broker", conn.broker)
}

// sayOffline publishes that we are offline, behind the acknowledgements that are due. It reports whether
// DISCONNECT may follow.
func (s *Session) sayOffline(conn *connection) (said bool) {
	_ = conn.mqtt.flush()
	said = true
	if s.told() != nil {
		ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
		release, err := conn.reserveForStatus(ctx)
		if err == nil {
			err = conn.publishStatus(ctx, offlineID, s.o.Status.Topic, statusOffline)
		}
		release()
		if said = err != errStillWriting && err != errNoTurn; err != nil {
			s.log.Warn("status not published", "topic", s.o.Status.Topic, "broker", conn.broker, "err", err)
		}
		cancel()
	}
	_ = conn.mqtt.flush() // what was acknowledged meanwhile
	return said
}

// disconnect writes DISCONNECT, and waits until the broker has closed its side, up to
// drainTimeout. A connection that is closed with bytes unread is reset, and the broker
// may then never see what was written last. So the reader goes on until then.
func (c *mqttConn) disconnect() {
	// Something may hang in a write, which this ends.
	defer time.AfterFunc(2*drainTimeout, func() { _ = c.fail(net.ErrClosed) }).Stop()
	if c.writeFrame(c.codec.disconnect(0), c.done) != nil {
		return
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	if c.conn.SetReadDeadline(time.Now().Add(drainTimeout)) == nil {
		<-c.done
	}
}

// sayWhy tells a broker of MQTT 5 why a connection ends over something that it sent
// [MQTT-4.13.1-1], if nobody is writing: the holder of the lock may wait for a broker that reads nothing.
func (c *mqttConn) sayWhy(err error) {
	e, ok := errors.AsType[*ProtocolError](err)
	if !ok || c.terms.protocol != Protocol5 {
		return
	}
	select {
	case c.writeLock <- struct{}{}:
	default:
		return
	}
	defer c.unlock()
	if c.disconnecting || c.isClosed() {
		return
	}
	c.disconnecting = true
	_ = c.conn.SetWriteDeadline(time.Now().Add(farewellTimeout))
	_, _ = c.conn.Write(c.codec.disconnect(e.Code))
}
