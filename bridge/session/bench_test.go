package session

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// flood is a connection that never ends: it gives out the same bytes for ever.
type flood struct {
	net.Conn
	data    []byte
	off     int
	rounds  int
	written int
}

func (f *flood) Read(p []byte) (int, error) {
	n := copy(p, f.data[f.off:])
	if f.off += n; f.off == len(f.data) {
		f.off = 0
		f.rounds++
	}
	return n, nil
}

func (f *flood) Write(p []byte) (int, error)      { f.written += len(p); return len(p), nil }
func (f *flood) SetWriteDeadline(time.Time) error { return nil }
func (f *flood) Close() error                     { return nil }

const floodMessages = 10_000

func newFlood(flags byte) *flood {
	f := &flood{}
	for i := range floodMessages {
		f.data = append(f.data, publish(flags, "site/3/lamp/17/set", uint16(i+1), strings.Repeat("x", 128))...)
	}
	f.data = append(f.data, frame(0xd0)...)
	return f
}

// floodConn is a connection over a flood, past its CONNACK.
func floodConn(tb testing.TB, f *flood, handle func([]Message)) *mqttConn {
	c := testConn(f, &inbox{handle: handle}, newOutbox(100))
	tb.Cleanup(c.end)
	return c
}

// readRound reads the connection until the flood's data begin anew.
func readRound(tb testing.TB, c *mqttConn, f *flood) {
	for round := f.rounds; f.rounds == round; {
		if err := c.step(); err != nil {
			tb.Fatal(err)
		}
	}
}

func benchmarkRead(b *testing.B, flags byte) {
	count := 0
	f := newFlood(flags)
	c := floodConn(b, f, func(batch []Message) { count += len(batch) })
	b.SetBytes(int64(len(f.data)) / floodMessages)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += floodMessages {
		readRound(b, c, f)
	}
	b.StopTimer()
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "msg/s")
}

// One op is one message of 128 bytes, with its copy out of the connection, and
// for QoS 1 its acknowledgement.
func BenchmarkReadQoS0(b *testing.B) { benchmarkRead(b, qos0) }
func BenchmarkReadQoS1(b *testing.B) { benchmarkRead(b, qos1) }

func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, flags := range []byte{qos0, qos1, qos2} {
		f := newFlood(flags)
		c := floodConn(t, f, func([]Message) {})
		readRound(t, c, f)
		if n := allocations(5, func() { readRound(t, c, f) }); n != 0 {
			t.Errorf("QoS %d: %v allocations for %d messages", flags>>1, n, floodMessages)
		}
	}
}

