package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// listenWith serves each connection with a function, which is to read and to write;
// it is closed afterwards.
func listenWith(t *testing.T, serve func(net.Conn)) (host string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// hears reads what comes first.
func hears(conn net.Conn) { _, _ = conn.Read(make([]byte, 4096)) }

// says reads what comes first, and answers it.
func says(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		hears(conn)
		_, _ = io.WriteString(conn, answer)
		hears(conn) // until the other side has read it, and closes
	}
}

// closes reads what comes first and closes; resets does not read it.
func closes(conn net.Conn) { hears(conn) }

func resets(conn net.Conn) {
	hears(conn)
	_ = conn.(*net.TCPConn).SetLinger(0)
}

// secures serves TLS.
func secures(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		over := tls.Server(conn, config)
		if over.Handshake() == nil {
			hears(over)
		}
		_ = over.Close()
	}
}

// answers serves HTTP.
func answers(t *testing.T, handle http.HandlerFunc) (host string) {
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

var ownPort = regexp.MustCompile(`127\.0\.0\.1:\d+->`)

// Each cause is named as itself, and says what to do about it; it is logged once,
// however often it comes.
func TestEachCauseIsNamedAsItselfAndLoggedOnce(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	pool, others := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(ca.cert)
	others.AddCert(other.cert)
	trust := &tls.Config{RootCAs: pool}
	server := func(edit func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.issueAs(t, "127.0.0.1", edit)}}
	}
	good := server(nil)
	demanding := server(nil)
	demanding.ClientAuth, demanding.ClientCAs = tls.RequireAndVerifyClientCert, pool
	demanding12 := demanding.Clone()
	demanding12.MaxVersion = tls.VersionTLS12
	old := server(nil)
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	foreign := trust.Clone()
	foreign.Certificates = []tls.Certificate{other.issue(t, "gateway")}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	var checks []func()
	for _, tt := range []struct {
		name, scheme, host string
		tls                *tls.Config
		want               []string
	}{
		{"nobody listens", "mqtt", dead.Addr().String(), nil, []string{"connection refused", "nothing listens there"}},
		{"nobody listens, TLS", "mqtts", dead.Addr().String(), nil, []string{"connection refused", "nothing listens there"}},
		{"nobody listens, WebSocket", "ws", dead.Addr().String(), nil, []string{"connection refused", "nothing listens there"}},

		{"closes before CONNACK", "mqtt", listenWith(t, closes), nil, []string{"closed the connection before it answered CONNECT", "mqtts:// is for one with TLS"}},
		{"resets before CONNACK", "mqtt", listenWith(t, resets), nil, []string{"closed the connection before it answered CONNECT (by a reset)", "mqtts:// is for one with TLS"}},
		{"closes before CONNACK, TLS", "mqtts", listenWith(t, secures(good)), trust, []string{"closed the connection before it answered CONNECT", "cert_file"}},
		{"a TLS port that answers with an alert", "mqtt", listenWith(t, says("\x15\x03\x01\x00\x02\x02\x46")), nil, []string{"the port speaks TLS", "mqtts://"}},
		{"a TLS port", "mqtt", listenWith(t, secures(good)), nil, []string{"closed the connection before it answered CONNECT", "mqtts:// is for one with TLS"}},
		{"a web server", "mqtt", listenWith(t, says("HTTP/1.1 400 Bad Request\r\n\r\n")), nil, []string{"the port speaks HTTP", "ws://"}},
		{"an SSH server", "mqtt", listenWith(t, says("SSH-2.0-OpenSSH_9.6\r\n")), nil, []string{"SSH", "MQTT port"}},
		{"a mail server", "mqtt", listenWith(t, says("220 mail.example ESMTP\r\n")), nil, []string{"does not speak MQTT", "220 mail", "MQTT port"}},
		{"nonsense", "mqtt", listenWith(t, says("\x00\x01\x02\x03")), nil, []string{"broker broke the protocol"}},

		{"TLS to a port without: closed", "mqtts", listenWith(t, closes), trust, []string{"closed the connection in the TLS handshake", "mqtt:// is for one without"}},
		{"TLS to a port without: reset", "mqtts", listenWith(t, resets), trust, []string{"closed the connection in the TLS handshake", "mqtt:// is for one without"}},
		{"TLS to a port without: answered", "mqtts", listenWith(t, says("HTTP/1.1 400 Bad Request\r\n\r\n")), trust, []string{"does not speak TLS", "HTTP/", "mqtt:// is for a port without TLS"}},
		{"TLS to a port without, WebSocket", "wss", listenWith(t, says("HTTP/1.1 400 Bad Request\r\n\r\n")), trust, []string{"does not speak TLS", "ws:// is for a port without TLS"}},
		{"an unknown authority", "mqtts", listenWith(t, secures(good)), nil, []string{"signed by an unknown authority", "test authority", "broker.tls.ca_file"}},
		{"an unknown authority, WebSocket", "wss", listenWith(t, secures(good)), nil, []string{"signed by an unknown authority", "broker.tls.ca_file"}},
		{"another authority", "mqtts", listenWith(t, secures(good)), &tls.Config{RootCAs: others}, []string{"unknown authority", "broker.tls.ca_file has other certificates"}},
		{"signed by itself", "mqtts", listenWith(t, secures(&tls.Config{Certificates: []tls.Certificate{newAuthorityFor(t, "127.0.0.1")}})), nil, []string{"signed by an unknown authority, itself", "broker.tls.ca_file"}},
		{"expired", "mqtts", listenWith(t, secures(server(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))), trust,
			[]string{"has expired on", "the clock of this host says " + time.Now().UTC().Format("2006-01-02")}},
		{"not yet valid", "mqtts", listenWith(t, secures(server(func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Hour)
			c.NotAfter = c.NotBefore.Add(time.Hour)
		}))), trust,
			[]string{"is not valid before", "the clock of this host says " + time.Now().UTC().Format("2006-01-02"), "check the clock"}},
		{"another name", "mqtts", listenWith(t, secures(server(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"broker.example"}, nil }))), trust,
			[]string{`not for "127.0.0.1", but for broker.example`, "broker.tls.server_name"}},
		{"no name", "mqtts", listenWith(t, secures(server(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }))), trust,
			[]string{`not for "127.0.0.1"`, "subject alternative name"}},
		{"for clients only", "mqtts", listenWith(t, secures(server(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))), trust,
			[]string{"of no use here", "have it made anew"}},
		{"asks for a certificate", "mqtts", listenWith(t, secures(demanding)), trust, []string{"alert certificate required", "broker.tls.cert_file"}},
		{"asks for a certificate, TLS 1.2", "mqtts", listenWith(t, secures(demanding12)), trust, []string{"alert ", "broker.tls.cert_file"}},
		{"asks for a certificate, WebSocket", "wss", listenWith(t, secures(demanding)), trust, []string{"alert certificate required", "broker.tls.cert_file"}},
		{"does not know our authority", "mqtts", listenWith(t, secures(demanding)), foreign, []string{"alert ", "client certificate", "broker.tls.cert_file"}},
		{"old TLS", "mqtts", listenWith(t, secures(old)), trust, []string{"TLS 1.2 and 1.3"}},

		{"no such path", "ws", answers(t, http.NotFound), nil, []string{"404 Not Found", `"/mqtt"`, "check the path"}},
		{"wants a login", "ws", answers(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), nil, []string{"401 Unauthorized", "login"}},
		{"a gateway without broker", "ws", answers(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), nil, []string{"502 Bad Gateway", "check that the broker runs"}},
		{"moved", "ws", answers(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://broker.example/ws", http.StatusMovedPermanently)
		}), nil,
			[]string{"301", `"https://broker.example/ws"`}},
		{"a page", "ws", answers(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }), nil, []string{"200 OK", "WebSocket"}},
		{"WebSocket to a port of MQTT: closed", "ws", listenWith(t, closes), nil, []string{"closed the connection when asked for a WebSocket", "mqtt://"}},
		{"WebSocket to a port of MQTT: reset", "ws", listenWith(t, resets), nil, []string{"closed the connection when asked for a WebSocket", "mqtt://"}},
		{"WebSocket to a port of MQTT: answered", "ws", listenWith(t, says("\x20\x02\x00\x01")), nil, []string{"does not speak HTTP", "mqtt://"}},
		{"WebSocket to a port with TLS", "ws", listenWith(t, secures(good)), nil, []string{"closed the connection when asked for a WebSocket", "wss:// for WebSocket with TLS"}},
		{"WebSocket to a port with TLS that answers with an alert", "ws", listenWith(t, says("\x15\x03\x01\x00\x02\x02\x46")), nil, []string{"the port speaks TLS", "wss://"}},
		{"an endless answer", "ws", listenWith(t, func(conn net.Conn) {
			hears(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
			for n := 0; ; n++ {
				if _, err := fmt.Fprintf(conn, "X-%d: %s\r\n", n, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}), nil, []string{"longer than 65536 bytes"}},
	} {
		u := tt.scheme + "://" + tt.host
		if tt.scheme == "ws" || tt.scheme == "wss" {
			u += "/mqtt"
		}
		c := start(t, Options{URLs: []string{u}, TLS: func(string) (*tls.Config, error) { return tt.tls, nil }})
		checks = append(checks, func() { // when all have begun, for each takes its time
			t.Run(tt.name, func(t *testing.T) {
				c.t = t
				c.reached("failed a few times", func(s State) bool { return s.Attempts == 3 })
				c.stop()
				log, text := c.log.String(), c.State().LastErr
				if n := strings.Count(log, "level=WARN"); n != 1 {
					t.Errorf("%d lines:\n%s", n, log)
				}
				if !strings.HasPrefix(text, u+": ") || ownPort.MatchString(text) {
					t.Errorf("got %s", text)
				}
				for _, want := range tt.want {
					if !strings.Contains(text, want) {
						t.Errorf("got %s\nwant %s", text, want)
					}
				}
			})
		})
	}
	for _, check := range checks {
		check()
	}
}

// dns makes the resolver of this process ask a server of ours, which answers with a
// return code; with 0 it does not answer.
func dns(t *testing.T, code byte) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if code > 0 {
				b[2], b[3] = b[2]|0x80, 0x80|code // an answer, of a server that recurs
				_, _ = pc.WriteTo(b[:n], from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close() })
	resolveBy(t, pc.LocalAddr().String())
}

