package netlab

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { Main(m) }

var group = netip.MustParseAddrPort("225.17.0.18:30000")

// send sends from an address of the host in the way that is right: bind, then
// IP_MULTICAST_IF by index, no connect.
func send(t *testing.T, h *Host, dev, source string, group netip.AddrPort, payloads ...[]byte) {
	t.Helper()
	index := h.Index(dev)
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(source).As4()}); err != nil {
			return err
		}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}); err != nil {
			return err
		}
		to := &unix.SockaddrInet4{Addr: group.Addr().As4(), Port: int(group.Port())}
		for _, p := range payloads {
			if err := unix.Sendto(fd, p, 0, to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("send from %s on %s: %v", source, dev, err)
	}
}

func TestNaiveSenderLeavesFromTheWrongAddress(t *testing.T) {
	rig := NewRig(t)
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	payload := []byte{0x11, 0x22, 0x33}

	rig.GW.Naive("iso0", group, payload)
	got := iso.WaitFor(1, nil)[0]
	if got.Src.Addr() != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("naive sender: source %v, want the private network's 10.0.0.2", got.Src)
	}
	send(t, rig.GW, "iso0", "172.17.0.1", group, payload)
	got = iso.WaitFor(2, nil)[1]
	if got.Src.Addr() != netip.MustParseAddr("172.17.0.1") || got.Dst != group || !bytes.Equal(got.Payload, payload) {
		t.Errorf("bound sender: got %v, want 172.17.0.1 > %v: % x", got, group, payload)
	}
	if got.TTL != 1 || got.DSCP != 0 || got.Fragments != 1 {
		t.Errorf("bound sender: got %+v, want ttl 1, dscp 0, one fragment", got)
	}
	priv.None(nil)
}

