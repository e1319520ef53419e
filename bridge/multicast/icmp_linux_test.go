package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// forger sends ICMP errors about datagrams that a sender may never have sent.
type forger struct {
	fd int
	to unix.Sockaddr
	of *Sender
}

func forge(t *testing.T, from *netlab.Host, of *Sender) *forger {
	t.Helper()
	f := &forger{of: of}
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if of.local.Addr().Is6() {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	err := from.Do(func() (err error) {
		f.fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(f.fd) })
	f.to = sockaddr(netip.AddrPortFrom(of.local.Addr(), 0), 0)
	return f
}

// send forges one about a datagram of the sender to a group: its type, its code, and what
// stands behind (the MTU).
func (f *forger) send(kind, code byte, group netip.AddrPort, rest uint32) {
	order := binary.BigEndian
	src, dst := f.of.local, group
	b := []byte{kind, code, 0, 0, 0, 0, 0, 0}
	order.PutUint32(b[4:], rest)
	const udp = 8 + 1400
	if src.Addr().Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 1, unix.IPPROTO_UDP
		order.PutUint16(h[2:], 20+udp)
		order.PutUint16(h[6:], 0x4000) // DF
		copy(h[12:], src.Addr().AsSlice())
		copy(h[16:], dst.Addr().AsSlice())
		b = append(b, h...)
	} else {
		h := make([]byte, 40)
		h[0], h[6], h[7] = 0x60, unix.IPPROTO_UDP, 1
		order.PutUint16(h[4:], udp)
		copy(h[8:], src.Addr().AsSlice())
		copy(h[24:], dst.Addr().AsSlice())
		b = append(b, h...)
	}
	b = order.AppendUint16(order.AppendUint16(b, src.Port()), dst.Port())
	b = order.AppendUint16(order.AppendUint16(b, udp), 0)
	b = append(b, make([]byte, 64)...)
	if src.Addr().Is4() { // of ICMPv6 the kernel makes it (RFC 3542, 3.1)
		sum := uint32(0)
		for i := 0; i < len(b); i += 2 {
			sum += uint32(order.Uint16(b[i:]))
		}
		sum = sum>>16 + sum&0xffff
		order.PutUint16(b[2:], ^uint16(sum>>16+sum))
	}
	_ = unix.Sendto(f.fd, b, 0, f.to)
}

// arrived waits until all that was forged has come: a cable keeps its order.
func (f *forger) arrived(t *testing.T, from *netlab.Host) {
	t.Helper()
	before, err := f.of.Unclaimed()
	if err != nil {
		t.Fatal(err)
	}
	from.Do(func() error {
		fd, err := unix.Socket(map[bool]int{true: unix.AF_INET6, false: unix.AF_INET}[f.of.local.Addr().Is6()], unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, []byte("mark"), 0, sockaddr(f.of.local, 0))
	})
	for now := before; now == before; time.Sleep(time.Millisecond) {
		now, _ = f.of.Unclaimed()
	}
}

// tooBig forges what says that a datagram of the sender was longer than a link on its way.
func (f *forger) tooBig(group netip.AddrPort) {
	if group.Addr().Is6() {
		f.send(2, 0, group, 1280)
		return
	}
	f.send(3, 4, group, 576)
}

// The path MTU of a group is that of the interface, whatever anybody says.
func TestAForgedPathMTUIsNotBelieved(t *testing.T) {
	rig := netlab.NewRig(t)
	// Without a route to groups IPv4 has nowhere to note a path MTU.
	for _, args := range [][]string{{"route", "add", "224.0.0.0/4", "dev", "iso0"}, {"-6", "route", "add", "ff15::/16", "dev", "iso0", "table", "local"}} {
		if out, err := rig.GW.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v, %s", args, err, out)
		}
	}
	iso := rig.Dev.Capture("eth0")
	seen := 0
	for _, source := range []string{"172.17.0.1", "fd17::1"} {
		for _, fragment := range []bool{false, true} {
			group := rigGroup
			if source == "fd17::1" {
				group = rigGroup6
			}
			s := openOn(t, rig.GW, with(bind(source, "iso0"), func(b *Binding) { b.Fragment = fragment }))
			f := forge(t, rig.Dev, s)
			send(t, s, group, string(make([]byte, 1400)))
			for range 3 {
				f.tooBig(group)
			}
			f.arrived(t, rig.Dev)
			for range 10 {
				send(t, s, group, string(make([]byte, 1400)))
			}
			for _, d := range iso.WaitFor(seen+11, netlab.Frame.UDP)[seen:] {
				if d.Fragments != 1 || len(d.Payload) != 1400 {
					t.Errorf("from %s, fragment %v: %v, in %d fragments", source, fragment, d, d.Fragments)
				}
			}
			seen = len(iso.Datagrams())
			s.Close()
		}
	}
}

