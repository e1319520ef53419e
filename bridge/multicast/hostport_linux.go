package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A host's port is heard by a socket on the wildcard that is bound to the interface: one on
// an address hears no broadcast, and would have to follow the addresses of the interface.
// Were it not bound to the interface it would take unicast that comes by others, of which
// Linux gives each datagram to one socket only.
//
// Who gets unicast where several sockets have the port: one that is bound to the very
// address, whatever else there is; then one bound to the interface; then one on the
// wildcard alone; of equals the last one. But one that was bound with SO_REUSEPORT goes
// before those that were bound earlier, as if it were bound to the interface as well.
// Broadcasts go to all but the first kind (udp4_lib_lookup2, __udp4_lib_mcast_deliver).

// bindToHost prepares a socket for what comes to the host by one interface. The option is
// anybody's as long as a socket is bound to no interface yet.
func bindToHost(fd, index int, ipv6 bool) error {
	err := option("SO_BINDTOIFINDEX", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("what comes to a port of this host needs Linux 5.7, or 5.1 and CAP_NET_RAW: %w", err)
	}
	if err != nil || !ipv6 {
		return err
	}
	return option("IPV6_V6ONLY", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
}

// noFamily reports whether an error says that the host is without that family altogether.
// canHearHost: what comes to a port by one interface is told from the rest.
const canHearHost = true

func noFamily(err error) bool { return errors.Is(err, unix.EAFNOSUPPORT) }

// hostSockets are the inodes of this process's own sockets for hosts' ports.
var hostSockets sync.Map

// enter notes that the receiver's socket is one.
func (r *Receiver) enter() error {
	inode, err := inodeOf(r.raw)
	if err == nil {
		r.inode = inode
		hostSockets.Store(inode, true)
	}
	return err
}

func (r *Receiver) forget() {
	if r.inode != 0 {
		hostSockets.Delete(r.inode)
	}
}

// PortConflicts says which other programs of the host have the port of a receiver of what comes
// to the host: those that take unicast from it, being bound to an address that the
// interface has now, and those with which it shares unicast in a way that Linux settles. To
// be asked once in a while, in the network namespace of the receiver: nothing tells of such
// programs.
func (r *Receiver) PortConflicts(on Interface) (takers, sharers []string) {
	if !r.host() {
		return nil, nil
	}
	return portConflicts(r.group, on, os.Getpid())
}

// PortSharers says which other programs of the host have a port, and who then gets what
// comes there by an interface, for who is about to receive that.
func PortSharers(port uint16, on Interface) []string {
	var all []string
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		takers, sharers := portConflicts(netip.AddrPortFrom(any, port), on, os.Getpid())
		all = slices.Concat(all, takers, sharers)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// portConflicts does the work of PortConflicts. Left out are the sockets of one process, ourselves: senders
// leave unicast to others (SharePort); and those that are connected, which hear their peer
// alone.
func portConflicts(at netip.AddrPort, on Interface, but int) (takers, sharers []string) {
	six := at.Addr().Is6()
	held := boundSockets("/proc/thread-self/net/udp6", at.Port())
	if !six {
		held = append(boundSockets("/proc/thread-self/net/udp", at.Port()), held...)
	}
	held = slices.DeleteFunc(held, func(h portHolder) bool {
		_, own := hostSockets.Load(h.inode)
		has := func(a Address) bool { return a.Prefix.Addr() == h.local.Addr() }
		return own || h.connected || !h.local.Addr().IsUnspecified() && (h.local.Addr().Is6() != six || !slices.ContainsFunc(on.Addresses, has))
	})
	namePrograms(held)
	for _, h := range held {
		to, text := &takers, h.String()+" and gets the unicast that comes there; broadcasts are heard here"
		if h.local.Addr().IsUnspecified() {
			to, text = &sharers, h.String()+" too: of the two one gets each unicast datagram, mostly topicast, and both get broadcasts"
		}
		if h.pid != but && !slices.Contains(*to, text) {
			*to = append(*to, text)
		}
	}
	return takers, sharers
}
