//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"

	"topicast/internal/lab/harness"
)

// A verdict is what the meddler does with a packet.
type verdict int

const (
	pass verdict = iota
	hold         // it goes no further
	cut          // nor does the connection
)

// A meddler stands before the broker. It passes on what goes by, until an attack has it do
// something else: judge what passes, write packets of its own, or receive the bridge in
// place of the broker. It is safe for concurrent use.
type meddler struct {
	ctx    context.Context
	behind func(context.Context) (net.Conn, error) // the broker
	raw    bool                                    // what passes is not MQTT alone
	tls    *tls.Config                             // of the bridge's connections; nil: they are without

	mu      sync.Mutex
	lines   map[*line]struct{}
	judge   func(fromBridge bool, f harness.Frame) verdict // nil: all pass
	receive func(net.Conn)                                 // in place of the broker; nil: the broker does
	taken   int                                            // connections of the bridge
}

// A line is one connection of the bridge. Its lock keeps packets whole.
type line struct {
	mu sync.Mutex
	net.Conn
}

func (l *line) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.Write(b)
	return err
}

// startMeddler puts one before the broker, where the attack wants one.
func (r *rig) startMeddler() error {
	m := r.meddler
	if m == nil {
		return nil
	}
	m.ctx, m.lines = r.ctx, map[*line]struct{}{}
	address := localAddress
	if m.raw {
		address = webSocketPort
	}
	m.behind = func(ctx context.Context) (net.Conn, error) { return harness.Dial(ctx, r.Lan, address) }
	return r.Lan.Do(func() error {
		at, err := net.Listen("tcp", meddlerHost)
		if err == nil {
			context.AfterFunc(r.ctx, func() { at.Close() })
			r.clients.Go(func() { m.serve(at) })
		}
		return err
	})
}

// meddled is what prepares an attack that needs a meddler.
func meddled(r *rig) {
	r.meddler = &meddler{}
	r.setup.url = "mqtt://" + meddlerHost
}

func (m *meddler) serve(at net.Listener) {
	var lines sync.WaitGroup
	defer lines.Wait()
	for {
		conn, err := at.Accept()
		if err != nil {
			return
		}
		lines.Go(func() { m.meet(&line{Conn: conn}) })
	}
}

// meet takes a connection of the bridge.
func (m *meddler) meet(l *line) {
	defer l.Close()
	defer context.AfterFunc(m.ctx, func() { l.Close() })()
	m.mu.Lock()
	m.lines[l] = struct{}{}
	m.taken++
	receive := m.receive
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.lines, l)
		m.mu.Unlock()
	}()
	if receive != nil {
		receive(l)
		return
	}
	if m.tls != nil {
		l.Conn = tls.Server(l.Conn, m.tls)
	}
	broker, err := m.behind(m.ctx)
	if err != nil {
		return
	}
	defer context.AfterFunc(m.ctx, func() { broker.Close() })()
	var both sync.WaitGroup
	defer both.Wait()
	defer broker.Close()
	if m.raw {
		both.Go(func() { _, _ = io.Copy(l, broker); l.Close() })
		_, _ = io.Copy(broker, l)
		return
	}
	both.Go(func() {
		defer l.Close()
		m.pass(broker, false, l.write)
	})
	m.pass(l, true, func(b []byte) error { _, err := broker.Write(b); return err })
}

// pass passes packets on until one of the sides ends it, whichever version of MQTT they are of.
func (m *meddler) pass(from io.Reader, fromBridge bool, to func([]byte) error) {
	in := bufio.NewReaderSize(from, 64<<10)
	for {
		f, err := harness.ReadFrame(in)
		if err != nil {
			return
		}
		m.mu.Lock()
		judge := m.judge
		m.mu.Unlock()
		if judge != nil {
			switch judge(fromBridge, f) {
			case cut:
				return
			case hold:
				continue
			}
		}
		if to(f) != nil {
			return
		}
	}
}

// judgeBy has packets judged from now on, and perhaps changed; nil: all pass as they are.
func (m *meddler) judgeBy(f func(fromBridge bool, f harness.Frame) verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.judge = f
}

// inject writes bytes to the bridge as the broker would.
func (m *meddler) inject(b []byte) (err error) {
	m.mu.Lock()
	var lines []*line
	for l := range m.lines {
		lines = append(lines, l)
	}
	m.mu.Unlock()
	for _, l := range lines {
		err = l.write(b)
	}
	return err
}

// receiveBy ends the connections; later ones are f's in place of the broker's; nil: the
// broker's again.
func (m *meddler) receiveBy(f func(net.Conn)) {
	m.mu.Lock()
	m.receive = f
	m.mu.Unlock()
	m.cutAll()
}

// cutAll ends all connections.
func (m *meddler) cutAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.lines {
		l.Close()
	}
}

// connections is how many the bridge has made.
func (m *meddler) connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken
}
