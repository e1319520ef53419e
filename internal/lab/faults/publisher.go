//go:build linux

package main

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// A feed is where the messages of a run come from.
type feed interface {
	// next is the number that the next payload of a stream will have.
	next(stream string) int
	// suspend stops making new ones, until it is told to go on.
	suspend(on bool)
	// burst makes so many at once, in rest too.
	burst(n int)
	// finish stops making new ones and waits until all that were made are on
	// their way, or reports how many are not when the time is over.
	finish(limit time.Duration) (left int)
}

// A publisher sends numbered messages at a steady rate. What the broker has not
// acknowledged it publishes again after a reconnect, in order: what is counted as
// in, the broker has taken, of QoS 2 once. While the broker is away it makes none.
type publisher struct {
	flow         // of all streams together
	qos     byte // 1 or 2
	streams []string
	connect connector

	// With mu held:
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
	release bool // of QoS 2: the broker has it, and is to be told that we know
}

const (
	// maxUnacked is how many messages may await their acknowledgement, and backlog2 how
	// many of QoS 2: mosquitto ends the connection of a client with more than 20.
	maxUnacked  = 1000
	maxUnacked2 = 19

	redial = 20 * time.Millisecond
)

func startPublisher(ctx context.Context, rate int, qos byte, streams []string, connect connector) *publisher {
	ctx, stop := context.WithCancel(ctx)
	b := &publisher{flow: flow{rate: rate}, qos: qos, streams: streams, connect: connect, made: map[string]int{}, unacked: map[uint16]outgoing{}, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for ctx.Err() == nil {
			b.session(ctx)
			harness.Pause(ctx, redial)
		}
	}()
	return b
}

func (b *publisher) next(stream string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.made[stream]
}

func (b *publisher) finish(limit time.Duration) int {
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

func (b *publisher) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.unacked)
}

// session publishes over one connection until that ends.
func (b *publisher) session(ctx context.Context) {
	l, err := b.connect(ctx, "publisher", b.qos < 2)
	if err != nil {
		return
	}
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
	for {
		select {
		case <-broken:
			return
		case now := <-ticks.C:
			batch := b.batch(b.due(now))
			if _, err := l.Write(batch); err != nil {
				return
			}
		}
	}
}

// acknowledged reads until the connection ends.
func (b *publisher) acknowledged(l *harness.Client) {
	for {
		p, err := l.Next()
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.PubackPacket:
			b.settled(p.MessageID)
		case *packets.PubcompPacket:
			b.settled(p.MessageID)
		case *packets.PubrecPacket:
			b.mu.Lock()
			if m, ok := b.unacked[p.MessageID]; ok {
				m.release = true
				b.unacked[p.MessageID] = m
			}
			b.mu.Unlock()
			if ack(packets.Pubrel, p.MessageID).Write(l) != nil {
				return
			}
		}
	}
}

func (b *publisher) settled(id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unacked, id)
}

// again is everything that is not acknowledged, in the order it was made.
func (b *publisher) again() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []uint16
	for id := range b.unacked {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y uint16) int { return b.unacked[x].order - b.unacked[y].order })
	var out bytes.Buffer
	for _, id := range ids {
		m := b.unacked[id]
		if m.release {
			_ = ack(packets.Pubrel, id).Write(&out) // memory takes all
			continue
		}
		p := publish(m.topic, b.qos, id, m.payload)
		p.Dup = true
		_ = p.Write(&out)
	}
	return out.Bytes()
}

// batch makes up to n messages, of the streams in turn, and what is owed of a burst.
func (b *publisher) batch(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.suspended {
		n = 0
	}
	room := maxUnacked
	if b.qos == 2 {
		room = maxUnacked2
	}
	var out bytes.Buffer
	now := time.Now()
	for n += b.burstLeft; n > 0 && !b.closing && len(b.unacked) < room; n-- {
		stream := b.streams[b.total%len(b.streams)]
		id := uint16(b.total%65535) + 1
		m := outgoing{order: b.total, topic: topicOf(stream), payload: newPayload(stream, b.made[stream], now)}
		b.unacked[id] = m
		b.made[stream]++
		b.total++
		b.burstLeft = max(b.burstLeft-1, 0)
		_ = publish(m.topic, b.qos, id, m.payload).Write(&out)
	}
	return out.Bytes()
}

func topicOf(stream string) string { return "f/" + stream }
