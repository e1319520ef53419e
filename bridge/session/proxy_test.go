package session

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The name of the broker, which only the proxies of these tests know.
const hiddenName = "broker.invalid"

// pass passes bytes between the client of a proxy and the broker that it names.
func pass(client net.Conn, r io.Reader, address string, ready func()) {
	host, port, _ := net.SplitHostPort(address)
	if host == hiddenName {
		host = "127.0.0.1"
	}
	broker, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return
	}
	defer broker.Close()
	ready()
	go func() {
		_, _ = io.Copy(broker, r)
		_ = broker.Close()
	}()
	_, _ = io.Copy(client, broker)
}

// httpProxy is a proxy that takes CONNECT, from whoever says user.
func httpProxy(t *testing.T, user string) *url.URL {
	want := ""
	if user != "" {
		want = "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
	}
	host := listenWith(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		request, err := http.ReadRequest(r)
		switch {
		case err != nil || request.Method != http.MethodConnect:
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		case request.Header.Get("Proxy-Authorization") != want:
			_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
		default:
			pass(conn, r, request.Host, func() { _, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n") })
		}
	})
	return &url.URL{Scheme: "http", Host: host}
}

// socksProxy is a SOCKS 5 proxy that lets in whoever says user, and answers a request with code.
func socksProxy(t *testing.T, user string, code byte) *url.URL {
	host := listenWith(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil || head[0] != 5 {
			return
		}
		methods := make([]byte, head[1])
		_, _ = io.ReadFull(r, methods)
		switch {
		case user == "":
			_, _ = conn.Write([]byte{5, 0})
		case !bytes.Contains(methods, []byte{2}):
			_, _ = conn.Write([]byte{5, 0xff})
			return
		default:
			_, _ = conn.Write([]byte{5, 2})
			said := make([]string, 2)
			_, _ = r.ReadByte()
			for i := range said {
				n, _ := r.ReadByte()
				text := make([]byte, n)
				_, _ = io.ReadFull(r, text)
				said[i] = string(text)
			}
			if strings.Join(said, ":") != user {
				_, _ = conn.Write([]byte{1, 1})
				return
			}
			_, _ = conn.Write([]byte{1, 0})
		}
		request := make([]byte, 5)
		if _, err := io.ReadFull(r, request); err != nil || request[1] != 1 || request[3] != 3 { // a name, which the proxy is to resolve
			return
		}
		name := make([]byte, int(request[4])+2)
		_, _ = io.ReadFull(r, name)
		n := len(name) - 2
		answer := func() { _, _ = conn.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}) }
		if code != 0 {
			answer()
			return
		}
		pass(conn, r, net.JoinHostPort(string(name[:n]), fmt.Sprint(binary.BigEndian.Uint16(name[n:]))), answer)
	})
	return &url.URL{Scheme: "socks5", Host: host}
}

// hidden is the address of a broker under the name that only proxies know.
func hidden(scheme, host string) string {
	_, port, _ := net.SplitHostPort(host)
	return scheme + "://" + net.JoinHostPort(hiddenName, port)
}

func password(p string) func() (string, error) { return func() (string, error) { return p, nil } }

func TestABrokerIsReachedThroughAProxy(t *testing.T) {
	for name, proxy := range map[string]*Proxy{
		"CONNECT":                 {URL: httpProxy(t, "")},
		"CONNECT with a password": {URL: httpProxy(t, "me:p:w"), Username: "me", Password: password("p:w")},
		"SOCKS":                   {URL: socksProxy(t, "", 0)},
		"SOCKS with a password":   {URL: socksProxy(t, "me:p:w", 0), Username: "me", Password: password("p:w")},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			c := start(t, Options{URLs: []string{hidden("mqtt", strings.TrimPrefix(b.url(), "mqtt://"))}, Proxy: proxy})
			p := b.greet(false, 0)
			c.reached("connected", connected)
			p.send(publish(qos1, "t", 1, "x"))
			c.messages(1)
			p.puback(1)
			c.stop()
		})
	}
}

// TLS is between us and the broker: the name of the certificate is the broker's.
func TestTLSGoesThroughAProxy(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	b := newBroker(t)
	secure := listenWith(t, func(conn net.Conn) {
		over := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, hiddenName)}})
		pass(over, over, strings.TrimPrefix(b.url(), "mqtt://"), func() {})
	})
	for _, proxy := range []*url.URL{httpProxy(t, ""), socksProxy(t, "", 0)} {
		c := start(t, Options{URLs: []string{hidden("mqtts", secure)}, Proxy: &Proxy{URL: proxy},
			TLS: func(string) (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }})
		b.greet(false, 0)
		c.reached("connected", connected)
		c.stop()
	}
}

