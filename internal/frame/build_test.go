package frame

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// What the tests read is made here, from the RFCs and apart from the code that reads it.

var (
	from4 = netip.MustParseAddr("192.0.2.1")
	to4   = netip.MustParseAddr("239.1.2.3")
	from6 = netip.MustParseAddr("fe80::1")
	to6   = netip.MustParseAddr("ff15::7")
)

func udp(payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, 4000)
	b = binary.BigEndian.AppendUint16(b, 5000)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// ip4 is a packet; field is flags and fragment offset.
func ip4(protocol byte, id, field uint16, body []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(body)))
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, field)
	b = append(b, 3, protocol, 0, 0)
	return slices.Concat(b, from4.AsSlice(), to4.AsSlice(), body)
}

func ip6(next byte, body []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, next, 5)
	return slices.Concat(b, from6.AsSlice(), to6.AsSlice(), body)
}

// fragments4 cuts a body into packets with so many bytes of it.
func fragments4(id uint16, body []byte, size int) (packets [][]byte) {
	for at := 0; at < len(body); at += size {
		end, more := at+size, uint16(0x2000)
		if end >= len(body) {
			end, more = len(body), 0
		}
		packets = append(packets, ip4(protoUDP, id, more|uint16(at/8), body[at:end]))
	}
	return packets
}

// fragment6 is one part of a body.
func fragment6(id uint32, body []byte, at, end int) []byte {
	field := uint16(at)
	if end < len(body) {
		field |= 1
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{protoUDP, 0}, field), id)
	return ip6(protoFragment, append(head, body[at:end]...))
}
