package recognise

import "bytes"

// ssdp: UPnP Device Architecture 2.0, 1.2 and 1.3. A request or an answer of HTTP, in a
// datagram.
func ssdp(b []byte) (m Match, ok bool) {
	for _, l := range []struct{ line, kind string }{
		{"NOTIFY * HTTP/1.1\r\n", "NOTIFY"}, {"M-SEARCH * HTTP/1.1\r\n", "M-SEARCH"}, {"HTTP/1.1 200 OK\r\n", "answer"},
	} {
		if !at(b, 0, l.line) {
			continue
		}
		if upper := bytes.ToUpper(b[:min(len(b), searched)]); l.kind == "answer" && !contains(upper, "\r\nST:") {
			continue
		}
		return Match{Protocol: SSDP, Kind: l.kind, Evidence: `"` + l.line[:len(l.line)-2] + `" (UPnP Device Architecture, 1)`}, true
	}
	return m, false
}

// wsDiscovery: OASIS Web Services Dynamic Discovery 1.1, and the draft of April 2005 that
// Windows and ONVIF go by. SOAP in a datagram, with the namespace of either.
func wsDiscovery(b []byte) (m Match, ok bool) {
	if !at(bytes.TrimLeft(b[:min(len(b), searched)], " \t\r\n\xef\xbb\xbf"), 0, "<") ||
		!contains(b, "schemas.xmlsoap.org/ws/2005/04/discovery") && !contains(b, "docs.oasis-open.org/ws-dd/ns/discovery/2009/01") {
		return m, false
	}
	m = Match{Protocol: WSDiscovery, Evidence: "SOAP with the namespace of WS-Discovery"}
	for _, kind := range []string{"Hello", "Bye", "ProbeMatches", "Probe", "ResolveMatches", "Resolve"} {
		if contains(b, "/discovery/"+kind+"<") || contains(b, "/discovery/2009/01/"+kind+"<") {
			m.Kind = kind
			break
		}
	}
	return m, true
}

// dns: RFC 1035, 4.1, for RFC 6762 (mDNS) and RFC 4795 (LLMNR). Names and records that fill
// the datagram exactly. Which of the two it is, the group or the port tells; without, an
// identifier of 0 is mDNS's (RFC 6762, 18.1).
func dns(b []byte) (m Match, ok bool) {
	if len(b) < 12+5 || b[2]&0x78 != 0 || b[3]&0x0f > 10 { // no opcode but QUERY
		return m, false
	}
	questions, records := u16(b, 4), u16(b, 6)+u16(b, 8)+u16(b, 10)
	if questions+records == 0 || questions+records > 512 {
		return m, false
	}
	rest := b[12:]
	for i := range questions + records {
		if rest, ok = skipName(rest); !ok || len(rest) < 4 {
			return m, false
		}
		if class := u16(rest, 2) & 0x7fff; class != 1 && class != 255 && (i < questions || u16(rest, 0) != 41) { // OPT has a size there
			return m, false
		}
		rest = rest[4:]
		if i >= questions {
			if len(rest) < 6 || len(rest) < 6+u16(rest, 4) {
				return m, false
			}
			rest = rest[6+u16(rest, 4):]
		}
	}
	if len(rest) > 0 {
		return m, false
	}
	m = Match{Protocol: MDNS, Kind: "question", Weak: true, Evidence: "a DNS message that fills the datagram (RFC 6762, RFC 1035)"}
	if b[2]&0x80 != 0 {
		m.Kind = "answer"
	}
	return m, true
}

// skipName reads past a name; pointers (4.1.4) end it, and are not followed.
func skipName(b []byte) (rest []byte, ok bool) {
	for length := 0; len(b) > 0 && length <= 255; {
		n := int(b[0])
		switch {
		case n == 0:
			return b[1:], true
		case n >= 0xc0 && len(b) >= 2:
			return b[2:], true
		case n > 63 || len(b) < 1+n:
			return nil, false
		}
		length += 1 + n
		b = b[1+n:]
	}
	return nil, false
}

// sap: RFC 2974, 6. Version 1, the address of the announcer, authentication data, and a
// payload that is SDP (RFC 8866), with its type before it or not.
func sap(b []byte) (m Match, ok bool) {
	if len(b) < 8 || b[0]>>5 != 1 || b[0]&3 != 0 { // neither encrypted nor compressed: then nothing is to be seen
		return m, false
	}
	header := 8
	if b[0]&0x10 != 0 { // the origin is IPv6
		header = 20
	}
	header += 4 * int(b[1])
	if len(b) < header {
		return m, false
	}
	body := b[header:]
	if at(body, 0, "application/sdp\x00") {
		body = body[16:]
	} else if !at(body, 0, "v=0") && !(b[0]&4 != 0 && at(body, 0, "o=")) {
		return m, false
	}
	m = Match{Protocol: SAP, Kind: "announcement", Evidence: "version 1, an origin and SDP behind it (RFC 2974, 6)"}
	if b[0]&4 != 0 {
		m.Kind = "deletion"
	}
	if _, name, found := bytes.Cut(body[:min(len(body), searched)], []byte("\ns=")); found {
		name, _, _ = bytes.Cut(name, []byte("\n"))
		if name = bytes.TrimSpace(name); len(name) <= 64 && printable(name) {
			m.Kind += " of " + string(name)
		}
	}
	return m, true
}
