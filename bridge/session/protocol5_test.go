package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
	packets311 "github.com/eclipse/paho.mqtt.golang/packets"
)

func TestConnectOfMQTT5(t *testing.T) {
	o := Options{ClientID: "c", KeepAlive: 30 * time.Second}
	for name, c := range map[string]struct {
		edit func(*Options)
		will *Status
		want string
	}{
		"persistent": {func(o *Options) {}, nil,
			"\x10\x13\x00\x04MQTT\x05\x00\x00\x1e\x05\x11\xff\xff\xff\xff\x00\x01c"},
		"for an hour": {func(o *Options) { o.SessionExpiry = time.Hour }, nil,
			"\x10\x13\x00\x04MQTT\x05\x00\x00\x1e\x05\x11\x00\x00\x0e\x10\x00\x01c"},
		"clean": {func(o *Options) { o.Clean, o.SessionExpiry = true, time.Hour }, nil,
			"\x10\x0e\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x01c"},
		"login and will": {func(o *Options) { o.Clean, o.Username = true, "u" }, &Status{Topic: "s"},
			"\x10\x22\x00\x04MQTT\x05\xee\x00\x1e\x00\x00\x01c\x00\x00\x01s\x00\x07offline\x00\x01u\x00\x02pw"},
	} {
		t.Run(name, func(t *testing.T) {
			o, password := o, ""
			if c.edit(&o); o.Username != "" {
				password = "pw"
			}
			if got := string(codec5{}.connect(&o, c.will, password)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// A broker of MQTT 3.1.1 refuses a CONNECT of MQTT 5 in one way or another; then it is asked in
// 3.1.1 at once, and at the next connect without asking in 5 first, until an hour is over.
func TestABrokerOf311IsAskedIn311(t *testing.T) {
	for name, refuse := range map[string]func(*peer5){
		"unacceptable protocol version": func(p *peer5) { p.send(connack(false, 1)) },
		"accepts it as 3.1.1":           func(p *peer5) { p.send(connack(false, 0)) },
		"unsupported protocol version":  func(p *peer5) { p.send(connack5(false, 0x84)) },
		"closes":                        func(p *peer5) { _ = p.Close() },
		"breaks the protocol":           func(p *peer5) { p.send(suback(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, Protocol: ProtocolAuto, Subscriptions: []Subscription{{Filter: "a", QoS: 1}}}, b.use)
				for connect := range 3 {
					if connect != 1 {
						p := b.accept5()
						expect5[*packets.Connect](p)
						refuse(p)
					}
					began := time.Now()
					p := b.greet(false, 1)
					if d := time.Since(began); connect != 1 && d > 0 {
						t.Errorf("connect %d: 3.1.1 is tried after %v", connect, d)
					}
					synctest.Wait()
					if s := c.State(); !s.Connected || s.Protocol != "3.1.1" || s.Active != 1 || s.LastErr != "" {
						t.Errorf("connect %d: %+v", connect, s)
					}
					if connect < 2 {
						time.Sleep([]time.Duration{forgetProtocol - time.Minute, 2 * time.Minute}[connect])
						_ = p.Close()
					}
				}
				if n := strings.Count(c.log.String(), "does not speak MQTT 5"); n != 1 {
					t.Errorf("the log says %d times that it does not speak MQTT 5", n)
				}
			})
		})
	}
}

// What refuses more than the version is no reason to speak another one.
func TestOtherRefusalsAreNotAskedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Protocol: ProtocolAuto}, b.use)
		for range 3 {
			p := b.accept5()
			expect5[*packets.Connect](p)
			p.send(connack5(false, 0x86, text5(0x1f, "who are you?")...))
			p.ended()
		}
		synctest.Wait()
		const want = `bad user name or password; check username and password_file; it says "who are you?" (CONNACK reason 0x86)`
		if s := c.State(); !strings.Contains(s.LastErr, want) {
			t.Errorf("state %q, want %q", s.LastErr, want)
		}
	})
}

func TestProtocol5DoesNotFallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{})
		for range 2 {
			p := b.accept5()
			expect5[*packets.Connect](p)
			p.send(connack(false, 1))
			p.ended()
		}
		synctest.Wait()
		if s := c.State(); !strings.Contains(s.LastErr, "it does not speak MQTT 5; use a broker, or a listener of it, that does, or set broker.protocol: auto") {
			t.Errorf("state %q", s.LastErr)
		}
	})
}

