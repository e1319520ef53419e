package multicast

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// groupsOf makes a batch of 128-byte payloads; to several groups in turn it has
// no runs, to one it is one.
func groupsOf(n, groups int, port uint16) []Datagram {
	batch := make([]Datagram, n)
	for i := range batch {
		group := netip.AddrFrom4([4]byte{239, 9, 9, byte(i % groups)})
		batch[i] = Datagram{To: netip.AddrPortFrom(group, port), Payload: make([]byte, 128)}
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
						for batch := make([]Datagram, MaxReceive); ; {
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

// What a batch of QoS 1 or 2 costs beside Send.
func BenchmarkCarrier(b *testing.B) {
	s := openAt(b, at127(2))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Carrier(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	r := hear(b, "239.9.9.0:0", ReceiverOptions{})
	s := openAt(b, at127(2))
	batch := groupsOf(MaxReceive, 1, r.Group().Port())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s.Send(batch, func(_ int, err error) { b.Error(err) })
		b.StartTimer()
		for got := 0; got < MaxReceive; {
			n, err := r.Receive(batch[:MaxReceive-got])
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxReceive, "ns/datagram")
}

// BenchmarkManyGroups has a receiver and a goroutine for each of n groups of one
// port, and sends to one after the other. What a datagram costs is not to grow
// with n. The one-time costs of a receiver are reported too; the kernel's memory is
// not among them.
func BenchmarkManyGroups(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			rig := netlab.NewRig(b)
			on := Interface{Name: "iso0", Index: rig.GW.Index("iso0")}
			var s *Sender
			err := rig.Dev.Do(func() error {
				src, err := bind("172.17.0.50", "eth0").Resolve()
				if err == nil {
					s, err = Open(src)
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			batch := make([]Datagram, max(n, 1000))
			for i := range batch {
				addr := netip.AddrFrom4([4]byte{239, 9, byte(i % n >> 8), byte(i % n)})
				batch[i] = Datagram{To: netip.AddrPortFrom(addr, 5568), Payload: make([]byte, 128)}
			}
			heard := make(chan int, len(batch))
			rs := make([]*Receiver, n)
			var readers sync.WaitGroup
			before, start := resident(b), time.Now()
			err = rig.GW.Do(func() (err error) {
				for i := range rs {
					if rs[i], err = Listen(ReceiverOptions{Group: batch[i].To}, on); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			joining := time.Since(start)
			for _, r := range rs {
				readers.Go(func() {
					for got := make([]Datagram, 1); ; {
						k, err := r.Receive(got)
						if err != nil {
							return
						}
						heard <- k
					}
				})
			}
			send := func() {
				for at := 0; at < len(batch); at += 64 {
					part := batch[at:min(at+64, len(batch))]
					if k, err := s.Send(part, func(_ int, err error) { b.Error(err) }); k != len(part) {
						b.Fatal(k, err)
					}
					for left := len(part); left > 0; {
						left -= <-heard
					}
				}
			}
			send()
			memory := resident(b) - before
			b.ReportAllocs()
			used := processor(b)
			for b.Loop() {
				send()
			}
			used = processor(b) - used
			start = time.Now()
			for _, r := range rs {
				if _, err := r.KernelDrops(); err != nil {
					b.Fatal(err)
				}
			}
			drops := time.Since(start)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/datagram")
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*len(batch)), "cpu-ns/datagram")
			b.ReportMetric(float64(joining.Microseconds())/float64(n), "µs/join")
			b.ReportMetric(float64(memory)/float64(n), "B/receiver")
			b.ReportMetric(float64(drops.Nanoseconds())/float64(n), "ns/KernelDrops")
			for _, r := range rs {
				r.Close()
			}
			readers.Wait()
		})
	}
}

// processor returns the time that the process has had on all processors.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the memory that the process has, in bytes.
func resident(b *testing.B) int {
	runtime.GC()
	debug.FreeOSMemory()
	var size, pages int
	text, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &pages)
	}
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
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
