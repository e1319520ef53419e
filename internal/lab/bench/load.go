//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

const (
	// window is how many messages of QoS 1 the fake broker has in flight at most.
	window = 1000
	// chunk is how much the fake broker writes at a time, in bytes.
	chunk = 64 << 10
	// probing is the time between two rounds of probes.
	probing = 20 * time.Millisecond
)

// serveMessages is a broker for one client. It accepts everything and, as soon
// as it is told, writes messages as fast as the client reads: TCP holds it back,
// so nothing is lost before the client has it.
func serveMessages(j job, orders <-chan order) error {
	conn, err := accept(j)
	if err != nil {
		return err
	}
	f := newFeed(conn, j.traffic)
	go f.read()
	select {
	case at := <-f.subscribed:
		emit(event{Event: subscribed, At: at})
	case err := <-f.ended:
		return err
	case <-time.After(harness.Patience):
		return errors.New("no SUBSCRIBE came")
	}
	return f.serve(orders)
}

// accept waits for the bridge, as its broker.
func accept(j job) (net.Conn, error) {
	listener, err := net.Listen("tcp4", j.Broker)
	if err != nil {
		return nil, err
	}
	emit(event{Event: ready})
	return listener.Accept()
}

// publishMessages is a client that publishes to a real broker.
func publishMessages(j job, orders <-chan order) error {
	conn, err := dialMQTT(j.Broker, "bench-publisher")
	if err != nil {
		return err
	}
	f := newFeed(conn.Conn, j.traffic)
	go f.read()
	emit(event{Event: ready})
	return f.serve(orders)
}

// A feed writes messages to one connection.
type feed struct {
	traffic
	conn       net.Conn
	speaks     dialect
	acked      atomic.Int64
	progress   chan struct{} // acknowledgements came
	subscribed chan int64    // when, once
	ended      chan error
}

func newFeed(conn net.Conn, t traffic) *feed {
	return &feed{
		traffic: t, conn: conn,
		progress: make(chan struct{}, 1), subscribed: make(chan int64, 1), ended: make(chan error, 1),
	}
}

// read answers the other side until the connection ends.
func (f *feed) read() {
	f.ended <- readFrames(f.conn, func(fr frame, answer []byte) ([]byte, error) {
		switch fr.kind() {
		case packets.Puback:
			f.acked.Add(1)
			select {
			case f.progress <- struct{}{}:
			default:
			}
		case packets.Subscribe:
			select {
			case f.subscribed <- time.Now().UnixNano():
			default:
			}
		}
		return f.speaks.appendAnswer(answer, fr)
	}, nil)
}

// serve sends probes until there is an order, and then what that asks for.
func (f *feed) serve(orders <-chan order) error {
	tick := time.NewTicker(probing)
	defer tick.Stop()
	probes := newStream(f.traffic, 0, &f.speaks)
	for {
		select {
		case <-tick.C:
			if _, err := f.conn.Write(probes.appendProbes(nil, time.Now().UnixNano())); err != nil {
				return err
			}
		case err := <-f.ended:
			return err
		case o, ok := <-orders:
			if !ok {
				return nil
			}
			tick.Stop()
			n, err := f.send(o)
			if err != nil {
				return err
			}
			emit(event{Event: sent, Count: n})
		}
	}
}

// send writes the messages of one order and waits for their acknowledgements.
func (f *feed) send(o order) (int, error) {
	s, p := newStream(f.traffic, o.Run, &f.speaks), newPace(o)
	limit := time.Duration(o.Seconds*float64(time.Second)) + harness.Patience
	if err := f.conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	f.acked.Store(0)
	buf := make([]byte, 0, chunk+1<<12)
	for {
		now, n, ok := p.next(s.made)
		if !ok {
			break
		}
		if p.Rate > 0 {
			n = 1 // each by itself, as the publishers in the field would
		}
		buf = buf[:0]
		for n > 0 && len(buf) < chunk && f.room(s.made) {
			buf = s.appendMessage(buf, now)
			n--
		}
		var err error
		if len(buf) > 0 {
			_, err = f.conn.Write(buf)
		} else {
			err = f.await()
		}
		if err != nil {
			return s.made, err
		}
	}
	for f.QoS > 0 && f.acked.Load() < int64(s.made) {
		if err := f.await(); err != nil {
			return s.made, fmt.Errorf("%d of %d acknowledged: %w", f.acked.Load(), s.made, err)
		}
	}
	return s.made, nil
}

// room reports whether the window has room for one more message.
func (f *feed) room(made int) bool {
	return f.QoS == 0 || int64(made)-f.acked.Load() < window
}

// await waits for acknowledgements.
func (f *feed) await() error {
	select {
	case <-f.progress:
		return nil
	case err := <-f.ended:
		return err
	case <-time.After(harness.Patience):
		return errors.New("no acknowledgement came")
	}
}

// readFrames reads frames until the connection ends. After those of one read it calls
// done, unless that is nil, and then writes what handle has appended for them.
func readFrames(conn net.Conn, handle func(f frame, answer []byte) ([]byte, error), done func() error) error {
	buf, n := make([]byte, 1<<18), 0
	var answer []byte
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("the other side went: %w", err)
		}
		n += m
		used := 0
		for {
			f, size, err := cutFrame(buf[used:n])
			if err != nil {
				return err
			}
			if size == 0 {
				break
			}
			if answer, err = handle(f, answer); err != nil {
				return err
			}
			used += size
		}
		if done != nil {
			if err := done(); err != nil {
				return err
			}
		}
		n = copy(buf, buf[used:n])
		if len(answer) > 0 {
			if _, err := conn.Write(answer); err != nil {
				return err
			}
			answer = answer[:0]
		}
	}
}
