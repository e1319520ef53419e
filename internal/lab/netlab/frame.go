package netlab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A Frame is what came out of a cable: one IP packet, or, where it says so, a
// datagram put together from its fragments.
type Frame struct {
	Station  [6]byte        // the Ethernet address the frame was sent to
	Src, Dst netip.AddrPort // the ports are 0 in what is not UDP
	Protocol byte           // of IP: 17 UDP, 2 IGMP, 58 ICMPv6
	TTL      byte           // or hop limit
	DSCP     byte
	DF       bool // IPv4's don't-fragment bit
	// Fragments is the number of IP packets the datagram came in, 1 if it was
	// whole. It is 0 in a frame that is a fragment.
	Fragments  int
	Payload    []byte       // of UDP; in all else, what follows the IP header
	IGMP       []Membership // what an IGMP report or query says
	fragmentID fragmentKey
	offset     int // of this fragment in the IP payload, in bytes
	more       bool
}

// Membership is one statement of an IGMP message about a group.
type Membership struct {
	Type    string // query, report (versions 1 and 2), leave, or a record type of version 3: TO_EX, ALLOW …
	Group   netip.Addr
	Sources []netip.Addr
}

// ToGroup reports whether the frame was sent to the Ethernet address of the group
// that its packet is for (RFC 1112, 6.4; RFC 2464, 7), and so to all stations, not
// to one of them.
func (f Frame) ToGroup() bool {
	ip := f.Dst.Addr().AsSlice()
	want := [6]byte{0x33, 0x33, ip[len(ip)-4], ip[len(ip)-3], ip[len(ip)-2], ip[len(ip)-1]}
	if f.Dst.Addr().Is4() {
		want = [6]byte{0x01, 0x00, 0x5e, ip[1] & 0x7f, ip[2], ip[3]}
	}
	return f.Dst.Addr().IsMulticast() && f.Station == want
}

// UDP reports whether the frame is a whole UDP datagram.
func (f Frame) UDP() bool { return f.Protocol == protoUDP && f.Fragments > 0 }

func (f Frame) String() string {
	switch {
	case f.Fragments == 0:
		return fmt.Sprintf("%v > %v: fragment at %d, %d bytes", f.Src.Addr(), f.Dst.Addr(), f.offset, len(f.Payload))
	case f.IGMP != nil:
		return fmt.Sprintf("%v > %v: igmp %v", f.Src.Addr(), f.Dst.Addr(), f.IGMP)
	case f.Protocol != protoUDP:
		return fmt.Sprintf("%v > %v: protocol %d, %d bytes", f.Src.Addr(), f.Dst.Addr(), f.Protocol, len(f.Payload))
	}
	return fmt.Sprintf("%v > %v: ttl %d, dscp %d, %d bytes % x", f.Src, f.Dst, f.TTL, f.DSCP, len(f.Payload), f.Payload[:min(len(f.Payload), 32)])
}

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoIGMP = 2
	protoUDP  = 17

	v6HopByHop = 0
	v6Fragment = 44
)

// decode reads an Ethernet frame. It reports false for one that is neither
// IPv4 nor IPv6, or cut short. Checksums are not looked at: on a veth they are
// left for a card that never comes to fill in.
func decode(b []byte) (f Frame, ok bool) {
	if len(b) < 14 {
		return f, false
	}
	copy(f.Station[:], b)
	switch ip := b[14:]; binary.BigEndian.Uint16(b[12:]) {
	case etherIPv4:
		ok = f.ipv4(ip)
	case etherIPv6:
		ok = f.ipv6(ip)
	}
	if ok && f.Fragments > 0 {
		ok = f.transport()
	}
	return f, ok
}

// ipv4 reads an IPv4 header (RFC 791, 3.1).
func (f *Frame) ipv4(b []byte) bool {
	if len(b) < 20 || b[0]>>4 != 4 {
		return false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) {
		return false
	}
	flags := binary.BigEndian.Uint16(b[6:])
	f.TTL, f.Protocol, f.DSCP, f.DF = b[8], b[9], b[1]>>2, flags&0x4000 != 0
	f.addresses(b[12:16], b[16:20])
	f.Payload = b[header:total]
	f.fragment(uint32(binary.BigEndian.Uint16(b[4:])), int(flags&0x1fff)*8, flags&0x2000 != 0)
	return true
}