// Messages both ways, of each quality of service, and the order of what answers them.
func TestMessagesOfMQTT5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Subscriptions: []Subscription{{Filter: "a/#", QoS: 2}}})
		p := b.greet5()
		if s := p.suback5(2); s.Subscriptions[0].Topic != "a/#" || s.Subscriptions[0].QoS != 2 {
			t.Errorf("subscribes %v", s)
		}
		many := slices.Concat([]byte{0x26, 0, 1, 'k', 0, 1, 'v'}, text5(0x03, "text/plain"), []byte{0x02, 0, 0, 0, 9}, []byte{0x26, 0, 1, 'k', 0, 0})
		p.send(publish5(qos0, "a/0", 0, nil, "zero"), publish5(qos1|retain, "a/1", 1, many, "one"), publish5(qos2, "a/2", 2, nil, ""))
		ms := c.messages(3)
		for i, want := range []summary{{"a/0", "zero", 0, false, false, 4, false}, {"a/1", "one", 1, true, false, 3, false}, {"a/2", "", 2, false, false, 0, false}} {
			if got := summaries(ms)[i]; got != want {
				t.Errorf("message %d: %+v, want %+v", i, got, want)
			}
		}
		expect5[*packets.Puback](p)
		expect5[*packets.Pubrec](p)
		p.send(ack5(0x62, 2, 0))
		expect5[*packets.Pubcomp](p)

		out := new(fate)
		c.PublishBatch([]Publication{{Topic: []byte("b"), Payload: []byte("x"), Origin: out}, {Topic: []byte("b"), Payload: []byte("y"), QoS: 1, Retain: true, Origin: out}, {Topic: []byte("b"), QoS: 2, Origin: out}})
		if m := expect5[*packets.Publish](p); m.QoS != 0 || string(m.Payload) != "x" || m.Topic != "b" {
			t.Errorf("%v", m)
		}
		m := expect5[*packets.Publish](p)
		if m.QoS != 1 || string(m.Payload) != "y" || !m.Retain {
			t.Errorf("%v", m)
		}
		p.send(ack5(0x40, m.PacketID, 0x10)) // no matching subscribers: it has it
		m = expect5[*packets.Publish](p)
		if m.QoS != 2 || len(m.Payload) > 0 {
			t.Errorf("%v", m)
		}
		p.send(ack5(0x50, m.PacketID, 0x10))
		expect5[*packets.Pubrel](p)
		p.send(frame(0x70, byte(m.PacketID>>8), byte(m.PacketID)))
		synctest.Wait()
		if s := c.State(); s.Published != 3 || s.Unmatched != 2 || s.Outstanding != 0 || s.Protocol != "5" {
			t.Errorf("%+v", s)
		}
	})
}

// What waits for the broker is written as the broker takes it: after a fallback to MQTT 3.1.1,
// and back.
func TestWhatWaitsIsWrittenInTheVersionOfTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Protocol: ProtocolAuto}, b.use)
		p := b.greet5()
		c.reached("connected", connected)
		out := new(fate)
		for i := range 3000 { // more than the ring takes before others wait for their turn
			c.PublishBatch([]Publication{{Topic: []byte("t"), Payload: fmt.Append(nil, i), QoS: 1, Retain: i == 1, Origin: out}, {Topic: []byte("u"), QoS: 2, Payload: fmt.Append(nil, i), Origin: out}})
		}
		first := expect5[*packets.Publish](p)
		_ = p.Close()

		old := b.accept5()
		expect5[*packets.Connect](old)
		old.send(connack(false, 1))
		q := b.greet(true, 0)
		seen := map[string][]string{}
		for len(seen["t"])+len(seen["u"]) < 3000 {
			var m *packets311.PublishPacket
			switch cp := q.next().(type) {
			case *packets311.PublishPacket:
				m = cp
			case *packets311.PubrelPacket:
				q.send(appendAck(nil, typePubcomp, cp.MessageID))
				continue
			default:
				continue
			}
			if again := m.MessageID == first.PacketID; again && !m.Dup || again != (m.TopicName == first.Topic && string(m.Payload) == string(first.Payload)) {
				t.Errorf("%v; identifier %d was %v", m, first.PacketID, first)
			}
			if m.Retain != (m.TopicName == "t" && string(m.Payload) == "1") {
				t.Errorf("retain of %v", m)
			}
			seen[m.TopicName] = append(seen[m.TopicName], string(m.Payload))
			q.send(appendAck(nil, typePuback+m.Qos-1, m.MessageID)) // or PUBREC
		}
		c.Session.oldMu.Lock()
		clear(c.Session.old) // as after forgetProtocol
		c.Session.oldMu.Unlock()
		_ = q.Close()
		p = b.accept5()
		expect5[*packets.Connect](p)
		p.send(connack5(true, 0))
		for synctest.Wait(); c.Outstanding() > 0; synctest.Wait() {
			switch cp := <-p.in5; m := cp.Content.(type) {
			case *packets.Publish:
				if next := fmt.Sprint(len(seen[m.Topic])); !m.Duplicate || string(m.Payload) == next {
					seen[m.Topic] = append(seen[m.Topic], string(m.Payload))
				}
				p.send(ack5(0x30+0x10*m.QoS, m.PacketID, 0))
			case *packets.Pubrel:
				p.send(ack5(0x70, m.PacketID, 0))
			}
		}
		synctest.Wait()
		if out.n != 6000 || c.Outstanding() != 0 {
			t.Errorf("told of %d, %d outstanding", out.n, c.Outstanding())
		}
		for topic, payloads := range seen {
			for i, payload := range payloads {
				if payload != fmt.Sprint(i) {
					t.Fatalf("%s: %s in place of %d", topic, payload, i)
				}
			}
		}
	})
}

