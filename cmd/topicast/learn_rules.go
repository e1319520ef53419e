package main

import (
	"fmt"
	"strings"

	"topicast/internal/recognise"
)

// advice is what a receive rule for a protocol should be like.
type advice struct {
	name   string // of the rule
	topic  string
	keys   []string // more keys, as the file has them
	notes  []string // why they are so
	leave  string   // why the rule is commented out; empty: it is not
	single bool     // each group has a rule of its own
}

// advices are for the protocols that are known; what stands in configs/examples says more.
var advices = map[recognise.Protocol]advice{
	recognise.SACN: {name: "sacn", topic: "sacn/{u16@113}/{source}", keys: []string{"when: u32@18 == 4", "qos: 0", "every: 100ms"},
		notes: []string{"By universe. A console repeats each 44 times a second: ten are enough to watch it."}},
	recognise.ArtNet: {name: "art-net", topic: "artnet/{source}", keys: []string{"qos: 0"},
		notes: []string{"Up to 44 times a second for each universe: a lost one is replaced at once."}},
	recognise.KNX:  {name: "knx", topic: "knx/{source}"},
	recognise.SSDP: {name: "ssdp", topic: "ssdp/{source}", keys: []string{"payload: json"}, leave: "who is there on this network, told again and again"},
	recognise.MDNS: {name: "mdns", topic: "mdns/{source}", keys: []string{"qos: 0"}, leave: "names of this link, told again and again, and of use on it alone"},
	recognise.LLMNR: {name: "llmnr", topic: "llmnr/{source}", keys: []string{"qos: 0"},
		leave: "questions for names of this link"},
	recognise.WSDiscovery: {name: "ws-discovery", topic: "wsd/{source}", leave: "who is there on this network, told again and again"},
	recognise.CoIoT: {name: "shelly", topic: "shelly/{source}/coiot", keys: []string{"when: u8@1 == 30", "retain: true"},
		notes: []string{"Code 0.30 is CoIoT's: other devices have CoAP on this group. The last state is kept for whoever subscribes later."}},
	recognise.CoAP: {name: "coap", topic: "coap/{source}"},
	recognise.Speedwire: {name: "sma", topic: "sma/{u32@20}", keys: []string{"when: u16@16 == 0x6069", "qos: 0"},
		notes: []string{"By the serial number of the meter. Other kinds than 0x6069, readings, are left out. every: 10s would thin them out."}},
	recognise.CoT: {name: "cot", topic: "cot/{source}"},
	recognise.NMEA0183: {name: "nmea", topic: "nmea/{source}/{text@3:3}", keys: []string{"split: line", `when: (payload begins "$" || payload begins "!") && size > 6`, "qos: 0"},
		notes: []string{"Each sentence is a message, by its kind, such as GGA."}},
	recognise.IEC61162: {name: "iec61162", topic: "ship/{group}/{source}", keys: []string{"qos: 0"},
		notes: []string{"A TAG block stands before each sentence."}},
	recognise.PTP:    {name: "ptp", topic: "ptp/{source}", keys: []string{"qos: 0"}, leave: "time, which is worth nothing when it comes late"},
	recognise.SAP:    {name: "sap", topic: "sap/{source}"},
	recognise.RTP:    {name: "rtp", topic: "rtp/{group}/{port}", keys: []string{"qos: 0"}, leave: "a stream of sound or pictures, which is more than most brokers are for"},
	recognise.RTCP:   {name: "rtcp", topic: "rtcp/{group}/{port}", keys: []string{"qos: 0"}, leave: "reports about a stream of RTP"},
	recognise.Syslog: {name: "syslog", topic: "syslog/{source}"},
	recognise.Ganglia: {name: "ganglia", topic: "ganglia/{u32@0}/{source}", keys: []string{"qos: 0"},
		notes: []string{"By the kind that each begins with: 128 describes a metric, the others are values."}},
}

// advise is the rule for a flow.
func advise(f *heardFlow) advice {
	if a, known := advices[f.Protocol]; known {
		if !f.to.Addr().IsMulticast() && strings.Contains(a.topic, "{group}") {
			a.topic = strings.ReplaceAll(a.topic, "{group}/", "")
		}
		if f.to.Addr().IsUnspecified() && f.to.Port() < 1024 && a.leave == "" {
			a.notes = append([]string{"The port is below 1024: it takes CAP_NET_BIND_SERVICE, see configs/systemd."}, a.notes...)
		}
		return a
	}
	a := advice{name: "unknown", topic: "learnt/{group}/{port}/{source}", single: true}
	if !f.to.Addr().IsMulticast() {
		a.topic = "learnt/{port}/{source}"
	}
	if f.Perhaps != "" {
		a.notes = append(a.notes, fmt.Sprintf("Perhaps %s: its bytes could be, and nothing else says so.", f.Perhaps))
	}
	return a
}

// learntRule is a rule for one flow or several that are the same but for the group.
type learntRule struct {
	advice
	flows []*heardFlow
}

// rules puts flows of one protocol into one rule, as far as one can have them.
func rules(flows []*heardFlow) (list []*learntRule) {
	for _, f := range flows {
		a := advise(f)
		if last := len(list) - 1; last >= 0 && !a.single {
			is := list[last].flows[0]
			if is.Protocol == f.Protocol && is.to.Addr().IsMulticast() && f.to.Addr().IsMulticast() && is.to.Addr().Is4() == f.to.Addr().Is4() {
				list[last].flows = append(list[last].flows, f)
				continue
			}
		}
		list = append(list, &learntRule{a, []*heardFlow{f}})
	}
	return list
}
