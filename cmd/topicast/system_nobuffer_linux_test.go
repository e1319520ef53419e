package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"topicast/internal/lab/netlab"
)

const manyLamps = "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.1, interface: iso0 }\n"

// What is longer than a shaper's burst never passes: it is dropped and counted, and holds
// up neither what comes behind it nor the broker, which has 20 messages on their way.
func TestADatagramThatAShaperNeverTakesHoldsUpNobody(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, c := range map[string]struct {
		sizes        []int // in turn
		messages     int
		burst, limit uint32
		heard        int
	}{
		"one among many":        {sizes: []int{1400, 100, 100, 100, 100, 100, 100, 100, 100, 100}, messages: 40, burst: 1000, limit: 30_000, heard: 36},
		"all of them":           {sizes: []int{1400}, messages: 60, burst: 1000, limit: 30_000},
		"several in a row":      {sizes: []int{1400, 1300, 1200, 100}, messages: 80, burst: 1000, limit: 30_000, heard: 20},
		"longer than the queue": {sizes: []int{1400, 100}, messages: 60, burst: 32 << 10, limit: 1000, heard: 30},
		"fragments":             {sizes: []int{20_000, 100}, messages: 60, burst: 1600, limit: 6000, heard: 30},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, manyLamps)
			device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
			s.startBroker("max_queued_messages 0")
			s.startBridge()
			s.ready()
			s.shape(1_250_000, c.burst, c.limit)
			publisher := s.client("backend")
			var tokens []mqtt.Token
			for n := range c.messages {
				p := netlab.Numbered("lamps", n)
				size := max(c.sizes[n%len(c.sizes)], len(p))
				tokens = append(tokens, publisher.Publish("lamps/1", 1, false, append(p, strings.Repeat(".", size-len(p))...)))
			}
			for _, token := range tokens {
				s.done(token, "publish")
			}
			s.eventually("each has left or is counted", func() error {
				r := s.rule("lamps")
				if int(r.Sent) != c.heard || int(r.Drops["no_buffer"]) != c.messages-c.heard {
					return fmt.Errorf("%d sent, drops %v, in state %s (%s)", r.Sent, r.Drops, r.State, r.Reason)
				}
				return nil
			})
			last := -1
			for _, r := range device.WaitFor(c.heard) {
				var n int
				if _, err := fmt.Sscanf(strings.TrimRight(string(r.Payload), "."), "lamps %d", &n); err != nil || n <= last {
					t.Errorf("%.20q (%v) behind %d", r.Payload, err, last)
				}
				last = n
			}
		})
	}
}

// Other disciplines that answer as a full queue does: none keeps an acknowledgement.
func TestNoQueueWithholdsAnAcknowledgementForEver(t *testing.T) {
	const messages = 40
	for name, c := range map[string]struct {
		tc     []string // commands
		heard  int
		reason string // of all that are not heard
	}{
		"a queue for one datagram": {tc: []string{"qdisc add dev iso0 root pfifo limit 1"}, heard: messages},
		"a filter that drops all":  {tc: []string{"qdisc add dev iso0 clsact", "filter add dev iso0 egress matchall action drop"}, reason: "no_buffer"},
		"a policer":                {tc: []string{"qdisc add dev iso0 clsact", "filter add dev iso0 egress matchall action police rate 1mbit burst 2000 conform-exceed drop/ok"}, heard: messages},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, manyLamps)
			device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
			s.startBroker("max_queued_messages 0")
			s.startBridge()
			s.ready()
			for _, command := range c.tc {
				if out, err := s.GW.Command("tc", strings.Fields(command)...).CombinedOutput(); err != nil {
					netlab.SkipKernel(t, "tc %s: %v: %s", command, err, out)
				}
			}
			publisher := s.client("backend")
			for n := range messages {
				p := netlab.Numbered("lamps", n)
				s.publish(publisher, "lamps/1", append(p, strings.Repeat(".", 1000-len(p))...))
			}
			s.eventually("each has left or is counted", func() error {
				r := s.rule("lamps")
				if int(r.Sent) != c.heard || int(r.Drops[c.reason]) != messages-c.heard {
					return fmt.Errorf("%d sent, drops %v, in state %s (%s)", r.Sent, r.Drops, r.State, r.Reason)
				}
				return nil
			})
			device.WaitFor(c.heard)
		})
	}
}
