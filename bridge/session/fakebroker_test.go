package session

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// patience is how long a test waits for what must happen at once.
const patience = 2 * maxQuietTest // longer than a connection is left alone

// broker is a scripted broker: the test accepts its connections and says every
// word of them.
type broker struct {
	t     testing.TB
	ln    net.Listener // nil: in memory
	conns chan net.Conn
	mute  bool // does not answer PINGREQ
}

// newBroker listens on 127.0.0.1.
func newBroker(t testing.TB) *broker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, ln: ln, conns: make(chan net.Conn, 16)}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.conns <- conn
		}
	}()
	return b
}

// newPipeBroker has connections in memory, which fit a synctest bubble.
func newPipeBroker(t testing.TB) *broker {
	return &broker{t: t, conns: make(chan net.Conn, 16)}
}

// dial stands in for Session.dial.
func (b *broker) dial(ctx context.Context, _ *url.URL) (net.Conn, error) {
	ours, theirs := net.Pipe()
	b.conns <- theirs
	return pipe{ours}, ctx.Err()
}

// pipe is a pipe that says what a socket says when the other end is closed.
type pipe struct{ net.Conn }

func (p pipe) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if errors.Is(err, io.ErrClosedPipe) {
		err = syscall.EPIPE
	}
	return n, err
}

// SetWriteDeadline works on a socket whose other end is closed.
func (p pipe) SetWriteDeadline(t time.Time) error {
	_ = p.Conn.SetWriteDeadline(t)
	return nil
}

// use makes a session connect to a broker in memory.
func (b *broker) use(s *Session) { s.open = b.dial }

func (b *broker) url() string {
	if b.ln == nil {
		return "mqtt://memory:1883"
	}
	return "mqtt://" + b.ln.Addr().String()
}

// accept waits for the next connection.
func (b *broker) accept() *peer {
	b.t.Helper()
	p := b.acceptSilent()
	go p.readAll()
	return p
}

// acceptSilent accepts a connection and reads nothing from it.
func (b *broker) acceptSilent() *peer {
	b.t.Helper()
	select {
	case conn := <-b.conns:
		p := &peer{t: b.t, Conn: conn, mute: b.mute, in: make(chan packets.ControlPacket, 1<<14)}
		b.t.Cleanup(func() { conn.Close() })
		return p
	case <-time.After(3 * patience):
		b.t.Fatal("no connection")
		return nil
	}
}