// fate is an Origin that counts what became of its publications.
type fate struct {
	n, lost int
	err     error // of the last that was lost
}

func (f *fate) Published(n, _ int)       { f.n += n }
func (f *fate) Lost(n, _ int, err error) { f.lost, f.err = f.lost+n, err }

// What a publication bears is written with MQTT 5, whatever its length, and left out with 3.1.1.
func TestPropertiesOfAPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Protocol: ProtocolAuto}, b.use)
		p := b.greet5()
		c.reached("connected", connected)
		var batch []Publication
		for _, n := range []int{0, 1, 123, 124, 125, 20_000} {
			for qos := range byte(3) {
				batch = append(batch, Publication{Topic: []byte("t"), Payload: fmt.Append(nil, n), QoS: qos, Properties: ReplyProperties(make([]byte, n))})
			}
		}
		c.PublishBatch(batch)
		for range batch {
			m := expect5[*packets.Publish](p)
			if got := fmt.Sprint(len(m.Properties.CorrelationData)); got != string(m.Payload) {
				t.Errorf("correlation data of %s bytes, want %s", got, m.Payload)
			}
		}
		_ = p.Close()
		old := b.accept5()
		expect5[*packets.Connect](old)
		old.send(connack(false, 1))
		q := b.greet(true, 0)
		seen := 0
		for seen < 12 {
			switch m := q.next().(type) {
			case *packets311.PublishPacket:
				if len(m.Payload) > 5 {
					t.Errorf("payload %q", m.Payload)
				}
				seen++
				q.send(appendAck(nil, typePuback+m.Qos-1, m.MessageID))
			case *packets311.PubrelPacket:
				q.send(appendAck(nil, typePubcomp, m.MessageID))
			}
		}
	})
}

// Another client with our identifier is let have it: of two that both come back at once none
// would get anything done.
func TestAClientThatIsThrownOutYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{})
		var last time.Duration
		for i := range 6 {
			p := b.greet5()
			time.Sleep(time.Second)
			p.send(frame(0xe0, 0x8e))
			p.ended()
			synctest.Wait()
			if s := c.State(); s.Connected || !strings.Contains(s.LastErr, "session taken over (0x8E): another client uses this client_id; give each its own; it is let have it until") {
				t.Errorf("%+v", s)
			}
			began := time.Now()
			for len(b.conns) == 0 && time.Since(began) < time.Hour {
				time.Sleep(time.Second)
			}
			pause := time.Since(began)
			if pause < firstYield || pause > maxYield+maxYield/4+time.Second || pause <= last && last < maxYield {
				t.Errorf("pause %d is %v, after one of %v", i, pause, last)
			}
			last = pause
		}
	})
}

// What a broker says about itself is not laid to what it was asked.
func TestAnEndOfTheBrokersOwnIsNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Subscriptions: []Subscription{{Filter: "a", QoS: 1}, {Filter: "b", QoS: 1}}})
		for range 12 {
			p := b.greet5()
			s := expect5[*packets.Subscribe](p)
			if len(s.Subscriptions) != 2 {
				t.Fatalf("%d filters are asked for, want both", len(s.Subscriptions))
			}
			p.send(frame(0xe0, append([]byte{0x8b}, withLength(slices.Concat(text5(0x1f, "back at noon"), text5(0x1c, "mqtt://other?token=geheim")))...)...))
			p.ended()
		}
		synctest.Wait()
		if s := c.State(); !strings.Contains(s.LastErr, `server shutting down (0x8B): "back at noon"; it refers to "mqtt://other?token=…": set broker.url to that`) || strings.Contains(s.LastErr, "geheim") {
			t.Errorf("%+v", s)
		}
	})
}
