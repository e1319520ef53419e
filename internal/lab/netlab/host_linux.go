package netlab

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is one machine of a lab. Its methods end the test if they fail, so
// they are to be called from the test's goroutine; [Host.Do], [Host.Command]
// and [Host.Dial] may be called from any.
type Host struct {
	lab   *Lab
	t     T
	name  string
	space namespace
	rt    *netlink.Handle
}

// Name is the name given to [Lab.Host].
func (h *Host) Name() string { return h.name }

// Index returns the index of an interface.
func (h *Host) Index(dev string) int {
	h.t.Helper()
	return h.link(dev).Attrs().Index
}

// Station is the hardware address of an interface.
func (h *Host) Station(dev string) net.HardwareAddr { return h.link(dev).Attrs().HardwareAddr }

// Addr adds an address such as "172.17.0.1/16" to an interface.
func (h *Host) Addr(dev, prefix string) {
	h.t.Helper()
	h.must(h.rt.AddrAdd(h.link(dev), h.addr(prefix, unix.IFA_F_NODAD)), "add", prefix, "to", dev)
}

// Label adds an IPv4 address that has a label.
func (h *Host) Label(dev, prefix, label string) {
	h.t.Helper()
	addr := h.addr(prefix, 0)
	addr.Label = label
	h.must(h.rt.AddrAdd(h.link(dev), addr), "add", prefix, "labelled", label)
}

// AltName gives an interface one more name, besides its own.
func (h *Host) AltName(dev, name string) {
	h.t.Helper()
	h.must(h.rt.LinkAddAltName(h.link(dev), name), "give", dev, "the name", name)
}

// DelAltName takes such a name away.
func (h *Host) DelAltName(dev, name string) {
	h.t.Helper()
	h.must(h.rt.LinkDelAltName(h.link(dev), name), "take from", dev, "the name", name)
}

// TentativeAddr adds an IPv6 address that stays tentative for about as many
// seconds as it sends probes: duplicate address detection (RFC 4862, 5.4).
func (h *Host) TentativeAddr(dev, prefix string, probes string) {
	h.t.Helper()
	h.Sysctl("net.ipv6.conf."+dev+".accept_dad", "1")
	h.Sysctl("net.ipv6.conf."+dev+".dad_transmits", probes)
	h.must(h.rt.AddrAdd(h.link(dev), h.addr(prefix, 0)), "add", prefix, "to", dev)
}

// DelAddr takes an address from an interface.
func (h *Host) DelAddr(dev, prefix string) {
	h.t.Helper()
	h.must(h.rt.AddrDel(h.link(dev), h.addr(prefix, 0)), "delete", prefix, "from", dev)
}

// LinkLocal waits for the IPv6 link-local address of an interface to be usable
// and returns it, without zone.
func (h *Host) LinkLocal(dev string) netip.Addr {
	h.t.Helper()
	link := h.link(dev)
	var addrs []netlink.Addr
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var err error
		addrs, err = h.rt.AddrList(link, unix.AF_INET6)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		h.must(err, "list the addresses of", dev)
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ok && ip.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return ip
			}
		}
	}
	a := h.link(dev).Attrs()
	h.t.Fatalf("netlab: %s: %s has no link-local address but %v; it is %v, flags %#x", h.name, dev, addrs, a.OperState, a.RawFlags)
	return netip.Addr{}
}

// running waits until an interface sends what it is given. That there is a carrier a kernel thread deals with, which
// on a busy machine may take seconds; till then the interface drops all without a word, as it has no queue
// (net/core/link_watch.c).
func (h *Host) running(dev string) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * patience); h.link(dev).Attrs().OperState != netlink.OperUp; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("netlab: %s: %s is %v, flags %#x", h.name, dev, h.link(dev).Attrs().OperState, h.link(dev).Attrs().RawFlags)
		}
	}
}

// Route adds a route to a prefix, or to "default", by way of a gateway. The
// default route is that of the gateway's family.
func (h *Host) Route(to, gateway string) {
	h.t.Helper()
	h.must(h.rt.RouteAdd(h.route(to, gateway)), "route", to, "by", gateway)
}

// DelRoute takes a route away.
func (h *Host) DelRoute(to, gateway string) {
	h.t.Helper()
	h.must(h.rt.RouteDel(h.route(to, gateway)), "delete route", to, "by", gateway)
}

// Up sets an interface up.
func (h *Host) Up(dev string) {
	h.t.Helper()
	h.must(h.rt.LinkSetUp(h.link(dev)), "set up", dev)
}

// Down sets an interface down, and with it the carrier of the other end. IPv6
// addresses are lost with it, IPv4 ones stay.
func (h *Host) Down(dev string) {
	h.t.Helper()
	h.must(h.rt.LinkSetDown(h.link(dev)), "set down", dev)
}

// PullCable takes the carrier from an interface that stays up, as a pulled cable
// does: the cable's other end is set down. [Host.PushCable] puts it back.
func (h *Host) PullCable(dev string) {
	h.t.Helper()
	far, link := h.farEnd(dev)
	h.must(far.host.rt.LinkSetDown(link), "pull the cable of", dev)
}

// PushCable gives an interface its carrier back.
func (h *Host) PushCable(dev string) {
	h.t.Helper()
	far, link := h.farEnd(dev)
	h.must(far.host.rt.LinkSetUp(link), "push the cable into", dev)
}

func (h *Host) farEnd(dev string) (*end, netlink.Link) {
	h.t.Helper()
	far := h.lab.far(h, h.Index(dev))
	if far == nil {
		h.t.Fatalf("netlab: %s: %s has no cable", h.name, dev)
	}
	link, err := far.host.rt.LinkByIndex(far.index)
	h.must(err, "find the other end of", dev)
	return far, link
}

