package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Datagrams as real devices send them, built from the formats as they are
// published, through configs/examples as they stand: only the interface
// and the addresses are the rig's.

// smaReadings is a datagram of an SMA energy meter (EMETER-Protokoll, TI-en-10):
// the id, a tag header, the protocol id 0x6069, SUSy-ID and serial number of the
// meter, its clock, and OBIS values, all big-endian.
func smaReadings(serial uint32, watts uint32) []byte {
	b := append([]byte("SMA\x00"), 0, 4, 0x02, 0xa0, 0, 0, 0, 1)
	body := binary.BigEndian.AppendUint16([]byte{0x60, 0x69}, 349) // SUSy-ID
	body = binary.BigEndian.AppendUint32(body, serial)
	body = binary.BigEndian.AppendUint32(body, 123_456_789) // milliseconds
	body = append(body, 0, 1, 4, 0)                         // OBIS 1.4.0, active power drawn, in 0.1 W
	body = binary.BigEndian.AppendUint32(body, watts*10)
	body = append(body, 0x90, 0, 0, 0, 1, 2, 8, 'R') // software version
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, 0, 0x10) // the tag "SMA Net 2"
	return append(append(b, body...), 0, 0, 0, 0)
}

// sacnPacket is a data packet of E1.31 (ANSI E1.31-2018, table 4-1) with 512 slots.
func sacnPacket(universe uint16, sequence byte, slots [512]byte) []byte {
	flags := func(rest int) []byte { return binary.BigEndian.AppendUint16(nil, 0x7000|uint16(rest)) }
	dmp := append(flags(11+512), 0x02, 0xa1, 0, 0, 0, 1, 0x02, 0x01, 0) // 513 property values, the start code first
	dmp = append(dmp, slots[:]...)
	source := make([]byte, 64)
	copy(source, "console")
	framing := append(flags(77+len(dmp)), 0, 0, 0, 2)
	framing = append(framing, source...)
	framing = append(framing, 100, 0, 0, sequence, 0)
	framing = binary.BigEndian.AppendUint16(framing, universe)
	framing = append(framing, dmp...)
	root := append([]byte{0, 0x10, 0, 0}, "ASC-E1.17\x00\x00\x00"...)
	root = append(root, flags(22+len(framing))...)
	root = append(root, 0, 0, 0, 4)
	root = append(root, "0123456789abcdef"...) // CID
	return append(root, framing...)
}

// knxIndication is a ROUTING_INDICATION (KNX specification 3/8/5) of a group
// write of one bit: cEMI L_Data.ind from 1.1.5 to 0/0/1.
func knxIndication(on bool) []byte {
	value := byte(0x80)
	if on {
		value = 0x81
	}
	return []byte{0x06, 0x10, 0x05, 0x30, 0, 17, 0x29, 0, 0xbc, 0xe0, 0x11, 0x05, 0x00, 0x01, 1, 0, value}
}

// coiotStatus is a status report of a Shelly (CoIoT for Shelly devices, rev. 1):
// CoAP (RFC 7252), non-confirmable, code 0.30, path /cit/s, with JSON.
func coiotStatus(device string, brightness int) []byte {
	b := []byte{0x50, 0x1e, 0x12, 0x34, 0xb3, 'c', 'i', 't', 0x01, 's'}
	// Option 3332: the device, as type#id#version.
	id := "SHDM-2#" + device + "#2"
	b = binary.BigEndian.AppendUint16(append(b, 0xe0|13), 3332-11-269)
	b = append(append(b, byte(len(id)-13)), id...)
	return fmt.Appendf(append(b, 0xff), `{"G":[[0,1101,1],[0,5101,%d]]}`, brightness)
}

// ssdpNotify is an announcement of a device (UPnP Device Architecture 1.1, 1.2.2).
func ssdpNotify(uuid string) []byte {
	return []byte("NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=1800\r\n" +
		"LOCATION: http://172.17.0.50/description.xml\r\nNT: upnp:rootdevice\r\nNTS: ssdp:alive\r\n" +
		"USN: uuid:" + uuid + "::upnp:rootdevice\r\n\r\n")
}

// lweSentence is a sentence of NMEA 0183 in a datagram of IEC 61162-450: the token
// UdPbC, a TAG block, and the sentence, each with its checksum.
func lweSentence(source, body string) []byte {
	sum := func(s string) (x byte) {
		for i := range len(s) {
			x ^= s[i]
		}
		return x
	}
	tag := "s:" + source + ",n:1"
	return fmt.Appendf([]byte("UdPbC\x00"), "\\%s*%02X\\$%s*%02X\r\n", tag, sum(tag), body, sum(body))
}

// artDMX is an ArtDmx packet (Art-Net 4): the universe's low byte, and its channels.
func artDMX(universe byte, slots [512]byte) []byte {
	header := []byte("Art-Net\x00\x00\x50\x00\x0e\x01\x00\x00\x00\x02\x00")
	header[14] = universe
	return append(header, slots[:]...)
}

