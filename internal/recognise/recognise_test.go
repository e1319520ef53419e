package recognise

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// sample is a payload with what it is.
type sample struct {
	protocol Protocol
	kind     string
	payload  []byte
}

// captured are the payloads of testdata/captured.txt.
func captured(t testing.TB) (list []sample) {
	t.Helper()
	text, err := os.ReadFile("testdata/captured.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSpace(line), " | ")
		payload, err := hex.DecodeString(fields[3])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sample{Protocol(fields[0]), fields[1], payload})
	}
	return list
}

func TestWhatProgramsSentIsNamedWithItsKind(t *testing.T) {
	list := captured(t)
	seen := make(map[Protocol]bool)
	for _, s := range list {
		if s.protocol == RTP {
			continue // takes several
		}
		m, ok := Recognise(s.payload)
		if !ok || m.Protocol != s.protocol || m.Kind != s.kind || m.Evidence == "" {
			t.Errorf("%.40x: %+v (%t), want %s, %s", s.payload, m, ok, s.protocol, s.kind)
		}
		seen[s.protocol] = true
	}
	if len(seen) < 12 {
		t.Errorf("only %v", seen)
	}
}

func bytesOf(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	gga      = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47"
	cotEvent = `<?xml version="1.0"?><event version="2.0" uid="A-1" type="a-f-G"><point lat="48.1" lon="11.5"/></event>`
	coiotHex = "501e0001 ed0bf703 534853572d3235234131423243332332 ff 7b7d"
	smaHex   = "534d4100 0004 02a0 00000001 0244 0010 6069 015d 713fb37b"
)

