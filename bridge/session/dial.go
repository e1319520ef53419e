package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"topicast/internal/brokerurl"
)

const (
	// dialTimeout bounds the way to a broker up to the MQTT handshake: names,
	// TCP, TLS, WebSocket.
	dialTimeout = 10 * time.Second

	// dialPause is how long a host or a name server may give no answer before it is asked
	// once more.
	dialPause = 3 * time.Second

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

// dial opens the connection to a broker. A proxy is used only where the options name it,
// whatever the environment says (ALL_PROXY, HTTP_PROXY): a bridge that silently took another
// way to its broker than the one in its configuration would be hard to explain.
func (s *Session) dial(parent context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(parent, dialTimeout)
	defer cancel()
	secure := brokerurl.Secure(u)
	var config *tls.Config
	if secure {
		var err error
		if config, err = s.tlsConfig(u.Hostname()); err != nil {
			return nil, err
		}
		if brokerurl.WebSocket(u) && config != nil && config.NextProtos != nil {
			config = config.Clone()
			config.NextProtos = nil // those are MQTT's, and here it is HTTP's port
		}
	}
	conn, err := s.dialBroker(ctx, u)
	if err != nil {
		return nil, explain(parent, u, err)
	}
	tune(conn)
	if secure {
		over := tls.Client(conn, withServerName(config, u.Hostname()))
		if err := over.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			if parent.Err() != nil {
				return nil, context.Cause(parent)
			}
			return nil, tlsHandshakeCause(u, config, err)
		}
		conn = over
	}
	if brokerurl.WebSocket(u) {
		return openWebsocket(ctx, u, conn)
	}
	return conn, nil
}

// dialBroker opens the connection that MQTT, TLS or WebSocket is spoken on.
func (s *Session) dialBroker(ctx context.Context, u *url.URL) (net.Conn, error) {
	// Resolvers that are one share a question that has no answer yet.
	as := net.DefaultResolver
	own := func() *net.Resolver {
		return &net.Resolver{PreferGo: as.PreferGo, StrictErrors: as.StrictErrors, Dial: as.Dial}
	}
	service := brokerurl.Service(u)
	if service == "" {
		return dialAgain(ctx, func(ctx context.Context) (net.Conn, error) { return s.dialAt(ctx, u, u.Host, own()) })
	}
	// The records are in the order of their priorities, at random by weight within one (RFC 2782).
	_, records, err := own().LookupSRV(ctx, service, "tcp", u.Hostname())
	if err != nil {
		return nil, err
	}
	var all []error
	for i, r := range records {
		end, _ := ctx.Deadline() // one that does not answer leaves the others their part
		part, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(records)-i))
		address := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
		conn, err := dialAgain(part, func(ctx context.Context) (net.Conn, error) { return s.dialAt(ctx, u, address, own()) })
		cancel()
		if err == nil {
			return conn, nil
		}
		all = append(all, fmt.Errorf("%s: %w", address, err))
	}
	return nil, errors.Join(all...)
}

// dialAt opens a connection to one address of a broker.
func (s *Session) dialAt(ctx context.Context, u *url.URL, address string, resolver *net.Resolver) (net.Conn, error) {
	d := &net.Dialer{Resolver: resolver}
	if brokerurl.Unix(u) {
		return d.DialContext(ctx, "unix", u.Path)
	}
	bindTo(d, s.o.Bind)
	if s.o.Proxy != nil {
		return s.o.Proxy.through(ctx, d.DialContext, address)
	}
	return d.DialContext(ctx, "tcp", address)
}

// dialAgain dials, and does so again beside it as long as there is no answer; the first that
// comes counts. A host or a name server that is back answers what it is asked then. What it
// was asked before is lost, and is repeated late: a SYN 3 and 7 s after the first (tcp(7),
// tcp_syn_retries), the question for a name 5 s after it (resolv.conf(5), timeout).
func dialAgain(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	again := time.NewTicker(dialPause)
	defer again.Stop()
	for n := 0; ; n++ {
		go func() {
			conn, err := dial(ctx)
			results <- result{conn, err}
		}()
		select {
		case first := <-results:
			cancel()
			for range n {
				if late := <-results; late.err == nil {
					_ = late.conn.Close()
				}
			}
			return first.conn, first.err
		case <-again.C:
		}
	}
}

// tlsConfig asks for the configuration anew, so that changed certificates count
// at the next connect.
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

// withServerName gives a configuration of TLS the name that the broker's
// certificate is held to, where it has none.
func withServerName(c *tls.Config, host string) *tls.Config {
	switch {
	case c == nil:
		return &tls.Config{ServerName: host}
	case c.ServerName == "":
		c = c.Clone()
		c.ServerName = host
	}
	return c
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
