package recognise

import (
	"bytes"
	"fmt"
	"strconv"
)

// syslog: RFC 5424, 6 (a priority, version 1, a time or -), or RFC 3164, 4.1 (a priority,
// and a time as "Oct 11 22:14:15"). A priority alone may be something else.
func syslog(b []byte) (m Match, ok bool) {
	if len(b) < 4 || b[0] != '<' {
		return m, false
	}
	end := bytes.IndexByte(b[:min(len(b), 5)], '>')
	if end < 2 {
		return m, false
	}
	priority, err := strconv.Atoi(string(b[1:end]))
	if err != nil || priority < 0 || priority > 191 || b[1] == '+' || b[1] == '-' {
		return m, false
	}
	rest := b[end+1:]
	if at(rest, 0, "1 ") && (at(rest, 2, "- ") || len(rest) > 22 && rest[6] == '-' && rest[9] == '-' && rest[12] == 'T') {
		return Match{Protocol: Syslog, Kind: "RFC 5424", Evidence: fmt.Sprintf("priority <%d>, version 1 and a time (RFC 5424, 6)", priority)}, true
	}
	if len(rest) >= 16 && month(rest) && rest[3] == ' ' && rest[9] == ':' && rest[12] == ':' && rest[15] == ' ' {
		return Match{Protocol: Syslog, Kind: "RFC 3164", Evidence: fmt.Sprintf("priority <%d> and a time (RFC 3164, 4.1)", priority)}, true
	}
	line, _, _ := bytes.Cut(rest[:min(len(rest), searched)], []byte("\n"))
	if !printable(bytes.TrimRight(line, "\r\x00")) {
		return m, false
	}
	return Match{Protocol: Syslog, Kind: "without a time", Weak: true, Evidence: fmt.Sprintf("priority <%d> and text (RFC 3164, 4.3)", priority)}, true
}

func month(b []byte) bool {
	for _, name := range []string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"} {
		if at(b, 0, name) {
			return true
		}
	}
	return false
}

// ganglia: gmond of Ganglia 3.1 and later (lib/gm_protocol.x), in XDR (RFC 4506): a number
// from 128 on for the kind, the host, the name of the metric, and whether it is spoofed.
func ganglia(b []byte) (m Match, ok bool) {
	kind := u32(b, 0)
	if kind < 128 || kind > 136 {
		return m, false
	}
	_, rest, ok := xdrText(b[4:])
	if !ok {
		return m, false
	}
	name, rest, ok := xdrText(rest)
	if spoofed := u32(rest, 0); !ok || spoofed != 0 && spoofed != 1 {
		return m, false
	}
	m = Match{Protocol: Ganglia, Kind: "value", Evidence: "a kind from 128 on, a host and a metric in XDR (Ganglia 3.1)"}
	switch kind {
	case 128:
		m.Kind = "description of a metric"
	case 136:
		m.Kind = "request for descriptions"
	}
	if len(name) <= 64 {
		m.Kind += ", " + string(name)
	}
	return m, true
}

// xdrText is a string: its length, and as many bytes, padded to four with zeros (RFC 4506,
// 4.11).
func xdrText(b []byte) (text, rest []byte, ok bool) {
	n := u32(b, 0)
	padded := (n + 3) &^ 3
	if n <= 0 || n > 255 || int64(len(b)) < 4+padded || !printable(b[4:4+n]) {
		return nil, nil, false
	}
	for _, c := range b[4+n : 4+padded] {
		if c != 0 {
			return nil, nil, false
		}
	}
	return b[4 : 4+n], b[4+padded:], true
}
