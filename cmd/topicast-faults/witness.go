//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"topicast/bridge/netlab"
)

// A witness subscribes with a persistent session and notes all messages that the
// broker has for it, across reconnects. It ends with ctx.
type witness struct {
	subscribed chan struct{} // closed when it was the first time
	done       chan struct{}
}

func startWitness(ctx context.Context, dial func(context.Context) (net.Conn, error), note func(payload []byte)) *witness {
	w := &witness{subscribed: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			w.session(ctx, dial, note)
			pause(ctx, redial)
		}
	}()
	return w
}

func (w *witness) session(ctx context.Context, dial func(context.Context) (net.Conn, error), note func([]byte)) {
	conn, err := dial(ctx)
	if err != nil {
		return
	}
	l, err := open(conn, "witness", false)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	if _, err := l.Write(appendSubscribe(nil, 1, "f/#")); err != nil {
		return
	}
	for {
		kind, body, err := l.read()
		if err != nil {
			return
		}
		switch kind & 0xf0 {
		case packetSuback:
			select {
			case <-w.subscribed:
			default:
				close(w.subscribed)
			}
		case packetPublish:
			_, id, payload, err := parsePublish(kind, body)
			if err != nil {
				return
			}
			note(payload)
			if id == 0 {
				continue
			}
			if _, err := l.Write(appendPuback(nil, id)); err != nil {
				return
			}
		}
	}
}

// Talkers are devices that all say the same numbered payloads to a group, each on
// its network: a rule that moves from one to the other hears one of them.
type talkers struct {
	rate  int
	to    netip.AddrPort
	conns []*net.UDPConn

	mu     sync.Mutex
	said   int
	failed int // datagrams that a device's own kernel did not take

	stop context.CancelFunc
	done chan struct{}
}

// A mouth is where a talker speaks from.
type mouth struct {
	host   *netlab.Host
	source netip.Addr
}

func startTalkers(ctx context.Context, rate int, stream string, to netip.AddrPort, mouths []mouth) (*talkers, error) {
	ctx, stop := context.WithCancel(ctx)
	t := &talkers{rate: rate, to: to, stop: stop, done: make(chan struct{})}
	for _, m := range mouths {
		err := m.host.Do(func() error {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(m.source, 0)))
			if err == nil {
				t.conns = append(t.conns, c)
			}
			return err
		})
		if err != nil {
			stop()
			t.close()
			return nil, fmt.Errorf("talk on %s: %w", m.host.Name(), err)
		}
	}
	go func() {
		defer close(t.done)
		defer t.close()
		t.talk(ctx, stream)
	}()
	return t, nil
}

func (t *talkers) close() {
	for _, c := range t.conns {
		c.Close()
	}
}

func (t *talkers) talk(ctx context.Context, stream string) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	last, credit := time.Now(), 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			credit += float64(t.rate) * min(now.Sub(last), 10*tick).Seconds()
			last = now
			for ; credit >= 1; credit-- {
				t.say(stream, now)
			}
		}
	}
}

func (t *talkers) say(stream string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := newPayload(stream, t.said, now)
	t.said++
	for _, c := range t.conns {
		if _, err := c.WriteToUDPAddrPort(p, t.to); err != nil {
			t.failed++
		}
	}
}

func (t *talkers) next(string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.said
}

func (t *talkers) finish(time.Duration) int {
	t.stop()
	<-t.done
	return t.failed
}

// steal takes the session from whoever has it, as a second client with the same
// name does, and lets go of it when it is taken back. Nothing is acknowledged, so
// that the broker keeps for the owner what it gives to the thief.
func steal(ctx context.Context, dial func(context.Context) (net.Conn, error), id string) error {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	l, err := open(conn, id, false)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		if _, _, err := l.read(); err != nil {
			return nil
		}
	}
}
