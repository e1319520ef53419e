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

// flood is a connection that never ends: it gives out the same bytes for ever,
// ended from time to time by a PINGRESP, so that Read of the lane returns.
type flood struct {
	net.Conn
	data    []byte
	off     int
	written int
}

func (f *flood) Read(p []byte) (int, error) {
	n := copy(p, f.data[f.off:])
	if f.off += n; f.off == len(f.data) {
		f.off = 0
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

// floodLane is a lane over a flood, past its CONNACK.
func floodLane(tb testing.TB, f *flood, handle func([]Message)) *lane {
	l := newLane(f, &inbox{handle: handle}, newOutbox(100))
	l.greeted = true
	tb.Cleanup(func() { _ = l.Close(); <-l.idle })
	return l
}

var readBuf [2]byte

// pingresp reads the lane up to the PINGRESP at the end of the flood's data.
func pingresp(tb testing.TB, l *lane) {
	b := readBuf[:]
	if n, err := l.Read(b); n != 2 || err != nil || !bytes.Equal(b, pingResponse) {
		tb.Fatalf("read % x, %v", b[:n], err)
	}
}

func benchmarkLane(b *testing.B, flags byte) {
	count := 0
	f := newFlood(flags)
	l := floodLane(b, f, func(batch []Message) { count += len(batch) })
	b.SetBytes(int64(len(f.data)) / floodMessages)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += floodMessages {
		pingresp(b, l)
	}
	b.StopTimer()
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "msg/s")
}

// One op is one message of 128 bytes, with its copy out of the connection, and
// for QoS 1 its acknowledgement.
func BenchmarkLaneQoS0(b *testing.B) { benchmarkLane(b, qos0) }
func BenchmarkLaneQoS1(b *testing.B) { benchmarkLane(b, qos1) }

func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, flags := range []byte{qos0, qos1, qos2} {
		l := floodLane(t, newFlood(flags), func([]Message) {})
		pingresp(t, l)
		if n := testing.AllocsPerRun(5, func() { pingresp(t, l) }); n != 0 {
			t.Errorf("QoS %d: %v allocations for %d messages", flags>>1, n, floodMessages)
		}
	}
}

// counter is an Origin that counts.
type counter struct{ published, lost int }

func (c *counter) Published(n, _ int)     { c.published += n }
func (c *counter) Lost(n, _ int, _ error) { c.lost += n }

// publishing is a session that publishes over a connection in memory, and whose
// broker answers when it is told to.
type publishing struct {
	*Session
	lane *lane
	conn *mouth
	next uint64 // number of the first publication without an answer
}

func newPublishing(tb testing.TB) *publishing {
	s, err := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
	if err != nil {
		tb.Fatal(err)
	}
	p := &publishing{Session: s, conn: &mouth{}, next: s.out.ring.head}
	p.lane = newLane(p.conn, &s.in, s.out)
	p.lane.greeted = true
	s.out.attach(p.lane, false)
	tb.Cleanup(func() { _ = p.lane.Close(); <-p.lane.idle })
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
func (p *publishing) answers(tb testing.TB, n int, kinds ...byte) {
	p.out.mu.Lock()
	behind := p.out.ring.next < p.next+uint64(n)
	p.out.mu.Unlock()
	if behind { // the lane's goroutine is at it
		_ = p.lane.flush()
	}
	for _, kind := range kinds {
		b := p.conn.words[:0]
		for i := range n {
			id := publicationID(p.next + uint64(i))
			b = append(b, kind<<4, 2, byte(id>>8), byte(id))
		}
		p.conn.words = b
		if err := p.lane.fill(); err != nil {
			tb.Fatal(err)
		}
		if more, err := p.lane.parse(); err != nil || !more {
			tb.Fatal(more, err)
		}
		if err := p.lane.deliver(); err != nil {
			tb.Fatal(err)
		}
	}
	p.next += uint64(n)
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
					if qos > 0 {
						p.answers(b, size, answersOf[qos]...)
					}
				}
				b.StopTimer()
				if origin.published < b.N || origin.lost > 0 || p.Outstanding() > 0 {
					b.Fatalf("published %d of %d, lost %d, outstanding %d", origin.published, b.N, origin.lost, p.Outstanding())
				}
			})
		}
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
			p.answers(t, 64, answersOf[qos]...)
		}
		for range 100 { // the memory that it needs
			publish()
		}
		if n := testing.AllocsPerRun(1000, publish); n != 0 {
			t.Errorf("QoS %d: %v allocations a batch, want 0", qos, n)
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
			l := newLane(conn, &s.in, s.out)
			s.out.attach(l, false)
			batch := publications(size, 0, nil)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += size {
				s.PublishBatch(batch)
			}
			b.StopTimer()
			_ = l.Close()
			<-l.idle
		})
	}
}