func TestCaptureWithoutSourceGoesToTheDefaultRoute(t *testing.T) {
	rig := NewRig(t)
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	err := rig.GW.Do(func() error {
		conn, err := net.Dial("udp4", group.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	priv.WaitFor(1, nil)
	iso.None(nil)
}

func TestLargestDatagramIsPutTogether(t *testing.T) {
	rig := NewRig(t)
	wire := rig.Dev.Capture("eth0")
	dev := rig.Dev.Device("eth0", group)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 4095)[:65507]
	send(t, rig.GW, "iso0", "172.17.0.1", group, payload, nil)
	got := wire.WaitFor(2, nil)
	if f := got[0]; !bytes.Equal(f.Payload, payload) || f.Fragments != 45 || f.Src.Addr().String() != "172.17.0.1" || f.Dst != group {
		t.Errorf("got %v in %d fragments, want 65507 bytes in 45", f, f.Fragments)
	}
	if f := got[1]; len(f.Payload) != 0 || f.Fragments != 1 {
		t.Errorf("got %v, want 0 bytes", f)
	}
	have := dev.WaitFor(2)
	if !bytes.Equal(have[0].Payload, payload) || len(have[1].Payload) != 0 {
		t.Errorf("device received %v, want 65507 and 0 bytes", have)
	}
	if have[0].Group != group || have[0].Source != got[0].Src {
		t.Errorf("device received %v, want what was on the wire: %v", have[0], got[0])
	}
}

func TestSegmentedSendIsSeenAsOnACable(t *testing.T) {
	rig := NewRig(t)
	wire := rig.Dev.Capture("eth0")
	index := rig.GW.Index("iso0")
	err := rig.GW.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 4); err != nil {
			return err
		}
		return unix.Sendto(fd, []byte("aaaabbbbcc"), 0, &unix.SockaddrInet4{Addr: group.Addr().As4(), Port: int(group.Port())})
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range wire.WaitFor(3, nil) {
		got = append(got, string(f.Payload))
	}
	if s := strings.Join(got, " "); s != "aaaa bbbb cc" {
		t.Errorf("got datagrams %q, want aaaa bbbb cc", s)
	}
}

func TestIPv6(t *testing.T) {
	rig := NewRig(t)
	groups := []netip.AddrPort{netip.MustParseAddrPort("[ff15::17]:30000"), netip.MustParseAddrPort("[ff02::4:7]:30000")}
	wire := rig.Dev.Capture("eth0")
	dev := rig.Dev.Device("eth0", groups...)
	index := rig.GW.Index("iso0")
	sources := []netip.Addr{netip.MustParseAddr("fd17::1"), rig.GW.LinkLocal("iso0")}
	big := bytes.Repeat([]byte("v6"), 2000)
	err := rig.GW.Do(func() error {
		for i, g := range groups {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: sources[i].As16(), ZoneId: uint32(index)}); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index); err != nil {
				return err
			}
			if err := unix.Sendto(fd, big, 0, &unix.SockaddrInet6{Addr: g.Addr().As16(), Port: int(g.Port())}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dev.WaitFor(2)
	for i, f := range wire.WaitFor(2, nil) {
		if f.Src.Addr() != sources[i] || f.Dst != groups[i] || !bytes.Equal(f.Payload, big) || f.Fragments != 3 || f.TTL != 1 {
			t.Errorf("got %v in %d fragments, want %v > %v, 4000 bytes in 3", f, f.Fragments, sources[i], groups[i])
		}
	}
}

func TestSettledCaptureHasAllThatWasSent(t *testing.T) {
	rig := NewRig(t)
	wire := rig.Dev.Capture("eth0")
	payloads := make([][]byte, 300)
	for n := 1; n <= 10; n++ {
		send(t, rig.GW, "iso0", "172.17.0.1", group, payloads...)
		wire.Settle()
		if got, want := len(wire.Datagrams()), n*len(payloads); got != want {
			t.Fatalf("%d datagrams in the settled capture, want %d", got, want)
		}
	}
}

func TestMembershipReportsAreDecoded(t *testing.T) {
	rig := NewRig(t)
	wire := rig.GW.Capture("iso0")
	rig.Dev.Device("eth0", group)
	got := wire.WaitForFrame(func(f Frame) bool { return f.IGMP != nil })
	if m := got.IGMP[0]; m.Type != "TO_EX" || m.Group != group.Addr() || len(m.Sources) != 0 {
		t.Errorf("got %v, want TO_EX %v without sources", got, group.Addr())
	}
}

func TestDeviceJoinsAThousandGroups(t *testing.T) {
	rig := NewRig(t)
	var groups []netip.AddrPort
	for i := range 1000 {
		groups = append(groups, netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 1, byte(i >> 8), byte(i)}), 5000))
	}
	dev := rig.Dev.Device("eth0", groups...)
	for _, g := range groups {
		send(t, rig.GW, "iso0", "172.17.0.1", g, []byte(g.String()))
	}
	for i, r := range dev.WaitFor(len(groups)) {
		if r.Group != groups[i] || string(r.Payload) != groups[i].String() {
			t.Fatalf("datagram %d: got %v, want %v", i, r, groups[i])
		}
	}
}

func TestSwitchFloods(t *testing.T) {
	lab := New(t)
	sw := lab.Switch("sw")
	var hosts []*Host
	var wires []*Capture
	for i, name := range []string{"a", "b", "c"} {
		h := lab.Host(name)
		lab.Plug(h, "eth0", sw)
		h.Addr("eth0", "192.0.2."+string(rune('1'+i))+"/24")
		hosts, wires = append(hosts, h), append(wires, h.Capture("eth0"))
	}
	send(t, hosts[0], "eth0", "192.0.2.1", group, []byte("x"))
	wires[1].WaitFor(1, nil)
	wires[2].WaitFor(1, nil)
	wires[0].None(nil)
}

