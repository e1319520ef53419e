package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Lab is a set of hosts and the cables between them.
type Lab struct {
	t     T
	ends  []end
	plugs int
}

// An end is one end of a cable. Interfaces are known by index: names change.
type end struct {
	host  *Host
	index int
	far   *end
}

// New returns an empty lab that is taken down at the end of the test. The test
// is skipped where the machine allows no namespaces.
func New(t T) *Lab {
	t.Helper()
	state := os.Getenv(stateVar)
	if reason, found := strings.CutPrefix(state, outside); found {
		Skip(t, "no network namespaces on this machine: %s", reason)
	}
	if state != inside {
		t.Fatalf("netlab.New needs a TestMain that calls netlab.Main")
	}
	return &Lab{t: t}
}

// Host adds a host: a network namespace with lo up and nothing else. IPv6
// addresses are usable at once, without duplicate address detection; see
// [Host.TentativeAddr] for one that is not.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	space, err := newNamespace()
	l.must(err, "add host "+name)
	h := &Host{lab: l, t: l.t, name: name, space: space}
	l.t.Cleanup(space.close)
	err = h.Do(func() (err error) {
		// All sockets of a handle are opened here and stay in this namespace.
		if h.rt, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		return loopbackUp()
	})
	l.must(err, "add host "+name)
	l.t.Cleanup(h.rt.Close)
	h.Sysctl("net.ipv6.conf.default.disable_ipv6", "0")
	h.Sysctl("net.ipv6.conf.default.accept_dad", "0")
	h.Sysctl("net.ipv6.conf.default.dad_transmits", "0")
	return h
}

// Link joins two hosts with a cable, a veth pair, and sets both ends up. Set
// one end down and the other loses its carrier.
func (l *Lab) Link(a *Host, aDev string, b *Host, bDev string) {
	l.t.Helper()
	l.link(a, aDev, 0, b, bDev)
}

// link is Link with the index that a's end is to have; 0: the next free one.
func (l *Lab) link(a *Host, aDev string, index int, b *Host, bDev string) {
	l.t.Helper()
	what := fmt.Sprintf("link %s:%s to %s:%s", a.name, aDev, b.name, bDev)
	l.must(a.rt.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aDev, Index: index},
		PeerName:      bDev,
		PeerNamespace: netlink.NsFd(b.space.file.Fd()),
	}), what)
	ea, eb := &end{host: a, index: a.Index(aDev)}, &end{host: b, index: b.Index(bDev)}
	ea.far, eb.far = eb, ea
	l.ends = append(l.ends, *ea, *eb)
	for _, e := range []*end{ea, eb} {
		link, err := e.host.rt.LinkByIndex(e.index)
		l.must(err, what)
		// A veth hands a segmented send (UDP_SEGMENT) over in one piece. Off,
		// so that a capture sees the frames that a real cable would carry.
		l.must(e.host.rt.LinkSetGSOMaxSegs(link, 1), what)
		l.must(e.host.rt.LinkSetUp(link), what)
	}
	// A kernel thread gives an interface that has come up its link-local address.
	a.LinkLocal(aDev)
	b.LinkLocal(bDev)
	a.running(aDev)
	b.running(bDev)
}

// Switch adds a switch, a Linux bridge on a host of its own. It floods
// multicast to all ports.
func (l *Lab) Switch(name string) *Host {
	l.t.Helper()
	h := l.Host(name)
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	l.must(h.rt.LinkAdd(br), "add switch "+name)
	h.Up(name)
	h.unfilteredBridges()
	return h
}

// unfilteredBridges has frames pass the bridges of a host as they pass a switch. Where br_netfilter is
// loaded, as Docker does, each frame goes through netfilter's hooks at each port, in every network
// namespace, at a cost that the sender is charged with.
func (h *Host) unfilteredBridges() {
	h.t.Helper()
	for _, of := range []string{"iptables", "ip6tables", "arptables"} {
		err := h.Do(func() error { return os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+of, []byte("0"), 0) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the module is not loaded
			h.must(err, "unfilter bridges")
		}
	}
}

// Plug joins a new interface of a host to a switch.
func (l *Lab) Plug(h *Host, dev string, sw *Host) {
	l.t.Helper()
	l.PlugAs(h, dev, 0, sw)
}

// PlugAs is [Lab.Plug] with the index that the interface is to have, such as that
// of one that was deleted; 0 takes the next that is free.
func (l *Lab) PlugAs(h *Host, dev string, index int, sw *Host) {
	l.t.Helper()
	l.plugs++
	port := fmt.Sprintf("port%d", l.plugs)
	l.link(h, dev, index, sw, port)
	link, err := sw.rt.LinkByName(port)
	l.must(err, "find "+port)
	br, err := sw.rt.LinkByName(sw.name)
	l.must(err, "find "+sw.name)
	l.must(sw.rt.LinkSetMaster(link, br), "plug "+port+" into "+sw.name)
}

// far returns the other end of the cable in an interface. The last one plugged in
// counts: an index may have belonged to an interface that is gone.
func (l *Lab) far(h *Host, index int) *end {
	for _, e := range slices.Backward(l.ends) {
		if e.host == h && e.index == index {
			return e.far
		}
	}
	return nil
}

func (l *Lab) must(err error, what string) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("netlab: %s: %v", what, err)
	}
}
