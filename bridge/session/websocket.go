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
func openWebsocket(ctx context.Context, u *url.URL, below net.Conn) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = below.Close() }) // the library minds the deadline only
	bounded := &answerBound{Conn: below, left: maxAnswer}
	ready := func(context.Context, string, string) (net.Conn, error) { return bounded, nil }
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
		return nil, fmt.Errorf("websocket: server chose the subprotocol %q instead of \"mqtt\"", p)
	}
	bounded.left = unbounded
	return &websocketConn{Conn: ws}, nil
}

const (
	// maxAnswer bounds the answer to the request for a WebSocket. The library keeps
	// all of its headers.
	maxAnswer = 64 << 10
	unbounded = -1
)

var errLongAnswer = fmt.Errorf("the answer to the request for a WebSocket is longer than %d bytes", maxAnswer)

// notHTTP is the error of an answer to the request for a WebSocket that is not HTTP. It is
// not waited for to be a whole line, which it may never be.
type notHTTP struct{ answer []byte }

func (e *notHTTP) Error() string { return fmt.Sprintf("not HTTP: %q", e.answer) }

// answerBound is a connection of which no more than left bytes can be read, and only
// if they are of HTTP.
type answerBound struct {
	net.Conn
	left int
}

func (b *answerBound) Read(p []byte) (int, error) {
	if b.left == unbounded {
		return b.Conn.Read(p)
	}
	if b.left == 0 {
		return 0, errLongAnswer
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	if begin := "HTTP"; b.left == maxAnswer && n > 0 && string(p[:min(n, len(begin))]) != begin[:min(n, len(begin))] {
		return 0, &notHTTP{bytes.Clone(p[:min(n, 16)])}
	}
	b.left -= n
	return n, err
}

// Write says, where the server has closed the connection, what it said before.
func (b *answerBound) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	if b.left != unbounded && err != nil && reset(err) {
		if _, e := b.Conn.Read(make([]byte, 1)); alertCause(e) != nil {
			err = e
		}
	}
	return n, err
}

// NetConn is the connection below.
func (b *answerBound) NetConn() net.Conn { return b.Conn }

// websocketConn makes a stream of the messages of a WebSocket: MQTT does not care
// where one ends [MQTT-6.0.0-2].
type websocketConn struct {
	*websocket.Conn
	message io.Reader // the one that is being read; nil: none
}

func (c *websocketConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			_, message, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			c.message = message
		}
		n, err := c.message.Read(p)
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