// ipv6 reads an IPv6 header and those extension headers that occur here (RFC
// 8200, 3 and 4).
func (f *Frame) ipv6(b []byte) bool {
	if len(b) < 40 || b[0]>>4 != 6 {
		return false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if 40+length > len(b) {
		return false
	}
	f.TTL, f.Protocol = b[7], b[6]
	f.DSCP = byte(binary.BigEndian.Uint16(b) >> 6 & 63)
	f.addresses(b[8:24], b[24:40])
	f.Payload = b[40 : 40+length]
	f.Fragments = 1
	for f.Protocol == v6HopByHop || f.Protocol == v6Fragment {
		p, size := f.Payload, 8
		if len(p) < size {
			return false
		}
		if f.Protocol == v6HopByHop {
			size += int(p[1]) * 8
		} else {
			field := binary.BigEndian.Uint16(p[2:])
			f.fragment(binary.BigEndian.Uint32(p[4:]), int(field&^7), field&1 != 0)
		}
		if len(p) < size {
			return false
		}
		f.Protocol, f.Payload = p[0], p[size:]
		f.fragmentID.protocol = f.Protocol
	}
	return true
}

func (f *Frame) addresses(src, dst []byte) {
	s, _ := netip.AddrFromSlice(src)
	d, _ := netip.AddrFromSlice(dst)
	f.Src, f.Dst = netip.AddrPortFrom(s, 0), netip.AddrPortFrom(d, 0)
}

func (f *Frame) fragment(id uint32, offset int, more bool) {
	if offset == 0 && !more {
		f.Fragments = 1
		return
	}
	f.Fragments, f.offset, f.more = 0, offset, more
	f.fragmentID = fragmentKey{f.Src.Addr(), f.Dst.Addr(), f.Protocol, id}
}

// transport reads what is in a whole IP packet.
func (f *Frame) transport() bool {
	b := f.Payload
	switch {
	case f.Protocol == protoUDP:
		if len(b) < 8 {
			return false
		}
		length := int(binary.BigEndian.Uint16(b[4:]))
		if length < 8 || length > len(b) {
			return false
		}
		f.Src = netip.AddrPortFrom(f.Src.Addr(), binary.BigEndian.Uint16(b))
		f.Dst = netip.AddrPortFrom(f.Dst.Addr(), binary.BigEndian.Uint16(b[2:]))
		f.Payload = b[8:length]
	case f.Protocol == protoIGMP && f.Src.Addr().Is4():
		f.IGMP = igmp(b)
	}
	return true
}

var recordTypes = [...]string{1: "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"}

// igmp reads an IGMP message of any version (RFC 3376, 4; RFC 2236, 2). It
// returns nil for one it does not know.
func igmp(b []byte) []Membership {
	if len(b) < 8 {
		return nil
	}
	group := netip.AddrFrom4([4]byte(b[4:8]))
	switch b[0] {
	case 0x11:
		return []Membership{{Type: "query", Group: group}}
	case 0x12, 0x16:
		return []Membership{{Type: "report", Group: group}}
	case 0x17:
		return []Membership{{Type: "leave", Group: group}}
	case 0x22:
		return records(b[8:], int(binary.BigEndian.Uint16(b[6:])))
	}
	return nil
}

func records(b []byte, n int) []Membership {
	var list []Membership
	for range n {
		if len(b) < 8 || b[0] == 0 || int(b[0]) >= len(recordTypes) {
			break
		}
		m := Membership{Type: recordTypes[b[0]], Group: netip.AddrFrom4([4]byte(b[4:8]))}
		sources, aux := int(binary.BigEndian.Uint16(b[2:])), int(b[1])*4
		if len(b) < 8+4*sources+aux {
			break
		}
		for s := b[8:]; sources > 0; sources, s = sources-1, s[4:] {
			m.Sources = append(m.Sources, netip.AddrFrom4([4]byte(s)))
		}
		b = b[8+4*len(m.Sources)+aux:]
		list = append(list, m)
	}
	return list
}
