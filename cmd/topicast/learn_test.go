package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/internal/frame"
	"topicast/internal/recognise"
)

// learnerOf is one on eth0, 192.0.2.1/24, that has listened for ten seconds.
func learnerOf() *learner {
	l := newLearner(multicast.Interface{Name: "eth0", Index: 2, Addresses: []multicast.Address{
		{Prefix: netip.MustParsePrefix("192.0.2.1/24"), Broadcast: netip.MustParseAddr("192.0.2.255")}}})
	l.took, l.packets = 10*time.Second, true
	return l
}

func (l *learner) hears(source, to, payload string) {
	l.heard(netip.MustParseAddrPort(source), netip.MustParseAddrPort(to), []byte(payload))
}

// configuration is what learn prints, loaded.
func (l *learner) configuration(t *testing.T) (text string, c *configs.Config) {
	t.Helper()
	var out, errOut bytes.Buffer
	if err := l.printConfiguration(&out, &errOut); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "learnt.yaml")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(file, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(c.Warnings) > 0 {
		t.Errorf("%v\n%s", c.Warnings, out.String())
	}
	return out.String(), c
}

const (
	artDmx   = "Art-Net\x00\x00\x50\x00\x0e\x00\x00\x00\x00\x00\x02\x01\x02"
	smaMeter = "SMA\x00\x00\x04\x02\xa0\x00\x00\x00\x01\x02\x44\x00\x10\x60\x69\x01\x5d\x71\x3f\xb3\x7b"
)

// sacnFrame is one of a universe.
func sacnFrame(universe uint16) string {
	b := make([]byte, 128)
	copy(b, "\x00\x10\x00\x00ASC-E1.17\x00\x00\x00")
	b[21] = 4
	binary.BigEndian.PutUint16(b[113:], universe)
	return string(b)
}

// Each protocol that is recognised has its rule, and every rule, with those that are commented
// out, loads without a warning.
func TestEachProtocolHasARuleThatLoads(t *testing.T) {
	for p, a := range advices {
		for _, to := range []string{"239.1.2.3:5000", "[ff15::7]:5000", "0.0.0.0:514"} {
			f := &heardFlow{to: netip.MustParseAddrPort(to), Finding: recognise.Finding{Protocol: p}}
			r := learntRule{advise(f), []*heardFlow{f}}
			if r.leave == "" != (a.leave == "") {
				t.Errorf("%s: %q", p, r.leave)
			}
			r.leave = ""
			b := strings.Builder{}
			b.WriteString("broker: { url: mqtt://localhost:1883 }\nreceive:\n")
			f.senders = map[netip.Addr]uint64{}
			r.print(&b, learnerOf(), map[string]int{}, false)
			file := filepath.Join(t.TempDir(), "learnt.yaml")
			if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			if c, err := configs.Load(file, nil); err != nil || len(c.Warnings) > 0 {
				t.Errorf("%s at %s: %v %v\n%s", p, to, err, c, b.String())
			}
		}
	}
	for _, p := range []recognise.Protocol{recognise.SACN, recognise.ArtNet, recognise.KNX, recognise.SSDP, recognise.MDNS, recognise.LLMNR,
		recognise.WSDiscovery, recognise.CoIoT, recognise.CoAP, recognise.Speedwire, recognise.CoT, recognise.NMEA0183, recognise.IEC61162,
		recognise.PTP, recognise.SAP, recognise.RTP, recognise.RTCP, recognise.Syslog, recognise.Ganglia} {
		if _, ok := advices[p]; !ok {
			t.Errorf("%s has no rule", p)
		}
		if !strings.Contains(strings.Join(strings.Fields(newLearnCommand().Long), " "), string(p)) {
			t.Errorf("the help does not name %s", p)
		}
	}
}