// example is a file of configs/examples on the gateway of a rig.
func example(t *testing.T, file string, change ...string) *system {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "configs", "examples", file))
	if err != nil {
		t.Fatal(err)
	}
	rules := strings.NewReplacer(append(change, "eth0", "iso0")...).Replace(string(text))
	s := newReceiver(t, "")
	config := fmt.Sprintf("broker: { url: mqtt://%s, client_id: %s }\nweb: { listen: %s }\n%s", brokerAddress, gatewayID, webAddress, rules)
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExamplesCarryWhatRealDevicesSay(t *testing.T) {
	var slots [512]byte
	slots[0], slots[511] = 255, 7
	for _, c := range []struct {
		file    string
		change  []string
		group   string
		payload []byte
		topic   string
		check   func(payload []byte) error
	}{
		{
			file: "sma-meter.yaml", group: "239.12.255.254:9522", payload: smaReadings(3_000_123_456, 1234),
			topic: "sma/3000123456",
			check: func(p []byte) error {
				if serial := binary.BigEndian.Uint32(p[20:]); string(p[:4]) != "SMA\x00" || p[16] != 0x60 || serial != 3_000_123_456 {
					return fmt.Errorf("serial %d", serial)
				}
				return nil
			},
		},
		{
			file: "sacn.yaml", group: "239.255.0.62:5568", payload: sacnPacket(62, 9, slots),
			topic: "dmx/62/from/172.17.0.50",
			check: func(p []byte) error {
				if universe := binary.BigEndian.Uint16(p[113:]); len(p) != 638 || universe != 62 || p[126] != 255 || p[637] != 7 {
					return fmt.Errorf("%d bytes, universe %d", len(p), universe)
				}
				return nil
			},
		},
		{
			file: "knx-ip.yaml", change: []string{"192.0.2.10", "172.17.0.1"}, group: "224.0.23.12:3671", payload: knxIndication(true),
			topic: "knx/heard/172.17.0.50",
			check: func(p []byte) error {
				if int(binary.BigEndian.Uint16(p[4:])) != len(p) || p[16] != 0x81 {
					return fmt.Errorf("% x", p)
				}
				return nil
			},
		},
		{
			file: "coiot.yaml", change: []string{"192.0.2.0/24", "172.17.0.0/16"}, group: "224.0.1.187:5683", payload: coiotStatus("B4E62D5C1A2F", 40),
			topic: "shelly/172.17.0.50/coiot",
			check: func(p []byte) error {
				_, text, _ := strings.Cut(string(p), "\xff")
				var status struct{ G [][]int }
				if err := json.Unmarshal([]byte(text), &status); err != nil || status.G[1][2] != 40 {
					return fmt.Errorf("%q: %w", text, err)
				}
				return nil
			},
		},
		{
			file: "artnet.yaml", change: []string{"192.0.2.0/24", "172.17.0.0/16"}, group: "172.17.0.1:6454", payload: artDMX(3, slots),
			topic: "artnet/172.17.0.50",
			check: func(p []byte) error {
				if len(p) != 530 || p[14] != 3 || p[18] != 255 || p[529] != 7 {
					return fmt.Errorf("%d bytes", len(p))
				}
				return nil
			},
		},
		{
			file: "syslog.yaml", change: []string{"192.0.2.0/24", "172.17.0.0/16"}, group: "172.17.0.1:514", payload: []byte("<34>1 2026-11-23T02:40:00Z lamp su - - - denied"),
			topic: "syslog/172.17.0.50", check: func([]byte) error { return nil },
		},
		{
			file: "ssdp.yaml", group: "239.255.255.250:1900", payload: ssdpNotify("2fac1234-31f8-11b4-a222-08002b34c003"),
			topic: "ssdp/172.17.0.50",
			check: func(p []byte) error {
				var envelope struct {
					Payload, Encoding, Source, Group, Interface string
					ReceivedAt                                  time.Time `json:"received_at"`
				}
				if err := json.Unmarshal(p, &envelope); err != nil {
					return err
				}
				if envelope.Payload != string(ssdpNotify("2fac1234-31f8-11b4-a222-08002b34c003")) || envelope.Encoding != "utf-8" ||
					envelope.Group != "239.255.255.250:1900" || envelope.Interface != "iso0" || time.Since(envelope.ReceivedAt).Abs() > time.Minute ||
					!strings.HasPrefix(envelope.Source, "172.17.0.50:") {
					return fmt.Errorf("%+v", envelope)
				}
				return nil
			},
		},
		{
			file: "iec61162-450.yaml", change: []string{"172.16.0.10", "172.17.0.1", "172.16.0.0/12", "172.16.0.0/12"},
			group: "239.192.0.4:60004", payload: lweSentence("GP0001", "GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"),
			topic: "ship/NAVD/172.17.0.50",
			check: func(p []byte) error {
				if !strings.HasPrefix(string(p), "UdPbC\x00\\s:GP0001") || !strings.HasSuffix(string(p), "\r\n") {
					return fmt.Errorf("%q", p)
				}
				return nil
			},
		},
	} {
		t.Run(c.file, func(t *testing.T) {
			s := example(t, c.file, c.change...)
			s.startAll()
			w := s.subscriber(c.topic)
			s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")).Say(group(c.group), c.payload)
			s.settled(w, 1)
			got := w.messages()[0]
			if got.Topic() != c.topic {
				t.Errorf("on topic %s, want %s", got.Topic(), c.topic)
			}
			if err := c.check(got.Payload()); err != nil {
				t.Errorf("payload: %v in %s", err, base64.StdEncoding.EncodeToString(got.Payload()))
			}
			if c.file != "ssdp.yaml" && string(got.Payload()) != string(c.payload) {
				t.Errorf("%d bytes differ from the %d that were sent", len(got.Payload()), len(c.payload))
			}
		})
	}
}

