package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

// A device answers a search to the port that it came from, and another one does too.
func TestTheSearchExamplePublishesWhatDevicesAnswer(t *testing.T) {
	const search = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n"
	s := example(t, "ssdp.yaml")
	s.Dev.Addr("eth0", "172.17.0.51/16")
	devices := []*netlab.Talker{s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")), s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.51"))}
	answer := func(uuid int) []byte {
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nUSN: uuid:%d\r\n\r\n", uuid)
	}
	s.Dev.Listener("eth0", func(r netlab.Received) {
		if string(r.Payload) == search {
			for i, d := range devices {
				d.Say(r.Source, answer(i))
			}
		}
	}, group("239.255.255.250:1900"))
	s.startAll()
	w := s.subscriber("ssdp/#")
	s.publish(s.client("console"), "search/ssdp", []byte(search))
	s.settled(w, 2)
	got := w.lines()
	slices.Sort(got)
	want := []string{"ssdp/172.17.0.50/answer " + string(answer(0)), "ssdp/172.17.0.51/answer " + string(answer(1))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

// What the examples ask a group is answered by unicast, from another port than the group's.
func TestTheExamplesPublishWhatAGroupAnswers(t *testing.T) {
	for _, c := range []struct {
		file, group, topic  string
		message, want       string // what is published, and what is asked
		answer, answerTopic string
		to                  string // where the request says that its answer is to go, "" for where it is from
	}{
		{
			file: "ws-discovery.yaml", group: "239.255.255.250:3702", topic: "search/wsd",
			message: "<Envelope><Probe/></Envelope>", want: "<Envelope><Probe/></Envelope>",
			answer: "<Envelope><ProbeMatches/></Envelope>", answerTopic: "wsd/172.17.0.50/answer",
		},
		{
			file: "mdns.yaml", group: "224.0.0.251:5353", topic: "search/mdns",
			message: "12340000 0001 0000 0000 0000\n057368656C66 056C6F63616C 00 0001 8001",
			want:    "\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05shelf\x05local\x00\x00\x01\x80\x01",
			answer:  "\x12\x34\x84\x00\x00\x01\x00\x00", answerTopic: "mdns/172.17.0.50",
		},
		{
			file: "knx-ip.yaml", group: "224.0.23.12:3671", topic: "knx/search",
			message: "06100201000E0801AC110001C350", want: "\x06\x10\x02\x01\x00\x0e\x08\x01\xac\x11\x00\x01\xc3\x50", to: "172.17.0.1:50000",
			answer: "\x06\x10\x02\x02\x00\x0e", answerTopic: "knx/found/172.17.0.50",
		},
	} {
		t.Run(c.file, func(t *testing.T) {
			s := example(t, c.file, "192.0.2.10", "172.17.0.1")
			device := s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
			s.Dev.Listener("eth0", func(r netlab.Received) {
				to := r.Source
				if c.to != "" {
					to = netip.MustParseAddrPort(c.to)
				}
				if string(r.Payload) == c.want {
					device.Say(to, []byte(c.answer))
				} else {
					t.Errorf("asked %q, want %q", r.Payload, c.want)
				}
			}, group(c.group))
			s.startAll()
			w := s.subscriber("wsd/#", "mdns/#", "knx/found/#")
			s.publish(s.client("console"), c.topic, []byte(c.message))
			s.settled(w, 1)
			if diff := cmp.Diff([]string{c.answerTopic + " " + c.answer}, w.lines()); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
		})
	}
}

// A host answers one question, and not another one: that is told.
func TestTheCoAPExamplePublishesTheAnswerOrThatThereIsNone(t *testing.T) {
	s := example(t, "coap.yaml", "192.0.2.", "172.17.0.", "within: 2s", "within: 200ms")
	const request, content = "\x50\x01\x00\x01\xbbtemperature", "\x50\x45\x12\x34\xff21.5"
	var device *netlab.Device
	asked := 0 // of the listener's goroutine
	listening := make(chan struct{})
	device = s.Dev.Listener("eth0", func(r netlab.Received) {
		<-listening
		if asked++; string(r.Payload) != request || asked == 1 {
			return // the first one is lost
		}
		if err := device.Reply(5683, r.Source, []byte(content)); err != nil {
			t.Error(err)
		}
	}, netip.MustParseAddrPort("224.0.1.187:5683"))
	close(listening)
	s.startAll()
	w := s.subscriber("coap/+/answer", "coap/+/none")
	c := s.client("console")
	s.publish(c, "coap/50/get", []byte("50010001BB74656D7065726174757265"))
	s.publish(c, "coap/99/get", []byte("50010002BB74656D7065726174757265"))
	s.settled(w, 2)
	got := map[string]string{}
	for _, m := range w.messages() {
		got[m.Topic()] = string(m.Payload())
	}
	if got["coap/50/answer"] != content {
		t.Errorf("published: %q", got)
	}
	if none, ok := got["coap/99/none"]; !ok || !strings.Contains(none, "172.17.0.99:5683") {
		t.Errorf("of the host that is not there: %q", got)
	}
}

// A thousand requests to fifty hosts, of which a tenth is lost on the way and of the answers
// another tenth: each is answered by its own host and with its own answer, or told to have none.
func TestEachOfAThousandRequestsIsAnsweredOrToldOf(t *testing.T) {
	const devices, each = 50, 20
	s := newSystem(t, `
  - { name: ask, filter: "ask/{id}/{n}", host: "172.17.1.{id}:7", interface: iso0,
      answer: { topic: "answers/{id}/{n}/{source}", none: "none/{id}/{n}", within: 60ms, tries: 2 } }`)
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // the sockets are closed before
	for id := 1; id <= devices; id++ {
		s.Dev.Addr("eth0", fmt.Sprintf("172.17.1.%d/16", id))
		running.Go(echo(t, s.Dev, fmt.Sprintf("172.17.1.%d:7", id), id))
	}
	s.startBroker("max_inflight_messages 1000") // so that a host that has to wait holds up no other
	s.startBridge()
	s.ready()
	w := s.subscriber("answers/#", "none/#")
	c := s.client("console")
	for n := range each {
		for id := 1; id <= devices; id++ {
			c.Publish(fmt.Sprintf("ask/%d/%d", id, n), 1, false, fmt.Sprintf("%d/%d", id, n))
		}
	}
	s.eventually("a verdict for each request", func() error {
		if n := len(w.messages()); n != devices*each {
			return fmt.Errorf("%d messages", n)
		}
		return nil
	})
	told := make(map[string]bool)
	none := 0
	for _, m := range w.messages() {
		levels := strings.Split(m.Topic(), "/")
		request := levels[1] + "/" + levels[2]
		switch {
		case told[request]:
			t.Errorf("%s is told of twice", request)
		case levels[0] == "none":
			none++
		case string(m.Payload()) != request || levels[3] != "172.17.1."+levels[1]:
			t.Errorf("%s has the answer %q of %s", request, m.Payload(), levels[3])
		}
		told[request] = true
	}
	if none == devices*each {
		t.Error("no request has an answer")
	}
	t.Logf("%d answered, %d told to have none", devices*each-none, none)
}

// echo answers at an address of a host what it is asked, and loses a tenth on either way.
func echo(t *testing.T, h *netlab.Host, at string, seed int) func() {
	t.Helper()
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	lost := rand.New(rand.NewPCG(1, uint64(seed)))
	return func() {
		buf := make([]byte, 100)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if lost.IntN(100) < 19 { // a tenth each way
				continue
			}
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}
}
