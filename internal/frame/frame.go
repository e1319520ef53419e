package frame

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Kind is what a packet turned out to be.
type Kind int

const (
	Datagram   Kind = iota // a whole one of UDP
	Membership             // a report or a query of IGMP or MLD
	Fragment               // a part of a datagram whose rest has not come yet
	Other                  // of another protocol
	Cut                    // the capture does not have all of it
	Malformed              // its lengths contradict each other
)

// Packet is one packet of IP, read.
type Packet struct {
	Kind     Kind
	Source   netip.AddrPort // the port is 0 where it is no datagram
	To       netip.AddrPort
	Payload  []byte   // of a datagram; valid until the next packet
	Members  []Member // of Membership: what a report says
	Query    *Query   // of Membership: what is asked; nil: it is a report, or of no group
	TTL      uint8
	Protocol uint8 // of IP
}

// protocols of IP (IANA) and extension headers (RFC 8200, 4).
const (
	protoHopByHop = 0
	protoIGMP     = 2
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoOptions  = 60
)

// maxExtensions is how many extension headers are read past. Senders have one or two.
const maxExtensions = 8

// Reader reads packets one after the other. It keeps fragments until their datagram is
// whole; its memory is bounded. The zero Reader is ready for use.
type Reader struct {
	parts assembly
}

// Read reads a packet of IPv4 or IPv6 that was seen at a time; b may have padding behind it.
// Checksums are not looked at: of what a host sends itself they are often left to its
// network card.
func (r *Reader) Read(b []byte, at time.Time) Packet {
	if len(b) == 0 {
		return Packet{Kind: Cut}
	}
	switch b[0] >> 4 {
	case 4:
		return r.ipv4(b, at)
	case 6:
		return r.ipv6(b, at)
	}
	return Packet{Kind: Other}
}

// Incomplete is how many datagrams were given up because fragments of them did not come, or
// contradicted each other, or came when too many others were waited for; what is waited for
// now counts too.
func (r *Reader) Incomplete() int { return r.parts.lost + len(r.parts.pending) }

// ipv4: RFC 791, 3.1.
func (r *Reader) ipv4(b []byte, at time.Time) (p Packet) {
	if len(b) < 20 {
		return Packet{Kind: Cut}
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	p.TTL, p.Protocol = b[8], b[9]
	p.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), 0)
	p.To = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), 0)
	switch {
	case header < 20 || total < header:
		p.Kind = Malformed
		return p
	case total > len(b):
		p.Kind = Cut
		if p.Protocol != protoUDP && p.Protocol != protoIGMP {
			p.Kind = Other
		}
		return p
	}
	body := b[header:total]
	if field := binary.BigEndian.Uint16(b[6:]); field&0x3fff != 0 {
		key := fragmentKey{p.Source.Addr(), p.To.Addr(), p.Protocol, uint32(binary.BigEndian.Uint16(b[4:]))}
		return r.fragment(p, key, int(field&0x1fff)*8, field&0x2000 != 0, body, at)
	}
	return p.transport(body)
}

// ipv6: RFC 8200, 3 and 4.
func (r *Reader) ipv6(b []byte, at time.Time) (p Packet) {
	if len(b) < 40 {
		return Packet{Kind: Cut}
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	p.TTL, p.Protocol = b[7], b[6]
	p.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), 0)
	p.To = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), 0)
	if 40+length > len(b) {
		p.Kind = Cut
		if p.Protocol != protoUDP && p.Protocol != protoHopByHop && p.Protocol != protoFragment {
			p.Kind = Other
		}
		return p
	}
	body := b[40 : 40+length]
	for range maxExtensions {
		switch p.Protocol {
		case protoHopByHop, protoRouting, protoOptions:
			if len(body) < 8 || len(body) < 8+int(body[1])*8 {
				p.Kind = Malformed
				return p
			}
			p.Protocol, body = body[0], body[8+int(body[1])*8:]
		case protoFragment:
			if len(body) < 8 {
				p.Kind = Malformed
				return p
			}
			field, id := binary.BigEndian.Uint16(body[2:]), binary.BigEndian.Uint32(body[4:])
			p.Protocol = body[0]
			if field&^6 != 0 { // RFC 6946: a fragment that is all of it stands for itself
				return r.fragment(p, fragmentKey{p.Source.Addr(), p.To.Addr(), p.Protocol, id}, int(field&^7), field&1 != 0, body[8:], at)
			}
			body = body[8:]
		default:
			return p.transport(body)
		}
	}
	p.Kind = Malformed
	return p
}

// fragment takes a part in, and reads the datagram if it was the last that was missing.
func (r *Reader) fragment(p Packet, key fragmentKey, offset int, more bool, body []byte, at time.Time) Packet {
	if p.Protocol != protoUDP {
		p.Kind = Other
		return p
	}
	whole := r.parts.add(key, offset, more, body, at)
	if whole == nil {
		p.Kind = Fragment
		return p
	}
	return p.transport(whole)
}

// transport reads what is in a whole packet.
func (p Packet) transport(b []byte) Packet {
	switch p.Protocol {
	case protoUDP: // RFC 768
		if len(b) < 8 {
			p.Kind = Malformed
			return p
		}
		length := int(binary.BigEndian.Uint16(b[4:]))
		if length < 8 || length > len(b) {
			p.Kind = Malformed
			return p
		}
		p.Source = netip.AddrPortFrom(p.Source.Addr(), binary.BigEndian.Uint16(b))
		p.To = netip.AddrPortFrom(p.To.Addr(), binary.BigEndian.Uint16(b[2:]))
		p.Payload = b[8:length]
		p.Kind = Datagram
	case protoIGMP:
		p.Members, p.Query = igmp(b)
		p.Kind = Membership
	case protoICMPv6:
		var is bool
		if p.Members, p.Query, is = mld(b); is {
			p.Kind = Membership
		} else {
			p.Kind = Other
		}
	default:
		p.Kind = Other
	}
	return p
}
