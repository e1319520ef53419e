package recognise

import "fmt"

// sacn: ANSI E1.31-2018, 4 to 6. Preamble 0x0010, postamble 0, the identifier of ACN, and of
// the root layer the vector: data, or extended (synchronization and discovery).
func sacn(b []byte) (m Match, ok bool) {
	if u16(b, 0) != 0x0010 || u16(b, 2) != 0 || !at(b, 4, "ASC-E1.17\x00\x00\x00") {
		return m, false
	}
	m = Match{Protocol: SACN, Evidence: `"ASC-E1.17" at byte 4 (E1.31)`}
	switch u32(b, 18) {
	case 4:
		if u16(b, 113) < 0 {
			return m, false
		}
		m.Kind = fmt.Sprintf("universe %d", u16(b, 113))
	case 8:
		m.Kind = "synchronization or discovery"
	default:
		return m, false
	}
	return m, true
}

// artNetKinds are the operations of Art-Net 4, table 1.
var artNetKinds = map[int]string{
	0x2000: "ArtPoll", 0x2100: "ArtPollReply", 0x2300: "ArtDiagData", 0x2400: "ArtCommand",
	0x5000: "ArtDmx", 0x5100: "ArtNzs", 0x5200: "ArtSync", 0x6000: "ArtAddress", 0x7000: "ArtInput",
	0x8000: "ArtTodRequest", 0x8100: "ArtTodData", 0x8200: "ArtTodControl", 0x8300: "ArtRdm",
	0x9700: "ArtTimeCode", 0x9800: "ArtTimeSync", 0x9900: "ArtTrigger", 0xf800: "ArtIpProg", 0xf900: "ArtIpProgReply",
}

// artNet: Art-Net 4 protocol release V1.4. "Art-Net" and a zero byte, then the operation, low
// byte first.
func artNet(b []byte) (m Match, ok bool) {
	if !at(b, 0, "Art-Net\x00") || len(b) < 10 {
		return m, false
	}
	op := int(b[8]) | int(b[9])<<8
	kind := artNetKinds[op]
	if kind == "" {
		kind = fmt.Sprintf("operation 0x%04x", op)
	}
	return Match{Protocol: ArtNet, Kind: kind, Evidence: `"Art-Net" at byte 0 (Art-Net 4)`}, true
}