// ICMP errors, however many, neither stop a sender nor cost it a datagram, nor its runs,
// nor its self-test.
func TestAFloodOfForgedErrorsCostsNoDatagram(t *testing.T) {
	for _, c := range []struct {
		source string
		port   uint16
		kinds  [][2]byte
	}{
		{"172.17.0.1", 0, [][2]byte{{3, 3}, {3, 1}, {3, 2}, {3, 5}, {3, 4}, {11, 0}}},
		{"172.17.0.1", 5555, [][2]byte{{3, 1}, {3, 0}}},
		{"fd17::1", 0, [][2]byte{{1, 4}, {1, 0}, {1, 1}, {2, 0}, {4, 1}}},
		{"fd17::1", 5555, [][2]byte{{1, 3}, {1, 0}}},
	} {
		t.Run(fmt.Sprintf("%s port %d", c.source, c.port), func(t *testing.T) {
			rig := netlab.NewRig(t)
			iso := rig.Dev.Capture("eth0")
			s := openOn(t, rig.GW, with(bind(c.source, "iso0"), func(b *Binding) { b.SourcePort = c.port }))
			group := rigGroup
			if s.local.Addr().Is6() {
				group = rigGroup6
			}
			stop := make(chan struct{})
			var flood sync.WaitGroup
			t.Cleanup(flood.Wait)
			t.Cleanup(func() { close(stop) })
			for range 2 {
				f := forge(t, rig.Dev, s)
				flood.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
							k := c.kinds[i%len(c.kinds)]
							f.send(k[0], k[1], group, 600)
						}
					}
				})
			}
			const n = 1000
			var payloads []Datagram
			for i := range n {
				payloads = append(payloads, Datagram{To: group, Payload: fmt.Appendf(nil, "%04d", i)})
			}
			for at := 0; at < n; {
				m, err := s.Send(payloads[at:min(at+2, n)], func(i int, err error) { t.Errorf("datagram %d: %v", at+i, err) })
				at += m
				if err != nil && !errors.Is(err, ErrWouldBlock) {
					t.Fatalf("datagram %d: %v", at, err)
				}
			}
			for i, f := range iso.WaitFor(n, func(f netlab.Frame) bool { return f.UDP() && f.ToGroup() })[:n] {
				if string(f.Payload) != fmt.Sprintf("%04d", i) {
					t.Fatalf("datagram %d is %v", i, f)
				}
			}
			if p := onHost(rig.GW, func() Probe { return s.Probe(t.Context()) }); p.Result != ProbeVerified {
				t.Errorf("the self-test: %s %s", p.Result, p.Detail)
			}
			if err := s.SegmentationError(); err != nil {
				t.Error(err)
			}
		})
	}
}

func onHost[T any](h *netlab.Host, f func() T) (result T) {
	h.Do(func() error {
		result = f()
		return nil
	})
	return result
}

// An MTU that has become smaller since the sender was opened costs nothing that may be
// fragmented.
func TestASmallerMTUIsNoticedAtTheNextDatagram(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	rig.GW.MTU("iso0", 1000)
	long := string(make([]byte, 1400))
	send(t, s, rigGroup, long, long, "short", long)
	for i, f := range iso.WaitFor(4, netlab.Frame.UDP) {
		fragments := 2
		if i == 2 {
			fragments = 1
		}
		if f.Fragments != fragments || f.DF != (fragments == 1) {
			t.Errorf("datagram %d: %v, in %d fragments, DF %v", i, f, f.Fragments, f.DF)
		}
	}
	if err := s.SegmentationError(); err != nil {
		t.Error(err)
	}
}
