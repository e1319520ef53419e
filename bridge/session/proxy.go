package session

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// Proxy is what a broker is reached through.
type Proxy struct {
	// URL is http://host:port, for CONNECT (RFC 9110, 9.3.6), or socks5://host:port (RFC 1928).
	// The proxy resolves the broker's name.
	URL *url.URL

	// Username and Password are what the proxy is told: Basic (RFC 7617), or RFC 1929. Password
	// is called at every connect; nil: no password.
	Username string
	Password func() (string, error)
}

// maxProxyAnswer bounds the header of an answer to CONNECT.
const maxProxyAnswer = 64 << 10

// errProxy is why a proxy does not lead to the broker.
type errProxy struct {
	proxy string
	err   error
	hint  string
}

func (e *errProxy) Error() string { return fmt.Sprintf("proxy %s: %v", e.proxy, e.err) }
func (e *errProxy) Unwrap() error { return e.err }

// through opens a connection to an address through the proxy; direct opens one to the proxy.
func (p *Proxy) through(ctx context.Context, direct func(ctx context.Context, network, address string) (net.Conn, error), address string) (net.Conn, error) {
	password := ""
	if p.Password != nil {
		var err error
		if password, err = p.Password(); err != nil {
			return nil, fmt.Errorf("proxy: password: %w", err)
		}
	}
	conn, err := direct(ctx, "tcp", p.URL.Host)
	if err != nil {
		return nil, p.fault(err, "")
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if p.URL.Scheme == "socks5" {
		err = p.socks(ctx, conn, address, password)
	} else {
		err = p.connect(conn, address, password)
	}
	switch over := !stop(); {
	case over && errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = p.fault(fmt.Errorf("no answer within %v to whether it connects us", dialTimeout), "")
	case over:
		err = context.Cause(ctx)
	case timedOut(err): // before ctx tells
		err = p.fault(fmt.Errorf("no answer within %v to whether it connects us", dialTimeout), "")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (p *Proxy) fault(err error, hint string) error { return &errProxy{p.URL.Host, err, hint} }

// socks asks a SOCKS 5 proxy for an address.
func (p *Proxy) socks(ctx context.Context, conn net.Conn, address, password string) error {
	var auth *proxy.Auth
	if p.Username != "" {
		auth = &proxy.Auth{User: p.Username, Password: password}
	}
	client, err := proxy.SOCKS5("tcp", p.URL.Host, auth, oneConn{conn})
	if err != nil {
		return p.fault(err, "")
	}
	if _, err = client.(proxy.ContextDialer).DialContext(ctx, "tcp", address); err == nil || timedOut(err) {
		return err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && strings.HasPrefix(op.Op, "socks") {
		err = op.Err // the rest is its address and the broker's
	}
	said, hint := strings.TrimPrefix(err.Error(), "unknown error "), ""
	switch {
	case strings.Contains(said, "authentication"), strings.Contains(said, "no acceptable"):
		hint = "check broker.proxy.username and password_file"
	case strings.Contains(said, "unreachable"), strings.Contains(said, "refused"), strings.Contains(said, "TTL"):
		said, hint = "it does not reach the broker: "+said, "check broker.url as the proxy sees it"
	case strings.Contains(said, "not allowed"):
		said, hint = "it does not let us: "+said, "have the proxy allow the host and port of broker.url"
	case strings.Contains(said, "unexpected protocol version"), errors.Is(err, io.EOF), reset(err):
		hint = "is this a SOCKS 5 proxy? http:// is for one that takes CONNECT"
	}
	return p.fault(errors.New(said), hint)
}

// oneConn dials a connection that is there.
type oneConn struct{ net.Conn }

func (c oneConn) Dial(string, string) (net.Conn, error) { return c.Conn, nil }

func (c oneConn) DialContext(context.Context, string, string) (net.Conn, error) { return c.Conn, nil }

// connect asks an HTTP proxy for an address.
func (p *Proxy) connect(conn net.Conn, address, password string) error {
	request := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if p.Username != "" {
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.Username+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return p.fault(errors.New(plain(err)), "")
	}
	left := &io.LimitedReader{R: conn, N: maxProxyAnswer}
	r := bufio.NewReader(left)
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	switch {
	case err == nil:
	case timedOut(err):
		return err
	case left.N <= 0:
		return p.fault(fmt.Errorf("its answer to CONNECT is longer than %d bytes", maxProxyAnswer), "is this an HTTP proxy?")
	default:
		return p.fault(fmt.Errorf("answers CONNECT with what is no HTTP: %s", plain(err)), "is this an HTTP proxy? socks5:// is for the other kind")
	}
	// What it says beside the number is not told: it may repeat what it was told, the password.
	said := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	switch code := answer.StatusCode; {
	case code == http.StatusProxyAuthRequired:
		return p.fault(errors.New("it wants a user name and a password, or others ("+said+")"), "set broker.proxy.username and password_file")
	case code == http.StatusForbidden, code == http.StatusMethodNotAllowed:
		return p.fault(errors.New("it does not let us ("+said+")"), "have the proxy allow CONNECT to the host and port of broker.url")
	case code >= 500:
		return p.fault(errors.New("it does not reach the broker ("+said+")"), "check broker.url as the proxy sees it")
	case code/100 != 2:
		return p.fault(errors.New("answers CONNECT with "+said), "")
	case r.Buffered() > 0: // who speaks first is us
		return p.fault(errors.New("it sends what nobody has asked for, behind its answer to CONNECT"), "")
	}
	return nil
}
