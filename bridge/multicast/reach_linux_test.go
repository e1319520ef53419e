package multicast

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// quickNeighbours has the kernel give up a neighbour after a tenth of a second.
func quickNeighbours(h *netlab.Host, dev string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		h.Sysctl("net."+family+".neigh."+dev+".retrans_time_ms", "50")
		h.Sysctl("net."+family+".neigh."+dev+".mcast_solicit", "2")
	}
}

// waitUntilKnown sends to a host until the kernel knows it: on a busy machine it may have given it up.
func waitUntilKnown(t *testing.T, s *Sender, host netip.Addr) {
	t.Helper()
	for s.Reach(host) != ReachKnown {
		if s.Reach(host) != ReachIncomplete {
			_ = sendHost(s, netip.AddrPortFrom(host, 5000).String(), false, "x") // the error of one before may come in its place
		}
		time.Sleep(time.Millisecond)
	}
}

func waitForReach(t *testing.T, s *Sender, hop netip.Addr, want Reach) {
	t.Helper()
	for s.Reach(hop) != want {
		if t.Context().Err() != nil {
			t.Fatalf("%s is %v", hop, s.Reach(hop))
		}
		time.Sleep(time.Millisecond)
	}
}

// Whoever the kernel asks on the link is known, and whether that answers.
func TestTheKernelTellsWhetherAHostAnswers(t *testing.T) {
	rig := netlab.NewRig(t)
	quickNeighbours(rig.GW, "iso0")
	ip(t, rig.GW, "route add 192.0.2.0/24 via 172.17.0.50 dev iso0", "-6 route add 2001:db8:2::/64 via fd17::50 dev iso0",
		"route add 203.0.113.9 via 10.0.0.1 dev priv0")
	for _, tt := range []struct{ source, there, behind, gone, own, all string }{
		{"172.17.0.1", "172.17.0.50", "192.0.2.7", "172.17.0.77", "172.17.0.1", "172.17.255.255"},
		{"fd17::1", "fd17::50", "2001:db8:2::7", "fd17::77", "fd17::1", ""},
	} {
		s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), toHosts))
		there, behind, gone := netip.MustParseAddr(tt.there), netip.MustParseAddr(tt.behind), netip.MustParseAddr(tt.gone)
		for host, want := range map[netip.Addr]netip.Addr{there: there, behind: there, gone: gone, netip.MustParseAddr(tt.own): {}} {
			if hop := s.NextHop(host); hop != want {
				t.Errorf("to %s it goes by %v, want %v", host, hop, want)
			}
			if hop := onHost(rig.GW, func() netip.Addr { return s.Source().NextHop(host) }); hop != want {
				t.Errorf("before it is opened: to %s it goes by %v, want %v", host, hop, want)
			}
		}
		if tt.all != "" {
			if hop := s.NextHop(netip.MustParseAddr(tt.all)); hop.IsValid() {
				t.Errorf("to all it asks for %v", hop)
			}
			// The routes lead there by another interface, which nothing leaves by.
			if h := netip.MustParseAddr("203.0.113.9"); s.NextHop(h) != h {
				t.Errorf("to %v it goes by %v", h, s.NextHop(h))
			}
		}
		if r := s.Reach(gone); r != ReachNone {
			t.Errorf("before: %v", r)
		}
		for _, to := range []netip.Addr{there, gone} {
			if err := sendHost(s, netip.AddrPortFrom(to, 5000).String(), false, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if r := s.Reach(gone); r != ReachIncomplete && r != ReachFailed {
			t.Errorf("just after: %v", r)
		}
		waitUntilKnown(t, s, there)
		waitForReach(t, s, gone, ReachFailed)
		rig.Dev.Addr("eth0", netip.PrefixFrom(gone, gone.BitLen()).String())
		waitUntilKnown(t, s, gone)
	}
	if r := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil)).NextHop(netip.MustParseAddr("172.17.0.50")); r.IsValid() {
		t.Errorf("of groups nobody is asked: %v", r)
	}
}

func TestStatesOfNeighbours(t *testing.T) {
	for state, want := range map[uint16]Reach{
		unix.NUD_NONE: ReachNone, unix.NUD_INCOMPLETE: ReachIncomplete, unix.NUD_FAILED: ReachFailed, unix.NUD_REACHABLE: ReachKnown,
		unix.NUD_STALE: ReachKnown, unix.NUD_DELAY: ReachKnown, unix.NUD_PROBE: ReachKnown, unix.NUD_PERMANENT: ReachKnown, unix.NUD_NOARP: ReachKnown,
	} {
		if got := reachOf(state); got != want {
			t.Errorf("%#x: %v, want %v", state, got, want)
		}
	}
}

// outQueue is how much waits in the send buffer.
func outQueue(t *testing.T, s *Sender) (n int) {
	t.Helper()
	err := s.control(func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is reckoned of the send buffer is what the kernel takes of it.
func TestWhatWaitsForANeighbourTakesUpTheSendBuffer(t *testing.T) {
	rig := netlab.NewRig(t)
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), toHosts))
	for i, n := range []int{0, 8, 100, 600, 1000, 1472} {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, 9, byte(i)}), 5000)
		before := outQueue(t, s)
		if err := sendHost(s, to.String(), false, string(make([]byte, n))); err != nil {
			t.Fatal(err)
		}
		if took := outQueue(t, s) - before; took > Buffered(n) || took < Buffered(n)/2 {
			t.Errorf("%d bytes take %d, reckoned %d", n, took, Buffered(n))
		}
	}
}
