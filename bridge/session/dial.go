package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	// dialTimeout bounds the way to a broker up to the MQTT handshake: names,
	// TCP, TLS, WebSocket.
	dialTimeout = 10 * time.Second

	// userTimeout is how long sent bytes may stay without a TCP
	// acknowledgement before the kernel gives up the connection, where it can
	// be told (RFC 5482, tcp(7) TCP_USER_TIMEOUT).
	userTimeout = 20 * time.Second

	// What the kernel keeps of a connection and has not sent is bounded, where it can
	// be told (tcp(7)), to what the line carries in unsentTime, and minUnsent at least. By
	// itself it takes up to 4 MiB (tcp_wmem): over a slow line minutes of QoS 0, behind
	// which a PINGREQ waits as long, and is taken for unanswered. 128 KiB are 16 s at
	// 64 kbit/s; on a fast line they would be gone before we are woken for more.
	minUnsent  = 128 << 10
	unsentTime = 100 * time.Millisecond
)

// keepAlive makes the kernel probe an idle connection: 10 s after the last
// byte, then each 5 s, three times.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// parseURL reads the address of a broker.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the address, which may hold a password
		}
		return nil, fmt.Errorf("broker url: %w", err)
	}
	switch port, known := defaultPorts[u.Scheme]; {
	case !known:
		return nil, fmt.Errorf("broker url %q: unknown scheme %q; use mqtt, mqtts, ws or wss", u.Redacted(), u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("broker url %q: no host", u.Redacted())
	case u.User != nil:
		return nil, fmt.Errorf("broker url %q: credentials in the address would be logged; use username and password_file", u.Redacted())
	case (u.Scheme == "mqtt" || u.Scheme == "mqtts") && u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("broker url %q: %s has no path", u.Redacted(), u.Scheme)
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if u.Path == "/" && u.Scheme != "ws" && u.Scheme != "wss" {
		u.Path = ""
	}
	return u, nil
}

// dial opens the connection to a broker. Proxies are not used, whatever the
// environment says (ALL_PROXY, HTTP_PROXY): a bridge that silently took another
// way to its broker than the one in its configuration would be hard to explain.
func (s *Session) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var config *tls.Config
	if u.Scheme == "mqtts" || u.Scheme == "wss" {
		var err error
		if config, err = s.tlsConfig(u.Hostname()); err != nil {
			return nil, err
		}
	}
	var conn net.Conn
	var err error
	switch u.Scheme {
	case "ws", "wss":
		conn, err = dialWebsocket(ctx, u, config)
	case "mqtts":
		conn, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	default:
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	}
	if err != nil {
		return nil, err
	}
	tune(conn)
	return conn, nil
}

// tlsConfig asks for the configuration anew, so that changed certificates count
// at the next connect. The dialers verify the broker's name where it names none.
func (s *Session) tlsConfig(host string) (*tls.Config, error) {
	if s.o.TLS == nil {
		return nil, nil
	}
	c, err := s.o.TLS(host)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

// dialWebsocket opens a WebSocket and asks for the subprotocol "mqtt"
// [MQTT-6.0.0-3]. The dialer of the library takes no context: where ctx ends
// first, what it is at is left to end by itself, within as long again.
func dialWebsocket(ctx context.Context, u *url.URL, config *tls.Config) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialed := make(chan result, 1)
	go func() {
		direct := &mqtt.WebsocketOptions{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
		conn, err := mqtt.NewWebsocket(u.String(), config, 2*dialTimeout, nil, direct) // ctx ends first, and says it better
		dialed <- result{conn, err}
	}()
	select {
	case r := <-dialed:
		if r.err != nil {
			return nil, fmt.Errorf("websocket: %w", r.err)
		}
		// [MQTT-6.0.0-4]; a server that names none at all may still speak it.
		if c, ok := r.conn.(interface{ Subprotocol() string }); ok && c.Subprotocol() != "" && c.Subprotocol() != "mqtt" {
			_ = r.conn.Close()
			return nil, fmt.Errorf("websocket: server chose the subprotocol %q instead of \"mqtt\"", c.Subprotocol())
		}
		return r.conn, nil
	case <-ctx.Done():
		go func() {
			if r := <-dialed; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// tune makes the kernel look after the TCP connection below conn. All of it is
// best effort: the keep-alive of MQTT finds a dead broker too, only later.
func tune(conn net.Conn) {
	tcp, ok := bare(conn).(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(keepAlive)
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = setTCP(raw, userTimeout, minUnsent)
	}
}

// unsent bounds what the kernel keeps of a connection and has not sent.
type unsent struct {
	raw   syscall.RawConn // nil: there is nothing to bound
	asked time.Time       // how fast the line is
}

func newUnsent(conn net.Conn) (u unsent) {
	if tcp, ok := bare(conn).(*net.TCPConn); ok {
		u.raw, _ = tcp.SyscallConn()
	}
	return u
}

// fit fits the bound to the line. It is to be called before a write that may have
// to wait.
func (u *unsent) fit(now time.Time) {
	if u.raw != nil && now.Sub(u.asked) >= unsentTime {
		u.asked = now
		_ = fitUnsent(u.raw)
	}
}

// bare is the connection below TLS and WebSocket.
func bare(conn net.Conn) net.Conn {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = inner.NetConn()
	}
}

// dialError says what went wrong in fewer words than net does.
func dialError(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", dialTimeout)
	}
	return err
}
