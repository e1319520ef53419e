//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A kind is what a scenario measures.
type kind int

const (
	// flood: MQTT fed as fast as the bridge reads; how much a second, at what cost.
	flood kind = iota
	// latency: messages evenly paced through mosquitto; how late, at what cost.
	latency
	// clean: the highest rate through mosquitto that does not pile up.
	clean
	// search: the highest rate of datagrams of which all are published.
	search
	// paced: datagrams at one rate; how late, at what cost.
	paced
	// again: datagrams that the bridge sends by itself, once a second; at what cost.
	again
)

// A scenario is one table of the output.
type scenario struct {
	name  string
	about string
	kind  kind
	traffic
	rate  float64 // a second, of latency and paced
	tuned bool    // mosquitto
	mode  string  // the ceiling's
	peers []string
}

// In all but the latencies the bridge has a core of its own, and the load, the
// brokers and the devices have the others.
var scenarios = func() []scenario {
	var list []scenario
	add := func(s scenario) {
		s.Groups, s.Sources = max(s.Groups, 1), max(s.Sources, 1)
		if s.Sizes == nil {
			s.Sizes = []int{128}
		}
		list = append(list, s)
	}
	all := []string{"topicast", "topicast-311", "ceiling", "mmsg", "c", "paho", "python"}
	for _, size := range []int{16, 128, 1024} {
		add(scenario{
			name: fmt.Sprint("send-", size), about: fmt.Sprintf("MQTT at TCP speed to one group, %d bytes, QoS 0", size),
			kind: flood, traffic: traffic{Sizes: []int{size}}, mode: modeSegment, peers: all,
		})
	}
	add(scenario{
		name: "send-qos1", about: "the same with 128 bytes and QoS 1, 1,000 in flight",
		kind: flood, traffic: traffic{QoS: 1}, mode: modeSegment, peers: all,
	})
	add(scenario{
		name: "send-host", about: "MQTT at TCP speed to one host, 128 bytes, QoS 0",
		kind: flood, traffic: traffic{Host: true}, mode: modeSegment, peers: all,
	})
	add(scenario{
		name: "send-answer", about: "requests to one host, which answers each, 128 bytes, QoS 1: both the request and its answer pass the bridge",
		kind: flood, traffic: traffic{Host: true, Answers: true, QoS: 1}, peers: []string{"topicast", "topicast-311"},
	})
	add(scenario{
		name: "send-100", about: "100 groups, each with its own source, topics in turn, 128 bytes, QoS 0",
		kind: flood, traffic: traffic{Groups: 100, Sources: 100}, mode: modeBucket,
		peers: []string{"topicast", "topicast-311", "ceiling", "c", "paho", "python"},
	})
	add(scenario{
		name: "send-1000", about: "1,000 groups from one source, topics in turn, seven sizes from 16 to 1,024 bytes, QoS 0",
		kind: flood, traffic: traffic{Groups: 1000, Sizes: []int{16, 48, 100, 128, 200, 512, 1024}},
		peers: []string{"topicast", "topicast-311", "mmsg", "c", "paho", "python"},
	})
	add(scenario{
		name: "send-rules", about: "as send-128, and the same among 10,000 rules",
		kind: flood, peers: []string{"topicast", "topicast-10000"},
	})
	add(scenario{
		name: "send-page", about: "as send-rules, and the same with the status page and its live feed open",
		kind: flood, peers: []string{"topicast", "topicast-page", "topicast-10000", "topicast-10000-page"},
	})
	add(scenario{
		name: "page-latency", about: "10,000 messages a second through mosquitto, and the same with the status page and its live feed open",
		kind: latency, rate: 10_000, tuned: true, peers: []string{"topicast", "topicast-page"},
	})
	add(scenario{
		name: "send-when", about: "as send-128, and the same with a condition on the payload",
		kind: flood, peers: []string{"topicast", "topicast-when"},
	})
	add(scenario{
		name: "send-fields", about: "as send-128, and the same with a group that fields of the payload give",
		kind: flood, peers: []string{"topicast", "topicast-fields"},
	})
	add(scenario{
		name: "send-refresh", about: "as send-128, and the same with the last datagram of each topic kept to be sent again",
		kind: flood, peers: []string{"topicast", "topicast-refresh"},
	})
	add(scenario{
		name: "refresh-10k", about: "10,000 topics with a group each, whose last datagram is sent again every second, 128 bytes; loop: the sends alone",
		kind: again, traffic: traffic{Groups: 10_000}, peers: []string{"topicast", "loop"},
	})
	for _, tuned := range []bool{true, false} {
		for _, rate := range []float64{1000, 10000} {
			suffix, how := "-default", "with its default settings"
			if tuned {
				suffix, how = "", "with set_tcp_nodelay and unbounded queues"
			}
			add(scenario{
				name: fmt.Sprint("latency-", rate, suffix), about: fmt.Sprintf("%.0f messages a second through mosquitto %s, 128 bytes, QoS 0", rate, how),
				kind: latency, rate: rate, tuned: tuned, mode: modeSegment,
				peers: []string{"csub", "topicast", "topicast-311", "ceiling", "c", "paho", "python"},
			})
		}
	}
	add(scenario{
		name: "clean-rate", about: "evenly paced through mosquitto (tuned), 128 bytes, QoS 0: the highest rate with p99 below 50 ms",
		kind: clean, tuned: true, mode: modeSegment,
		peers: []string{"csub", "topicast", "topicast-311", "ceiling", "c", "paho", "python"},
	})
	back := []string{"topicast", "topicast-311", "ceiling", "c", "paho", "python"}
	for _, size := range []int{16, 128, 1024} {
		add(scenario{
			name: fmt.Sprint("receive-", size), about: fmt.Sprintf("from one group to MQTT, %d bytes, QoS 0: the highest rate without loss", size),
			kind: search, traffic: traffic{Sizes: []int{size}}, mode: modeReceive, peers: back,
		})
	}
	add(scenario{
		name: "receive-qos1", about: "the same with 128 bytes and QoS 1",
		kind: search, traffic: traffic{QoS: 1}, mode: modeReceive, peers: back,
	})
	add(scenario{
		name: "receive-100", about: "from 100 groups in turn to MQTT, 128 bytes, QoS 0: the highest rate without loss",
		kind: search, traffic: traffic{Groups: 100}, mode: modeReceive, peers: back,
	})
	add(scenario{
		name: "receive-when", about: "as receive-128, and the same with a condition on the payload",
		kind: search, mode: modeReceive, peers: []string{"topicast", "topicast-when"},
	})
	add(scenario{
		name: "receive-latency", about: "5,000 datagrams a second from one group to MQTT, 128 bytes, QoS 0",
		kind: paced, rate: 5000, mode: modeReceive, peers: back,
	})
	return list
}()