func TestWhatWasHeardBecomesRulesByItsProtocol(t *testing.T) {
	l := learnerOf()
	for range 20 {
		l.hears("192.0.2.7:5568", "239.255.0.1:5568", sacnFrame(1))
		l.hears("192.0.2.8:5568", "239.255.0.2:5568", sacnFrame(2))
	}
	l.hears("192.0.2.9:6454", "192.0.2.255:6454", artDmx)
	l.hears("192.0.2.9:6454", "192.0.2.1:6454", artDmx)
	l.hears("192.0.2.5:9522", "239.12.255.254:9522", smaMeter)
	l.hears("192.0.2.6:4000", "239.20.0.1:5000", `{"on":true}`)
	l.hears("192.0.2.6:4000", "239.20.0.2:5000", "\x00\xff")
	l.hears("192.0.2.6:4000", "239.195.116.99:5000", "the self-test of topicast send")
	l.hears("192.0.2.6:53", "192.0.2.1:3000", "an answer to somebody here")
	l.hears("192.0.2.6:1900", "239.255.255.250:1900", "NOTIFY * HTTP/1.1\r\n\r\n")
	text, c := l.configuration(t)
	rules := c.Table.Receive()
	var got []string
	for _, r := range rules {
		got = append(got, fmt.Sprint(r.Name, "|", r.Heard(), "|", r.Topic))
	}
	want := []string{"art-net|port 6454|artnet/{source}", "sacn|239.255.0.1:5568, 239.255.0.2:5568|sacn/{u16@113}/{source}", "sma|239.12.255.254:9522|sma/{u32@20}",
		"unknown|239.20.0.1:5000|learnt/{group}/{port}/{source}", "unknown 2|239.20.0.2:5000|learnt/{group}/{port}/{source}"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rules\n%s\nwant\n%s\nof\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), text)
	}
	for _, line := range []string{
		"  # sACN (universe 1), to 239.255.0.1:5568: 2/s from 192.0.2.7, 128 bytes each\n",
		"  # Art-Net (ArtDmx), to port 6454 of this host and by broadcast: 0.2/s from 192.0.2.9, 20 bytes\n  #   each\n",
		"  # unknown, binary, to 239.20.0.2:5000: 0.1/s from 192.0.2.6, 2 bytes each, the first began\n  #   with 00ff\n",
		"  # - name: ssdp\n  #   group: 239.255.255.250:1900\n",
		"# Left out: 1 port of this host to which something came that is nothing known.\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is missing in\n%s", line, text)
		}
	}
	if strings.Contains(text, "3000") {
		t.Errorf("what came to this host and is nothing known has a rule:\n%s", text)
	}
}

// Whoever sends names of devices and files cannot write into the configuration.
func TestWhatIsOnTheNetworkWritesNoRules(t *testing.T) {
	l := learnerOf()
	l.hears("192.0.2.7:9875", "224.2.127.254:9875", "\x20\x00\xa9\x7f\x0a\x4d\x00\x02v=0\r\ns=x\x0d- name: evil\r\n")
	l.hears("192.0.2.7:9875", "224.2.127.254:9875", "\x20\x00\xa9\x7f\x0a\x4d\x00\x02v=0\r\ns=\xc2\x85- name: evil\r\n")
	l.hears("192.0.2.7:9875", "239.3.3.3:9875", "\n- name: evil\n")
	text, c := l.configuration(t)
	for _, r := range c.Table.Receive() {
		if strings.Contains(r.Name, "evil") {
			t.Errorf("%s", text)
		}
	}
	if regexp.MustCompile(`[^\n\x20-\x7e]`).MatchString(text) {
		t.Errorf("not printable: %q", text)
	}
}

// What is commented out alone is no configuration yet, and what was heard by nobody is an error; both are told.
func TestWhatGivesNoRuleIsTold(t *testing.T) {
	l := learnerOf()
	l.hears("192.0.2.7:1900", "239.255.255.250:1900", "NOTIFY * HTTP/1.1\r\n")
	var out, errOut strings.Builder
	if err := l.printConfiguration(&out, &errOut); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n# receive:\n", "\n  # - name: ssdp\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if want := "topicast: warning: all rules are commented out"; !strings.HasPrefix(errOut.String(), want) {
		t.Errorf("%q, want %q", errOut.String(), want)
	}
	err := learnerOf().printConfiguration(&out, &errOut)
	if err == nil || !strings.HasPrefix(err.Error(), "nothing was heard on eth0 but what came to this host itself") {
		t.Errorf("of nothing: %v", err)
	}
}

