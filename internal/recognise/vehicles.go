package recognise

import (
	"bytes"
	"fmt"
)

// cot: Cursor on Target (MITRE MP090284), one event in XML; or TAK protocol version 1 for
// meshes, BF 01 BF and a TakMessage in protobuf.
func cot(b []byte) (m Match, ok bool) {
	if at(b, 0, "\xbf\x01\xbf") && takMessage(b[3:]) {
		return Match{Protocol: CoT, Kind: "protobuf", Evidence: "BF 01 BF and protobuf at byte 0 (TAK protocol, version 1)"}, true
	}
	text := b[:min(len(b), searched)]
	if at(text, 0, "<?xml") {
		_, text, _ = bytes.Cut(text, []byte("?>"))
	}
	text = bytes.TrimLeft(text, " \t\r\n")
	if !at(text, 0, "<event") || !contains(text, "uid=") || !contains(text, "<point") {
		return m, false
	}
	return Match{Protocol: CoT, Kind: "XML", Evidence: "an <event> with uid and <point> (Cursor on Target)"}, true
}

// takMessage reports whether b is the fields of a TakMessage: 1 and 2, with a length each,
// and none beyond its end.
func takMessage(b []byte) bool {
	for n := 0; len(b) > 0; n++ {
		tag := b[0]
		if tag>>3 == 0 || tag>>3 > 3 || tag&7 != 0 && tag&7 != 2 || n == 8 {
			return false
		}
		length, size := varint(b[1:])
		if size == 0 {
			return false
		}
		b = b[1+size:]
		if tag&7 == 2 {
			if length > uint64(len(b)) {
				return false
			}
			b = b[length:]
		}
	}
	return true
}

func varint(b []byte) (value uint64, size int) {
	for i := 0; i < len(b) && i < 9; i++ {
		value |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}

// nmea: NMEA 0183 (IEC 61162-1, 7). Sentences from $ or ! to a checksum, each on a line of
// its own. Without a checksum it may be something else.
func nmea(b []byte) (m Match, ok bool) {
	line := b[:min(len(b), searched)]
	if at(line, 0, `\`) { // a TAG block before it (NMEA 0183 4.0, 7)
		if end := bytes.IndexByte(line[1:], '\\'); end >= 0 {
			line = line[end+2:]
		}
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	line = bytes.TrimRight(line, "\r\x00")
	if len(line) < 6 || line[0] != '$' && line[0] != '!' || !printable(line) {
		return m, false
	}
	name, _, found := bytes.Cut(line[1:], []byte(","))
	if !found || len(name) < 2 || len(name) > 8 || !upper(name) {
		return m, false
	}
	m = Match{Protocol: NMEA0183, Kind: string(name), Weak: true, Evidence: "a sentence " + string(line[:1]) + string(name) + " without a checksum (NMEA 0183)"}
	if star := bytes.LastIndexByte(line, '*'); star > 0 {
		sum := byte(0)
		for _, c := range line[1:star] {
			sum ^= c
		}
		if !bytes.EqualFold(line[star+1:], fmt.Appendf(nil, "%02X", sum)) {
			return m, false
		}
		m.Weak, m.Evidence = false, "a sentence "+string(line[:1])+string(name)+" with its checksum (NMEA 0183)"
	}
	return m, true
}

func upper(b []byte) bool {
	for _, c := range b {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// iec61162: IEC 61162-450, 7. A token that ends in a zero byte: sentences, files (images of
// radars), files with acknowledgement, and in Amendment 1 PGNs.
func iec61162(b []byte) (m Match, ok bool) {
	for _, t := range []struct{ token, kind string }{
		{"UdPbC\x00", "sentences"}, {"RaUdP\x00", "binary file"}, {"RrUdP\x00", "binary file with acknowledgement"}, {"NkPgN\x00", "PGN"},
	} {
		if at(b, 0, t.token) {
			return Match{Protocol: IEC61162, Kind: t.kind, Evidence: `"` + t.token[:5] + `" at byte 0 (IEC 61162-450, 7)`}, true
		}
	}
	return m, false
}

// ptpKinds are messageType and the least length of IEEE 1588-2008, 13.
var ptpKinds = map[byte]struct {
	kind  string
	least int
}{
	0x0: {"Sync", 44}, 0x1: {"Delay_Req", 44}, 0x2: {"Pdelay_Req", 54}, 0x3: {"Pdelay_Resp", 54}, 0x8: {"Follow_Up", 44},
	0x9: {"Delay_Resp", 54}, 0xa: {"Pdelay_Resp_Follow_Up", 54}, 0xb: {"Announce", 64}, 0xc: {"Signaling", 44}, 0xd: {"Management", 48},
}

// ptp: IEEE 1588-2008 and 2019, 13.3 (version 2): a type, the version and the length of the
// message, which two bytes of padding may follow (annex E, UDP over IPv6). IEEE 1588-2002, D.1 (version
// 1): versions of PTP and network, and the name of a subdomain.
func ptp(b []byte) (m Match, ok bool) {
	if len(b) >= 44 && b[1]&15 == 2 {
		k, known := ptpKinds[b[0]&15]
		length := u16(b, 2)
		if known && length >= k.least && (length == len(b) || length+2 == len(b)) && u32(b, 16) == 0 {
			return Match{Protocol: PTP, Kind: k.kind, Weak: true, Evidence: "version 2, a type and its length (IEEE 1588, 13.3)"}, true
		}
	}
	if len(b) >= 40 && u16(b, 0) == 1 && u16(b, 2) == 1 {
		name, _, _ := bytes.Cut(b[4:20], []byte{0})
		if printable(name) && (b[20] == 1 || b[20] == 2) && b[32] < 5 {
			return Match{Protocol: PTP, Kind: "version 1", Evidence: "version 1 and the subdomain " + string(name) + " (IEEE 1588-2002, D.1)"}, true
		}
	}
	return m, false
}
