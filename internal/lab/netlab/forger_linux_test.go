package netlab_test

import (
	"errors"
	"net"
	"net/netip"
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
