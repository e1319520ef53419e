package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// The tests of this file run on netlab's rig, a gateway with an isolated and a
// private network, and look at what comes out of its cables.

var (
	rigGroup  = netip.MustParseAddrPort("225.17.0.18:30000")
	rigGroup6 = netip.MustParseAddrPort("[ff15::17]:30000")
)

// the13 are the bytes that started it all.
const the13 = "\x11\x22\x33\x44\x55\x66\x77\x88\x88\xAA\xBB\xCC\xDD"

// openOn opens a sender on a host, as soon as its address can be used: that of a
// new interface is tentative for a moment.
func openOn(t *testing.T, h *netlab.Host, b Binding) *Sender {
	t.Helper()
	src := waitResolve(t, h, b, "open", nil, func(_ Source, err error) bool { return err == nil })
	var s *Sender
	err := h.Do(func() (err error) {
		s, err = Open(src)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var lo = Interface{Name: "lo", Index: 1}

// listenAt is Listen on the interface of a name.
func listenAt(on string, o ReceiverOptions) (*Receiver, error) {
	ifs, err := Interfaces()
	if err != nil {
		return nil, err
	}
	i, err := ResolveInterface(on, ifs)
	if err != nil {
		return nil, err
	}
	return Listen(o, i)
}

// listenOn opens a receiver on a host.
func listenOn(t testing.TB, h *netlab.Host, group netip.AddrPort, on string, sources ...netip.Addr) *Receiver {
	t.Helper()
	var r *Receiver
	err := h.Do(func() (err error) {
		r, err = listenAt(on, ReceiverOptions{Group: group, Sources: sources})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// with changes a binding that bind made.
func with(b Binding, change func(*Binding)) Binding {
	b.Loopback, b.Fragment = true, true
	if change != nil {
		change(&b)
	}
	return b
}

func TestDatagramsLeaveFromTheRightSourceOnTheRightCable(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Addr("iso0", "172.17.0.9/16")
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")

	// What this is about, so that it is known that the test would see it:
	// connect, then IP_MULTICAST_IF, without bind.
	rig.GW.Naive("iso0", rigGroup, []byte("naive"))
	if f := iso.WaitFor(1, nil)[0]; f.Src.Addr().String() != "10.0.0.2" {
		t.Errorf("the naive sender's datagram came from %s, not from the wrong address", f.Src)
	}
	seen := map[*netlab.Capture]int{iso: 1}

	fe80 := rig.GW.LinkLocal("iso0")
	for _, tt := range []struct {
		name string
		b    Binding
		on   *netlab.Capture
		want string // source
	}{
		{"an address", with(bind("172.17.0.1", ""), nil), iso, "172.17.0.1"},
		{"an address and its interface", with(bind("172.17.0.1", "iso0"), nil), iso, "172.17.0.1"},
		{"the second address of an interface", with(bind("172.17.0.9", "iso0"), nil), iso, "172.17.0.9"},
		{"an interface", with(bind("", "iso0"), nil), iso, "172.17.0.1"},
		{"a prefix", with(bind("172.17.0.8/29", ""), nil), iso, "172.17.0.9"},
		{"the interface of the default route", with(bind("10.0.0.2", ""), nil), priv, "10.0.0.2"},
		{"a fixed source port", with(bind("172.17.0.1", ""), func(b *Binding) { b.SourcePort = 5555 }), iso, "172.17.0.1:5555"},
		{"no loopback", with(bind("172.17.0.1", ""), func(b *Binding) { b.Loopback = false }), iso, "172.17.0.1"},
		{"an IPv6 address", with(bind("fd17::1", ""), nil), iso, "fd17::1"},
		{"an IPv6 address on the other interface", with(bind("fd10::2", ""), nil), priv, "fd10::2"},
		{"an interface's IPv6 address", with(bind6("", "iso0"), nil), iso, "fd17::1"},
		{"a link-local IPv6 address", with(bind(fe80.String(), "iso0"), nil), iso, fe80.String()},
		{"an IPv6 address and a fixed source port", with(bind("fd17::1", ""), func(b *Binding) { b.SourcePort = 5555 }), iso, "[fd17::1]:5555"},
	} {
		groups := []netip.AddrPort{rigGroup}
		if tt.b.IPv6 {
			groups = []netip.AddrPort{rigGroup6, netip.MustParseAddrPort("[ff02::17]:30000")}
		}
		s := openOn(t, rig.GW, tt.b)
		for _, group := range groups {
			send(t, s, group, the13)
			f := tt.on.WaitFor(seen[tt.on]+1, nil)[seen[tt.on]]
			seen[tt.on]++
			src := f.Src.Addr().String()
			if tt.b.SourcePort != 0 {
				src = f.Src.String()
			}
			if src != tt.want || f.Src != s.LocalAddr() || f.Dst != group || string(f.Payload) != the13 {
				t.Errorf("%s: %v; want source %s, which the sender says is %s", tt.name, f, tt.want, s.LocalAddr())
			}
		}
		s.Close()
	}
	iso.Settle()
	priv.Settle()
	if got := len(iso.Datagrams()); got != seen[iso] {
		t.Errorf("%d datagrams on the isolated network, want %d", got, seen[iso])
	}
	if got := len(priv.Datagrams()); got != seen[priv] {
		t.Errorf("%d datagrams on the private network, want %d", got, seen[priv])
	}
}

func TestAnAddressOnTwoInterfacesLeavesFromTheOneNamed(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Addr("priv0", "172.17.0.1/16")
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	for _, tt := range []struct {
		on        string
		here, not *netlab.Capture
	}{{"iso0", iso, priv}, {"priv0", priv, iso}} {
		s := openOn(t, rig.GW, with(bind("172.17.0.1", tt.on), nil))
		send(t, s, rigGroup, tt.on)
		f := tt.here.WaitFor(1, nil)[0]
		if f.Src.Addr().String() != "172.17.0.1" || string(f.Payload) != tt.on {
			t.Errorf("%s: %v", tt.on, f)
		}
		tt.not.None(func(f netlab.Frame) bool { return string(f.Payload) == tt.on })
	}
	rig.GW.Do(func() error {
		_, err := bind("172.17.0.1", "").Resolve()
		if err == nil || errors.Is(err, ErrPending) {
			t.Errorf("without an interface: %v", err)
		}
		return nil
	})
}

func TestTheBindingIsOnTheWire(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	seen := 0
	for _, source := range []string{"172.17.0.1", "fd17::1"} {
		group := rigGroup
		if strings.Contains(source, ":") {
			group = rigGroup6
		}
		for _, b := range []Binding{
			with(bind(source, ""), nil),
			with(bind(source, ""), func(b *Binding) { b.TTL, b.DSCP = 7, 46 }),
			with(bind(source, ""), func(b *Binding) { b.TTL, b.DSCP, b.Fragment = 255, 63, false }),
		} {
			s := openOn(t, rig.GW, b)
			send(t, s, group, "x")
			f := iso.WaitFor(seen+1, nil)[seen]
			seen++
			if f.TTL != b.TTL || f.DSCP != b.DSCP {
				t.Errorf("ttl %d, dscp %d on the wire; want those of %+v", f.TTL, f.DSCP, b)
			}
			if !b.IPv6 && !f.DF {
				t.Errorf("no DF bit on a datagram that needs no fragments: %+v", b)
			}
		}
	}
}

func TestLoopbackIsForProgramsOnThisHost(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	for _, source := range []string{"172.17.0.1", "fd17::1"} {
		group := rigGroup
		if strings.Contains(source, ":") {
			group = rigGroup6
		}
		here := listenOn(t, rig.GW, group, "iso0")
		with := openOn(t, rig.GW, with(bind(source, ""), nil))
		without := openOn(t, rig.GW, Binding{Source: with.Source().Binding.Source, IPv6: group.Addr().Is6(), TTL: 1})
		before := len(iso.Datagrams())
		send(t, without, group, "not for here")
		send(t, with, group, "for here too")
		if got := next(t, here, 1); string(got[0].Payload) != "for here too" || got[0].Source != with.LocalAddr() {
			t.Errorf("heard %q from %s", got[0].Payload, got[0].Source)
		}
		quiet(t, here, with)
		iso.WaitFor(before+3, nil) // all leave
	}
}

func TestFragmentsOnlyWhereAllowed(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	for _, tt := range []struct {
		source string
		group  netip.AddrPort
		fits   int
	}{{"172.17.0.1", rigGroup, 1500 - 28}, {"fd17::1", rigGroup6, 1500 - 48}} {
		allowed := openOn(t, rig.GW, with(bind(tt.source, ""), nil))
		forbidden := openOn(t, rig.GW, with(bind(tt.source, ""), func(b *Binding) { b.Fragment = false }))
		for _, runs := range []bool{true, false} {
			long := strings.Repeat("x", tt.fits+1)
			batch := []Datagram{{To: tt.group, Payload: []byte(long[1:])}, {To: tt.group, Payload: []byte(long)}, {To: tt.group, Payload: []byte(long)}, {To: tt.group, Payload: []byte("after")}}
			before := len(iso.Datagrams())
			if runs {
				forbidden.segment = 9000 // as if the MTU had been larger before
			}
			var failed []int
			n, err := forbidden.Send(batch, func(i int, err error) {
				failed = append(failed, i)
				if !errors.Is(err, ErrTooLong) {
					t.Errorf("datagram %d: %v", i, err)
				}
			})
			if d := cmp.Diff([]int{1, 2}, failed); d != "" || n != 4 || err != nil {
				t.Errorf("%s: disposed of %d, %v; failed: want -, got +:\n%s", tt.source, n, err, d)
			}
			send(t, allowed, tt.group, long)
			got := iso.WaitFor(before+3, nil)[before:]
			if len(got[0].Payload) != tt.fits || got[0].Fragments != 1 || string(got[1].Payload) != "after" {
				t.Errorf("%s: forbidden: %v", tt.source, got[:2])
			}
			if len(got[2].Payload) != tt.fits+1 || got[2].Fragments != 2 || got[2].DF {
				t.Errorf("%s: allowed: %v in %d fragments", tt.source, got[2], got[2].Fragments)
			}
		}
	}
}

func TestARunIsManyDatagramsOnTheWire(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	var want []string
	for i := range 64 {
		want = append(want, fmt.Sprintf("datagram %02d", i))
	}
	seen := 0
	for _, source := range []string{"172.17.0.1", "fd17::1"} {
		group := rigGroup
		if strings.Contains(source, ":") {
			group = rigGroup6
		}
		s := openOn(t, rig.GW, with(bind(source, ""), nil))
		entries := counting(s)
		send(t, s, group, want...)
		var got []string
		for _, f := range iso.WaitFor(seen+len(want), nil)[seen:] {
			got = append(got, string(f.Payload))
			if f.Src != s.LocalAddr() || f.TTL != 1 {
				t.Errorf("%v: not from %s", f, s.LocalAddr())
			}
		}
		seen += len(want)
		if d := cmp.Diff(want, got); d != "" || *entries != 1 {
			t.Errorf("%d entries; want -, got +:\n%s", *entries, d)
		}
	}
}

// slow gives an interface a queue that lets little through.
func slow(t *testing.T, h *netlab.Host, dev string, bytesPerSecond uint64, queue uint32) {
	t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       bytesPerSecond, Limit: queue, Buffer: netlink.Xmittime(bytesPerSecond, 5000),
		})
	})
	if err != nil {
		netlab.Skip(t, "no slow interface (tbf): %v", err)
	}
}

// A slow link holds the sender up, it does not make it lose or repeat anything.
func TestASlowInterfaceHoldsTheSenderUp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		queue  uint32 // bytes
		buffer int    // SO_SNDBUF
		want   error
	}{
		{"its queue is longer than the send buffer", 1 << 20, 8 << 10, ErrWouldBlock},
		{"its queue is shorter than the send buffer", 5000, 1 << 20, ErrNoBuffer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rig := netlab.NewRig(t)
			iso := rig.Dev.Capture("eth0")
			s := openOn(t, rig.GW, with(bind("172.17.0.1", ""), nil))
			setSendBuffer(t, s, tt.buffer)
			slow(t, rig.GW, "iso0", 1_000_000, tt.queue)
			var batch []Datagram
			var want []string
			for i := range 100 {
				want = append(want, fmt.Sprintf("%03d%s", i, strings.Repeat(".", 700+i%2))) // no runs
				batch = append(batch, Datagram{To: rigGroup, Payload: []byte(want[i])})
			}
			stops := 0
			for deadline := time.Now().Add(20 * time.Second); len(batch) > 0; {
				n, err := s.Send(batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) })
				batch = batch[n:]
				if err == nil {
					continue
				}
				stops++
				if !errors.Is(err, tt.want) || time.Now().After(deadline) {
					t.Fatalf("%d left: %v, want %v", len(batch), err, tt.want)
				}
				if err := s.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if stops == 0 {
				t.Error("the sender never stopped: the test shows nothing")
			}
			if stops > 500 {
				t.Errorf("stopped %d times: Wait does not wait", stops)
			}
			var got []string
			for _, f := range iso.WaitFor(len(want), nil) {
				got = append(got, string(f.Payload))
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
		})
	}
}