// Rename gives an interface a new name, up or down; its index stays. Before Linux
// 6.2 one that is up has to be down for the moment; live reports whether it stayed up.
func (h *Host) Rename(dev, name string) (live bool) {
	h.t.Helper()
	link := h.link(dev)
	err := h.rt.LinkSetName(link, name)
	live = !errors.Is(err, unix.EBUSY)
	if !live {
		h.must(h.rt.LinkSetDown(link), "set down", dev)
		err = h.rt.LinkSetName(link, name)
		h.must(h.rt.LinkSetUp(link), "set up", dev)
	}
	h.must(err, "rename", dev, "to", name)
	return live
}

// VRF makes a VRF with a routing table of its own and enslaves interfaces to it.
// The test is skipped where the kernel has none.
func (h *Host) VRF(name string, table uint32, devs ...string) {
	h.t.Helper()
	vrf := &netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: name}, Table: table}
	if err := h.rt.LinkAdd(vrf); errors.Is(err, unix.EOPNOTSUPP) {
		SkipKernel(h.t, "this kernel has no VRF")
	} else {
		h.must(err, "add VRF", name)
	}
	h.must(h.rt.LinkSetUp(vrf), "set up", name)
	for _, dev := range devs {
		h.Enslave(dev, name)
	}
}

// Add makes an interface of a kind that needs no more than a name, such as bridge,
// bond or team, and sets it up. The test is skipped where the kernel has none.
func (h *Host) Add(kind, name string) {
	h.t.Helper()
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name}, LinkType: kind}
	if err := h.rt.LinkAdd(link); errors.Is(err, unix.EOPNOTSUPP) {
		SkipKernel(h.t, "this kernel has no %s", kind)
	} else {
		h.must(err, "add", kind, name)
	}
	h.Up(name)
}

// KernelHas reports whether the kernel knows a kind of interface, such as "vrf".
func KernelHas(kind string) (has bool) {
	space, err := newNamespace()
	if err != nil {
		return false
	}
	defer space.close()
	_ = space.do(func() error {
		err := netlink.LinkAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "try"}, LinkType: kind})
		// A kind that exists may still ask for more than its name.
		has = err == nil || !errors.Is(err, unix.EOPNOTSUPP)
		return nil
	})
	return has
}

// Enslave gives an interface a master: a bridge, a bond, a VRF. Its IPv4 addresses
// stay, and so do the IPv6 ones, but for those of a VRF's former table.
func (h *Host) Enslave(dev, master string) {
	h.t.Helper()
	h.must(h.rt.LinkSetMaster(h.link(dev), h.link(master)), "enslave", dev, "to", master)
}

// Release takes an interface's master away.
func (h *Host) Release(dev string) {
	h.t.Helper()
	h.must(h.rt.LinkSetNoMaster(h.link(dev)), "release", dev)
}

// Delete removes an interface, and with it the other end of its cable.
func (h *Host) Delete(dev string) {
	h.t.Helper()
	h.must(h.rt.LinkDel(h.link(dev)), "delete", dev)
}

// MTU sets the MTU of an interface, in bytes. The other end of the cable keeps
// its own.
func (h *Host) MTU(dev string, bytes int) {
	h.t.Helper()
	h.must(h.rt.LinkSetMTU(h.link(dev), bytes), "set the mtu of", dev)
}

// Sysctl sets a kernel setting such as "net.ipv4.conf.all.rp_filter". A dot in
// an interface's name is written as a slash, as in sysctl(8).
func (h *Host) Sysctl(key, value string) {
	h.t.Helper()
	swap := strings.NewReplacer(".", "/", "/", ".")
	// The kernel looks at the namespace of the thread that opens the file.
	err := h.Do(func() error {
		return os.WriteFile("/proc/sys/"+swap.Replace(key), []byte(value), 0)
	})
	h.must(err, "set", key, "to", value)
}

// ManyMemberships lets a socket join more than the 20 groups of the kernel's default.
func (h *Host) ManyMemberships() {
	h.t.Helper()
	h.Sysctl("net.ipv4.igmp_max_memberships", "100000")
}

// WholeSegments lets an interface carry a segmented send (UDP_SEGMENT) in one piece
// again; see [Lab.Link].
func (h *Host) WholeSegments(dev string) {
	h.t.Helper()
	const most = 65535 // GSO_MAX_SEGS
	h.must(h.rt.LinkSetGSOMaxSegs(h.link(dev), most), "leave segments whole on", dev)
}

func (h *Host) link(dev string) netlink.Link {
	h.t.Helper()
	link, err := h.rt.LinkByName(dev)
	h.must(err, "find", dev)
	return link
}

func (h *Host) addr(prefix string, flags int) *netlink.Addr {
	h.t.Helper()
	addr, err := netlink.ParseAddr(prefix)
	h.must(err, "read address", prefix)
	addr.Flags = flags
	return addr
}

func (h *Host) route(to, gateway string) *netlink.Route {
	h.t.Helper()
	route := &netlink.Route{Gw: net.ParseIP(gateway)}
	if route.Gw == nil {
		h.t.Fatalf("netlab: %s: gateway %q is no address", h.name, gateway)
	}
	if to != "default" {
		var err error
		_, route.Dst, err = net.ParseCIDR(to)
		h.must(err, "read prefix", to)
	}
	return route
}

func (h *Host) must(err error, what ...string) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("netlab: %s: %s: %v", h.name, strings.Join(what, " "), err)
	}
}