// resolveBy has names resolved by a DNS server.
func resolveBy(t *testing.T, server string) {
	t.Helper()
	was := net.DefaultResolver
	var mu sync.Mutex
	var asking []net.Conn // a question without an answer is waited for after who asked has gone
	over := false
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil, net.ErrClosed
		}
		conn, err := new(net.Dialer).DialContext(ctx, "udp", server)
		if err == nil {
			asking = append(asking, conn)
		}
		return conn, err
	}}
	t.Cleanup(func() {
		net.DefaultResolver = was
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, conn := range asking {
			conn.Close()
		}
	})
}

// A name that DNS does not know, a server that fails and one that is silent are
// three things, and none of them is the broker.
func TestWhatDNSSaysIsNotTakenForTheBroker(t *testing.T) {
	for name, tt := range map[string]struct {
		code byte
		want []string
	}{
		"no such name": {3, []string{`DNS has no address for "broker.example."`, "check the name in broker.url"}},
		"fails":        {2, []string{`DNS fails when asked for "broker.example."`, "server misbehaving", "/etc/resolv.conf"}},
		"silent":       {0, []string{`DNS does not answer when asked for "broker.example."`, "/etc/resolv.conf"}},
	} {
		for _, scheme := range []string{"mqtt", "wss"} {
			if tt.code == 0 && scheme != "mqtt" {
				continue // it takes ten seconds
			}
			t.Run(name+" "+scheme, func(t *testing.T) {
				dns(t, tt.code)
				c := start(t, Options{URLs: []string{scheme + "://broker.example."}})
				text := c.reached("failed", func(s State) bool { return s.LastErr != "" }).LastErr
				c.stop()
				for _, want := range tt.want {
					if !strings.Contains(text, want) {
						t.Errorf("got %s\nwant %s", text, want)
					}
				}
				if strings.Contains(text, "no answer within") {
					t.Error(text)
				}
			})
		}
	}
}