// What is wrong is the proxy's, and is not taken for the broker's.
func TestWhatIsWrongWithAProxyIsNamed(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := nobody.Addr().String()
	nobody.Close()
	answer := func(text string) *url.URL { return &url.URL{Scheme: "http", Host: listenWith(t, says(text))} }
	for name, tt := range map[string]struct {
		proxy *Proxy
		want  []string
	}{
		"nobody is there":        {&Proxy{URL: &url.URL{Scheme: "http", Host: closed}}, []string{"proxy " + closed, "connection refused", "check broker.proxy.url"}},
		"SOCKS: nobody is there": {&Proxy{URL: &url.URL{Scheme: "socks5", Host: closed}}, []string{"proxy " + closed, "connection refused", "check broker.proxy.url"}},
		"no such name":           {&Proxy{URL: &url.URL{Scheme: "http", Host: "proxy.invalid:3128"}}, []string{`the proxy "proxy.invalid"`, "broker.proxy.url"}},
		"a password is wanted":   {&Proxy{URL: httpProxy(t, "me:p")}, []string{"407 Proxy Authentication Required", "broker.proxy.username"}},
		"another password":       {&Proxy{URL: httpProxy(t, "me:p"), Username: "me", Password: password("q")}, []string{"407 Proxy Authentication Required", "broker.proxy.username"}},
		"SOCKS: a password":      {&Proxy{URL: socksProxy(t, "me:p", 0)}, []string{"authentication", "broker.proxy.username"}},
		"SOCKS: another":         {&Proxy{URL: socksProxy(t, "me:p", 0), Username: "me", Password: password("q")}, []string{"authentication", "broker.proxy.username"}},
		"forbidden":              {&Proxy{URL: answer("HTTP/1.1 403 Forbidden\r\n\r\n")}, []string{"does not let us (403 Forbidden)", "allow CONNECT"}},
		"SOCKS: forbidden":       {&Proxy{URL: socksProxy(t, "", 2)}, []string{"does not let us", "have the proxy allow"}},
		"away":                   {&Proxy{URL: answer("HTTP/1.1 503 Service Unavailable\r\n\r\n")}, []string{"does not reach the broker (503", "broker.url as the proxy sees it"}},
		"SOCKS: away":            {&Proxy{URL: socksProxy(t, "", 4)}, []string{"does not reach the broker: host unreachable", "broker.url as the proxy sees it"}},
		"SOCKS: refused":         {&Proxy{URL: socksProxy(t, "", 5)}, []string{"does not reach the broker: connection refused"}},
		"no HTTP":                {&Proxy{URL: answer("SSH-2.0-OpenSSH_9.2\r\n\r\n")}, []string{"what is no HTTP", "socks5:// is for the other kind"}},
		"no SOCKS":               {&Proxy{URL: &url.URL{Scheme: "socks5", Host: listenWith(t, closes)}}, []string{"is this a SOCKS 5 proxy?"}},
		"repeats a secret":       {&Proxy{URL: answer("HTTP/1.1 407 c2VjcmV0\r\n\r\n")}, []string{"(407 Proxy Authentication Required)"}},
		"HTTP for SOCKS":         {&Proxy{URL: &url.URL{Scheme: "socks5", Host: listenWith(t, says("HTTP/1.1 400 Bad Request\r\n\r\n"))}}, []string{"is this a SOCKS 5 proxy?"}},
		"speaks first":           {&Proxy{URL: answer("HTTP/1.1 200 OK\r\n\r\nhello")}, []string{"what nobody has asked for"}},
		"a redirection":          {&Proxy{URL: answer("HTTP/1.1 302 Found\r\n\r\n")}, []string{"answers CONNECT with 302 Found"}},
		"no end":                 {&Proxy{URL: answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 20000))}, []string{"longer than 65536 bytes"}},
		"no password":            {&Proxy{URL: httpProxy(t, ""), Username: "me", Password: func() (string, error) { return "", fmt.Errorf("no file") }}, []string{"proxy: password: no file"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, Options{URLs: []string{"mqtt://" + hiddenName}, Proxy: tt.proxy})
			text := c.reached("failed", func(s State) bool { return s.LastErr != "" }).LastErr
			c.stop()
			for _, want := range tt.want {
				if !strings.Contains(text, want) || strings.Contains(text, "c2VjcmV0") {
					t.Errorf("no %q in %s", want, text)
				}
			}
		})
	}
}

func TestAConnectionLeavesFromWhereItIsBoundTo(t *testing.T) {
	for _, to := range []string{"127.0.0.5", "lo", ""} {
		if to != "" && runtime.GOOS != "linux" {
			continue
		}
		b := newBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Bind: to})
		p := b.greet(false, 0)
		c.reached("connected", connected)
		if from := p.RemoteAddr().(*net.TCPAddr).IP.String(); from != map[bool]string{true: to, false: "127.0.0.1"}[strings.HasPrefix(to, "127.")] {
			t.Errorf("bound to %q, it comes from %s", to, from)
		}
		c.stop()
	}
	for to, want := range map[string]string{
		"192.0.2.77": "this host has no address 192.0.2.77 (broker.bind)",
		"nosuch0":    `the interface "nosuch0" of broker.bind`,
	} {
		c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:1"}, Bind: to})
		if text := c.reached("failed", func(s State) bool { return s.LastErr != "" }).LastErr; !strings.Contains(text, want) {
			t.Errorf("%s; want %s", text, want)
		}
		c.stop()
	}
}

// ALPN is of MQTT's ports with TLS; that of a WebSocket is HTTP's.
func TestProtocolsAreOfferedInTheTLSHandshake(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	for scheme, want := range map[string][]string{"mqtts": {"x-amzn-mqtt-ca", "mqtt"}, "wss": nil} {
		hellos := make(chan []string, 100)
		server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, NextProtos: []string{"mqtt", "http/1.1"}}
		server.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			hellos <- h.SupportedProtos
			return nil, nil
		}
		c := start(t, Options{URLs: []string{scheme + "://" + listenWith(t, secures(server))},
			TLS: func(string) (*tls.Config, error) {
				return &tls.Config{RootCAs: pool, NextProtos: []string{"x-amzn-mqtt-ca", "mqtt"}}, nil
			}})
		if got := <-hellos; !slices.Equal(got, want) {
			t.Errorf("%s: offered %q, want %q", scheme, got, want)
		}
		c.stop()
	}
	none := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, NextProtos: []string{"h2"}}
	c := start(t, Options{URLs: []string{"mqtts://" + listenWith(t, secures(none))},
		TLS: func(string) (*tls.Config, error) {
			return &tls.Config{RootCAs: pool, NextProtos: []string{"mqtt"}}, nil
		}})
	c.reached("explained", lostWith("broker.tls.alpn"))
	c.stop()
}
