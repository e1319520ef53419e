package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"

	"topicast/internal/brokerurl"
)

// connectTimeout bounds dialling and the wait for CONNACK together.
const connectTimeout = 2 * dialTimeout

// The way of a connection, each step by the goroutine of Run:
//
//	shakeHands  opens it, writes CONNECT and waits for CONNACK; then its goroutines
//	            begin: readLoop (conn.go), writeLoop (write.go), keepAlive (keepalive.go).
//	            connectTo (status.go) calls it, again where the broker dislikes the will
//	keep        takes it up (takeUp: asks for the subscriptions, subscribe.go, and says that
//	            we are online) and serves it until it is lost or to be left (serve), session.go
//	connectionLost
//	            clears up after one that was lost, and judges its end (closecause.go)
//	leave       says that we are offline, and disconnects (disconnect.go)

// A connection is one that the broker has accepted, as the goroutine of Run,
// which alone uses it, sees it.
type connection struct {
	mqtt    *mqttConn
	url     *url.URL
	broker  string
	present bool            // the broker remembered the session
	lost    <-chan struct{} // closed when it is lost

	published     uint64 // publications that the broker had before it
	statusPending bool   // the online status is on its way
	leftIdle      bool   // it is left alone, or was lost while it was; see closecause.go
}

// shakeHands opens a connection to one address and does the handshake, with ProtocolAuto in the
// version that the broker speaks.
func (s *Session) shakeHands(ctx context.Context, u *url.URL, will *Status) (*connection, error) {
	codec, fallback := s.codecFor(u, time.Now())
	conn, err := s.shakeHandsIn(ctx, u, will, codec)
	if err == nil || !fallback || ctx.Err() != nil || !mayBeOld(err) {
		return conn, err
	}
	old, errOld := s.shakeHandsIn(ctx, u, will, codec311{})
	if errOld == nil || isOld(err) {
		s.noteOld(u, time.Now())
		return old, errOld
	}
	return nil, err
}

// shakeHandsIn does that in one version.
func (s *Session) shakeHandsIn(ctx context.Context, u *url.URL, will *Status, codec codec) (_ *connection, err error) {
	password, err := s.password(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now() // what the password took is not the broker's
	s.loggedIn(password)
	defer func() { s.noteAddress(ctx, u, err, began) }()
	deadline := time.Now().Add(connectTimeout)
	conn, err := s.open(ctx, u)
	if err != nil {
		return nil, explain(ctx, u, err)
	}
	c := newMQTTConn(conn, &s.inbox, s.outbox, codec)
	c.maxPacket = s.o.MaxPacket
	c.persistent = !s.o.Clean
	stop := context.AfterFunc(ctx, func() { _ = c.fail(context.Cause(ctx)) })
	defer stop()
	present, err := c.handshake(codec.connect(&s.o, will, password), deadline)
	if err != nil {
		return nil, handshakeError(u, c.fail(err))
	}
	c.accepted(present)
	c.running.Go(c.readLoop)
	c.running.Go(c.writeLoop)
	interval := s.o.KeepAlive
	if server := time.Duration(c.terms.keepAlive) * time.Second; server > 0 {
		interval = min(interval, server) // [MQTT-3.2.2-21]
	}
	c.running.Go(func() { c.keepAlive(interval) })
	return &connection{mqtt: c, url: u, broker: brokerurl.Shown(u), present: present, lost: c.done, published: s.outbox.published.Load()}, nil
}

// askPassword gets a password, and reports whether it can be one.
func (s *Session) askPassword() (string, error) {
	password, err := s.o.Password()
	switch {
	case err != nil:
		return "", fmt.Errorf("password: %w", err)
	case password != "" && s.o.Username == "":
		return "", errors.New("password without a user name; set username [MQTT-3.1.2-22]")
	case len(password) > math.MaxUint16:
		return "", fmt.Errorf("password of %d bytes: want at most 65535", len(password))
	}
	return password, nil
}

// handshake writes CONNECT and waits for CONNACK, which is the first that a broker
// sends [MQTT-3.2.0-1]. It sets the terms.
func (c *mqttConn) handshake(connect []byte, deadline time.Time) (present bool, err error) {
	_ = c.conn.SetReadDeadline(deadline) // where these fail, so do Write and Read
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	// What the broker said before it closed the connection, in a TLS alert or in
	// another protocol, can still be read, and tells why.
	_, cut := c.conn.Write(connect)
	switch {
	case timedOut(cut):
		return false, errStalled
	case cut != nil && !reset(cut):
		return false, cut
	}
	for {
		frame, err := c.connack()
		if err != nil {
			return false, err
		}
		if frame != nil {
			_ = c.conn.SetReadDeadline(time.Time{})  // keepAlive is there for the reader
			_ = c.conn.SetWriteDeadline(time.Time{}) // writeNow has none
			answer, err := c.codec.readConnack(frame)
			if err == nil && answer.code != 0 {
				err = &RefusedError{c.codec.protocol(), answer.code, answer.reason}
			}
			if err == nil {
				answer.terms.atMost(c.maxPacket)
				c.terms, c.form = answer.terms, answer.terms.form()
			}
			return answer.present, err
		}
		if err := c.fill(); err != nil {
			if cut != nil && alertCause(err) == nil {
				err = cut
			}
			return false, err
		}
	}
}

// connack takes the CONNACK off the buffer; nil: it is not all there.
func (c *mqttConn) connack() (frame []byte, err error) {
	b := c.buf[c.r:c.w]
	head, rest, err := fixedHeader(b)
	if err != nil || head == 0 {
		return nil, err
	}
	if b[0]>>4 != typeConnack {
		return nil, violation("MQTT-3.2.0-1", "CONNACK is not the first packet", b)
	}
	if err := c.codec.checkHeader(b[0], rest, b); err != nil {
		return nil, err
	}
	end := head + rest
	if len(b) < end {
		if c.r+end > len(c.buf) { // of MQTT 5 it may be long
			c.buf = append(c.buf, make([]byte, end)...)
		}
		return nil, nil
	}
	c.r += end
	return b[:end], c.codec.checkBody(b[0], b[head:end], b)
}

// handshakeError says why a connection that was opened came to nothing.
func handshakeError(u *url.URL, cause error) error {
	if e, ok := errors.AsType[*ProtocolError](cause); ok {
		if foreign := foreignCause(e); foreign != nil {
			return foreign
		}
	}
	switch {
	case timedOut(cause):
		return &causeError{what: fmt.Sprintf("no CONNACK within %v", connectTimeout), hint: otherPort(u), err: cause}
	case closedByBroker(cause):
		return unansweredCause(u, cause)
	}
	return cause
}

// isOver reports whether there is no use for the connection any more.
func (conn *connection) isOver(ctx context.Context) bool {
	return conn.mqtt.isClosed() || ctx.Err() != nil
}

// ended waits for the remains of a lost connection, and gives what ended it.
func (conn *connection) ended() error {
	conn.mqtt.waitClosed()
	return conn.mqtt.cause
}