func TestWhatTheKernelSaysHasAHint(t *testing.T) {
	u := &url.URL{Scheme: "mqtt", Host: "broker.example:1883"}
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1883} }
	for errno, want := range map[syscall.Errno]string{
		syscall.EHOSTUNREACH: "check that it is up, and its address", syscall.ENETUNREACH: "routes", syscall.EPERM: "firewall",
		syscall.EMFILE: "LimitNOFILE=", syscall.EADDRNOTAVAIL: "no free port",
	} {
		err := func(ip string) error {
			return explain(t.Context(), u, &net.OpError{Op: "dial", Net: "tcp", Addr: at(ip), Err: os.NewSyscallError("connect", errno)})
		}
		one, two := err("192.0.2.1"), err("192.0.2.2")
		if !strings.Contains(one.Error(), want) || !strings.Contains(one.Error(), "192.0.2.1:1883") || !errors.Is(one, errno) {
			t.Errorf("%v: got %v", errno, one)
		}
		// A name can stand for many addresses, of which each connect meets another.
		if causeOf(fmt.Errorf("u: %w", one)) != causeOf(fmt.Errorf("u: %w", two)) {
			t.Errorf("two causes: %v, %v", one, two)
		}
	}
	silent := explain(t.Context(), u, &net.OpError{Op: "dial", Net: "tcp", Addr: at("192.0.2.1"), Err: os.ErrDeadlineExceeded})
	if text := silent.Error(); !strings.Contains(text, "no answer within 10s (192.0.2.1:1883)") || !strings.Contains(text, "firewalls") {
		t.Error(text)
	}
}