func TestLinkStates(t *testing.T) {
	rig := NewRig(t)
	wire := rig.Dev.Capture("eth0")
	carrier := func() bool {
		out, err := rig.GW.Command("cat", "/sys/class/net/iso0/carrier").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out) == "1\n"
	}
	if !carrier() {
		t.Error("a new link has no carrier")
	}
	rig.Dev.Down("eth0")
	if carrier() {
		t.Error("carrier though the other end is down")
	}
	// The kernel takes it and nothing leaves: the loss nobody is told of.
	send(t, rig.GW, "iso0", "172.17.0.1", group, []byte("lost"))
	wire.None(nil)
	rig.Dev.Up("eth0")
	if !carrier() {
		t.Error("no carrier though both ends are up")
	}
	index := rig.GW.Index("iso0")
	rig.GW.Rename("iso0", "field0")
	if got := rig.GW.Index("field0"); got != index {
		t.Errorf("index %d after the renaming, want %d", got, index)
	}
	send(t, rig.GW, "field0", "172.17.0.1", group, []byte("x"))
	wire.WaitFor(1, nil)
	rig.GW.DelAddr("field0", "172.17.0.1/16")
	if err := rig.GW.Do(func() error { return bind("172.17.0.1") }); err != unix.EADDRNOTAVAIL {
		t.Errorf("bind to a deleted address: %v, want %v", err, unix.EADDRNOTAVAIL)
	}
	rig.GW.Delete("field0")
	if err := rig.GW.Do(func() error { _, err := net.InterfaceByName("field0"); return err }); err == nil {
		t.Error("interface is there after its deletion")
	}
	if err := rig.Dev.Do(func() error { _, err := net.InterfaceByName("eth0"); return err }); err == nil {
		t.Error("the other end is there after the deletion of this one")
	}
	rig.Link(rig.GW, "iso0", rig.Dev, "eth0")
	if got := rig.GW.Index("iso0"); got == index {
		t.Errorf("index %d again after the link was made anew", got)
	}
}

func bind(address string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(address).As4()})
}

func TestTentativeAddress(t *testing.T) {
	rig := NewRig(t)
	rig.GW.TentativeAddr("iso0", "fd17::99/64", "100")
	err := rig.GW.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.MustParseAddr("fd17::99").As16()})
	})
	if err != unix.EADDRNOTAVAIL {
		t.Errorf("bind to a tentative address: %v, want %v", err, unix.EADDRNOTAVAIL)
	}
}

func TestCommandsRunOnTheirHost(t *testing.T) {
	rig := NewRig(t)
	out, err := rig.Dev.Command("ls", "/sys/class/net").Output()
	if err != nil || string(out) != "eth0\nlo\n" {
		t.Errorf("/sys/class/net on dev: %q, %v; want eth0 and lo", out, err)
	}
	outside, _ := os.ReadDir("/sys/fs/cgroup")
	out, err = rig.Dev.Command("ls", "/sys/fs/cgroup").Output()
	if err != nil || len(strings.Fields(string(out))) != len(outside) {
		t.Errorf("a command sees the control groups %q, %v; there are %v", out, err, outside)
	}
	if err := rig.Dev.Command("false").Run(); err == nil || err.(*exec.ExitError).ExitCode() != 1 {
		t.Errorf("false: %v, want exit status 1", err)
	}
	if err := rig.Dev.Command("no-such-command").Run(); err == nil {
		t.Error("a command that does not exist ran")
	}
	p := rig.Dev.Start("sleep", "1000")
	if err := p.Stop(); err == nil || err.Error() != "signal: terminated" {
		t.Errorf("stopped process: %v, want signal: terminated", err)
	}
}

func TestDialIsBetweenHosts(t *testing.T) {
	rig := NewRig(t)
	var listener net.Listener
	err := rig.Lan.Do(func() (err error) {
		listener, err = net.Listen("tcp", "10.0.0.1:1883")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := rig.GW.Dial(ctx, "tcp", "10.0.0.1:1883")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); got != "10.0.0.2" {
		t.Errorf("dialled from %s, want 10.0.0.2", got)
	}
}

func TestThreadsComeHome(t *testing.T) {
	lab := New(t)
	h := lab.Host("h")
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var there string
	if err := h.Do(func() (err error) { there, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		t.Fatal(err)
	}
	if there == here {
		t.Error("Do did not leave the test's namespace")
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		// A thread may have ended since.
		if ns, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && ns != here {
			t.Errorf("thread %s is in %s, want %s", task.Name(), ns, here)
		}
	}
}
