package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/receive"
	"topicast/internal/lab/netlab"
)

// The system tests of the receive direction: devices talk to groups, the real
// binary publishes, and a subscriber at the real mosquitto is the witness.

// newReceiver prepares a system without send rules. The rules are the list under
// receive:, and may be followed by other sections.
func newReceiver(t *testing.T, rules string) *system {
	t.Helper()
	return newSystem(t, "  []\nreceive:\n"+rules)
}

// subscriber collects what the broker hands out.
type subscriber struct {
	mu      sync.Mutex
	changed *sync.Cond
	got     []mqtt.Message
}

func (s *system) subscriber(filters ...string) *subscriber {
	s.t.Helper()
	w := &subscriber{}
	w.changed = sync.NewCond(&w.mu)
	c := s.client("witness", func(o *mqtt.ClientOptions) { o.SetOrderMatters(true) })
	for _, f := range filters {
		s.done(c.Subscribe(f, 1, func(_ mqtt.Client, m mqtt.Message) {
			w.mu.Lock()
			w.got = append(w.got, m)
			w.changed.Broadcast()
			w.mu.Unlock()
		}), "subscribe to "+f)
	}
	return w
}

func (w *subscriber) messages() []mqtt.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// lines are the messages as topic, blank, payload, sorted: for messages of
// several groups come in no order.
func (w *subscriber) lines() (lines []string) {
	for _, m := range w.messages() {
		lines = append(lines, m.Topic()+" "+string(m.Payload()))
	}
	slices.Sort(lines)
	return lines
}

// settled waits until every datagram that arrived is published, counted as
// dropped, or not of a rule, and the subscriber has all n messages.
func (s *system) settled(w *subscriber, n int) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%d messages arrive", n), func() error {
		if got := len(w.messages()); got < n {
			return fmt.Errorf("%d have; %+v", got, s.status().Receive)
		}
		return nil
	})
}

// receiveRule returns the status of one receive rule.
func (s *system) receiveRule(name string) receive.Status {
	s.t.Helper()
	rules := s.status().Receive
	i := slices.IndexFunc(rules, func(r receive.Status) bool { return r.Name == name })
	if i < 0 {
		s.t.Fatalf("/status has no receive rule %s", name)
	}
	return rules[i]
}

var (
	dev4, dev6 = netip.MustParseAddr("172.17.0.50"), netip.MustParseAddr("fd17::50")
	lan4, lan6 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd10::1")
)

