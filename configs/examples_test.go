package configs

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// An example is what a configuration of this folder says of itself.
type example struct {
	sent     map[string]string    // the group that a topic goes to, "" for none
	received map[[2]string]string // the topic of a datagram from a source to a group
	payload  string               // of the datagrams
}

// atBroker is an example of how a broker is reached, all of which carry the same.
var atBroker = example{
	sent:     map[string]string{"site/lamps/7/set": "239.10.0.7:30000", "site/lamps/300/set": ""},
	received: map[[2]string]string{{"192.0.2.40:9522", "239.12.255.254:9522"}: "site/meters/192.0.2.40"},
}

var examples = map[string]example{
	"examples/aws-iot.yaml":          atBroker,
	"examples/azure-event-grid.yaml": atBroker,
	"examples/hivemq-cloud.yaml":     atBroker,
	"examples/emqx.yaml":             atBroker,
	"examples/nats.yaml":             atBroker,
	"examples/rabbitmq.yaml": {
		sent:     atBroker.sent,
		received: map[[2]string]string{{"192.0.2.40:9522", "239.12.255.254:9522"}: "site/meters/552"},
	},
	"examples/minimal.yaml": {sent: map[string]string{"lamps/7/set": "239.10.0.7:30000"}},
	"reference.yaml": {
		sent:     map[string]string{"site/3/lamp/7/set": "239.10.3.7:30000"},
		received: map[[2]string]string{{"192.0.2.77:9522", "239.12.255.254:9522"}: "meters/192.0.2.77/raw"},
	},
	"examples/templates.yaml": {sent: map[string]string{
		"site/3/lamp/17/set":  "239.10.3.17:30000",
		"site/3/lamp/300/set": "",
		"dmx/258/frame":       "239.255.1.2:5568",
		"speaker/4/say":       "239.20.0.1:30004",
		"valve/10/set":        "[ff15::a]:5000",
		"mc/239.1.2.3/5000":   "239.1.2.3:5000",
	}},
	"examples/gateway.yaml": {
		sent:     map[string]string{"devices/command": "225.17.0.18:30000", "devices/command/hex": "225.17.0.18:30000"},
		received: map[[2]string]string{{"172.17.0.23:30000", "225.17.0.19:30001"}: "devices/172.17.0.23/state"},
	},
	"examples/loopback.yaml": {
		sent:     map[string]string{"hello/world": "239.255.77.1:7700"},
		received: map[[2]string]string{{"127.0.0.1:40000", "239.255.77.2:7700"}: "heard/127.0.0.1"},
	},
	"compose/topicast.yaml": {
		sent:     map[string]string{"site/3/lamp/7/set": "239.10.3.7:30000"},
		received: map[[2]string]string{{"172.30.17.20:40000", "239.10.3.7:30001"}: "site/3/lamp/7/state"},
	},
	"examples/hosts.yaml": {sent: map[string]string{
		"shelly/31/rpc":  "192.0.2.31:1010",
		"shelly/300/rpc": "",
		"artnet/frame":   "192.0.2.255:6454",
		"wake":           "255.255.255.255:9",
	}},
	"examples/vlans.yaml": {
		sent:     map[string]string{"lamps/7/set": "239.10.0.7:30000", "lamps/300/set": ""},
		received: map[[2]string]string{{"10.0.7.9:40000", "239.10.1.0:30001"}: "building/eth0/10.0.7.9"},
	},
	"examples/sma-meter.yaml": {
		received: map[[2]string]string{{"192.0.2.40:9522", "239.12.255.254:9522"}: "sma/1900000123"},
		payload:  "SMA\x00\x00\x04\x02\xa0\x00\x00\x00\x01\x02\x44\x00\x10\x60\x69\x01\x5d\x71\x3f\xb3\x7b", // as far as the serial number
	},
	"examples/sacn.yaml": {
		sent: map[string]string{"dmx/258/set": "239.255.1.2:5568", "dmx/63999/set": "239.255.249.255:5568"},
		received: map[[2]string]string{
			{"192.0.2.20:5568", "239.255.0.2:5568"}:   "dmx/2/from/192.0.2.20",
			{"192.0.2.20:50000", "239.255.0.63:5568"}: "dmx/63/from/192.0.2.20",
		},
	},
	"examples/redundant.yaml": {
		received: map[[2]string]string{
			{"192.0.2.11:40000", "239.20.1.1:20000"}:   "studio/metadata",
			{"192.0.2.12:40000", "239.20.2.1:20000"}:   "studio/metadata",
			{"192.0.2.22:60017", "239.192.0.17:60017"}: "alarms",
		},
	},
	"examples/knx-ip.yaml": {
		sent:     map[string]string{"knx/send": "224.0.23.12:3671", "knx/search": "224.0.23.12:3671"},
		received: map[[2]string]string{{"192.0.2.3:3671", "224.0.23.12:3671"}: "knx/heard/192.0.2.3"},
	},
	"examples/cot.yaml": {
		sent:     map[string]string{"cot/bravo/192.0.2.9": "239.2.3.1:6969"},
		received: map[[2]string]string{{"192.0.2.8:40000", "239.2.3.1:6969"}: "cot/alpha/192.0.2.8"},
	},
	"examples/coiot.yaml": {
		received: map[[2]string]string{
			{"192.0.2.31:5683", "224.0.1.187:5683"}: "shelly/192.0.2.31/coiot",
			{"192.0.2.32:5683", "192.0.2.1:5683"}:   "shelly/192.0.2.32/coiot",
		},
	},
	"examples/artnet.yaml": {
		received: map[[2]string]string{
			{"192.0.2.20:6454", "192.0.2.1:6454"}:     "artnet/192.0.2.20",
			{"192.0.2.20:6454", "2.255.255.255:6454"}: "artnet/192.0.2.20",
			{"192.0.2.21:50000", "192.0.2.255:6454"}:  "artnet/192.0.2.21",
		},
	},
	"examples/syslog.yaml": {
		received: map[[2]string]string{{"192.0.2.3:41514", "192.0.2.1:514"}: "syslog/192.0.2.3"},
	},
	"examples/nmea.yaml": {
		received: map[[2]string]string{
			{"192.0.2.8:2000", "192.0.2.1:10110"}:   "boat/192.0.2.8/GGA",
			{"192.0.2.9:2000", "192.0.2.255:10110"}: "boat/192.0.2.9/GGA",
		},
		payload: "$GPGGA,120000,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*4A",
	},
	"examples/coap.yaml": {sent: map[string]string{"coap/31/get": "192.0.2.31:5683", "coap/300/get": ""}},
	"examples/mdns.yaml": {sent: map[string]string{"search/mdns": "224.0.0.251:5353"}},
	"examples/ws-discovery.yaml": {
		sent:     map[string]string{"search/wsd": "239.255.255.250:3702"},
		received: map[[2]string]string{{"192.0.2.8:3702", "239.255.255.250:3702"}: "wsd/192.0.2.8"},
	},
	"examples/ssdp.yaml": {
		sent: map[string]string{"search/ssdp": "239.255.255.250:1900"},
		received: map[[2]string]string{
			{"192.0.2.8:50123", "239.255.255.250:1900"}: "ssdp/192.0.2.8",
			{"[fe80::8]:1900", "[ff02::c]:1900"}:        "ssdp/fe80::8",
			{"[fd00::8]:1900", "[ff05::c]:1900"}:        "ssdp/fd00::8",
		},
	},
	"examples/iec61162-450.yaml": {
		sent: map[string]string{
			"ship/send/4":   "239.192.0.4:60004",
			"ship/send/16":  "239.192.0.16:60016",
			"ship/send/300": "",
		},
		received: map[[2]string]string{
			{"172.16.0.9:60001", "239.192.0.1:60001"}: "ship/MISC/172.16.0.9",
			{"172.16.0.9:60002", "239.192.0.2:60002"}: "ship/TGTD/172.16.0.9",
			{"172.16.0.9:60003", "239.192.0.3:60003"}: "ship/SATD/172.16.0.9",
			{"172.16.0.9:60004", "239.192.0.4:60004"}: "ship/NAVD/172.16.0.9",
		},
	},
}

