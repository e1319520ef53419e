package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// toHosts makes a binding one for hosts.
func toHosts(b *Binding) { b.Host, b.TTL, b.DSCP = true, 64, 46 }

// sendHost sends to one host, and returns why it was refused, or why it has to wait.
func sendHost(s *Sender, to string, broadcast bool, payload string) (err error) {
	d := Datagram{To: netip.MustParseAddrPort(to), Payload: []byte(payload), Broadcast: broadcast}
	if _, wait := s.Send([]Datagram{d}, func(_ int, refused error) { err = refused }); wait != nil {
		return wait
	}
	return err
}

// Whatever the routes say, what goes to a host leaves from the source and by the interface:
// each route here leads by the other interface, or by a gateway of this one, which may be.
func TestDatagramsToHostsLeaveFromTheRightSourceOnTheRightCable(t *testing.T) {
	rig := netlab.NewRig(t)
	for _, a := range []string{"172.17.0.200/16", "198.51.100.9/24", "fd17::200/64"} {
		rig.Dev.Addr("eth0", a)
	}
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	ip(t, rig.GW, "route add 172.17.0.200 via 10.0.0.1 dev priv0", "route add 192.0.2.0/24 via 172.17.0.50 dev iso0",
		"-6 route add fd17::200 via fd10::1 dev priv0", "-6 route add 2001:db8:2::/64 via fd17::50 dev iso0")
	all := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	fe80, dev := rig.GW.LinkLocal("iso0"), rig.Dev.LinkLocal("eth0")
	seen := 0
	for _, tt := range []struct{ name, source, to string }{
		{"on the link", "172.17.0.1", "172.17.0.50:5000"},
		{"a route by the other interface", "172.17.0.1", "172.17.0.200:5000"},
		{"the default route by the other interface", "172.17.0.1", "198.51.100.9:5000"},
		{"a gateway", "172.17.0.1", "192.0.2.5:5000"},
		{"the network's broadcast address", "172.17.0.1", "172.17.255.255:5000"},
		{"the broadcast address", "172.17.0.1", "255.255.255.255:5000"},
		{"IPv6: on the link", "fd17::1", "[fd17::50]:5000"},
		{"IPv6: a route by the other interface", "fd17::1", "[fd17::200]:5000"},
		{"IPv6: a gateway", "fd17::1", "[2001:db8:2::5]:5000"},
		{"IPv6: link-local", fe80.String(), "[" + dev.String() + "]:5000"},
		{"IPv6: link-local, from another source", "fd17::1", "[" + dev.String() + "]:5000"},
	} {
		s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), toHosts))
		var p Probe
		if err := rig.GW.Do(func() error { p = s.Probe(t.Context()); return nil }); err != nil || p.Result != ProbeVerified {
			t.Errorf("%s: the self-test is %v: %s", tt.name, p.Result, p.Detail)
		}
		if err := sendHost(s, tt.to, true, the13); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		f := iso.WaitFor(seen+1, nil)[seen]
		seen++
		if f.Src != s.LocalAddr() || f.Src.Addr().String() != tt.source || f.Dst.String() != tt.to || string(f.Payload) != the13 || f.TTL != 64 || f.DSCP != 46 {
			t.Errorf("%s: %v", tt.name, f)
		}
		if broadcast := strings.Contains(tt.to, "255"); broadcast != (f.Station == all) {
			t.Errorf("%s: the frame went to %x", tt.name, f.Station)
		}
	}
	priv.None(netlab.Frame.UDP)
}

// A route that comes while the sender is open changes nothing, and what an address that
// moved away would send is not sent.
func TestASenderToHostsKeepsItsInterface(t *testing.T) {
	for _, tt := range []struct{ source, host, by, prefix string }{
		{"172.17.0.1", "172.17.0.50", "10.0.0.1", "172.17.0.1/16"},
		{"fd17::1", "fd17::50", "fd10::1", "fd17::1/64"},
	} {
		rig := netlab.NewRig(t)
		iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
		to := netip.AddrPortFrom(netip.MustParseAddr(tt.host), 5000).String()
		s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), toHosts))
		if err := sendHost(s, to, false, "before"); err != nil {
			t.Fatal(err)
		}
		iso.WaitFor(1, nil)
		rig.GW.Route(netip.PrefixFrom(netip.MustParseAddr(tt.host), netip.MustParseAddr(tt.host).BitLen()).String(), tt.by)
		if err := sendHost(s, to, false, "with a route by the other"); err != nil {
			t.Fatal(err)
		}
		iso.WaitFor(2, nil)
		rig.GW.DelAddr("iso0", tt.prefix)
		rig.GW.Addr("priv0", tt.prefix)
		if err := sendHost(s, to, false, "moved"); !errors.Is(err, ErrPending) {
			t.Errorf("%s: once the address is elsewhere: %v", tt.source, err)
		}
		priv.None(netlab.Frame.UDP)
	}
}

