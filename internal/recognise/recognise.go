package recognise

import (
	"encoding/binary"
	"strings"
)

// Protocol is the name of a protocol, for people.
type Protocol string

const (
	SACN        Protocol = "sACN"
	ArtNet      Protocol = "Art-Net"
	KNX         Protocol = "KNXnet/IP"
	SSDP        Protocol = "SSDP"
	MDNS        Protocol = "mDNS"
	LLMNR       Protocol = "LLMNR"
	WSDiscovery Protocol = "WS-Discovery"
	CoIoT       Protocol = "CoIoT"
	CoAP        Protocol = "CoAP"
	Speedwire   Protocol = "SMA Speedwire"
	CoT         Protocol = "Cursor on Target"
	NMEA0183    Protocol = "NMEA 0183"
	IEC61162    Protocol = "IEC 61162-450"
	PTP         Protocol = "PTP"
	SAP         Protocol = "SAP"
	RTP         Protocol = "RTP"
	RTCP        Protocol = "RTCP"
	Syslog      Protocol = "syslog"
	Ganglia     Protocol = "Ganglia"

	Unknown Protocol = "unknown"
)

// Match is what the bytes of one datagram say.
type Match struct {
	Protocol Protocol
	Kind     string // which of its messages, "ArtDmx"; may be empty
	Evidence string // what was seen where, for people; the specification with it

	// Weak: other protocols may have bytes like these. It takes the port or the group of the
	// protocol, or several datagrams in a row, to name it.
	Weak bool
}

// dissector is a function that knows one protocol. It reports false for what is none of it,
// reads nothing beyond the payload, keeps nothing of it and does not allocate where it
// says no.
type dissector func(payload []byte) (Match, bool)

// dissectors are asked in this order: those that go by a mark of several bytes first. CoIoT
// is CoAP with marks of its own, and comes before it.
var dissectors = []dissector{
	sacn, artNet, knx, speedwire, iec61162, ssdp, wsDiscovery, cot, nmea, sap, syslog, ganglia,
	rtcp, coIoT, ptp, dns, coap,
}

// Recognise tells the protocol of one datagram by its bytes. It reports false where it knows
// none: RTP takes several datagrams, see [Flow].
func Recognise(payload []byte) (Match, bool) {
	for _, d := range dissectors {
		if m, ok := d(payload); ok {
			return m, true
		}
	}
	return Match{}, false
}

// at reports whether b has text from byte i on.
func at(b []byte, i int, text string) bool {
	return len(b) >= i+len(text) && string(b[i:i+len(text)]) == text
}

func u16(b []byte, i int) int {
	if len(b) < i+2 {
		return -1
	}
	return int(binary.BigEndian.Uint16(b[i:]))
}

func u32(b []byte, i int) int64 {
	if len(b) < i+4 {
		return -1
	}
	return int64(binary.BigEndian.Uint32(b[i:]))
}

// printable reports whether all of b is printable ASCII, and there is some.
func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(b) > 0
}

// searched is how many bytes of a text are looked through for a word that may stand
// anywhere in it.
const searched = 2048

func contains(b []byte, text string) bool {
	return strings.Contains(string(b[:min(len(b), searched)]), text)
}