// A datagram of several sentences is as many messages, each on the topic of its kind.
func TestTheNMEAExampleSplitsSentences(t *testing.T) {
	const position, ais = "$GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*4A", "!AIVDM,1,1,,A,13HOI:0P0000VOHLCnHQKwvL05Ip,0*23"
	s := example(t, "nmea.yaml", "192.0.2.0/24", "172.17.0.0/16")
	s.startAll()
	w := s.subscriber("boat/#")
	s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")).Say(group("172.17.0.1:10110"), []byte(position+"\r\n# remark\r\n"+ais+"\r\n$GP\r\n"))
	s.settled(w, 2)
	got := make(map[string]string)
	for _, m := range w.messages() {
		got[m.Topic()] = string(m.Payload())
	}
	want := map[string]string{"boat/172.17.0.50/GGA": position, "boat/172.17.0.50/VDM": ais}
	if !maps.Equal(got, want) || len(w.messages()) != 2 {
		t.Errorf("published %q, want %q", got, want)
	}
	if rule := s.receiveRule("nmea"); rule.Filtered["when"] != 2 || len(rule.Drops) > 0 {
		t.Errorf("filtered %v, dropped %v", rule.Filtered, rule.Drops)
	}
}

// The same group from the other side: a message for a universe becomes the
// datagram of the group that its number gives.
func TestTheLightingExampleComputesTheGroup(t *testing.T) {
	s := example(t, "sacn.yaml")
	device := s.Dev.Device("eth0", group("239.255.1.2:5568"))
	wire := s.Dev.Capture("eth0")
	s.startAll()
	packet := sacnPacket(258, 1, [512]byte{})
	s.publish(s.client("console"), "dmx/258/set", packet)
	got := device.WaitFor(1)[0]
	packet[111] = 0 // the first one of this universe
	if string(got.Payload) != string(packet) || got.Source.Addr() != netip.MustParseAddr("172.17.0.1") {
		t.Errorf("%v, want %d bytes from 172.17.0.1", got, len(packet))
	}
	for _, f := range wire.Datagrams() {
		if f.Dst == group("239.255.1.2:5568") && f.DSCP != 46 {
			t.Errorf("dscp %d, want EF", f.DSCP)
		}
	}
}

// What two senders bring to two groups is published once; what one has lost the other brings.
func TestTheRedundantExamplePublishesOnce(t *testing.T) {
	s := example(t, "redundant.yaml", "192.0.2.11", "172.17.0.50", "192.0.2.12", "172.17.0.51",
		"merge: 50ms", "merge: 1m") // however slow this machine is
	s.Dev.Addr("eth0", "172.17.0.51/16")
	s.startAll()
	w := s.subscriber("studio/metadata")
	a, b := s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")), s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.51"))
	for _, n := range []string{"1", "2", "3", "4"} {
		if n != "2" {
			a.Say(group("239.20.1.1:20000"), []byte(n))
		}
		if n != "3" {
			b.Say(group("239.20.2.1:20000"), []byte(n))
		}
	}
	s.eventually("all is heard", func() error {
		heard, duplicates := uint64(0), uint64(0)
		legs := s.receiveRule("metadata").Legs
		for _, l := range legs {
			heard, duplicates = heard+l.Received, duplicates+l.Duplicates
		}
		if len(legs) != 2 || heard != 6 || duplicates != 2 {
			return fmt.Errorf("%+v, want 6 heard, 2 of them duplicates", legs)
		}
		return nil
	})
	s.settled(w, 4)
	got := make(map[string]int)
	for _, m := range w.messages() {
		got[string(m.Payload())]++
	}
	if len(got) != 4 || len(w.messages()) != 4 {
		t.Errorf("published %v, want each of 1 to 4 once", got)
	}
}
