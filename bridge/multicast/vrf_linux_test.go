package multicast

import (
	"errors"
	"net/netip"
	"testing"

	"topicast/internal/lab/netlab"
)

// A member of a VRF has a routing table, addresses and ports of its own. A socket
// that is not bound to it can neither bind its address nor hear its groups
// (net.ipv4.udp_l3mdev_accept=0, the default). The kernel of a small machine may
// have no VRF: .ci/vm runs these.

func TestAMemberOfAVRFSendsAndHears(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.VRF("blue", 10, "iso0")
	rig.GW.Addr("iso0", "fd17::1/64") // IPv6 addresses go when a master comes
	wire := rig.Dev.Capture("eth0")
	for _, tt := range []struct{ from, device string }{{"172.17.0.1", "172.17.0.50"}, {"fd17::1", "fd17::50"}} {
		group := rigGroup
		if netip.MustParseAddr(tt.from).Is6() {
			group = rigGroup6
		}
		s := openOn(t, rig.GW, with(bind(tt.from, "iso0"), nil))
		if p := probeOn(t, rig.GW, s); p.Result != ProbeVerified {
			t.Errorf("%s: self-test %s: %s", tt.from, p.Result, p.Detail)
		}
		send(t, s, group, the13)
		f := wire.WaitForFrame(func(f netlab.Frame) bool { return f.Dst == group })
		if f.Src != s.LocalAddr() || string(f.Payload) != the13 {
			t.Errorf("%v on the wire, want it from %s", f, s.LocalAddr())
		}

		r := listenOn(t, rig.GW, group, "iso0")
		send(t, openOn(t, rig.Dev, with(bind(tt.device, "eth0"), nil)), group, "back")
		if got := receiveOne(t, r); string(got.Payload) != "back" || got.Source.Addr().String() != tt.device {
			t.Errorf("heard %q from %s, want back from %s", got.Payload, got.Source, tt.device)
		}
	}
}

func TestAVRFThatComesAndGoesMakesAnotherSource(t *testing.T) {
	rig := netlab.NewRig(t)
	source := func() Source {
		return waitResolve(t, rig.GW, bind("172.17.0.1", "iso0"), "find", nil, func(_ Source, err error) bool { return err == nil })
	}
	outside := source()
	rig.GW.VRF("blue", 10, "iso0")
	inside := source()
	if inside == outside || inside.VRF != "blue" {
		t.Errorf("in the VRF the source is %#v, and was %#v: a socket of before would be kept", inside, outside)
	}
	rig.GW.Release("iso0")
	if again := source(); again != outside {
		t.Errorf("out of the VRF the source is %#v, and was %#v", again, outside)
	}
}

func TestTheSameAddressInTwoVRFsIsToldApartByItsInterface(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.VRF("blue", 10, "iso0")
	rig.GW.VRF("red", 11, "priv0")
	rig.GW.Addr("priv0", "172.17.0.1/16")
	wires := map[string]*netlab.Capture{"iso0": rig.Dev.Capture("eth0"), "priv0": rig.Lan.Capture("eth0")}
	for on, wire := range wires {
		s := openOn(t, rig.GW, with(bind("172.17.0.1", on), nil))
		send(t, s, rigGroup, on)
		if f := wire.WaitForFrame(func(f netlab.Frame) bool { return f.Dst == rigGroup }); string(f.Payload) != on || f.Src.Addr().String() != "172.17.0.1" {
			t.Errorf("%s: %v on its wire", on, f)
		}
	}
	for on, wire := range wires {
		wire.Settle()
		wire.None(func(f netlab.Frame) bool { return f.Dst == rigGroup && string(f.Payload) != on })
	}
}

// What goes to a host leaves by the VRF's own routes, and the kernel tells whether it answers.
func TestAMemberOfAVRFSendsToHosts(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.VRF("blue", 10, "iso0")
	rig.GW.Addr("iso0", "fd17::1/64") // IPv6 addresses go when a master comes
	quickNeighbours(rig.GW, "iso0")
	// Outside the VRF the host is another's, and a gateway's inside.
	ip(t, rig.GW, "route add 192.0.2.0/24 via 10.0.0.1 dev priv0", "route add 192.0.2.0/24 via 172.17.0.50 dev iso0 vrf blue")
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	for i, tt := range []struct{ from, to, hop, gone string }{
		{"172.17.0.1", "172.17.0.50:5000", "172.17.0.50", "172.17.0.77:5000"},
		{"172.17.0.1", "192.0.2.7:5000", "172.17.0.50", ""},
		{"172.17.0.1", "172.17.255.255:5000", "", ""},
		{"fd17::1", "[fd17::50]:5000", "fd17::50", "[fd17::77]:5000"},
	} {
		s := openOn(t, rig.GW, with(bind(tt.from, "iso0"), toHosts))
		if err := sendHost(s, tt.to, true, the13); err != nil {
			t.Errorf("to %s: %v", tt.to, err)
			continue
		}
		f := iso.WaitFor(i+1, func(f netlab.Frame) bool { return f.UDP() && string(f.Payload) == the13 })[i]
		if f.Src != s.LocalAddr() || f.Dst.String() != tt.to {
			t.Errorf("to %s: %v", tt.to, f)
		}
		want, _ := netip.ParseAddr(tt.hop)
		if hop := s.NextHop(netip.MustParseAddrPort(tt.to).Addr()); hop != want {
			t.Errorf("to %s it goes by %v, want %v", tt.to, hop, want)
		}
		if tt.gone == "" {
			continue
		}
		if err := sendHost(s, tt.gone, false, "x"); err != nil {
			t.Error(err)
		}
		waitForReach(t, s, netip.MustParseAddrPort(tt.gone).Addr(), ReachFailed)
	}
	priv.None(netlab.Frame.UDP)
}

func receiveOne(t *testing.T, r *Receiver) Datagram {
	t.Helper()
	batch := make([]Datagram, 1)
	if n, err := r.Receive(batch); err != nil || n != 1 {
		t.Fatal(n, errors.Join(err))
	}
	return batch[0]
}
