package multicast

import "net/netip"

// MaxPayload is the longest payload of a datagram, in bytes: what an IPv4 packet
// has room for (65,535 less 20 for its header and 8 for UDP's). IPv6 could carry
// 20 more, but what fits is not to depend on the family.
const MaxPayload = 65507

// Datagram is one UDP payload to or from a group, or to a host.
type Datagram struct {
	To        netip.AddrPort // no zone
	Source    netip.AddrPort // who sent it; filled in by Receive, ignored by Send; no zone
	Payload   []byte         // 0 to MaxPayload bytes
	Broadcast bool           // it may go to a broadcast address; ignored for groups
	Interface int            // index of the interface it arrived on; filled in by Receive, ignored by Send
}
