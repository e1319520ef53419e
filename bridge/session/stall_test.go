package session

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"
)

// Every write has a deadline, whatever the way to the broker: one that reads
// nothing any more is given up, and the next connection goes on.
func TestABrokerThatStopsReadingIsGivenUpOnEveryWay(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}}
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			b := &broker{t: t, conns: make(chan net.Conn, 16)}
			url := scheme + "://" + b.listen(scheme, server)
			c := start(t, Options{URLs: []string{url}, Status: &Status{"s"},
				TLS: func(string) (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }})
			p := b.acceptSilent()
			p.send(connack(false, 0))
			c.reached("connected", connected)
			begin := time.Now()
			published := make(chan struct{})
			go func() {
				defer close(published)
				for range 200 { // more than the kernel takes
					c.PublishBatch(batchOf(1, nil, strings.Repeat("x", 100_000)))
				}
			}()
			for i := range 100 {
				p.send(publish(qos1, "m", uint16(i+1), "x")) // it goes on talking, and there is something to answer
			}
			c.reached("lost", lostWith(errStalled.Error()))
			// Where the kernel took the first part of a write, it is tried once more.
			if d := time.Since(begin); d < writeTimeout || d > 2*writeTimeout+5*time.Second {
				t.Errorf("noticed after %v", d)
			}
			<-published
			b.acceptSilent().send(connack(true, 0))
			c.reached("connected again", func(s State) bool { return s.Connects == 2 })
			begin = time.Now()
			c.stop()
			if d := time.Since(begin); d > LeaveTimeout+drainTimeout {
				t.Errorf("the end took %v", d)
			}
		})
	}
}

// listen accepts connections and reads their CONNECT, for each scheme.
func (b *broker) listen(scheme string, config *tls.Config) (host string) {
	b.t.Helper()
	if scheme == "ws" || scheme == "wss" {
		up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ws, err := up.Upgrade(w, r, nil); err == nil {
				_, _, _ = ws.ReadMessage()
				b.conns <- wsConn{ws, ws.NetConn()}
			}
		}))
		if server.TLS = config.Clone(); scheme == "wss" {
			server.StartTLS()
		} else {
			server.Start()
		}
		b.t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	if scheme == "mqtts" {
		ln = tls.NewListener(ln, config)
	}
	b.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := packets.ReadPacket(conn); err == nil {
				b.conns <- conn
			}
		}
	}()
	return ln.Addr().String()
}

// A broker that accepts, and then says nothing, is given up before the handshake
// as well.
func TestABrokerThatNeverShakesHandsIsGivenUp(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	for _, scheme := range []string{"mqtts", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			c := start(t, Options{URLs: []string{scheme + "://" + ln.Addr().String()}})
			begin := time.Now()
			c.reached("given up", func(s State) bool { return s.LastErr != "" })
			if d := time.Since(begin); d < dialTimeout-time.Second || d > dialTimeout+2*time.Second {
				t.Errorf("after %v: %s", d, c.State().LastErr)
			}
			if text := c.State().LastErr; !strings.Contains(text, "no answer within") {
				t.Error(text)
			}
		})
	}
}
