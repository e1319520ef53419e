package netlab_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

func TestAForgerSpeaksForAnybody(t *testing.T) {
	r := netlab.NewRig(t)
	group4, group6 := netip.MustParseAddrPort("239.1.1.1:5000"), netip.MustParseAddrPort("[ff15::1]:5000")
	d := r.GW.Device("iso0", group4, group6)
	f := r.Dev.Forger("eth0")
	for i, source := range []string{"172.17.9.9:7", "[fd17::9]:7"} {
		to := []netip.AddrPort{group4, group6}[i]
		if err := f.UDP(netip.MustParseAddrPort(source), to, []byte("odd")); err != nil {
			t.Fatal(err)
		}
		got := d.WaitFor(i + 1)[i]
		if got.Source.String() != source || got.Group != to || string(got.Payload) != "odd" {
			t.Errorf("%v, want it from %s", got, source)
		}
	}
}

// The kernel tells a connected socket of the errors that it takes for true.
func TestForgedErrorsAreBelievedByTheKernel(t *testing.T) {
	r := netlab.NewRig(t)
	f := r.Dev.Forger("eth0")
	for source, target := range map[string]string{"172.17.0.1:0": "172.17.0.50:9", "[fd17::1]:0": "[fd17::50]:9"} {
		for kind, want := range map[netlab.ICMPError]error{netlab.PortUnreachable: unix.ECONNREFUSED, netlab.HostUnreachable: unix.EHOSTUNREACH} {
			var conn *net.UDPConn
			err := r.GW.Do(func() (err error) {
				conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(source)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(target)))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			raw, err := conn.SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) { // or only the hard errors are told (ip(7), IP_RECVERR)
					_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
					_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			from := conn.LocalAddr().(*net.UDPAddr).AddrPort()
			to := netip.MustParseAddrPort(target)
			if err := f.ICMP(to.Addr(), kind, 0, from, to); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("%s, error %d: %v, want %v", target, kind, err, want)
			}
			conn.Close()
		}
	}
}

// A path whose MTU a router has told is remembered by the kernel: what the socket learns of
// it is what the attacks on multicast are tried with.
func TestAForgedPathMTUIsBelievedByTheKernel(t *testing.T) {
	r := netlab.NewRig(t)
	f := r.Dev.Forger("eth0")
	for _, tt := range []struct {
		source, target, router string
		mtu, level, option     int
	}{
		{"172.17.0.1:0", "172.17.0.50:9", "172.17.0.254", 1000, unix.IPPROTO_IP, unix.IP_MTU},
		{"[fd17::1]:0", "[fd17::50]:9", "fd17::fe", 1300, unix.IPPROTO_IPV6, unix.IPV6_MTU},
	} {
		var conn *net.UDPConn
		to := netip.MustParseAddrPort(tt.target)
		err := r.GW.Do(func() (err error) {
			conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tt.source)), net.UDPAddrFromAddrPort(to))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		from := conn.LocalAddr().(*net.UDPAddr).AddrPort()
		if err := f.ICMP(netip.MustParseAddr(tt.router), netlab.TooBig, tt.mtu, from, to); err != nil {
			t.Fatal(err)
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for deadline := time.Now().Add(10 * time.Second); got != tt.mtu && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			_ = raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), tt.level, tt.option) })
			if err != nil {
				t.Fatal(err)
			}
		}
		if got != tt.mtu {
			t.Errorf("%s: the path has an MTU of %d, want %d", tt.target, got, tt.mtu)
		}
	}
}

// What the kernel answers to is what it has taken for true: a query with a report, and a
// solicitation with an advertisement.
func TestForgedQueriesAreAnsweredByTheKernel(t *testing.T) {
	r := netlab.NewRig(t)
	r.GW.Device("iso0", netip.MustParseAddrPort("[ff15::1]:5000"))
	c := r.Dev.Capture("eth0")
	f := r.Dev.Forger("eth0")
	someone := netip.MustParseAddr("fe80::99")
	// A general query of version 1 that is to be answered within a millisecond (RFC 2710, 3);
	// nobody reports in that version who was not asked.
	query := make([]byte, 24)
	query[0], query[5] = 130, 1
	if err := f.MLD(someone, netip.MustParseAddr("ff02::1"), query); err != nil {
		t.Fatal(err)
	}
	c.WaitForFrame(func(f netlab.Frame) bool { return f.Protocol == unix.IPPROTO_ICMPV6 && f.Payload[0] == 131 })
	gateway := netip.MustParseAddr("fd17::1")
	solicitation := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, gateway.AsSlice()...)
	if err := f.Neighbour(netip.MustParseAddr("fd17::50"), gateway, solicitation); err != nil {
		t.Fatal(err)
	}
	c.WaitForFrame(func(f netlab.Frame) bool { return f.Protocol == unix.IPPROTO_ICMPV6 && f.Payload[0] == 136 })
}

func TestAFirstFragmentIsNoDatagram(t *testing.T) {
	r := netlab.NewRig(t)
	group := netip.MustParseAddrPort("239.1.1.1:5000")
	d := r.GW.Device("iso0", group)
	c := r.GW.Capture("iso0")
	f := r.Dev.Forger("eth0")
	source := netip.MustParseAddrPort("172.17.9.9:7")
	if err := f.FirstFragment(source, group, 7, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	c.WaitForFrame(func(f netlab.Frame) bool { return f.Dst.Addr() == group.Addr() && f.Fragments == 0 })
	if err := f.UDP(source, group, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if got := d.WaitFor(1); string(got[0].Payload) != "whole" {
		t.Errorf("%v", got)
	}
}

// What a forger says is believed of whom it says it in the name of, and its own kernel knows
// nothing of those.
func TestAForgedSolicitationMakesANeighbour(t *testing.T) {
	r := netlab.NewRig(t)
	f := r.Dev.Forger("eth0")
	source := netip.MustParseAddr("fe80::7:8")
	known := func(h *netlab.Host, dev string) string {
		out, err := h.Command("ip", "-6", "neigh", "show", source.String(), "dev", dev).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	solicit := func() {
		if err := f.Solicit(source, netip.MustParseAddr("fd17::1"), r.GW.Station("iso0")); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(known(r.GW, "iso0"), "02:00:00:07:00:08"); time.Sleep(time.Millisecond) {
		solicit() // again: an interface that has just come up may not be ready for it
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s the gateway knows %q", known(r.GW, "iso0"))
		}
	}
	if got := known(r.Dev, "eth0"); got != "" {
		t.Errorf("the forger's own host knows %s", got)
	}
}
