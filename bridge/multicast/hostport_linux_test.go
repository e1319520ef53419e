package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

var (
	hostPort4 = netip.AddrPortFrom(netip.IPv4Unspecified(), 6454)
	hostPort6 = netip.AddrPortFrom(netip.IPv6Unspecified(), 6454)
)

// caller sends datagrams to hosts, from an address of its own.
type caller struct{ *holder }

func callerOn(t *testing.T, h *netlab.Host, from string) caller {
	t.Helper()
	k, err := hold(t, h, 0, netip.AddrPortFrom(netip.MustParseAddr(from), 0), unix.SO_BROADCAST)
	if err != nil {
		t.Fatal(err)
	}
	return caller{k}
}

func (c caller) say(to, payload string) {
	c.t.Helper()
	at := netip.MustParseAddrPort(to)
	if err := c.fd(func(fd int) error { return unix.Sendto(fd, []byte(payload), 0, sockaddr(at, 0)) }); err != nil {
		c.t.Fatalf("to %s: %v", to, err)
	}
}

// heardAt tells what was heard and where each datagram was sent to.
func heardAt(ds []Datagram) (texts []string) {
	for _, d := range ds {
		texts = append(texts, fmt.Sprintf("%s to %s", d.Payload, d.To))
	}
	return texts
}

// A host's port hears what comes to the host by its interface, whichever way, and nothing
// else: no other port, no other interface, and no group that another program has joined.
func TestAHostPortHearsUnicastAndBroadcastOfItsInterface(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Addr("iso0", "172.17.0.9/16")
	r := listenOn(t, rig.GW, hostPort4, "iso0")
	other, err := hold(t, rig.GW, 0, hostPort4, unix.SO_REUSEADDR)
	if err != nil {
		t.Fatal(err)
	}
	group := netip.AddrPortFrom(rigGroup.Addr(), 6454)
	other.join(group.Addr(), rig.GW.Index("iso0"))
	device, lan := callerOn(t, rig.Dev, "172.17.0.50"), callerOn(t, rig.Lan, "10.0.0.1")
	send(t, sendersOn(t, rig.Dev, "172.17.0.50")[0], group, "a group")
	lan.say("10.0.0.2:6454", "by another interface")
	lan.say("10.0.0.255:6454", "broadcast there")
	device.say("172.17.0.1:6455", "another port")
	want := []string{
		"one to 172.17.0.1:6454", "two to 172.17.0.9:6454", "three to 172.17.255.255:6454", "four to 255.255.255.255:6454", "five to 172.17.0.1:6454",
	}
	for _, w := range want {
		payload, to, _ := strings.Cut(w, " to ")
		device.say(to, payload)
	}
	if d := cmp.Diff(want, heardAt(next(t, r, len(want)))); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	// The other hears its group, what comes by the other interface, and broadcasts as well.
	if d := cmp.Diff([]string{"a group", "by another interface", "broadcast there", "three", "four"}, other.next(5)); d != "" {
		t.Errorf("the other: want -, got +:\n%s", d)
	}
}

func TestAHostPortHearsUnicastOfIPv6(t *testing.T) {
	rig := netlab.NewRig(t)
	four, six := listenOn(t, rig.GW, hostPort4, "iso0"), listenOn(t, rig.GW, hostPort6, "iso0")
	other, err := hold(t, rig.GW, 0, hostPort6, unix.SO_REUSEADDR)
	if err != nil {
		t.Fatal(err)
	}
	group := netip.AddrPortFrom(rigGroup6.Addr(), 6454)
	other.join(group.Addr(), rig.GW.Index("iso0"))
	send(t, sendersOn(t, rig.Dev, "fd17::50")[0], group, "a group")
	device := callerOn(t, rig.Dev, "172.17.0.50")
	device.say("172.17.255.255:6454", "four")
	callerOn(t, rig.Dev, "fd17::50").say("[fd17::1]:6454", "six")
	for want, r := range map[string]*Receiver{"six to [fd17::1]:6454": six, "four to 172.17.255.255:6454": four} {
		if got := heardAt(next(t, r, 1)); got[0] != want {
			t.Errorf("heard %s, want %s", got[0], want)
		}
	}
}

