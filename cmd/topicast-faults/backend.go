//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"
)

// A feed is where the messages of a run come from.
type feed interface {
	// next is the number that the next payload of a stream will have.
	next(stream string) int
	// finish stops making new ones and waits until all that were made are on
	// their way, or reports how many are not when the time is over.
	finish(limit time.Duration) (left int)
}

// A backend publishes numbered messages at a steady rate. What the broker has not
// acknowledged it publishes again after a reconnect, in order: what is counted as
// in, the broker has taken. While the broker is away it makes none.
type backend struct {
	rate    int // messages a second, of all streams together
	streams []string
	dial    func(context.Context) (net.Conn, error)

	mu      sync.Mutex
	made    map[string]int
	unacked map[uint16]outgoing
	total   int // messages made; the lowest 16 bits make the packet identifier
	closing bool

	stop context.CancelFunc
	done chan struct{}
}

type outgoing struct {
	order   int // among all
	topic   string
	payload []byte
}

const (
	// backlog is how many messages may await their acknowledgement.
	backlog = 1000
	tick    = 2 * time.Millisecond
	redial  = 20 * time.Millisecond
)

func startBackend(ctx context.Context, rate int, streams []string, dial func(context.Context) (net.Conn, error)) *backend {
	ctx, stop := context.WithCancel(ctx)
	b := &backend{rate: rate, streams: streams, dial: dial, made: map[string]int{}, unacked: map[uint16]outgoing{}, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for ctx.Err() == nil {
			b.session(ctx)
			pause(ctx, redial)
		}
	}()
	return b
}

func (b *backend) next(stream string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.made[stream]
}

func (b *backend) finish(limit time.Duration) int {
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	deadline := time.Now().Add(limit)
	for b.left() > 0 && time.Now().Before(deadline) {
		time.Sleep(tick)
	}
	b.stop()
	<-b.done
	return b.left()
}

func (b *backend) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.unacked)
}

// session publishes over one connection until that ends.
func (b *backend) session(ctx context.Context) {
	conn, err := b.dial(ctx)
	if err != nil {
		return
	}
	l, err := open(conn, "backend", true)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		b.acknowledged(l)
	}()
	defer func() { l.Close(); <-broken }()
	if _, err := l.Write(b.again()); err != nil {
		return
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	last, credit := time.Now(), 0.0
	for {
		select {
		case <-broken:
			return
		case now := <-ticks.C:
			// A pause is not made up for by a burst.
			credit += float64(b.rate) * min(now.Sub(last), 10*tick).Seconds()
			last = now
			batch := b.batch(int(credit))
			credit -= float64(int(credit))
			if _, err := l.Write(batch); err != nil {
				return
			}
		}
	}
}

// acknowledged reads until the connection ends.
func (b *backend) acknowledged(l *link) {
	for {
		kind, body, err := l.read()
		if err != nil {
			return
		}
		if kind == packetPuback && len(body) == 2 {
			b.mu.Lock()
			delete(b.unacked, binary.BigEndian.Uint16(body))
			b.mu.Unlock()
		}
	}
}

// again is everything that is not acknowledged, in the order it was made.
func (b *backend) again() (packets []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []uint16
	for id := range b.unacked {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y uint16) int { return b.unacked[x].order - b.unacked[y].order })
	for _, id := range ids {
		packets = appendPublish(packets, b.unacked[id].topic, id, true, b.unacked[id].payload)
	}
	return packets
}

// batch makes up to n messages, of the streams in turn.
func (b *backend) batch(n int) (packets []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for range n {
		if b.closing || len(b.unacked) >= backlog {
			break
		}
		stream := b.streams[b.total%len(b.streams)]
		id := uint16(b.total%65535) + 1
		m := outgoing{b.total, topicOf(stream), newPayload(stream, b.made[stream], now)}
		b.unacked[id] = m
		b.made[stream]++
		b.total++
		packets = appendPublish(packets, m.topic, id, false, m.payload)
	}
	return packets
}

func topicOf(stream string) string { return "f/" + stream }

// pause waits for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
