package main

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// publish5 publishes as a client of MQTT 5 that nobody here wrote.
func (s *system) publish5(topic, payload string, properties ...string) {
	s.t.Helper()
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		netlab.Skip(s.t, "mosquitto_pub is not installed: %v", err)
	}
	host := netip.MustParseAddrPort(brokerAddress).Addr().String()
	args := []string{"-V", "5", "-h", host, "-q", "1", "-t", topic, "-m", payload}
	if out, err := s.Lan.Command("mosquitto_pub", append(args, properties...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}

// A command that is good for 2 s, and waits longer than that for its interface, is never sent: not from
// memory, not from the disk of a process that was killed. What is good for longer is.
func TestACommandIsNotSentAfterItsExpiry(t *testing.T) {
	s := newSystem(t, fmt.Sprintf("  - { name: r, filter: 'r/+', group: '239.1.2.3:5000', source: 172.17.0.1, interface: iso0 }\nspool: { dir: %s }\n", t.TempDir()))
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	p := s.startAll()
	if got := s.status().Broker.Protocol; got != "5" {
		t.Errorf("mosquitto is spoken to in MQTT %s, want 5", got)
	}
	s.GW.Down("iso0")
	s.eventually("the rule is pending", func() error {
		if got := s.rule("r"); got.State != "pending" {
			return fmt.Errorf("it is %s", got.State)
		}
		return nil
	})
	s.publish5("r/1", "late", "-D", "publish", "message-expiry-interval", "2")
	s.publish5("r/2", "in time", "-D", "publish", "message-expiry-interval", "600")
	s.publish5("r/3", "for ever")
	s.eventually("all are on disk", func() error {
		if got := s.rule("r"); got.WaitingDisk != 3 {
			return fmt.Errorf("%d are", got.WaitingDisk)
		}
		return nil
	})
	p.Kill()
	s.startBridge()
	time.Sleep(3 * time.Second)
	s.GW.Up("iso0")
	var got []string
	device.Watch(func(r netlab.Received) bool {
		got = append(got, string(r.Payload))
		return len(got) == 2 || t.Failed()
	})
	if fmt.Sprint(got) != "[in time for ever]" {
		t.Errorf("received %q", got)
	}
	s.eventually("the late one is counted", func() error {
		if got := s.rule("r").Drops; got["expired"] != 1 {
			return fmt.Errorf("drops %v", got)
		}
		return nil
	})
}

// The device's answer comes where mosquitto_rr asks for it, with its data, and not where the rule says.
func TestARequestOfMQTT5GetsItsAnswerOnItsResponseTopic(t *testing.T) {
	s := newSystem(t, "  - { name: ask, filter: 'ask/+', group: '239.1.2.3:5000', source: 172.17.0.1, answer: { topic: answers, within: 500ms, none: none } }\n")
	device := s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
	s.Dev.Listener("eth0", func(r netlab.Received) {
		if string(r.Payload) == "who?" {
			device.Say(r.Source, []byte("me"))
		}
	}, group("239.1.2.3:5000"))
	s.startAll()
	w := s.subscriber("answers", "none")
	host := netip.MustParseAddrPort(brokerAddress).Addr().String()
	if _, err := exec.LookPath("mosquitto_rr"); err != nil {
		netlab.Skip(t, "mosquitto_rr is not installed: %v", err)
	}
	for request, want := range map[string]string{
		"who?":   "back/1 me k7\n",
		"nobody": `back/1 {"reason":"unanswered","topic":"ask/1","target":"239.1.2.3:5000","tries":1} k7` + "\n",
	} {
		out, err := s.Lan.Command("mosquitto_rr", "-V", "5", "-h", host, "-q", "1", "-t", "ask/1", "-e", "back/1", "-m", request,
			"-D", "publish", "correlation-data", "k7", "-F", "%t %p %D", "-W", "5").CombinedOutput()
		if string(out) != want {
			t.Errorf("%s: %q, %v; want %q", request, out, err, want)
		}
	}
	if got := w.lines(); len(got) > 0 {
		t.Errorf("on the topics of the rule: %q", got)
	}
}

// Of a shared subscription each message goes to one of its members, whatever version of MQTT each speaks;
// what the broker had kept is sent by none.
func TestASharedSubscriptionIsDivided(t *testing.T) {
	for _, protocol := range []string{"5", "3.1.1"} {
		t.Run(protocol, func(t *testing.T) {
			t.Setenv("TOPICAST_BROKER_PROTOCOL", protocol)
			s := newSystem(t, "  - { name: r, filter: 'r/#', share: gw, group: '239.1.2.3:5000', source: 172.17.0.1 }\n")
			device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
			s.startBroker()
			s.publish5("r/kept", "kept", "-r")
			s.startBridge()
			s.ready()
			other := s.subscriber("$share/gw/r/#")
			const n = 20
			for i := range n {
				s.publish5("r/1", fmt.Sprint(i))
			}
			var all []string
			device.Watch(func(r netlab.Received) bool {
				all = append(all, string(r.Payload))
				return len(all) == n/2 || t.Failed()
			})
			s.eventually("the other has its half, and here what was kept", func() error {
				if got := other.lines(); len(got) != n/2+1 {
					return fmt.Errorf("it has %q", got)
				}
				return nil
			})
			for _, line := range other.lines()[:n/2] {
				all = append(all, strings.TrimPrefix(line, "r/1 "))
			}
			slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint(i))
			}
			if !slices.Equal(all, want) {
				t.Errorf("both have %q", all)
			}
			if got := s.status().Broker.Protocol; got != protocol {
				t.Errorf("spoken in MQTT %s", got)
			}
			if got := s.rule("r"); got.Sent != n/2 || got.Share != "gw" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// What mosquitto_sub shows of a message whose rule has metadata: where the datagram came from, and the bytes as
// they were; also of what comes to the gateway itself.
func TestAMessageOfMQTT5SaysWhereItsDatagramCameFrom(t *testing.T) {
	s := newSystem(t, "  []\nreceive:\n  - { name: g, group: '239.1.2.3:5000', interface: iso0, topic: g, metadata: properties, content_type: text/plain }\n"+
		"  - { name: p, port: 6454, interface: iso0, topic: p, metadata: properties }\n")
	s.startAll()
	host := netip.MustParseAddrPort(brokerAddress).Addr().String()
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		netlab.Skip(t, "mosquitto_sub is not installed: %v", err)
	}
	device := s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
	for to, want := range map[string]string{
		"239.1.2.3:5000":  `^g AB text/plain source:172\.17\.0\.50:\d+ group:239\.1\.2\.3:5000 interface:iso0 received_at:20\d\d-.*Z\n$`,
		"172.17.0.1:6454": `^p AB  source:172\.17\.0\.50:\d+ destination:172\.17\.0\.1:6454 interface:iso0 received_at:20\d\d-.*Z\n$`,
	} {
		sub := s.Lan.Command("mosquitto_sub", "-V", "5", "-h", host, "-q", "1", "-t", "g", "-t", "p", "-F", "%t %p %C %P", "-C", "1", "-W", "10")
		var out bytes.Buffer
		sub.Stdout = &out
		if err := sub.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = sub.Wait()
			close(ended)
		}()
		for done := false; !done; {
			device.Say(netip.MustParseAddrPort(to), []byte("AB")) // until it has subscribed
			select {
			case <-ended:
				done = true
			case <-time.After(100 * time.Millisecond):
			}
		}
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("to %s: %q, want %s", to, out.String(), want)
		}
	}
}

