//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"topicast/internal/lab/netlab"
)

// Talkers are devices that all send the same numbered payloads to a group, each on
// its network: a rule that moves from one to the other receives one of them.
type talkers struct {
	flow
	to    netip.AddrPort
	conns []*net.UDPConn

	// With mu held:
	sent   int
	failed int // datagrams that a device's own kernel did not take

	stop context.CancelFunc
	done chan struct{}
}

// An endpoint is where a talker sends from.
type endpoint struct {
	host   *netlab.Host
	source netip.Addr
}

func startTalkers(ctx context.Context, rate int, stream string, to netip.AddrPort, from []endpoint) (*talkers, error) {
	ctx, stop := context.WithCancel(ctx)
	t := &talkers{flow: flow{rate: rate}, to: to, stop: stop, done: make(chan struct{})}
	for _, m := range from {
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
		t.run(ctx, stream)
	}()
	return t, nil
}

func (t *talkers) close() {
	for _, c := range t.conns {
		c.Close()
	}
}

func (t *talkers) run(ctx context.Context, stream string) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			n := t.due(now)
			t.mu.Lock()
			if t.suspended {
				n = 0
			}
			for n += t.burstLeft; n > 0; n-- {
				t.send(stream, now)
			}
			t.burstLeft = 0
			t.mu.Unlock()
		}
	}
}

// send sends one payload; mu is held.
func (t *talkers) send(stream string, now time.Time) {
	p := newPayload(stream, t.sent, now)
	t.sent++
	for _, c := range t.conns {
		if _, err := c.WriteToUDPAddrPort(p, t.to); err != nil {
			t.failed++
		}
	}
}

func (t *talkers) next(string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

func (t *talkers) finish(time.Duration) int {
	t.stop()
	<-t.done
	return t.failed
}
