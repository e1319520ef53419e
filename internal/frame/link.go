package frame

import "encoding/binary"

// LinkType is what stands before the packet of IP in a frame of a capture
// (https://www.tcpdump.org/linktypes.html).
type LinkType uint32

const (
	LinkNull      LinkType = 0   // BSD loopback: a family, in the byte order of who captured
	LinkEthernet  LinkType = 1   //
	LinkRaw       LinkType = 101 // IP alone
	LinkLoop      LinkType = 108 // OpenBSD loopback: a family, high byte first
	LinkLinuxSLL  LinkType = 113 // Linux, "any" interface
	LinkIPv4      LinkType = 228
	LinkIPv6      LinkType = 229
	LinkLinuxSLL2 LinkType = 276
)

// Known reports whether Inner can read frames of a type.
func (l LinkType) Known() bool {
	switch l {
	case LinkNull, LinkEthernet, LinkRaw, LinkLoop, LinkLinuxSLL, LinkIPv4, LinkIPv6, LinkLinuxSLL2, 12, 14: // 12 and 14 are raw IP on some BSDs
		return true
	}
	return false
}

// maxTags is how many VLAN tags are read past.
const maxTags = 4

const (
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	etherVLAN   = 0x8100 // IEEE 802.1Q
	etherQinQ   = 0x88a8 // IEEE 802.1ad
	etherOldQnQ = 0x9100
)

// Inner returns the packet of IP in a frame. It reports false where there is none, as in
// ARP. What is returned may be empty, where the frame was cut short.
func (l LinkType) Inner(b []byte) (packet []byte, ok bool) {
	switch l {
	case LinkRaw, LinkIPv4, LinkIPv6, 12, 14:
		return b, true
	case LinkNull, LinkLoop:
		return cutFront(b, 4), true // the version of IP says again what the family does
	case LinkEthernet:
		return ether(b, 12)
	case LinkLinuxSLL:
		return ether(b, 14)
	case LinkLinuxSLL2:
		if len(b) < 20 {
			return nil, true
		}
		return tagged(binary.BigEndian.Uint16(b), b[20:])
	}
	return nil, false
}

// ether is for frames whose EtherType is at byte i, with the packet behind it.
func ether(b []byte, i int) ([]byte, bool) {
	if len(b) < i+2 {
		return nil, true
	}
	return tagged(binary.BigEndian.Uint16(b[i:]), b[i+2:])
}

// tagged reads past VLAN tags.
func tagged(kind uint16, b []byte) ([]byte, bool) {
	for range maxTags {
		if kind != etherVLAN && kind != etherQinQ && kind != etherOldQnQ {
			break
		}
		if len(b) < 4 {
			return nil, true
		}
		kind, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	return b, kind == etherIPv4 || kind == etherIPv6
}

func cutFront(b []byte, n int) []byte { return b[min(n, len(b)):] }
