package multicast

// HostUnclaimed are the UDP datagrams that came to this host, or to the network namespace
// of the calling thread, and that no program had a socket for, since it was started.
// They are the kernel's own counts, so they are of all ports.
//
// A count for each port of a receiver would take a socket on the wildcard, and on
// Linux that is never harmless: a program that comes later cannot bind an address of
// its own unless it shares the port, one with a socket for IPv6 and IPv4 gets no IPv4
// any more, and of unicast that is balanced by SO_REUSEPORT it loses a part.
type HostUnclaimed struct {
	Unicast   uint64 // to an address of the host (Udp NoPorts of /proc/net/snmp)
	Multicast uint64 // to a group that it has joined, or by broadcast (Udp IgnoredMulti)
}

// Sub returns what has come since an earlier count.
func (u HostUnclaimed) Sub(earlier HostUnclaimed) HostUnclaimed {
	return HostUnclaimed{u.Unicast - earlier.Unicast, u.Multicast - earlier.Multicast}
}