func group(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestEachReceiveRuleGetsExactlyItsOwn(t *testing.T) {
	const rules = `
  - { name: a,     group: '239.1.1.1:5000', interface: iso0,       topic: 'a/{source}' }
  - { name: b,     group: '239.1.1.2:5000', interface: iso0,       topic: 'b/{source}' }
  - { name: priv,  group: '239.1.1.1:5000', interface: 10.0.0.2,   topic: 'priv/{interface}/{source}' }
  - { name: one,   group: '239.1.1.1:5000', interface: iso0,       topic: one, source: 172.17.0.51 }
  - { name: net,   group: '239.1.1.1:5000', interface: iso0,       topic: net, source: [172.17.0.48/31, 172.17.0.50] }
  - { name: a6,    group: '[ff15::1]:5000', interface: iso0,       topic: 'a6/{source}' }
  - { name: b6,    group: '[ff15::2]:5000', interface: iso0,       topic: 'b6/{source}' }
  - { name: priv6, group: '[ff15::1]:5000', interface: priv0,      topic: 'priv6/{source}' }
  - { name: link,  group: '[ff02::1:5]:5000', interface: iso0,     topic: 'link/{interface}' }
  - { name: linkp, group: '[ff02::1:5]:5000', interface: priv0,    topic: 'link/{interface}' }
  - { name: one6,  group: '[ff15::1]:5000', interface: iso0,       topic: one6, source: 'fd17::51' }
`
	s := newReceiver(t, rules)
	s.Dev.Addr("eth0", "172.17.0.51/16")
	s.Dev.Addr("eth0", "fd17::51/64")
	// A foreign program on the gateway that has joined other groups of the port,
	// and the rules' groups where they are not to be heard.
	s.GW.Device("iso0", group("239.1.1.3:5000"), group("[ff15::3]:5000"))
	s.GW.Device("priv0", group("239.1.1.2:5000"), group("[ff15::2]:5000"))
	s.startAll()
	w := s.subscriber("#")
	said := 0
	for _, talker := range []*netlab.Talker{
		s.Dev.Talker("eth0", dev4), s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.51")), s.Lan.Talker("eth0", lan4),
	} {
		for _, g := range []string{"239.1.1.1:5000", "239.1.1.2:5000", "239.1.1.3:5000"} {
			talker.Say(group(g), fmt.Appendf(nil, "%v to %s", talker.Source().Addr(), g))
			said++
		}
	}
	for _, talker := range []*netlab.Talker{
		s.Dev.Talker("eth0", dev6), s.Dev.Talker("eth0", netip.MustParseAddr("fd17::51")), s.Lan.Talker("eth0", lan6),
		s.Dev.Talker("eth0", s.Dev.LinkLocal("eth0")),
	} {
		for _, g := range []string{"[ff15::1]:5000", "[ff15::2]:5000", "[ff15::3]:5000", "[ff02::1:5]:5000"} {
			if !talker.Source().Addr().IsLinkLocalUnicast() || strings.HasPrefix(g, "[ff02") {
				talker.Say(group(g), fmt.Appendf(nil, "%v to %s", talker.Source().Addr(), g))
				said++
			}
		}
	}
	link := s.Dev.LinkLocal("eth0").String()
	want := []string{
		"a/172.17.0.50 172.17.0.50 to 239.1.1.1:5000",
		"a/172.17.0.51 172.17.0.51 to 239.1.1.1:5000",
		"b/172.17.0.50 172.17.0.50 to 239.1.1.2:5000",
		"b/172.17.0.51 172.17.0.51 to 239.1.1.2:5000",
		"priv/priv0/10.0.0.1 10.0.0.1 to 239.1.1.1:5000",
		"one 172.17.0.51 to 239.1.1.1:5000",
		"net 172.17.0.50 to 239.1.1.1:5000",
		"a6/fd17::50 fd17::50 to [ff15::1]:5000",
		"a6/fd17::51 fd17::51 to [ff15::1]:5000",
		"b6/fd17::50 fd17::50 to [ff15::2]:5000",
		"b6/fd17::51 fd17::51 to [ff15::2]:5000",
		"priv6/fd10::1 fd10::1 to [ff15::1]:5000",
		"one6 fd17::51 to [ff15::1]:5000",
		"link/iso0 " + link + " to [ff02::1:5]:5000",
		"link/iso0 fd17::50 to [ff02::1:5]:5000",
		"link/iso0 fd17::51 to [ff02::1:5]:5000",
		"link/priv0 fd10::1 to [ff02::1:5]:5000",
		"topicast/" + gatewayID + "/status online",
	}
	slices.Sort(want)
	s.settled(w, len(want))
	// The last to be said has come, on each socket; what came too much is there too.
	if diff := cmp.Diff(want, w.lines()); diff != "" {
		t.Error(diff)
	}
	s.eventually("rule net has filtered one for its source", func() error {
		if got := s.receiveRule("net").Filtered["source"]; got != 1 {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

func TestASourceSpecificJoinIsSeenOnTheWire(t *testing.T) {
	s := newReceiver(t, "  - { name: one, group: '232.1.1.1:5000', interface: iso0, topic: one, source: 172.17.0.50 }\n")
	wire := s.Dev.Capture("eth0")
	s.startAll()
	wire.WaitForFrame(func(f netlab.Frame) bool {
		return slices.ContainsFunc(f.IGMP, func(m netlab.Membership) bool {
			return m.Type == "ALLOW" && m.Group == netip.MustParseAddr("232.1.1.1") && slices.Equal(m.Sources, []netip.Addr{dev4})
		})
	})
}

func TestManyGroupsAreJoinedAtOnce(t *testing.T) {
	for _, n := range []int{63, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			last := netip.AddrFrom4([4]byte{239, 255, byte(n >> 8), byte(n)})
			s := newReceiver(t, fmt.Sprintf("  - { name: many, group: '239.255.0.1-%v:5568', interface: iso0, topic: 'u/{group&65535}' }\n", last))
			s.startAll()
			w := s.subscriber("u/+")
			talker := s.Dev.Talker("eth0", dev4)
			var want []string
			for u := 1; u <= n; u++ {
				talker.Say(netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, byte(u >> 8), byte(u)}), 5568), fmt.Appendf(nil, "%d", u))
				want = append(want, fmt.Sprintf("u/%d %d", u, u))
			}
			talker.Say(netip.AddrPortFrom(last.Next(), 5568), []byte("outside"))
			slices.Sort(want)
			s.settled(w, n)
			if diff := cmp.Diff(want, w.lines()); diff != "" {
				t.Error(diff)
			}
			if r := s.receiveRule("many"); r.Sockets != n || r.Joined != n || r.State != account.StateUp {
				t.Errorf("%d sockets, %d joined, %s", r.Sockets, r.Joined, r.State)
			}
		})
	}
}