// Each interface has its own, and a group of the same port is another matter.
func TestHostPortsOfTwoInterfacesAndAGroupAreApart(t *testing.T) {
	rig := netlab.NewRig(t)
	iso, priv := listenOn(t, rig.GW, hostPort4, "iso0"), listenOn(t, rig.GW, hostPort4, "priv0")
	group := netip.AddrPortFrom(rigGroup.Addr(), 6454)
	grouped := listenOn(t, rig.GW, group, "iso0")
	send(t, sendersOn(t, rig.Dev, "172.17.0.50")[0], group, "group")
	callerOn(t, rig.Dev, "172.17.0.50").say("172.17.0.1:6454", "iso")
	callerOn(t, rig.Lan, "10.0.0.1").say("10.0.0.2:6454", "priv")
	for want, r := range map[string]*Receiver{"iso": iso, "priv": priv, "group": grouped} {
		if got := payloads(next(t, r, 1)); got[0] != want {
			t.Errorf("heard %s, want %s", got[0], want)
		}
	}
}

// Whatever shares the port, whoever is first: broadcasts go to all on the wildcard. Unicast that comes by
// the interface goes to the host's port, but for an address that another program is bound to,
// and to those that come later with SO_REUSEPORT.
func TestAHostPortIsSharedWithWhoeverShares(t *testing.T) {
	for how, options := range sharing {
		for _, at := range []string{"0.0.0.0:6454", "[::]:6454", "172.17.0.1:6454"} {
			for _, first := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s on %s, first %t", how, at, first), func(t *testing.T) {
					rig := netlab.NewRig(t)
					var r *Receiver
					if first {
						r = listenOn(t, rig.GW, hostPort4, "iso0")
					}
					other, err := hold(t, rig.GW, 0, netip.MustParseAddrPort(at), options...)
					if err != nil {
						t.Fatal(err)
					}
					if !first {
						r = listenOn(t, rig.GW, hostPort4, "iso0")
					}
					device := callerOn(t, rig.Dev, "172.17.0.50")
					ours, theirs := []string{"unicast", "broadcast"}, []string{"broadcast"}
					switch {
					case at == "172.17.0.1:6454":
						ours, theirs = []string{"broadcast"}, []string{"unicast"} // it gets no broadcasts
					case first && at == "0.0.0.0:6454" && slices.Contains(options, unix.SO_REUSEPORT):
						ours = theirs // the kernel's choice
					}
					if slices.Contains(append(ours, theirs...), "unicast") {
						device.say("172.17.0.1:6454", "unicast")
					}
					device.say("172.17.255.255:6454", "broadcast")
					if d := cmp.Diff(ours, payloads(next(t, r, len(ours)))); d != "" {
						t.Errorf("want -, got +:\n%s", d)
					}
					if d := cmp.Diff(theirs, other.next(len(theirs))); d != "" {
						t.Errorf("the other: want -, got +:\n%s", d)
					}
				})
			}
		}
	}
}

