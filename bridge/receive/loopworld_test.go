package receive_test

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// world is a network and a broker around a bridge: what is published goes to other
// programs, and what they make of it comes back as datagrams.
type world struct {
	*testing.T
	bridge *rig
	to     *fake.Receiver

	mu        sync.Mutex
	published map[string]int // by topic and payload
	order     []string
	loops     []func(session.Publication)
	stop      atomic.Bool
}

func (w *world) PublishBatch(batch []session.Publication) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range batch {
		text := string(p.Topic) + " " + string(p.Payload)
		w.published[text]++
		w.order = append(w.order, text)
		p.Payload = bytes.Clone(p.Payload)
		p.Origin.Published(1, p.Size())
		for _, loop := range w.loops {
			loop(p)
		}
	}
}

func (w *world) count(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.published[text]
}

// say sends datagrams, unless the bridge has ended.
func (w *world) say(source string, payloads ...string) {
	var batch []multicast.Datagram
	for _, p := range payloads {
		batch = append(batch, multicast.Datagram{To: w.to.Options.Group, Source: netip.MustParseAddrPort(source), Payload: []byte(p)})
	}
	select {
	case w.to.In <- batch:
	case <-w.to.Done:
	}
}

// program is one that hands each message of ours to our group again, after a while.
func (w *world) program(source string, after time.Duration) {
	const queue = 1000 // of the broker, for that program
	var waiting atomic.Int64
	w.loops = append(w.loops, func(p session.Publication) {
		if waiting.Add(1) > queue {
			waiting.Add(-1)
			return
		}
		time.AfterFunc(after, func() {
			waiting.Add(-1)
			if !w.stop.Load() {
				w.say(source, string(p.Payload))
			}
		})
	})
}

// stream sends n datagrams a second for some time, and reports what it sent.
func (w *world) stream(source string, n int, length time.Duration, payload func(i int) string) (sent int) {
	for range int(length * time.Duration(n) / time.Second) {
		w.say(source, payload(sent))
		sent++
		time.Sleep(time.Second / time.Duration(n))
	}
	return sent
}

func same(text string) func(int) string { return func(int) string { return text } }

func around(t *testing.T, o rigOptions, topic string, script func(w *world), change ...func(*mapping.ReceiveRule)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		if o.QueueSize == 0 {
			o.QueueSize = 64 << 20
		}
		o.Loops.Breaker = 100
		b := newRig(t, n, o, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", topic, change...)})
		w := &world{T: t, bridge: b, to: n.LastReceiver(), published: make(map[string]int)}
		b.receive.PublishTo(w)
		script(w)
		w.stop.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.budget.Bytes(); got != 0 {
			t.Errorf("%d bytes of the queue are still taken when all is over", got)
		}
	})
}

func (w *world) dropped() int {
	synctest.Wait()
	return int(w.bridge.Status().Receive[0].Drops["breaker"])
}

// ends wants nothing to be published any more.
func (w *world) ends(what string) {
	w.Helper()
	w.mu.Lock()
	before := len(w.order)
	w.mu.Unlock()
	time.Sleep(5 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if after := len(w.order); after != before {
		w.Errorf("%s: it goes on: %d messages in 5s", what, after-before)
	}
}

type publisherFunc func([]session.Publication)

func (f publisherFunc) PublishBatch(batch []session.Publication) { f(batch) }