// oneOfEach is what --quick runs, in less than a minute.
const oneOfEach = "send-128,send-qos1,send-host,send-100,send-1000,latency-1000,receive-128,receive-qos1,receive-latency"

// onlyPeers returns the scenarios with only the peers that are named, and without those
// in which none of them runs.
func onlyPeers(list []scenario, peers []string) ([]scenario, error) {
	var narrowed []scenario
	known := map[string]bool{}
	for _, s := range list {
		for _, p := range s.peers {
			known[p] = true
		}
		s.peers = slices.DeleteFunc(slices.Clone(s.peers), func(p string) bool { return !slices.Contains(peers, p) })
		if len(s.peers) > 0 {
			narrowed = append(narrowed, s)
		}
	}
	for _, p := range peers {
		if !known[p] {
			return nil, fmt.Errorf("no peer %q there; there are %s", p, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return narrowed, nil
}

// withBefore adds an older topicast to the peers, beside this one with one rule and with 10,000.
func withBefore(list []scenario) []scenario {
	list = slices.Clone(list)
	for i := range list {
		var peers []string
		for _, p := range list[i].peers {
			peers = append(peers, p)
			switch p {
			case "topicast":
				peers = append(peers, "before")
			case "topicast-10000":
				peers = append(peers, "before-10000")
			}
		}
		list[i].peers = peers
	}
	return list
}