func TestEveryPayloadIsPublishedWholeAndHostileTopicsAreDropped(t *testing.T) {
	s := newReceiver(t, `
  - { name: raw,    group: '239.1.1.1:5000', interface: iso0, topic: raw }
  - { name: hex,    group: '239.1.1.1:5000', interface: iso0, topic: hex, payload: hex, qos: 0 }
  - { name: base64, group: '239.1.1.1:5000', interface: iso0, topic: base64, payload: base64, qos: 2 }
  - { name: wild,   group: '239.1.1.9:5000', interface: 172.18.0.1, topic: 'wild/{interface}' }
`)
	s.Link(s.GW, "x+y", s.Dev, "eth1")
	s.GW.Addr("x+y", "172.18.0.1/16")
	s.Dev.Addr("eth1", "172.18.0.50/16")
	s.startAll()
	w := s.subscriber("#")
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	payloads := [][]byte{{}, every, bytes.Repeat([]byte{0xa5}, 65_507), []byte("+/#\x00")}
	s.Dev.Talker("eth0", dev4).Say(group("239.1.1.1:5000"), payloads...)
	s.Dev.Talker("eth1", netip.MustParseAddr("172.18.0.50")).Say(group("239.1.1.9:5000"), []byte("x"))
	s.settled(w, 3*len(payloads)+1)
	got := map[string][][]byte{}
	for _, m := range w.messages() {
		got[m.Topic()] = append(got[m.Topic()], m.Payload())
	}
	for i, p := range payloads {
		for topic, want := range map[string]string{"raw": string(p), "hex": fmt.Sprintf("%x", p), "base64": base64.StdEncoding.EncodeToString(p)} {
			if string(got[topic][i]) != want {
				t.Errorf("%s %d: %d bytes, want %d, or they differ", topic, i, len(got[topic][i]), len(want))
			}
		}
	}
	s.eventually("the topic that cannot be is counted", func() error {
		if r := s.receiveRule("wild"); r.Drops["bad_topic"] != 1 || !strings.Contains(r.FirstDrops["bad_topic"], "x+y") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

// 100,000 datagrams in bursts that fit the receive buffer are all published, in
// the order of each sender.
func TestBurstsThatFitTheBufferAreAllPublishedInOrder(t *testing.T) {
	s := newReceiver(t, "  - { name: in, group: '239.1.1.1:5000', interface: iso0, topic: 'in/{source}', qos: 0 }\n")
	s.Dev.Addr("eth0", "172.17.0.51/16")
	s.startAll()
	var tally netlab.Tally
	var mu sync.Mutex
	w := s.client("witness")
	s.done(w.Subscribe("in/#", 0, func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		tally.Note(m.Payload())
	}), "subscribe")
	talkers := map[string]*netlab.Talker{
		"50": s.Dev.Talker("eth0", dev4), "51": s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.51")),
	}
	const datagrams, burst = 100_000, 100
	said := 0
	for i := range datagrams / len(talkers) / burst {
		for name, k := range talkers {
			for j := range burst {
				k.Say(group("239.1.1.1:5000"), netlab.Numbered(name, i*burst+j))
				said++
			}
		}
		// Paced by what has been published: the broker's own queue must not run over.
		if said%5_000 == 0 {
			s.eventually("what was said is published", func() error {
				if r := s.receiveRule("in"); r.Published != uint64(said) {
					return fmt.Errorf("%d of %d, drops %v", r.Published, said, r.Drops)
				}
				return nil
			})
		}
	}
	s.eventually("the subscriber has them all", func() error {
		mu.Lock()
		defer mu.Unlock()
		if tally.Received < datagrams {
			return fmt.Errorf("%v", &tally)
		}
		return nil
	})
	if tally.Received != datagrams || tally.Duplicates+tally.Disorders+tally.Strange > 0 {
		t.Errorf("%v; want each of %d once and in order", &tally, datagrams)
	}
}

// What a burst loses that does not fit is what the counter says.
func TestWhatDoesNotFitTheBufferIsCounted(t *testing.T) {
	s := newReceiver(t, "  - { name: in, group: '239.1.1.1:5000', interface: iso0, topic: in }\n")
	p := s.startAll()
	k := s.Dev.Talker("eth0", dev4)
	// A bridge that stands still reads nothing, however fast the machine.
	sendSignal(t, p, syscall.SIGSTOP)
	const datagrams = 20_000
	for i := range datagrams {
		k.Say(group("239.1.1.1:5000"), netlab.Numbered("in", i))
	}
	sendSignal(t, p, syscall.SIGCONT)
	s.eventually("everything is accounted for", func() error {
		r := s.receiveRule("in")
		if lost := r.Drops["receive_buffer"]; lost == 0 || r.Published+lost != datagrams {
			return fmt.Errorf("%d published, drops %v, buffer %d", r.Published, r.Drops, r.Buffer)
		}
		return nil
	})
}

func sendSignal(t *testing.T, p *netlab.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatalf("%v: %v", s, err)
	}
}