// What the libraries say has the port of this side in it, another each time.
func TestALineIsWrittenForEachCauseAndNotForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := 40_000
		var errno atomic.Uintptr
		errno.Store(uintptr(syscall.ECONNRESET))
		open := func(context.Context, *url.URL) (net.Conn, error) {
			port++
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.Errno(errno.Load())),
				Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1883}}
		}
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{"mqtt://192.0.2.1", "mqtt://broker.example"}}, func(s *Session) {
			s.open = func(ctx context.Context, u *url.URL) (net.Conn, error) {
				if errno.Load() == 0 {
					return b.dial(ctx, u)
				}
				return open(ctx, u)
			}
		})
		lines := func(want int) {
			t.Helper()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if log := c.log.String(); strings.Count(log, "cannot connect") != want || ownPort.MatchString(log) {
				t.Errorf("want %d lines:\n%s", want, log)
			}
		}
		lines(1)
		errno.Store(uintptr(syscall.EHOSTUNREACH))
		lines(2)
		errno.Store(0)
		b.greet(false, 0)
		synctest.Wait()
		log := strings.Split(strings.TrimSpace(c.log.String()), "\n")
		for i, want := range []string{"connection reset by peer", "no route to host", "connected"} {
			n := regexp.MustCompile(`attempts=(\d+)`).FindStringSubmatch(log[i])
			if !strings.Contains(log[i], want) || (i > 0) != (n != nil) {
				t.Errorf("line %d: %s", i+1, log[i])
			}
		}
		if c.State().Attempts != 0 {
			t.Errorf("connected, and %+v", c.State())
		}
	})
}

// Over a WebSocket a broker closes as over TCP, and that is judged in the same way.
func TestTheEndOfAWebSocketIsThatOfTheConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(wsConn)
		want string
	}{
		"closed": {func(c wsConn) { _ = c.Close() }, errBrokerClosed.Error()},
		"reset":  {func(c wsConn) { _ = c.Conn.(*net.TCPConn).SetLinger(0); _ = c.Close() }, errBrokerReset.Error()},
		"said": {func(c wsConn) {
			_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, "goodbye"), time.Now().Add(time.Second))
			_ = c.Close()
		}, errBrokerClosed.Error() + ": WebSocket close code 1001 goodbye"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &broker{t: t, conns: make(chan net.Conn, 16)}
			c := start(t, Options{URLs: []string{wsServer(t, b, "mqtt") + "/mqtt"}})
			p := b.acceptSilent()
			ws := p.Conn.(wsConn)
			_, _, _ = ws.ws.ReadMessage()
			p.send(connack(false, 0))
			c.reached("connected", connected)
			tt.end(ws)
			text := c.reached("lost", func(s State) bool { return s.Connects == 1 && !s.Connected }).LastErr
			if text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

// saidAndGone is a connection that the other side has closed, after it has said why.
type saidAndGone struct {
	net.Conn
	why error
}

func (saidAndGone) Write([]byte) (int, error)  { return 0, os.NewSyscallError("write", syscall.EPIPE) }
func (c saidAndGone) Read([]byte) (int, error) { return 0, c.why }

// A server that closes before it has read the request may have said why.
func TestWhatAServerSaysBeforeItReadsTheRequestIsHeard(t *testing.T) {
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}
	for _, why := range []error{alert, io.EOF} {
		bounded := &wire{Conn: saidAndGone{why: why}, left: maxAnswer}
		_, err := bounded.Write([]byte("GET / HTTP/1.1\r\n"))
		if heard := alertCause(err) != nil; heard != (why == error(alert)) || err == nil {
			t.Errorf("it said %v, heard is %v", why, err)
		}
	}
}

// deaf is a connection that minds no deadline.
type deaf struct{ net.Conn }

func (deaf) SetDeadline(time.Time) error { return nil }

// Whether the time for an answer ends the connection or the reading of it.
func TestAServerThatDoesNotAnswerForAWebSocketIsSaidNotTo(t *testing.T) {
	for _, wrap := range []func(net.Conn) net.Conn{func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return deaf{c} }} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
			defer cancel()
			_, err := openWebsocket(ctx, &url.URL{Scheme: "ws", Host: "broker:80"}, wrap(ours))
			_ = ours.Close()
			if err == nil || !strings.Contains(err.Error(), "no answer within 10s when asked for a WebSocket") {
				t.Error(err)
			}
		})
	}
}

// A broker that breaks the protocol in one way does so with other bytes each time.
func TestBytesAreNoCause(t *testing.T) {
	one, two := violation("MQTT-2.3.1-7", "a SUBACK that nobody waits for", []byte{0x90, 3}), violation("MQTT-2.3.1-7", "a SUBACK that nobody waits for", []byte{0x90, 4})
	if causeOf(one) != causeOf(fmt.Errorf("%w", two)) || one.Error() == two.Error() {
		t.Errorf("%q, %q", causeOf(one), causeOf(two))
	}
	if other := violation("MQTT-3.8.4-2", "a SUBACK that nobody waits for", []byte{0x90, 3}); causeOf(one) == causeOf(other) {
		t.Error("another clause is the same cause")
	}
}