// allocations returns how many f makes: the least of several counts of that many
// runs, since the runtime counts for all goroutines and those of its own allocate as
// well, the more so the slower the machine is. What f itself allocates is in every
// count.
func allocations(runs int, f func()) float64 {
	least := testing.AllocsPerRun(runs, f)
	for i := 0; i < 20 && least > 0; i++ {
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}

// counter is an Origin that counts.
type counter struct{ published, lost int }

func (c *counter) Published(n, _ int)     { c.published += n }
func (c *counter) Lost(n, _ int, _ error) { c.lost += n }

// publishing is a session that publishes over a connection in memory, and whose
// broker answers when it is told to.
type publishing struct {
	*Session
	mqtt *mqttConn
	conn *mouth
	next [2]uint64 // of each flow the number of the first publication without an answer
}

func newPublishing(tb testing.TB) *publishing {
	s, err := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
	if err != nil {
		tb.Fatal(err)
	}
	p := &publishing{Session: s, conn: &mouth{}, next: [2]uint64{s.outbox.flows[0].head, s.outbox.flows[1].head}}
	s.outbox.flows[1].poison = newPoisonSearch(1000) // this broker takes more of QoS 2 than others
	p.mqtt = testConn(p.conn, &s.inbox, s.outbox)
	s.outbox.attach(p.mqtt, false)
	tb.Cleanup(p.mqtt.end)
	return p
}

// mouth is a connection that takes all that is written, and says what it is told.
type mouth struct {
	memConn
	words []byte
}

func (m *mouth) Read(p []byte) (int, error)  { return copy(p, m.words), nil }
func (m *mouth) Write(p []byte) (int, error) { m.writes++; return len(p), nil }

// answers lets the broker answer the next n publications.
func (p *publishing) answers(tb testing.TB, n int, qos byte) {
	if qos == 0 {
		return
	}
	p.outbox.mu.Lock()
	f, next := &p.outbox.flows[qos-1], &p.next[qos-1]
	ids := f.ids
	behind := f.next < *next+uint64(n)
	p.outbox.mu.Unlock()
	if behind { // the connection's goroutine is at it
		_ = p.mqtt.flush()
	}
	for _, kind := range answersOf[qos] {
		b := p.conn.words[:0]
		for i := range n {
			id := ids.of(*next + uint64(i))
			b = append(b, kind<<4, 2, byte(id>>8), byte(id))
		}
		p.conn.words = b
		if err := p.mqtt.fill(); err != nil {
			tb.Fatal(err)
		}
		if more, err := p.mqtt.parse(); err != nil || !more {
			tb.Fatal(more, err)
		}
		if err := p.mqtt.deliver(); err != nil {
			tb.Fatal(err)
		}
	}
	*next += uint64(n)
}

func publications(n int, qos byte, origin Origin) []Publication {
	batch := make([]Publication, n)
	topic, payload := []byte("meters/192.0.2.77/raw"), bytes.Repeat([]byte{'x'}, 128)
	for i := range batch {
		batch[i] = Publication{Topic: topic, Payload: payload, QoS: qos, Origin: origin}
	}
	return batch
}

var answersOf = [3][]byte{nil, {typePuback}, {typePubrec, typePubcomp}}

// One op is one message of 128 bytes, written and, where it has a QoS, acknowledged.
func BenchmarkPublish(b *testing.B) {
	for qos := range byte(3) {
		for _, size := range []int{1, 8, 32, 64} {
			b.Run(fmt.Sprintf("QoS=%d/batch=%d", qos, size), func(b *testing.B) {
				p, origin := newPublishing(b), &counter{}
				batch := publications(size, qos, origin)
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n += size {
					p.PublishBatch(batch)
					p.answers(b, size, qos)
				}
				b.StopTimer()
				if origin.published < b.N || origin.lost > 0 || p.Outstanding() > 0 {
					b.Fatalf("published %d of %d, lost %d, outstanding %d", origin.published, b.N, origin.lost, p.Outstanding())
				}
			})
		}
	}
}

// The same while thousands wait for a broker that takes less than comes, of one rule alone
// or of ten.
func BenchmarkPublishBehindOthers(b *testing.B) {
	for _, queues := range []int{1, 10} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			const size, waiting = 64, 6400
			p, origin := newPublishing(b), &counter{}
			batches := make([][]Publication, queues)
			for i := range batches {
				batches[i] = publications(size, 1, origin)
				for j := range batches[i] {
					batches[i][j].Queue = i
				}
			}
			for n := range waiting / size {
				p.PublishBatch(batches[n%queues])
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += size {
				p.PublishBatch(batches[n/size%queues])
				p.answers(b, size, 1)
			}
			b.StopTimer()
			if origin.published < b.N || origin.lost > 0 || p.Outstanding() != waiting {
				b.Fatalf("published %d of %d, lost %d, outstanding %d", origin.published, b.N, origin.lost, p.Outstanding())
			}
		})
	}
}

// What many publishers do to each other.
func BenchmarkPublishFromManySockets(b *testing.B) {
	p := newPublishing(b)
	var origins []*counter
	var mu sync.Mutex
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		origin := &counter{}
		mu.Lock()
		origins = append(origins, origin)
		mu.Unlock()
		batch := publications(1, 0, origin)
		for pb.Next() {
			p.PublishBatch(batch)
		}
	})
}

func TestPublishingAllocatesNothing(t *testing.T) {
	for qos := range byte(3) {
		p, origin := newPublishing(t), &counter{}
		batch := publications(64, qos, origin)
		publish := func() {
			p.PublishBatch(batch)
			p.answers(t, 64, qos)
		}
		for range 100 { // the memory that it needs
			publish()
		}
		if n := allocations(1000, publish); n != 0 {
			t.Errorf("QoS %d: %v allocations a batch, want 0", qos, n)
		}
		if origin.published == 0 || p.Outstanding() > 0 {
			t.Errorf("QoS %d: %d published, %d outstanding", qos, origin.published, p.Outstanding())
		}
	}
}

// The same over TCP, to a broker that only reads.
func BenchmarkPublishOverTCP(b *testing.B) {
	for _, size := range []int{1, 8, 32, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			go func() {
				conn, err := ln.Accept()
				if err == nil {
					_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
				}
			}()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			tune(conn)
			s, err := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
			if err != nil {
				b.Fatal(err)
			}
			c := testConn(conn, &s.inbox, s.outbox)
			s.outbox.attach(c, false)
			batch := publications(size, 0, nil)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += size {
				s.PublishBatch(batch)
			}
			b.StopTimer()
			c.end()
		})
	}
}