// What nothing leads to is charged to its host; all others of the batch leave.
func TestAHostThatNothingLeadsToCostsItself(t *testing.T) {
	rig := netlab.NewRig(t)
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	ip(t, rig.GW, "route add unreachable 203.0.113.0/24")
	seen := 0
	for _, tt := range []struct{ source, good, bad string }{
		{"172.17.0.1", "172.17.0.50:5000", "203.0.113.7:5000"},
		{"fd17::1", "[fd17::50]:5000", "[2001:db8::7]:5000"}, // its route leads by the other interface
	} {
		s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), toHosts))
		var batch []Datagram
		for i, to := range []string{tt.good, tt.bad, tt.good} {
			batch = append(batch, Datagram{To: netip.MustParseAddrPort(to), Payload: fmt.Append(nil, i)})
		}
		var failed []string
		n, err := s.Send(batch, func(i int, err error) {
			failed = append(failed, fmt.Sprint(i, " ", errors.Is(err, ErrUnreachable), " ", err))
		})
		want := fmt.Sprintf("1 true send to %s from %s: no route leads there by iso0: unreachable: ", tt.bad, s.Source())
		if tt.source == "172.17.0.1" {
			// Asked for the routes of one interface, IPv4 takes what has none for its own link's.
			if n != 3 || err != nil || len(failed) > 0 {
				t.Errorf("%s: %d, %v, %q", tt.source, n, err, failed)
			}
		} else if n != 3 || err != nil || len(failed) != 1 || !strings.HasPrefix(failed[0], want) {
			t.Errorf("%s: %d, %v, %q; want %q", tt.source, n, err, failed, want)
		}
		seen += 2
		iso.WaitFor(seen, nil)
		rig.GW.Down("iso0")
		if err := sendHost(s, tt.good, false, "down"); !errors.Is(err, ErrPending) {
			t.Errorf("%s: with the interface down: %v", tt.source, err)
		}
		rig.GW.Up("iso0")
		if tt.source == "172.17.0.1" {
			rig.GW.Addr("iso0", "fd17::1/64") // lost with the link
		}
	}
	priv.None(netlab.Frame.UDP)
}

// A slip reaches neither a group nor all of a network.
func TestWhatIsNoHostIsRefused(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	hosts := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), toHosts))
	hosts6 := openOn(t, rig.GW, with(bind("fd17::1", "iso0"), toHosts))
	groups := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	rig.GW.Addr("priv0", "192.0.2.5/25")
	for _, tt := range []struct {
		s    *Sender
		to   string
		want error
	}{
		{hosts, "172.17.255.255:5000", ErrBadHost},
		{hosts, "255.255.255.255:5000", ErrBadHost},
		{hosts, "10.0.0.255:5000", ErrBadHost},      // of the other interface: a frame to all, says the kernel
		{hosts, "192.0.2.127:5000", ErrBadHost},     // the same, of an address that came later
		{hosts, "127.255.255.255:5000", ErrBadHost}, // and of the loopback interface
		{hosts, "127.0.0.2:5000", ErrBadHost},
		{hosts, "240.0.0.1:5000", ErrBadHost},
		{hosts, "225.17.0.18:5000", ErrBadHost},
		{hosts, "0.0.0.0:5000", ErrBadHost},
		{hosts, "172.17.0.50:0", ErrBadHost},
		{hosts, "[fd17::50]:5000", ErrBadHost},
		{hosts6, "[ff15::17]:5000", ErrBadHost},
		{groups, "172.17.0.50:5000", ErrBadGroup},
		{groups, "172.17.255.255:5000", ErrBadGroup},
	} {
		if err := sendHost(tt.s, tt.to, false, "slip"); !errors.Is(err, tt.want) {
			t.Errorf("to %s: %v", tt.to, err)
		}
	}
	// What may go to all, and what may not, in one batch: each is known for itself.
	var failed []int
	all := netip.MustParseAddrPort("172.17.255.255:5000")
	var batch []Datagram
	for i, may := range []bool{true, false, false, true, true} {
		batch = append(batch, Datagram{To: all, Payload: fmt.Append(nil, i), Broadcast: may})
	}
	if n, err := hosts.Send(batch, func(i int, _ error) { failed = append(failed, i) }); n != len(batch) || err != nil || fmt.Sprint(failed) != "[1 2]" {
		t.Errorf("%d, %v; refused are %v", n, err, failed)
	}
	var sent []string
	for _, f := range iso.WaitFor(3, nil) {
		sent = append(sent, string(f.Payload))
	}
	if fmt.Sprint(sent) != "[0 3 4]" {
		t.Errorf("sent %v", sent)
	}
	iso.None(func(f netlab.Frame) bool { return string(f.Payload) == "slip" })
}