// acceptConnect accepts a connection and reads its CONNECT, and nothing more.
func (b *broker) acceptConnect() *peer {
	b.t.Helper()
	p := b.acceptSilent()
	if _, err := packets.ReadPacket(p); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// greet accepts a connection, its CONNECT and its SUBSCRIBEs.
func (b *broker) greet(present bool, subscribes int) *peer {
	b.t.Helper()
	p := b.accept()
	p.connack(present)
	for range subscribes {
		p.suback()
	}
	return p
}

var pingResponse = frame(typePingresp << 4)

// testConn is a connection that the broker has accepted, and that nobody reads.
func testConn(conn net.Conn, in *inbox, out *outbox) *mqttConn {
	c := newMQTTConn(conn, in, out, codec311{})
	c.accepted(false)
	c.running.Go(c.writeLoop)
	return c
}

// readAll has a new connection shake hands and read to its end, which is an error unless
// the connection was closed.
func (c *mqttConn) readAll() error {
	present, err := c.handshake(nil, time.Time{})
	if err != nil {
		return c.fail(err)
	}
	c.accepted(present)
	c.running.Go(c.writeLoop)
	c.readLoop()
	c.running.Wait()
	if errors.Is(c.cause, errBrokerClosed) {
		return nil
	}
	return c.cause
}

// end ends a connection.
func (c *mqttConn) end() {
	_ = c.fail(net.ErrClosed)
	c.waitClosed()
}

// peer is the broker's end of one connection.
type peer struct {
	t testing.TB
	net.Conn
	mute    bool
	inOrder bool                       // PINGREQ is answered by the test, in its turn
	in      chan packets.ControlPacket // closed at the end of the stream
}

func (p *peer) readAll() {
	defer close(p.in)
	for {
		cp, err := packets.ReadPacket(p.Conn)
		if err != nil {
			return
		}
		if _, ping := cp.(*packets.PingreqPacket); ping && !p.mute && !p.inOrder {
			go func() { _, _ = p.Write(pingResponse) }() // a pipe has no room: both ends might stand in a write
			continue
		}
		p.in <- cp
	}
}

// next waits for a packet; nil is the end of the stream.
func (p *peer) next() packets.ControlPacket {
	p.t.Helper()
	select {
	case cp := <-p.in:
		return cp
	case <-time.After(patience):
		p.t.Fatal("no packet")
		return nil
	}
}

// expect waits for a packet of one type, letting PINGREQ pass.
func expect[T packets.ControlPacket](p *peer) T {
	p.t.Helper()
	for {
		switch cp := p.next().(type) {
		case T:
			return cp
		case *packets.PingreqPacket:
		default:
			var want T
			p.t.Fatalf("got %T %v, want %T", cp, cp, want)
		}
	}
}

func (p *peer) send(frames ...[]byte) {
	p.t.Helper()
	if _, err := p.Write(slices.Concat(frames...)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) connack(present bool) *packets.ConnectPacket {
	p.t.Helper()
	c := expect[*packets.ConnectPacket](p)
	p.send(connack(present, 0))
	return c
}

// suback answers a SUBSCRIBE, granting everything.
func (p *peer) suback() *packets.SubscribePacket {
	p.t.Helper()
	s := expect[*packets.SubscribePacket](p)
	p.send(suback(s.MessageID, s.Qoss...))
	return s
}

// puback waits for PUBACKs and returns their packet identifiers.
func (p *peer) puback(n int) (ids []uint16) {
	p.t.Helper()
	for range n {
		ids = append(ids, expect[*packets.PubackPacket](p).MessageID)
	}
	return ids
}

// frame builds any frame.
func frame(first byte, body ...byte) []byte {
	b := []byte{first}
	n := len(body)
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(append(b, byte(n)), body...)
}

func connack(present bool, code byte) []byte {
	if present {
		return frame(0x20, 1, code)
	}
	return frame(0x20, 0, code)
}

func suback(id uint16, codes ...byte) []byte {
	return frame(0x90, append(binary.BigEndian.AppendUint16(nil, id), codes...)...)
}

// publish builds a PUBLISH; the flags are the low four bits of its first byte.
func publish(flags byte, topic string, id uint16, payload string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	if flags&0x06 != 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return frame(0x30|flags, append(body, payload...)...)
}

const (
	qos0   = 0x00
	qos1   = 0x02
	qos2   = 0x04
	dup    = 0x08
	retain = 0x01
)

// client is a running session whose messages are kept for the test.
type client struct {
	*Session
	t    testing.TB
	log  *logBuffer
	stop func()

	mu      sync.Mutex
	got     []Message
	states  []State
	changed chan struct{} // something came
}

// start runs a session against brokers until the test ends.
func start(t testing.TB, o Options, edit ...func(*Session)) *client {
	t.Helper()
	c := &client{t: t, log: new(logBuffer), changed: make(chan struct{}, 1)}
	handle := o.Handle
	o.Handle = func(batch []Message) {
		if handle != nil {
			handle(batch)
		}
		c.mu.Lock()
		for _, m := range batch {
			m.Topic, m.Payload = bytes.Clone(m.Topic), bytes.Clone(m.Payload)
			c.got = append(c.got, m)
		}
		c.mu.Unlock()
		c.tell()
	}
	o.Changed = func(s State) {
		c.mu.Lock()
		c.states = append(c.states, s)
		c.mu.Unlock()
		c.tell()
	}
	o.ClientID = cmp.Or(o.ClientID, "c")
	o.Logger = slog.New(slog.NewTextHandler(c.log, nil))
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edit {
		f(s)
	}
	c.Session = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	c.stop = func() { cancel(); <-done }
	t.Cleanup(c.stop)
	return c
}

func (c *client) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// until waits for a condition of what has come so far.
func (c *client) until(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.After(3 * patience)
	for {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.changed:
		case <-deadline:
			c.t.Fatalf("never: %s; state %+v", what, c.State())
		}
	}
}

// messages waits for n messages and returns all there are.
func (c *client) messages(n int) []Message {
	c.t.Helper()
	c.until(fmt.Sprintf("%d messages", n), func() bool { return len(c.got) >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// reached waits until one of the states told so far is as wanted, and returns it.
func (c *client) reached(what string, ok func(State) bool) (state State) {
	c.t.Helper()
	c.until(what, func() bool {
		i := slices.IndexFunc(c.states, ok)
		if i >= 0 {
			state = c.states[i]
		}
		return i >= 0
	})
	return state
}

func connected(s State) bool { return s.Connected }

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// subscriptions are all that are wanted, in their order.
func (c *client) subscriptions() []SubscriptionState {
	c.Session.mu.Lock()
	defer c.Session.mu.Unlock()
	subs := make([]SubscriptionState, len(c.subs.wanted))
	for i, sub := range c.subs.wanted {
		subs[i] = sub.SubscriptionState
	}
	return subs
}
