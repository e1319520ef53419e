package multicast

import (
	"fmt"
	"net/netip"
	"testing"
)

// groupsOf makes a batch of 128-byte payloads; to several groups in turn it has
// no runs, to one it is one.
func groupsOf(n, groups int, port uint16) []Datagram {
	batch := make([]Datagram, n)
	for i := range batch {
		group := netip.AddrFrom4([4]byte{239, 9, 9, byte(i % groups)})
		batch[i] = Datagram{Group: netip.AddrPortFrom(group, port), Payload: make([]byte, 128)}
	}
	return batch
}

// Time and allocations are per batch; ns/datagram is what to compare.
func BenchmarkSend(b *testing.B) {
	for _, heard := range []bool{false, true} {
		for _, bb := range []struct {
			name      string
			n, groups int
		}{{"batch=1", 1, 1}, {"batch=8", 8, 2}, {"batch=64", 64, 2}, {"run=8", 8, 1}, {"run=64", 64, 1}} {
			b.Run(fmt.Sprintf("%s/heard=%t", bb.name, heard), func(b *testing.B) {
				s := openAt(b, at127(2))
				port := uint16(9999)
				if heard {
					r := hear(b, "239.9.9.0:0", ReceiverOptions{})
					port = r.Group().Port()
					go func() {
						for batch := make([]Datagram, maxReceive); ; {
							if _, err := r.Receive(batch); err != nil {
								return
							}
						}
					}()
				}
				batch := groupsOf(bb.n, bb.groups, port)
				b.ReportAllocs()
				for b.Loop() {
					if n, err := s.Send(batch, func(_ int, err error) { b.Error(err) }); n != len(batch) {
						b.Fatal(n, err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(bb.n), "ns/datagram")
			})
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	r := hear(b, "239.9.9.0:0", ReceiverOptions{})
	s := openAt(b, at127(2))
	batch := groupsOf(maxReceive, 1, r.Group().Port())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s.Send(batch, func(_ int, err error) { b.Error(err) })
		b.StartTimer()
		for got := 0; got < maxReceive; {
			n, err := r.Receive(batch[:maxReceive-got])
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/maxReceive, "ns/datagram")
}

func BenchmarkResolve(b *testing.B) {
	ifs := host()
	binding := bind("172.17.0.0/16", "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := binding.ResolveIn(ifs); err != nil {
			b.Fatal(err)
		}
	}
}
