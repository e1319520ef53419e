package harness

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"

	packets5 "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// What is read of frames is what other packets have written into them.
func TestFramesOfBothVersionsAreReadAsTheyWereWritten(t *testing.T) {
	var sent bytes.Buffer
	write := func(p packets.ControlPacket) { _ = p.Write(&sent) }
	write5 := func(p packets5.Packet) { _, _ = p.WriteTo(&sent) }
	props := &packets5.Properties{User: []packets5.User{{Key: "a", Value: strings.Repeat("b", 200)}}}

	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion = "MQTT", 4
	write(hello)
	ask := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	ask.MessageID, ask.Topics, ask.Qoss = 1, []string{"a/+", "b"}, []byte{1, 0}
	write(ask)
	leave := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
	leave.MessageID, leave.Topics = 2, []string{"a/+"}
	write(leave)
	granted := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	granted.MessageID, granted.ReturnCodes = 1, []byte{1, 0x80}
	write(granted)
	write5(&packets5.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, Properties: props})
	write5(&packets5.Subscribe{PacketID: 1, Properties: props, Subscriptions: []packets5.SubOptions{{Topic: "a/+", QoS: 1}, {Topic: "b", NoLocal: true}}})
	write5(&packets5.Unsubscribe{PacketID: 2, Properties: props, Topics: []string{"a/+"}})
	write5(&packets5.Suback{PacketID: 1, Properties: props, Reasons: []byte{1, 0x87}})
	want := bytes.Clone(sent.Bytes())

	type seen struct {
		Kind    byte
		Five    bool
		Filters []string
		Codes   []byte
	}
	var got []seen
	var passed []byte
	for r, five := bufio.NewReader(&sent), false; ; {
		f, err := ReadFrame(r)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		passed = append(passed, f...)
		s := seen{Kind: f.Kind()}
		switch f.Kind() {
		case packets.Connect:
			five = f.IsFive()
			s.Five = five
		case packets.Suback:
			s.Codes = f.Codes(five)
		default:
			s.Filters = f.Filters(five)
		}
		got = append(got, s)
	}
	both := []string{"a/+", "b"}
	diff := cmp.Diff([]seen{
		{Kind: 1}, {Kind: 8, Filters: both}, {Kind: 10, Filters: both[:1]}, {Kind: 9, Codes: []byte{1, 0x80}},
		{Kind: 1, Five: true}, {Kind: 8, Filters: both}, {Kind: 10, Filters: both[:1]}, {Kind: 9, Codes: []byte{1, 0x87}},
	}, got)
	if diff != "" || !bytes.Equal(passed, want) {
		t.Errorf("(-want +got):\n%s; passed on are %d bytes of %d", diff, len(passed), len(want))
	}
}

// A hostile client or broker ends its connection, and nothing else.
func TestFramesThatCannotBeReadAreErrors(t *testing.T) {
	for _, sent := range []string{"\x30\xff\xff\xff\xff\x01", "\x30\xff\xff\xff\x7f", "\x30", "\x30\x05abc"} {
		if f, err := ReadFrame(bufio.NewReader(strings.NewReader(sent))); err == nil {
			t.Errorf("% x is read as % x", sent, f)
		}
	}
	for _, f := range []Frame{{0x82, 0}, {0x82, 1, 0}, {0x82, 3, 0, 1, 9}, {0x82, 5, 0, 1, 0, 9, 9}, {0x82, 2, 0, 1}} {
		for _, five := range []bool{false, true} {
			if got := f.Filters(five); got != nil {
				t.Errorf("% x has the filters %q", []byte(f), got)
			}
		}
	}
}

func TestOnlyVersionsThatThereAreCanBeAskedFor(t *testing.T) {
	for text, want := range map[string]string{"auto": "5", "5": "5", "3.1.1": "3.1.1", "4": "", "": ""} {
		var p Protocol
		if err := p.Set(text); (err == nil) != (want != "") || err == nil && p.Spoken() != want {
			t.Errorf("%q: %v, spoken is %s", text, err, p.Spoken())
		}
	}
}