// Who takes a part of what comes is told.
func TestSharersOfAHostPortAreTold(t *testing.T) {
	rig := netlab.NewRig(t)
	told := func(but int) (takers, sharers []string) {
		t.Helper()
		if err := rig.GW.Do(func() error {
			all, err := Interfaces()
			on := *findInterface(all, "iso0")
			takers, sharers = portConflicts(hostPort4, on, but)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return takers, sharers
	}
	listenOn(t, rig.GW, netip.AddrPortFrom(rigGroup.Addr(), 6454), "iso0") // which is no matter
	listenOn(t, rig.GW, hostPort4, "iso0")
	listenOn(t, rig.GW, hostPort6, "iso0")
	if takers, sharers := told(0); len(takers)+len(sharers) > 0 {
		t.Errorf("alone: %q, %q", takers, sharers)
	}
	for _, at := range []string{"0.0.0.0:6454", "172.17.0.1:6454", "10.0.0.2:6454"} {
		if _, err := hold(t, rig.GW, 0, netip.MustParseAddrPort(at), unix.SO_REUSEADDR); err != nil {
			t.Fatal(err)
		}
	}
	takers, sharers := told(0)
	self := fmt.Sprintf(" (pid %d) is bound to ", os.Getpid())
	if want := self + "172.17.0.1:6454 and gets the unicast that comes there; broadcasts are heard here"; len(takers) != 1 || !strings.HasSuffix(takers[0], want) {
		t.Errorf("takers %q, want one that ends with %q", takers, want)
	}
	if want := self + "0.0.0.0:6454 too: of the two one gets each unicast datagram, mostly topicast, and both get broadcasts"; len(sharers) != 1 || !strings.HasSuffix(sharers[0], want) {
		t.Errorf("sharers %q, want one that ends with %q", sharers, want)
	}
	if takers, sharers := told(os.Getpid()); len(takers)+len(sharers) > 0 {
		t.Errorf("of this process: %q, %q", takers, sharers)
	}
}

// A sender whose fixed port is the same leaves unicast to the receiver, whoever was first.
func TestAFixedSourcePortLeavesUnicastToAHostPort(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("first %t", first), func(t *testing.T) {
			rig := netlab.NewRig(t)
			b := with(bind("172.17.0.1", "iso0"), func(b *Binding) { b.SourcePort = 6454 })
			var r *Receiver
			if first {
				r = listenOn(t, rig.GW, hostPort4, "iso0")
			}
			s := openOn(t, rig.GW, b)
			if !first {
				r = listenOn(t, rig.GW, hostPort4, "iso0")
				shares(t, rig.GW, s)
			}
			if err := rig.GW.Do(func() error {
				all, err := Interfaces()
				if takers, _ := portConflicts(hostPort4, *findInterface(all, "iso0"), 0); len(takers) > 0 {
					t.Errorf("takers %q", takers)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			callerOn(t, rig.Dev, "172.17.0.50").say("172.17.0.1:6454", "unicast")
			if got := payloads(next(t, r, 1)); got[0] != "unicast" {
				t.Errorf("heard %s", got[0])
			}
		})
	}
}

func TestAHostPortThatIsNotSharedIsNamed(t *testing.T) {
	rig := netlab.NewRig(t)
	for _, at := range []string{"0.0.0.0:6454", "172.17.0.1:6454"} {
		k, err := hold(t, rig.GW, 0, netip.MustParseAddrPort(at))
		if err != nil {
			t.Fatal(err)
		}
		err = rig.GW.Do(func() error {
			r, err := listenAt("iso0", ReceiverOptions{Group: hostPort4})
			if err == nil {
				r.Close()
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "is bound to "+at) || !strings.Contains(err.Error(), "SO_REUSEADDR") {
			t.Errorf("%s: %v", at, err)
		}
		k.file.Close()
		lookedUp.mu.Lock()
		lookedUp.asked = lookup{} // or the answer of before is good for half a second
		lookedUp.mu.Unlock()
	}
}

func TestAHostPortInAVRF(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.VRF("blue", 10, "iso0")
	r := listenOn(t, rig.GW, hostPort4, "iso0")
	device := callerOn(t, rig.Dev, "172.17.0.50")
	device.say("172.17.0.1:6454", "unicast")
	device.say("172.17.255.255:6454", "broadcast")
	if d := cmp.Diff([]string{"unicast", "broadcast"}, payloads(next(t, r, 2))); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

func TestAHostPortIsRefusedWhatItCannotDo(t *testing.T) {
	_, err := Listen(ReceiverOptions{Group: hostPort4, Sources: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, lo)
	if err == nil || !strings.Contains(err.Error(), "of some senders only") {
		t.Errorf("with sources: %v", err)
	}
	r, err := Listen(ReceiverOptions{Group: hostPort4}, lo)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := errors.Join(r.Rejoin()); err != nil {
		t.Errorf("Rejoin: %v", err)
	}
	if err := r.SetSources(nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SetSources: %v", err)
	}
}
