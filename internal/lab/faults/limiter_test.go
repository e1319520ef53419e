//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	packets5 "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// A writer writes a packet.
type writer func(*bytes.Buffer)

func TestTheLimiterClosesOverOneFilterTooMany(t *testing.T) {
	subscribe := func(filters ...string) writer {
		p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		p.MessageID, p.Topics, p.Qoss = 1, filters, make([]byte, len(filters))
		return func(b *bytes.Buffer) { _ = p.Write(b) }
	}
	unsubscribe := func(filters ...string) writer {
		p := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
		p.MessageID, p.Topics = 1, filters
		return func(b *bytes.Buffer) { _ = p.Write(b) }
	}
	hello5 := func(b *bytes.Buffer) {
		_, _ = (&packets5.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, Properties: new(packets5.Properties)}).WriteTo(b)
	}
	subscribe5 := func(filters ...string) writer {
		p := &packets5.Subscribe{PacketID: 1, Properties: &packets5.Properties{SubscriptionIdentifier: new(7)}}
		for _, f := range filters {
			p.Subscriptions = append(p.Subscriptions, packets5.SubOptions{Topic: f, QoS: 1})
		}
		return func(b *bytes.Buffer) { _, _ = p.WriteTo(b) }
	}
	for _, tt := range []struct {
		name    string
		packets []writer
		closes  bool // faultEnded the last of them
	}{
		{"as many as it takes", []writer{subscribe("a", "b"), subscribe("c")}, false},
		{"the same again", []writer{subscribe("a", "b"), subscribe("c"), subscribe("a")}, false},
		{"one too many in a packet", []writer{subscribe("a", "b", "c")}, true},
		{"one too many in all", []writer{subscribe("a", "b"), subscribe("c", "d")}, true},
		{"MQTT 5, as many as it takes", []writer{hello5, subscribe5("a", "b"), subscribe5("c")}, false},
		{"MQTT 5, one too many in a packet", []writer{hello5, subscribe5("a", "b", "c")}, true},
		{"MQTT 5, one too many in all", []writer{hello5, subscribe5("a", "b"), subscribe5("c", "d")}, true},
		{"another instead", []writer{subscribe("a", "b"), subscribe("c"), unsubscribe("a"), subscribe("d")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			broker, there := net.Pipe()
			m := &limiter{inPacket: 2, inAll: 3, behind: func(context.Context) (net.Conn, error) { return there, nil }}
			client, here := net.Pipe()
			done := make(chan struct{})
			go func() { defer close(done); m.pass(t.Context(), here) }()
			for i, p := range tt.packets {
				var sent bytes.Buffer
				p(&sent)
				if _, err := client.Write(sent.Bytes()); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, sent.Len())
				_ = broker.SetReadDeadline(time.Now().Add(harness.Patience))
				_, err := io.ReadFull(broker, got)
				switch closes := tt.closes && i == len(tt.packets)-1; {
				case closes && !errors.Is(err, io.EOF):
					t.Errorf("the broker gets % x, %v; want the end of the connection", got, err)
				case !closes && (err != nil || string(got) != sent.String()):
					t.Errorf("the broker gets % x, %v; want % x", got, err, sent.Bytes())
				}
			}
			client.Close()
			<-done
			if want := map[bool]int32{true: 1}[tt.closes]; m.closed.Load() != want {
				t.Errorf("closed %d connections, want %d", m.closed.Load(), want)
			}
		})
	}
}