// What the gateway publishes, and would only send back to where it came from, mosquitto does not hand back with
// MQTT 5, and the loop guard remembers nothing: the same message of a backend is sent at once. With 3.1.1 the
// guard knows the gateway's own.
func TestOurOwnMessagesAreNotHandedBack(t *testing.T) {
	for protocol, handed := range map[string]uint64{"5": 0, "3.1.1": 1} {
		t.Run(protocol, func(t *testing.T) {
			t.Setenv("TOPICAST_BROKER_PROTOCOL", protocol)
			s := newSystem(t, "  - { name: back, filter: 't', group: '239.1.2.3:5000', source: 172.17.0.1, interface: iso0 }\n"+
				"receive:\n  - { name: in, group: '239.1.2.3:5000', interface: iso0, topic: t }\n")
			s.startAll()
			device := s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
			listener := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
			w := s.subscriber("t")
			device.Say(netip.MustParseAddrPort("239.1.2.3:5000"), []byte("ON"))
			s.eventually("it is published", func() error {
				if got := w.lines(); len(got) != 1 {
					return fmt.Errorf("%q", got)
				}
				return nil
			})
			time.Sleep(500 * time.Millisecond)
			if got := s.rule("back"); got.Received != handed || got.Filtered["loop"] != handed || got.Sent != 0 {
				t.Errorf("before the backend's: %+v", got)
			}
			s.publish5("t", "ON")
			listener.Watch(func(r netlab.Received) bool {
				return r.Source.Addr() == netip.MustParseAddr("172.17.0.1") && string(r.Payload) == "ON"
			})
			if got := s.rule("back"); got.Sent != 1 {
				t.Errorf("after it: %+v", got)
			}
		})
	}
}

// What mosquitto_pub says beside the payload chooses the group, and which rule takes the message.
func TestPropertiesOfAMessageChooseItsGroup(t *testing.T) {
	s := newSystem(t, "  - { name: r, filter: 'r', group: '239.1.2.{property.room}:5000', source: 172.17.0.1, when: 'content_type == \"text/plain\"' }\n")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.7:5000"))
	s.startAll()
	s.publish5("r", "another type", "-D", "publish", "user-property", "room", "7", "-D", "publish", "content-type", "text/html")
	s.publish5("r", "this", "-D", "publish", "content-type", "text/plain", "-D", "publish", "user-property", "floor", "1", "-D", "publish", "user-property", "room", "7")
	device.Watch(func(r netlab.Received) bool {
		if got := string(r.Payload); got != "this" {
			t.Errorf("received %q", got)
		}
		return true
	})
	if got := s.rule("r"); got.Filtered["when"] != 1 || got.Sent != 1 {
		t.Errorf("%+v", got)
	}
}
