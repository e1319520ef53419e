package session

import (
	"bytes"
	"net"
	"strings"
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
	l := newLane(f, &inbox{handle: handle})
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