// What the comments of the examples say, they do.
func TestExamplesDoWhatTheySay(t *testing.T) {
	for file := range everyConfiguration(t) {
		if strings.HasPrefix(file, "testdata") {
			continue
		}
		t.Run(file, func(t *testing.T) {
			says, ok := examples[filepath.ToSlash(file)]
			if !ok {
				t.Fatal("nothing is known of this file: add it to examples")
			}
			c, err := Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			table := c.Table
			if (len(says.sent) == 0) != (len(table.Send()) == 0) || (len(says.received) == 0) != (len(table.Receive()) == 0) {
				t.Error("a direction of this file is not tried")
			}
			for topic, want := range says.sent {
				if got := sentTo(t, table, topic); got != want {
					t.Errorf("%s goes to %q, want %q", topic, got, want)
				}
			}
			for datagram, want := range says.received {
				if diff := cmp.Diff([]string{want}, publishedOn(t, table, datagram[0], datagram[1], says.payload)); diff != "" {
					t.Errorf("from %s to %s (-want +got)\n%s", datagram[0], datagram[1], diff)
				}
			}
			for i := range table.Receive() {
				if table.ReceiveLoops(i) {
					t.Errorf("receive[%d] is on a cycle", i)
				}
			}
		})
	}
}

// sentTo is the group that the only rule for a topic gives, "" if it gives none.
func sentTo(t *testing.T, table *mapping.Table, topic string) string {
	t.Helper()
	targets := table.Lookup(topic, nil)
	if len(targets) != 1 {
		t.Fatalf("%s matches %d rules", topic, len(targets))
	}
	if targets[0].Err != nil {
		return ""
	}
	return targets[0].To.String()
}

// publishedOn is the topics that a datagram is published on.
func publishedOn(t *testing.T, table *mapping.Table, from, to, payload string) (topics []string) {
	t.Helper()
	a := mapping.Arrival{Source: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to), Interface: "eth0", At: time.Now()}
	for _, r := range table.Receive() {
		if !takes(&r, &a) || !r.When.Matches([]byte(payload), &a, r.Name) {
			continue
		}
		topic, err := r.Topic.AppendOf(nil, []byte(payload), &a, r.Name)
		if err != nil {
			t.Fatal(err)
		}
		topics = append(topics, string(topic))
	}
	return topics
}

func takes(r *mapping.ReceiveRule, a *mapping.Arrival) bool {
	from := len(r.Sources) == 0
	for _, p := range r.Sources {
		from = from || p.Contains(a.Source.Addr())
	}
	return from && r.Hears(a.To)
}
