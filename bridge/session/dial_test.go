package session

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"topicast/internal/brokerurl"
)

func TestOptionsAreCheckedAllAtOnce(t *testing.T) {
	_, err := New(Options{
		URLs: []string{"mqtt://a", "tcp://b"}, Username: "\xff", KeepAlive: 1500 * time.Millisecond, Status: &Status{"a/+"},
		Subscriptions: []Subscription{{Filter: "ok/#", QoS: 2}, {Filter: "", QoS: 0}, {Filter: "a/#/b", QoS: 0}, {Filter: "a+", QoS: 0}, {Filter: "a#", QoS: 0}, {Filter: "q", QoS: 3}, {Filter: "n\x00", QoS: 0}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"tcp://b"`, "client_id", "username", "keep_alive 1.5s", "Handle", `status_topic "a/+"`,
		`filter ""`, `"a/#/b"`, `"a+"`, `"a#"`, "QoS 3", `"n\x00"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in:\n%v", want, err)
		}
	}
	if n := len(strings.Split(err.Error(), "\n")); n != 12 {
		t.Errorf("%d faults:\n%v", n, err)
	}
	if _, err := New(Options{URLs: []string{"mqtt://a"}, Clean: true, Handle: func([]Message) {},
		Subscriptions: []Subscription{{Filter: "#", QoS: 0}, {Filter: "+", QoS: 0}, {Filter: "/", QoS: 0}, {Filter: "+/a/+/#", QoS: 0}, {Filter: "$SYS/#", QoS: 0}}}); err != nil {
		t.Error(err)
	}
}

func TestPasswordNeedsAUserName(t *testing.T) {
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:1"}, Password: func() (string, error) { return "p", nil }})
	c.reached("explained", lostWith("set username"))
	c = start(t, Options{URLs: []string{"mqtt://127.0.0.1:1"}, Password: func() (string, error) { return "", os.ErrNotExist }})
	c.reached("explained", lostWith("password: file does not exist"))
}

// wsServer speaks WebSocket and passes what it carries to a fake broker.
func wsServer(t *testing.T, b *broker, subprotocols ...string) string {
	t.Helper()
	up := websocket.Upgrader{Subprotocols: subprotocols}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		b.conns <- wsConn{ws, ws.NetConn()}
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// wsConn writes binary messages; what it reads, the tests do not need.
type wsConn struct {
	ws *websocket.Conn
	net.Conn
}

func (c wsConn) Write(p []byte) (int, error) {
	return len(p), c.ws.WriteMessage(websocket.BinaryMessage, p)
}

func TestWebSocketFramesNeedNotBeMQTTFrames(t *testing.T) {
	b := &broker{t: t, conns: make(chan net.Conn, 4)}
	c := start(t, Options{URLs: []string{wsServer(t, b, "mqtt") + "/mqtt"}})
	p := b.acceptSilent()
	ws := p.Conn.(wsConn).ws
	if ws.Subprotocol() != "mqtt" {
		t.Errorf("subprotocol %q [MQTT-6.0.0-3]", ws.Subprotocol())
	}
	if _, connect, err := ws.ReadMessage(); err != nil || connect[0] != 0x10 {
		t.Errorf("CONNECT % x, %v", connect, err)
	}
	m := publish(qos1, "t", 1, "x")
	p.send(connack(false, 0), m, m[:3]) // [MQTT-6.0.0-2]
	p.send(m[3:])
	c.messages(2)
	var pubacks []byte // in one message of WebSocket, or in two
	for len(pubacks) < 8 {
		kind, some, err := ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			t.Fatalf("message of kind %d, %v", kind, err)
		}
		pubacks = append(pubacks, some...)
	}
	if want := []byte{0x40, 2, 0, 1, 0x40, 2, 0, 1}; !bytes.Equal(pubacks, want) {
		t.Errorf("PUBACKs % x", pubacks)
	}
	c.stop()
}

func TestAnotherSubprotocolIsRefused(t *testing.T) {
	b := &broker{t: t, conns: make(chan net.Conn, 4)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{}
		ws, err := up.Upgrade(w, r, http.Header{"Sec-Websocket-Protocol": {"chat"}})
		if err == nil {
			b.conns <- ws.NetConn()
		}
	}))
	defer server.Close()
	u, _ := brokerurl.Parse("ws" + strings.TrimPrefix(server.URL, "http"))
	conn, err := (&Session{}).dial(t.Context(), u)
	if err == nil || !strings.Contains(err.Error(), `subprotocol "chat"`) {
		t.Errorf("got %v, %v", conn, err)
	}
	(<-b.conns).Close()
}

func TestDiallingAWebSocketEndsWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		cancel() // never answered
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
	}()
	u := &url.URL{Scheme: "ws", Host: ln.Addr().String()}
	if _, err := (&Session{}).dial(ctx, u); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ln.Close()
}

func TestTheNameOfTheBrokerIsVerified(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "other.example")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	u := &url.URL{Scheme: "mqtts", Host: ln.Addr().String()}
	var asked string
	dial := func(c *tls.Config) error {
		s := &Session{o: Options{TLS: func(host string) (*tls.Config, error) { asked = host; return c, nil }}}
		conn, err := s.dial(t.Context(), u)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(&tls.Config{RootCAs: pool}); err == nil || asked != "127.0.0.1" {
		t.Errorf("a certificate for another name was taken, host %q", asked)
	}
	if err := dial(&tls.Config{RootCAs: pool, ServerName: "other.example"}); err != nil {
		t.Error(err)
	}
	if conn, err := (&Session{}).dial(t.Context(), u); err == nil {
		t.Error("an unknown authority was taken")
		conn.Close()
	}
}

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

// newAuthorityFor makes a certificate for an address that is its own authority.
func newAuthorityFor(t *testing.T, address string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: address}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// issue makes a certificate for a name or an address, for both ends.
func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	return a.issueAs(t, name, nil)
}

// issueAs makes a certificate, changed by edit.
func (a authority) issueAs(t *testing.T, name string, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: []string{name}}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pkcs8(t *testing.T, c tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
