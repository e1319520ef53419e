package netlab

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is one machine of a lab. Its methods end the test if they fail, so
// they are to be called from the test's goroutine; [Host.Do], [Host.Command]
// and [Host.Dial] may be called from any.
type Host struct {
	lab   *Lab
	t     testing.TB
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

// Addr adds an address such as "172.17.0.1/16" to an interface.
func (h *Host) Addr(dev, prefix string) {
	h.t.Helper()
	h.must(h.rt.AddrAdd(h.link(dev), h.addr(prefix, unix.IFA_F_NODAD)), "add", prefix, "to", dev)
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
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		addrs, err := h.rt.AddrList(link, unix.AF_INET6)
		h.must(err, "list the addresses of", dev)
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ok && ip.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return ip
			}
		}
	}
	h.t.Fatalf("netlab: %s: %s has no link-local address", h.name, dev)
	return netip.Addr{}
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

// Rename gives an interface a new name, up or down; its index stays.
func (h *Host) Rename(dev, name string) {
	h.t.Helper()
	h.must(h.rt.LinkSetName(h.link(dev), name), "rename", dev, "to", name)
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
