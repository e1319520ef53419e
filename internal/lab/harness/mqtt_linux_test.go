package harness

import (
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestAClientIsIntroduced(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer []byte
		want   string // of the error
	}{
		{"accepted", []byte("\x20\x02\x00\x00"), ""},
		{"refused", []byte("\x20\x02\x00\x05"), "connect id: refused: 5"},
		{"for no reason that there is", []byte("\x20\x02\x00\x63"), "connect id: refused: 99"},
		{"answered by something else", []byte("\xd0\x00"), "connect id: not CONNACK came, but PINGRESP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, there := net.Pipe()
			defer there.Close()
			hello := make(chan packets.ControlPacket, 1)
			go func() {
				p, _ := packets.ReadPacket(there)
				_, _ = there.Write(tt.answer)
				hello <- p
			}()
			c, err := Connect(here, "id", true)
			// [MQTT-3.1]: name, level 4, clean session, no keep-alive, the identifier.
			p, ok := (<-hello).(*packets.ConnectPacket)
			if !ok || p.ProtocolName != "MQTT" || p.ProtocolVersion != 4 || !p.CleanSession || p.Keepalive != 0 || p.ClientIdentifier != "id" {
				t.Errorf("introduced by %v", p)
			}
			switch {
			case tt.want == "" && (err != nil || c == nil):
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v, want %s", err, tt.want)
			}
			if tt.want != "" {
				if _, err := here.Write([]byte{0}); err == nil {
					t.Error("the connection is open")
				}
			}
		})
	}
}