func setSendBuffer(t *testing.T, s *Sender, bytes int) {
	t.Helper()
	raw, err := s.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, bytes); err != nil {
			t.Error(err)
		}
	})
}

// A receiver hears its group on its interface, and not what others on the host
// have joined elsewhere.
func TestAReceiverHearsItsInterfaceOnly(t *testing.T) {
	for _, group := range []string{"225.17.0.18:30000", "[ff15::17]:30000", "[ff02::17]:30000"} {
		t.Run(group, func(t *testing.T) {
			group := netip.MustParseAddrPort(group)
			rig := netlab.NewRig(t)
			iso, priv := listenOn(t, rig.GW, group, "iso0"), listenOn(t, rig.GW, group, "priv0")
			sources := []string{"172.17.0.50", "10.0.0.1"}
			if group.Addr().Is6() {
				sources = []string{rig.Dev.LinkLocal("eth0").String(), "fd10::1"}
			}
			dev := openOn(t, rig.Dev, with(bind(sources[0], "eth0"), nil))
			lan := openOn(t, rig.Lan, with(bind(sources[1], "eth0"), nil))
			want := func(d *Sender, on string, payload string) []Datagram {
				return []Datagram{{To: group, Source: d.LocalAddr(), Payload: []byte(payload), Interface: rig.GW.Index(on)}}
			}
			// The cables are apart, so each datagram waits for the one before.
			for _, tt := range []struct {
				from *Sender
				at   *Receiver
				on   string
			}{{dev, iso, "iso0"}, {lan, priv, "priv0"}, {dev, iso, "iso0"}, {lan, priv, "priv0"}} {
				send(t, tt.from, group, tt.on)
				if d := cmp.Diff(want(tt.from, tt.on, tt.on), next(t, tt.at, 1), cmpAddr); d != "" {
					t.Errorf("want -, got +:\n%s", d)
				}
			}
			quiet(t, iso, dev)
			quiet(t, priv, lan)
		})
	}
}

func TestASourceSpecificJoinIsReported(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	group := netip.MustParseAddrPort("232.1.1.1:30000")
	listenOn(t, rig.GW, group, "iso0", netip.MustParseAddr("172.17.0.50"), netip.MustParseAddr("172.17.0.51"))
	// RFC 3376, 4.2.12: ALLOW_NEW_SOURCES, and never the group as a whole.
	iso.WaitForFrame(func(f netlab.Frame) bool {
		for _, m := range f.IGMP {
			if m.Group == group.Addr() && m.Type != "ALLOW" {
				t.Errorf("reported %+v", m)
			}
			if m.Group == group.Addr() && len(m.Sources) == 2 {
				return true
			}
		}
		return false
	})
}
