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

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

func TestTheLimiterClosesOverOneFilterTooMany(t *testing.T) {
	subscribe := func(filters ...string) packets.ControlPacket {
		p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		p.MessageID, p.Topics, p.Qoss = 1, filters, make([]byte, len(filters))
		return p
	}
	unsubscribe := func(filters ...string) packets.ControlPacket {
		p := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
		p.MessageID, p.Topics = 1, filters
		return p
	}
	for _, tt := range []struct {
		name    string
		packets []packets.ControlPacket
		closes  bool // faultEnded the last of them
	}{
		{"as many as it takes", []packets.ControlPacket{subscribe("a", "b"), subscribe("c")}, false},
		{"the same again", []packets.ControlPacket{subscribe("a", "b"), subscribe("c"), subscribe("a")}, false},
		{"one too many in a packet", []packets.ControlPacket{subscribe("a", "b", "c")}, true},
		{"one too many in all", []packets.ControlPacket{subscribe("a", "b"), subscribe("c", "d")}, true},
		{"another instead", []packets.ControlPacket{subscribe("a", "b"), subscribe("c"), unsubscribe("a"), subscribe("d")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			broker, there := net.Pipe()
			m := &limiter{inPacket: 2, inAll: 3, behind: func(context.Context) (net.Conn, error) { return there, nil }}
			client, here := net.Pipe()
			done := make(chan struct{})
			go func() { defer close(done); m.pass(t.Context(), here) }()
			for i, p := range tt.packets {
				var sent bytes.Buffer
				_ = p.Write(&sent)
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
