package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/internal/lab/netlab"
)

// A rule of each direction on one group: nothing that leaves comes back.
func TestBothDirectionsOnOneGroupDoNotMeet(t *testing.T) {
	s := newSystem(t, `
  - { name: out, filter: 'out/{n}', group: '239.1.1.1:5000', source: 172.17.0.1, interface: iso0 }
receive:
  - { name: in, group: '239.1.1.1:5000', interface: iso0, topic: 'in/{source}' }
`)
	device := s.Dev.Device("eth0", group("239.1.1.1:5000"))
	s.startAll()
	w := s.subscriber("in/#")
	backend := s.client("backend")
	const messages, window = 10_000, 200
	for i := range messages {
		backend.Publish("out/1", 1, false, netlab.Numbered("out", i))
		if i%window == window-1 {
			device.WaitFor(i - window)
		}
	}
	device.WaitFor(messages)
	s.Dev.Talker("eth0", dev4).Say(group("239.1.1.1:5000"), []byte("last"))
	s.settled(w, 1)
	if diff := cmp.Diff([]string{"in/172.17.0.50 last"}, w.lines()); diff != "" {
		t.Error(diff)
	}
	if r := s.receiveRule("in"); r.Filtered["own"] != messages || r.Received != messages+1 {
		t.Errorf("%d received, drops %v; want %d known as our own", r.Received, r.Drops, messages)
	}
}

// pair makes two gateways that share both networks, each with its own rules.
//
//	[gw]  172.17.0.1 iso0 ──┐            ┌── priv0 10.0.0.2  [gw]
//	[gw2] 172.17.0.2 iso0 ──┼── [dev]    ├── priv0 10.0.0.3  [gw2]
//	                        │            └── 10.0.0.1 broker [lan]
func pair(t *testing.T, rules func(source string) string, broker ...string) (a, b *system) {
	t.Helper()
	lab := netlab.New(t)
	iso, priv := lab.Switch("iso"), lab.Switch("priv")
	gw, gw2, dev, lan := lab.Host("gw"), lab.Host("gw2"), lab.Host("dev"), lab.Host("lan")
	for _, p := range []struct {
		host *netlab.Host
		dev  string
		to   *netlab.Host
		addr string
	}{
		{gw, "iso0", iso, "172.17.0.1/16"}, {gw2, "iso0", iso, "172.17.0.2/16"}, {dev, "eth0", iso, "172.17.0.50/16"},
		{gw, "priv0", priv, "10.0.0.2/24"}, {gw2, "priv0", priv, "10.0.0.3/24"}, {lan, "eth0", priv, "10.0.0.1/24"},
	} {
		lab.Plug(p.host, p.dev, p.to)
		p.host.Addr(p.dev, p.addr)
	}
	a = newSystemOn(t, &netlab.Rig{Lab: lab, GW: gw, Dev: dev, Lan: lan}, "gw", rules("172.17.0.1"))
	b = newSystemOn(t, &netlab.Rig{Lab: lab, GW: gw2, Dev: dev, Lan: lan}, "gw2", rules("172.17.0.2"))
	a.startBroker(broker...)
	a.startBridge()
	b.startBridge()
	a.ready()
	b.ready()
	return a, b
}

// calm waits until neither bridge has received or published anything for a while,
// that is, until the traffic has ended.
func calm(t *testing.T, systems ...*system) {
	t.Helper()
	const quiet = 2 * time.Second
	var last string
	since := time.Now()
	systems[0].eventually("the traffic ends", func() error {
		now := ""
		for _, s := range systems {
			for _, r := range s.status().Receive {
				now += fmt.Sprint(r.Received, r.Published, r.Drops, " ")
			}
			for _, r := range s.status().Rules {
				now += fmt.Sprint(r.Received, r.Sent, " ")
			}
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < quiet {
			return fmt.Errorf("it goes on: %s", now)
		}
		return nil
	})
}

// Two bridges with the same rules share a LAN and a broker. Each sends every
// message once, and nothing goes round.
func TestTwoBridgesDoNotFeedEachOther(t *testing.T) {
	t.Parallel() // it waits most of the time
	a, b := pair(t, func(source string) string {
		return fmt.Sprintf(`
  - { name: out, filter: both, group: '239.1.1.1:5000', source: %s }
receive:
  - { name: in, group: '239.1.1.1:5000', interface: iso0, topic: both }
loops: { hold: 1s }
`, source)
	})
	device := a.Dev.Device("eth0", group("239.1.1.1:5000"))
	w := a.subscriber("both")
	backend := a.client("backend")
	const messages = 1000
	words := []string{"ON", "OFF", "ON", "BLINK"} // the same again and again, as commands are
	want := map[string]int{}
	for i := range messages {
		word := words[i%len(words)]
		a.publish(backend, "both", []byte(word))
		want["172.17.0.1 "+word]++
		want["172.17.0.2 "+word]++
	}
	device.WaitFor(2 * messages)
	calm(t, a, b)
	got := map[string]int{}
	for _, r := range device.Received() {
		got[r.Source.Addr().String()+" "+string(r.Payload)]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(w.messages()); n != messages {
		t.Errorf("%d messages on the topic, want the %d of the backend alone", n, messages)
	}
	// And what a device says is published, and then the traffic ends.
	a.Dev.Talker("eth0", dev4).Say(group("239.1.1.1:5000"), []byte("STATE"))
	a.settled(w, messages+1)
	calm(t, a, b)
	if n := len(w.messages()) - messages; n < 1 || n > 2 {
		t.Errorf("%d more messages on the topic, want one of each bridge, or of the one that was first", n)
	}
}

// Two bridges whose rules form a cycle that neither can see alone: what one sends
// the other publishes where the first one listens. Only the breaker ends that.
func TestTheBreakerEndsACycleThatNoTableShows(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, c := range []struct {
		name, out2, in, in2, loops string // the first one's send filter is a
	}{
		{name: "across two tables", out2: "b", in: "b", in2: "a", loops: "{}"},
		{name: "with the guard off", out2: "a", in: "a", in2: "a", loops: "{ guard: false }"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, func(source string) string {
				out, in := "a", c.in
				if source == "172.17.0.2" {
					out, in = c.out2, c.in2
				}
				return fmt.Sprintf(`
  - { name: out, filter: %s, group: '239.1.1.1:5000', source: %s }
receive:
  - { name: in, group: '239.1.1.1:5000', interface: iso0, topic: %s }
loops: %s
`, out, source, in, c.loops)
			}, "max_queued_messages 0") // or the broker would end it, by dropping
			a.publish(a.client("backend"), "a", []byte("round and round"))
			a.eventually("a breaker opens", func() error {
				for _, s := range []*system{a, b} {
					if r := s.receiveRule("in"); r.Drops["breaker"] > 0 && r.State == account.StateDegraded && strings.Contains(r.Reason, "comes back") {
						return nil
					}
				}
				return fmt.Errorf("%+v %+v", a.receiveRule("in"), b.receiveRule("in"))
			})
			calm(t, a, b)
		})
	}
}