// Of what no program of Debian speaks, as the specification has it, and what makes it none.
func TestWhatSpecificationsSayIsNamedAndWhatBreaksThemIsNot(t *testing.T) {
	for _, c := range []struct {
		protocol Protocol
		kind     string
		weak     bool
		payload  []byte
		broken   [][]byte // not named so
	}{
		{SACN, "synchronization or discovery", false, bytesOf(t, "0010 0000 4153432d45312e3137000000 7021 00000008"), [][]byte{
			bytesOf(t, "0010 0000 4153432d45312e3137000000 7021 00000009"), bytesOf(t, "0010 0000 4153432d45312e3138000000 7021 00000008"), bytesOf(t, "0010 0000 4153432d45312e3137000000 7021 00000004")}},
		{ArtNet, "operation 0x1234", false, bytesOf(t, "4172742d4e657400 3412"), [][]byte{bytesOf(t, "4172742d4e657401 3412"), bytesOf(t, "4172742d4e657400 34")}},
		{KNX, "ROUTING_BUSY", false, bytesOf(t, "0610 0532 000c 0600 0064 0000"), [][]byte{bytesOf(t, "0610 0532 000d 0600 0064 0000"), bytesOf(t, "0610 0599 000c 0600 0064 0000")}},
		{Speedwire, "readings of meter 1900000123", false, bytesOf(t, smaHex), [][]byte{bytesOf(t, "534d4101 0004 02a0 00000001 0244 0010 6069 015d 713fb37b")}},
		{Speedwire, "discovery", false, bytesOf(t, "534d4100 0004 02a0 ffffffff 0000 0020 00000000"), nil},
		{CoIoT, "SHSW-25#A1B2C3#2", false, bytesOf(t, coiotHex), [][]byte{bytesOf(t, "501e0001 ed0bf603 534853572d3235234131423243332332 ff 7b7d")}},
		{CoAP, "empty", true, bytesOf(t, "40000001"), [][]byte{bytesOf(t, "4000000100")}},
		{CoAP, "2.05", true, bytesOf(t, "61450001 aa c0 ff 31"), [][]byte{bytesOf(t, "61450001 aa c0 ff"), bytesOf(t, "61650001 aa c0 ff 31"), bytesOf(t, "69450001 aa c0 ff 31"), bytesOf(t, "61450001 aa c5 31"), bytesOf(t, "61450001 aa f0 31")}},
		{SSDP, "M-SEARCH", false, []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n"), [][]byte{[]byte("SEARCH * HTTP/1.1\r\n\r\n")}},
		{SSDP, "answer", false, []byte("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n"), [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}},
		{WSDiscovery, "Probe", false, []byte("\ufeff<e:Envelope><w:Action>http://docs.oasis-open.org/ws-dd/ns/discovery/2009/01/Probe</w:Action>"), [][]byte{[]byte("<e:Envelope/>")}},
		{MDNS, "question", true, bytesOf(t, "0000 0000 0001 0000 0000 0000 0573 68656c66 056c6f63616c 00 0001 0001"), [][]byte{
			bytesOf(t, "0000 0000 0002 0000 0000 0000 0573 68656c66 056c6f63616c 00 0001 0001"), bytesOf(t, "0000 0000 0001 0000 0000 0000 0573 68656c66 056c6f63616c 00 0001 0001 00"), bytesOf(t, "0000 0000 0001 0000 0000 0000 0573 68656c66 056c6f63616c 00 0001 0007")}},
		{CoT, "XML", false, []byte(cotEvent), [][]byte{[]byte(`<event uid="1"/>`), []byte(`<events uid=""`)}},
		{CoT, "protobuf", false, bytesOf(t, "bf01bf 0a02 0803 1203 0a0161"), [][]byte{bytesOf(t, "bf01bf 0a02 0803 1209 0a0161"), bytesOf(t, "bf02bf 0a02 0803"), bytesOf(t, "bf01bf 2202 0803")}},
		{NMEA0183, "GPGGA", false, []byte(gga + "\r\n"), [][]byte{[]byte(strings.Replace(gga, "*47", "*48", 1)), []byte("$gpgga,1*00")}},
		{NMEA0183, "GPGGA", false, []byte(`\s:GP0001*00\` + gga + "\r\n!AIVDM,x\r\n"), nil},
		{NMEA0183, "AIVDM", true, []byte("!AIVDM,1,1,,A,x,0"), [][]byte{[]byte("!hello, world"), []byte("$5,00")}},
		{IEC61162, "sentences", false, []byte("UdPbC\x00\\s:GP0001*00\\" + gga), [][]byte{[]byte("UdPbD\x00")}},
		{PTP, "Announce", true, bytesOf(t, "0b02 0040 0000 0000 0000000000000000 00000000"+strings.Repeat("00", 44)), [][]byte{
			bytesOf(t, "0b02 0041 0000 0000 0000000000000000 00000000"+strings.Repeat("00", 44)), bytesOf(t, "0703 0040 0000 0000 0000000000000000 00000000"+strings.Repeat("00", 44))}},
		{PTP, "version 1", false, bytesOf(t, "0001 0001 5f44464c5400000000000000000000 00 01 01 1234 5678 9abc 0001 0000 00 00 0000"+strings.Repeat("00", 90)), [][]byte{
			bytesOf(t, "0001 0001 00000000000000000000000000000000 01 01 1234 5678 9abc 0001 0000 00 00 0000")}},
		{SAP, "deletion of Music", false, []byte("\x24\x00\xa9\x7f\x0a\x4d\x00\x02application/sdp\x00o=- 0 0 IN IP4 10.77.0.2\r\ns=Music\r\n"), [][]byte{[]byte("\x24\x00\xa9\x7f\x0a\x4d\x00\x02text/plain\x00o=- 0"), []byte("\x21\x00\xa9\x7f\x0a\x4d\x00\x02v=0\r\n")}},
		{SAP, "announcement of x", false, []byte("\x30\x01\xa9\x7f0123456789abcdef....v=0\r\ns=x\r\n"), [][]byte{[]byte("\x30\x02\xa9\x7f0123456789abcdef....v=0\r\ns=x\r\n")}},
		{RTCP, "receiver report", false, bytesOf(t, "80c90001 00000001 81ca0001 00000001"), [][]byte{bytesOf(t, "80c90001 00000001 81ca0002 00000001"), bytesOf(t, "80c90001 00000001 41ca0001 00000001"), bytesOf(t, "80c90001 000000")}},
		{Syslog, "RFC 5424", false, []byte("<165>1 2026-11-29T22:14:15.003Z host app - - - hello"), [][]byte{[]byte("<192>1 2026-11-29T22:14:15.003Z host app"), []byte("<+65>1 2026-11-29T22:14:15.003Z host app"), []byte("165>1 2026-11-29T22:14:15.003Z host app")}},
		{Syslog, "RFC 5424", false, []byte("<0>1 - host app - - -"), nil},
		{Syslog, "without a time", true, []byte("<13>hello\n"), [][]byte{[]byte("<13>"), []byte("<13>\x01\x02\x03")}},
		{Ganglia, "value, load_one", false, bytesOf(t, "00000086 00000002 766d0000 00000008 6c6f61645f6f6e65 00000000 00000002 25660000 3f800000"), [][]byte{
			bytesOf(t, "00000089 00000002 766d0000 00000008 6c6f61645f6f6e65 00000000"), bytesOf(t, "00000086 00000002 766d0001 00000008 6c6f61645f6f6e65 00000000"), bytesOf(t, "00000086 00000002 766d0000 00000008 6c6f61645f6f6e65 00000002")}},
	} {
		m, ok := Recognise(c.payload)
		if !ok || m.Protocol != c.protocol || m.Kind != c.kind || m.Weak != c.weak {
			t.Errorf("%.60q: %+v (%t), want %s, %s, weak %t", c.payload, m, ok, c.protocol, c.kind, c.weak)
		}
		for _, b := range c.broken {
			if m, ok := Recognise(b); ok && m.Protocol == c.protocol {
				t.Errorf("%.60q is taken for %+v", b, m)
			}
		}
	}
}

var (
	elsewhere = netip.MustParseAddrPort("239.1.2.3:5000")
	sender    = netip.MustParseAddrPort("192.0.2.1:4000")
)

// flowOf is a flow of the same payload n times.
func flowOf(to string, n int, payload []byte) Finding {
	f := NewFlow(netip.MustParseAddrPort(to))
	for range n {
		f.Add(sender, payload)
	}
	return f.Finding()
}

func TestBytesThatMayBeOthersTakeThePortOrSeveralDatagrams(t *testing.T) {
	get := bytesOf(t, "510104c0013d00666630323a3a666425657468308b2e77656c6c2d6b6e6f776e04636f7265")
	for _, c := range []struct {
		to   string
		n    int
		want Protocol
	}{
		{"224.0.1.187:5683", 1, CoAP}, {"[ff02::fd]:5683", 1, CoAP}, {"192.0.2.7:5683", 1, CoAP},
		{"239.1.2.3:5000", 1, Unknown}, {"239.1.2.3:5000", 2, Unknown}, {"239.1.2.3:5000", 3, CoAP},
	} {
		got := flowOf(c.to, c.n, get)
		if got.Protocol != c.want || got.Protocol == Unknown && got.Perhaps != CoAP {
			t.Errorf("%d to %s: %+v, want %s", c.n, c.to, got, c.want)
		}
	}
	f := NewFlow(elsewhere)
	for range 9 {
		f.Add(sender, get)
	}
	f.Add(sender, []byte{0xff})
	if got := f.Finding(); got.Protocol != Unknown || got.Perhaps != CoAP {
		t.Errorf("9 of 10 that look like it: %+v", got)
	}
}

func TestAPortAloneNamesNothing(t *testing.T) {
	for _, g := range WellKnown() {
		if got := flowOf(g.String(), 10, []byte{0xff, 0x00, 0x13}); got.Protocol != Unknown || got.Content != Binary {
			t.Errorf("three bytes to %s: %+v", g, got)
		}
	}
}

func TestAMarkOfManyBytesIsEnoughAnywhere(t *testing.T) {
	got := flowOf("239.1.2.3:5000", 1, bytesOf(t, smaHex))
	if got.Protocol != Speedwire || len(got.Evidence) != 1 {
		t.Errorf("%+v", got)
	}
	if got := flowOf("239.12.255.254:9522", 1, bytesOf(t, smaHex)); !slices.Contains(got.Evidence, "at home there: 239.12.255.254:9522") {
		t.Errorf("%+v", got)
	}
	if got := flowOf("0.0.0.0:6454", 1, bytesOf(t, "4172742d4e657400 0050")); !slices.Contains(got.Evidence, "at home there: port 6454") {
		t.Errorf("%+v", got)
	}
}

func TestOfTwoProtocolsOnOneGroupTheMoreFrequentIsNamedFirst(t *testing.T) {
	f := NewFlow(netip.MustParseAddrPort("224.0.1.187:5683"))
	f.Add(sender, bytesOf(t, "40000001"))
	for range 3 {
		f.Add(sender, bytesOf(t, coiotHex))
	}
	got := f.Finding()
	if got.Protocol != CoIoT || got.Share != 75 || !slices.Equal(got.Others, []Protocol{CoAP}) {
		t.Errorf("%+v", got)
	}
}

func TestTheSameBytesAtThePortOfLLMNRAreNotMDNS(t *testing.T) {
	q := bytesOf(t, "1234 0000 0001 0000 0000 0000 057368656c66 00 0001 0001")
	if got := flowOf("224.0.0.252:5355", 1, q); got.Protocol != LLMNR {
		t.Errorf("%+v", got)
	}
	if got := flowOf("224.0.0.251:5353", 1, q); got.Protocol != MDNS {
		t.Errorf("%+v", got)
	}
}

func TestRTPIsFoundInPacketsInARowOfOneStream(t *testing.T) {
	var real [][]byte
	for _, s := range captured(t) {
		if s.protocol == RTP {
			real = append(real, s.payload)
		}
	}
	f := NewFlow(elsewhere)
	for i, p := range real {
		f.Add(sender, p)
		if got, want := f.Finding().Protocol == RTP, i+1 >= inSequence; got != want {
			t.Errorf("after %d packets RTP: %t", i+1, got)
		}
	}
	if got := f.Finding(); !slices.Equal(got.Kinds, []string{"payload type 0, PCMU"}) {
		t.Errorf("%+v", got)
	}
	packet := func(sequence, ssrc byte) []byte {
		return []byte{0x80, 96, 0, sequence, 0, 0, 0, 0, 0, 0, 0, ssrc, 1, 2, 3}
	}
	for name, packets := range map[string][][]byte{
		"numbers that jump":      {packet(1, 1), packet(3, 1), packet(5, 1), packet(7, 1), packet(9, 1)},
		"always the same number": {packet(1, 1), packet(1, 1), packet(1, 1), packet(1, 1), packet(1, 1)},
		"an SSRC each":           {packet(1, 1), packet(2, 2), packet(3, 3), packet(4, 4), packet(5, 5), packet(6, 6)},
		"of version 1":           {{0x40, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, {0x40, 96, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1}, {0x40, 96, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1}, {0x40, 96, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1}},
	} {
		f := NewFlow(elsewhere)
		for _, p := range packets {
			f.Add(sender, p)
		}
		if got := f.Finding().Protocol; got != Unknown {
			t.Errorf("%s: %s", name, got)
		}
	}
	f = NewFlow(elsewhere) // two senders by turns
	for i := range byte(inSequence) {
		f.Add(sender, packet(i, 1))
		f.Add(netip.MustParseAddrPort("192.0.2.2:4000"), packet(i+100, 1))
	}
	if got := f.Finding().Protocol; got != RTP {
		t.Errorf("two senders by turns: %s", got)
	}
}

func TestWhatIsUnknownIsToldByItsContent(t *testing.T) {
	for payload, want := range map[string]Content{`{"a":1}`: JSON, `{"a":`: Text, "hello\n": Text, "grün": Text, "\xff\xfe": Binary, "a\x00": Binary, "": Empty} {
		if got := flowOf("239.1.2.3:5000", 2, []byte(payload)).Content; got != want {
			t.Errorf("%q: %s, want %s", payload, got, want)
		}
	}
}

func TestWhatAFlowRemembersIsBounded(t *testing.T) {
	f := NewFlow(elsewhere)
	for i := range 1000 {
		f.Add(sender, fmt.Appendf(nil, "$G%03d,1", i))
		f.Add(netip.AddrPortFrom(sender.Addr(), uint16(i)), []byte{0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, byte(i >> 8), byte(i)})
	}
	if kinds, streams := len(f.votes[NMEA0183].kinds), len(f.rtp.streams); kinds != maxKinds || streams != maxStreams {
		t.Errorf("%d kinds, %d streams", kinds, streams)
	}
}

func TestTheWellKnownGroupsAreGroupsAndEachIsAtHome(t *testing.T) {
	groups := WellKnown()
	for _, want := range []string{"239.255.0.1:5568", "239.255.0.16:5568", "239.192.0.1:60001", "239.192.0.16:60016", "224.0.23.12:3671", "[ff02::fb]:5353"} {
		if !slices.Contains(groups, netip.MustParseAddrPort(want)) {
			t.Errorf("%s is missing", want)
		}
	}
	seen := make(map[netip.AddrPort]bool)
	for _, g := range groups {
		if !g.Addr().IsMulticast() || g.Port() == 0 || seen[g] {
			t.Errorf("%s is no group, or there twice", g)
		}
		seen[g] = true
		if !slices.ContainsFunc(places, func(p Place) bool { return AtHome(p.Protocol, g) }) {
			t.Errorf("nobody is at home at %s", g)
		}
	}
	for _, c := range []struct {
		p    Protocol
		to   string
		want bool
	}{
		{SACN, "239.255.249.255:5568", true}, {SACN, "239.254.0.1:5568", false}, {SACN, "239.255.0.1:5569", false},
		{IEC61162, "239.192.0.4:60004", true}, {IEC61162, "239.192.0.17:60016", false}, {KNX, "192.0.2.1:3671", true}, {ArtNet, "[ff02::1]:6454", true},
	} {
		if got := AtHome(c.p, netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("%s at %s: %t", c.p, c.to, got)
		}
	}
}

// FuzzRecognise holds that no payload is read beyond its end, changed, or named with text that
// a terminal or a YAML comment must not have.
func FuzzRecognise(f *testing.F) {
	for _, s := range captured(f) {
		f.Add(s.payload)
	}
	for _, text := range []string{gga, cotEvent, "\xbf\x01\xbf\x0a\x02\x08\x03", "<13>x", "UdPbC\x00", `\a\$GP,x`, "\x00\x00\x00\x80\x00\x00\x00\x01a"} {
		f.Add([]byte(text))
	}
	f.Add(bytesOf(f, coiotHex))
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := slices.Clone(payload)
		m, ok := Recognise(payload[:len(payload):len(payload)])
		if !slices.Equal(before, payload) {
			t.Errorf("%x was changed", before)
		}
		if ok != (m.Protocol != "") || ok && m.Evidence == "" {
			t.Errorf("%x: %+v (%t)", payload, m, ok)
		}
		for _, text := range []string{m.Kind, m.Evidence} {
			if text != "" && !printable([]byte(text)) || len(text) > 200 {
				t.Errorf("%x: %q", payload, text)
			}
		}
		flow := NewFlow(elsewhere)
		for range inSequence {
			flow.Add(sender, payload)
		}
		if got := flow.Finding(); got.Protocol == "" || got.Content == "" || got.Share > 100 {
			t.Errorf("%x: %+v", payload, got)
		}
	})
}
