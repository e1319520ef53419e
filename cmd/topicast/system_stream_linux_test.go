package main

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"topicast/internal/lab/netlab"
)

// A stream of messages over many topics, each topic with a group of its own, so
// that the group a datagram came to says which topic it must be of.
const (
	streamMessages = 10_000
	streamTopics   = 1_000
	// streamWindow is how many messages the publisher lets be on their way to the
	// device. mosquitto keeps 1,000 for a client by default and drops the rest
	// without a word to either side; it counts those whose acknowledgement it has
	// not read yet, and of these a bridge that is killed leaves another window
	// each time: with three kills, four windows at most. What is missing in the
	// end was then lost by the bridge. (A device with a default socket buffer
	// holds about 500 of this size.)
	streamWindow = 200

	streamRule = "  - { name: stream, filter: 'stream/{a}/{b}', group: '239.10.{a}.{b}:30000', source: 172.17.0.1, interface: iso0 }\n"
)

func streamTopic(i int) string { return fmt.Sprintf("stream/%d/%d", i/100, i%100) }

func streamGroup(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 10, byte(i / 100), byte(i % 100)}), 30000)
}

// streamMessage returns the topic of message i of the stream and its number in
// that topic: five in a row, so that a batch holds several of a topic whose
// order it could upset, and five again a thousand topics later.
func streamMessage(i int) (topic string, n int) {
	const row = 5
	round, rest := i/(row*streamTopics), i%(row*streamTopics)
	return streamTopic(rest / row), round*row + rest%row
}

// stream publishes message after message as the device receives them, and
// returns when it has them all. After each new one it calls progress.
func (s *system) stream(device *netlab.Device, publisher mqtt.Client, progress func(distinct int)) *netlab.Tally {
	s.t.Helper()
	var tally netlab.Tally
	published, distinct := 0, 0
	publish := func() {
		for ; published < min(distinct+streamWindow, streamMessages); published++ {
			topic, n := streamMessage(published)
			// A loss on this leg shows at the device like any other.
			publisher.Publish(topic, 1, false, netlab.Numbered(topic, n))
		}
	}
	publish()
	topics := map[netip.AddrPort]string{}
	for i := range streamTopics {
		topics[streamGroup(i)] = streamTopic(i)
	}
	device.Watch(func(r netlab.Received) bool {
		tally.Note(r.Payload)
		var topic string
		var n int
		if _, err := fmt.Sscan(string(r.Payload), &topic, &n); err != nil || topics[r.Group] != topic {
			s.t.Errorf("group %v received %q, want messages of topic %s", r.Group, r.Payload, topics[r.Group])
		}
		if r.Source.Addr() != netip.MustParseAddr("172.17.0.1") {
			s.t.Errorf("source %v, want 172.17.0.1", r.Source)
		}
		if now := tally.Received - tally.Duplicates; now > distinct {
			distinct = now
			progress(distinct)
			publish()
		}
		return distinct == streamMessages || s.t.Failed()
	})
	for i := range streamTopics {
		if missing := tally.Missing(streamTopic(i), streamMessages/streamTopics); missing != nil {
			s.t.Errorf("missing: %v", missing)
		}
	}
	return &tally
}

func (s *system) streamDevice() *netlab.Device {
	s.t.Helper()
	var groups []netip.AddrPort
	for i := range streamTopics {
		groups = append(groups, streamGroup(i))
	}
	return s.Dev.Device("eth0", groups...)
}

func TestTenThousandMessagesArriveOnceAndInOrder(t *testing.T) {
	s := newSystem(t, streamRule)
	device := s.streamDevice()
	s.startAll()
	tally := s.stream(device, s.client("backend"), func(int) {})
	// Whatever might still come would be a duplicate.
	s.eventually("the broker has nothing more for the bridge", func() error {
		if got := s.rule("stream"); got.Received != streamMessages || got.Sent != streamMessages {
			return fmt.Errorf("%d messages received, %d datagrams sent, want %d", got.Received, got.Sent, streamMessages)
		}
		return nil
	})
	t.Log(tally)
	if tally.Received != streamMessages || tally.Duplicates+tally.Disorders+tally.Strange > 0 {
		t.Errorf("%v; want each of %d once and in order", tally, streamMessages)
	}
}

func TestBridgeThatEndsInMidStreamLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*testing.T, *netlab.Process)
		once bool
	}{
		// SIGKILL: nothing is drained, said or written. A message whose datagram
		// left just before is sent again: that is "at least once".
		{"killed", func(t *testing.T, p *netlab.Process) { p.Kill() }, false},
		// SIGTERM: what was sent is acknowledged before the end.
		{"stopped", func(t *testing.T, p *netlab.Process) {
			if err := p.Stop(); err != nil {
				t.Errorf("after SIGTERM: %v, want exit status 0", err)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, streamRule)
			device := s.streamDevice()
			bridge := s.startAll()
			ends := []int{streamMessages / 4, streamMessages / 2, streamMessages * 3 / 4}
			tally := s.stream(device, s.client("backend"), func(distinct int) {
				if len(ends) > 0 && distinct == ends[0] {
					ends = ends[1:]
					c.end(t, bridge)
					bridge = s.startBridge()
				}
			})
			t.Log(tally)
			if got := tally.Received - tally.Duplicates; got != streamMessages || len(ends) > 0 {
				t.Errorf("%d messages arrived, want %d; ends left: %v", got, streamMessages, ends)
			}
			// No reason for a topic to run backwards.
			if tally.Disorders+tally.Strange > 0 || c.once && tally.Duplicates > 0 {
				t.Errorf("%v; want each in order (and once: %t)", tally, c.once)
			}
		})
	}
}

func TestMessagesThatWaitSurviveAKill(t *testing.T) {
	const messages = 100 // more than the 20 that mosquitto sends before it wants an acknowledgement
	s := newSystem(t, "  - { name: lamps, filter: lamps, group: 239.1.2.3:5000, source: 172.17.0.9, interface: iso0 }\n")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	s.startBroker()
	bridge := s.startBridge()
	subscribed := func() {
		t.Helper()
		s.eventually("the bridge is subscribed", func() error {
			if b := s.status().Broker; !b.Connected || b.Subscriptions != 1 {
				return fmt.Errorf("connected %t, %d subscriptions", b.Connected, b.Subscriptions)
			}
			return nil
		})
	}
	subscribed()
	publisher := s.client("backend")
	for n := range messages {
		s.publish(publisher, "lamps", netlab.Numbered("lamps", n))
	}
	s.eventually("messages wait for the address", func() error {
		if n := s.status().Queue.Messages; n == 0 {
			return errors.New("none does")
		}
		return nil
	})
	bridge.Kill()
	s.startBridge()
	subscribed()
	s.GW.Addr("iso0", "172.17.0.9/16")
	var tally netlab.Tally
	device.Watch(func(r netlab.Received) bool {
		tally.Note(r.Payload)
		return tally.Received == messages
	})
	if tally.Duplicates+tally.Disorders+tally.Strange > 0 {
		t.Errorf("%v; want each once and in order", &tally)
	}
}

func TestEveryQualityOfServiceArrives(t *testing.T) {
	s := newSystem(t, `
  - { name: q0, filter: q0, qos: 0, group: 239.1.1.1:5000, source: 172.17.0.1 }
  - { name: q1, filter: q1, qos: 1, group: 239.1.1.2:5000, source: 172.17.0.1 }
  - { name: q2, filter: q2, qos: 2, group: 239.1.1.3:5000, source: 172.17.0.1 }
`)
	const messages = 100
	var groups []netip.AddrPort
	for _, g := range []string{"239.1.1.1:5000", "239.1.1.2:5000", "239.1.1.3:5000"} {
		groups = append(groups, netip.MustParseAddrPort(g))
	}
	device := s.Dev.Device("eth0", groups...)
	s.startAll()
	publisher := s.client("backend")
	for n := range messages {
		for qos := range byte(3) {
			topic := fmt.Sprintf("q%d", qos)
			s.done(publisher.Publish(topic, qos, false, netlab.Numbered(topic, n)), "publish")
		}
	}
	var tally netlab.Tally
	device.Watch(func(r netlab.Received) bool {
		tally.Note(r.Payload)
		return tally.Received == 3*messages
	})
	if tally.Duplicates+tally.Disorders+tally.Strange > 0 {
		t.Errorf("%v; want each once and in order", &tally)
	}
}
