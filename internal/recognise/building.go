package recognise

import "fmt"

// knxKinds are the services of KNXnet/IP (ISO 22510, EN ISO 22510 5 and 6).
var knxKinds = map[int]string{
	0x0201: "SEARCH_REQUEST", 0x0202: "SEARCH_RESPONSE", 0x0203: "DESCRIPTION_REQUEST", 0x0204: "DESCRIPTION_RESPONSE",
	0x020b: "SEARCH_REQUEST_EXTENDED", 0x020c: "SEARCH_RESPONSE_EXTENDED",
	0x0530: "ROUTING_INDICATION", 0x0531: "ROUTING_LOST_MESSAGE", 0x0532: "ROUTING_BUSY", 0x0533: "ROUTING_SYSTEM_BROADCAST",
	0x0950: "SECURE_WRAPPER", 0x0955: "TIMER_NOTIFY",
}

// knx: KNXnet/IP (ISO 22510, 5.2). The length of the header 6, version 1.0, a service, and the
// length of it all.
func knx(b []byte) (m Match, ok bool) {
	if len(b) < 6 || u16(b, 0) != 0x0610 || u16(b, 4) != len(b) {
		return m, false
	}
	kind := knxKinds[u16(b, 2)]
	if kind == "" {
		return m, false
	}
	return Match{Protocol: KNX, Kind: kind, Evidence: "header 06 10, a service and the length of the datagram (KNXnet/IP, ISO 22510)"}, true
}

// speedwire: SMA, "SMA Energy Meter, measurement protocol". "SMA" and a zero byte, the first
// tag (0x02a0, 4 bytes: the group), then the tag of what follows.
func speedwire(b []byte) (m Match, ok bool) {
	if !at(b, 0, "SMA\x00\x00\x04\x02\xa0") || len(b) < 18 {
		return m, false
	}
	m = Match{Protocol: Speedwire, Evidence: `"SMA" and tag 02a0 at byte 0 (SMA Speedwire)`}
	switch u16(b, 16) {
	case 0x6069, 0x6081:
		m.Kind = "readings of a meter"
		if serial := u32(b, 20); serial >= 0 {
			m.Kind = fmt.Sprintf("readings of meter %d", serial)
		}
	case 0x6065:
		m.Kind = "inverter"
	default:
		m.Kind = "discovery"
	}
	return m, true
}

// coap: RFC 7252, 3. Version 1, a token of 8 bytes at most, a code of a class that there is,
// and options that end with the datagram or at 0xff with a payload behind it.
func coap(b []byte) (m Match, ok bool) {
	kind, ok := coapKind(b, func(int, []byte) {})
	if !ok {
		return m, false
	}
	return Match{Protocol: CoAP, Kind: kind, Weak: true, Evidence: "version 1, a code and options that fill the datagram (RFC 7252, 3)"}, true
}

var coapCodes = map[byte]string{0x00: "empty", 0x01: "GET", 0x02: "POST", 0x03: "PUT", 0x04: "DELETE", 0x05: "FETCH", 0x06: "PATCH", 0x07: "iPATCH"}

// coapKind reads a message, and gives its options to option.
func coapKind(b []byte, option func(number int, value []byte)) (kind string, ok bool) {
	if len(b) < 4 || b[0]>>6 != 1 || b[0]&15 > 8 {
		return "", false
	}
	token, code := int(b[0]&15), b[1]
	switch class := code >> 5; {
	case class == 0 && (code < 8 || code == 30): // 0.30 is CoIoT's
		kind = coapCodes[code]
		if code == 0 {
			return kind, len(b) == 4 && token == 0 // 4.1
		}
	case class == 2 || class == 4 || class == 5:
		kind = fmt.Sprintf("%d.%02d", class, code&31)
	default:
		return "", false
	}
	if len(b) < 4+token {
		return "", false
	}
	rest, number := b[4+token:], 0
	for len(rest) > 0 {
		if rest[0] == 0xff {
			return kind, len(rest) > 1 // 3: a marker with nothing behind it is an error
		}
		delta, length := int(rest[0]>>4), int(rest[0]&15)
		rest = rest[1:]
		if delta, rest, ok = coapExtended(delta, rest); !ok {
			return "", false
		}
		if length, rest, ok = coapExtended(length, rest); !ok || length > len(rest) {
			return "", false
		}
		if number += delta; number > 65535 {
			return "", false
		}
		option(number, rest[:length])
		rest = rest[length:]
	}
	return kind, true
}

// coapExtended: RFC 7252, 3.1.
func coapExtended(nibble int, rest []byte) (int, []byte, bool) {
	switch {
	case nibble < 13:
		return nibble, rest, true
	case nibble == 13 && len(rest) >= 1:
		return 13 + int(rest[0]), rest[1:], true
	case nibble == 14 && len(rest) >= 2:
		return 269 + u16(rest, 0), rest[2:], true
	}
	return 0, nil, false
}

// coIoT: Shelly, "CoIoT for Gen1 devices". A CoAP message of code 0.30 with option 3332, the
// device's type, identifier and version.
func coIoT(b []byte) (m Match, ok bool) {
	if len(b) < 4 || b[1] != 30 && b[1] != 0x45 { // what is heard of its own, or an answer to a question
		return m, false
	}
	device := ""
	if _, ok := coapKind(b, func(number int, value []byte) {
		if number == 3332 && len(value) <= 64 && printable(value) {
			device = string(value)
		}
	}); !ok || device == "" {
		return m, false
	}
	return Match{Protocol: CoIoT, Kind: device, Evidence: "CoAP code 0.30 with option 3332, the device (CoIoT)"}, true
}
