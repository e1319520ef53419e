package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

// openWebsocket asks, over a connection, for a WebSocket with the subprotocol
// "mqtt" [MQTT-6.0.0-3]. It closes the connection if it fails.
func openWebsocket(ctx context.Context, u *url.URL, conn net.Conn) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the library minds the deadline only
	below := &wire{Conn: conn, left: maxAnswer}
	ready := func(context.Context, string, string) (net.Conn, error) { return below, nil }
	dialer := websocket.Dialer{NetDialContext: ready, NetDialTLSContext: ready, Subprotocols: []string{"mqtt"}}
	ws, response, err := dialer.DialContext(ctx, u.String(), nil)
	switch over := !stop(); {
	case over && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, context.Cause(ctx)
	case over: // whatever the library says to that
		return nil, websocketCause(u, nil, context.DeadlineExceeded)
	case err != nil:
		return nil, websocketCause(u, response, err)
	}
	// [MQTT-6.0.0-4]; a server that names none at all may still speak it.
	if p := ws.Subprotocol(); p != "" && p != "mqtt" {
		_ = ws.Close()
		return nil, fmt.Errorf("websocket: server chose the subprotocol %.100q instead of \"mqtt\"", p)
	}
	return newWebsocketConn(ws, below), nil
}

const (
	// maxAnswer bounds the answer to the request for a WebSocket. The library keeps
	// all of its headers.
	maxAnswer = 64 << 10
	unbounded = -1

	// maxFraming bounds what a server sends around the bytes of MQTT: pings, empty messages,
	// the headers of frames. The library reads on behind those, and they are no sign of life.
	// Each byte of MQTT makes up for framingRatio, and each second for framingRate: for more
	// than messages of one byte each need (a header of 2 bytes), and servers that ping.
	maxFraming   = 64 << 10
	framingRatio = 16
	framingRate  = 1 << 10
)

var errFraming = fmt.Errorf("the broker sends WebSocket frames without MQTT in them (ping, pong, empty messages), without end: %d bytes, and then more than %d in a second", maxFraming, framingRate)

var errLongAnswer = fmt.Errorf("the answer to the request for a WebSocket is longer than %d bytes", maxAnswer)

// notHTTP is the error of an answer to the request for a WebSocket that is not HTTP. It is
// not waited for to be a whole line, which it may never be.
type notHTTP struct{ answer []byte }

func (e *notHTTP) Error() string { return fmt.Sprintf("not HTTP: %q", e.answer) }

// wire is the connection below a WebSocket. Of the answer to the request for one no more
// than left bytes can be read, and only if they are of HTTP; then left is unbounded, and
// what is no MQTT is bounded.
type wire struct {
	net.Conn
	left int

	framing int       // bytes that may come before some of MQTT do
	at      time.Time // when the time was reckoned in
}

func (w *wire) Read(p []byte) (int, error) {
	if w.left == unbounded {
		return w.readFrames(p)
	}
	if w.left == 0 {
		return 0, errLongAnswer
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	if begin := "HTTP"; w.left == maxAnswer && n > 0 && string(p[:min(n, len(begin))]) != begin[:min(n, len(begin))] {
		return 0, &notHTTP{bytes.Clone(p[:min(n, 16)])}
	}
	w.left -= n
	return n, err
}

func (w *wire) readFrames(p []byte) (int, error) {
	if w.framing < 0 {
		now := time.Now()
		w.add(int(min(now.Sub(w.at), time.Hour).Seconds() * framingRate))
		if w.at = now; w.framing < 0 {
			return 0, errFraming
		}
	}
	n, err := w.Conn.Read(p)
	w.framing -= n
	return n, err
}

// add lets so many bytes more come.
func (w *wire) add(n int) { w.framing = min(w.framing+n, maxFraming) }

// Write says, where the server has closed the connection, what it said before.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if w.left != unbounded && err != nil && reset(err) {
		if _, e := w.Conn.Read(make([]byte, 1)); alertCause(e) != nil {
			err = e
		}
	}
	return n, err
}

// NetConn is the connection below.
func (w *wire) NetConn() net.Conn { return w.Conn }

// websocketConn makes a stream of the messages of a WebSocket: MQTT does not care
// where one ends [MQTT-6.0.0-2].
type websocketConn struct {
	*websocket.Conn
	below   *wire
	message io.Reader // the one that is being read; nil: none
}

func newWebsocketConn(ws *websocket.Conn, below *wire) *websocketConn {
	below.left, below.framing, below.at = unbounded, maxFraming, time.Now()
	// That of the library gives the broker one second to read the answer, and then
	// ends the connection with a bare timeout.
	ws.SetPingHandler(func(data string) error {
		err := ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTimeout))
		switch {
		case errors.Is(err, websocket.ErrCloseSent):
			return nil
		case timedOut(err):
			return errStalled
		}
		return err
	})
	return &websocketConn{Conn: ws, below: below}
}

func (c *websocketConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.NextReader()
			switch {
			case err != nil:
				return 0, err
			case kind != websocket.BinaryMessage:
				return 0, violation("MQTT-6.0.0-1", "MQTT in a WebSocket message of text, not of bytes", nil)
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		c.below.add(framingRatio * n)
		if err == io.EOF {
			c.message = nil
			if err = nil; n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (c *websocketConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *websocketConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