func TestWhatLearnRemembersIsBoundedAndTold(t *testing.T) {
	l := learnerOf()
	for i := range 2 * maxFlows {
		l.heard(netip.MustParseAddrPort("192.0.2.7:1"), netip.AddrPortFrom(netip.MustParseAddr("239.1.1.1"), uint16(i+1)), nil)
	}
	for i := range 2 * maxFlowSenders {
		l.heard(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 3, byte(i)}), 1), netip.MustParseAddrPort("239.1.1.1:1"), nil)
	}
	for i := range 2 * maxMembers {
		m := frame.Member{Group: netip.AddrFrom4([4]byte{239, 2, byte(i >> 8), byte(i)})}
		for h := range byte(2 * maxMemberHosts) {
			l.member(netip.AddrFrom4([4]byte{192, 0, 2, h}), m)
		}
	}
	f := l.flows[netip.MustParseAddrPort("239.1.1.1:1")]
	if len(l.flows) != maxFlows || l.beyond != maxFlows || len(f.senders) != maxFlowSenders || !f.moreSenders || len(l.members) != maxMembers {
		t.Errorf("%d flows, %d beyond, %d senders, %d members", len(l.flows), l.beyond, len(f.senders), len(l.members))
	}
	for g, hosts := range l.members {
		if len(hosts) > maxMemberHosts {
			t.Errorf("%s: %d hosts", g, len(hosts))
		}
	}
	l.lost = 3
	var b strings.Builder
	l.tellBounds(&b)
	for _, want := range []string{"3 packets came faster than they could be read", "256 datagrams were to more than 256 groups and ports", "more than 256 groups are joined by others"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q does not say %q", b.String(), want)
		}
	}
	text, _ := l.configuration(t)
	if !strings.Contains(text, " and 60 or more others") || !strings.Contains(text, "#   and 240 more\n") {
		t.Errorf("the bounds do not show:\n%.3000s", text)
	}
}

// What others have joined is joined too, but for what no switch holds back.
func TestGroupsThatOthersHaveJoinedAreToldAndJoined(t *testing.T) {
	l := learnerOf()
	host := netip.MustParseAddr("192.0.2.9")
	member := func(group string, leaving bool) bool {
		return l.member(host, frame.Member{Group: netip.MustParseAddr(group), Leaving: leaving})
	}
	if !member("239.7.7.7", false) || member("224.0.0.251", false) || member("239.7.7.8", true) || !member("ff15::7", false) || member("ff02::fb", false) {
		t.Error("what to join")
	}
	l.hears("192.0.2.9:1", "239.7.7.9:5000", "x")
	member("239.7.7.9", false)
	text, _ := l.configuration(t)
	if want := "\n# Joined by others, and nothing was heard there:\n#   239.7.7.7 by 192.0.2.9\n#   ff15::7 by 192.0.2.9\n"; !strings.Contains(text, want) {
		t.Errorf("%q is missing in\n%s", want, text)
	}
}

func TestTheJSONOfLearnHasWhatTheConfigurationHas(t *testing.T) {
	l := learnerOf()
	l.joined, l.lost = 55, 2
	l.hears("192.0.2.9:6454", "192.0.2.255:6454", artDmx)
	l.hears("192.0.2.6:1900", "239.255.255.250:1900", "NOTIFY * HTTP/1.1\r\n\r\n")
	l.member(netip.MustParseAddr("192.0.2.9"), frame.Member{Group: netip.MustParseAddr("239.7.7.7")})
	var b bytes.Buffer
	if err := l.printJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got learntJSON
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Interface != "eth0" || got.Seconds != 10 || !got.PacketSocket || got.Joined != 55 || got.Lost != 2 || len(got.Flows) != 2 || len(got.Members) != 1 {
		t.Fatalf("%+v", got)
	}
	a, s := got.Flows[0], got.Flows[1]
	if a.Port != 6454 || a.Group != nil || a.Broadcast != 1 || a.Protocol != recognise.ArtNet || a.Rate != 0.1 || a.Senders != 1 || a.SizeMax != 20 || a.Begins != "4172742d4e6574000050000e00000000" || a.Topic != "artnet/{source}" {
		t.Errorf("%+v", a)
	}
	if s.Group == nil || s.Group.String() != "239.255.255.250:1900" || s.LeftOut == "" || len(s.Evidence) == 0 {
		t.Errorf("%+v", s)
	}
}

// Reports of more groups than may be joined, as anybody can send them, open no more sockets.
func TestLearnJoinsNoMoreGroupsThanItMay(t *testing.T) {
	e := &ears{on: multicast.Interface{Name: "none", Index: 1 << 20}, joined: make(map[netip.Addr]io.Closer)}
	for i := range 2 * maxJoins {
		e.join(netip.AddrFrom4([4]byte{239, 2, byte(i >> 8), byte(i)}))
	}
	if len(e.joined) != maxJoins {
		t.Errorf("%d groups", len(e.joined))
	}
	e.close()
	clear(e.joined)
	e.join(netip.MustParseAddr("239.9.9.9"))
	if len(e.joined) != 0 {
		t.Error("joined after the end")
	}
}
