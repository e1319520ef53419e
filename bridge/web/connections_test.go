package web

import (
	"bufio"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// pipes is a network in memory.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p.conns); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// serving runs test against a server of b, in a bubble of synctest.
func serving(t *testing.T, o Options, b Bridge, test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	servingAs(t, o, b, func(t *testing.T, _ *Server, dial func() net.Conn) { test(t, dial) })
}

// servingAs has the server too.
func servingAs(t *testing.T, o Options, b Bridge, test func(t *testing.T, s *Server, dial func() net.Conn)) {
	t.Helper()
	servingAt(t, "", o, b, test)
}

// servingAt says at which address it listens.
func servingAt(t *testing.T, ip string, o Options, b Bridge, test func(t *testing.T, s *Server, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes{make(chan net.Conn)}
		s := serverOn(at{network, ip}, o, b)
		ended := make(chan error)
		go func() { ended <- s.Serve(t.Context()) }()
		var open []net.Conn
		test(t, s, func() net.Conn {
			c := network.dial()
			open = append(open, c)
			return c
		})
		for _, c := range open {
			c.Close()
		}
		s.live.end()
		s.http.Close()
		<-ended
	})
}

func askFor(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// answered reports whether a request is answered.
func answered(t *testing.T, c net.Conn, path string) bool {
	t.Helper()
	askFor(t, c, path)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil && r.StatusCode == http.StatusOK
}

// gone reports whether the server has closed a connection.
func gone(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// However many connect and ask for nothing, no more are open than there may be, and who asks
// is answered at once: a new one takes the place of the one that was idle for longest.
func TestConnectionsAreBoundedAndIdleOnesGiveWay(t *testing.T) {
	serving(t, Options{}, newFake(busy), func(t *testing.T, dial func() net.Conn) {
		asked := dial()
		if !answered(t, asked, "/healthz") {
			t.Fatal("the first is not answered")
		}
		var idle []net.Conn
		for range 3 * maxConnections {
			idle = append(idle, dial())
			time.Sleep(time.Millisecond)
		}
		if !answered(t, dial(), "/healthz") {
			t.Error("a new one is not answered")
		}
		open := 0
		for _, c := range idle {
			if !gone(c) {
				open++
			}
		}
		if open >= maxConnections || open < maxConnections-3 {
			t.Errorf("%d idle ones are open, of at most %d", open, maxConnections)
		}
		if !gone(asked) {
			t.Error("the one that was idle for longest is open")
		}
	})
}

// large is a bridge whose status is longer than what a connection holds.
type large struct{ fake }

func (l large) Snapshot(bridge.Query) (bridge.Status, iter.Seq[send.Status], iter.Seq[receive.Status]) {
	return bridge.Status{}, func(yield func(send.Status) bool) {
		for yield(send.Status{Name: strings.Repeat("x", 1<<20)}) {
			return
		}
	}, func(func(receive.Status) bool) {}
}

// Who reads nothing of an answer is let go, and so is who reads a little now and then: all
// that time others are answered.
func TestSlowReadersAreLetGo(t *testing.T) {
	serving(t, Options{}, large{newFake(busy)}, func(t *testing.T, dial func() net.Conn) {
		began := time.Now()
		var slow []net.Conn
		for range maxConnections {
			c := dial()
			askFor(t, c, "/status")
			slow = append(slow, c)
		}
		other := dial()
		if !answered(t, other, "/healthz") {
			t.Fatal("another one is not answered")
		}
		if waited := time.Since(began); waited > maxBusy+2*time.Second {
			t.Errorf("it is answered after %v", waited)
		}
		time.Sleep(writePatience + time.Second)
		for _, c := range slow {
			if !gone(c) {
				t.Fatal("who reads nothing is waited for")
			}
		}
	})
	serving(t, Options{}, large{newFake(busy)}, func(t *testing.T, dial func() net.Conn) {
		c, began := dial(), time.Now()
		askFor(t, c, "/status")
		some := make([]byte, 16<<10)
		for {
			if _, err := io.ReadFull(c, some); err != nil {
				break
			}
			time.Sleep(writePatience / 4)
		}
		if took := time.Since(began); took < maxAnswer-writePatience || took > maxAnswer+writePatience {
			t.Errorf("who reads a little now and then is waited for, for %v", took)
		}
	})
}

// A request whose headers do not come, or do not end, is not waited for.
func TestHeadersAreBounded(t *testing.T) {
	serving(t, Options{}, newFake(busy), func(t *testing.T, dial func() net.Conn) {
		silent, endless := dial(), dial()
		io.WriteString(silent, "GET / HTTP/1.1\r\n")
		go func() {
			io.WriteString(endless, "GET / HTTP/1.1\r\nX: ")
			for read := 0; ; read += 16 {
				if _, err := io.WriteString(endless, "xxxxxxxxxxxxxxxx"); err != nil {
					return
				}
				if read > 2*maxHeader {
					t.Error("there is no end")
					return
				}
			}
		}()
		r, err := http.ReadResponse(bufio.NewReader(endless), nil)
		if err != nil || r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("headers without an end: %+v, %v", r, err)
		}
		endless.Close()
		time.Sleep(6 * time.Second)
		if !gone(silent) {
			t.Error("headers that do not come are waited for")
		}
	})
}

// A connection that is idle gives way before one whose answer takes long, and that before
// none at all; one whose answer has only begun stays.
func TestIdleConnectionsGiveWayFirst(t *testing.T) {
	now := time.Now()
	at := func(busy bool, ago time.Duration) *connection { return &connection{busy: busy, since: now.Add(-ago)} }
	slow, slower, idle, fresh := at(true, 2*maxBusy), at(true, 3*maxBusy), at(false, time.Second), at(true, time.Second)
	for _, c := range []struct {
		all  []*connection
		want *connection
	}{
		{[]*connection{slow, slower, idle, fresh}, idle},
		{[]*connection{slow, slower, fresh}, slower},
		{[]*connection{fresh}, nil},
	} {
		l := newConnections(nil, 1)
		for _, c := range c.all {
			l.all[c] = true
		}
		if got := l.leastInUse(now, ""); got != c.want {
			t.Errorf("of %d: %+v, want %+v", len(c.all), got, c.want)
		}
	}
}

// Whoever opens connections by the thousand displaces his own.
func TestConnectionsFromWhereMostAreGiveWay(t *testing.T) {
	now := time.Now()
	at := func(from string, busy bool, ago time.Duration) *connection {
		return &connection{from: from, busy: busy, since: now.Add(-ago)}
	}
	check, scrape := at("10.0.0.1", false, time.Minute), at("10.0.0.2", false, time.Hour)
	first, second := at("10.0.0.9", false, 2*time.Millisecond), at("10.0.0.9", false, time.Millisecond)
	working, hanging := at("10.0.0.9", true, time.Second), at("10.0.0.9", true, 2*maxBusy)
	for _, c := range []struct {
		name     string
		all      []*connection
		newcomer string
		want     *connection
	}{
		{"one of the many", []*connection{check, scrape, second, first}, "10.0.0.9", first},
		{"somebody else", []*connection{check, scrape, second, first}, "10.0.0.1", first},
		{"a new one", []*connection{check, scrape, second, first}, "10.0.0.3", first},
		{"as many as others: its own", []*connection{check, scrape, second}, "10.0.0.9", second},
		{"of the many all are busy, one for too long", []*connection{check, hanging, working}, "10.0.0.9", hanging},
		{"of the many all are busy", []*connection{check, working, at("10.0.0.9", true, 0)}, "10.0.0.9", nil},
		{"of the many all are busy, and a new one comes", []*connection{check, working, at("10.0.0.9", true, 0)}, "10.0.0.3", check},
	} {
		l := newConnections(nil, 1)
		for _, one := range c.all {
			l.all[one] = true
		}
		if got := l.leastInUse(now, c.newcomer); got != c.want {
			t.Errorf("%s: %+v gives way, want %+v", c.name, got, c.want)
		}
	}
}

// Where there are few file descriptors connections take a quarter of them.
func TestConnectionsTakeAQuarterOfFewDescriptors(t *testing.T) {
	serving(t, Options{Descriptors: 32}, newFake(busy), func(t *testing.T, dial func() net.Conn) {
		var idle []net.Conn
		for range 10 {
			idle = append(idle, dial())
			time.Sleep(time.Millisecond)
		}
		if !gone(idle[1]) || gone(idle[2]) {
			t.Error("want the last 8 to be open")
		}
	})
}
