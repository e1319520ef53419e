package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	// connectTimeout bounds dialling and the wait for CONNACK together.
	connectTimeout = 2 * dialTimeout

	// handOver bounds how long a call into paho waits for its goroutines to
	// take a packet: they do at once, or have ended without saying so.
	handOver = time.Second

	// farewellTimeout is how long the broker may take to acknowledge the last
	// message, the offline status.
	farewellTimeout = 2 * time.Second

	// leaveTimeout bounds the whole of an orderly end, when the broker reads
	// nothing any more.
	leaveTimeout = farewellTimeout + 2*drainTimeout

	// maxPingTimeout bounds how long the broker may take for a sign of life. On a
	// slow line the question waits behind what is written; see minUnsent.
	maxPingTimeout = 20 * time.Second
)

// A link is one connection, with a paho client of its own. paho could reconnect
// by itself; but then it tells of a present session only the first time, sleeps
// where it cannot be woken, mixes the acknowledgements of two connections, and
// does not say where one ends.
type link struct {
	client  mqtt.Client
	lane    *lane
	broker  string
	present bool          // the broker remembered the session
	before  uint64        // messages handed on before it
	lost    chan struct{} // closed when paho has cleared up after a lost connection
	err     error         // why, in paho's words; valid when lost is closed

	announcing bool // the online status is on its way
	resting    bool // it is left alone, or was lost while it was; see ending.go
}

// connectTo opens a connection to one address and does the handshake.
func (s *Session) connectTo(ctx context.Context, u *url.URL) (*link, error) {
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	l := &link{broker: u.String(), before: s.in.received.Load(), lost: make(chan struct{})}
	o := s.clientOptions(u)
	o.SetPassword(password)
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		l.err = err
		close(l.lost)
	})
	var dialErr error
	stop := func() bool { return false }
	o.SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
		conn, err := s.open(ctx, u)
		if err != nil {
			dialErr = dialError(ctx, err)
			return nil, err
		}
		l.lane = newLane(conn, &s.in, s.out)
		l.lane.keepAlive = uint16(s.o.KeepAlive / time.Second)
		stop = context.AfterFunc(ctx, func() { _ = l.lane.fail(context.Cause(ctx)) })
		return l.lane, nil
	})
	l.client = mqtt.NewClient(o)
	token := l.client.Connect().(*mqtt.ConnectToken)
	<-token.Done()
	stop()
	if token.Error() == nil {
		l.present = token.SessionPresent()
		return l, nil
	}
	if l.lane == nil {
		return nil, dialErr
	}
	cause := l.lane.fail(net.ErrClosed)
	<-l.lane.idle
	return nil, handshakeError(token, cause)
}

// handshakeError says why a connection that was opened came to nothing.
func handshakeError(token *mqtt.ConnectToken, cause error) error {
	code := token.ReturnCode()
	switch {
	case code >= 1 && code <= 5:
		return &RefusedError{Code: code}
	case timedOut(cause):
		return fmt.Errorf("no CONNACK within %v; is this its MQTT port?", connectTimeout)
	case errors.Is(cause, errBrokerClosed), errors.Is(cause, errBrokerReset):
		return fmt.Errorf("%w before it answered CONNECT; is this its MQTT port, with the right scheme (mqtt, mqtts, ws, wss)?", cause)
	case errors.Is(cause, net.ErrClosed):
		return token.Error()
	}
	return cause
}

func (s *Session) password() (string, error) {
	if s.o.Password == nil {
		return "", nil
	}
	password, err := s.o.Password()
	switch {
	case err != nil:
		return "", fmt.Errorf("password: %w", err)
	case password != "" && s.o.Username == "":
		return "", errors.New("password without a user name; set username [MQTT-3.1.2-22]")
	}
	return password, nil
}

// clientOptions are the options of a paho client for one connection.
func (s *Session) clientOptions(u *url.URL) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{u}
	o.SetProtocolVersion(4) // else it would try MQTT 3.1 after any failure
	o.SetClientID(s.o.ClientID)
	o.SetUsername(s.o.Username)
	o.SetCleanSession(s.o.Clean)
	o.SetKeepAlive(max(s.o.KeepAlive/2, time.Second)) // when to ask; what the broker is told is the lane's to say
	o.SetPingTimeout(min(s.o.KeepAlive, maxPingTimeout))
	o.SetConnectTimeout(connectTimeout)
	o.SetWriteTimeout(handOver)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetStore(noStore{})
	if s.o.Status != nil {
		o.SetWill(s.o.Status.Topic, statusOffline, 1, true)
	}
	return o
}

// await waits for the broker's answer to a packet.
func (l *link) await(ctx context.Context, t mqtt.Token, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-l.lost:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errNoAnswer(d)
	}
}

// over says whether there is no use for the link any more.
func (l *link) over(ctx context.Context) bool {
	select {
	case <-l.lost:
		return true
	default:
		return ctx.Err() != nil
	}
}

// settle gives paho, where it refused a packet, the time to say that the link is lost.
func (l *link) settle(ctx context.Context) {
	select {
	case <-l.lost:
	case <-ctx.Done():
	case <-time.After(handOver):
	}
}

// say publishes a status message, retained and with QoS 1, and waits until the
// broker has it. It is not kept for later: each connection says it anew.
func (l *link) say(ctx context.Context, id uint16, topic, payload string) error {
	p := Publication{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true}
	ctx, cancel := context.WithTimeoutCause(ctx, pubackTimeout, errNoAnswer(pubackTimeout))
	defer cancel()
	if err := l.lane.say(p.appendTo(nil, id), ctx.Done()); err != nil {
		return err
	}
	select {
	case <-l.lane.heard[id-onlineID]:
		return nil
	case <-l.lost:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// disconnect writes what is acknowledged, then DISCONNECT, and waits until
// nothing of the connection is left.
func (l *link) disconnect() {
	_ = l.lane.flush()
	const limit = uint(2 * drainTimeout / time.Millisecond)
	l.client.Disconnect(limit)
	// It has returned because all is done, or because something hangs in a
	// write, which this ends. Then the second call waits for the first.
	_ = l.lane.fail(net.ErrClosed)
	l.client.Disconnect(limit)
	l.lane.finish()
}

// ended waits for the remains of a lost connection, and says what ended it.
func (l *link) ended() error {
	cause := l.lane.fail(net.ErrClosed)
	l.lane.finish()
	if cause == net.ErrClosed {
		return l.err // paho's own judgement: no answer to PINGREQ
	}
	return cause
}

// noStore keeps nothing: paho neither publishes nor acknowledges.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
